//! How many lines from one place in the program are written: so many in a minute, and while it goes on, fewer. What is left out is
//! counted, and the count is told. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What the limits are for.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Warnings and errors: they say the same again and again.
pub const TROUBLE: Room = Room { first: 200, then: 20 };
/// All else, events too: a thousand real servers that go down at once are a thousand lines that differ.
pub const NEWS: Room = Room { first: 2_000, then: 200 };

/// How many lines a window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The first one.
    pub first: u32,
    /// One after another that had too many.
    pub then: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written.
    Write,
    /// It is left out: the first since that was told last, or a further one.
    LeaveOut {
        /// Whether it is the first.
        first: bool,
    },
}

/// The places that lines come from.
#[derive(Debug)]
pub struct Limiter<K> {
    places: HashMap<K, Place>,
}

#[derive(Debug)]
struct Place {
    began: Instant,
    /// Lines of this window.
    written: u32,
    /// Whether lines of this window were left out.
    overrun: bool,
    /// Whether lines of the window before were.
    strained: bool,
    /// Lines left out of which nothing was said, and when that is due.
    untold: u64,
    due: Instant,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Limiter { places: HashMap::new() }
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// Takes a line from a place.
    pub fn judge(&mut self, from: &K, room: Room, now: Instant) -> Verdict {
        let fresh = || Place { began: now, written: 0, overrun: false, strained: false, untold: 0, due: now };
        if !self.places.contains_key(from) {
            self.places.insert(from.clone(), fresh());
        }
        let place = self.places.entry(from.clone()).or_insert_with(fresh);
        let age = now.saturating_duration_since(place.began);
        if age >= WINDOW {
            // Only a place that never rests is strained.
            place.strained = place.overrun && age < 2 * WINDOW;
            (place.began, place.written, place.overrun) = (now, 0, false);
        }
        let room = if place.strained { room.then } else { room.first };
        if place.written < room {
            place.written += 1;
            return Verdict::Write;
        }
        let first = place.untold == 0;
        if first {
            place.due = place.began + WINDOW;
        }
        place.overrun = true;
        place.untold += 1;
        Verdict::LeaveOut { first }
    }

    /// How many lines of which places were left out, as far as that is due now; all of it without a time.
    pub fn due(&mut self, now: Option<Instant>) -> Vec<(K, u64)> {
        let told = |place: &Place| place.untold == 0 || now.is_some_and(|now| now < place.due);
        let due = self.places.iter_mut().filter(|(_, place)| !told(place));
        due.map(|(from, place)| (from.clone(), std::mem::take(&mut place.untold))).collect()
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        self.places.values().filter(|place| place.untold > 0).map(|place| place.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { first: 5, then: 2 };

    /// How many of so many lines are written.
    fn written(limiter: &mut Limiter<&'static str>, from: &'static str, lines: usize, now: Instant) -> usize {
        (0..lines).filter(|_| limiter.judge(&from, ROOM, now) == Verdict::Write).count()
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_others_are_not_touched() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(written(&mut limiter, "flood", 1_000, start), 5);
        assert_eq!(written(&mut limiter, "other", 5, start), 5);
        assert_eq!(limiter.next(), Some(start + WINDOW));
        assert_eq!(limiter.due(Some(start + WINDOW - Duration::from_nanos(1))), []);
        assert_eq!(limiter.due(Some(start + WINDOW)), [("flood", 995)]);
        // Once.
        assert_eq!((limiter.due(None), limiter.next()), (vec![], None));
    }

    #[test]
    fn while_a_flood_goes_on_it_gets_less_and_after_a_rest_it_begins_anew() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let total: usize =
            (0..600).map(|n| written(&mut limiter, "flood", 10, start + WINDOW * n / 60)).sum();
        assert_eq!(total, 5 + 9 * 2);
        assert_eq!(limiter.due(None), [("flood", 6_000 - 23)]);
        // Few enough in one window: the next one is whole again.
        assert_eq!(written(&mut limiter, "flood", 1, start + 10 * WINDOW), 1);
        assert_eq!(written(&mut limiter, "flood", 10, start + 11 * WINDOW), 5);
        assert_eq!(written(&mut limiter, "flood", 10, start + 20 * WINDOW), 5);
    }

    #[test]
    fn what_was_left_out_is_due_a_window_after_it_began_also_while_more_comes() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(written(&mut limiter, "flood", 6, start), 5);
        assert_eq!(limiter.judge(&"flood", ROOM, start), Verdict::LeaveOut { first: false });
        let late = start + WINDOW + WINDOW / 2;
        assert_eq!(written(&mut limiter, "flood", 3, late), 2);
        assert_eq!(limiter.due(Some(late)), [("flood", 3)]);
        assert_eq!(limiter.judge(&"flood", ROOM, late), Verdict::LeaveOut { first: true });
        assert_eq!(limiter.next(), Some(late + WINDOW));
    }

    #[test]
    fn a_thousand_real_servers_at_once_are_all_told() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        assert!((0..1_000).all(|_| limiter.judge(&"event", NEWS, start) == Verdict::Write));
    }
}
