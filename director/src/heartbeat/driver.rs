//! The heartbeat's thread: a [`Machine`] on a real clock, with real links.
//!
//! It waits for messages and for time to pass, and for nothing else: it writes no log, takes no lock that others hold for long, and
//! hands on what it decides without waiting. Its memory is locked and its priority is real-time where the system permits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc as tokio_mpsc, oneshot, watch};

use super::keys::Keys;
use super::machine::{Lease, Machine};
use super::message::{Body, Message, Neighbour, Role};
use super::moment::Moment;
use super::node::{Facts, Moved, Refusal};
use super::report::{Cluster, Lateness};
use super::settings::Settings;
use super::transport::{Change, Links};
use super::wire;
use crate::model::heartbeat::{Link, Member};
use crate::realtime;

/// Commands that may wait.
const MOST_COMMANDS: usize = 256;
/// How often others are shown how things are, when nothing changes.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// How often links that are down are tried again.
const REPAIR_EVERY: Duration = Duration::from_millis(500);
/// The greatest lateness that is told from greater ones, in microseconds.
const MOST_LATE: u64 = 60_000_000;
/// The most neighbours of others that are remembered.
const MOST_SHARED: usize = 1_024;
/// How often goodbye is said: a message may be lost.
const GOODBYES: usize = 3;

/// What the thread goes by.
#[derive(Debug)]
pub struct Setup {
    /// The cluster.
    pub settings: Settings,
    /// What messages are authenticated with.
    pub keys: Keys,
    /// This director, with its links.
    pub me: Member,
    /// All directors, with theirs.
    pub all: Vec<Member>,
    /// The hash of the configuration.
    pub config: u64,
    /// How many witnesses there are.
    pub witnesses: u8,
}

/// Takes every group's name, role and number of announcements.
pub type ShowRoles = dyn FnMut(&[(String, Role, u64)]) + Send;

/// Where it hands on what it decides. None of these may wait.
pub struct Outlets {
    /// Called when one of them changed.
    pub roles: Box<ShowRoles>,
    /// Called with a group's number and its lease: often.
    pub lease: Box<dyn Fn(usize, Lease) + Send>,
    /// What happened, for people.
    pub news: tokio_mpsc::Sender<News>,
    /// How things are.
    pub report: watch::Sender<Arc<Cluster>>,
    /// Neighbours that others know.
    pub shared: watch::Sender<Arc<Vec<Neighbour>>>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A role changed.
    Moved(Moved),
    /// A link began to work, or ceased.
    Link(Change),
    /// The system does not permit something that keeps the thread on time.
    NotPermitted(String),
}

