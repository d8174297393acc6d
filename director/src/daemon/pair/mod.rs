//! The cluster's part of the daemon: joins the heartbeat, the guard in the data plane, what takes VIPs, what else follows roles, and
//! what this machine knows of itself.

mod facts;
mod follow;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::events::Events;
use super::worker::Worker;
use crate::config::{self, Loaded};
use crate::dataplane::{self, GuardedGroup, Leases};
use crate::heartbeat::driver::{self, Command, Driver, Outlets, Setup};
use crate::heartbeat::keys::Keys;
use crate::heartbeat::machine::Lease;
use crate::heartbeat::message::{Neighbour, Role};
use crate::heartbeat::report::Cluster;
use crate::heartbeat::settings::Settings;
use crate::model::Vip;
use crate::model::heartbeat::{Group, Heartbeat, Means};
use crate::realtime;
use crate::takeover::{self, Takeover, Want, Wanted};

pub(super) use facts::Services;
use view::Moved;
pub(super) use view::PairView;

/// News that may wait to be logged.
const MOST_NEWS: usize = 1_000;
/// How long what follows roles may take to be in order at the start and at the end, beside the heartbeat's own times.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a configuration says to this director's heartbeat, with what its files hold: nothing can fail later that could fail here.
pub(super) struct Plan {
    name: String,
    heartbeat: Heartbeat,
    setup: Setup,
}

/// This director as one of a cluster.
pub(super) struct Pair {
    driver: Driver,
    takeover: Takeover,
    wanted: watch::Receiver<Arc<Wanted>>,
    setups: watch::Sender<Arc<takeover::Setup>>,
    followers: follow::Followers,
    facts: watch::Sender<Arc<facts::Watched>>,
    report: watch::Receiver<Arc<Cluster>>,
    worker: Worker,
    heartbeat: watch::Sender<Arc<Heartbeat>>,
    /// The number of each VIP's group, by which leases go.
    numbers: watch::Sender<BTreeMap<IpAddr, usize>>,
    /// What `PairView` has of roles that changed.
    moves: Moved,
    /// Dropped, they end.
    _tasks: JoinSet<()>,
}

impl Plan {
    /// `node`: this director's name, unless it is its host's. Nothing where the configuration has no cluster.
    ///
    /// # Errors
    /// This director is none of the cluster's, or a file cannot be used.
    pub(super) fn new(loaded: &Loaded, node: Option<&str>) -> Result<Option<Plan>> {
        let Some(heartbeat) = loaded.config.heartbeat.clone() else { return Ok(None) };
        let name = config::node_name(node, &heartbeat).map_err(|error| anyhow!("heartbeat: {error}"))?;
        let settings = Settings::new(&heartbeat, &name).context("this director is not configured")?;
        let me = heartbeat.member(&name).context("this director is not configured")?.clone();
        let setup = Setup {
            settings,
            keys: Keys::load(&heartbeat.key_file)?,
            me,
            all: heartbeat.directors.clone(),
            config: loaded.hash,
            witnesses: u8::try_from(heartbeat.ping.len()).unwrap_or(u8::MAX),
        };
        Ok(Some(Plan { name, heartbeat, setup }))
    }
}

impl Plan {
    /// The VIPs that are taken by addresses.
    pub(super) fn vips(&self) -> Vec<Vip> {
        let groups = self.heartbeat.groups.iter().filter(|group| group.takeover == Means::Address);
        groups.flat_map(|group| group.vips.clone()).collect()
    }

    /// Has the data plane answer for VIPs only with a lease, before there is one.
    ///
    /// # Errors
    /// A map refuses.
    pub(super) async fn guard(&self, worker: &Worker) -> Result<()> {
        guard(worker, &self.heartbeat).await.map(drop)
    }
}

/// The number of this run: greater than that of all before, also where the clock was put back meanwhile.
pub(super) fn incarnation(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX).max(last.saturating_add(1))
}

