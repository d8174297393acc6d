//! One director of the cluster: what it knows of the others, what it is for each group, and what becomes of that as time passes. Pure:
//! `machine` adds which messages are believed and when one is sent, `driver` sockets and the clock.

use std::time::Duration;

use super::election::{self, Contender, Decision, Why};
use super::message::{Beat, GroupBeat, Key, Role};
use super::moment::Moment;
use super::settings::Settings;
use super::spread;

mod group;
mod other;
mod refusal;

use group::Rival;
pub(super) use group::{Group, Vote};
pub(super) use other::Other;
pub use refusal::Refusal;

/// What this machine is like, as far as it matters to who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Witnesses that it reaches.
    pub witnesses: u8,
    /// By the group's name.
    pub groups: Vec<(String, GroupFacts)>,
}

/// What matters to one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Why this machine cannot hold it, in words: a link that is down, a command that fails.
    pub unable: Option<String>,
    /// Services of its VIPs with a live real server.
    pub services: u16,
    /// What tracked commands add up to.
    pub score: i16,
}

/// A role that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The group's name.
    pub group: String,
    /// What it was.
    pub from: Role,
    /// What it is.
    pub to: Role,
    /// Of the role.
    pub term: u64,
    /// Why.
    pub why: Why,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) settings: Settings,
    pub(super) others: Vec<Other>,
    pub(super) groups: Vec<Group>,
    pub(super) held: bool,
    pub(super) leaving: bool,
    /// Nothing more will be sent.
    pub(super) gone: bool,
    witnesses: Option<u8>,
    /// Until when it only listens, unless it has heard everybody.
    listens_until: Moment,
    /// It has heard everybody since it began to listen.
    heard_all: bool,
    /// Before that it promises nothing: it does not know what it promised in an earlier run.
    votes_from: Moment,
    next_round: Moment,
    /// When it last began to run.
    woke: Moment,
}

impl Node {
    /// A director that has just started.
    pub fn new(settings: Settings, now: Moment) -> Node {
        let others = settings.peers.iter().map(|peer| Other::new(peer, now)).collect();
        let groups = settings.groups.iter().map(|group| Group::new(group, now)).collect();
        Node {
            woke: now,
            listens_until: now + settings.initial_wait,
            heard_all: false,
            votes_from: now + settings.dead_after,
            next_round: now + settings.balance.map_or(Duration::ZERO, |balance| balance.mature),
            settings,
            others,
            groups,
            held: false,
            leaving: false,
            gone: false,
            witnesses: None,
        }
    }

    /// Takes a new configuration: roles stay with groups that stay. What it held of others is let go.
    pub fn reconfigure(&mut self, now: Moment, settings: Settings) -> Vec<Moved> {
        let moved = self.groups.iter().filter(|group| group.role != Role::Standby);
        let gone = moved.filter(|group| settings.groups.iter().all(|kept| kept.key != group.settings.key));
        let gone = gone.map(|group| group.moved(Role::Standby, Why::NotConfigured)).collect();
        let groups = settings.groups.iter().map(|settings| {
            let old = self.groups.iter().find(|old| old.settings.key == settings.key);
            old.map_or_else(
                || Group::unknown(settings, now),
                |old| Group { settings: settings.clone(), ..old.clone() },
            )
        });
        self.groups = groups.collect();
        let others = settings.peers.iter().map(|peer| {
            let old = self.others.iter().find(|old| old.peer == *peer);
            old.cloned().unwrap_or_else(|| Other::new(peer, now))
        });
        self.others = others.collect();
        // What was promised before was promised for the time that was in force then.
        let longer = settings.dead_after.saturating_sub(self.settings.dead_after);
        for other in &mut self.others {
            other.acked = other.acked.map(|sent| sent - longer);
        }
        self.settings = settings;
        gone
    }

    /// Takes what is known of this machine now.
    pub fn know(&mut self, facts: &Facts) {
        self.witnesses = Some(facts.witnesses);
        for group in &mut self.groups {
            // One that they do not name, nobody has looked at yet.
            if let Some((_, facts)) = facts.groups.iter().find(|(name, _)| *name == group.settings.name) {
                group.facts = facts.clone();
            }
        }
    }

