//! Which authentic messages are fresh, and how well each link does. Pure.
//!
//! # Runs
//!
//! Whoever records messages can send them again, also after this director was restarted and has forgotten all numbers. So a
//! message is only acted upon if its sender's run is *confirmed*: if one message of that run has acknowledged one of this run of
//! ours ([`Ack`] with our incarnation, which nobody can foretell, and a number that we have used). Until then messages are
//! [`Accepted::Unconfirmed`]: all that comes of them is that [`Sessions::acks`] names that run, so that the other side can
//! confirm ours. Two directors that start at once:
//!
//! | Message | Acknowledges | What the receiver knows then |
//! |---|---|---|
//! | B's 1st | nothing | A: there may be a run of B |
//! | A's 1st after it | B's run | B: A's run is confirmed, since it acknowledges mine |
//! | B's next | A's run | A: B's run is confirmed |
//!
//! A higher incarnation takes the place of a confirmed run as soon as it is confirmed itself, however lately the old run was
//! heard; lower ones are refused from then on, as long as it is heard. (When it has fallen silent, one that acknowledges what
//! we sent since is taken: the sender's clock may have gone back, and it must not be shut out for ever.) The run that restarted knows nothing, so it acknowledges ours at once: two
//! messages do. What an unconfirmed run says of its incarnation displaces nothing: while the confirmed run counts as alive,
//! `acks` names that one. Only a peer without one that counts as alive is named with an unconfirmed run, that with the highest
//! incarnation.
//!
//! Acknowledgements of unconfirmed runs have no mark. One says "I hear you", and lets the other side confirm ours; it does not
//! say "I do as you say". That is said by votes, and those are only given upon messages that were acted upon.
//!
//! What this cannot tell: an attacker who holds messages of a confirmed run back, so that they never come, can send them later,
//! once each and in order. How old they can be at most is what they acknowledge: see [`Sessions::acked`].
//!
//! # Numbers
//!
//! Each message is sent as one copy on every link. A number comes once on each link; for each peer and link a window of
//! [`BEHIND`] numbers behind the newest one tells which ones came (as in RFC 4303, 3.4.3). Older ones are refused, since it
//! cannot be told. Of the copies on all links, the first one of a number that is higher than all before is acted upon. Only
//! these keep a peer alive: other copies can be had by replaying what came by one link on another one.

use std::collections::HashSet;
use std::time::Duration;

use super::message::{Ack, Body, Echo, Key, MOST_DIRECTORS, Message};
use super::moment::Moment;
use super::wire::Bad;

mod counters;
mod link;
mod peer;

pub use counters::{Counters, Counts};
pub use link::{BEHIND, LOSS_OVER, LinkStats, OVERDUE};
use peer::{Newcomer, Peer, Run};

/// How many of our own messages are remembered with when they were sent.
pub const REMEMBERED: usize = 256;

/// What becomes of an authentic message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is to be acted upon.
    New,
    /// It came before, by another link.
    Copy,
    /// A later one was acted upon before, so it is not.
    Late,
    /// It may be a recorded one: not to be acted upon.
    Unconfirmed,
}

/// Why an authentic message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is of a run that ended: replayed, or very late. Or the sender's clock went back before it started.
    #[error("it is of a run of its sender before the present one")]
    OldRun,
    /// It came by this link before, or it is too old to tell.
    #[error("it came by this link before")]
    Replayed,
    /// We sent it ourselves; multicast loops back.
    #[error("this director sent it itself")]
    Own,
    /// It has our name and is none of ours: another director has that name too, or one of an earlier run of ours came back.
    #[error("another director has this one's name; give each its own by `--node` or its host name")]
    SameName,
    /// Its sender is not in the configuration.
    #[error("its sender is not among the configured directors")]
    Stranger,
    /// The link it came by is not in use any more.
    #[error("the link it came by is no longer configured")]
    NoLink,
}

impl Refused {
    /// A word for it that stays the same.
    pub fn reason(&self) -> &'static str {
        match self {
            Refused::OldRun => "old-run",
            Refused::Replayed => "replayed",
            Refused::Own => "own",
            Refused::SameName => "same-name",
            Refused::Stranger => "stranger",
            Refused::NoLink => "no-link",
        }
    }
}

