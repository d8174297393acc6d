//! What probes at a steady pace saw. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How probes fared, in the order of their sending. All times in it are since `begun`.
#[derive(Clone, Debug)]
pub struct Probes {
    /// When the first was to be sent.
    pub begun: Instant,
    /// From one to the next, as it should be.
    pub every: Duration,
    /// The probes.
    pub probes: Vec<Probe>,
    /// Answers to what had been answered already.
    pub duplicates: u64,
    /// Whether they were sent at real-time priority: without it, a loaded machine shows as stalls.
    pub realtime: bool,
}

/// A single probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent.
    pub sent: Duration,
    /// When it was answered, if it was.
    pub answered: Option<Duration>,
    /// The host that answered, where the answer says so.
    pub real: Option<String>,
}

/// A time without answered probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first probe in it was due: an interval after the sending of the last answered one.
    pub from: Duration,
    /// From then to the sending of the next answered one.
    pub length: Duration,
    /// How many probes of it were not answered. None: they were sent late, and nothing was lost.
    pub lost: u64,
}

impl Probes {
    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.probes.len() as u64
    }

    /// How many were not answered.
    pub fn lost(&self) -> u64 {
        self.probes.iter().filter(|probe| probe.answered.is_none()).count() as u64
    }

    /// The largest time between two consecutive answered probes' sendings, less the interval: how long the service was out, to
    /// about an interval. One that lasts from the start or to the end counts as far as there were probes.
    pub fn longest_gap(&self) -> Duration {
        self.gaps().map(|gap| gap.length).max().unwrap_or_default()
    }

    /// All gaps that are longer.
    pub fn gaps_over(&self, length: Duration) -> Vec<Gap> {
        self.gaps().filter(|gap| gap.length > length).collect()
    }

    /// The longest time between two answers' arrivals. Longer than the gap where what was under way came late: the kernel keeps
    /// packets for a neighbour that it is asking for.
    pub fn longest_silence(&self) -> Duration {
        let mut arrivals: Vec<Duration> = self.probes.iter().filter_map(|probe| probe.answered).collect();
        arrivals.sort();
        arrivals.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// The largest time between two sendings, less the interval: a gap that is no longer may be the prober's own.
    pub fn longest_stall(&self) -> Duration {
        let stalls = self.probes.windows(2).map(|pair| pair[1].sent - pair[0].sent);
        stalls.max().unwrap_or_default().saturating_sub(self.every)
    }

    /// The longest time that an answer took.
    pub fn slowest(&self) -> Duration {
        let times = self.probes.iter().filter_map(|probe| Some(probe.answered? - probe.sent));
        times.max().unwrap_or_default()
    }

    /// Who answered how many.
    pub fn by_real(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for real in self.probes.iter().filter_map(|probe| probe.real.as_ref()) {
            *counts.entry(real.clone()).or_default() += 1;
        }
        counts
    }

    fn gaps(&self) -> impl Iterator<Item = Gap> {
        // As if one just before the first and one just after the last had been answered.
        let after = self.probes.last().map(|last| (last.sent + self.every, true));
        let mut due = self.probes.first().map(|first| first.sent).unwrap_or_default();
        let mut lost = 0;
        let all = self.probes.iter().map(|probe| (probe.sent, probe.answered.is_some())).chain(after);
        all.filter_map(move |(sent, answered)| {
            if !answered {
                lost += 1;
                return None;
            }
            let gap = Gap { from: due, length: sent.saturating_sub(due), lost };
            (due, lost) = (sent + self.every, 0);
            (!gap.length.is_zero()).then_some(gap)
        })
    }
}

impl fmt::Display for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gap, stall) = (self.longest_gap(), self.longest_stall());
        write!(
            f,
            "{} sent, {} lost, longest gap {gap:?}, longest stall {stall:?}",
            self.sent(),
            self.lost()
        )?;
        self.by_real().iter().try_for_each(|(real, count)| write!(f, ", {real} {count}"))?;
        let mut losses = self.gaps().filter(|gap| gap.lost > 0);
        losses.try_for_each(|gap| write!(f, ", {} lost after {:?}", gap.lost, gap.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Probes sent at these milliseconds; those that are marked were answered 1 ms later.
    fn probes(sent: &[(u32, bool)]) -> Probes {
        let probe = |(sent, answered): &(u32, bool)| Probe {
            sent: MS * *sent,
            answered: answered.then(|| MS * (*sent + 1)),
            real: answered.then(|| "real1".to_owned()),
        };
        Probes {
            begun: Instant::now(),
            every: MS * 10,
            probes: sent.iter().map(probe).collect(),
            duplicates: 0,
            realtime: true,
        }
    }

    #[test]
    fn an_outage_is_as_long_as_the_probes_that_were_lost() {
        let seen = probes(&[(0, true), (10, true), (20, false), (30, false), (40, true), (50, true)]);
        assert_eq!((seen.sent(), seen.lost(), seen.longest_gap()), (6, 2, MS * 20));
        assert_eq!(seen.gaps_over(MS * 19), [Gap { from: MS * 20, length: MS * 20, lost: 2 }]);
        assert_eq!(seen.gaps_over(MS * 20), []);
        assert_eq!(
            (seen.longest_silence(), seen.slowest(), seen.longest_stall()),
            (MS * 30, MS, Duration::ZERO)
        );
        assert_eq!(seen.by_real(), BTreeMap::from([("real1".to_owned(), 4)]));
    }

    #[test]
    fn a_gap_without_an_end_counts_as_far_as_there_were_probes() {
        assert_eq!(probes(&[(0, true), (10, false), (20, false)]).longest_gap(), MS * 20);
        assert_eq!(probes(&[(0, false), (10, false), (20, true)]).gaps_over(Duration::ZERO)[0].lost, 2);
        assert_eq!(probes(&[(10, false), (20, false), (30, true)]).longest_gap(), MS * 20);
        assert_eq!(probes(&[(10, false), (20, false), (30, false)]).longest_gap(), MS * 30);
        assert_eq!((probes(&[]).longest_gap(), probes(&[]).sent()), (Duration::ZERO, 0));
    }

    #[test]
    fn a_late_prober_is_told_from_a_loss() {
        let late = probes(&[(0, true), (10, true), (45, true)]);
        assert_eq!((late.longest_gap(), late.longest_stall(), late.lost()), (MS * 25, MS * 25, 0));
        assert_eq!(late.gaps_over(MS)[0].lost, 0);
    }
}
