//! From counters to rates: the last ten seconds of them. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use director_ebpf::abi::{BackendStats, Reason, ServiceStats};

use crate::api::types::{Rates, Traffic};
use crate::dataplane::Counters;

/// What rates are a mean over.
const WINDOW: Duration = Duration::from_secs(10);
/// The most samples kept, should time go strangely.
const MOST_SAMPLES: usize = 16;

/// The counters of the last while.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(Instant, Counters)>,
}

/// What the counters say at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    /// By backend id.
    pub(super) backends: BTreeMap<u32, (Traffic, Rates)>,
    /// By service id.
    pub(super) services: BTreeMap<u32, ServiceStats>,
    /// By reason: how often, and how often each second.
    pub(super) reasons: Vec<(Reason, u64, f64)>,
}

impl History {
    /// Takes a sample in.
    pub(super) fn push(&mut self, now: Instant, counters: Counters) {
        self.samples.push_back((now, counters));
        // One sample older than the window stays, to be the one that is subtracted.
        while self.samples.len() > MOST_SAMPLES
            || self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// The latest sample, and what it has grown by.
    pub(super) fn measure(&self) -> Measured {
        let Some((now, last)) = self.samples.back() else { return Measured::default() };
        let backends = last.backends.iter().map(|(&id, stats)| {
            let first =
                self.samples.iter().find_map(|(at, counters)| Some((at, counters.backends.get(&id)?)));
            let rates = first.map_or(Rates::default(), |(at, first)| rates(first, stats, *now - *at));
            (id, (traffic(stats), rates))
        });
        let reasons = Reason::ALL.iter().map(|&reason| {
            let count = last.reason(reason);
            let rate = self
                .samples
                .front()
                .map_or(0.0, |(at, first)| each_second(first.reason(reason), count, *now - *at));
            (reason, count, rate)
        });
        Measured { backends: backends.collect(), services: last.services.clone(), reasons: reasons.collect() }
    }
}

fn traffic(stats: &BackendStats) -> Traffic {
    let BackendStats { packets_in, bytes_in, packets_out, bytes_out, new_flows } = *stats;
    Traffic { packets_in, bytes_in, packets_out, bytes_out, new_flows }
}

fn rates(first: &BackendStats, last: &BackendStats, time: Duration) -> Rates {
    Rates {
        packets_in: each_second(first.packets_in, last.packets_in, time),
        bits_in: each_second(first.bytes_in, last.bytes_in, time) * 8.0,
        packets_out: each_second(first.packets_out, last.packets_out, time),
        bits_out: each_second(first.bytes_out, last.bytes_out, time) * 8.0,
        new_flows: each_second(first.new_flows, last.new_flows, time),
    }
}

/// Counters that went backwards (a data plane made anew) say nothing.
fn each_second(first: u64, last: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { last.saturating_sub(first) as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(packets_in: u64) -> Counters {
        let stats = BackendStats { packets_in, bytes_in: packets_in * 100, ..BackendStats::default() };
        let mut reasons = vec![0; Reason::COUNT];
        reasons[Reason::DropNoReal as usize] = packets_in;
        Counters { backends: BTreeMap::from([(1, stats)]), services: BTreeMap::new(), reasons }
    }

    #[test]
    fn a_rate_is_a_mean_over_the_window() {
        let start = Instant::now();
        let mut history = History::default();
        assert_eq!(history.measure(), Measured::default());
        history.push(start, counters(7));
        assert_eq!(history.measure().backends[&1].1, Rates::default());
        // 50 a second for 20 seconds, then nothing for five.
        for second in 1..=25u64 {
            history.push(start + Duration::from_secs(second), counters(7 + 50 * second.min(20)));
        }
        let measured = history.measure();
        let (traffic, rates) = measured.backends[&1];
        assert_eq!((traffic.packets_in, traffic.bytes_in), (1007, 100_700));
        assert_eq!((rates.packets_in, rates.bits_in, rates.new_flows), (25.0, 20_000.0, 0.0));
        let (_, count, rate) = measured.reasons[Reason::DropNoReal as usize];
        assert_eq!((count, rate), (1007, 25.0));
    }

    #[test]
    fn counters_that_start_anew_or_late_make_no_nonsense() {
        let start = Instant::now();
        let mut history = History::default();
        history.push(start, Counters::default());
        history.push(start + Duration::from_secs(1), counters(1000));
        assert_eq!(history.measure().backends[&1].1, Rates::default());
        history.push(start + Duration::from_secs(2), counters(10));
        assert_eq!(history.measure().backends[&1].1, Rates::default());
    }
}
