//! What follows roles by other means than addresses: commands, DNS, resources. One task each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow::Report;
use crate::heartbeat::report::Cluster;
use crate::model::heartbeat::{Group, Means, Resource};
use crate::resources;
use crate::takeover::{Wanted, command, dns};

/// A task that follows a group's role.
struct Follower {
    means: Means,
    resources: Vec<Resource>,
    addresses: Vec<std::net::IpAddr>,
    wanted: watch::Sender<bool>,
    reports: Vec<watch::Receiver<Report>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Follower {
    /// Whether it does what a group asks for.
    fn does(&self, group: &Group, addresses: &[std::net::IpAddr]) -> bool {
        (&self.means, &self.resources, &*self.addresses) == (&group.takeover, &group.resources, addresses)
    }

    /// Has it bring about what standby asks for, and end. What it runs until then is returned.
    fn retire(self) -> Vec<JoinHandle<()>> {
        self.wanted.send_replace(false);
        // Without a sender it ends when it has done that.
        self.tasks
    }
}

/// All of them, by group.
#[derive(Clone)]
struct Shared(Arc<Mutex<BTreeMap<String, Follower>>>);

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

    /// These groups from now on. A group that is the same as before goes on undisturbed.
    pub(super) fn follow(&mut self, groups: &[Group]) {
        let mut followers = self.shared.lock();
        let mut before = std::mem::take(&mut *followers);
        for group in groups {
            let addresses: Vec<std::net::IpAddr> = group.vips.iter().map(|vip| vip.address).collect();
            let follower = match before.remove(&group.name) {
                Some(kept) if kept.does(group, &addresses) => kept,
                // What took its place begins when this one has stopped what it had started.
                replaced => {
                    let ending = replaced.map(Follower::retire).unwrap_or_default();
                    self.start(group, addresses, ending)
                }
            };
            followers.insert(group.name.clone(), follower);
        }
        before.into_values().for_each(|follower| drop(follower.retire()));
    }

    /// Waits until all have done what their roles ask for.
    pub(super) async fn settled(&self, patience: Duration) {
        let waits: Vec<(watch::Receiver<Report>, bool)> = {
            let followers = self.shared.lock();
            let all = followers.values().flat_map(|follower| {
                let wanted = *follower.wanted.borrow();
                follower.reports.iter().map(move |report| (report.clone(), wanted))
            });
            all.collect()
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

    /// `ending`: what has to end before it begins.
    fn start(
        &self,
        group: &Group,
        addresses: Vec<std::net::IpAddr>,
        ending: Vec<JoinHandle<()>>,
    ) -> Follower {
        let (ended, end) = watch::channel(());
        tokio::spawn(async move {
            for task in ending {
                let _ = task.await;
            }
            drop(ended);
        });
        let active = self.wanted.borrow().groups.get(&group.name).is_some_and(|want| want.active);
        let wanted = watch::channel(active).0;
        let mut follower = Follower {
            means: group.takeover.clone(),
            resources: group.resources.clone(),
            addresses: addresses.clone(),
            wanted,
            reports: Vec::new(),
            tasks: Vec::new(),
        };
        let (name, node) = (group.name.clone(), self.node.clone());
        match &group.takeover {
            Means::Address => {}
            Means::Command(spec) => {
                let (report, seen) = watch::channel(Report::new(&name, "command"));
                let wanted = follower.wanted.subscribe();
                let task =
                    command::follow(name.clone(), addresses, spec.clone(), node.clone(), wanted, report);
                follower.tasks.push(tokio::spawn(after(end.clone(), task)));
                follower.reports.push(seen);
            }
            Means::Dns(spec) => {
                let (report, seen) = watch::channel(Report::new(&name, "dns"));
                let wanted = follower.wanted.subscribe();
                let cluster = self.cluster.clone();
                let of = name.clone();
                let alive = move |director: &str| claims(&cluster.borrow(), &of, director);
                let task = dns::follow(name.clone(), spec.clone(), node.clone(), alive, wanted, report);
                follower.tasks.push(tokio::spawn(after(end.clone(), task)));
                follower.reports.push(seen);
            }
        }
        if !group.resources.is_empty() {
            let (report, seen) = watch::channel(Report::new(&name, "resources"));
            let wanted = follower.wanted.subscribe();
            let task = resources::follow(name, group.resources.clone(), node, wanted, report);
            follower.tasks.push(tokio::spawn(after(end.clone(), task)));
            follower.reports.push(seen);
        }
        follower
    }
}

impl Reports {
    /// All of them.
    pub(super) fn all(&self) -> Vec<Report> {
        let followers = self.0.lock();
        followers
            .values()
            .flat_map(|follower| &follower.reports)
            .map(|report| report.borrow().clone())
            .collect()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Follower>> {
        // Whoever panicked left a whole map: followers come and go one by one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs when what `end` stands for is over.
async fn after(mut end: watch::Receiver<()>, task: impl Future<Output = ()>) {
    while end.changed().await.is_ok() {}
    task.await;
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
        for (name, follower) in shared.lock().iter() {
            let active = now.groups.get(name).is_some_and(|want| want.active);
            follower.wanted.send_if_modified(|before| std::mem::replace(before, active) != active);
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}
