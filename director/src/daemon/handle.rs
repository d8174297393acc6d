//! The director as the operator's socket sees it: what the tasks show of themselves, and the way to ask them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::body::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::core::Request;
use super::flows;
use super::health::Health;
use super::manager;
use super::pair::PairView;
use super::probing;
use super::rates::Measured;
use super::view::{Surroundings, View};
use super::worker::Worker;
use crate::api::server::{Director, Refusal};
use crate::api::types::{
    Event, FlowQuery, HandedOver, HandoverRequest, Held, HoldRequest, ProbeRequest, Probed, Reloaded, Status,
    StopRequest, Stopping, Weighed, WeightRequest,
};
use crate::dataplane::{FlowTable, MapErrors, SweepReport};
use crate::logging;

/// See the module.
pub(super) struct Handle {
    pub(super) config_path: String,
    pub(super) started: Instant,
    /// The same by the wall clock of that time.
    pub(super) began: SystemTime,
    pub(super) worker: Worker,
    pub(super) table: Arc<FlowTable>,
    pub(super) map_errors: Arc<MapErrors>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) health: Arc<Health>,
    pub(super) pair: Option<PairView>,
    pub(super) measured: watch::Receiver<Arc<Measured>>,
    pub(super) swept: watch::Receiver<Arc<SweepReport>>,
    /// Why HTTP is not served at the moment.
    pub(super) http_problem: watch::Receiver<Option<String>>,
    /// Held while metrics are made.
    pub(super) scrapes: Mutex<()>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) stops: mpsc::Sender<StopRequest>,
}

impl Handle {
    /// Asks the core, which answers in its turn.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Request,
    ) -> Result<T, Refusal> {
        let ending = || Refusal::new(false, "the director is ending".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }

    /// The status, with what the core shows of itself.
    pub(super) fn status_of(&self, view: &View) -> Status {
        let (measured, swept) = (self.measured.borrow().clone(), self.swept.borrow().clone());
        let around = Surroundings {
            config_path: self.config_path.clone(),
            uptime: self.started.elapsed(),
            places: self.table.places(),
            bytes: self.table.bytes(),
            seen: self.health.seen(),
            now: Instant::now(),
        };
        let mut status = view.status(&measured, &swept, around);
        if let Some(pair) = &self.pair {
            status.pair = Some(pair.status());
            status.vips = pair.vips(&view.config.vips);
        }
        status.problems = self.problems_of(view);
        status
    }

    fn problems_of(&self, view: &View) -> Vec<String> {
        let mut problems = view.problems.clone();
        if let Some(pair) = &self.pair {
            problems.extend(pair.problems());
        }
        problems.extend(logging::problem());
        problems.extend(self.http_problem.borrow().clone());
        problems
    }

    fn pair(&self) -> Result<&PairView, Refusal> {
        let alone = || {
            let error = "this director is alone: its configuration has no `heartbeat`".to_owned();
            Refusal::new(true, error)
        };
        self.pair.as_ref().ok_or_else(alone)
    }
}

/// Tells the service manager that a reload is under way, and of its end: also where it failed, for then all goes on as it was.
struct Reloading;

impl Reloading {
    fn begin() -> Reloading {
        manager::reloading();
        Reloading
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        manager::ready();
    }
}

impl Director for Handle {
    async fn status(&self) -> Result<Status, Refusal> {
        let view = self.view.borrow().clone();
        // With thousands of real servers it takes milliseconds: others have their turn meanwhile.
        Ok(tokio::task::block_in_place(|| self.status_of(&view)))
    }

    async fn problems(&self) -> Vec<String> {
        let view = self.view.borrow().clone();
        self.problems_of(&view)
    }

    async fn flows(&self, asked: FlowQuery) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let failed = |error: anyhow::Error| Refusal::new(false, format!("{error:#}"));
        let now = self.worker.ask(|dataplane| dataplane.now()).await.map_err(failed)?;
        let now = now.map_err(|error| failed(error.into()))?;
        let view = self.view.borrow().clone();
        flows::list(&view, Arc::clone(&self.table), now, &asked).map_err(|error| Refusal::new(true, error))
    }

    async fn reload(&self) -> Result<Reloaded, Refusal> {
        // Whoever asked may go away: the service manager is told of its end all the same.
        let _told = Reloading::begin();
        self.ask(Request::Reload).await
    }

    async fn weight(&self, asked: WeightRequest) -> Result<Weighed, Refusal> {
        self.ask(|reply| Request::Weight(asked, reply)).await
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        self.scrape().await
    }

    async fn events(&self, after: u64) -> Result<Vec<Event>, Refusal> {
        Ok(self.health.events().after(after))
    }

    async fn probe(&self, asked: ProbeRequest) -> Result<Vec<Probed>, Refusal> {
        let config = Arc::clone(&self.view.borrow().config);
        probing::run(&config, &self.health, &asked).await
    }

    async fn hand_over(&self, asked: HandoverRequest) -> Result<HandedOver, Refusal> {
        self.pair()?.hand_over(asked).await
    }

    async fn hold(&self, asked: HoldRequest) -> Result<Held, Refusal> {
        let held = self.pair()?.hold(asked).await?;
        // In force first, for it may be refused; then it is to outlive this process.
        self.ask(|reply| Request::Held(asked.hold, reply)).await?;
        Ok(held)
    }

    async fn stop(&self, asked: StopRequest) -> Result<Stopping, Refusal> {
        let ending = |_| Refusal::new(false, "the director is ending already".to_owned());
        self.stops.try_send(asked).map_err(ending)?;
        Ok(Stopping { pid: std::process::id() })
    }
}
