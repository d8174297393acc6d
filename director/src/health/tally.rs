//! How often a real server was checked, how long that took, and what came of it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use healthcheck::Outcome;

/// Upper bounds of durations that are told apart, in seconds: a check in the same rack takes less than the first one, one that times
/// out more than the last one but one. Few, since each real server has all of them.
pub const BOUNDS: [f64; 6] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5];

/// What is counted of a real server since it is watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// How long its checks took, those that failed too.
    pub took: Durations,
    /// Checks that failed, by [`healthcheck::Failure::kind`].
    pub failures: BTreeMap<&'static str, u64>,
    /// Changes of its state.
    pub changes: u64,
}

/// Durations, counted by size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// By the bounds, and beyond the last one.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Tally {
    /// Counts what came of a check.
    pub fn take(&mut self, outcome: &Outcome) {
        self.took.take(outcome.took);
        if let Err(failure) = &outcome.result {
            *self.failures.entry(failure.kind()).or_default() += 1;
        }
    }
}

impl Durations {
    fn take(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let size = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[size] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many were not longer than each of the bounds.
    pub fn at_most(&self) -> impl Iterator<Item = u64> {
        self.counts[..BOUNDS.len()].iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use healthcheck::{Failure, Success};

    use super::*;

    #[test]
    fn durations_and_failures_add_up() {
        let mut tally = Tally::default();
        let outcome =
            |result, micros| Outcome { result, steps: Vec::new(), took: Duration::from_micros(micros) };
        for micros in [200, 1_000, 1_001] {
            tally.take(&outcome(Ok(Success::default()), micros));
        }
        tally.take(&outcome(Err(Failure::Status(503)), 30_000_000));
        tally.take(&outcome(Err(Failure::Status(500)), 500_000));
        assert_eq!(tally.took.at_most().collect::<Vec<_>>(), [2, 3, 3, 3, 4, 4]);
        assert_eq!((tally.took.count(), tally.took.sum()), (5, Duration::from_micros(30_502_201)));
        assert_eq!(tally.failures, BTreeMap::from([("status", 2)]));
    }
}
