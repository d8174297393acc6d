//! The one task that decides: it holds the configuration and the overrides, follows next hops, and has the data plane
//! follow them all. Requests and changes come one after another, so nothing here needs a lock.

mod first;
mod vips;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::changes::{news, surroundings, unchecked};
use super::health::Health;
use super::inherited::{Inherited, Verdicts};
use super::interfaces::Interfaces;
use super::limits;
use super::pair::{self, Pair};
use super::probes::{Way, Ways};
use super::problems::Problems;
use super::refusals::{failed, half_done, misuse, retried, unchanged};
use super::saved::Saved;
use super::view::View;
use super::worker::Worker;
use crate::api::server::Refusal;
use crate::api::types::{Reloaded, Weighed, WeightRequest};
use crate::config::{self, Loaded};
use crate::dataplane::{Dataplane, Error};
use healthcheck::State;

use crate::model::{Config, Fallback};
use crate::pool::{self, Desired, NextHops, RealKey, Serving, Standings};
use crate::reconcile::{self, Plan, Units};

/// How often everything is looked after that somebody else may have changed.
const REPAIR_EVERY: Duration = Duration::from_secs(5);
/// The least time between two reconciliations for next hops' sake: when many come up, each takes its part of a plan.
const BETWEEN_HOPS: Duration = Duration::from_millis(100);
/// The most plans in a row: a later one has the room that an earlier one made.
const MOST_PLANS: usize = 3;

/// What the operator asks for.
pub(super) enum Request {
    /// To read the configuration again.
    Reload(oneshot::Sender<Result<Reloaded, Refusal>>),
    /// To put a weight in force, or take it back.
    Weight(WeightRequest, oneshot::Sender<Result<Weighed, Refusal>>),
    /// To remember over restarts whether this director stays standby.
    Held(bool, oneshot::Sender<Result<(), Refusal>>),
    /// To answer.
    Alive(oneshot::Sender<Result<(), Refusal>>),
    /// To follow nothing any more.
    End,
}

/// Why the data plane is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something here changed.
    Changed,
    /// Nothing did: what differs, somebody else changed.
    Repair,
}

/// What the core starts with.
pub(super) struct Setup {
    pub(super) worker: Worker,
    pub(super) units: Units,
    /// The program of a director with another layout of maps is attached.
    pub(super) succeeds_another_layout: bool,
    pub(super) config_path: PathBuf,
    pub(super) config: Config,
    pub(super) saved: Saved,
    pub(super) state_file: PathBuf,
    pub(super) hops: watch::Receiver<Arc<NextHops>>,
    pub(super) wanted: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    pub(super) avoid: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    /// Why next hops are not followed at the moment.
    pub(super) resolver: watch::Receiver<Option<String>>,
    pub(super) health: Arc<Health>,
    /// What a predecessor made of health.
    pub(super) before: Verdicts,
    /// This director's name in its cluster, unless it is its host's.
    pub(super) node: Option<String>,
    /// The operator's socket, unless it is the configuration's.
    pub(super) socket: Option<PathBuf>,
}

/// The task's state.
pub(super) struct Core {
    setup: Setup,
    config: Arc<Config>,
    inherited: Inherited,
    view: watch::Sender<Arc<View>>,
    interfaces: Interfaces,
    problems: Problems,
    /// What services make of their real servers' health.
    serving: HashMap<String, Serving>,
    /// Changes of real servers' health.
    changes: watch::Receiver<u64>,
    /// When the next step of a slow start is due.
    step: Option<Instant>,
    /// How probes reach VIPs at real servers.
    way: Way,
    ways: Ways,
    /// The cluster; none where this director is alone.
    pair: Option<Pair>,
    /// How many services of each group have a live real server.
    services: watch::Sender<Arc<BTreeMap<String, u16>>>,
}

impl Core {
    /// Brings everything up: attaches, fills the maps, and takes the VIPs.
    pub(super) async fn start(
        mut setup: Setup,
        inherited: Inherited,
        plan: Option<pair::Plan>,
    ) -> Result<Core> {
        let config = Arc::new(in_force(setup.config.clone(), &setup.units));
        let (view, _) = watch::channel(Arc::new(View::new(Arc::clone(&config), setup.units)));
        let (interfaces, problems) = (Interfaces::new(setup.worker.clone()), Problems::default());
        let Verdicts { in_pool, serving } = std::mem::take(&mut setup.before);
        let changes = setup.health.changes();
        let mut core = Core {
            setup,
            config,
            inherited,
            view,
            interfaces,
            problems,
            serving,
            changes,
            step: None,
            way: Way::default(),
            ways: Ways::default(),
            pair: None,
            services: watch::channel(Arc::default()).0,
        };
        // Who served before goes on until checks say otherwise: a restart takes nobody out.
        core.watch(&in_pool).await;
        let fresh = core.announce_addresses();
        if core.setup.succeeds_another_layout {
            core.succeed_another_layout(&fresh, plan.as_ref()).await?;
        } else {
            // Attaching first: it puts this version's program over the maps that a predecessor filled.
            core.interfaces.add(&core.config.interfaces).await?;
            core.await_first_hops(&fresh).await;
            core.reconcile(Why::Changed).await?;
        }
        core.interfaces.remove_other_layouts().await?;
        core.interfaces.remove_others(&core.config.interfaces).await?;
        core.take_part(plan).await?;
        core.publish();
        Ok(core)
    }