    /// Takes what another director says in a run of its. `hears_us`: it acknowledges our present run. `acked`: when we sent the newest message
    /// that it has heard.
    pub fn hear(
        &mut self,
        now: Moment,
        from: Key,
        run: u64,
        beat: Beat,
        hears_us: bool,
        acked: Option<Moment>,
    ) {
        let dead_after = self.settings.dead_after;
        let Some(other) = self.others.iter_mut().find(|other| other.peer.key == from) else { return };
        let mut before = std::mem::replace(&mut other.beat, beat);
        if std::mem::replace(&mut other.run, run) != run {
            // It begins anew: nothing of what it said before counts.
            before = Beat::default();
            other.heard = None;
        }
        if before.leaving || !other.was_heard(now, dead_after) {
            (other.since, other.hears_us) = (now, None);
        }
        other.heard = Some(now);
        other.acked = acked;
        if hears_us {
            other.hears_us = Some(now);
        }
        // A promise lasts from the message that it answers; a message that claims nothing any more ends it.
        for group in &mut self.groups {
            let Some(vote) = group.vote.as_mut().filter(|vote| vote.to == from) else { continue };
            let claim = other.beat.groups.iter().find(|beat| beat.group == group.settings.key);
            let claims = claim.filter(|_| !other.beat.leaving).is_some_and(|claim| {
                claim.term == vote.term && matches!(claim.role, Role::Candidate | Role::Active)
            });
            if claims {
                vote.until = now + dead_after;
            } else {
                group.vote = None;
            }
        }
        for group in &mut self.groups {
            let key = group.settings.key;
            group.contested |= group.role == Role::Active && other.has_let_go(key, &before);
        }
    }

    /// Another director said something else. Its next acknowledgement is counted from there, so promises are, too: the beats
    /// before may have been lost.
    pub fn hear_more(&mut self, now: Moment, from: Key) {
        let until = now + self.settings.dead_after;
        let votes = self.groups.iter_mut().filter_map(|group| group.vote.as_mut());
        votes.filter(|vote| vote.to == from).for_each(|vote| vote.until = until);
    }

    /// It did not run for so long: others may hold what it held. It lets go before it does anything else, and listens anew.
    pub fn wake(&mut self, now: Moment, slept: Duration) -> Vec<Moved> {
        for other in &mut self.others {
            other.heard = None;
        }
        self.woke = now;
        self.listens_until = now + self.settings.dead_after;
        self.heard_all = false;
        self.groups.iter_mut().for_each(|group| group.knows_owner = false);
        let held = self.groups.iter_mut().filter(|group| group.role != Role::Standby);
        held.map(|group| {
            let term = group.term;
            group.become_(now, Role::Standby, term, Why::Slept(slept))
        })
        .collect()
    }

    /// Decides about every group; what changed.
    pub fn turn(&mut self, now: Moment) -> Vec<Moved> {
        let mut moved = Vec::new();
        self.heard_all |= self.hears_all(now);
        let shed = self.shed(now);
        for i in 0..self.groups.len() {
            let group_shed = shed.and_then(|(group, heir)| (group == i).then_some(heir));
            self.note_rival(now, i);
            let able = self.eligible(now, i);
            if able && !self.groups[i].able {
                self.groups[i].recovered = Some(now);
            }
            self.groups[i].able = able;
            self.groups[i].knows_owner |= self.owner(now, i).is_some();
            let decision = election::decide(&self.view(now, i, group_shed));
            moved.extend(self.follow(now, i, decision));
            self.vote(now, i);
        }
        moved
    }

