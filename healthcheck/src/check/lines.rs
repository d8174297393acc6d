//! A conversation in lines, as mail, news and file servers lead it, and replies that begin with a code.
//!
//! Ours, not a library's. What a probe needs of these protocols is a handful of fixed commands and their replies. The libraries
//! (lettre, async-imap, suppaftp, redis) are whole clients: dozens of crates to build, connections that they open themselves
//! without our socket mark, and lines and answers that they read without a limit. Here every byte is counted.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use std::time::Duration;

use crate::attempt::{Attempt, MOST, Stream};
use crate::outcome::Failure;
use crate::spec::{Security, Tls};
use crate::text::Secret;

/// The longest line. The longest that a standard asks for is 8000 bytes (RFC 7162, 4).
const LONGEST: usize = 8192;
/// How much of a server's words is shown, in characters.
const SHOWN: usize = 200;
/// How long an answer to a goodbye is waited for, at most.
const PARTING: Duration = Duration::from_secs(1);

/// A conversation over one connection. It ends with an error when the server says more than [`MOST`] bytes in all.
pub(crate) struct Lines {
    stream: Box<dyn Stream>,
    /// Received, and not yet taken.
    ahead: Vec<u8>,
    /// Bytes received in all.
    total: usize,
}

/// A reply that begins with a code of three digits (RFC 959, 4.2; RFC 5321, 4.2; RFC 3977, 3.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The code.
    pub(crate) code: u16,
    /// Its lines, without the code.
    pub(crate) lines: Vec<String>,
}

impl Lines {
    /// Over this stream.
    pub(crate) fn new(stream: Box<dyn Stream>) -> Lines {
        Lines { stream, ahead: Vec::new(), total: 0 }
    }

    /// Over a fresh connection, with TLS where it is there from the first byte.
    ///
    /// # Errors
    /// Those of TLS.
    pub(crate) async fn begin(
        connection: TcpStream,
        security: &Security,
        attempt: &mut Attempt,
    ) -> Result<Lines, Failure> {
        Ok(Lines::new(match security {
            Security::Tls(tls) => Box::new(attempt.secure(tls, &[], connection).await?),
            Security::Plain | Security::Upgraded(_) => Box::new(connection),
        }))
    }

    /// Goes on with TLS.
    ///
    /// # Errors
    /// Those of TLS; and [`Failure::Protocol`] where bytes came ahead of it: whoever sits in between could have put them there, to
    /// be taken for the server's (CVE-2011-0411).
    pub(crate) async fn upgrade(self, tls: &Tls, attempt: &mut Attempt) -> Result<Lines, Failure> {
        if !self.ahead.is_empty() {
            return Err(Failure::Protocol("says more before TLS begins".into()));
        }
        Ok(Lines::new(Box::new(attempt.secure(tls, &[], self.stream).await?)))
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The connection ended; [`Failure::Local`]: there is a line's end within, so that it would be two commands.
    pub(crate) async fn send(&mut self, line: &str) -> Result<(), Failure> {
        if line.contains(['\r', '\n', '\0']) {
            return Err(Failure::Local("what is to be sent has a line break in it".into()));
        }
        self.send_bytes(format!("{line}\r\n").as_bytes()).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await?;
        // TLS keeps back what is not flushed.
        Ok(self.stream.flush().await?)
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// The connection ended, or the line does not.
    pub(crate) async fn line(&mut self) -> Result<String, Failure> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.ahead[seen..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=seen + at).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            seen = self.ahead.len();
            if seen > LONGEST {
                return Err(Failure::TooLong);
            }
            self.receive().await?;
        }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// The connection ended, or they are too many.
    pub(crate) async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        if count > MOST {
            return Err(Failure::TooLong);
        }
        while self.ahead.len() < count {
            self.receive().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// The next reply with a code, with all of its lines.
    ///
    /// # Errors
    /// The connection ended, or that is no reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Failure> {
        let first = self.line().await?;
        let (code, mut more, text) = coded(&first).ok_or_else(|| no_answer(&first))?;
        let mut lines = vec![text.to_owned()];
        while more {
            let line = self.line().await?;
            // In FTP, lines in between may be anything. Mail servers always repeat the code: then this is the same.
            match coded(&line) {
                Some((again, goes_on, text)) if again == code => {
                    more = goes_on;
                    lines.push(text.to_owned());
                }
                _ => lines.push(line),
            }
        }
        Ok(Reply { code, lines })
    }

    /// Sends a line, and reads the reply with a code.
    ///
    /// # Errors
    /// Those of [`Lines::send`] and [`Lines::reply`].
    pub(crate) async fn ask(&mut self, line: &str) -> Result<Reply, Failure> {
        self.send(line).await?;
        self.reply().await
    }

    /// Says goodbye and lets the server close, so that it logs no lost connection. The real server has passed by now: whatever
    /// it says to this, or that it says nothing, changes nothing.
    pub(crate) async fn part(mut self, line: &str, attempt: &Attempt) {
        let parting = async {
            self.send(line).await?;
            while self.receive().await.is_ok() {
                self.ahead.clear();
            }
            self.stream.shutdown().await?;
            Ok::<(), Failure>(())
        };
        let _ = tokio::time::timeout((attempt.left() / 2).min(PARTING), parting).await;
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        if self.total > MOST {
            return Err(Failure::TooLong);
        }
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(Failure::Closed);
        }
        self.total += count;
        self.ahead.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

impl Reply {
    /// Fails unless it has one of these codes.
    ///
    /// # Errors
    /// [`Failure::Status`]: the code that it has.
    pub(crate) fn must_be(&self, codes: &[u16]) -> Result<(), Failure> {
        if codes.contains(&self.code) { Ok(()) } else { Err(Failure::Status(self.code)) }
    }

    /// What it says.
    pub(crate) fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// A line's code, whether more lines follow, and the text behind it.
fn coded(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) || !(b'1'..=b'5').contains(&code.as_bytes()[0]) {
        return None;
    }
    let code = code.parse().ok()?;
    match rest.as_bytes().first() {
        None => Some((code, false, "")),
        Some(b' ') => Some((code, false, &rest[1..])),
        Some(b'-') => Some((code, true, &rest[1..])),
        Some(_) => None,
    }
}

/// The failure where a server says something that is no answer in its protocol.
pub(crate) fn no_answer(line: &str) -> Failure {
    Failure::Protocol(format!("unexpected answer: {}", shown(line)))
}

/// A server's words as they can be shown: some of them, on one line.
pub(crate) fn shown(text: &str) -> String {
    text.trim()
        .chars()
        .take(SHOWN)
        .map(|character| if character.is_control() { '?' } else { character })
        .collect()
}

/// [`shown`], for answers to a login: there are servers that repeat what they did not understand.
pub(crate) fn shown_without(text: &str, secret: &Secret) -> String {
    if !secret.reveal().is_empty() && text.contains(secret.reveal()) {
        return "the answer has the password in it".into();
    }
    shown(text)
}

/// A failure during a login, without what the server said: where it does not keep to the protocol, it may have been an echo.
pub(crate) fn in_login(failure: Failure) -> Failure {
    match failure {
        Failure::Protocol(_) => Failure::Protocol("unexpected answer to the login".into()),
        other => other,
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
