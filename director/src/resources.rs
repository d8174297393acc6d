//! What runs where a group is held (Heartbeat's haresources): started in order, stopped in the opposite one.
//!
//! Commands must bear being run again, as those of init scripts and `systemctl` do: a start of what runs already and a stop of what
//! does not are successes. They get `DIRECTOR_GROUP`, `DIRECTOR_ROLE` and `DIRECTOR_NODE` in their environment. Only one of a
//! group's commands runs at a time, and the role is looked at again after each.
//!
//! - **A start that fails** is tried again every 5 seconds, and those after it wait: they may need it.
//! - **A stop that fails** is logged and shown, and the others are still stopped. It is not tried again: nothing that is stopped
//!   later waits for it, and the new owner does not either.
//! - **A change of role in between** turns around from where the group is. All that may run is stopped: also what did not start
//!   properly.
//! - **At the director's start**, with the group standby, all are stopped: a crash may have left them running. Heartbeat does so,
//!   too.

use std::time::Duration;

use tokio::sync::watch;

use crate::follow::run::{Run, run};
use crate::follow::{Journal, Report, Wait, role, turn, turn_within};
use crate::model::heartbeat::Resource;

/// From a start that failed to the next try.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the group's role with its resources, until nobody holds the other end of `wanted`.
///
/// To replace a group's resources while it is active: say `false`, wait until `reached` of the report is `Some(false)`, and begin
/// anew with the new ones. `node` is this director's name.
pub async fn follow(
    group: String,
    resources: Vec<Resource>,
    node: String,
    wanted: watch::Receiver<bool>,
    report: watch::Sender<Report>,
) {
    follow_with(group, resources, node, wanted, report, RETRY).await;
}

async fn follow_with(
    group: String,
    resources: Vec<Resource>,
    node: String,
    mut wanted: watch::Receiver<bool>,
    report: watch::Sender<Report>,
    retry: Duration,
) {
    let journal = Journal::new(report);
    // Before the first command, nobody knows what a predecessor has left.
    let mut extent = Extent { up: 0, down_from: resources.len() };
    let mut unstopped = Unstopped::default();
    loop {
        let active = *wanted.borrow_and_update();
        if active {
            unstopped = Unstopped::default();
        }
        let Some((index, resource)) = extent.next(active, &resources) else {
            let state = if active { "all run" } else { "all are stopped" };
            if journal.reached() != Some(active) {
                journal.done(active, state, std::mem::take(&mut unstopped).text());
            }
            if turn(&mut wanted, active).await == Wait::Over {
                return;
            }
            continue;
        };
        let (name, place, all) = (&resource.name, index + 1, resources.len());
        let verb = if active { "starting" } else { "stopping" };
        journal.at(&format!("{verb} {name} ({place} of {all})"));
        let environment = [
            ("DIRECTOR_GROUP", group.clone()),
            ("DIRECTOR_ROLE", role(active).to_owned()),
            ("DIRECTOR_NODE", node.clone()),
        ];
        let command = if active { &resource.start } else { &resource.stop };
        let outcome =
            run(&Run { command, arguments: &[], environment: &environment, timeout: resource.timeout }).await;
        extent.ran(active, index, outcome.is_ok());
        let Err(why) = outcome else { continue };
        journal.failed(&why);
        if !active {
            unstopped.names.push(name.clone());
            unstopped.last = why;
        } else if turn_within(&mut wanted, active, retry).await == Wait::Over {
            return;
        }
    }
}

/// How many of the resources run, from the first one on.
struct Extent {
    /// So many are started.
    up: usize,
    /// So many may run: started, half started, or left by a predecessor. Never fewer.
    down_from: usize,
}

impl Extent {
    /// Whose turn it is; nobody's when all is as it should be.
    fn next<'a>(&self, active: bool, resources: &'a [Resource]) -> Option<(usize, &'a Resource)> {
        let index = if active { self.up } else { self.down_from.checked_sub(1)? };
        resources.get(index).map(|resource| (index, resource))
    }

    fn ran(&mut self, active: bool, index: usize, success: bool) {
        if active {
            self.down_from = self.down_from.max(index + 1);
            self.up += usize::from(success);
        } else {
            self.down_from = index;
            self.up = self.up.min(index);
        }
    }
}

/// Those whose stop failed.
#[derive(Default)]
struct Unstopped {
    names: Vec<String>,
    /// Why the last one's did.
    last: String,
}

impl Unstopped {
    fn text(self) -> Option<String> {
        let Unstopped { names, last } = self;
        (!names.is_empty())
            .then(|| format!("not stopped properly: {}; the last one: {last}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests;
