//! What a start or a reload waits for, before new entries take traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use healthcheck::State;

use super::{Core, Why};
use crate::daemon::pair::Plan;
use crate::pool::NextHops;

/// How long a start or a reload waits for next hops of services that have none: their traffic would find nobody.
const FIRST_HOPS: Duration = Duration::from_millis(500);
/// How long a start waits for checks' first verdicts, where another layout's program serves meanwhile.
const FIRST_VERDICTS: Duration = Duration::from_secs(5);

impl Core {
    /// Waits a moment for next hops of `fresh` addresses, where a service would have no usable real server without.
    pub(super) async fn await_first_hops(&mut self, fresh: &BTreeSet<IpAddr>) {
        if fresh.is_empty() {
            return;
        }
        let hops = self.inherited.merge(Instant::now(), &self.setup.hops.borrow());
        let standings = self.setup.health.standings();
        let awaited = self.desired(&standings, &hops).awaited(fresh);
        if awaited.is_empty() {
            return;
        }
        let all_known = |hops: &Arc<NextHops>| awaited.iter().all(|address| hops.contains_key(address));
        // Those that are down would make it wait for ever: then the others begin.
        let _ = tokio::time::timeout(FIRST_HOPS, self.setup.hops.wait_for(all_known)).await;
    }

    /// Takes over from a director with another layout of maps, whose program serves until these maps can.
    pub(super) async fn succeed_another_layout(
        &mut self,
        fresh: &BTreeSet<IpAddr>,
        plan: Option<&Plan>,
    ) -> Result<()> {
        self.await_first_verdicts().await;
        self.await_first_hops(fresh).await;
        if let Some(plan) = plan {
            // Another director may hold the VIPs that are still here.
            plan.guard(&self.setup.worker).await?;
        }
        self.reconcile(Why::Changed).await?;
        self.interfaces.add(&self.config.interfaces).await
    }

    /// Waits a moment until checks have said something of every real server. Those of which they have not serve until they do: so they
    /// did before.
    async fn await_first_verdicts(&mut self) {
        let until = Instant::now() + FIRST_VERDICTS;
        let mut changes = self.setup.health.changes();
        while self.setup.health.standings().values().any(|one| one.state == State::Unknown) {
            // Probes leave by the interfaces that next hops say.
            let hops = self.inherited.merge(Instant::now(), &self.setup.hops.borrow_and_update());
            self.attach_probes(&hops, false).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = self.setup.hops.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(until.into()) => {
                    self.setup.health.forget_unknown();
                    self.setup.health.follow(&self.config, &self.ways, |_| State::Up);
                    return;
                }
            }
        }
    }
}
