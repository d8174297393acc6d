//! What must hold at every moment, and what is remembered to tell.

use std::collections::HashMap;
use std::time::Duration;

use director::heartbeat::election::Why;
use director::heartbeat::message::{Body, Key, Message, Role};
use director::heartbeat::moment::Moment;
use director::heartbeat::node::Moved;
use director::heartbeat::session::{Accepted, Refused};

use crate::host::{Host, Real};
use crate::plan::Plan;

/// See the module.
pub struct Watch {
    majority: bool,
    groups: Vec<String>,
    names: Vec<String>,
    dead_after: Duration,
    /// How long two owners that hear each other may take to become one.
    contest: Duration,
    failure: Option<String>,
    /// No role may change.
    pub quiet: bool,
    /// Messages that each director sent while it was quiet.
    beats: Vec<u64>,
    /// This group has a holder at every moment.
    pub held: Option<usize>,
    /// Since when nothing is wrong; none: something is.
    pub well: Option<Real>,
    /// The newest message that a director (first) acted upon of another one: its run and number.
    accepted: Vec<Vec<Option<(u64, u64)>>>,
    /// When a run of a director ended.
    ends: HashMap<(usize, u64), Real>,
    of: Vec<Vec<OfGroup>>,
}

/// What is remembered of a director (first) and a group.
#[derive(Clone, Default)]
struct OfGroup {
    term: u64,
    /// The terms of others, as it heard them.
    heard: Vec<u64>,
    /// When it last became active.
    active: Real,
    /// When it last had something to announce.
    announced: Option<Real>,
    /// When it last ceased to be active, in this run, and knew that it was until then.
    let_go: Option<Real>,
    /// Whether an operator had it give the group away.
    reluctant: bool,
}

impl Watch {
    /// Before anything happened.
    pub fn new(plan: &Plan) -> Watch {
        let (count, groups) = (plan.count(), plan.heartbeat.groups.len());
        let of_group = OfGroup { heard: vec![0; count], ..OfGroup::default() };
        Watch {
            majority: plan.majority(),
            groups: plan.heartbeat.groups.iter().map(|group| group.name.clone()).collect(),
            names: plan.heartbeat.directors.iter().map(|member| member.name.clone()).collect(),
            dead_after: plan.heartbeat.dead_after,
            contest: (plan.heartbeat.interval * 106 / 100 + plan.delay) * 4,
            failure: None,
            quiet: false,
            beats: vec![0; count],
            held: None,
            well: None,
            accepted: vec![vec![None; count]; count],
            ends: HashMap::new(),
            of: vec![vec![of_group; groups]; count],
        }
    }

    /// What was wrong.
    pub fn result(&mut self) -> Result<(), String> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    /// A director starts, and knows nothing.
    pub fn started(&mut self, host: usize) {
        self.accepted[host].fill(None);
        for of in &mut self.of[host] {
            let heard = vec![0; self.names.len()];
            *of = OfGroup { heard, ..OfGroup::default() };
        }
    }

    /// A run of a director ended.
    pub fn ended(&mut self, host: usize, run: u64, now: Real) {
        self.ends.insert((host, run), now);
    }

    /// A director has taken a message, as it came.
    pub fn heard(
        &mut self,
        host: usize,
        this: &Host,
        message: &Message,
        accepted: Result<Accepted, Refused>,
    ) {
        if accepted != Ok(Accepted::New) {
            return;
        }
        let Some(from) = self.names.iter().position(|name| *name == message.from) else { return };
        let before = self.accepted[host][from].replace((message.incarnation, message.sequence));
        if before >= Some((message.incarnation, message.sequence)) {
            self.fail(format!(
                "replay: {} acts upon message {} of run {} of {} after {before:?}",
                this.name, message.sequence, message.incarnation, message.from
            ));
        }
        if self.ends.get(&(from, message.incarnation)).is_some_and(|end| *end < this.born) {
            self.fail(format!(
                "replay: {} acts upon a message of run {} of {}, which ended before {} began",
                this.name, message.incarnation, message.from, this.name
            ));
        }
        if let Body::Beat(beat) = &message.body {
            for (group, of) in self.groups.iter().zip(&mut self.of[host]) {
                let key = Key::of(group);
                let term = beat.groups.iter().find(|beat| beat.group == key).map_or(0, |beat| beat.term);
                of.heard[from] = term;
            }
        }
    }

    /// A director sends a message.
    pub fn sent(&mut self, host: usize, this: &mut Host, own: Moment, number: u64, message: &Message) {
        if number != message.sequence {
            self.fail(format!("{} numbers message {number} as {}", this.name, message.sequence));
        }
        self.beats[host] += u64::from(self.quiet);
        let slept = this.sent.replace(own).map(|sent| own.since(sent));
        let Body::Beat(beat) = &message.body else { return };
        let claims = beat.groups.iter().any(|group| group.role != Role::Standby);
        if claims && slept.is_some_and(|slept| slept > self.dead_after) {
            let name = self.names[host].clone();
            self.fail(format!(
                "asleep: {name} had not sent anything for {slept:?}, and is not standby in what it sends now"
            ));
        }
    }

