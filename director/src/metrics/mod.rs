//! What is measured, as Prometheus reads it. Pure: everything here was measured already, each second, for `director status`.
//!
//! The table in docs/guide/metrics.md is made of the definitions here; a test holds them against each other.

mod cluster;
mod dataplane;
mod page;
mod process;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

pub use process::{Own, Reloads};

use crate::api::types::Status;
use crate::health::Tally;
use crate::pool::RealKey;
use page::Page;

/// What the metrics are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What `director status` shows.
    pub status: Status,
    /// Which real servers take new flows, in the status's order.
    pub serving: Vec<Vec<bool>>,
    /// Which services' clients this director serves, in the same order.
    pub active: Vec<bool>,
    /// What was counted of the checks.
    pub tallies: HashMap<RealKey, Tally>,
    /// What this process takes, as far as the system tells.
    pub own: Option<Own>,
    /// When this process started.
    pub started: SystemTime,
    /// What came of reloads.
    pub reloads: Reloads,
    /// Operations on maps that failed: map, operation, how often.
    pub map_errors: Vec<(&'static str, &'static str, u64)>,
    /// Lines that the log lost.
    pub log_lines_lost: u64,
    /// Changes of roles in the cluster.
    pub moves: Moves,
    /// By group: when it was taken here last, and how long that took.
    pub takeovers: Vec<(String, SystemTime, Duration)>,
}

/// How often each group's role became this one for this reason ([`crate::heartbeat::election::Why::kind`]): group, role, reason.
pub type Moves = BTreeMap<(String, &'static str, &'static str), u64>;

/// About so much text is made of a real server, and of all else.
const ROOM: (usize, usize) = (2_500, 32_768);

/// The metrics, in the text format 0.0.4.
pub fn text(sources: &Sources) -> String {
    let reals: usize = sources.serving.iter().map(Vec::len).sum();
    let mut page = Page::with_room(reals * ROOM.0 + ROOM.1);
    process::write(&mut page, sources);
    services::write(&mut page, sources);
    dataplane::write(&mut page, sources);
    if let Some(pair) = &sources.status.pair {
        cluster::write(&mut page, pair, sources);
    }
    page.into_text()
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod tests;
