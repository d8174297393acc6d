use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A conversation with one who says this and hangs up.
async fn said(text: &[u8]) -> Lines {
    let (ours, mut theirs) = tokio::io::duplex(1 << 22);
    theirs.write_all(text).await.unwrap();
    Lines::new(Box::new(ours))
}

#[tokio::test]
async fn lines_end_with_or_without_a_return() {
    let mut lines = said(b"one\r\ntwo\n\r\nthr\xffee\r\nrest").await;
    assert_eq!(lines.line().await.unwrap(), "one");
    assert_eq!(lines.line().await.unwrap(), "two");
    assert_eq!(lines.line().await.unwrap(), "");
    assert_eq!(lines.line().await.unwrap(), "thr\u{fffd}ee");
    assert_eq!(lines.line().await, Err(Failure::Closed));
}

#[tokio::test]
async fn bytes_and_lines_take_turns() {
    let mut lines = said(b"head\r\na\r\nbc\r\ntail\r\n").await;
    assert_eq!(lines.line().await.unwrap(), "head");
    assert_eq!(lines.bytes(5).await.unwrap(), b"a\r\nbc");
    assert_eq!(lines.line().await.unwrap(), "");
    assert_eq!(lines.bytes(0).await.unwrap(), b"");
    assert_eq!(lines.line().await.unwrap(), "tail");
    assert_eq!(lines.bytes(1).await, Err(Failure::Closed));
}

#[tokio::test]
async fn a_line_without_end_and_a_server_without_end_are_given_up() {
    assert_eq!(said(&[b'a'; 3 * LONGEST]).await.line().await, Err(Failure::TooLong));
    let mut endless = said("250-a\r\n".repeat(MOST / 7 + 2000).as_bytes()).await;
    assert_eq!(endless.reply().await, Err(Failure::TooLong));
    assert_eq!(said(b"").await.bytes(MOST + 1).await, Err(Failure::TooLong));
}

#[tokio::test]
async fn replies_have_one_line_or_many() {
    let reply =
        |code, lines: &[&str]| Reply { code, lines: lines.iter().map(|&line| line.to_owned()).collect() };
    let mut lines = said(
        b"220 mx ready\r\n250\r\n250-mx\r\n250-SIZE\r\n250 HELP\r\n230-Hello\r\n 230 is a number\r\n226 too\r\n230-\r\n230 in\r\n",
    )
    .await;
    assert_eq!(lines.reply().await.unwrap(), reply(220, &["mx ready"]));
    assert_eq!(lines.reply().await.unwrap(), reply(250, &[""]));
    assert_eq!(lines.reply().await.unwrap(), reply(250, &["mx", "SIZE", "HELP"]));
    let free = reply(230, &["Hello", " 230 is a number", "226 too", "", "in"]);
    assert_eq!(lines.reply().await.unwrap(), free);
    assert_eq!(said(b"250-mx\r\n").await.reply().await, Err(Failure::Closed));
}

#[tokio::test]
async fn what_has_no_code_is_no_reply() {
    for text in
        ["", "22", "2200 x", "22o x", "+OK", "SSH-2.0-x", "999 x", "099 x", "220\u{e9}", "\u{20ac}\u{20ac}"]
    {
        let failure = said(format!("{text}\r\n").as_bytes()).await.reply().await.unwrap_err();
        assert_eq!(failure, no_answer(text));
    }
}

#[test]
fn a_code_is_one_of_those_or_the_failure() {
    let reply = Reply { code: 250, lines: vec![] };
    assert_eq!(reply.must_be(&[220, 250]), Ok(()));
    assert_eq!(reply.must_be(&[220]), Err(Failure::Status(250)));
}

#[tokio::test]
async fn a_line_break_sends_nothing() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let mut lines = Lines::new(Box::new(ours));
    for text in ["USER a\r\nDELE 1", "a\nb", "a\rb", "a\0b"] {
        assert!(matches!(lines.send(text).await, Err(Failure::Local(_))), "{text:?}");
    }
    lines.send("QUIT").await.unwrap();
    drop(lines);
    let mut sent = String::new();
    theirs.read_to_string(&mut sent).await.unwrap();
    assert_eq!(sent, "QUIT\r\n");
}

#[test]
fn servers_cannot_write_on_our_terminal_nor_fill_it() {
    assert_eq!(shown(" a\x1b[31m\tb\r "), "a?[31m?b");
    assert_eq!(shown(&"ä".repeat(1000)).chars().count(), SHOWN);
}

#[test]
fn an_echo_of_the_password_is_not_shown() {
    let secret = Secret::new("hunter2");
    assert!(!shown_without("unknown command PASS hunter2", &secret).contains("hunter2"));
    // Not even in part, where only some of it would be shown.
    assert!(!shown_without(&format!("{}hunter2", "a".repeat(SHOWN - 3)), &secret).contains("hun"));
    assert_eq!(shown_without("no such user", &secret), "no such user");
    assert_eq!(shown_without("no such user", &Secret::new("")), "no such user");
}
