//! A datagram at a steady pace, and which of them come back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::pace::{Pace, be_punctual};
use super::probes::{Probe, Probes};
use crate::background::{Background, Stopped};
use crate::lab::Host;

/// How long the last answers may take.
const GRACE: Duration = Duration::from_millis(300);

/// At most so many probes: a prober that nobody stops ends by itself, at one in a millisecond after a quarter of an hour.
pub(super) const MOST_PROBES: usize = 1_000_000;

/// Sends numbered datagrams from one port of a host to a UDP echo server, by a thread of its own, until it is stopped or
/// dropped.
#[derive(Debug)]
pub struct Prober(Background<Probes>);

impl Prober {
    /// Starts to send, one datagram in each `every`; all are one flow. The echo server is `Lab::udp_echo`.
    ///
    /// Whoever measures an outage sees first that the server is reached: while the kernel asks for a neighbour, it keeps what is
    /// sent (arp(7), `unres_qlen_bytes`) until the socket's buffer is full. What was kept is answered late
    /// ([`Probes::slowest`], [`Probes::longest_silence`]), and what found no room is lost.
    pub fn start(host: &Host, server: SocketAddr, every: Duration) -> Result<Prober> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = host
            .within(|| {
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .with_context(|| format!("cannot probe {server} from {}", host.name()))?;
        Background::start(move |stopped| Run::new(socket, every).run(stopped)).map(Prober)
    }

    /// Ends it, after the last answers had their time, and says what it saw.
    pub fn stop(self) -> Result<Probes> {
        self.0.stop()
    }
}

/// The thread's own.
struct Run {
    socket: UdpSocket,
    seen: Probes,
    unanswered: usize,
}

impl Run {
    fn new(socket: UdpSocket, every: Duration) -> Run {
        let seen =
            Probes { begun: Instant::now(), every, probes: Vec::new(), duplicates: 0, realtime: false };
        Run { socket, seen, unanswered: 0 }
    }

    fn run(mut self, stopped: &Stopped) -> Probes {
        self.seen.realtime = be_punctual();
        let mut pace = Pace::new(self.seen.begun, self.seen.every);
        while !stopped.is_set() && self.seen.probes.len() < MOST_PROBES {
            let now = Instant::now();
            if pace.is_due(now) {
                self.send(now);
            }
            self.await_answers(pace.left(now));
        }
        let end = Instant::now() + GRACE;
        while self.unanswered > 0 && Instant::now() < end {
            self.await_answers(end.saturating_duration_since(Instant::now()));
        }
        self.seen
    }

    fn send(&mut self, now: Instant) {
        // What the kernel refuses to send (nobody answers ARP, no route) is not answered, and so counted.
        let _ = self.socket.send(self.seen.probes.len().to_string().as_bytes());
        self.seen.probes.push(Probe { sent: now - self.seen.begun, answered: None, real: None });
        self.unanswered += 1;
    }

    fn await_answers(&mut self, patience: Duration) {
        let mut polled = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        let timeout = Timespec::try_from(patience).ok();
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, timeout.as_ref());
        let mut answer = [0; 256];
        loop {
            match self.socket.recv(&mut answer) {
                Ok(length) => self.note(&answer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // An ICMP error about an earlier probe: reading has taken it off the socket.
                Err(_) => {}
            }
        }
    }

    /// `<host>:<number>`.
    fn note(&mut self, answer: &[u8]) {
        let Some((real, number)) = std::str::from_utf8(answer).ok().and_then(|text| text.rsplit_once(':'))
        else {
            return;
        };
        let number = number.parse::<usize>().ok();
        let Some(probe) = number.and_then(|number| self.seen.probes.get_mut(number)) else { return };
        if probe.answered.is_some() {
            self.seen.duplicates += 1;
            return;
        }
        probe.answered = Some(self.seen.begun.elapsed());
        probe.real = Some(real.to_owned());
        self.unanswered -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_counts_once_and_what_is_none_not_at_all() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut run = Run::new(socket, Duration::from_millis(1));
        run.send(Instant::now());
        run.send(Instant::now());
        for answer in ["real1:1", "real1:1", "real2:7", "real2", "real2:x"] {
            run.note(answer.as_bytes());
        }
        assert_eq!((run.seen.sent(), run.seen.lost(), run.seen.duplicates), (2, 1, 1));
        assert_eq!((run.seen.probes[1].real.as_deref(), run.unanswered), (Some("real1"), 1));
    }
}
