//! The tasks that look at the data plane every second: counters for rates, flows past their time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use director_ebpf::abi::Reason;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::rates::{History, Measured};
use super::view::View;
use super::worker::Worker;
use crate::dataplane::{Counters, FlowTable, SweepReport};

/// How often they look.
const EVERY: Duration = Duration::from_secs(1);
/// Backends whose counters are read in one go: in between, others have their turn with the data plane.
const BATCH: usize = 1_000;

fn every_second() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(EVERY);
    // After a pause of the machine, what was missed is missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Reads the counters of all that the view shows.
pub(super) async fn measure(
    worker: Worker,
    view: watch::Receiver<Arc<View>>,
    measured: watch::Sender<Arc<Measured>>,
) {
    let mut history = History::default();
    let mut ticks = every_second();
    loop {
        ticks.tick().await;
        let (backends, services) = view.borrow().ids();
        match counters(&worker, backends, services).await {
            Ok(counters) => {
                history.push(Instant::now(), counters);
                measured.send_replace(Arc::new(history.measure()));
            }
            Err(error) => tracing::error!("cannot read counters: {error:#}"),
        }
    }
}

async fn counters(worker: &Worker, backends: Vec<u32>, services: Vec<u32>) -> Result<Counters> {
    let mut all = worker.ask(move |dataplane| dataplane.counters([], services)).await??;
    debug_assert_eq!(all.reasons.len(), Reason::COUNT);
    for batch in backends.chunks(BATCH) {
        let batch = batch.to_vec();
        let some = worker.ask(move |dataplane| dataplane.counters(batch, [])).await??;
        all.backends.extend(some.backends);
    }
    Ok(all)
}

/// Sweeps the flow table. The walk goes on in a thread of its own, beside the data plane's.
pub(super) async fn sweep(worker: Worker, table: Arc<FlowTable>, swept: watch::Sender<Arc<SweepReport>>) {
    let mut ticks = every_second();
    loop {
        ticks.tick().await;
        match sweep_once(&worker, &table).await {
            Ok(report) => drop(swept.send_replace(Arc::new(report))),
            Err(error) => tracing::error!("cannot sweep the flow table: {error:#}"),
        }
    }
}

async fn sweep_once(worker: &Worker, table: &Arc<FlowTable>) -> Result<SweepReport> {
    let now = worker.ask(|dataplane| dataplane.now()).await??;
    let walked = Arc::clone(table);
    let report = tokio::task::spawn_blocking(move || walked.sweep(now)).await?;
    worker.ask(|dataplane| dataplane.swept()).await?;
    Ok(report)
}
