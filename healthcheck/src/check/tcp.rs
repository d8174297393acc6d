//! A TCP connection, and what is said over it (ldirectord's `connect` and `simpletcp`).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attempt::{Attempt, MOST, Stream};
use crate::outcome::{Failure, Success};
use crate::spec::Tcp;
use crate::text::Pattern;

/// Connects; with `send`, sends it; with `receive`, waits for a line of the answer that matches, without its line ending.
///
/// After `send` the writing side is closed, so that a server which waits for the end of the question answers. Not so over TLS:
/// many servers take a `close_notify` for the end of everything.
///
/// # Errors
/// Those of the connection and of TLS. The answer ends and no line matched, or it goes on for too long.
pub async fn probe(tcp: &Tcp, attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut stream = attempt.stream(tcp.tls.as_ref(), &[]).await?;
    if !tcp.send.is_empty() {
        stream.write_all(&tcp.send).await?;
        stream.flush().await?;
        attempt.step("request sent");
    }
    let Some(pattern) = &tcp.receive else {
        return Ok(Success::default());
    };
    if !tcp.send.is_empty() && tcp.tls.is_none() {
        stream.shutdown().await?;
    }
    find_line(&mut *stream, pattern).await?;
    attempt.step("answer matched");
    Ok(Success::default())
}

/// Reads until a line matches.
async fn find_line(stream: &mut dyn Stream, pattern: &Pattern) -> Result<(), Failure> {
    let mut rest = Vec::new();
    let mut total = 0;
    while total < MOST {
        let mut chunk = [0; 4096];
        let count = match stream.read(&mut chunk).await {
            Ok(count) => count,
            // Without a `close_notify`: an end like any other here, for nothing depends on where the answer ends.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            return last_line(&rest, total, pattern);
        }
        total += count;
        for part in chunk[..count].split_inclusive(|&byte| byte == b'\n') {
            rest.extend_from_slice(part);
            if let Some(line) = rest.strip_suffix(b"\n") {
                if pattern.matches(line.strip_suffix(b"\r").unwrap_or(line)) {
                    return Ok(());
                }
                rest.clear();
            }
        }
    }
    Err(Failure::TooLong)
}

/// At the end: a last line need not be ended.
fn last_line(line: &[u8], total: usize, pattern: &Pattern) -> Result<(), Failure> {
    if total == 0 {
        return Err(Failure::Closed);
    }
    if !line.is_empty() && pattern.matches(line) {
        return Ok(());
    }
    Err(Failure::Mismatch { what: "answer", pattern: pattern.to_string() })
}
