//! `director probe`: a service's checks, once, now, beside the scheduled ones. They change no verdict.

use std::sync::Arc;

use healthcheck::{Outcome, Probe};
use tokio::sync::Semaphore;

use super::health::Health;
use crate::api::server::Refusal;
use crate::api::types::{ProbeRequest, Probed};
use crate::model::Config;
use crate::pool::{self, RealKey};

/// The most at a time.
const MOST: usize = 64;

/// Runs them; the answers come in the configuration's order.
pub(super) async fn run(
    config: &Config,
    health: &Health,
    asked: &ProbeRequest,
) -> Result<Vec<Probed>, Refusal> {
    let misuse = |error: String| Refusal::new(true, error);
    let keys = match &asked.real {
        Some(real) => {
            vec![pool::resolve(config, &asked.service, real).map_err(|error| misuse(error.to_string()))?]
        }
        None => {
            let service = pool::service(config, &asked.service).map_err(|error| misuse(error.to_string()))?;
            service.reals.iter().map(|real| RealKey::new(&service.name, real)).collect()
        }
    };
    let mut running = Vec::new();
    let room = Arc::new(Semaphore::new(MOST));
    for key in &keys {
        for probe in health.probes(key) {
            let spawned = Arc::clone(&probe);
            let room = Arc::clone(&room);
            let run = async move {
                let _permit = room.acquire().await;
                healthcheck::probe::run(&spawned).await
            };
            running.push((key, probe, tokio::spawn(run)));
        }
    }
    if running.is_empty() {
        return Err(misuse(format!(
            "service {:?} has no checks: every real server counts as up",
            asked.service
        )));
    }
    let mut all = Vec::new();
    for (key, probe, task) in running {
        let outcome =
            task.await.map_err(|error| Refusal::new(false, format!("the probe itself failed: {error}")))?;
        all.push(told(key, &probe, &outcome));
    }
    Ok(all)
}

fn told(key: &RealKey, probe: &Probe, outcome: &Outcome) -> Probed {
    let milliseconds = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let steps = outcome.steps.iter().map(|step| (milliseconds(step.at), step.what.clone()));
    Probed {
        real: key.real(),
        check: probe.check.name().to_owned(),
        target: probe.target.real.to_string(),
        via_vip: probe.target.mark != 0,
        passed: outcome.result.is_ok(),
        reason: outcome.result.as_ref().err().map(ToString::to_string),
        weight: outcome.result.as_ref().ok().and_then(|success| success.weight),
        steps: steps.collect(),
        milliseconds: milliseconds(outcome.took),
    }
}
