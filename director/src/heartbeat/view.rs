//! What a director sees of a group: its own state and what others say, as the election wants it. And with a quorum, what directors
//! promise each other.
//!
//! A *vote* is a promise to have no other owner for as long as a director may be silent (`dead_after`), from the moment the owner's
//! message came. The owner counts it from the moment it *sent* the message that is acknowledged with the vote, and takes an eighth off, so
//! that clocks may run at rates that differ by an eighth: it is active no longer than more than half of the directors have promised to
//! have no other. Two majorities have a director in common, so there are never two
//! that are active. (One that yields is active no more, but keeps its VIPs until it hears that its heir has them, or for as long as it is
//! patient.)

use std::time::Duration;

use super::election::{self, Backing, Contender, Rules, View};
use super::message::{Key, Role, Standing};
use super::moment::Moment;
use super::node::{Group, Node, Other, Vote};
use super::spread;

/// After a link came up, a message may have to wait for so long: the kernel asks for a neighbour's MAC once a second (arp(7),
/// retrans_time), and the last question may have gone nowhere.
const RESOLUTION: Duration = Duration::from_secs(1);

impl Node {
    /// What it sees of a group.
    pub(super) fn view(&self, now: Moment, i: usize, shed: Option<Key>) -> View<'_> {
        let group = &self.groups[i];
        let spread = self.settings.balance.is_some();
        let load = |key: Key| if spread { spread::load(self, now, key) } else { 0 };
        let me = Contender {
            key: self.settings.me.key,
            name: &self.settings.me.name,
            role: group.role,
            term: group.term,
            eligible: self.eligible(now, i),
            reluctant: group.reluctant,
            standing: self.standing(group),
            preference: group.settings.preference,
            heir: group.heir,
            deaf: false,
            load: load(self.settings.me.key),
        };
        let others = self.alive(now).filter_map(|other| {
            let beat = other.of(group.settings.key)?;
            Some(Contender {
                key: other.peer.key,
                name: &other.peer.name,
                role: beat.role,
                term: beat.term,
                eligible: beat.eligible,
                reluctant: beat.reluctant,
                standing: beat.standing,
                preference: beat.preference,
                // What waited while it did not run may be long over: it is given something by whom it has spoken with since.
                heir: beat.heir.filter(|heir| *heir != self.settings.me.key || self.has_answered(other)),
                deaf: other.is_deaf(now, self.settings.dead_after),
                load: load(other.peer.key),
            })
        });
        View {
            now,
            me,
            others: others.collect(),
            joined: self.joined(now),
            listened: self.has_listened(now, group) || self.all_eligible(now, group.settings.key),
            backing: self.backing(now, group),
            since: group.since,
            rival: group.rival(),
            shed,
            resigning: self.resigns(),
            rules: Rules {
                failback: group.settings.failback,
                settle: self.settings.settle,
                patience: self.settings.dead_after.max(self.settings.interval * 4),
                spread,
            },
        }
    }

    /// The others that are heard.
    pub(super) fn alive(&self, now: Moment) -> impl Iterator<Item = &Other> {
        self.others.iter().filter(move |other| other.is_alive(now, self.settings.dead_after))
    }

    /// Whether it has listened for long enough, and knows its own machine.
    pub(super) fn joined(&self, now: Moment) -> bool {
        self.witnesses().is_some() && (now >= self.listens_until() || self.heard_all() || self.hears_all(now))
    }

    /// Whether it hears everybody, and everybody hears it.
    pub(super) fn hears_all(&self, now: Moment) -> bool {
        // What waited in the sockets while it did not run is old: only who has heard it since then is known.
        let known = |other: &Other| other.is_alive(now, self.settings.dead_after) && self.has_answered(other);
        self.others.iter().all(known)
    }

    /// Whether a director has heard something that this one said since it runs (again).
    fn has_answered(&self, other: &Other) -> bool {
        other.acked.is_some_and(|sent| sent >= self.woke())
    }

    /// Whether whoever holds a group would have been heard by now.
    fn has_listened(&self, now: Moment, group: &Group) -> bool {
        (now >= self.listens_until() || group.knows_owner) && !self.recovers(now, group)
    }

    /// Whether it waits for others to be heard again: a cable that is plugged in again makes this director eligible before it brings
    /// the first message.
    fn recovers(&self, now: Moment, group: &Group) -> bool {
        let Some(since) = group.recovered else { return false };
        let silent = |other: &&Other| !other.beat.leaving && other.heard.is_none_or(|heard| heard < since);
        let silent: Vec<&Other> = self.others.iter().filter(silent).collect();
        let vanished = silent.iter().any(|other| other.took_part());
        let wait = self.settings.initial_wait + if vanished { RESOLUTION } else { Duration::ZERO };
        !silent.is_empty() && now.since(since) < wait
    }

    /// Whether all others are heard to say that they may hold a group: then all that start together see the same contenders.
    fn all_eligible(&self, now: Moment, group: Key) -> bool {
        let says_so = |other: &Other| other.of(group).is_some_and(|beat| beat.eligible);
        self.alive(now).filter(|other| says_so(other)).count() == self.others.len()
    }

    /// Whether it may hold a group.
    pub(super) fn eligible(&self, now: Moment, i: usize) -> bool {
        let group = &self.groups[i];
        // What it holds it gives away with care; it takes nothing.
        let resigning = self.resigns() && matches!(group.role, Role::Standby | Role::Candidate);
        group.facts.unable.is_none() && !resigning && !self.isolated(now)
    }

    fn resigns(&self) -> bool {
        self.held || self.leaving || self.gone
    }

    /// Whether it seems to be this machine that is cut off: it reaches no witness, and no other director says that it reaches
    /// none either.
    pub(super) fn isolated(&self, now: Moment) -> bool {
        let reaches_none =
            |other: &Other| other.beat.groups.first().is_some_and(|beat| beat.standing.witnesses == 0);
        // With nobody else there, nobody is better off: it stays, unless somebody vanished, who may hold it now.
        self.settings.witnesses
            && self.witnesses() == Some(0)
            && self.others.iter().any(Other::took_part)
            && !self.alive(now).any(reaches_none)
    }

    pub(super) fn standing(&self, group: &Group) -> Standing {
        Standing {
            witnesses: self.witnesses().unwrap_or(0),
            services: group.facts.services,
            score: group.facts.score,
        }
    }

    /// Until when enough directors promise to have no other owner.
    pub(super) fn backing(&self, now: Moment, group: &Group) -> Backing {
        if self.settings.votes <= 1 {
            return Backing::NotNeeded;
        }
        let me = self.settings.me.key;
        let own = group.vote.filter(|vote| vote.until > now);
        if !matches!(group.role, Role::Candidate | Role::Active) {
            return Backing::TooFew {
                free: now >= self.votes_from() && own.is_none_or(|vote| vote.to == me),
            };
        }
        let promised = self.others.iter().filter(|other| {
            other.of(group.settings.key).is_some_and(|beat| beat.vote == Some((me, group.term)))
        });
        let mut ends: Vec<Moment> =
            promised.filter_map(|other| other.acked).map(|sent| sent + self.lease()).collect();
        ends.push(now + self.lease());
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(self.settings.votes - 1).map_or(Backing::TooFew { free: true }, |end| Backing::Until(*end))
    }

    /// How long a promise counts for whom it was given to.
    fn lease(&self) -> Duration {
        self.settings.dead_after * 7 / 8
    }

    /// Promises its vote, if it is free to.
    pub(super) fn vote(&mut self, now: Moment, i: usize) {
        if self.settings.votes <= 1 {
            return;
        }
        let (me, until) = (self.settings.me.key, now + self.settings.dead_after);
        let group = &self.groups[i];
        if matches!(group.role, Role::Candidate | Role::Active) {
            let vote = Vote { to: me, term: group.term, until };
            self.groups[i].vote = Some(vote);
            return;
        }
        // What it promised itself ends with its claim.
        let kept = group.vote.filter(|vote| vote.to != me && vote.until > now);
        if kept.is_some() || now < self.votes_from() {
            self.groups[i].vote = kept;
            return;
        }
        let view = self.view(now, i, None);
        let claims = view.others.iter().filter(|other| matches!(other.role, Role::Candidate | Role::Active));
        // An owner first; of candidates the better one, as they see it themselves.
        let best = claims.max_by_key(|other| (other.role == Role::Active, election::merit(other)));
        let vote = best.and_then(|best| {
            // From the message that claims, not from now.
            let heard = self.others.iter().find(|other| other.peer.key == best.key)?.heard?;
            Some(Vote { to: best.key, term: best.term, until: heard + self.settings.dead_after })
        });
        self.groups[i].vote = vote;
    }
}
