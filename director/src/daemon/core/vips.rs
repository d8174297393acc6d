//! Who holds the VIPs: a director that is alone always does; one of a cluster leaves that to its heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use healthcheck::State;

use super::{Core, Setup};
use crate::api::server::Refusal;
use crate::daemon::pair::{self, Pair, PairView, Plan};
use crate::daemon::refusals::failed;
use crate::model::{Config, Service, Vip};
use crate::pool::{RealKey, Standings};
use crate::takeover;

impl Core {
    /// Joins the cluster, or holds the VIPs where there is none.
    pub(super) async fn take_part(&mut self, plan: Option<Plan>) -> Result<()> {
        let worker = self.setup.worker.clone();
        let Some(plan) = plan else {
            pair::unguard(&worker).await?;
            self.hold_vips().await;
            return Ok(());
        };
        let run = (pair::incarnation(self.setup.saved.incarnation), self.setup.saved.held);
        self.setup.saved.incarnation = run.0;
        // From here on the heartbeat's thread takes and releases VIPs, whoever added them; whoever cleans up after a crash has to
        // know which they may be.
        let vips = plan.vips();
        let gone: Vec<Vip> = self.setup.saved.added().into_iter().filter(|vip| !vips.contains(vip)).collect();
        takeover::release(&gone).await?;
        self.setup.saved.set_added(&vips);
        self.setup.saved.store(&self.setup.state_file)?;
        let (events, services) = (self.setup.health.events(), self.services.subscribe());
        self.pair = Some(Pair::join(plan, worker, events, services, run).await?);
        Ok(())
    }

    /// Goes by another cluster from now on. VIPs of both are remembered meanwhile: a crash may leave either.
    pub(super) async fn follow_cluster(&mut self, plan: Plan) -> Result<()> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        let vips = plan.vips();
        let mut both = self.setup.saved.added();
        both.extend(vips.iter().filter(|vip| !both.contains(vip)).cloned().collect::<Vec<_>>());
        remember_added(&mut self.setup, &both);
        pair.follow(plan).await?;
        remember_added(&mut self.setup, &vips);
        Ok(())
    }

    /// The cluster, as the operator sees and commands it.
    pub(in crate::daemon) fn pair(&self) -> Option<PairView> {
        self.pair.as_ref().map(Pair::view)
    }

    /// Leaves the cluster, as the last thing. `release`: also what nobody takes.
    pub(in crate::daemon) async fn leave_cluster(&mut self, release: bool) -> Result<()> {
        match self.pair.take() {
            Some(pair) => pair.leave(release).await,
            None => Ok(()),
        }
    }

    pub(super) fn remember_held(&mut self, held: bool) -> Result<(), Refusal> {
        self.setup.saved.held = held;
        self.setup.saved.store(&self.setup.state_file).map_err(|error| failed(&error))
    }

    /// Tells the heartbeat how many services of each group have a live real server.
    pub(super) fn count_services(&self, standings: &Standings) {
        let counts = live_services(&self.config, standings);
        self.services.send_if_modified(|before| {
            let differs = **before != counts;
            if differs {
                *before = Arc::new(counts);
            }
            differs
        });
    }

    /// Takes the VIPs away that the director added.
    pub(in crate::daemon) async fn release_vips(&mut self) -> Result<()> {
        takeover::release(&self.setup.saved.added()).await?;
        self.setup.saved.set_added(&[]);
        self.setup.saved.store(&self.setup.state_file)
    }

    /// Adds VIPs that are missing, and removes those of the director's that are not configured any more.
    pub(super) async fn hold_vips(&mut self) {
        if self.pair.is_some() {
            return;
        }
        let mut added = self.setup.saved.added();
        let gone: Vec<Vip> = added.iter().filter(|vip| !self.config.vips.contains(vip)).cloned().collect();
        self.problems.takeover.clear();
        if !gone.is_empty() {
            match takeover::release(&gone).await {
                Ok(()) => {
                    gone.iter().for_each(
                        |vip| tracing::info!(vip = %vip.address, interface = vip.interface, "removed"),
                    );
                    added.retain(|vip| !gone.contains(vip));
                }
                Err(error) => self.problems.takeover.push(format!("{error:#}")),
            }
        }
        match takeover::hold(&self.config.vips).await {
            Ok(report) => {
                for vip in &report.added {
                    tracing::info!(vip = %vip.address, interface = vip.interface, "added");
                    if !added.contains(vip) {
                        added.push(vip.clone());
                    }
                }
                self.problems.vips = report.failed;
            }
            Err(error) => {
                self.problems.takeover.push(format!("the VIPs cannot be looked after: {error:#}"));
            }
        }
        remember_added(&mut self.setup, &added);
    }
}

/// Notes which VIPs may be on interfaces because of this director. On a full disk that cannot be, and everything else goes on.
fn remember_added(setup: &mut Setup, vips: &[Vip]) {
    if setup.saved.set_added(vips)
        && let Err(error) = setup.saved.store(&setup.state_file)
    {
        tracing::warn!("{error:#}");
    }
}

/// By group: services that have a real server which is not known to be down. One whose checks have not spoken yet counts as alive: a
/// director that starts is no worse than one that has run for long.
fn live_services(config: &Config, standings: &Standings) -> BTreeMap<String, u16> {
    let is_live = |service: &Service| {
        let down = |real| {
            let standing = standings.get(&RealKey::new(&service.name, real));
            standing.is_some_and(|standing| standing.state == State::Down)
        };
        !service.reals.iter().all(down)
    };
    let groups = config.heartbeat.iter().flat_map(|heartbeat| &heartbeat.groups);
    let count = |vips: &[Vip]| {
        let of = |service: &&Service| vips.iter().any(|vip| vip.address == service.address);
        config.services.iter().filter(of).filter(|service| is_live(service)).count()
    };
    groups.map(|group| (group.name.clone(), u16::try_from(count(&group.vips)).unwrap_or(u16::MAX))).collect()
}
