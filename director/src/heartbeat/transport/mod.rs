//! The links that heartbeat messages travel by: UDP, multicast, serial lines.
//!
//! One thread drives them with `ppoll`. Nothing here waits for anything, writes a log or makes that thread end: what goes
//! wrong is counted and kept in words, and [`Links::repair`] tries again.

mod multicast;
mod serial;
mod slip;
mod udp;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::model::heartbeat::{Link, Member};

/// The longest message, in bytes. Of a longer datagram, only so much is handed over.
pub const MAX_MESSAGE: usize = 4096;

/// How many datagrams [`Links::receive`] takes at once, also such as are not for us: a flood shall not hold the thread.
pub const MAX_AT_ONCE: usize = 64;

/// All links of this director, in the order of the configuration.
#[derive(Debug)]
pub struct Links {
    links: Vec<Way>,
    /// For receiving.
    buffer: Box<[u8]>,
}

/// One of them.
#[derive(Debug)]
struct Way {
    name: String,
    medium: Box<dyn Medium + Send>,
    counts: Counts,
    /// Why it is not open.
    problem: Option<String>,
}

/// A link began to work, or does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which, counted from 0.
    pub link: usize,
    /// Its name: see [`LinkStatus::name`].
    pub name: String,
    /// Why it does not work.
    pub problem: Option<String>,
}

impl fmt::Display for Change {
    /// A sentence for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "The heartbeat link {} is open.", self.name),
            Some(problem) => {
                write!(f, "The heartbeat link {} does not work: {problem}. It is tried again.", self.name)
            }
        }
    }
}

/// What to poll for a link.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    /// Which link, counted from 0.
    pub link: usize,
    /// To be polled for reading. When it is readable, or has an error or hung up: [`Links::receive`].
    pub fd: BorrowedFd<'a>,
    /// Also for writing, because a message waits. When it is writable: [`Links::flush`].
    pub wants_write: bool,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// `udp 192.0.2.11:694`, `multicast 239.0.0.43:694 on eth1`, `serial /dev/ttyS0`.
    pub name: String,
    /// Whether it could be opened, and did not break since.
    pub open: bool,
    /// Messages that were sent: one to each peer with UDP; on a serial line those that were begun.
    pub sent: u64,
    /// Messages that could not be sent to someone.
    pub send_errors: u64,
    /// Datagrams that came from elsewhere than a peer's address. Always 0 with multicast and serial lines.
    pub strangers: u64,
    /// Messages that were never sent because the line was busy until there was a newer one. Serial lines only.
    pub replaced: u64,
    /// Frames that were too long or mutilated. Serial lines only.
    pub garbled: u64,
    /// Why it is not open, or what was wrong with the newest message that was sent; `None` if nothing was.
    pub last_error: Option<String>,
}

impl Links {
    /// Opens all links of `me` to the others of `all`, in the caller's network namespace. Also returns those that could
    /// not be opened, which [`Self::repair`] tries again. If the links of an earlier configuration are open, drop them
    /// first: they keep the same addresses.
    pub fn open(me: &Member, all: &[Member]) -> (Links, Vec<Change>) {
        let peers: Vec<&Member> = all.iter().filter(|member| member.name != me.name).collect();
        let links = me.links.iter().enumerate().map(|(place, link)| Way::new(link, place, &peers)).collect();
        let mut links = Links { links, buffer: vec![0; MAX_MESSAGE].into() };
        let mut changes = links.repair();
        changes.retain(|change| change.problem.is_some());
        (links, changes)
    }

    /// Opens again what could not be opened or broke, or is not any more what it was opened on. To be called about once
    /// a second. Returns which links began to work, and which do not work for a reason not told before.
    pub fn repair(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (link, way) in self.links.iter_mut().enumerate() {
            way.repair(&mut |name, problem| {
                changes.push(Change { link, name: name.into(), problem: problem.map(Into::into) });
            });
        }
        changes
    }