    /// What is to be seen of it from outside.
    pub(super) fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// What is known of real servers' health.
    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.setup.health)
    }

    /// Follows whatever changes until it shall end; then gives its state back.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Core {
        let mut repair = tokio::time::interval(REPAIR_EVERY);
        repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        repair.reset();
        let mut settled = Instant::now();
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Reload(reply)) => drop(reply.send(self.reload().await)),
                    Some(Request::Weight(asked, reply)) => drop(reply.send(self.weight(asked).await)),
                    Some(Request::Held(held, reply)) => drop(reply.send(self.remember_held(held))),
                    Some(Request::Alive(reply)) => drop(reply.send(Ok(()))),
                    Some(Request::End) | None => return self,
                },
                Ok(()) = changed(&mut self.setup.hops, settled) => {
                    self.follow(Why::Changed).await;
                    settled = Instant::now() + BETWEEN_HOPS;
                }
                Ok(()) = self.changes.changed() => self.follow(Why::Changed).await,
                () = at(self.step) => self.follow(Why::Changed).await,
                _ = repair.tick() => {
                    let (changed, problems) = self.interfaces.repair(&self.config.interfaces).await;
                    self.problems.interfaces = problems;
                    self.follow(if changed { Why::Changed } else { Why::Repair }).await;
                    self.watch_sources().await;
                    // Those that a reload could not let go of.
                    if let Err(error) = self.interfaces.remove_others(&self.config.interfaces).await {
                        self.problems.interfaces.push(format!("{error:#}"));
                    }
                    self.hold_vips().await;
                }
                Ok(()) = self.setup.resolver.changed() => {}
            }
            self.publish();
        }
    }

    /// Takes the program away from all interfaces.
    pub(super) async fn detach(&mut self) -> Result<()> {
        self.interfaces.detach_all().await
    }

    async fn reload(&mut self) -> Result<Reloaded, Refusal> {
        let result = self.take_configuration().await;
        self.view.send_modify(|view| Arc::make_mut(view).reloads.take(result.is_ok(), SystemTime::now()));
        match &result {
            Ok(Reloaded { operations, surroundings, milliseconds, .. }) => {
                tracing::info!(operations, surroundings, milliseconds, "reloaded")
            }
            // An operator's mistake; all goes on as before.
            Err(refusal) if refusal.misuse => {
                tracing::warn!("the reload failed: {}", refusal.body.error)
            }
            Err(refusal) => tracing::error!("the reload failed: {}", refusal.body.error),
        }
        result
    }

    async fn take_configuration(&mut self) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let path = self.setup.config_path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let mut loaded =
            loaded.map_err(|error| failed(&error.into()))?.map_err(|failure| unchanged(misuse(&failure)))?;
        loaded.config.socket = self.setup.socket.clone().unwrap_or(loaded.config.socket);
        let plan = pair::Plan::new(&loaded, self.setup.node.as_deref());
        let plan = plan.map_err(|error| unchanged(Refusal::new(true, format!("{error:#}"))))?;
        if let (Some(pair), Some(plan)) = (&self.pair, &plan) {
            pair.can_follow(plan).map_err(|error| unchanged(Refusal::new(true, error.to_string())))?;
        }
        let Loaded { mut config, notes, .. } = loaded;
        let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        notes.extend(self.needs_more_than_a_reload(&config));
        notes.iter().for_each(|note| tracing::warn!("{note}"));

        let parsed = start.elapsed();
        let attached = self.interfaces.add(&config.interfaces).await;
        attached.map_err(|error| unchanged(failed(&error)))?;
        if self.pair.is_none() || plan.is_none() {
            // Begun or ended only by a start: until then VIPs are held as they were.
            config.heartbeat.clone_from(&self.config.heartbeat);
        }
        let surroundings = surroundings(&self.config, &config);
        let unchecked = unchecked(&self.config);
        self.config = Arc::new(in_force(config, &self.setup.units));
        // Who served unchecked goes on until the new checks say otherwise.
        self.watch(&unchecked).await;
        let fresh = self.announce_addresses();
        self.await_first_hops(&fresh).await;
        let reconciled = self.reconcile(Why::Changed).await;
        if let Err(error) = &reconciled {
            self.problems.maps = vec![format!("{error:#}")];
            self.publish();
        }
        let operations = reconciled.map_err(|error| retried(failed(&error)))?;
        // Before an interface is left to itself, its VIPs go.
        if let Some(plan) = plan {
            self.follow_cluster(plan).await.map_err(|error| half_done(failed(&error)))?;
        }
        let removed = self.interfaces.remove_others(&self.config.interfaces).await;
        self.hold_vips().await;
        self.publish();
        removed.map_err(|error| retried(failed(&error)))?;
        let whole = start.elapsed();
        tracing::debug!(?parsed, ?whole, "reloaded");
        let milliseconds = whole.as_millis() as u64;
        Ok(Reloaded { operations, surroundings, milliseconds, notes, problems: self.problems.all() })
    }

    /// What of a new configuration this process cannot follow.
    fn needs_more_than_a_reload(&self, config: &Config) -> Vec<String> {
        let mut notes = Vec::new();
        if !limits::alike(&config.limits, &self.setup.units.limits) {
            notes.push(
                "limits: the new ones take effect when the data plane is made anew: `director stop --detach`, then start"
                    .to_owned(),
            );
        }
        notes.extend(pair::needs_start(self.pair.is_some(), config.heartbeat.is_some()));
        if config.socket != self.setup.config.socket {
            notes.push(format!(
                "socket: {} takes effect at the next start; until then it is {}. Weights set by command stay with the old one",
                config.socket.display(),
                self.setup.config.socket.display()
            ));
        }
        notes
    }

    async fn weight(&mut self, asked: WeightRequest) -> Result<Weighed, Refusal> {
        let real =
            pool::resolve(&self.config, &asked.service, &asked.real).map_err(|error| misuse(&error))?;
        let service = self.config.services.iter().find(|service| service.name == real.service);
        let configured = service.and_then(|service| {
            service.reals.iter().find(|r| (r.address, r.port) == (real.address, real.port))
        });
        let configured_weight = configured.map_or(0, |real| real.weight);

        let mut saved = self.setup.saved.clone();
        let before = match asked.weight {
            Some(weight) => saved.overrides.set(real.clone(), weight),
            None => saved.overrides.clear(&real),
        };
        // Only what will survive a crash is put in force.
        saved.store(&self.setup.state_file).map_err(|error| failed(&error))?;
        self.setup.saved = saved;
        let (before, weight) =
            (before.unwrap_or(configured_weight), asked.weight.unwrap_or(configured_weight));
        tracing::info!(
            service = real.service,
            real = real.real(),
            before,
            weight,
            "weight set by the operator"
        );
        self.reconcile(Why::Changed).await.map_err(|error| failed(&error))?;
        self.publish();
        Ok(Weighed { real: real.real(), service: real.service, configured_weight, before, weight })
    }

    /// Tells the resolver of next hops who they are wanted for; returns those it has not been told of before.
    fn announce_addresses(&self) -> BTreeSet<IpAddr> {
        let reals = self.config.services.iter().flat_map(|service| &service.reals).map(|real| real.address);
        let fallbacks = self.config.services.iter().filter_map(|service| match service.health.fallback {
            Some(Fallback::Real { address, .. }) => Some(address),
            _ => None,
        });
        let wanted: BTreeSet<IpAddr> = reals.chain(fallbacks).collect();
        let before = self.setup.wanted.send_replace(Arc::new(wanted.clone()));
        self.setup.avoid.send_replace(Arc::new(self.config.vips.iter().map(|vip| vip.address).collect()));
        wanted.difference(&before).copied().collect()
    }

    /// Reconciles; what goes wrong is a problem until it goes right.
    async fn follow(&mut self, why: Why) {
        if let Err(error) = self.reconcile(why).await {
            self.problems.maps = vec![format!("{error:#}")];
        }
    }

    /// Makes the data plane hold what it shall; the number of operations that took.
    async fn reconcile(&mut self, why: Why) -> Result<usize> {
        let news =
            self.setup.hops.has_changed().unwrap_or(false) || self.changes.has_changed().unwrap_or(false);
        let old_news = !news && self.problems.maps.is_empty();
        let hops = self.inherited.merge(Instant::now(), &self.setup.hops.borrow_and_update());
        let standings = self.setup.health.standings();
        self.serve(&standings);
        self.count_services(&standings);
        self.step = pool::next_step(&self.config, &standings, Instant::now());
        let desired = Arc::new(self.desired(&standings, &hops));
        let job = {
            let desired = Arc::clone(&desired);
            move |dataplane: &mut Dataplane| bring_about(dataplane, &desired)
        };
        let (operations, plan) = self.setup.worker.ask(job).await?.context("the data plane")?;
        self.attach_probes(&hops, why == Why::Repair).await;
        if operations > 0 && why == Why::Repair && old_news && !self.inherited.just_ended() {
            tracing::warn!(operations, "repaired the data plane: somebody else changed it");
        }
        self.problems.maps = plan.problems.iter().map(ToString::to_string).collect();
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.config = Arc::clone(&self.config);
            view.desired = desired;
            view.serving.clone_from(&self.serving);
            view.placements = plan.placements;
        });
        Ok(operations)
    }

    /// Has the checks of the configuration run. `assumed_up`: new ones that count as up until their first verdict.
    async fn watch(&mut self, assumed_up: &HashSet<RealKey>) {
        let followed = self.way.follow(&self.config).await;
        self.problems.probes = followed.err().map(|error| {
            format!("checks ask real servers' own addresses, not the VIP there (`via: vip`): {error}")
        });
        let hops = self.inherited.merge(Instant::now(), &self.setup.hops.borrow());
        self.attach_probes(&hops, true).await;
        self.ways = self.way.ways(&self.config).await;
        let assumed = |key: &RealKey| if assumed_up.contains(key) { State::Up } else { State::Unknown };
        self.setup.health.follow(&self.config, &self.ways, assumed);
    }

    /// Follows changes of the addresses that probes come from.
    async fn watch_sources(&mut self) {
        let ways = self.way.ways(&self.config).await;
        if ways != self.ways {
            self.ways = ways;
            self.setup.health.follow(&self.config, &self.ways, |_| State::Unknown);
        }
    }

    /// Keeps the way of probes to VIPs: where it changed, or also where somebody else may have (`all`).
    async fn attach_probes(&mut self, hops: &NextHops, all: bool) {
        if let Some(attached) = self.way.attach(&self.config, hops, all).await {
            self.problems.probe_interfaces = attached
                .err()
                .map(|error| format!("checks do not reach the VIP at every real server: {error}"));
        }
    }

    fn desired(&self, standings: &Standings, hops: &NextHops) -> Desired {
        let health = pool::Health { standings, serving: &self.serving, now: Instant::now() };
        pool::desired(&self.config, &self.setup.saved.overrides, health, hops)
    }

    /// Finds out which services their fallback serves, and tells of changes.
    fn serve(&mut self, standings: &Standings) {
        let serving = pool::serving(&self.config, &self.setup.saved.overrides, standings, &self.serving);
        for news in news(&self.config, &self.serving, &serving) {
            self.setup.health.events().push(news);
        }
        self.serving = serving;
    }

    /// Shows what is, and logs which problems came and went.
    fn publish(&mut self) {
        self.problems.hops.clone_from(&self.setup.resolver.borrow());
        let problems = self.problems.all();
        self.problems.log(&problems);
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.overrides = self.setup.saved.overrides.clone();
            view.attachments = self.interfaces.attachments().to_vec();
            view.missing = self.problems.vips.iter().map(|(vip, _)| vip.clone()).collect();
            view.problems = problems;
        });
    }
}