impl Pair {
    /// Joins the cluster. VIPs that a predecessor left are removed first: they may be another director's by now.
    ///
    /// # Errors
    /// The system refuses something without which there is no cluster.
    pub(super) async fn join(
        plan: Plan,
        worker: Worker,
        events: &Arc<Events>,
        services: Services,
        (incarnation, held): (u64, bool),
    ) -> Result<Pair> {
        let vips = plan.vips();
        let Plan { name, heartbeat, setup } = plan;
        let leases = guard(&worker, &heartbeat).await?;
        (0..heartbeat.groups.len()).for_each(|group| leases.set(group, dataplane::Lease::Never));
        takeover::clear(&vips).await.context("cannot remove VIPs that an earlier run left")?;

        let (wanted_sender, wanted) =
            watch::channel(Arc::new(Wanted { groups: BTreeMap::new(), told: Instant::now() }));
        let (shared_sender, shared) = watch::channel(Arc::<Vec<Neighbour>>::default());
        let (setups, setups_seen) = watch::channel(Arc::new(taking(&heartbeat)));
        let (numbers, numbers_seen) = watch::channel(numbers(&heartbeat));
        let leases = Arc::new(leases);
        let may = may_announce(Arc::clone(&leases), numbers_seen);
        let inputs = takeover::Inputs { wanted: wanted.clone(), setups: setups_seen, shared, may };
        // Where it is not permitted, the heartbeat says so.
        let prepare = || {
            let _ = realtime::prioritize(realtime::TAKEOVER);
            Ok(())
        };
        let takeover = takeover::start(inputs, prepare)?;
        let (report_sender, report) = watch::channel(Arc::<Cluster>::default());
        let mut followers = follow::Followers::new(&name, wanted.clone(), report.clone());
        followers.follow(&heartbeat.groups);
        followers.settled(PATIENCE).await;

        let (news_sender, news) = mpsc::channel(MOST_NEWS);
        let outlets = Outlets {
            roles: Box::new(move |roles| show(&wanted_sender, roles)),
            lease: Box::new(move |group, lease| leases.set(group, lease_of(lease))),
            news: news_sender,
            report: report_sender,
            shared: shared_sender,
        };
        let driver = Driver::start(setup, incarnation, held, outlets)
            .context("cannot start the heartbeat's thread")?;
        let mut tasks = JoinSet::new();
        let (facts, watched) = watch::channel(Arc::new(facts::Watched::new(&heartbeat)));
        let gathered = facts::gather(watched, takeover.links.clone(), services, driver.clone());
        tasks.spawn(gathered);
        let moves = Moved::default();
        tasks.spawn(view::tell(news, report.clone(), Arc::clone(events), moves.clone()));
        tasks.spawn(pass_neighbours(takeover.neighbours.clone(), driver.clone()));
        let heartbeat = watch::channel(Arc::new(heartbeat)).0;
        Ok(Pair {
            driver,
            takeover,
            wanted,
            setups,
            followers,
            facts,
            report,
            worker,
            heartbeat,
            numbers,
            moves,
            _tasks: tasks,
        })
    }

    /// What is to be seen of it, and the way to command it.
    pub(super) fn view(&self) -> PairView {
        PairView {
            driver: self.driver.clone(),
            report: self.report.clone(),
            taken: self.takeover.reports.clone(),
            followers: self.followers.reports(),
            moves: self.moves.clone(),
            heartbeat: self.heartbeat.subscribe(),
        }
    }

    /// Whether a configuration can be followed without a restart.
    ///
    /// # Errors
    /// It needs another number of agreeing directors: those that go by the old one and those that go by the new one could not agree.
    pub(super) fn can_follow(&self, plan: &Plan) -> Result<()> {
        let before = self.heartbeat.borrow().votes();
        let after = plan.heartbeat.votes();
        ensure!(
            before == after,
            "heartbeat: {after} directors must agree to an owner, it was {before}: that needs a restart of each director, one \
             after the other, those that hold nothing first"
        );
        Ok(())
    }

    /// Goes by another configuration from now on. Roles stay with groups that stay.
    ///
    /// # Errors
    /// The data plane refuses. The heartbeat goes on as it was.
    pub(super) async fn follow(&mut self, plan: Plan) -> Result<()> {
        // A group may get another number: meanwhile it is not guarded, so that no other's lease counts for its addresses.
        let meanwhile = kept_guarded(&self.heartbeat.borrow(), &plan.heartbeat);
        self.worker.ask(move |dataplane| dataplane.guard(&meanwhile)).await??;
        let (reply, done) = oneshot::channel();
        self.driver.tell(Command::Reconfigure(Box::new(plan.setup), reply));
        done.await.context("the heartbeat's thread ended")?;
        self.numbers.send_replace(numbers(&plan.heartbeat));
        self.setups.send_replace(Arc::new(taking(&plan.heartbeat)));
        guard(&self.worker, &plan.heartbeat).await?;
        self.followers.follow(&plan.heartbeat.groups);
        self.facts.send_replace(Arc::new(facts::Watched::new(&plan.heartbeat)));
        self.heartbeat.send_replace(Arc::new(plan.heartbeat));
        Ok(())
    }

    /// Gives away what somebody takes, says goodbye, and ends. What nobody takes stays, if it is not to be released.
    ///
    /// # Errors
    /// Something refuses to go.
    pub(super) async fn leave(self, release: bool) -> Result<()> {
        let dead_after = self.heartbeat.borrow().dead_after;
        let (reply, done) = oneshot::channel();
        self.driver.tell(Command::Leave(reply));
        // An heir that does not take over in its time does not at all.
        let _ = tokio::time::timeout(dead_after * 4 + Duration::from_secs(1), done).await;
        self.driver.end();
        self.driver.ended().await;
        self.released().await;
        self.followers.settled(PATIENCE).await;
        tokio::task::spawn_blocking(
            move || if release { self.takeover.release() } else { self.takeover.leave() },
        )
        .await?
    }

