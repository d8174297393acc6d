//! The service manager that started the daemon, if one did (sd_notify(3)): it is told when the director is ready, reloads and ends, how it
//! does, and that it is alive: for as long as the core and the data plane's thread answer.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, timeout};

use super::core::Request;
use super::handle::Handle;
use crate::api::server::Director;
use crate::api::types::Status;

/// How often it is told how the director does, where it does not want to hear more often that it is alive.
const EVERY: Duration = Duration::from_secs(5);
/// The most of a problem that is shown to it.
const MOST_TEXT: usize = 200;

/// The director is up: it forwards, and answers.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It begins to read its configuration again; [`ready`] ends that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ends")]);
}

/// Tells how the director does, and that it is alive, for ever.
pub(super) async fn attend(handle: Arc<Handle>) {
    let watched = sd_notify::watchdog_enabled();
    // Twice in the time after which it would be taken for dead, as sd_watchdog_enabled(3) proposes.
    let every = watched.map_or(EVERY, |limit| (limit / 2).min(EVERY));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut silent) = (String::new(), false);
    loop {
        ticks.tick().await;
        if let Err(who) = alive(&handle, every).await {
            if !silent {
                tracing::error!(
                    "{who} does not answer: the service manager is not told that the director is alive"
                );
            }
            silent = true;
            continue;
        }
        silent = false;
        if watched.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let Ok(status) = handle.status().await else { continue };
        let summary = summary(&status);
        if summary != said {
            tell(&[NotifyState::Status(&summary)]);
            said = summary;
        }
    }
}

/// Whether those answer in time without whom nothing is decided or written; if not, who.
async fn alive(handle: &Handle, patience: Duration) -> Result<(), &'static str> {
    let core = timeout(patience, handle.ask(Request::Alive)).await;
    core.ok().and_then(Result::ok).ok_or("the core task")?;
    let worker = timeout(patience, handle.worker.ask(|_| ())).await;
    worker.ok().and_then(Result::ok).ok_or("the data plane's thread")
}

/// Without a service manager there is nobody to tell.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}

/// One line for people who ask the service manager.
fn summary(status: &Status) -> String {
    let reals = || status.services.iter().flat_map(|service| &service.reals);
    let up = |real: &&crate::api::types::RealStatus| {
        real.reachable && real.health.as_ref().is_none_or(|health| health.state == "up")
    };
    let mut text = format!(
        "{}, {} of {} up",
        counted(status.services.len(), "service"),
        reals().filter(up).count(),
        counted(reals().count(), "real server")
    );
    if let Some(first) = status.problems.first() {
        let first: String =
            first.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_TEXT).collect();
        text += &format!("; {}: {first}", counted(status.problems.len(), "problem"));
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