/// What is known of the messages from and to the other directors.
#[derive(Clone, Debug)]
pub struct Sessions {
    me: String,
    key: Key,
    incarnation: u64,
    /// Our newest message's number; 0 before the first one.
    sequence: u64,
    /// When our messages were sent: that of number n is at n modulo [`REMEMBERED`].
    sent: Vec<Moment>,
    peers: Vec<Peer>,
    links: usize,
    dead_after: Duration,
    counters: Counters,
}

impl Sessions {
    /// Before any message. `incarnation` must be higher than that of any earlier run of this director, and nobody must be able
    /// to foretell it. `peers` are the names of the other directors (one's own is left out), `links` how many links each has,
    /// and a peer that was not heard for `dead_after` is not acknowledged.
    pub fn new(me: &str, incarnation: u64, peers: &[String], links: usize, dead_after: Duration) -> Sessions {
        let mut sessions = Sessions {
            me: me.to_owned(),
            key: Key::of(me),
            incarnation,
            sequence: 0,
            sent: vec![Moment::default(); REMEMBERED],
            peers: Vec::new(),
            links: 0,
            dead_after,
            counters: Counters::default(),
        };
        sessions.reconfigure(peers, links, dead_after);
        sessions
    }

    /// Another configuration. What is known of peers and links that stay is kept; a link is known by its place.
    pub fn reconfigure(&mut self, peers: &[String], links: usize, dead_after: Duration) {
        let mut had = std::mem::take(&mut self.peers);
        let mut seen = HashSet::new();
        for name in peers {
            if *name == self.me || !seen.insert(name) {
                continue;
            }
            let mut peer = match had.iter().position(|peer| peer.name == *name) {
                Some(at) => had.swap_remove(at),
                None => Peer::new(name),
            };
            peer.set_links(links);
            self.peers.push(peer);
        }
        self.links = links;
        self.dead_after = dead_after;
        self.counters.set_links(links);
    }

    /// Our next message's number; it is sent now, on all links.
    pub fn next(&mut self, now: Moment) -> u64 {
        self.sequence += 1;
        self.sent[self.sequence as usize % REMEMBERED] = now;
        self.sequence
    }

    /// Takes an authentic message that came by a link, and says whether it is to be acted upon.
    ///
    /// # Errors
    ///
    /// Why it is refused; that is counted.
    pub fn accept(&mut self, now: Moment, link: usize, message: &Message) -> Result<Accepted, Refused> {
        let outcome = self.judge(now, link, message);
        match &outcome {
            Ok(Accepted::Unconfirmed) => self.counters.count(link, "unconfirmed"),
            Ok(_) => {}
            Err(refused) => self.counters.count(link, refused.reason()),
        }
        outcome
    }

    /// Counts bytes that are no message and came by a link.
    pub fn bad(&mut self, link: usize, bad: &Bad) {
        self.counters.count(link, bad.reason());
    }

    /// What was refused or not acted upon until now.
    pub fn counted(&self) -> &Counters {
        &self.counters
    }

    /// Whom we hear, for our next beat: the peers that were heard within `dead_after`.
    pub fn acks(&self, now: Moment) -> Vec<Ack> {
        let acks = self.peers.iter().filter_map(|peer| {
            let (incarnation, sequence) = match (self.living(peer, now), &peer.newcomer) {
                (Some(run), _) => (run.incarnation, run.newest()),
                (None, Some(new)) if now.since(new.heard) < self.dead_after => (new.incarnation, new.newest),
                _ => return None,
            };
            Some(Ack { node: peer.key, incarnation, sequence })
        });
        acks.take(MOST_DIRECTORS).collect()
    }

    /// What came last by a link, for the copy of our next beat that is sent by that link. Only of peers whose confirmed run
    /// [`Sessions::acks`] names: an echo does not say of which run it is.
    pub fn echoes(&self, now: Moment, link: usize) -> Vec<Echo> {
        let echoes = self.peers.iter().filter_map(|peer| {
            self.living(peer, now)?;
            let (sequence, heard) = peer.links.get(link)?.last()?;
            Some(Echo { node: peer.key, sequence, waited: now.since(heard) })
        });
        echoes.take(MOST_DIRECTORS).collect()
    }

    /// When we sent the newest of our messages that this peer has acknowledged in a message that was acted upon. It then heard
    /// us, but acts upon us only if it votes accordingly. None for a peer that never did in its present run, or only of
    /// messages that were older than the last [`REMEMBERED`] when it did.
    pub fn acked(&self, peer: Key) -> Option<Moment> {
        let (_, sent) = self.peer(peer)?.run.as_ref()?.acked?;
        Some(sent)
    }

