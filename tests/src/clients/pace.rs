//! Deadlines at a fixed pace, and threads that keep them.

use std::time::{Duration, Instant};

/// Deadlines `begun`, `begun + every`, `begun + 2 every`, …: one that is noticed late does not shift the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    pub(super) fn new(begun: Instant, every: Duration) -> Pace {
        Pace { next: begun, every: every.max(Duration::from_micros(1)) }
    }

    /// Whether a deadline has come; the next one is then in the future. Those that were missed are left out: what is sent
    /// late all at once would measure nothing.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        let passed = (now - self.next).as_nanos() / self.every.as_nanos() + 1;
        self.next += self.every * u32::try_from(passed).unwrap_or(u32::MAX);
        true
    }

    /// How long it is until the next deadline.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }
}

/// Gives the calling thread real-time priority (SCHED_FIFO, sched(7)), so that what it measures is not its own waiting for a
/// CPU; says whether that was permitted.
pub(super) fn be_punctual() -> bool {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameter while it lasts; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_look_does_not_shift_what_follows() {
        let begun = Instant::now();
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut pace = Pace::new(begun, Duration::from_millis(10));
        assert!(pace.is_due(at(0)) && !pace.is_due(at(9)));
        assert!(pace.is_due(at(37)));
        assert_eq!(pace.left(at(37)), Duration::from_millis(3));
        assert!(!pace.is_due(at(39)) && pace.is_due(at(40)));
    }
}
