//! What follows roles by other means than addresses: commands, DNS, resources. One task each.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow::Report;
use crate::heartbeat::report::Cluster;
use crate::model::heartbeat::{DnsTakeover, Group, Means, Resource, TakeoverCommand};
use crate::resources;
use crate::takeover::{Wanted, command, dns};

/// How long what is not configured any more may take to be undone before what replaces it begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done as a group's role changes.
#[derive(Clone, Debug, PartialEq)]
enum Spec {
    Command(TakeoverCommand, Vec<IpAddr>),
    Dns(DnsTakeover),
    Resources(Vec<Resource>),
}

/// A task that does it.
struct Follower {
    spec: Spec,
    wanted: watch::Sender<bool>,
    report: watch::Receiver<Report>,
    /// It is not configured any more: it brings about standby, and nothing else.
    retired: bool,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Has it undo what it did, whatever the role is.
    fn retire(&mut self) {
        self.retired = true;
        self.wanted.send_replace(false);
    }

    fn is_done(&self) -> bool {
        self.retired && self.report.borrow().reached == Some(false)
    }

    /// Waits until it has undone what it did; for so long at most, for a command may fail for ever.
    async fn undone(mut self) {
        let undone = self.report.wait_for(|report| report.reached == Some(false));
        let _ = tokio::time::timeout(PATIENCE, undone).await;
    }
}

/// All of them, by group.
#[derive(Clone)]
struct Shared(Arc<Mutex<BTreeMap<String, Vec<Follower>>>>);

/// See the module.
pub(super) struct Followers {
    node: String,
    cluster: watch::Receiver<Arc<Cluster>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    shared: Shared,
    pass: JoinHandle<()>,
}

/// How they do.
#[derive(Clone)]
pub(super) struct Reports(Shared);

impl Drop for Followers {
    fn drop(&mut self) {
        self.pass.abort();
    }
}

impl Followers {
    /// None yet.
    pub(super) fn new(
        node: &str,
        wanted: watch::Receiver<Arc<Wanted>>,
        cluster: watch::Receiver<Arc<Cluster>>,
    ) -> Followers {
        let shared = Shared(Arc::default());
        let pass = tokio::spawn(pass_on(wanted.clone(), shared.clone()));
        Followers { node: node.to_owned(), cluster, wanted, shared, pass }
    }

    /// These groups from now on. What is the same as before goes on undisturbed; what is not there any more is undone, before
    /// something else of its kind begins.
    pub(super) fn follow(&mut self, groups: &[Group]) {
        let mut followers = self.shared.lock();
        let mut before = std::mem::take(&mut *followers);
        for group in groups {
            let mut old = before.remove(&group.name).unwrap_or_default();
            let mut now = Vec::new();
            for spec in specs(group) {
                let same = |follower: &Follower| !follower.retired && follower.spec == spec;
                if let Some(kept) = old.iter().position(same) {
                    now.push(old.swap_remove(kept));
                    continue;
                }
                let like = |follower: &Follower| discriminant(&follower.spec) == discriminant(&spec);
                let (replaced, others) = old.into_iter().partition(like);
                old = others;
                now.push(self.start(&group.name, spec, replaced));
            }
            now.extend(old);
            followers.insert(group.name.clone(), now);
        }
        followers.extend(before);
        for (name, parts) in followers.iter_mut() {
            let group = groups.iter().find(|group| group.name == *name);
            let wanted = group.map_or_else(Vec::new, specs);
            parts.iter_mut().filter(|part| !wanted.contains(&part.spec)).for_each(Follower::retire);
            parts.retain(|part| !part.is_done());
        }
        followers.retain(|_, parts| !parts.is_empty());
    }

    /// Waits until all have done what their roles ask for.
    pub(super) async fn settled(&self, patience: Duration) {
        let waits: Vec<(watch::Receiver<Report>, bool)> = {
            let followers = self.shared.lock();
            let all = followers.values().flatten();
            all.map(|follower| (follower.report.clone(), *follower.wanted.borrow())).collect()
        };
        let all = async {
            for (mut report, wanted) in waits {
                let _ = report.wait_for(|report| report.reached == Some(wanted)).await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("not everything that follows roles is in order; `director status` says what");
        }
    }

    /// How they do.
    pub(super) fn reports(&self) -> Reports {
        Reports(self.shared.clone())
    }

    /// Starts what follows a group, after what it replaces has ended.
    fn start(&self, name: &str, spec: Spec, mut replaced: Vec<Follower>) -> Follower {
        let active = self.wanted.borrow().groups.get(name).is_some_and(|want| want.active);
        let (wanted, level) = watch::channel(active);
        let what = match spec {
            Spec::Command(..) => "command",
            Spec::Dns(_) => "dns",
            Spec::Resources(_) => "resources",
        };
        let (reports, report) = watch::channel(Report::new(name, what));
        let follow = self.future(name.to_owned(), spec.clone(), level, reports);
        replaced.iter_mut().for_each(Follower::retire);
        let task = tokio::spawn(async move {
            for follower in replaced {
                follower.undone().await;
            }
            follow.await;
        });
        Follower { spec, wanted, report, retired: false, task }
    }

    fn future(
        &self,
        name: String,
        spec: Spec,
        wanted: watch::Receiver<bool>,
        report: watch::Sender<Report>,
    ) -> BoxFuture<'static, ()> {
        let node = self.node.clone();
        match spec {
            Spec::Command(spec, addresses) => {
                command::follow(name, addresses, spec, node, wanted, report).boxed()
            }
            Spec::Dns(spec) => {
                let (cluster, of) = (self.cluster.clone(), name.clone());
                let alive = move |director: &str| claims(&cluster.borrow(), &of, director);
                async move { dns::follow(name, spec, node, alive, wanted, report).await }.boxed()
            }
            Spec::Resources(resources) => resources::follow(name, resources, node, wanted, report).boxed(),
        }
    }
}

/// What is to be done for a group.
fn specs(group: &Group) -> Vec<Spec> {
    let means = match &group.takeover {
        Means::Address => None,
        Means::Command(spec) => {
            Some(Spec::Command(spec.clone(), group.vips.iter().map(|vip| vip.address).collect()))
        }
        Means::Dns(spec) => Some(Spec::Dns(spec.clone())),
    };
    let resources = (!group.resources.is_empty()).then(|| Spec::Resources(group.resources.clone()));
    means.into_iter().chain(resources).collect()
}

impl Reports {
    /// All of them.
    pub(super) fn all(&self) -> Vec<Report> {
        let followers = self.0.lock();
        let shown = followers.values().flatten().filter(|follower| !follower.is_done());
        shown.map(|follower| follower.report.borrow().clone()).collect()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Follower>>> {
        // Whoever panicked left a whole map: followers come and go one by one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a director is heard to hold a group.
fn claims(cluster: &Cluster, group: &str, director: &str) -> bool {
    let group = cluster.groups.iter().find(|known| known.name == group);
    group.is_some_and(|group| {
        let others = group.directors.iter().filter(|other| other.director != cluster.me);
        others
            .into_iter()
            .any(|other| other.director == director && matches!(&*other.role, "active" | "yielding"))
    })
}

/// Tells each its level; for ever.
async fn pass_on(mut wanted: watch::Receiver<Arc<Wanted>>, shared: Shared) {
    loop {
        let now = Arc::clone(&wanted.borrow_and_update());
        for (name, followers) in shared.lock().iter() {
            let active = now.groups.get(name).is_some_and(|want| want.active);
            for follower in followers.iter().filter(|follower| !follower.retired) {
                follower.wanted.send_if_modified(|before| std::mem::replace(before, active) != active);
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}