    /// Whether this peer was heard within `dead_after`, and its newest beat that was acted upon acknowledges this run of ours.
    pub fn hears_me(&self, peer: Key, now: Moment) -> bool {
        self.peer(peer).and_then(|peer| self.living(peer, now)).is_some_and(|run| run.lists_me)
    }

    /// When the newest message of this peer that was acted upon came.
    pub fn heard(&self, peer: Key) -> Option<Moment> {
        Some(self.peer(peer)?.run.as_ref()?.heard)
    }

    /// How a link from and to a peer does. Of a peer or link that does not exist, nothing.
    pub fn link(&self, peer: Key, link: usize) -> LinkStats {
        let Some(peer) = self.peer(peer) else { return LinkStats::default() };
        let newest = peer.run.as_ref().map(Run::newest);
        peer.links.get(link).map(|link| link.stats(newest)).unwrap_or_default()
    }

    fn peer(&self, key: Key) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.key == key)
    }

    /// The confirmed run of a peer, if it was heard within `dead_after`.
    fn living<'a>(&self, peer: &'a Peer, now: Moment) -> Option<&'a Run> {
        peer.run.as_ref().filter(|run| now.since(run.heard) < self.dead_after)
    }

    /// Whether to act upon a message.
    fn judge(&mut self, now: Moment, link: usize, message: &Message) -> Result<Accepted, Refused> {
        if message.from == self.me {
            let own = message.incarnation == self.incarnation;
            return Err(if own { Refused::Own } else { Refused::SameName });
        }
        if link >= self.links {
            return Err(Refused::NoLink);
        }
        let mine = self.acknowledged(&message.body);
        let acked = mine.and_then(|sequence| Some((sequence, self.when(sequence)?)));
        // Echoes to someone who acknowledges another run are of that run.
        let echo = mine.and_then(|_| self.echo(&message.body));
        let echo = echo.and_then(|echo| Some((echo, now.since(self.when(echo.sequence)?))));
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.name == message.from) else {
            return Err(Refused::Stranger);
        };
        let confirmed = peer.run.as_ref().map(|run| run.incarnation);
        let lower = confirmed.is_some_and(|confirmed| message.incarnation < confirmed);
        let acknowledged = mine.map(|_| acked.map(|(_, sent)| sent));
        if lower && !peer.may_follow(now, acknowledged, self.dead_after) {
            return Err(Refused::OldRun);
        }
        if confirmed != Some(message.incarnation) {
            // What takes the place of a run acknowledges what we sent after that was last heard: an earlier run's messages cannot, also if
            // its number is higher, for the sender's clock went back.
            let last = peer.run.as_ref().map(|run| run.heard);
            let later = last.is_none_or(|last| acked.is_some_and(|(_, sent)| sent > last));
            if mine.is_none() || !later {
                Newcomer::note(&mut peer.newcomer, now, message, self.dead_after);
                return Ok(Accepted::Unconfirmed);
            }
            peer.confirm(now, message);
        }
        let accepted = peer.take(now, link, message.sequence).ok_or(Refused::Replayed)?;
        if accepted == Accepted::New && matches!(message.body, Body::Beat(_)) {
            peer.acknowledge(mine.is_some(), acked);
        }
        if let Some((echo, ago)) = echo {
            peer.links[link].measure(echo.sequence, ago, echo.waited);
        }
        Ok(accepted)
    }

    /// The number of the message of this run of ours that a message acknowledges.
    fn acknowledged(&self, body: &Body) -> Option<u64> {
        let Body::Beat(beat) = body else { return None };
        let ours = |ack: &&Ack| ack.node == self.key && ack.incarnation == self.incarnation;
        let sequence = beat.acks.iter().find(ours)?.sequence;
        (1..=self.sequence).contains(&sequence).then_some(sequence)
    }

    /// The echo of one of our messages.
    fn echo<'a>(&self, body: &'a Body) -> Option<&'a Echo> {
        let Body::Beat(beat) = body else { return None };
        beat.echoes.iter().find(|echo| echo.node == self.key)
    }

    /// When we sent a message, if that is remembered.
    fn when(&self, sequence: u64) -> Option<Moment> {
        let known = (1..=self.sequence).contains(&sequence) && self.sequence - sequence < REMEMBERED as u64;
        known.then(|| self.sent[sequence as usize % REMEMBERED])
    }
}

#[cfg(test)]
mod tests;
