//! The cluster as the operator sees and commands it, and what is told of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};

use super::follow::Reports;
use crate::api::server::Refusal;
use crate::api::types::{
    Given, HandedOver, HandoverRequest, Held, HoldRequest, MeansStatus, PairStatus, TakenStatus, VipStatus,
};
use crate::daemon::events::{Events, News};
use crate::heartbeat::driver::{self, Command, Driver};
use crate::heartbeat::node;
use crate::heartbeat::report::{Cluster, GroupReport, word};
use crate::metrics::Moves;
use crate::model::Vip;
use crate::model::heartbeat::{Group, Heartbeat, Means};
use crate::takeover;

/// How long the heartbeat's thread may take to answer; it does at once.
const ANSWER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone)]
pub(in crate::daemon) struct PairView {
    pub(super) driver: Driver,
    pub(super) report: watch::Receiver<Arc<Cluster>>,
    pub(super) taken: watch::Receiver<Arc<takeover::Report>>,
    pub(super) followers: Reports,
    pub(super) heartbeat: watch::Receiver<Arc<Heartbeat>>,
    pub(super) moves: Moved,
}

/// Changes of roles since the start, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Arc<Mutex<Moves>>);

impl Moved {
    fn count(&self, moved: &node::Moved) {
        let key = (moved.group.clone(), word(moved.to), moved.why.kind());
        *self.moves().entry(key).or_default() += 1;
    }

    fn moves(&self) -> MutexGuard<'_, Moves> {
        // A count that panicked left whole counts.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PairView {
    /// The status.
    pub(in crate::daemon) fn status(&self) -> PairStatus {
        let taken = Arc::clone(&self.taken.borrow());
        let now = SystemTime::now();
        let groups = taken.groups.iter().map(|(group, report)| TakenStatus {
            group: group.clone(),
            milliseconds: report.taken.map(|taken| taken.took.as_secs_f64() * 1e3),
            ago_seconds: report
                .taken
                .map(|taken| now.duration_since(taken.at).unwrap_or_default().as_secs_f64()),
        });
        let means = self.followers.all().into_iter().map(|report| MeansStatus {
            group: report.group,
            what: report.what.to_owned(),
            state: report.state,
            failure: report.failure,
        });
        PairStatus { cluster: self.now().as_ref().clone(), taken: groups.collect(), means: means.collect() }
    }

    /// How often roles changed, and why.
    pub(in crate::daemon) fn moves(&self) -> Moves {
        self.moves.moves().clone()
    }

    /// When groups were taken here last, and how long that took.
    pub(in crate::daemon) fn takeovers(&self) -> Vec<(String, SystemTime, Duration)> {
        let taken = Arc::clone(&self.taken.borrow());
        let groups = taken.groups.iter();
        groups
            .filter_map(|(group, report)| report.taken.map(|taken| (group.clone(), taken.at, taken.took)))
            .collect()
    }

