//! Runs many probes on time: each when it is due, no more than so many at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{Id, JoinError, JoinSet};

use crate::outcome::{Failure, Outcome};
use crate::probe;
use crate::schedule::{Rhythm, Schedule};
use crate::spec::Probe;

/// A probe that has run.
#[derive(Debug)]
pub struct Ran {
    /// Which.
    pub probe: Arc<Probe>,
    /// What came of it.
    pub outcome: Outcome,
    /// How long after its time it began: the runner was busy, or at its limit.
    pub late: Duration,
}

/// The probes, and those that run.
#[derive(Debug)]
pub struct Runner {
    schedule: Schedule<Arc<Probe>>,
    running: JoinSet<Ran>,
    by_task: HashMap<Id, Arc<Probe>>,
    in_flight: usize,
}

impl Runner {
    /// Nothing to run yet. `in_flight`: the most probes at a time.
    pub fn new(in_flight: usize) -> Runner {
        Runner {
            schedule: Schedule::default(),
            running: JoinSet::new(),
            by_task: HashMap::new(),
            in_flight: in_flight.max(1),
        }
    }

    /// Runs these from now on, and no others. Those that stay keep their times.
    pub fn follow(&mut self, wanted: &[(Arc<Probe>, Rhythm)], in_flight: usize) {
        self.in_flight = in_flight.max(1);
        self.schedule.follow(wanted, Instant::now());
    }

    /// The next probe that has run. To be told by [`Runner::again`] what to do with it. Waits for ever where there is none to run.
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Ran {
        loop {
            self.start_those_due();
            let due = if self.running.len() < self.in_flight { self.schedule.next_due() } else { None };
            let until = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(ran) = self.running.join_next_with_id() => {
                    if let Some(ran) = self.ended(ran) {
                        return ran;
                    }
                }
                () = until => {}
            }
        }
    }

    fn ended(&mut self, ran: Result<(Id, Ran), JoinError>) -> Option<Ran> {
        match ran {
            Ok((id, ran)) => {
                self.by_task.remove(&id);
                Some(ran)
            }
            // A panic in a probe is a bug in it; the others go on, and it gets its next turn.
            Err(error) => {
                let probe = self.by_task.remove(&error.id())?;
                tracing::error!(%probe, %error, "a probe failed to run");
                let result = Err(Failure::Local("the probe itself failed, which is a bug".into()));
                let outcome = Outcome { result, steps: Vec::new(), took: Duration::ZERO };
                Some(Ran { probe, outcome, late: Duration::ZERO })
            }
        }
    }

    fn start_those_due(&mut self) {
        let now = Instant::now();
        while self.running.len() < self.in_flight {
            let Some((probe, due)) = self.schedule.due(now) else { return };
            let named = Arc::clone(&probe);
            let task = self.running.spawn(async move {
                let late = Instant::now().saturating_duration_since(due);
                let outcome = probe::run(&probe).await;
                Ran { probe, outcome, late }
            });
            self.by_task.insert(task.id(), named);
        }
    }

    /// A probe gets its next turn; a sooner one while its verdict is changing. Says whether it is still wanted.
    pub fn again(&mut self, probe: &Arc<Probe>, fast: bool) -> bool {
        self.schedule.ran(probe, fast, Instant::now())
    }
}
