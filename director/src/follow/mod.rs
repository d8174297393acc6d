//! What the parts have in common that bring about what a group's role asks for: that they follow a level, and how they say how
//! far they are.
//!
//! Such a part is a future. It gets the level ("the group shall be active here") by a `watch` channel, does what leads there, one
//! thing at a time, and tries again what fails. It ends when nobody holds the level's sender any more, after what is under way.
//! Dropped before, it kills what it runs.

pub mod run;
#[cfg(test)]
pub(crate) mod scene;

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How far a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The group's name.
    pub group: String,
    /// The part: `command`, `dns`, `resources`.
    pub what: &'static str,
    /// What it is at or has done, in words.
    pub state: String,
    /// Since when that is so.
    pub since: Instant,
    /// The role that is in force: `true` is active. Nothing while the part is on its way, and where it failed.
    pub reached: Option<bool>,
    /// How often what it is at has failed, in a row.
    pub tries: u32,
    /// Why it failed last; nothing once it succeeds. At most about 3 KiB.
    pub failure: Option<String>,
}

impl Report {
    /// That of a part that has not begun.
    pub fn new(group: &str, what: &'static str) -> Report {
        let state = "not begun".to_owned();
        Report {
            group: group.to_owned(),
            what,
            state,
            since: Instant::now(),
            reached: None,
            tries: 0,
            failure: None,
        }
    }
}

/// The words of a role, as commands get them.
pub(crate) fn role(active: bool) -> &'static str {
    if active { "active" } else { "standby" }
}

/// Keeps a report, and logs what changes in it.
pub(crate) struct Journal(watch::Sender<Report>);

impl Journal {
    pub(crate) fn new(report: watch::Sender<Report>) -> Journal {
        Journal(report)
    }

    /// The role that is in force.
    pub(crate) fn reached(&self) -> Option<bool> {
        self.0.borrow().reached
    }

    /// The part is at something now, which may be what it was at before: then that is another try.
    pub(crate) fn at(&self, state: &str) {
        self.0.send_modify(|report| {
            if report.state != state {
                *report = Report {
                    state: state.into(),
                    since: Instant::now(),
                    tries: 0,
                    failure: None,
                    ..report.clone()
                };
            }
            report.reached = None;
        });
    }

    /// What the part is at failed. The role in force is not known any more.
    pub(crate) fn failed(&self, why: &str) {
        self.0.send_modify(|report| {
            // Once for each reason: a retry may come every second, for days.
            if report.failure.as_deref() != Some(why) {
                tracing::warn!(group = report.group, "{}, {}: {why}", report.what, report.state);
            }
            report.reached = None;
            report.tries = report.tries.saturating_add(1);
            report.failure = Some(why.to_owned());
        });
    }

    /// A role is in force. A failure on the way there that did not matter is still shown.
    pub(crate) fn done(&self, active: bool, state: &str, failure: Option<String>) {
        self.0.send_modify(|report| {
            if report.reached != Some(active) || report.state != state {
                tracing::info!(group = report.group, "{}: {state}", report.what);
                report.since = Instant::now();
            }
            report.state = state.into();
            report.reached = Some(active);
            report.tries = 0;
            report.failure = failure;
        });
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The level is another one.
    Turned,
    /// The time is up.
    Elapsed,
    /// There will be no other level.
    Over,
}

/// Waits until the level is not `was` any more.
pub(crate) async fn turn(wanted: &mut watch::Receiver<bool>, was: bool) -> Wait {
    match wanted.wait_for(|active| *active != was).await {
        Ok(_) => Wait::Turned,
        Err(_) => Wait::Over,
    }
}

/// The same, for some time at most.
pub(crate) async fn turn_within(wanted: &mut watch::Receiver<bool>, was: bool, time: Duration) -> Wait {
    tokio::time::timeout(time, turn(wanted, was)).await.unwrap_or(Wait::Elapsed)
}
