//! Who shall hold a group: one director's decision, from what it sees at one moment. Pure.
//!
//! The rules, for a group of VIPs:
//!
//! - Nobody takes a group from an owner that it hears. Only the owner gives it away: it becomes *yielding* and names an heir; the
//!   heir becomes active; then the old owner lets go. So the new one holds the VIPs before the old one releases them.
//! - A group without an owner is taken by the best of those that hear each other.
//! - *Better* is, in this order: eligible, not reluctant, more witnesses reached, more services with a live real server, the higher
//!   score of tracked commands, (with `failback: false`) the owner, the greater preference, the name that sorts first.
//! - What an owner gives a group away for must have lasted: `settle` for a better standing, `failback`'s delay for a preference. A
//!   name moves nothing. Nor does a preference, while a director is reluctant: an operator had the group moved away from it.
//! - What one director has just given to another one is not taken by a third one that has not heard of the new owner yet.
//! - Two owners that hear each other: the better one stays and announces again. If one of them does not hear the other, that one stays,
//!   for it cannot be told.
//! - With a quorum, a candidate becomes active when enough directors promise to have no other owner for a while, and is active no longer
//!   than they promised; see `quorum`.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use super::message::{Key, Role, Standing};
use super::moment::Moment;
use crate::model::heartbeat::Failback;

/// A director as a contender for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender<'a> {
    /// Who.
    pub key: Key,
    /// Its name.
    pub name: &'a str,
    /// What it is for the group.
    pub role: Role,
    /// Of that role.
    pub term: u64,
    /// Whether it may hold the group.
    pub eligible: bool,
    /// Whether it would rather not.
    pub reluctant: bool,
    /// How well off it is.
    pub standing: Standing,
    /// What the configuration says of it.
    pub preference: u16,
    /// Whom it yields to; of a standby, whom it has just yielded to.
    pub heir: Option<Key>,
    /// It does not hear us, and has had the time to.
    pub deaf: bool,
    /// How many groups it holds; only where groups are spread.
    pub load: usize,
}

/// What a director sees of a group.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The time.
    pub now: Moment,
    /// Itself.
    pub me: Contender<'a>,
    /// The others that are alive.
    pub others: Vec<Contender<'a>>,
    /// It knows the others and its own machine: it may take what it is given.
    pub joined: bool,
    /// It has listened for so long that whoever holds the group would have been heard: it may take what nobody holds.
    pub listened: bool,
    /// With a quorum: whether its vote is its own to give, and until when others promised to have no other owner.
    pub backing: Backing,
    /// Since when it is what it is.
    pub since: Moment,
    /// Who is better than this owner, and since when.
    pub rival: Option<(Key, Moment)>,
    /// Whom the group shall go to for the sake of balance.
    pub shed: Option<Key>,
    /// It is about to end, or an operator has it stay standby: it gives away what it holds, if somebody takes it.
    pub resigning: bool,
    /// The rules that the configuration sets.
    pub rules: Rules,
}

/// What others promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Nobody needs to.
    NotNeeded,
    /// Enough do, until then.
    Until(Moment),
    /// Too few do. Whether its own vote is free to be given to itself.
    TooFew {
        /// It is.
        free: bool,
    },
}

/// What the configuration says of moving a group.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For priority's sake.
    pub failback: Failback,
    /// For a better standing.
    pub settle: Duration,
    /// How long an heir may take to take over.
    pub patience: Duration,
    /// Groups are spread: of equals, who holds fewer comes first.
    pub spread: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// To stay, and to announce the VIPs again as soon as nobody contests them.
    Contested,
    /// To become this.
    Become(Role, Why),
    /// To become yielding.
    Yield(Key, Why),
}

/// Why a role changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No director holds it.
    NoOwner,
    /// Enough others agree.
    Elected,
    /// This one gave it to us.
    GivenBy(String),
    /// This one has taken what we gave it.
    TakenBy(String),
    /// The one we gave it to did not take it.
    NotTaken(String),
    /// This one is better off.
    BetterOff(String),
    /// This one comes first by configuration.
    Preferred(String),
    /// This one holds fewer groups.
    Balance(String),
    /// An operator said so, or the director is to end.
    Asked(String),
    /// This one holds it too, and comes first.
    OtherOwner(String),
    /// This one holds it too, and cannot hear us.
    DeafOwner(String),
    /// This one is a candidate too, and comes first.
    OtherCandidate(String),
    /// Too few others agree.
    NoQuorum,
    /// It must not hold it.
    NotEligible,
    /// It did not run for so long.
    Slept(Duration),
    /// It is no group any more.
    NotConfigured,
}