    /// The most messages that a director sent while it was quiet.
    pub fn most_sent(&self) -> Option<u64> {
        self.beats.iter().copied().max()
    }

    /// A director has renewed its leases.
    pub fn renewed(&mut self, now: Real, host: usize, this: &Host) {
        let slept = this.sent.map(|sent| this.clock.at(now).since(sent));
        let holds = |i: usize| this.holds(i, Role::Active, now) || this.holds(i, Role::Yielding, now);
        if slept > Some(self.dead_after) && (0..self.groups.len()).any(holds) {
            self.fail(format!(
                "asleep: {} renews its leases, and has not sent anything for {slept:?}",
                self.names[host]
            ));
        }
    }

    /// A director has something to announce.
    pub fn announced(&mut self, now: Real, host: usize, group: usize) {
        self.of[host][group].announced = Some(now);
    }

    /// A role changed.
    pub fn moved(&mut self, now: Real, host: usize, moved: &Moved) {
        let Some(group) = self.groups.iter().position(|name| *name == moved.group) else { return };
        let name = &self.names[host];
        if self.quiet {
            self.fail(format!(
                "restless: {name} moves {} {:?} -> {:?} although nothing happens: {}",
                moved.group, moved.from, moved.to, moved.why
            ));
            return;
        }
        let of = &mut self.of[host][group];
        let claims =
            moved.to == Role::Candidate || (moved.to == Role::Active && moved.from != Role::Candidate);
        let newest = of.heard.iter().copied().fold(of.term, u64::max);
        if moved.term < of.term || (claims && moved.term <= newest) {
            let before = of.term;
            self.failure.get_or_insert(format!(
                "term: {name} is {:?} of {} in term {} after {before} and others' {newest}",
                moved.to, moved.group, moved.term
            ));
        }
        of.term = moved.term;
        of.reluctant = (of.reluctant || matches!(moved.why, Why::Asked(_))) && moved.to != Role::Active;
        if moved.to == Role::Active {
            (of.active, of.let_go) = (now, None);
        }
        // Who slept does not know; nor did it announce anything meanwhile.
        if moved.from == Role::Active && moved.to == Role::Standby && !matches!(moved.why, Why::Slept(_)) {
            of.let_go = Some(now);
        }
    }

    /// A director has done what there was to do.
    pub fn stepped(&mut self, now: Real, hosts: &[Host], host: usize) {
        for group in 0..self.groups.len() {
            if self.held == Some(group)
                && !hosts.iter().any(|other| {
                    other.holds(group, Role::Active, now) || other.holds(group, Role::Yielding, now)
                })
            {
                self.fail(format!("gap: nobody holds {}", self.groups[group]));
            }
            if hosts[host].shown[group].role != Role::Active {
                continue;
            }
            for other in (0..hosts.len()).filter(|other| *other != host) {
                let both = hosts[host].holds(group, Role::Active, now)
                    && hosts[other].holds(group, Role::Active, now);
                if both && self.majority {
                    self.fail(format!(
                        "split: both {} and {} hold {}",
                        self.names[host], self.names[other], self.groups[group]
                    ));
                }
                if let Some(well) = self.well.filter(|_| both && hosts[other].machine.is_some()) {
                    let since = well.max(self.of[host][group].active).max(self.of[other][group].active);
                    if now > since + self.contest.as_nanos() as Real {
                        self.fail(format!(
                            "contest: {} and {} have both held {} for too long",
                            self.names[host], self.names[other], self.groups[group]
                        ));
                    }
                }
            }
        }
    }

    /// Whether an operator had somebody give a group away, and it was not given back since.
    pub fn reluctant(&self) -> bool {
        self.of.iter().flatten().any(|of| of.reluctant)
    }

    /// Whether clients have heard of the owner of each group last, and not of one that let go.
    pub fn settled(&self, owners: &[usize]) -> Result<(), String> {
        for (group, owner) in owners.iter().enumerate() {
            let last = self.of[*owner][group].announced;
            for (other, of) in self.of.iter().enumerate().filter(|(other, _)| other != owner) {
                let let_go = if self.majority { None } else { of[group].let_go };
                let until = let_go.max(of[group].announced);
                if last < until {
                    return Err(format!(
                        "announce: {} holds {} and announced it at {last:?} ns; {} held and announced it until {until:?}",
                        self.names[*owner], self.groups[group], self.names[other]
                    ));
                }
            }
        }
        Ok(())
    }
}