    fn follow(&mut self, now: Moment, i: usize, decision: Decision) -> Option<Moved> {
        let newest = self.newest_term(i);
        let group = &mut self.groups[i];
        match decision {
            Decision::Stay => {
                // Whoever contested it is gone, or has given in: now clients' caches can be put right for good.
                if std::mem::take(&mut group.contested) {
                    group.announce += 1;
                }
                None
            }
            Decision::Contested => {
                if !std::mem::replace(&mut group.contested, true) {
                    group.announce += 1;
                }
                None
            }
            Decision::Yield(heir, why) => {
                group.heir = Some(heir);
                // The operator's word stands until it comes back.
                group.reluctant |= matches!(why, Why::Asked(_));
                let term = group.term;
                Some(group.become_(now, Role::Yielding, term, why))
            }
            Decision::Become(role, why) => {
                let term = match (group.role, role) {
                    (Role::Candidate, Role::Active) => group.term,
                    (_, Role::Candidate | Role::Active) => newest + 1,
                    _ => group.term,
                };
                Some(group.become_(now, role, term, why))
            }
        }
    }

    /// Gives a group to another director: the best, or the one named.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn hand_over(
        &mut self,
        now: Moment,
        name: &str,
        to: Option<&str>,
    ) -> Result<(String, Moved), Refusal> {
        let Some(i) = self.groups.iter().position(|group| group.settings.name == name) else {
            let known: Vec<&str> = self.groups.iter().map(|group| &*group.settings.name).collect();
            return Err(Refusal::NoGroup(name.to_owned(), known.join(", ")));
        };
        if self.groups[i].role != Role::Active {
            let owner = self.owner(now, i).map_or("nobody does".to_owned(), |owner| format!("{owner} does"));
            return Err(Refusal::NotOwner(name.to_owned(), owner));
        }
        let view = self.view(now, i, None);
        if let Some(to) = to.filter(|to| view.others.iter().all(|other| other.name != *to)) {
            return Err(Refusal::NoDirector(to.to_owned()));
        }
        let named = |other: &&Contender| to.is_none_or(|to| other.name == to);
        let heirs: Vec<&Contender> = view.others.iter().filter(named).collect();
        let Some(heir) = election::best(heirs.iter().copied()) else {
            return Err(Refusal::NoHeir(name.to_owned(), self.why_nobody(now, i)));
        };
        let (key, heir) = (heir.key, heir.name.to_owned());
        let moved = self.follow(now, i, Decision::Yield(key, Why::Asked(heir.clone())));
        moved.map(|moved| (heir, moved)).ok_or_else(|| Refusal::NoGroup(name.to_owned(), String::new()))
    }

    /// Stays standby from now on (or no longer). What it holds it gives away, if somebody takes it.
    ///
    /// # Errors
    /// It holds a group that nobody could take.
    pub fn hold(&mut self, now: Moment, hold: bool) -> Result<(), Refusal> {
        for i in (0..self.groups.len()).filter(|i| hold && self.groups[*i].role == Role::Active) {
            if self.is_heirless(now, i) {
                let name = self.groups[i].settings.name.clone();
                return Err(Refusal::NoHeir(name, self.why_nobody(now, i)));
            }
        }
        if self.held && !hold {
            // That word is taken back, and so is what it led to.
            self.groups.iter_mut().for_each(|group| group.reluctant = false);
        }
        self.held = hold;
        Ok(())
    }

    /// Gives everything away that somebody takes.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether there is nothing (more) to be given away before the end: what it still holds, nobody can take.
    pub fn may_end(&self, now: Moment) -> bool {
        (0..self.groups.len()).all(|i| match self.groups[i].role {
            Role::Standby | Role::Candidate => true,
            // One that is alive may be able to take it in a moment, unless an operator holds it back.
            Role::Active => self.is_heirless(now, i) && self.alive(now).all(|other| other.beat.held),
            Role::Yielding => false,
        })
    }

    /// Whether no other director could take a group.
    pub(super) fn is_heirless(&self, now: Moment, i: usize) -> bool {
        election::best(self.view(now, i, None).others.iter()).is_none()
    }

    /// Says that nothing more will come: who hears it need not wait until it counts as dead.
    pub(super) fn say_goodbye(&mut self) {
        self.gone = true;
    }

    /// What it says of itself, but for what `machine` adds.
    pub fn beat(&self, now: Moment) -> Beat {
        let dead_after = self.settings.dead_after;
        let groups = (0..self.groups.len()).map(|i| {
            let group = &self.groups[i];
            GroupBeat {
                group: group.settings.key,
                role: group.role,
                term: group.term,
                eligible: self.eligible(now, i) && self.joined(now),
                reluctant: group.reluctant,
                standing: self.standing(group),
                preference: group.settings.preference,
                vote: group.vote.filter(|vote| vote.until > now).map(|vote| (vote.to, vote.term)),
                heir: group
                    .heir
                    .filter(|_| group.role == Role::Yielding || now.since(group.since) < dead_after),
            }
        });
        Beat { dead_after, leaving: self.gone, held: self.held, groups: groups.collect(), ..Beat::default() }
    }

    /// When something may be due that no message announces: a director's death, the end of a wait.
    pub fn next(&self, now: Moment) -> Option<Moment> {
        let deaths = self
            .others
            .iter()
            .filter_map(|other| Some(other.heard? + other.patience(self.settings.dead_after)));
        let waits = [self.listens_until, self.votes_from];
        let votes = self.groups.iter().filter_map(|group| group.vote).map(|vote| vote.until);
        // Only after a moment is something over.
        let after = |moment: Moment| moment + Duration::from_micros(1);
        deaths.chain(waits).chain(votes).map(after).filter(|moment| *moment > now).min()
    }

    pub(super) fn witnesses(&self) -> Option<u8> {
        self.witnesses
    }

    pub(super) fn heard_all(&self) -> bool {
        self.heard_all
    }

    pub(super) fn listens_until(&self) -> Moment {
        self.listens_until
    }

    pub(super) fn woke(&self) -> Moment {
        self.woke
    }

    pub(super) fn votes_from(&self) -> Moment {
        self.votes_from
    }

    fn shed(&mut self, now: Moment) -> Option<(usize, Key)> {
        let balance = self.settings.balance?;
        // `moves` of them make a round, whoever gives them away.
        let pause = now + balance.every / u32::from(balance.moves.max(1));
        if spread::another_gives(self, now) {
            self.next_round = self.next_round.max(pause);
        }
        if !self.joined(now) || now < self.next_round {
            return None;
        }
        let shed = spread::shed(self, now, balance)?;
        self.next_round = pause;
        Some(shed)
    }

    fn note_rival(&mut self, now: Moment, i: usize) {
        let view = (self.groups[i].role == Role::Active).then(|| self.view(now, i, None));
        let rival = view.as_ref().and_then(|view| {
            let rival = election::rival(view)?;
            Some(Rival { key: rival.key, better_off: election::is_better_off(rival, &view.me), since: now })
        });
        let group = &mut self.groups[i];
        // What it would be given the group for must have lasted, not only that it would be given it.
        let same = |old: &Rival, new: &Rival| (old.key, old.better_off) == (new.key, new.better_off);
        group.rival = rival.map(|new| group.rival.filter(|old| same(old, &new)).unwrap_or(new));
    }

    fn newest_term(&self, i: usize) -> u64 {
        let group = &self.groups[i];
        let theirs = self.others.iter().flat_map(|other| other.of(group.settings.key)).map(|beat| beat.term);
        theirs.fold(group.term, u64::max)
    }

    /// The name of the director that holds the group, as far as is known.
    pub(super) fn owner(&self, now: Moment, i: usize) -> Option<&str> {
        if matches!(self.groups[i].role, Role::Active | Role::Yielding) {
            return Some(&self.settings.me.name);
        }
        let owners = self.alive(now).filter(|other| {
            other.of(self.groups[i].settings.key).is_some_and(|beat| beat.role == Role::Active)
        });
        owners.map(|other| &*other.peer.name).next()
    }

    fn why_nobody(&self, now: Moment, i: usize) -> String {
        let why = |other: &Other| {
            let beat = other.of(self.groups[i].settings.key);
            let name = &other.peer.name;
            match beat {
                _ if !other.is_alive(now, self.settings.dead_after) => format!("{name} is not heard"),
                _ if other.beat.held => format!("{name} is held by an operator"),
                None => format!("{name} does not know the group"),
                Some(_) => format!("{name} is not eligible"),
            }
        };
        self.others.iter().map(why).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
