//! A limit to repairs: whoever else keeps changing an address is not to keep this thread busy. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The most changes of one address in a [`WINDOW`].
const MOST_CHANGES: u32 = 10;

/// How long changes are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Changes by device and address: since when they are counted, and how many there were.
#[derive(Debug, Default)]
pub struct Patience(BTreeMap<(String, IpAddr), (Instant, u32)>);

impl Patience {
    /// Counts a change, and says whether it may be made.
    pub fn allows(&mut self, place: &(String, IpAddr), now: Instant) -> bool {
        let (_, count) = self.0.entry(place.clone()).or_insert((now, 0));
        *count += 1;
        *count <= MOST_CHANGES
    }

    /// Forgets what was counted in windows that are over.
    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
    }

    /// When the first of those that were put off may be made.
    pub fn over(&self) -> Option<Instant> {
        let put_off = self.0.values().filter(|(_, count)| *count > MOST_CHANGES);
        put_off.map(|(since, _)| *since + WINDOW).min()
    }
}