    /// What to poll; links that are not open have nothing.
    pub fn descriptors(&self) -> impl Iterator<Item = Descriptor<'_>> {
        self.links.iter().enumerate().filter_map(|(link, way)| {
            let fd = way.medium.descriptor()?;
            Some(Descriptor { link, fd, wants_write: way.medium.wants_write() })
        })
    }

    /// How many links there are, open or not.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// Sends a message to all that the link reaches. Never waits; a failure is counted. A line that is busy sends it
    /// later, unless there is a newer one by then.
    ///
    /// # Panics
    ///
    /// If there is no such link.
    pub fn send(&mut self, link: usize, bytes: &[u8]) {
        let Way { medium, counts, .. } = &mut self.links[link];
        counts.trouble = None;
        if bytes.len() > MAX_MESSAGE {
            counts.failed(None, Errno::MSGSIZE);
        } else if medium.descriptor().is_none() {
            // `problem` says why.
            counts.send_errors += 1;
        } else {
            medium.send(bytes, counts);
        }
    }

    /// Continues with a message that waits for its line.
    ///
    /// # Panics
    ///
    /// If there is no such link.
    pub fn flush(&mut self, link: usize) {
        let Way { medium, counts, .. } = &mut self.links[link];
        medium.flush(counts);
    }

    /// Hands over what has come; of a datagram longer than [`MAX_MESSAGE`], its beginning. Takes at most
    /// [`MAX_AT_ONCE`] datagrams, or some hundred bytes from a line. Returns whether there may be more.
    ///
    /// # Panics
    ///
    /// If there is no such link.
    pub fn receive(&mut self, link: usize, each: &mut dyn FnMut(&[u8])) -> bool {
        let Way { medium, counts, .. } = &mut self.links[link];
        medium.receive(&mut self.buffer, each, counts)
    }

    /// How a link is.
    ///
    /// # Panics
    ///
    /// If there is no such link.
    pub fn status(&self, link: usize) -> LinkStatus {
        let Way { name, medium, counts, problem } = &self.links[link];
        LinkStatus {
            name: name.clone(),
            open: medium.descriptor().is_some(),
            sent: counts.sent,
            send_errors: counts.send_errors,
            strangers: counts.strangers,
            replaced: counts.replaced,
            garbled: counts.garbled,
            last_error: problem.clone().or_else(|| counts.trouble.map(|trouble| trouble.to_string())),
        }
    }
}

impl Way {
    fn new(link: &Link, place: usize, peers: &[&Member]) -> Self {
        let (name, medium): (String, Box<dyn Medium + Send>) = match link {
            Link::Udp(address) => {
                let peers = peers.iter().filter_map(|peer| match peer.links.get(place) {
                    Some(Link::Udp(address)) => Some(*address),
                    _ => None,
                });
                (format!("udp {address}"), Box::new(udp::Udp::new(*address, peers.collect())))
            }
            Link::Multicast { group, interface, ttl } => {
                let medium = multicast::Multicast::new(*group, interface.clone(), *ttl);
                (format!("multicast {group} on {interface}"), Box::new(medium))
            }
            Link::Serial { device, baud } => {
                let medium = serial::Serial::new(device.clone(), *baud);
                (format!("serial {}", device.display()), Box::new(medium))
            }
        };
        Self { name, medium, counts: Counts::default(), problem: None }
    }

    /// Tells what changed: the name, and why it does not work.
    fn repair(&mut self, tell: &mut dyn FnMut(&str, Option<&str>)) {
        if let Err(problem) = self.medium.check() {
            tell(&self.name, Some(&problem));
            self.problem = Some(problem);
        }
        if self.medium.descriptor().is_some() {
            return;
        }
        match self.medium.open() {
            Ok(()) => {
                self.problem = None;
                tell(&self.name, None);
            }
            Err(problem) if self.problem.as_ref() == Some(&problem) => {}
            Err(problem) => {
                tell(&self.name, Some(&problem));
                self.problem = Some(problem);
            }
        }
    }
}

/// What a kind of link can do. Nothing of it waits.
trait Medium: fmt::Debug {
    /// Opens it; it was not open. The error completes "does not work: ".
    fn open(&mut self) -> Result<(), String>;

    /// Says why it broke since the last call, or closes it and says why if what it was opened on is not there any more.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// What to poll, if it is open.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Whether a message waits.
    fn wants_write(&self) -> bool {
        false
    }

    /// Sends a message of at most [`MAX_MESSAGE`] bytes; it is open.
    fn send(&mut self, bytes: &[u8], counts: &mut Counts);

    /// Continues with a message that waits.
    fn flush(&mut self, _counts: &mut Counts) {}

    /// See [`Links::receive`].
    fn receive(&mut self, buffer: &mut [u8], each: &mut dyn FnMut(&[u8]), counts: &mut Counts) -> bool;
}

/// See [`LinkStatus`].
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    send_errors: u64,
    strangers: u64,
    replaced: u64,
    garbled: u64,
    trouble: Option<Trouble>,
}

impl Counts {
    /// A message could not be sent.
    fn failed(&mut self, to: Option<SocketAddr>, error: Errno) {
        self.send_errors += 1;
        self.trouble = Some(Trouble { to, error });
    }
}

/// Why a message could not be sent: not in words before someone asks for them.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    to: Option<SocketAddr>,
    error: Errno,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) => write!(f, "sending to {to}: ")?,
            None => write!(f, "sending: ")?,
        }
        match self.error {
            // Which of them it is depends on the kernel's version and the family, also for an address that is missing.
            Errno::INVAL | Errno::ADDRNOTAVAIL | Errno::NETUNREACH => {
                f.write_str("this machine does not have the link's own address now, or no route from it")
            }
            Errno::PERM => f.write_str("a packet filter on this machine forbids it"),
            error => error.fmt(f),
        }
    }
}