/// What the thread can be told.
#[derive(Debug)]
pub enum Command {
    /// How this machine is.
    Facts(Facts),
    /// Whom this machine knows.
    Neighbours(Vec<Neighbour>),
    /// To give a group away; to whom it goes is the answer.
    HandOver {
        /// The group's name.
        group: String,
        /// To whom; none: to the best.
        to: Option<String>,
        /// Who takes it.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// To stay standby, or to do so no more.
    Hold(bool, oneshot::Sender<Result<(), Refusal>>),
    /// To give away whatever somebody takes; answered when there is nothing more to give.
    Leave(oneshot::Sender<()>),
    /// To go by another configuration.
    Reconfigure(Box<Setup>, oneshot::Sender<()>),
    /// To end; says goodbye first.
    End,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Driver {
    commands: mpsc::SyncSender<Command>,
    bell: Arc<OwnedFd>,
    /// Its other end is the thread's.
    life: watch::Receiver<()>,
}

struct Thread {
    machine: Machine,
    setup: Setup,
    links: Links,
    outlets: Outlets,
    commands: mpsc::Receiver<Command>,
    bell: Arc<OwnedFd>,
    _life: watch::Sender<()>,
    late: Histogram<u32>,
    next_report: Moment,
    next_repair: Moment,
    /// Who waits until everything is given away.
    leaving: Option<oneshot::Sender<()>>,
    /// More may be waiting in a link than was taken at once.
    more: bool,
}

/// The time, as [`Moment`] has it.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    Moment::from_start(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// The wall clock, since 1970.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Driver {
    /// Starts the thread. `incarnation`: see [`Machine::new`]. `held`: an operator had it stay standby before.
    ///
    /// # Errors
    /// The system has no thread or descriptor to give.
    pub fn start(setup: Setup, incarnation: u64, held: bool, outlets: Outlets) -> io::Result<Driver> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (sender, commands) = mpsc::sync_channel(MOST_COMMANDS);
        let (living, life) = watch::channel(());
        let (links, changes) = Links::open(&setup.me, &setup.all);
        let now = now();
        let mut machine = Machine::new(setup.settings.clone(), incarnation, links.count(), setup.config, now);
        if held {
            // It holds nothing yet: that cannot be refused.
            let _ = machine.node_mut().hold(now, true);
        }
        for change in changes {
            let _ = outlets.news.try_send(News::Link(change));
        }
        let late = Histogram::new_with_bounds(1, MOST_LATE, 2).map_err(io::Error::other)?;
        let thread = Thread {
            machine,
            setup,
            links,
            outlets,
            commands,
            bell: Arc::clone(&bell),
            _life: living,
            late,
            next_report: now,
            next_repair: now + REPAIR_EVERY,
            leaving: None,
            more: false,
        };
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || thread.run())?;
        Ok(Driver { commands: sender, bell, life })
    }

    /// Has the thread end. Waits while it has much else to do first.
    pub fn end(&self) {
        if self.commands.send(Command::End).is_ok() {
            let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Tells the thread something. It does so at once; if it cannot take more, the command is lost, and its reply with it.
    pub fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_ok() {
            // The bell rings already if this fails.
            let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Returns when the thread has ended after [`Command::End`].
    pub async fn ended(&self) {
        // It never says anything: this is over when the thread's end is dropped.
        while self.life.clone().changed().await.is_ok() {}
    }
}

impl Thread {
    fn run(mut self) {
        let manners = [
            ("lock its memory", realtime::lock_memory()),
            ("run at real-time priority", realtime::prioritize(realtime::HEARTBEAT)),
        ];
        for (what, result) in manners {
            if let Err(error) = result {
                let text = format!("the heartbeat cannot {what}: {error}; a machine under load may delay it");
                let _ = self.outlets.news.try_send(News::NotPermitted(text));
            }
        }
        self.show_roles();
        loop {
            let moved = self.machine.awake(now());
            self.revoke(&moved);
            self.hand_on(moved);
            self.receive();
            if self.obey().is_err() {
                return self.say_goodbye();
            }
            self.turn();
            self.look_after();
            self.wait();
        }
    }

    fn receive(&mut self) {
        self.more = false;
        let (machine, keys) = (&mut self.machine, &self.setup.keys);
        let mut told: Vec<Neighbour> = Vec::new();
        for link in 0..self.links.count() {
            self.more |= self.links.receive(link, &mut |bytes| {
                match wire::decode(bytes, keys) {
                    Ok(message) => {
                        // Who must not be believed is counted by the machine.
                        if let Ok(Some(neighbours)) = machine.receive(now(), link, &message) {
                            told.retain(|one| neighbours.iter().all(|fresh| fresh.address != one.address));
                            told.extend(neighbours);
                        }
                    }
                    Err(bad) => machine.sessions_mut().bad(link, &bad),
                }
            });
        }
        if !told.is_empty() {
            let mut neighbours = told;
            // The newest word on an address counts.
            let known = Arc::clone(&self.outlets.shared.borrow());
            let others =
                known.iter().filter(|one| neighbours.iter().all(|fresh| fresh.address != one.address));
            let others: Vec<Neighbour> = others.copied().collect();
            neighbours.extend(others);
            neighbours.truncate(MOST_SHARED);
            self.outlets.shared.send_replace(Arc::new(neighbours));
        }
    }

    fn turn(&mut self) {
        let now = now();
        let due = self.machine.due();
        let turn = self.machine.turn(now);
        if !turn.send.is_empty() && now >= due {
            let late = u64::try_from(now.since(due).as_micros()).unwrap_or(MOST_LATE);
            self.late.saturating_record(late.max(1));
        }
        // In this order: what was lost is answered for no more; others are told; leases count from that; then VIPs are taken, which
        // are only announced with a lease.
        self.revoke(&turn.moved);
        for message in turn.send {
            self.send(message);
        }
        self.renew_leases();
        self.hand_on(turn.moved);
        if self.leaving.is_some() && self.machine.node().may_end(now) {
            self.leaving.take().map(|waits| waits.send(()));
        }
    }

    fn send(&mut self, mut message: Message) {
        if let Body::Beat(beat) = &mut message.body {
            beat.clock = wall_clock();
        }
        let beats = matches!(message.body, Body::Beat(_));
        for (link, kind) in self.setup.me.links.iter().enumerate() {
            // There the newest message takes the place of one that waits: a beat must not give way to anything else.
            if !beats && matches!(kind, Link::Serial { .. }) {
                continue;
            }
            self.machine.for_link(now(), link, &mut message);
            self.links.send(link, &wire::encode(&message, &self.setup.keys));
        }
    }

    fn renew_leases(&self) {
        let now = now();
        for i in 0..self.setup.settings.groups.len() {
            (self.outlets.lease)(i, self.machine.lease(now, i));
        }
    }

    fn hand_on(&mut self, moved: Vec<Moved>) {
        if moved.is_empty() && !self.machine.announces() {
            return;
        }
        self.show_roles();
        for moved in moved {
            let _ = self.outlets.news.try_send(News::Moved(moved));
        }
        self.next_report = now();
    }

    fn revoke(&self, moved: &[Moved]) {
        let lost = moved.iter().filter(|moved| matches!(moved.to, Role::Standby | Role::Candidate));
        for moved in lost {
            if let Some(i) = self.machine.groups().position(|name| *name == moved.group) {
                (self.outlets.lease)(i, Lease::Never);
            }
        }
    }

    fn show_roles(&mut self) {
        let roles = self.roles();
        (self.outlets.roles)(&roles);
    }

    fn roles(&self) -> Vec<(String, Role, u64)> {
        let names = self.machine.groups().enumerate();
        let role = |(i, name): (usize, &str)| {
            let (role, announce) = self.machine.role(i);
            (name.to_owned(), role, announce)
        };
        names.map(role).collect()
    }

    /// Does as it was told; an error is the end.
    fn obey(&mut self) -> Result<(), ()> {
        loop {
            let now = now();
            match self.commands.try_recv() {
                Ok(Command::Facts(facts)) => self.machine.know(&facts),
                Ok(Command::Neighbours(neighbours)) => self.machine.tell_neighbours(&neighbours),
                Ok(Command::HandOver { group, to, reply }) => {
                    let given = self.machine.node_mut().hand_over(now, &group, to.as_deref());
                    let answer = given.map(|(heir, moved)| {
                        self.hand_on(vec![moved]);
                        heir
                    });
                    let _ = reply.send(answer);
                }
                Ok(Command::Hold(hold, reply)) => {
                    let _ = reply.send(self.machine.node_mut().hold(now, hold));
                }
                Ok(Command::Leave(reply)) => {
                    self.machine.node_mut().leave();
                    self.leaving = Some(reply);
                }
                Ok(Command::Reconfigure(setup, reply)) => {
                    self.reconfigure(*setup);
                    let _ = reply.send(());
                }
                Ok(Command::End) | Err(mpsc::TryRecvError::Disconnected) => return Err(()),
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn reconfigure(&mut self, setup: Setup) {
        // Where numbers of groups are others from now on, nothing is answered for by an old one.
        let names = |setup: &Setup| -> Vec<String> {
            setup.settings.groups.iter().map(|group| group.name.clone()).collect()
        };
        if names(&setup) != names(&self.setup) {
            for i in 0..self.setup.settings.groups.len() {
                (self.outlets.lease)(i, Lease::Never);
            }
        }
        if (&setup.me, &setup.all) != (&self.setup.me, &self.setup.all) {
            // Closed before they are opened: they have the same addresses.
            self.links = Links::open(&Member { links: Vec::new(), ..setup.me.clone() }, &[]).0;
            let (links, changes) = Links::open(&setup.me, &setup.all);
            self.links = links;
            for change in changes {
                let _ = self.outlets.news.try_send(News::Link(change));
            }
        }
        self.setup = setup;
        let (settings, config) = (self.setup.settings.clone(), self.setup.config);
        let moved = self.machine.reconfigure(now(), settings, self.links.count(), config);
        self.hand_on(moved);
        // Also where nothing moved: groups may be others.
        self.show_roles();
    }

    fn look_after(&mut self) {
        let now = now();
        if now >= self.next_repair {
            self.next_repair = now + REPAIR_EVERY;
            for change in self.links.repair() {
                let _ = self.outlets.news.try_send(News::Link(change));
            }
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            let links: Vec<_> = (0..self.links.count()).map(|link| self.links.status(link)).collect();
            let (witnesses, config) = (self.setup.witnesses, self.setup.config);
            let mut report = Cluster::new(&self.machine, &links, witnesses, config, (now, wall_clock()));
            report.late = Lateness::new(&self.late);
            self.outlets.report.send_replace(Arc::new(report));
        }
    }

    fn wait(&mut self) {
        let now = now();
        let until = self.machine.next(now).min(self.next_report).min(self.next_repair);
        let left = if self.more { Duration::ZERO } else { until.since(now) };
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let bell = PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN);
        let links: Vec<_> = self.links.descriptors().collect();
        let mut polled: Vec<PollFd> = std::iter::once(bell)
            .chain(links.iter().map(|link| {
                let wanted = if link.wants_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                PollFd::from_borrowed_fd(link.fd, wanted)
            }))
            .collect();
        // A signal may end it early; then it looks around, and waits again.
        let _ = poll(&mut polled, Some(&timeout));
        let rang = !polled[0].revents().is_empty();
        let ready = |(link, poll): (&super::transport::Descriptor, &PollFd)| {
            (link.wants_write && poll.revents().contains(PollFlags::OUT)).then_some(link.link)
        };
        let writable: Vec<usize> = links.iter().zip(&polled[1..]).filter_map(ready).collect();
        if rang {
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        }
        for link in writable {
            self.links.flush(link);
        }
    }

    /// Tells the others not to wait. What nobody could take stays as it is, and is answered for from now on without an end; the
    /// rest they take, and it is let go.
    fn say_goodbye(mut self) {
        let groups = self.setup.settings.groups.len();
        let stays: Vec<bool> = (0..groups).map(|i| self.machine.is_heirless(now(), i)).collect();
        // Before others take what is let go.
        for i in (0..groups).filter(|i| !stays[*i]) {
            (self.outlets.lease)(i, Lease::Never);
        }
        for _ in 0..GOODBYES {
            let goodbye = self.machine.goodbye(now());
            goodbye.send.into_iter().for_each(|message| self.send(message));
        }
        let mut roles = self.roles();
        for (i, (_, role, _)) in roles.iter_mut().enumerate() {
            let holds = matches!(role, Role::Active | Role::Yielding);
            (self.outlets.lease)(i, if holds && stays[i] { Lease::Forever } else { Lease::Never });
            if !stays[i] {
                *role = Role::Standby;
            }
        }
        (self.outlets.roles)(&roles);
    }
}