impl Why {
    /// A word for it that stays the same and names nobody, for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Why::NoOwner => "no_owner",
            Why::Elected => "elected",
            Why::GivenBy(_) => "given",
            Why::TakenBy(_) => "taken",
            Why::NotTaken(_) => "not_taken",
            Why::BetterOff(_) => "better_off",
            Why::Preferred(_) => "preferred",
            Why::Balance(_) => "balance",
            Why::Asked(_) => "asked",
            Why::OtherOwner(_) => "other_owner",
            Why::DeafOwner(_) => "deaf_owner",
            Why::OtherCandidate(_) => "other_candidate",
            Why::NoQuorum => "no_quorum",
            Why::NotEligible => "not_eligible",
            Why::Slept(_) => "slept",
            Why::NotConfigured => "not_configured",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NoOwner => write!(f, "no director holds it"),
            Why::Elected => write!(f, "enough directors agree"),
            Why::GivenBy(who) => write!(f, "{who} gave it to us"),
            Why::TakenBy(who) => write!(f, "{who} has taken it"),
            Why::NotTaken(who) => write!(f, "{who} did not take it"),
            Why::BetterOff(who) => write!(f, "{who} is better off"),
            Why::Preferred(who) => write!(f, "{who} is preferred"),
            Why::Balance(who) => write!(f, "{who} holds fewer groups"),
            Why::Asked(who) => write!(f, "handed over to {who} on request"),
            Why::OtherOwner(who) => write!(f, "{who} holds it too, and comes first"),
            Why::DeafOwner(who) => write!(f, "{who} holds it too, and does not hear us"),
            Why::OtherCandidate(who) => write!(f, "{who} comes first"),
            Why::NoQuorum => write!(f, "too few directors agree"),
            Why::NotEligible => write!(f, "this director is not eligible"),
            Why::Slept(span) => write!(f, "this director did not run for {} ms", span.as_millis()),
            Why::NotConfigured => write!(f, "it is not configured any more"),
        }
    }
}

/// What a director decides.
pub fn decide(view: &View) -> Decision {
    match view.me.role {
        Role::Standby => standby(view),
        Role::Candidate => candidate(view),
        Role::Active => active(view),
        Role::Yielding => yielding(view),
    }
}

/// Who is better than the owner `me` at the moment, if somebody is.
pub fn rival<'v>(view: &'v View) -> Option<&'v Contender<'v>> {
    let best = best(view.others.iter())?;
    // An owner that is to stay gives way to a better standing, not to a preference. None gives way to a name: of equals, whoever
    // has a group keeps it. And where an operator had it moved, it stays as long as that word stands.
    let asked = view.others.iter().any(|other| other.reluctant);
    let preferred = worth(best) == worth(&view.me)
        && best.preference > view.me.preference
        && view.rules.failback != Failback::Never
        && !asked;
    (is_better_off(best, &view.me) || preferred).then_some(best)
}

/// Whether a director is better off than another one, whatever the configuration says of them.
pub fn is_better_off(contender: &Contender, than: &Contender) -> bool {
    worth(contender) > worth(than)
}

/// The best of those that can be given a group: who does not hear us would not take it.
pub fn best<'v, 'n: 'v>(contenders: impl Iterator<Item = &'v Contender<'n>>) -> Option<&'v Contender<'n>> {
    contenders
        .filter(|contender| contender.eligible && !contender.deaf)
        .max_by(|a, b| merit(a).cmp(&merit(b)))
}

fn standby(view: &View) -> Decision {
    if !view.joined || !view.me.eligible || view.others.iter().any(|other| other.role == Role::Active) {
        return Decision::Stay;
    }
    // Somebody has it already, though its own word of that has not come yet.
    let given = |heir: Key| view.others.iter().any(|other| other.key == heir && other.eligible);
    if view.others.iter().any(|giver| giver.role == Role::Standby && giver.heir.is_some_and(given)) {
        return Decision::Stay;
    }
    let mut givers = view.others.iter().filter(|other| other.role == Role::Yielding);
    // There may be two: one that was given it and gives it on before the first one knows.
    let why = match givers.clone().find(|giver| giver.heir == Some(view.me.key)) {
        Some(giver) => Why::GivenBy(giver.name.to_owned()),
        None if view.listened && givers.next().is_none() && best_of_all(view) => Why::NoOwner,
        None => return Decision::Stay,
    };
    claim(view, why)
}

fn claim(view: &View, why: Why) -> Decision {
    match view.backing {
        Backing::NotNeeded => Decision::Become(Role::Active, why),
        Backing::TooFew { free: false } => Decision::Stay,
        _ => Decision::Become(Role::Candidate, why),
    }
}

/// Whether nobody is better to take what nobody holds.
fn best_of_all(view: &View) -> bool {
    let mine = merit_for_orphan(&view.me, view.rules.spread);
    let mut others = view.others.iter().filter(|other| other.eligible);
    others.all(|other| merit_for_orphan(other, view.rules.spread) < mine)
}

fn candidate(view: &View) -> Decision {
    if !view.me.eligible {
        return Decision::Become(Role::Standby, Why::NotEligible);
    }
    if let Some(owner) = view.others.iter().find(|other| other.role == Role::Active) {
        return Decision::Become(Role::Standby, Why::OtherOwner(owner.name.to_owned()));
    }
    let better = |other: &&Contender| other.role == Role::Candidate && merit(other) > merit(&view.me);
    if let Some(other) = view.others.iter().find(better) {
        return Decision::Become(Role::Standby, Why::OtherCandidate(other.name.to_owned()));
    }
    match view.backing {
        Backing::Until(end) if end > view.now => Decision::Become(Role::Active, Why::Elected),
        Backing::NotNeeded => Decision::Become(Role::Active, Why::Elected),
        _ => Decision::Stay,
    }
}

