//! Spreading groups over directors, as wackamole's `Balance` does. Pure.
//!
//! Only an owner gives a group away. Of the directors that have been heard for long enough (`mature`), the one that holds most gives to
//! the one that holds fewest, while they differ by two or more. All see the same numbers, so only one director gives at a time.

use std::cmp::Reverse;

use super::message::{Key, Role};
use super::moment::Moment;
use super::node::Node;
use crate::model::heartbeat::Balance;

/// How many groups a director holds; those that it is about to hold count: that are being given to it, or that it claims.
pub(super) fn load(node: &Node, now: Moment, key: Key) -> usize {
    let ours = node.groups.iter().map(|group| (node.settings.me.key, group.role, group.heir));
    let theirs = node
        .alive(now)
        .flat_map(|other| other.beat.groups.iter().map(|beat| (other.peer.key, beat.role, beat.heir)));
    let holder = |(holder, role, heir): (Key, Role, Option<Key>)| match role {
        Role::Active | Role::Candidate => Some(holder),
        Role::Yielding => heir,
        _ => None,
    };
    ours.chain(theirs).filter_map(holder).filter(|holder| *holder == key).count()
}

/// Which of its groups this director gives to whom, if it is its turn.
pub(super) fn shed(node: &Node, now: Moment, balance: Balance) -> Option<(usize, Key)> {
    let me = &node.settings.me;
    let mature = node.alive(now).filter(|other| now.since(other.since) >= balance.mature);
    let others: Vec<(usize, &str, Key)> =
        mature.map(|other| (load(node, now, other.peer.key), &*other.peer.name, other.peer.key)).collect();
    let mine = load(node, now, me.key);
    // Of several that hold most, the one whose name sorts first gives.
    let gives_first =
        |(load, name, _): &(usize, &str, Key)| (*load, Reverse(*name)) < (mine, Reverse(&*me.name));
    if !others.iter().all(gives_first) {
        return None;
    }
    let (least, _, heir) = others.iter().min()?;
    if mine < least + 2 {
        return None;
    }
    let movable = |i: &usize| {
        let group = &node.groups[*i];
        let there = node.others.iter().find(|other| other.peer.key == *heir)?.of(group.settings.key)?;
        // Not one that is meant to be here, and none to where it would be worse off.
        let as_well =
            (there.eligible, !there.reluctant, there.standing) >= (true, true, node.standing(group));
        let not_preferred = there.preference >= group.settings.preference;
        (group.role == Role::Active && as_well && not_preferred).then_some(())
    };
    (0..node.groups.len()).rev().find(|i| movable(i).is_some()).map(|i| (i, *heir))
}
