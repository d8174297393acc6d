//! Spreading groups over directors, as wackamole's `Balance` does. Pure.
//!
//! Only an owner gives a group away. Of the directors that have been heard for long enough (`mature`), the one that holds most gives to
//! the one that holds fewest, while they differ by two or more. All see the same numbers, so only one director gives at a time; and
//! what one has just given the others count as a move of the present round.

use std::cmp::Reverse;

use super::message::{Key, Role};
use super::moment::Moment;
use super::node::{Group, Node, Other};
use crate::model::heartbeat::Balance;

/// How many groups a director holds; those that it is about to hold count: that are being given to it, or that it claims.
pub(super) fn load(node: &Node, now: Moment, key: Key) -> usize {
    let holds = |holder: Key, role: Role, heir: Option<Key>| match role {
        Role::Active | Role::Candidate => holder == key,
        Role::Yielding => heir == Some(key),
        Role::Standby => false,
    };
    // Group by group: one that is being given away is its heir's in what two directors say.
    let counts = |group: &&Group| {
        let said = |other: &'_ Other| {
            other.of(group.settings.key).map(|beat| (other.peer.key, beat.role, beat.heir))
        };
        holds(node.settings.me.key, group.role, group.heir)
            || node.alive(now).filter_map(said).any(|(other, role, heir)| holds(other, role, heir))
    };
    node.groups.iter().filter(counts).count()
}

/// Whether another director gives a group away, or has just done so.
pub(super) fn another_gives(node: &Node, now: Moment) -> bool {
    let mut said = node.alive(now).flat_map(|other| &other.beat.groups);
    said.any(|beat| beat.heir.is_some())
}

/// Which of its groups this director gives to whom, if it is its turn.
pub(super) fn shed(node: &Node, now: Moment, balance: Balance) -> Option<(usize, Key)> {
    let me = &node.settings.me;
    let mature = node.alive(now).filter(|other| now.since(other.since) >= balance.mature);
    let mut others: Vec<(usize, &Other)> =
        mature.map(|other| (load(node, now, other.peer.key), other)).collect();
    let mine = load(node, now, me.key);
    // Of several that hold most, the one whose name sorts first gives.
    let gives_first =
        |(load, other): &(usize, &Other)| (*load, Reverse(&other.peer.name)) < (mine, Reverse(&me.name));
    if !others.iter().all(gives_first) {
        return None;
    }
    // To whoever holds fewest of those that can be given anything.
    others.sort_by_key(|(load, other)| (*load, &other.peer.name));
    let heirs = others.iter().take_while(|(load, _)| mine >= load + 2).map(|(_, other)| *other);
    heirs.filter_map(|heir| Some((to_be_moved(node, now, heir)?, heir.peer.key))).next()
}

/// Which of its groups this director can give to another one: none that is meant to be here, none that would be worse off there, and
/// none that an operator had moved. Of others, first one that is meant to be there.
fn to_be_moved(node: &Node, now: Moment, heir: &Other) -> Option<usize> {
    let movable = |i: &usize| {
        let group = &node.groups[*i];
        let asked = |other: &Other| other.of(group.settings.key).is_some_and(|beat| beat.reluctant);
        heir.of(group.settings.key).is_some_and(|there| {
            group.role == Role::Active
                && (there.eligible, !there.reluctant, there.standing) >= (true, true, node.standing(group))
                && there.preference >= group.settings.preference
                && !node.alive(now).any(asked)
        })
    };
    let gain = |i: &usize| {
        let group = &node.groups[*i].settings;
        heir.of(group.key).map_or(0, |there| there.preference.saturating_sub(group.preference))
    };
    (0..node.groups.len()).filter(movable).max_by_key(gain)
}
