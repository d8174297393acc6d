//! A director of the cluster with everything but sockets and a clock: it says when it wants to send, what, and what it is for each group.
//! Pure. `driver` runs one of these on a real clock, the simulator many on an invented one.
//!
//! Whoever runs it, calls, each time something happened: [`Machine::awake`] before anything else; [`Machine::receive`] with every message
//! that came; then [`Machine::turn`], and sends what that returns by all links.

use super::election::Backing;
use super::message::{Beat, Body, Key, MOST_NEIGHBOURS, Message, Neighbour, Role};
use super::moment::Moment;
use super::node::{Moved, Node};
use super::session::{Accepted, Refused, Sessions};
use super::settings::Settings;

/// Until when a director may answer for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Not at all: it does not hold it.
    Never,
    /// Until then: from then on another director may hold it.
    Until(Moment),
    /// No other director is alive that could take it.
    Forever,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Machine {
    node: Node,
    sessions: Sessions,
    config: u64,
    incarnation: u64,
    /// When the last beat was sent; before the first one, when it began to run, or to run again.
    sent: Moment,
    next_beat: Moment,
    /// Something others should know at once.
    urgent: bool,
    /// What the others are still to be told of neighbours.
    untold: Vec<Neighbour>,
    /// How often VIPs were to be announced, when that was last asked.
    announced: u64,
}

/// What came of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Roles that changed.
    pub moved: Vec<Moved>,
    /// Messages to be sent by all links; each copy through [`Machine::for_link`].
    pub send: Vec<Message>,
}

impl Machine {
    /// A director that starts now. `incarnation`: greater than those of its earlier runs, and not to be guessed. `config`: the hash
    /// of its configuration.
    pub fn new(settings: Settings, incarnation: u64, links: usize, config: u64, now: Moment) -> Machine {
        let peers: Vec<String> = settings.peers.iter().map(|peer| peer.name.clone()).collect();
        let sessions = Sessions::new(&settings.me.name, incarnation, &peers, links, settings.dead_after);
        let node = Node::new(settings, now);
        Machine {
            node,
            sessions,
            config,
            incarnation,
            sent: now,
            next_beat: now,
            urgent: false,
            untold: Vec::new(),
            announced: 0,
        }
    }

    /// Goes by another configuration from now on.
    pub fn reconfigure(&mut self, now: Moment, settings: Settings, links: usize, config: u64) -> Vec<Moved> {
        // Judged by the times that were in force until now; from now on the new ones count.
        let mut moved = self.awake(now);
        self.sent = now;
        let peers: Vec<String> = settings.peers.iter().map(|peer| peer.name.clone()).collect();
        self.sessions.reconfigure(&peers, links, settings.dead_after);
        self.config = config;
        self.next_beat = self.next_beat.min(now + settings.interval);
        self.urgent = true;
        moved.extend(self.node.reconfigure(now, settings));
        moved
    }

    /// Notices that it did not run for so long that others may have taken what it held. Then it lets go of that, and of what it
    /// believed of the others.
    pub fn awake(&mut self, now: Moment) -> Vec<Moved> {
        let dead_after = self.node.settings.dead_after;
        let slept = now.since(self.sent);
        if slept <= dead_after {
            return Vec::new();
        }
        self.urgent = true;
        // It may be stopped again before it sends anything.
        self.sent = now;
        self.node.wake(now, slept)
    }

