//! Takes and releases a group by a command: for clouds, routers and whatever else moves addresses in its own way.
//!
//! The command gets the group's name, the role and the group's addresses as its last arguments:
//!
//! ```text
//! COMMAND… GROUP active|standby ADDRESS…
//! ```
//!
//! and the same in its environment: `DIRECTOR_GROUP`, `DIRECTOR_ROLE`, `DIRECTOR_ADDRESSES` (with spaces between them) and, beside,
//! `DIRECTOR_NODE`, this director's name. It must be possible to run it again: it is run with a role that is in force already
//! after a reload, and after a failure.
//!
//! A failure is tried again after a while, until it succeeds or the role changes. If the role changes while a run is under way, that
//! run comes to its end first, and then only the newest role counts. A director that starts runs the standby role once, so that
//! what a crash has left behind is undone.

use std::net::IpAddr;

use tokio::sync::watch;

use crate::follow::run::{Run, run};
use crate::follow::{Journal, Report, Wait, role, turn, turn_within};
use crate::model::heartbeat::TakeoverCommand;

/// Follows the group's role by a command, until nobody holds the other end of `wanted`.
///
/// What `wanted` says first is brought about, too: with `false`, as at the director's start, the standby role is run once. When
/// that has succeeded, `reached` of the report is `Some(false)`. `node` is this director's name, `addresses` are the group's.
pub async fn follow(
    group: String,
    addresses: Vec<IpAddr>,
    takeover: TakeoverCommand,
    node: String,
    mut wanted: watch::Receiver<bool>,
    report: watch::Sender<Report>,
) {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let journal = Journal::new(report);
    loop {
        let active = *wanted.borrow_and_update();
        let wait = if journal.reached() == Some(active) {
            turn(&mut wanted, active).await
        } else {
            let role = role(active);
            journal.at(&format!("becoming {role}"));
            match take(&group, role, &addresses, &takeover, &node).await {
                Ok(()) => {
                    journal.done(active, role, None);
                    continue;
                }
                Err(why) => journal.failed(&why),
            }
            turn_within(&mut wanted, active, takeover.retry).await
        };
        if wait == Wait::Over {
            return;
        }
    }
}

async fn take(
    group: &str,
    role: &str,
    addresses: &[String],
    takeover: &TakeoverCommand,
    node: &str,
) -> Result<(), String> {
    let mut arguments = vec![group.to_owned(), role.to_owned()];
    arguments.extend_from_slice(addresses);
    let environment = [
        ("DIRECTOR_GROUP", group.to_owned()),
        ("DIRECTOR_ROLE", role.to_owned()),
        ("DIRECTOR_ADDRESSES", addresses.join(" ")),
        ("DIRECTOR_NODE", node.to_owned()),
    ];
    let TakeoverCommand { command, timeout, .. } = takeover;
    run(&Run { command, arguments: &arguments, environment: &environment, timeout: *timeout }).await
}

#[cfg(test)]
mod tests;
