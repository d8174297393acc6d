//! TCP connections at a steady pace, and which of them are accepted.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::pace::{Pace, be_punctual};
use super::prober::MOST_PROBES;
use super::probes::{Probe, Probes};
use crate::background::{Background, Stopped};
use crate::lab::Host;

/// Opens connections from a host, by a thread of its own, until it is stopped or dropped. One that was accepted is reset at
/// once, so that neither side keeps anything of it.
#[derive(Debug)]
pub struct Connects(Background<Result<Probes>>);

impl Connects {
    /// Starts to connect, once in each `every`. A connection counts if it is accepted within `timeout`; below a second,
    /// that is by the first SYN. In what is seen, none says which host answered.
    pub fn start(host: &Host, server: SocketAddr, every: Duration, timeout: Duration) -> Result<Connects> {
        let host = host.clone();
        let connect = move |stopped: &Stopped| {
            host.within(|| Ok(Run::new(server, every, timeout).run(stopped)))
                .with_context(|| format!("cannot connect to {server} from {}", host.name()))
        };
        Background::start(connect).map(Connects)
    }

    /// Ends it, after the last connections had their time, and says what it saw.
    pub fn stop(self) -> Result<Probes> {
        self.0.stop()?
    }
}

/// The thread's own.
struct Run {
    server: SocketAddr,
    timeout: Duration,
    seen: Probes,
    /// Connections under way, the oldest first, with their number: at most as many as begin within the timeout.
    under_way: Vec<(usize, Socket)>,
}

impl Run {
    fn new(server: SocketAddr, every: Duration, timeout: Duration) -> Run {
        let seen =
            Probes { begun: Instant::now(), every, probes: Vec::new(), duplicates: 0, realtime: false };
        Run { server, timeout, seen, under_way: Vec::new() }
    }

    fn run(mut self, stopped: &Stopped) -> Probes {
        self.seen.realtime = be_punctual();
        let mut pace = Pace::new(self.seen.begun, self.seen.every);
        while !stopped.is_set() && self.seen.probes.len() < MOST_PROBES {
            let now = Instant::now();
            if pace.is_due(now) {
                self.connect(now);
            }
            self.await_outcomes(pace.left(now));
        }
        while !self.under_way.is_empty() {
            self.await_outcomes(self.timeout);
        }
        self.seen
    }

    fn connect(&mut self, now: Instant) {
        let number = self.seen.probes.len();
        self.seen.probes.push(Probe { sent: now - self.seen.begun, answered: None, real: None });
        // What fails at once is not answered, and so counted.
        if let Ok(socket) = begin(self.server) {
            self.under_way.push((number, socket));
        }
    }

    /// Waits for so long at most, and no longer than until the oldest has had its time.
    fn await_outcomes(&mut self, patience: Duration) {
        let oldest = self.under_way.first().map(|(number, _)| self.seen.probes[*number].sent + self.timeout);
        let left = oldest.map(|end| end.saturating_sub(self.seen.begun.elapsed()));
        let timeout = Timespec::try_from(left.map_or(patience, |left| left.min(patience))).ok();
        let sockets = self.under_way.iter().map(|(_, socket)| socket.as_fd());
        let mut polled: Vec<_> = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, timeout.as_ref());
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let now = self.seen.begun.elapsed();
        let mut ready = ready.into_iter();
        self.under_way.retain(|(number, socket)| {
            let probe = &mut self.seen.probes[*number];
            let is_ready = ready.next().unwrap_or(false);
            if is_ready && matches!(socket.take_error(), Ok(None)) {
                probe.answered = Some(now);
            }
            !is_ready && now < probe.sent + self.timeout
        });
    }
}

/// Begins to connect.
fn begin(server: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Closing it sends a RST and leaves no TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}
