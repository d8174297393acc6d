//! Runs an operator's command: with a time limit, and never more than the last of its output kept.
//!
//! A command has a process group of its own. What is left of that is killed when time is up, when the command fails, and when the
//! run is given up. The command's own end is then waited for, so that two never run at once; only a process that the kernel does not
//! let go, as on a file server that is away, holds this up. What a command that succeeds has left running stays: that may be what it was run for. For as long as the
//! director runs, somebody reads what that writes; as with any daemon, it should not count on its standard output for longer.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use healthcheck::process::Running;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

/// So many of the last bytes that a command writes are kept.
pub const KEPT_OUTPUT: usize = 2 * 1024;
/// At most so much is read after a command's end: what a pipe holds (pipe(7)).
const PIPE: usize = 64 * 1024;

/// A command, and how it is to be run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The program and its first arguments.
    pub command: &'a [String],
    /// Its last arguments.
    pub arguments: &'a [String],
    /// What is in its environment beside the director's own.
    pub environment: &'a [(&'static str, String)],
    /// How long it may take.
    pub timeout: Duration,
}

/// Runs a command to its end, which is status 0. It has no input; both its outputs are taken together. Its last output goes to the
/// log.
///
/// # Errors
/// Says in words why it failed, with its last output: it cannot be started, its exit status is another one, a signal ended it, it
/// took too long.
pub async fn run(run: &Run<'_>) -> Result<(), String> {
    let program = run.command.first().ok_or("there is no command")?;
    let (mut running, reader) =
        start(program, run).map_err(|error| format!("cannot run {program}: {error}"))?;
    let mut output = Output { reader, open: true, tail: Tail::default() };
    let ended = tokio::time::timeout(run.timeout, async {
        tokio::select! {
            ended = running.ended() => ended,
            never = output.read_on() => match never {},
        }
    });
    let failure = match ended.await {
        Ok(Ok(_)) => match running.finish_sparing().await {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        },
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(match running.kill().await {
            Ok(_) => format!("it took longer than {:?} and was killed", run.timeout),
            Err(error) => format!("it took longer than {:?}, and cannot be killed: {error}", run.timeout),
        }),
    };
    let said = output.finish();
    match failure {
        None => {
            tracing::debug!(command = program, output = said, "run");
            Ok(())
        }
        Some(why) if said.is_empty() => Err(format!("{program}: {why}")),
        Some(why) => Err(format!("{program}: {why}; it said: {said}")),
    }
}

fn start(program: &str, run: &Run<'_>) -> io::Result<(Running, Receiver)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(&run.command[1..])
        .args(run.arguments)
        .envs(run.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let running = Running::start(&mut command)?;
    // The writing ends go with `command`: only what is started has them, and the pipe ends with it.
    Ok((running, Receiver::from_owned_fd(reader.into())?))
}

/// What a command writes.
struct Output {
    reader: Receiver,
    open: bool,
    tail: Tail,
}

impl Output {
    /// Reads for as long as this is polled.
    async fn read_on(&mut self) -> std::convert::Infallible {
        let mut buffer = [0; 4096];
        while self.open {
            match self.reader.read(&mut buffer).await {
                Ok(length) if length > 0 => self.tail.push(&buffer[..length]),
                _ => self.open = false,
            }
        }
        std::future::pending().await
    }

    /// Takes what is still in the pipe, and gives the last of all as one line. Whoever holds the other end can write on.
    fn finish(mut self) -> String {
        let (mut buffer, mut left) = ([0; 4096], PIPE);
        while self.open && left > 0 {
            match self.reader.try_read(&mut buffer) {
                Ok(length) if length > 0 => {
                    self.tail.push(&buffer[..length]);
                    left = left.saturating_sub(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => self.open = false,
            }
        }
        if self.open {
            // A daemon that was started would be ended by SIGPIPE. This ends when it does.
            tokio::spawn(async move { while matches!(self.reader.read(&mut buffer).await, Ok(1..)) {} });
        }
        self.tail.text()
    }
}

/// The last bytes of many.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(KEPT_OUTPUT);
        self.bytes.drain(..excess);
        self.cut |= excess > 0;
    }

    /// As text in one line, without control characters: it goes to terminals.
    fn text(mut self) -> String {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous());
        let lines = text.trim().lines().map(|line| line.replace(|c: char| c.is_control(), " "));
        let text = lines.collect::<Vec<_>>().join(" | ");
        if self.cut { format!("…{text}") } else { text }
    }
}

#[cfg(test)]
mod tests;
