//! What is known of another director.

use std::time::Duration;

use super::Accepted;
use super::link::{LinkState, Window};
use crate::heartbeat::message::{Key, Message};
use crate::heartbeat::moment::Moment;

/// Another director.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) key: Key,
    /// Its confirmed run.
    pub(super) run: Option<Run>,
    /// A run that may be recorded.
    pub(super) newcomer: Option<Newcomer>,
    /// What came by each link.
    pub(super) links: Vec<LinkState>,
}

/// A confirmed run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) incarnation: u64,
    /// When the newest message that was acted upon came.
    pub(super) heard: Moment,
    /// Whether its newest beat acknowledges this run of ours.
    pub(super) lists_me: bool,
    /// The newest message of ours that it has acknowledged, and when that was sent.
    pub(super) acked: Option<(u64, Moment)>,
    /// The numbers that came, by whichever link.
    came: Window,
}

/// A run that is not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub(super) incarnation: u64,
    /// Its highest number.
    pub(super) newest: u64,
    /// When it was last heard.
    pub(super) heard: Moment,
}

impl Peer {
    pub(super) fn new(name: &str) -> Peer {
        Peer { name: name.to_owned(), key: Key::of(name), run: None, newcomer: None, links: Vec::new() }
    }

    /// Has so many links from now on.
    pub(super) fn set_links(&mut self, links: usize) {
        let next = self.run.as_ref().map_or(1, |run| run.newest() + 1);
        self.links.resize_with(links, || LinkState::new(next));
    }

    /// The run of this message is the present one.
    pub(super) fn confirm(&mut self, now: Moment, message: &Message) {
        let before = self.run.as_ref().map(Run::newest);
        for link in &mut self.links {
            link.begin_run(before, message.sequence);
        }
        let incarnation = message.incarnation;
        self.run =
            Some(Run { incarnation, heard: now, lists_me: false, acked: None, came: Window::default() });
        self.newcomer = None;
    }

    /// Whether a run with a lower number than the present one's may be the sender's next one, for its clock may have gone back: the
    /// present one has fallen silent, and the message acknowledges none of ours (then it is only noted), or one that was sent
    /// after that. No message of an earlier run can.
    pub(super) fn may_follow(
        &self,
        now: Moment,
        acknowledged: Option<Option<Moment>>,
        dead_after: Duration,
    ) -> bool {
        let Some(run) = &self.run else { return true };
        let later = acknowledged.is_none_or(|sent| sent.is_some_and(|sent| sent > run.heard));
        now.since(run.heard) >= dead_after && later
    }

    /// A message of the present run came by this link. None: it did before.
    pub(super) fn take(&mut self, now: Moment, link: usize, sequence: u64) -> Option<Accepted> {
        let run = self.run.as_mut()?;
        if !self.links[link].take(now, sequence) {
            return None;
        }
        if sequence > run.came.newest() {
            run.came.see(sequence);
            run.heard = now;
            return Some(Accepted::New);
        }
        if run.came.has(sequence) {
            return Some(Accepted::Copy);
        }
        run.came.see(sequence);
        Some(Accepted::Late)
    }

    /// A beat that is acted upon does or does not acknowledge this run of ours, with this message sent at this moment.
    pub(super) fn acknowledge(&mut self, lists_me: bool, acked: Option<(u64, Moment)>) {
        if let Some(run) = &mut self.run {
            run.lists_me = lists_me;
            run.acked = run.acked.max(acked);
        }
    }
}

impl Run {
    /// Its newest message that was acted upon.
    pub(super) fn newest(&self) -> u64 {
        self.came.newest()
    }
}

impl Newcomer {
    /// Notes an unconfirmed message. A higher incarnation displaces a lower one, since it is authentic that it was; a lower one
    /// only what was not heard for long: a replayed run must not keep a real one from being heard for ever, should the
    /// sender's clock have gone back.
    pub(super) fn note(slot: &mut Option<Newcomer>, now: Moment, message: &Message, dead_after: Duration) {
        let (incarnation, sequence) = (message.incarnation, message.sequence);
        match slot {
            Some(new) if new.incarnation == incarnation => {
                // Only later messages show that it goes on.
                if sequence > new.newest {
                    (new.newest, new.heard) = (sequence, now);
                }
            }
            Some(new) if new.incarnation > incarnation && now.since(new.heard) < dead_after => {}
            _ => *slot = Some(Newcomer { incarnation, newest: sequence, heard: now }),
        }
    }
}