    /// Returns when one of the threads that the cluster rests on has died; says which.
    pub(in crate::daemon) async fn died(&self) -> &'static str {
        let mut taken = self.taken.clone();
        // Changes are none of this one's business; the end of them is.
        let takeover = async { while taken.changed().await.is_ok() {} };
        tokio::select! {
            () = self.driver.ended() => "heartbeat",
            () = takeover => "takeover",
        }
    }

    /// The VIPs of a configuration, and whether they are to be and are here.
    pub(in crate::daemon) fn vips(&self, vips: &[Vip]) -> Vec<VipStatus> {
        let (taken, heartbeat, cluster) = (
            Arc::clone(&self.taken.borrow()),
            Arc::clone(&self.heartbeat.borrow()),
            Arc::clone(&self.report.borrow()),
        );
        let status = |vip: &Vip| {
            let group = heartbeat.groups.iter().find(|group| group.vips.contains(vip));
            let report = group.and_then(|group| taken.groups.get(&group.name));
            let by_address = group.is_some_and(|group| group.takeover == Means::Address);
            let role = group.and_then(|group| cluster.groups.iter().find(|known| known.name == group.name));
            VipStatus {
                address: vip.address,
                prefix: vip.prefix,
                interface: vip.interface.clone(),
                held: report.is_some_and(|report| report.present.contains(vip)),
                wanted: by_address && role.is_some_and(|role| matches!(&*role.role, "active" | "yielding")),
            }
        };
        vips.iter().map(status).collect()
    }

    /// Whether this director serves the clients of this address: it is active for its group. What is in no group, everybody serves.
    pub(in crate::daemon) fn serves(&self, address: IpAddr) -> bool {
        let (heartbeat, cluster) = (Arc::clone(&self.heartbeat.borrow()), self.now());
        let has = |group: &&Group| group.vips.iter().any(|vip| vip.address == address);
        let group = heartbeat.groups.iter().find(has);
        let role = group.and_then(|group| cluster.groups.iter().find(|known| known.name == group.name));
        group.is_none() || role.is_some_and(|role| matches!(&*role.role, "active" | "yielding"))
    }

    /// What is wrong at the moment.
    pub(in crate::daemon) fn problems(&self) -> Vec<String> {
        let (cluster, taken) = (Arc::clone(&self.report.borrow()), Arc::clone(&self.taken.borrow()));
        let peers = cluster.peers.iter().flat_map(|peer| {
            let name = &peer.name;
            let dead = (!peer.alive).then(|| format!("the director {name} is not heard"));
            let deaf =
                (peer.alive && !peer.hears_us).then(|| format!("the director {name} does not hear this one"));
            let other = (peer.same_config == Some(false)).then(|| {
                format!("the director {name} has another configuration: copy the file and reload both")
            });
            [dead, deaf, other].into_iter().flatten()
        });
        let links = cluster.links.iter().filter_map(|link| {
            let error = link.last_error.as_ref()?;
            Some(format!("the heartbeat link {} has an error: {error}", link.name))
        });
        let unheld = cluster.groups.iter().filter(|group| group.owner.is_none() && !cluster.listening);
        let unheld = unheld.map(|group| format!("no director holds the group {}", group.name));
        let missing = taken.groups.values().flat_map(|group| &group.missing);
        let missing = missing.map(|(vip, why)| format!("VIP {}: {why}", vip.address));
        let taking =
            taken.problems.iter().chain(taken.groups.values().flat_map(|group| &group.problems)).cloned();
        let failures = self.followers.all().into_iter().filter_map(|report| {
            let failure = report.failure?;
            Some(format!("group {}, {}: {failure}", report.group, report.what))
        });
        peers.chain(links).chain(unheld).chain(missing).chain(taking).chain(failures).collect()
    }

    /// Gives groups away, and waits until others hold them.
    ///
    /// # Errors
    /// Why one cannot be given, or was not taken.
    pub(in crate::daemon) async fn hand_over(&self, asked: HandoverRequest) -> Result<HandedOver, Refusal> {
        let start = Instant::now();
        let groups = match asked.group {
            Some(group) => vec![group],
            None => self.held(),
        };
        if groups.is_empty() {
            return Err(Refusal::new(
                true,
                "this director holds no group: there is nothing to hand over".to_owned(),
            ));
        }
        let mut given = Vec::new();
        for group in groups {
            let (reply, answer) = oneshot::channel();
            let to = asked.to.clone();
            self.driver.tell(Command::HandOver { group: group.clone(), to, reply });
            let heir = answered(answer).await?.map_err(|refusal| Refusal::new(true, refusal.to_string()))?;
            given.push((group, heir));
        }
        let mut groups = Vec::new();
        for (group, heir) in given {
            groups.push(Given { to: self.await_taken(&group, &heir).await?, group });
        }
        Ok(HandedOver {
            groups,
            milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Stays standby, or no longer; waits until what it held is given away.
    ///
    /// # Errors
    /// It holds something that nobody could take.
    pub(in crate::daemon) async fn hold(&self, asked: HoldRequest) -> Result<Held, Refusal> {
        let gave = if asked.hold { self.held() } else { Vec::new() };
        let (reply, answer) = oneshot::channel();
        self.driver.tell(Command::Hold(asked.hold, reply));
        answered(answer).await?.map_err(|refusal| Refusal::new(true, refusal.to_string()))?;
        for group in &gave {
            self.await_taken(group, "another director").await?;
        }
        Ok(Held { held: asked.hold, gave })
    }

    /// How things are. What is borrowed is given back at once: the heartbeat's thread writes there.
    fn now(&self) -> Arc<Cluster> {
        Arc::clone(&self.report.borrow())
    }

    fn held(&self) -> Vec<String> {
        self.now()
            .groups
            .iter()
            .filter(|group| group.role == "active")
            .map(|group| group.name.clone())
            .collect()
    }

    /// Waits until another director holds a group; its name.
    async fn await_taken(&self, group: &str, heir: &str) -> Result<String, Refusal> {
        let dead_after = self.heartbeat.borrow().dead_after;
        let patience = dead_after * 4 + Duration::from_secs(1);
        let of = |cluster: &Cluster| cluster.groups.iter().find(|known| known.name == group).cloned();
        let mut report = self.report.clone();
        let taken = report.wait_for(|cluster| {
            of(cluster).is_none_or(|group| group.role == "standby" && group.owner.is_some())
        });
        match tokio::time::timeout(patience, taken).await {
            Ok(Ok(cluster)) => {
                Ok(of(&cluster).and_then(|group: GroupReport| group.owner).unwrap_or_else(|| heir.to_owned()))
            }
            _ => {
                Err(Refusal::new(false, format!("{heir} did not take {group}: this director still holds it")))
            }
        }
    }
}

async fn answered<T>(answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
    let silent = || Refusal::new(false, "the heartbeat's thread does not answer".to_owned());
    tokio::time::timeout(ANSWER, answer).await.map_err(|_| silent())?.map_err(|_| silent())
}

/// Tells what happens in the cluster; for ever.
pub(super) async fn tell(
    mut news: mpsc::Receiver<driver::News>,
    mut report: watch::Receiver<Arc<Cluster>>,
    events: Arc<Events>,
    moves: Moved,
) {
    let mut alive: BTreeMap<String, bool> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(one) = news.recv() => match one {
                driver::News::Moved(moved) => {
                    moves.count(&moved);
                    events.push(News {
                        service: format!("group {}", moved.group),
                        real: None,
                        from: word(moved.from),
                        to: word(moved.to),
                        reason: moved.why.to_string(),
                    });
                }
                driver::News::Link(change) if change.problem.is_none() => tracing::info!("{change}"),
                driver::News::Link(change) => tracing::warn!("{change}"),
                driver::News::NotPermitted(text) => tracing::warn!("{text}"),
            },
            Ok(()) = report.changed() => {
                let cluster = Arc::clone(&report.borrow_and_update());
                for peer in &cluster.peers {
                    let before = alive.insert(peer.name.clone(), peer.alive).unwrap_or(false);
                    if before != peer.alive {
                        let (from, to) = if peer.alive { ("dead", "alive") } else { ("alive", "dead") };
                        let reason = if peer.alive { "it is heard" } else { "it is not heard any more" };
                        let service = format!("director {}", peer.name);
                        events.push(News { service, real: None, from, to, reason: reason.to_owned() });
                    }
                }
            }
            else => return,
        }
    }
}
