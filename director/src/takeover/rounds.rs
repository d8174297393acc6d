//! When VIPs are announced, and to whom. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::heartbeat::message::Neighbour;
use crate::model::heartbeat::Announce;

/// The shortest time from one round to the next.
const LEAST_SPACING: Duration = Duration::from_millis(1);

/// The most neighbours that are told because another director knows them.
pub const MOST_SHARED: usize = 1024;

/// How many frames go to such neighbours in one [`STEP`].
pub const FRAMES_A_STEP: usize = 64;

/// From one lot of frames to such neighbours to the next.
const STEP: Duration = Duration::from_millis(1);

/// The rounds of announcements that are still to come, by group.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<String, Round>);

#[derive(Debug)]
struct Round {
    /// How many of the burst are left.
    left: u8,
    next: Instant,
}

impl Rounds {
    /// A group's first announcements have just been made: the rest of the burst, and later ones.
    pub fn begin(&mut self, group: &str, announce: &Announce, now: Instant) {
        self.0.remove(group);
        self.follow(group, announce, announce.burst.saturating_sub(1), now, now);
    }

    /// A group is not announced any more.
    pub fn end(&mut self, group: &str) {
        self.0.remove(group);
    }

    /// The groups of which a round is due; the next one is planned.
    pub fn due(&mut self, announce: &Announce, now: Instant) -> Vec<String> {
        let due = self.0.iter().filter(|(_, round)| round.next <= now);
        let due: Vec<(String, u8, Instant)> =
            due.map(|(group, round)| (group.clone(), round.left, round.next)).collect();
        for (group, left, at) in &due {
            self.0.remove(group);
            self.follow(group, announce, left.saturating_sub(1), *at, now);
        }
        due.into_iter().map(|(group, ..)| group).collect()
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|round| round.next).min()
    }

    /// Plans a round after one of `at`. One that is late does not make the next one come sooner than planned, nor
    /// are several made up for at once.
    fn follow(&mut self, group: &str, announce: &Announce, left: u8, at: Instant, now: Instant) {
        let after = if left > 0 { Some(announce.spacing) } else { announce.refresh };
        if let Some(after) = after.map(|after| after.max(LEAST_SPACING)) {
            let next = if at + after > now { at + after } else { now + after };
            self.0.insert(group.to_owned(), Round { left, next });
        }
    }
}

/// A neighbour on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface that leads to it.
    pub index: u32,
    /// Who it is.
    pub neighbour: Neighbour,
}

/// Neighbours that are told once about each VIP of a group, a few at a time: a thousand of them and hundreds of VIPs
/// are to flood neither the network nor this thread.
#[derive(Debug, Default)]
pub struct Tours {
    tours: VecDeque<Tour>,
    next: Option<Instant>,
}

#[derive(Debug)]
struct Tour {
    group: String,
    targets: Vec<Target>,
    /// How many VIPs the group has.
    vips: usize,
    /// How many pairs of target and VIP are done.
    done: usize,
}

impl Tours {
    /// Tells these, from the first one on. At most [`MOST_SHARED`] are.
    pub fn begin(&mut self, group: &str, mut targets: Vec<Target>, vips: usize, now: Instant) {
        self.end(group);
        targets.truncate(MOST_SHARED);
        if !targets.is_empty() && vips > 0 {
            self.tours.push_back(Tour { group: group.to_owned(), targets, vips, done: 0 });
            self.next.get_or_insert(now + STEP);
        }
    }

    /// Tells nobody about a group any more.
    pub fn end(&mut self, group: &str) {
        self.tours.retain(|tour| tour.group != group);
    }

    /// When the next lot is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The next lot, if it is due: `tell` is given group, the VIP's place in it, and the neighbour, and says whether
    /// a frame went out.
    pub fn step(&mut self, now: Instant, mut tell: impl FnMut(&str, usize, Target) -> bool) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let mut room = FRAMES_A_STEP;
        while room > 0
            && let Some(tour) = self.tours.front_mut()
        {
            let Some(target) = tour.targets.get(tour.done / tour.vips) else {
                self.tours.pop_front();
                continue;
            };
            if tell(&tour.group, tour.done % tour.vips, *target) {
                room -= 1;
            }
            tour.done += 1;
        }
        self.next = (!self.tours.is_empty()).then_some(now + STEP);
    }
}