    /// Waits until VIPs that are not to be here any more are gone.
    async fn released(&self) {
        let wanted = Arc::clone(&self.wanted.borrow());
        let is_active = |name: &String| wanted.groups.get(name).is_some_and(|want| want.active);
        let mut reports = self.takeover.reports.clone();
        let gone = reports.wait_for(|report| {
            report
                .groups
                .iter()
                .all(|(name, group)| is_active(name) || (!group.active && group.present.is_empty()))
        });
        let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
    }
}

/// Has the data plane answer for VIPs only with a lease.
async fn guard(worker: &Worker, heartbeat: &Heartbeat) -> Result<Leases> {
    let groups: Vec<GuardedGroup> = in_order(heartbeat).map(guarded).collect();
    let leases = worker
        .ask(move |dataplane| {
            dataplane.guard(&groups)?;
            dataplane.leases()
        })
        .await?;
    Ok(leases?)
}

fn guarded(group: &Group) -> GuardedGroup {
    match group.takeover {
        Means::Address => GuardedGroup {
            addresses: group.vips.iter().map(|vip| vip.address).collect(),
            mac: group.virtual_mac,
        },
        // What does not move by ARP is not held back either.
        Means::Command(_) | Means::Dns(_) => GuardedGroup::default(),
    }
}

/// What stays guarded while numbers change: the groups that keep theirs, and all virtual MACs. What comes for one of those may be
/// dropped for a moment; the kernel, which would refuse it, must not see it.
fn kept_guarded(before: &Heartbeat, after: &Heartbeat) -> Vec<GuardedGroup> {
    let after: Vec<&Group> = in_order(after).collect();
    let kept = |(number, group): (usize, &Group)| {
        let same = after.get(number).is_some_and(|kept| kept.name == group.name);
        let now = guarded(group);
        if same { now } else { GuardedGroup { addresses: Vec::new(), ..now } }
    };
    in_order(before).enumerate().map(kept).collect()
}

/// The groups by their numbers: a group's is its place by name, as the heartbeat counts.
fn in_order(heartbeat: &Heartbeat) -> impl Iterator<Item = &Group> {
    let mut groups: Vec<&Group> = heartbeat.groups.iter().collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.into_iter()
}

fn numbers(heartbeat: &Heartbeat) -> BTreeMap<IpAddr, usize> {
    let groups = in_order(heartbeat).enumerate();
    groups.flat_map(|(number, group)| group.vips.iter().map(move |vip| (vip.address, number))).collect()
}

/// A VIP may be announced as long as its group's lease lasts.
fn may_announce(
    leases: Arc<Leases>,
    numbers: watch::Receiver<BTreeMap<IpAddr, usize>>,
) -> Arc<takeover::May> {
    Arc::new(move |vip| match numbers.borrow().get(&vip).map(|number| leases.get(*number)) {
        Some(dataplane::Lease::Forever) => true,
        Some(dataplane::Lease::Until(end)) => driver::now().since_start() <= end,
        Some(dataplane::Lease::Never) | None => false,
    })
}

fn taking(heartbeat: &Heartbeat) -> takeover::Setup {
    takeover::Setup { groups: heartbeat.groups.clone(), announce: heartbeat.announce.clone() }
}

fn lease_of(lease: Lease) -> dataplane::Lease {
    match lease {
        Lease::Never => dataplane::Lease::Never,
        Lease::Until(end) => dataplane::Lease::Until(end.since_start()),
        Lease::Forever => dataplane::Lease::Forever,
    }
}

/// Hands roles on to whoever takes VIPs. An owner that yields keeps them until the heir has them.
fn show(wanted: &watch::Sender<Arc<Wanted>>, roles: &[(String, Role, u64)]) {
    let want =
        |role: Role, announce| Want { active: matches!(role, Role::Active | Role::Yielding), announce };
    let groups = roles.iter().map(|(name, role, announce)| (name.clone(), want(*role, *announce)));
    wanted.send_replace(Arc::new(Wanted { groups: groups.collect(), told: Instant::now() }));
}

/// Has the heartbeat tell others whom this machine knows.
async fn pass_neighbours(mut neighbours: watch::Receiver<Arc<Vec<Neighbour>>>, driver: Driver) {
    while neighbours.changed().await.is_ok() {
        let known = neighbours.borrow_and_update().as_ref().clone();
        driver.tell(Command::Neighbours(known));
    }
}

/// Removes what a predecessor with a heartbeat left: a director that is alone answers always.
pub(super) async fn unguard(worker: &Worker) -> Result<()> {
    Ok(worker.ask(|dataplane| dataplane.release_guard()).await??)
}

/// What to say of a reload that begins or ends a cluster.
pub(super) fn needs_start(is: bool, shall: bool) -> Option<String> {
    let note = match (is, shall) {
        (false, true) => {
            "heartbeat: it begins at the next start; until then this director holds its VIPs always"
        }
        (true, false) => "heartbeat: it ends at the next start; until then it goes on as it was",
        _ => return None,
    };
    Some(note.to_owned())
}