/// The next change, but not before `settled`.
async fn changed(
    hops: &mut watch::Receiver<Arc<NextHops>>,
    settled: Instant,
) -> Result<(), watch::error::RecvError> {
    tokio::time::sleep_until(settled.into()).await;
    hops.changed().await
}

/// At a moment; never without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Plans and applies, and once more where the first plan had too little room: by then it has made some.
fn bring_about(dataplane: &mut Dataplane, desired: &Desired) -> Result<(usize, Plan), Error> {
    let mut operations = 0;
    let mut plans = 0;
    loop {
        let start = Instant::now();
        let observed = dataplane.observe()?;
        let seen = Instant::now();
        let plan = reconcile::diff(&observed, desired, &dataplane.units());
        let planned = Instant::now();
        dataplane.apply(&plan.ops)?;
        tracing::debug!(
            operations = plan.ops.len(),
            problems = plan.problems.len(),
            observing = ?(seen - start),
            planning = ?(planned - seen),
            applying = ?planned.elapsed(),
            "reconciled"
        );
        operations += plan.ops.len();
        plans += 1;
        if plan.problems.is_empty() || plan.ops.is_empty() || plans == MOST_PLANS {
            return Ok((operations, plan));
        }
    }
}

/// A configuration as this data plane can follow it: tables keep the sizes they were made with.
fn in_force(config: Config, units: &Units) -> Config {
    Config { limits: units.limits, ..config }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;

    #[test]
    fn tables_are_planned_for_the_room_there_is() {
        let units = Units { tick: Duration::from_millis(1), limits: Limits::default() };
        let config = Config { limits: Limits { slots: 16, ..Limits::default() }, ..Config::default() };
        assert_eq!(in_force(config, &units).limits, Limits::default());
    }
}
