//! When probes are due. Pure: `now` comes in, keys come out.
//!
//! A probe's times are those of its first run plus whole intervals, so that a slow answer shifts nothing. One that is still
//! running when it is due again runs again as soon as it has ended: silence is found out no later than a refusal, counted in
//! probes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often a probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From one start to the next.
    pub interval: Duration,
    /// The same while its verdict is changing.
    pub fast: Duration,
}

/// The first runs of many probes are this far apart, as far as their intervals allow.
const APART: Duration = Duration::from_millis(1);

/// Who is due when.
#[derive(Debug)]
pub struct Schedule<K> {
    entries: HashMap<K, Entry>,
    /// Turns to come; those whose number is not the entry's any more are void.
    turns: BinaryHeap<Reverse<(Instant, u64)>>,
    keys: HashMap<u64, K>,
    numbers: u64,
}

#[derive(Debug)]
struct Entry {
    rhythm: Rhythm,
    /// The turn that comes next, or that runs now.
    due: Instant,
    number: u64,
    running: bool,
}

impl<K: Clone + Eq + Hash> Default for Schedule<K> {
    fn default() -> Self {
        Schedule { entries: HashMap::new(), turns: BinaryHeap::new(), keys: HashMap::new(), numbers: 0 }
    }
}

impl<K: Clone + Eq + Hash> Schedule<K> {
    /// Follows these from now on, and no others. Those that stay keep their times; new ones are spread.
    pub fn follow(&mut self, wanted: &[(K, Rhythm)], now: Instant) {
        let kept: HashMap<&K, Rhythm> = wanted.iter().map(|(key, rhythm)| (key, *rhythm)).collect();
        self.entries.retain(|key, _| kept.contains_key(key));
        let new = wanted.iter().filter(|(key, _)| !self.entries.contains_key(key)).count() as u32;
        let mut place = 0;
        for (key, rhythm) in wanted {
            match self.entries.get_mut(key) {
                Some(entry) => entry.rhythm = *rhythm,
                None => {
                    let spread = rhythm.interval.min(APART * new);
                    self.add(key.clone(), *rhythm, now + spread * place / new);
                    place += 1;
                }
            }
        }
        let entries = &self.entries;
        self.keys.retain(|number, key| entries.get(key).is_some_and(|entry| entry.number == *number));
    }

    fn add(&mut self, key: K, rhythm: Rhythm, due: Instant) {
        self.entries.insert(key.clone(), Entry { rhythm, due, number: 0, running: false });
        self.turn(key, due);
    }

    fn turn(&mut self, key: K, due: Instant) {
        self.numbers += 1;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.keys.remove(&entry.number);
        (entry.due, entry.number) = (due, self.numbers);
        self.keys.insert(self.numbers, key);
        self.turns.push(Reverse((due, self.numbers)));
    }

    /// When the next one is due.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, number))) = self.turns.peek() {
            if self.keys.contains_key(number) {
                return Some(*due);
            }
            self.turns.pop();
        }
        None
    }

    /// One that is due, and when it was; it runs from now on.
    pub fn due(&mut self, now: Instant) -> Option<(K, Instant)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let Reverse((_, number)) = self.turns.pop()?;
        let key = self.keys.remove(&number)?;
        self.entries.get_mut(&key)?.running = true;
        Some((key, due))
    }

    /// One has run; `fast` while its verdict is changing. It gets its next turn. Says whether it is followed still.
    pub fn ran(&mut self, key: &K, fast: bool, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if !entry.running {
            return true; // it was dropped and taken up again meanwhile, and has its turn
        }
        entry.running = false;
        let step = if fast { entry.rhythm.fast } else { entry.rhythm.interval };
        let due = (entry.due + step).max(now);
        self.turn(key.clone(), due);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RHYTHM: Rhythm = Rhythm { interval: Duration::from_secs(2), fast: Duration::from_secs(1) };

    fn all_due(schedule: &mut Schedule<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| schedule.due(now)).map(|(key, _)| key).collect()
    }

    #[test]
    fn times_do_not_drift_and_a_slow_one_runs_again_at_once() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&[(1, RHYTHM)], start);
        assert_eq!(all_due(&mut schedule, start), [1]);
        assert_eq!(schedule.next_due(), None, "it runs");
        schedule.ran(&1, false, start + SECOND / 2);
        assert_eq!(schedule.next_due(), Some(start + 2 * SECOND));
        assert_eq!(all_due(&mut schedule, start + 2 * SECOND), [1]);
        schedule.ran(&1, false, start + 5 * SECOND);
        assert_eq!(schedule.next_due(), Some(start + 5 * SECOND));
    }

    #[test]
    fn a_changing_verdict_is_looked_at_sooner() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&[(1, RHYTHM)], start);
        all_due(&mut schedule, start);
        schedule.ran(&1, true, start);
        assert_eq!(schedule.next_due(), Some(start + SECOND));
    }

    #[test]
    fn first_runs_are_spread_and_those_that_stay_keep_their_times() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let many: Vec<(u32, Rhythm)> = (0..5000).map(|key| (key, RHYTHM)).collect();
        schedule.follow(&many, start);
        assert_eq!(all_due(&mut schedule, start).len(), 1);
        assert!((2490..=2510).contains(&(all_due(&mut schedule, start + SECOND).len() + 1)));
        schedule.follow(&[(4999, RHYTHM), (9999, RHYTHM)], start + SECOND);
        assert_eq!(all_due(&mut schedule, start + SECOND), [9999]);
        assert_eq!(all_due(&mut schedule, start + 2 * SECOND), [4999]);
        assert!(!schedule.ran(&3, false, start + 2 * SECOND), "nobody follows it any more");
    }

    #[test]
    fn one_that_is_dropped_while_it_runs_and_taken_up_again_has_one_turn() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&[(1, RHYTHM)], start);
        all_due(&mut schedule, start);
        schedule.follow(&[], start);
        schedule.follow(&[(1, RHYTHM)], start);
        assert!(schedule.ran(&1, false, start));
        assert_eq!(all_due(&mut schedule, start + SECOND), [1]);
        assert_eq!(schedule.next_due(), None);
    }
}
