//! What came by a link, and how well it does.

use std::time::Duration;

use crate::heartbeat::moment::Moment;

/// How many numbers behind the newest one on a link a message may still come.
pub const BEHIND: u64 = 64;
/// Over how many messages [`LinkStats::loss`] is taken.
pub const LOSS_OVER: u64 = 100;
/// A copy that is so many messages behind the newest one of any link counts as lost.
pub const OVERDUE: u64 = 4;

/// How a link from and to a peer does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkStats {
    /// When a message last came by it.
    pub heard: Option<Moment>,
    /// Messages that came by it.
    pub received: u64,
    /// Messages that did not, though later ones did, by this link or, [`OVERDUE`] ones later, by another one.
    pub lost: u64,
    /// The fraction that was lost of the last [`LOSS_OVER`] messages, 0 to 1.
    pub loss: f64,
    /// Half of the time there and back, smoothed as by RFC 6298, 2.
    pub delay: Option<Duration>,
    /// How much that varies, as by RFC 3550, 6.4.1.
    pub jitter: Option<Duration>,
}

/// What is known of a link from and to a peer.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    heard: Option<Moment>,
    received: u64,
    /// Those lost in earlier runs of the peer.
    lost_before: u64,
    /// The first message of the peer's present run that was to come by it.
    first: u64,
    /// How many came of that one and later ones.
    came_of_run: u64,
    /// Which came of the present run.
    came: Window,
    /// When the newest one of the present run came.
    newest_heard: Moment,
    /// The newest of our own messages whose echo was measured.
    echoed: u64,
    delay: Option<Duration>,
    jitter: Option<Duration>,
    /// The last measured delay.
    last_delay: Option<Duration>,
}

impl LinkState {
    /// One by which nothing came, and that the peer's messages are to come by from this number on.
    pub(super) fn new(first: u64) -> LinkState {
        LinkState {
            heard: None,
            received: 0,
            lost_before: 0,
            first,
            came_of_run: 0,
            came: Window::default(),
            newest_heard: Moment::default(),
            echoed: 0,
            delay: None,
            jitter: None,
            last_delay: None,
        }
    }

    /// Another run of the peer begins with this message. The newest one of the run before, if there was one, was `before`.
    pub(super) fn begin_run(&mut self, before: Option<u64>, first: u64) {
        self.lost_before += before.map_or(0, |newest| self.lost(newest));
        self.first = first;
        self.came_of_run = 0;
        self.came = Window::default();
    }

    /// A message of the present run came. False: it did before, or it is too old to tell.
    pub(super) fn take(&mut self, now: Moment, sequence: u64) -> bool {
        let newer = sequence > self.came.newest();
        if !self.came.see(sequence) {
            return false;
        }
        if newer {
            self.newest_heard = now;
        }
        self.heard = Some(now);
        self.received += 1;
        self.came_of_run += u64::from(sequence >= self.first);
        true
    }

    /// The newest message of the present run, and when it came.
    pub(super) fn last(&self) -> Option<(u64, Moment)> {
        (self.came.newest() > 0).then(|| (self.came.newest(), self.newest_heard))
    }

    /// A message of ours was sent so long ago, and its echo waited for so long at the peer.
    pub(super) fn measure(&mut self, sequence: u64, ago: Duration, waited: Duration) {
        // Echoed once more, it would say how long ago that was, not how the link does now.
        if sequence <= self.echoed {
            return;
        }
        let Some(there_and_back) = ago.checked_sub(waited) else { return };
        self.echoed = sequence;
        let delay = there_and_back / 2;
        self.delay = Some(match self.delay {
            Some(smooth) => (smooth.saturating_mul(7).saturating_add(delay)) / 8,
            None => delay,
        });
        if let Some(last) = self.last_delay {
            let difference = delay.abs_diff(last);
            let jitter = self.jitter.unwrap_or_default();
            self.jitter = Some(jitter.saturating_mul(15).saturating_add(difference) / 16);
        }
        self.last_delay = Some(delay);
    }

    /// How it does, if the newest message of the peer's present run is this one.
    pub(super) fn stats(&self, newest: Option<u64>) -> LinkStats {
        LinkStats {
            heard: self.heard,
            received: self.received,
            lost: self.lost_before + newest.map_or(0, |newest| self.lost(newest)),
            loss: newest.map_or(0.0, |newest| self.loss(newest)),
            delay: self.delay,
            jitter: self.jitter,
        }
    }

    /// The last message that must have come, if the newest one of all links is this one.
    fn due(&self, newest: u64) -> u64 {
        self.came.newest().max(newest.saturating_sub(OVERDUE))
    }

    /// How many of the present run's messages were lost.
    fn lost(&self, newest: u64) -> u64 {
        let due = (self.due(newest) + 1).saturating_sub(self.first);
        due.saturating_sub(self.came_of_run)
    }

    /// The fraction of the last messages that was lost.
    fn loss(&self, newest: u64) -> f64 {
        let due = self.due(newest);
        let from = self.first.max((due + 1).saturating_sub(LOSS_OVER));
        if from > due {
            return 0.0;
        }
        let all = due + 1 - from;
        1.0 - f64::from(self.came.since(from)) / all as f64
    }
}

/// Which of the last 128 numbers came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    newest: u64,
    /// The bit n is that of the newest number less n.
    bits: u128,
}

impl Window {
    /// The newest number; 0 before any.
    pub(super) fn newest(self) -> u64 {
        self.newest
    }

    /// Whether this number came; false of those that are too old to tell.
    pub(super) fn has(self, sequence: u64) -> bool {
        let behind = self.newest.checked_sub(sequence);
        behind.is_some_and(|behind| behind < 128 && self.bits >> behind & 1 == 1)
    }

    /// Notes a number. False: it came before, or it is more than [`BEHIND`] behind the newest one.
    pub(super) fn see(&mut self, sequence: u64) -> bool {
        match sequence.checked_sub(self.newest) {
            Some(ahead @ 1..) => {
                self.bits =
                    u32::try_from(ahead).ok().and_then(|ahead| self.bits.checked_shl(ahead)).unwrap_or(0) | 1;
                self.newest = sequence;
                true
            }
            _ if self.newest - sequence > BEHIND || self.has(sequence) => false,
            _ => {
                self.bits |= 1 << (self.newest - sequence);
                true
            }
        }
    }

    /// How many of the 128 came, from this number on.
    fn since(self, from: u64) -> u32 {
        match self.newest.checked_sub(from) {
            Some(behind) if behind < 127 => (self.bits & ((1 << (behind + 1)) - 1)).count_ones(),
            Some(_) => self.bits.count_ones(),
            None => 0,
        }
    }
}
