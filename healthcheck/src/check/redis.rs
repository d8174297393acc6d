//! A Redis command (Redis serialization protocol, RESP2).
//!
//! Read here and not by the crate `redis`: an answer is five kinds of lines, and that crate reads as much as the server sends.

use crate::attempt::{self, Attempt, MOST};
use crate::check::lines::{Lines, in_login, no_answer, shown, shown_without};
use crate::outcome::{Failure, Success};
use crate::spec::Redis;

/// An answer that is an error: what it says.
type Refusal = String;

/// AUTH where there is a login, then the command.
pub async fn probe(redis: &Redis, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut lines = Lines::new(attempt.stream(redis.tls.as_ref(), &[]).await?);
    if let Some(login) = &redis.login {
        attempt.awaits("answer to the login");
        let password = login.password.reveal();
        // Servers before Redis 6 know AUTH with one argument only.
        let command = match login.user.as_str() {
            "" => vec!["AUTH", password],
            user => vec!["AUTH", user, password],
        };
        lines.send_bytes(&encoded(&command)).await?;
        let answer = answer(&mut lines).await.map_err(in_login)?;
        answer.map_err(|why| Failure::Login(shown_without(&why, &login.password)))?;
        attempt.step("logged in");
    }
    let command: Vec<&str> = match redis.command.as_slice() {
        [] => vec!["PING"],
        command => command.iter().map(String::as_str).collect(),
    };
    attempt.awaits("answer");
    lines.send_bytes(&encoded(&command)).await?;
    let refused = |why: Refusal| Failure::Protocol(format!("refused: {}", shown(&why)));
    let answer = answer(&mut lines).await?.map_err(refused)?;
    attempt.step(format!("answer of {} bytes", answer.len()));
    if redis.command.is_empty() && redis.receive.is_none() && answer != b"PONG" {
        return Err(no_answer(&String::from_utf8_lossy(&answer)));
    }
    attempt::expect("answer", redis.receive.as_ref(), &answer)?;
    Ok(Success::default())
}

/// A command on the wire: an array of byte strings, so that nothing in it can end it.
fn encoded(command: &[&str]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", command.len());
    for word in command {
        wire.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    wire.into_bytes()
}

/// One answer as text; the elements of arrays are lines, nothing (nil) is empty.
async fn answer(lines: &mut Lines) -> Result<Result<Vec<u8>, Refusal>, Failure> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    // Arrays in arrays are counted, not descended into: their depth is the server's choice.
    let mut missing: usize = 1;
    while missing > 0 {
        missing -= 1;
        let line = lines.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| no_answer(&line))?;
        match kind {
            "+" | ":" => parts.push(rest.as_bytes().to_vec()),
            "-" => return Ok(Err(rest.to_owned())),
            "$" => parts.push(match length(rest).ok_or_else(|| no_answer(&line))? {
                Some(length) => string(lines, length).await?,
                None => Vec::new(),
            }),
            "*" => match length(rest).ok_or_else(|| no_answer(&line))? {
                Some(more) if more > MOST => return Err(Failure::TooLong),
                Some(more) => missing += more,
                None => parts.push(Vec::new()),
            },
            _ => return Err(no_answer(&line)),
        }
    }
    Ok(Ok(parts.join(&b'\n')))
}

async fn string(lines: &mut Lines, length: usize) -> Result<Vec<u8>, Failure> {
    let bytes = lines.bytes(length).await?;
    if lines.bytes(2).await? != b"\r\n" {
        return Err(Failure::Protocol("a string in the answer is longer than announced".into()));
    }
    Ok(bytes)
}

/// A length; within: none for nothing (-1).
fn length(text: &str) -> Option<Option<usize>> {
    if text == "-1" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(wire: &[u8]) -> Result<Result<Vec<u8>, Refusal>, Failure> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(wire).await.unwrap();
        drop(theirs);
        answer(&mut Lines::new(Box::new(ours))).await
    }

    #[tokio::test]
    async fn every_kind_of_answer_is_text() {
        for (wire, text) in [
            ("+PONG\r\n", "PONG"),
            (":-3\r\n", "-3"),
            ("$5\r\na\r\nbc\r\n", "a\r\nbc"),
            ("$0\r\n\r\n", ""),
            ("$-1\r\n", ""),
            ("*-1\r\n", ""),
            ("*0\r\n", ""),
            ("*3\r\n+a\r\n*2\r\n:1\r\n$-1\r\n$1\r\nb\r\n", "a\n1\n\nb"),
        ] {
            assert_eq!(read(wire.as_bytes()).await, Ok(Ok(text.as_bytes().to_vec())), "{wire:?}");
        }
        assert_eq!(read(b"-ERR no\r\n").await, Ok(Err("ERR no".into())));
        assert_eq!(read(b"*2\r\n+a\r\n-ERR no\r\n").await, Ok(Err("ERR no".into())));
    }

    #[tokio::test]
    async fn what_is_no_answer_fails() {
        for wire in ["\r\n", "HTTP/1.1 400\r\n", "$x\r\n", "$-2\r\n", "*\r\n", "é\r\n"] {
            assert!(matches!(read(wire.as_bytes()).await, Err(Failure::Protocol(_))), "{wire:?}");
        }
        for wire in ["", "+PONG", "$5\r\nabc", "*2\r\n+a\r\n"] {
            assert_eq!(read(wire.as_bytes()).await, Err(Failure::Closed), "{wire:?}");
        }
        assert!(matches!(read(b"$1\r\nabcd\r\n").await, Err(Failure::Protocol(_))));
    }

    #[tokio::test]
    async fn announced_lengths_are_not_believed() {
        for wire in ["$1048577\r\n", "*1048577\r\n", "$18446744073709551615\r\n"] {
            assert_eq!(read(wire.as_bytes()).await, Err(Failure::TooLong), "{wire:?}");
        }
        // Depth costs nothing.
        let deep = "*1\r\n".repeat(10_000) + "+a\r\n";
        assert_eq!(read(deep.as_bytes()).await, Ok(Ok(b"a".to_vec())));
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(encoded(&["GET", "a\r\nb"]), b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }
}
