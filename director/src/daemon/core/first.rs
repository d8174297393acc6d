//! What a start or a reload waits for, before new entries take traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use healthcheck::State;

use super::Core;
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

    /// Waits a moment until checks have said something of every real server.
    pub(super) async fn await_first_verdicts(&self) {
        let mut changes = self.setup.health.changes();
        let all = async {
            let unknown = || self.setup.health.standings().values().any(|one| one.state == State::Unknown);
            while unknown() && changes.changed().await.is_ok() {}
        };
        // Checks may take as long as they like: then those that are known begin.
        let _ = tokio::time::timeout(FIRST_VERDICTS, all).await;
    }
}
