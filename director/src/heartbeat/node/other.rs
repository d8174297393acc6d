//! What is known of another director.

use std::time::Duration;

use crate::heartbeat::message::{Beat, GroupBeat, Key, Role};
use crate::heartbeat::moment::Moment;
use crate::heartbeat::settings::Peer;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::heartbeat) struct Other {
    pub(in crate::heartbeat) peer: Peer,
    /// Its run.
    pub(super) run: u64,
    /// When its newest message came; none: it is not to be counted on.
    pub(in crate::heartbeat) heard: Option<Moment>,
    /// Since when it is alive without a break.
    pub(in crate::heartbeat) since: Moment,
    /// When a message of it last said that it hears us.
    pub(super) hears_us: Option<Moment>,
    /// When we sent the newest message that it says it has heard.
    pub(in crate::heartbeat) acked: Option<Moment>,
    pub(in crate::heartbeat) beat: Beat,
}

impl Other {
    pub(super) fn new(peer: &Peer, now: Moment) -> Other {
        Other {
            peer: peer.clone(),
            run: 0,
            heard: None,
            since: now,
            hears_us: None,
            acked: None,
            beat: Beat::default(),
        }
    }

    pub(in crate::heartbeat) fn is_alive(&self, now: Moment, dead_after: Duration) -> bool {
        !self.beat.leaving && self.was_heard(now, dead_after)
    }

    pub(super) fn was_heard(&self, now: Moment, dead_after: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= self.patience(dead_after))
    }

    /// It was heard at some time, also before this director slept, and did not say goodbye: if it is silent now, nobody knows what it
    /// holds.
    pub(in crate::heartbeat) fn took_part(&self) -> bool {
        self.run != 0 && !self.beat.leaving
    }

    /// It has had the time to hear us, and does not.
    pub(in crate::heartbeat) fn is_deaf(&self, now: Moment, dead_after: Duration) -> bool {
        now.since(self.hears_us.unwrap_or(self.since)) > self.patience(dead_after)
    }

    /// After how long a silence it counts as dead: the longer of what both sides say.
    pub(super) fn patience(&self, dead_after: Duration) -> Duration {
        dead_after.max(self.beat.dead_after)
    }

    /// Whether it held a group, or may have, after it said `before`, and does not any more. Perhaps without a message in which it
    /// did while we held it, too: it let go as soon as it heard of us.
    pub(super) fn has_let_go(&self, group: Key, before: &Beat) -> bool {
        let known = before.groups.iter().find(|beat| beat.group == group);
        let held = |beat: &GroupBeat| match known {
            Some(known) => known.role == Role::Active || known.term != beat.term,
            None => beat.term != 0,
        };
        self.of(group).is_some_and(|beat| beat.role != Role::Active && held(beat))
    }

    pub(in crate::heartbeat) fn of(&self, group: Key) -> Option<&GroupBeat> {
        self.beat.groups.iter().find(|beat| beat.group == group)
    }
}
