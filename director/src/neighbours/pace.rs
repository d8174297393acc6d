//! How fast probes may leave. Pure.

use std::time::{Duration, Instant};

/// The most probes that leave in a second, over any length of time.
pub const MAX_PROBES_PER_SECOND: u32 = 2_000;

/// How many may leave at once after a pause, on top of [`MAX_PROBES_PER_SECOND`].
pub const BURST: u32 = 100;

/// The share of [`MAX_PROBES_PER_SECOND`] that asks next hops which answer; the rest looks for those that do
/// not.
const ROUTINE_PER_SECOND: u32 = 1_500;

/// Between two probes of a next hop that answers, while there are few.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(300);

/// Between two probes of a next hop that has not answered for a while.
const SILENT_INTERVAL: Duration = Duration::from_secs(1);

/// How many probes in a row stay unanswered before a next hop is asked less often.
const EAGER_PROBES: u32 = 4;

/// Between two probes out of a long row.
const STEP: Duration = Duration::from_nanos(1_000_000_000 / MAX_PROBES_PER_SECOND as u64);

/// Between two probes of a next hop that answers, where there are `hops` of them: [`PROBE_INTERVAL`] up to
/// 450, then growing with their number, to 6.7 s for 10,000.
pub fn interval(hops: usize) -> Duration {
    let routine = Duration::from_secs(1) / ROUTINE_PER_SECOND;
    routine.saturating_mul(u32::try_from(hops).unwrap_or(u32::MAX)).max(PROBE_INTERVAL)
}

/// How long to wait for an answer before the next probe, where `unanswered` went out in a row.
pub fn patience(unanswered: u32, hops: usize) -> Duration {
    if unanswered <= EAGER_PROBES { PROBE_INTERVAL } else { interval(hops).max(SILENT_INTERVAL) }
}

/// A bucket that holds [`BURST`] probes and fills at [`MAX_PROBES_PER_SECOND`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    ready: Instant,
}

impl Pace {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { ready: full(now) }
    }

    /// Takes leave for one probe; false while there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let leave = self.ready <= now;
        if leave {
            self.ready = self.ready.max(full(now)) + STEP;
        }
        leave
    }

    /// When the next probe may leave.
    pub fn ready(&self) -> Instant {
        self.ready
    }
}

/// When a bucket that is full now would have been ready for its first probe.
fn full(now: Instant) -> Instant {
    now.checked_sub(STEP * (BURST - 1)).unwrap_or(now)
}
