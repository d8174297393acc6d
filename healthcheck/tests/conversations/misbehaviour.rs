//! What any server may do wrong, to every check that talks over TCP.

use std::time::Instant;

use healthcheck::spec::{Ftp, Mail, Redis, Security, Sip, Tls};
use healthcheck::{Check, Failure};
use tokio::io::AsyncReadExt;

use crate::{IMPATIENCE, PATIENCE, fails, fake, run, run_within};

/// All of them, and whether the server speaks first.
fn checks() -> Vec<(Check, bool)> {
    vec![
        (Check::Smtp(Mail::default()), true),
        (Check::Pop(Mail::default()), true),
        (Check::Imap(Mail::default()), true),
        (Check::Nntp, true),
        (Check::Ftp(Ftp::default()), true),
        (Check::Redis(Redis::default()), false),
        (Check::Sip(Sip { user: "ping".into(), tcp: true }), false),
    ]
}

#[tokio::test]
async fn nobody_listens() {
    let real = fake::nobody().await;
    for (check, _) in checks() {
        fails(run(check, real).await, &Failure::Refused);
    }
}

#[tokio::test]
async fn it_says_nothing() {
    let real = fake::says(b"").await;
    for (check, speaks_first) in checks() {
        let awaiting = if speaks_first { "greeting" } else { "answer" };
        let began = Instant::now();
        let late = Failure::Timeout { awaiting, after: IMPATIENCE };
        fails(run_within(check, real, IMPATIENCE).await, &late);
        assert!(began.elapsed() < 5 * IMPATIENCE);
    }
}

#[tokio::test]
async fn a_check_that_is_given_up_leaves_nothing_open() {
    let (listener, real) = fake::listen().await;
    for (check, _) in checks() {
        let given_up = run_within(check.clone(), real, IMPATIENCE);
        let (mut stream, outcome) = tokio::join!(async { listener.accept().await.unwrap().0 }, given_up);
        assert!(outcome.result.is_err());
        let mut said = Vec::new();
        let all = stream.read_to_end(&mut said);
        // With a RST or without: it ends.
        let _ = tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{check:?} is open"));
    }
}

#[tokio::test]
async fn it_says_half_a_word_and_no_more() {
    let real = fake::says(b"2").await;
    for (check, _) in checks() {
        let outcome = run_within(check, real, IMPATIENCE).await;
        assert_eq!(outcome.result.unwrap_err().kind(), "timeout");
    }
}

#[tokio::test]
async fn it_hangs_up() {
    for text in [&b""[..], b"2", b"220-a\r\n220-b\r\n"] {
        for (check, speaks_first) in checks() {
            let real = fake::hangs_up_after(!speaks_first, text).await;
            let result = run(check.clone(), real).await.result;
            // A whole line that begins with a code is no answer to the others.
            let is_code = matches!(check, Check::Smtp(_) | Check::Nntp | Check::Ftp(_));
            let expected = if is_code || text.len() < 2 { "closed" } else { "protocol" };
            assert_eq!(result.unwrap_err().kind(), expected, "{check:?} {text:?}");
        }
    }
}

#[tokio::test]
async fn it_is_another_kind_of_server() {
    for text in [
        &b"SSH-2.0-OpenSSH_9.2p1\r\n"[..],
        b"\x16\x03\x01\x00\n",
        b"\xff\xfe\x00\n",
        b"\r\nHTTP/1.1 400 \r\n\r\n",
    ] {
        let real = fake::says(text).await;
        for (check, _) in checks() {
            let result = run(check.clone(), real).await.result;
            assert_eq!(result.unwrap_err().kind(), "protocol", "{check:?} {text:?}");
        }
    }
}

#[tokio::test]
async fn it_never_ends() {
    for text in [&[b'2'; 4096][..], &[0; 4096]] {
        let real = fake::repeats(text).await;
        for (check, _) in checks() {
            fails(run(check, real).await, &Failure::TooLong);
        }
    }
}

#[tokio::test]
async fn its_lines_never_end() {
    for (text, check) in [
        (&b"220-more\r\n"[..], Check::Smtp(Mail::default())),
        (b"200-more\r\n", Check::Nntp),
        (b"*1\r\n", Check::Redis(Redis::default())),
        (b"SIP/2.0 100 Trying\r\n", Check::Sip(Sip { user: "ping".into(), tcp: true })),
        (b"SIP/2.0 100 Trying\r\n\r\n", Check::Sip(Sip { user: "ping".into(), tcp: true })),
    ] {
        let real = fake::repeats(text).await;
        fails(run(check, real).await, &Failure::TooLong);
    }
}

#[tokio::test]
async fn it_has_no_tls() {
    let secure = Mail { security: Security::Tls(Tls::default()), ..Mail::default() };
    let real = fake::says(b"220 no TLS here\r\n").await;
    for check in [
        Check::Smtp(secure.clone()),
        Check::Pop(secure.clone()),
        Check::Imap(secure.clone()),
        Check::Redis(Redis { tls: Some(Tls::default()), ..Redis::default() }),
    ] {
        let result = run(check.clone(), real).await.result;
        assert_eq!(result.unwrap_err().kind(), "tls", "{check:?}");
    }
}
