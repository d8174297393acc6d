//! From what there is and what is wanted to what is to be done. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::observed::{Link, Observed};
use crate::heartbeat::message::Key;
use crate::model::Vip;
use crate::model::heartbeat::{Group, Means};
use crate::neighbours::wire::Mac;

/// How the names of our macvlans begin; eight hexadecimal digits follow.
const MACVLAN: &str = "dv-";

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Delete one of our macvlans.
    Delete {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Make a macvlan and switch it on.
    Create {
        /// Its name.
        name: String,
        /// The interface that it goes on.
        parent: u32,
        /// The name of that.
        parent_name: String,
        /// Its MAC.
        mac: Mac,
    },
    /// Switch one of our macvlans on.
    Raise {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Add a VIP to its device, and announce it.
    Add {
        /// The place of its group among the groups.
        group: usize,
        /// Its place in the group.
        vip: usize,
    },
    /// Remove an address.
    Remove {
        /// From the interface of this index.
        index: u32,
        /// The name of that.
        device: String,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Addresses that stay would go with it, unless the interface is told to keep them.
        promote: bool,
    },
}

/// What is to be done, in this order: what is taken, then what is released, which may take longer. Groups that are
/// not taken by addresses are left alone. `gone` are VIPs that were configured and are not any more.
pub fn plan(
    observed: &Observed,
    groups: &[Group],
    active: impl Fn(&str) -> bool,
    gone: &[Vip],
) -> Vec<Action> {
    let ours = || groups.iter().enumerate().filter(|(_, group)| by_address(group));
    let (mut taken, mut kept) = (Vec::new(), BTreeSet::new());
    for (place, group) in ours().filter(|(_, group)| active(&group.name)) {
        take(observed, place, group, &mut taken, &mut kept);
    }
    let held = ours().filter(|(_, group)| active(&group.name));
    let wanted: BTreeSet<(String, IpAddr)> = held
        .flat_map(|(_, group)| group.vips.iter().map(|vip| (device_of(group, vip), vip.address)))
        .collect();
    // On the interface that is configured, and on the macvlan there may be.
    let configured = ours().flat_map(|(_, group)| {
        let both = |vip: &Vip| [vip.interface.clone(), macvlan(&group.name, &vip.interface)];
        group.vips.iter().flat_map(move |vip| both(vip).map(|device| (device, vip.address)))
    });
    let all = configured.chain(gone.iter().map(|vip| (vip.interface.clone(), vip.address)));
    let unwanted: BTreeSet<(String, IpAddr)> = all.filter(|place| !wanted.contains(place)).collect();
    taken.extend(removals(observed, unwanted.into_iter()));
    let stale = observed.links().filter(|(_, link)| is_ours(link) && !kept.contains(&link.name));
    taken.extend(stale.map(|(index, link)| Action::Delete { index, name: link.name.clone() }));
    taken
}

/// What takes a group, and the names of the macvlans that are dealt with.
fn take(
    observed: &Observed,
    place: usize,
    group: &Group,
    actions: &mut Vec<Action>,
    kept: &mut BTreeSet<String>,
) {
    for (name, parent_name, mac) in macvlans(group) {
        let Some((parent, parent_link)) = observed.named(parent_name) else { continue };
        let create =
            || Action::Create { name: name.clone(), parent, parent_name: parent_name.to_owned(), mac };
        match observed.named(&name) {
            Some((index, link)) if link.macvlan_on == Some(parent) && link.mac == Some(mac) => {
                let raise = !link.up && parent_link.up;
                actions.extend(raise.then(|| Action::Raise { index, name: name.clone() }));
            }
            Some((index, link)) if is_ours(link) => {
                actions.push(Action::Delete { index, name: name.clone() });
                actions.push(create());
            }
            Some(_) => {}
            None if parent_link.up => actions.push(create()),
            None => {}
        }
        kept.insert(name);
    }
    let made: BTreeSet<String> = actions.iter().filter_map(made).collect();
    for (number, vip) in group.vips.iter().enumerate() {
        let device = device_of(group, vip);
        let ready = match observed.named(&device) {
            _ if made.contains(&device) => true,
            Some((index, link)) => link.up && !observed.has(index, vip.address),
            None => false,
        };
        if ready && obstacle(observed, group, vip).is_none() {
            actions.push(Action::Add { group: place, vip: number });
        }
    }
}

/// The macvlan that an action makes or brings up: it has none of its VIPs then, or is about to.
fn made(action: &Action) -> Option<String> {
    match action {
        Action::Create { name, .. } | Action::Raise { name, .. } => Some(name.clone()),
        _ => None,
    }
}

/// Removes addresses where they are, with whatever prefix length; secondary ones first, so that as few as possible
/// hang on a primary one when that goes.
pub fn removals(observed: &Observed, unwanted: impl Iterator<Item = (String, IpAddr)>) -> Vec<Action> {
    let mut found = Vec::new();
    for (device, address) in unwanted {
        let Some(index) = observed.index(&device) else { continue };
        let prefixes = observed.prefixes(index, address);
        found.extend(prefixes.map(|prefix| (index, device.clone(), address, prefix)));
    }
    found.sort_by_key(|(index, _, address, prefix)| !observed.is_secondary(*index, *address, *prefix));
    let going: BTreeSet<(u32, IpAddr)> =
        found.iter().map(|(index, _, address, _)| (*index, *address)).collect();
    let remove = |(index, device, address, prefix): (u32, String, IpAddr, u8)| {
        let primary = address.is_ipv4() && !observed.is_secondary(index, address, prefix);
        let mut dependants = observed.dependants(index, address, prefix);
        let promote = primary && dependants.any(|other| !going.contains(&(index, other)));
        Action::Remove { index, device, address, prefix, promote }
    };
    found.into_iter().map(remove).collect()
}

/// Whether a group is taken by addresses; the other means are not this module's.
pub fn by_address(group: &Group) -> bool {
    match group.takeover {
        Means::Address => true,
        Means::Command(_) | Means::Dns(_) => false,
    }
}

/// Where a VIP of a group is held: on its interface, or with a virtual MAC on a macvlan there.
pub fn device_of(group: &Group, vip: &Vip) -> String {
    match group.virtual_mac {
        Some(_) => macvlan(&group.name, &vip.interface),
        None => vip.interface.clone(),
    }
}

/// Why a VIP cannot be added now.
pub fn obstacle(observed: &Observed, group: &Group, vip: &Vip) -> Option<String> {
    let interface = &vip.interface;
    match observed.named(interface) {
        None => return Some(format!("there is no interface {interface}")),
        Some((_, link)) if !link.up => return Some(format!("the interface {interface} is down")),
        Some(_) => {}
    }
    group.virtual_mac?;
    let name = macvlan(&group.name, interface);
    let (_, link) = observed.named(&name)?;
    (!is_ours(link)).then(|| format!("another interface has the name {name}: rename or delete it"))
}

/// Names of the macvlans of a group, the interfaces that they are on, and their MAC.
fn macvlans(group: &Group) -> impl Iterator<Item = (String, &str, Mac)> {
    let interfaces: BTreeSet<&str> = group.vips.iter().map(|vip| vip.interface.as_str()).collect();
    let mac = group.virtual_mac;
    interfaces
        .into_iter()
        .filter_map(move |interface| Some((macvlan(&group.name, interface), interface, mac?)))
}

/// The name of a group's macvlan on an interface: 11 characters of the 15 that Linux allows.
pub fn macvlan(group: &str, interface: &str) -> String {
    format!("{MACVLAN}{:08x}", Key::of(&format!("{group}\n{interface}")).0)
}

/// Whether an interface is a macvlan of ours, of this run or an earlier one.
pub fn is_ours(link: &Link) -> bool {
    let digits = link.name.strip_prefix(MACVLAN);
    link.macvlan_on.is_some()
        && digits
            .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
