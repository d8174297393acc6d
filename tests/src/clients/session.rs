//! A long-lived TCP connection: numbered lines to an echo server, each of which must come back.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::lab::Host;

/// A line is sent this often.
const PACE: Duration = Duration::from_millis(10);

/// An answer that takes longer counts as a broken connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer that takes longer was kept from its client, though no connection broke: TCP sends a lost segment again
/// after 0.2 s, 0.6 s and 1.4 s, a lost SYN after 1 s. One loss is the network's; an outage of 0.6 s is ours.
const OUTAGE: Duration = Duration::from_millis(900);

/// A connection at work in a thread of its own, until it is finished or dropped.
#[derive(Debug)]
pub struct Session {
    /// Closing it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<SessionReport>>,
    real: String,
}

/// How a connection fared.
#[derive(Clone, Debug, Default)]
pub struct SessionReport {
    /// The host that answered.
    pub real: String,
    /// Lines that came back.
    pub answered: u64,
    /// The longest that an answer took; the first one's includes connecting.
    pub slowest: Duration,
    /// How many lines had come back before that one.
    pub before_slowest: u64,
    /// Why the connection broke, if it did.
    pub broken: Option<String>,
}

impl Session {
    /// Connects from a host; the first answer says to whom.
    pub fn start(host: &Host, server: SocketAddr) -> Result<Session> {
        let begun = Instant::now();
        let stream = host
            .within(|| Ok(TcpStream::connect_timeout(&server, PATIENCE)?))
            .with_context(|| format!("cannot connect to {server} from {}", host.name()))?;
        let mut line = Line::new(stream)?;
        let real = line.ask(0)?;
        let slowest = begun.elapsed();
        let (stop, stopped) = channel();
        let name = real.clone();
        let thread = thread::spawn(move || {
            let mut report = SessionReport { real: name, answered: 1, slowest, ..SessionReport::default() };
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = report.exchange(&mut line) {
                    report.broken = Some(format!("after {} answers: {error:#}", report.answered));
                    break;
                }
            }
            report
        });
        Ok(Session { stop: Some(stop), thread: Some(thread), real })
    }

    /// The host that answers.
    pub fn real(&self) -> &str {
        &self.real
    }

    /// Whether the connection broke and its thread is gone.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it and says how it went.
    pub fn finish(mut self) -> Result<SessionReport> {
        self.stop = None;
        let thread = self.thread.take().context("a session finishes once")?;
        thread.join().map_err(|_| anyhow!("the session's thread panicked"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl SessionReport {
    /// Fails if the connection broke, or stood still for longer than a lost packet explains.
    pub fn ensure_whole(&self) -> Result<()> {
        self.ensure_unbroken()?;
        let SessionReport { real, slowest, before_slowest, .. } = self;
        ensure!(
            *slowest < OUTAGE,
            "the connection to {real} stood still for {slowest:?} after {before_slowest} answers"
        );
        Ok(())
    }

    /// Fails if the connection broke. For machines too slow to judge by time.
    pub fn ensure_unbroken(&self) -> Result<()> {
        match &self.broken {
            Some(reason) => Err(anyhow!("the connection to {} broke {reason}", self.real)),
            None => Ok(()),
        }
    }

    fn exchange(&mut self, line: &mut Line) -> Result<()> {
        let start = Instant::now();
        let real = line.ask(self.answered)?;
        ensure!(real == self.real, "{real} answered instead");
        if start.elapsed() > self.slowest {
            (self.slowest, self.before_slowest) = (start.elapsed(), self.answered);
        }
        self.answered += 1;
        Ok(())
    }
}

/// The connection, line by line.
struct Line {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Line {
    fn new(writer: TcpStream) -> Result<Line> {
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        Ok(Line { reader: BufReader::new(writer.try_clone()?), writer })
    }

    /// Sends a number and gives the name of who sends it back.
    fn ask(&mut self, number: u64) -> Result<String> {
        self.writer.write_all(format!("{number}\n").as_bytes())?;
        let mut answer = String::new();
        ensure!(self.reader.read_line(&mut answer)? > 0, "the server closed");
        let (real, echoed) =
            answer.trim_end().split_once(':').with_context(|| format!("answer {answer:?}"))?;
        ensure!(echoed == number.to_string(), "{echoed} came back for {number}");
        Ok(real.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_break_nor_an_outage_is_whole() {
        let report = |milliseconds, broken: Option<&str>| SessionReport {
            slowest: Duration::from_millis(milliseconds),
            broken: broken.map(str::to_owned),
            ..SessionReport::default()
        };
        assert!(report(450, None).ensure_whole().is_ok());
        assert!(report(1001, None).ensure_whole().is_err() && report(1001, None).ensure_unbroken().is_ok());
        assert!(report(1, Some("after 1 answers")).ensure_whole().is_err());
    }
}