fn active(view: &View) -> Decision {
    let backed = match view.backing {
        Backing::NotNeeded => true,
        Backing::Until(end) => end > view.now,
        Backing::TooFew { .. } => false,
    };
    if !backed {
        return Decision::Become(Role::Standby, Why::NoQuorum);
    }
    if let Some(decision) = contest(view) {
        return decision;
    }
    match best(view.others.iter()) {
        Some(heir) if !view.me.eligible => return Decision::Yield(heir.key, Why::NotEligible),
        None if !view.me.eligible => return Decision::Become(Role::Standby, Why::NotEligible),
        Some(heir) if view.resigning => return Decision::Yield(heir.key, Why::Asked(heir.name.to_owned())),
        _ => {}
    }
    if let (Some(rival), Some((_, since))) = (rival(view), view.rival) {
        let name = rival.name.to_owned();
        let (delay, why) = if is_better_off(rival, &view.me) {
            (view.rules.settle, Why::BetterOff(name))
        } else {
            (failback_delay(view.rules.failback), Why::Preferred(name))
        };
        if view.now.since(since) >= delay {
            return Decision::Yield(rival.key, why);
        }
    }
    match view.shed.and_then(|heir| best(view.others.iter().filter(|other| other.key == heir))) {
        Some(heir) => Decision::Yield(heir.key, Why::Balance(heir.name.to_owned())),
        None => Decision::Stay,
    }
}

/// What to do about another owner, if there is one.
fn contest(view: &View) -> Option<Decision> {
    let mut owners = view.others.iter().filter(|other| other.role == Role::Active).peekable();
    owners.peek()?;
    let stays = |other: &&Contender| other.deaf || merit(other) > merit(&view.me);
    Some(match owners.find(stays) {
        Some(other) if other.deaf => Decision::Become(Role::Standby, Why::DeafOwner(other.name.to_owned())),
        Some(other) => Decision::Become(Role::Standby, Why::OtherOwner(other.name.to_owned())),
        None => Decision::Contested,
    })
}

fn yielding(view: &View) -> Decision {
    if let Some(owner) = view.others.iter().find(|other| other.role == Role::Active) {
        return Decision::Become(Role::Standby, Why::TakenBy(owner.name.to_owned()));
    }
    // Its heir has had it, and gives it back, before this one heard of the former.
    let back = |other: &&Contender| {
        other.role == Role::Yielding && other.heir == Some(view.me.key) && other.term > view.me.term
    };
    if let Some(giver) = view.others.iter().find(back).filter(|_| view.me.eligible) {
        return claim(view, Why::GivenBy(giver.name.to_owned()));
    }
    let heir = view.others.iter().find(|other| view.me.heir == Some(other.key));
    // An heir that has it may have given it on before this one heard of it: then it takes as long again.
    let gives_on = heir.is_some_and(|heir| heir.role == Role::Yielding || heir.heir.is_some());
    let patience = if gives_on { view.rules.patience * 3 } else { view.rules.patience };
    if view.now.since(view.since) < patience && (gives_on || heir.is_some_and(|heir| heir.eligible)) {
        return Decision::Stay;
    }
    let why = heir.map_or(Why::NoOwner, |heir| Why::NotTaken(heir.name.to_owned()));
    if !view.me.eligible {
        return Decision::Become(Role::Standby, why);
    }
    match claim(view, why) {
        // Its vote went to the heir: it waits until that is over.
        Decision::Stay => Decision::Become(Role::Standby, Why::NoQuorum),
        decision => decision,
    }
}

fn failback_delay(failback: Failback) -> Duration {
    match failback {
        Failback::Never => Duration::MAX,
        Failback::After(delay) => delay,
    }
}

/// Eligible, not reluctant, well off.
pub(super) type Worth = (bool, bool, Standing);
/// What only breaks ties: no two names are equal.
pub(super) type Tie<'a> = (u16, Reverse<&'a str>);

/// What an owner gives way to in any case.
fn worth(contender: &Contender) -> Worth {
    (contender.eligible, !contender.reluctant, contender.standing)
}

/// The whole order: no two directors are equal.
pub(super) fn merit<'a>(contender: &Contender<'a>) -> (Worth, Tie<'a>) {
    (worth(contender), merit_of_name(contender))
}

/// The order for a group that nobody holds: where groups are spread, the place in `prefer` comes first, then who holds fewer.
fn merit_for_orphan<'a>(contender: &Contender<'a>, spread: bool) -> (Worth, u16, Reverse<usize>, Tie<'a>) {
    let (place, load) = if spread { (contender.preference >> 8, contender.load) } else { (0, 0) };
    (worth(contender), place, Reverse(load), merit_of_name(contender))
}

fn merit_of_name<'a>(contender: &Contender<'a>) -> Tie<'a> {
    (contender.preference, Reverse(contender.name))
}

#[cfg(test)]
mod tests;