    /// Takes an authentic message that came by a link. Neighbours that it tells of are returned.
    ///
    /// # Errors
    /// Why it must not be believed.
    pub fn receive<'m>(
        &mut self,
        now: Moment,
        link: usize,
        message: &'m Message,
    ) -> Result<Option<&'m [Neighbour]>, Refused> {
        if self.sessions.accept(now, link, message)? != Accepted::New {
            return Ok(None);
        }
        let from = Key::of(&message.from);
        match &message.body {
            Body::Beat(beat) => {
                let (hears_me, acked) = (self.sessions.hears_me(from, now), self.sessions.acked(from));
                self.node.hear(now, from, message.incarnation, beat.clone(), hears_me, acked);
                Ok(None)
            }
            Body::Neighbours(neighbours) => {
                self.node.hear_more(now, from);
                Ok(Some(neighbours))
            }
        }
    }

    /// Decides, and sends if it is time to.
    pub fn turn(&mut self, now: Moment) -> Turn {
        // It may have been stopped since it last looked: what it would decide then is about a past.
        let mut moved = self.awake(now);
        let votes: Vec<_> =
            self.node.groups.iter().map(|group| group.vote.map(|vote| (vote.to, vote.term))).collect();
        moved.extend(self.node.turn(now));
        let voted =
            self.node.groups.iter().map(|group| group.vote.map(|vote| (vote.to, vote.term))).ne(votes);
        let due = now >= self.next_beat;
        if !due && !self.urgent && moved.is_empty() && !voted {
            return Turn::default();
        }
        let interval = self.node.settings.interval;
        if due {
            self.next_beat = (self.next_beat + interval).max(now + interval / 2);
        }
        self.urgent = false;
        let mut send = vec![self.beat(now)];
        self.sent = now;
        if due && !self.untold.is_empty() {
            let some = self.untold.drain(..self.untold.len().min(MOST_NEIGHBOURS)).collect();
            send.push(self.message(now, Body::Neighbours(some)));
        }
        Turn { moved, send }
    }

    /// Tells the others of neighbours, some with each of the next beats, in place of what they were not told yet.
    pub fn tell_neighbours(&mut self, neighbours: &[Neighbour]) {
        self.untold = neighbours.to_vec();
    }

    /// Says that nothing more will come, whether a beat is due or not.
    pub fn goodbye(&mut self, now: Moment) -> Turn {
        let moved = self.awake(now);
        self.node.say_goodbye();
        self.sent = now;
        Turn { moved, send: vec![self.beat(now)] }
    }

    fn beat(&mut self, now: Moment) -> Message {
        let acks = self.sessions.acks(now);
        let beat = Beat { config: self.config, acks, ..self.node.beat(now) };
        self.message(now, Body::Beat(beat))
    }

    fn message(&mut self, now: Moment, body: Body) -> Message {
        let sequence = self.sessions.next(now);
        Message { from: self.node.settings.me.name.clone(), incarnation: self.incarnation, sequence, body }
    }

    /// Makes a message the copy that travels by a link: it says what was heard there.
    pub fn for_link(&self, now: Moment, link: usize, message: &mut Message) {
        if let Body::Beat(beat) = &mut message.body {
            beat.echoes = self.sessions.echoes(now, link);
        }
    }

    /// When the next beat is due.
    pub fn due(&self) -> Moment {
        self.next_beat
    }

    /// Whether VIPs are to be announced anew, since this was last asked.
    pub fn announces(&mut self) -> bool {
        let sum = self.node.groups.iter().map(|group| group.announce).sum();
        std::mem::replace(&mut self.announced, sum) != sum
    }

    /// When [`Machine::turn`] is to be called at the latest.
    pub fn next(&self, now: Moment) -> Moment {
        self.node.next(now).map_or(self.next_beat, |next| next.min(self.next_beat))
    }

    /// Whether no other director is there that could take what it holds: none is alive, and none needs to agree.
    pub fn is_alone(&self, now: Moment) -> bool {
        self.node.settings.votes <= 1 && self.node.alive(now).next().is_none()
    }

    /// Whether nobody is there that could take a group after its end.
    pub fn is_heirless(&self, now: Moment, i: usize) -> bool {
        self.node.settings.votes <= 1 && self.node.is_heirless(now, i)
    }

    /// Until when it may answer for its group number `i`.
    pub fn lease(&self, now: Moment, i: usize) -> Lease {
        let group = &self.node.groups[i];
        if !matches!(group.role, Role::Active | Role::Yielding) {
            return Lease::Never;
        }
        let heard = self.sent + self.node.settings.dead_after;
        if now > heard {
            // It has slept, and does not know it yet: nobody seems to be alive.
            return Lease::Until(heard);
        }
        if self.is_alone(now) {
            return Lease::Forever;
        }
        match (group.role, self.node.backing(now, group)) {
            (_, Backing::Until(end)) => Lease::Until(end.min(heard)),
            (Role::Active, Backing::TooFew { .. }) => Lease::Never,
            _ => Lease::Until(heard),
        }
    }

    /// What it is for its group number `i`, and how often its VIPs were to be announced.
    pub fn role(&self, i: usize) -> (Role, u64) {
        let group = &self.node.groups[i];
        (group.role, group.announce)
    }

    /// The groups' names, by number.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.node.groups.iter().map(|group| &*group.settings.name)
    }

    /// The director in it.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The director in it, to be told what it is to do or to know; the next turn tells the others at once.
    pub fn node_mut(&mut self) -> &mut Node {
        self.urgent = true;
        &mut self.node
    }

    /// Takes facts; only what matters is told to others at once.
    pub fn know(&mut self, facts: &super::node::Facts) {
        let before: Vec<_> = self.node.groups.iter().map(|group| group.facts.clone()).collect();
        let witnesses = self.node.witnesses();
        self.node.know(facts);
        let after = self.node.groups.iter().map(|group| &group.facts);
        self.urgent |= after.ne(&before) || witnesses != self.node.witnesses();
    }

    /// Which messages it believed, and how links do.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The same, to be told of messages that could not even be read.
    pub fn sessions_mut(&mut self) -> &mut Sessions {
        &mut self.sessions
    }
}
