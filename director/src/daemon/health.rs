//! Runs the checks, and keeps what they find where the core and the operator's socket see it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use healthcheck::runner::{Ran, Runner};
use healthcheck::schedule::Rhythm;
use healthcheck::{Probe, State};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::events::{Events, News};
use super::probes::Ways;
use crate::health::{self, Board, Change, Maintenance, Name, Seen, Tally};
use crate::model::{Config, Notify};
use crate::pool::{RealKey, Standings};

/// How often the maintenance directory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a host's addresses are believed.
const BELIEVE: Duration = Duration::from_secs(60);

/// What is known of real servers' health: shared by the core, the socket and the task that runs the checks.
#[derive(Debug)]
pub(super) struct Health {
    board: Mutex<Board>,
    events: Arc<Events>,
    followed: watch::Sender<Arc<Followed>>,
    notify: watch::Sender<Arc<Option<Notify>>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

/// What the task follows.
#[derive(Debug, Default)]
struct Followed {
    watches: Vec<(Arc<Probe>, Rhythm)>,
    in_flight: usize,
    maintenance_dir: Option<PathBuf>,
}

impl Health {
    /// Watches nobody yet.
    pub(super) fn new(events: Arc<Events>) -> Health {
        Health {
            board: Mutex::default(),
            events,
            followed: watch::channel(Arc::default()).0,
            notify: watch::channel(Arc::default()).0,
            changes: watch::channel(0).0,
        }
    }

    /// Follows a configuration from now on. `ways`: how its real servers are asked. `assumed`: what real servers that are new
    /// count as until their first verdict.
    pub(super) fn follow(&self, config: &Config, ways: &Ways, assumed: impl Fn(&RealKey) -> State) {
        let mark = |vip| ways.marks.get(&vip).copied().unwrap_or(0);
        let plan = health::plan(config, mark, |real, marked| ways.source(real, marked));
        let changes = self.board().follow(&plan, assumed, Instant::now());
        self.tell(changes);
        self.notify.send_replace(Arc::new(config.watching.notify.clone()));
        self.followed.send_replace(Arc::new(Followed {
            watches: plan.watches,
            in_flight: config.watching.in_flight,
            maintenance_dir: config.watching.maintenance_dir.clone(),
        }));
    }

    /// Forgets those that have no verdict yet: what is followed next has them as new ones.
    pub(super) fn forget_unknown(&self) {
        self.board().forget_unknown();
    }

    /// For the pool.
    pub(super) fn standings(&self) -> Standings {
        self.board().standings()
    }

    /// For the operator.
    pub(super) fn seen(&self) -> HashMap<RealKey, Seen> {
        self.board().seen()
    }

    /// What was counted of the checks.
    pub(super) fn tallies(&self) -> HashMap<RealKey, Tally> {
        self.board().tallies()
    }

    /// A real server's probes.
    pub(super) fn probes(&self, key: &RealKey) -> Vec<Arc<Probe>> {
        self.board().probes(key)
    }

    /// What happened.
    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Notices changes of standings.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Who is to be told of events.
    pub(super) fn notify(&self) -> watch::Receiver<Arc<Option<Notify>>> {
        self.notify.subscribe()
    }

    /// Runs the checks, for ever.
    pub(super) async fn run(self: Arc<Health>) {
        let mut followed = self.followed.subscribe();
        let mut runner = Runner::new(1);
        followed.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = followed.changed() => {
                    let now = Arc::clone(&followed.borrow_and_update());
                    runner.follow(&now.watches, now.in_flight);
                }
                ran = runner.next() => self.take(&mut runner, ran),
            }
        }
    }

    /// Looks after maintenance, for ever. Apart from the checks: a name may take long to resolve.
    pub(super) async fn maintain(self: Arc<Health>) {
        let followed = self.followed.subscribe();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut names = Names::default();
        loop {
            looks.tick().await;
            let directory = followed.borrow().maintenance_dir.clone();
            if let Some(maintenance) = names.look(directory).await {
                let changes = self.board().maintain(maintenance, Instant::now());
                self.tell(changes);
            }
        }
    }

    fn take(&self, runner: &mut Runner, ran: Ran) {
        let Ran { probe, outcome, .. } = ran;
        let (changes, fast, weighed) = {
            let mut board = self.board();
            let before = board.weights_of(&probe);
            let changes = board.take(&probe, &outcome, Instant::now());
            (changes, board.is_changing(&probe), before != board.weights_of(&probe))
        };
        tracing::debug!(%probe, took = ?outcome.took, result = ?outcome.result, "probe");
        runner.again(&probe, fast);
        if weighed {
            self.changes.send_modify(|count| *count += 1);
        }
        self.tell(changes);
    }

    fn tell(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for Change { key, from, to, reason } in changes {
            let real = Some(key.real());
            self.events.push(News { service: key.service, real, from: word(from), to: word(to), reason });
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // It holds no promise that a panic could have broken halfway: each outcome is taken by itself.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state's name.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Unknown => "unknown",
        State::Up => "up",
        State::Down => "down",
    }
}

/// The maintenance directory, and what its names mean.
#[derive(Debug, Default)]
struct Names {
    known: Maintenance,
    hosts: HashMap<String, (Instant, Vec<IpAddr>)>,
    complained: bool,
}

impl Names {
    /// Who is in maintenance, if that changed. Where the directory cannot be read, whoever was in it stays.
    async fn look(&mut self, directory: Option<PathBuf>) -> Option<Maintenance> {
        let names = match directory {
            None => Vec::new(),
            Some(directory) => self.list(directory).await?,
        };
        let mut found = BTreeSet::new();
        for name in names {
            match name {
                Name::Address(address, port) => drop(found.insert((address, port))),
                Name::Host(host, port) => {
                    let addresses = self.resolve(host).await;
                    found.extend(addresses.into_iter().map(|address| (address, port)));
                }
            }
        }
        let found = Maintenance(found);
        (found != self.known).then(|| {
            self.known = found.clone();
            found
        })
    }

    async fn list(&mut self, directory: PathBuf) -> Option<Vec<Name>> {
        let place = directory.clone();
        let read = tokio::task::spawn_blocking(move || names(&place)).await;
        match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(names) => {
                self.complained = false;
                Some(names.iter().filter_map(|name| Name::read(name)).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Vec::new()),
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    let directory = directory.display();
                    tracing::error!(%directory, %error, "cannot read maintenance_dir: whoever is in maintenance stays there");
                }
                None
            }
        }
    }

    async fn resolve(&mut self, host: String) -> Vec<IpAddr> {
        if let Some((at, addresses)) = self.hosts.get(&host)
            && at.elapsed() < BELIEVE
        {
            return addresses.clone();
        }
        let asked = tokio::net::lookup_host((host.as_str(), 0));
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await.ok().and_then(Result::ok);
        let addresses: Option<Vec<IpAddr>> = answer.map(|found| found.map(|socket| socket.ip()).collect());
        let addresses = addresses.unwrap_or_else(|| {
            tracing::warn!(host, "a file in maintenance_dir names a host that does not resolve");
            self.hosts.get(&host).map(|(_, before)| before.clone()).unwrap_or_default()
        });
        self.hosts.insert(host, (Instant::now(), addresses.clone()));
        addresses
    }
}

/// The names of a directory's files.
fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}
