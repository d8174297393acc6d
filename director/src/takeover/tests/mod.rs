mod plan;
mod rounds;

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::observed::Observed;
use crate::model::Vip;
use crate::model::heartbeat::{Group, Means};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn vip(address: &str, prefix: u8, interface: &str) -> Vip {
    Vip { address: ip(address), prefix, interface: interface.to_owned() }
}

fn new_link(index: u32, name: &str, up: bool) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    if up {
        link.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    }
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link.attributes.push(LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]));
    link
}

fn interface(index: u32, name: &str, up: bool) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewLink(new_link(index, name, up))
}

fn macvlan_on(parent: u32, index: u32, name: &str, mac: [u8; 6]) -> RouteNetlinkMessage {
    let mut link = new_link(index, name, true);
    link.attributes[1] = LinkAttribute::Address(mac.to_vec());
    link.attributes.push(LinkAttribute::Link(parent));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan)]));
    RouteNetlinkMessage::NewLink(link)
}

fn address(index: u32, address: &str, prefix: u8, secondary: bool) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.index, message.header.prefix_len) = (index, prefix);
    if secondary {
        message.header.flags = AddressHeaderFlags::Secondary;
    }
    message.attributes.push(AddressAttribute::Address(ip(address)));
    message
}

fn has(index: u32, text: &str, prefix: u8, secondary: bool) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewAddress(address(index, text, prefix, secondary))
}

#[test]
fn what_is_there_already_is_not_missing() {
    let vips = [
        vip("192.0.2.1", 24, "eth0"),
        vip("192.0.2.2", 24, "eth0"),
        vip("192.0.2.1", 24, "eth1"),
        vip("::1", 64, "eth9"),
    ];
    let observed = Observed::of(&[
        interface(2, "eth0", true),
        interface(3, "eth1", true),
        has(2, "192.0.2.1", 32, false),
        has(3, "192.0.2.2", 24, false),
    ]);
    let found = super::missing(&vips, &observed);
    assert_eq!(found, [(&vips[1], Some(2)), (&vips[2], Some(3)), (&vips[3], None)]);
}

#[test]
fn renamed_interfaces_and_lost_addresses_are_followed() {
    let mut observed = Observed::of(&[interface(2, "eth0", true), has(2, "192.0.2.1", 24, false)]);
    observed.take(&interface(2, "lan", true));
    assert_eq!((observed.index("eth0"), observed.index("lan")), (None, Some(2)));
    assert!(observed.on_link(2, ip("192.0.2.9")) && !observed.on_link(2, ip("192.0.3.9")));
    observed.take(&RouteNetlinkMessage::DelAddress(address(2, "192.0.2.1", 24, false)));
    assert!(!observed.has(2, ip("192.0.2.1")));
    observed.take(&has(2, "192.0.2.1", 24, false));
    observed.take(&RouteNetlinkMessage::DelLink(new_link(2, "lan", true)));
    assert!(!observed.has(2, ip("192.0.2.1")) && observed.index("lan").is_none());
}

#[test]
fn repairs_are_limited_for_each_address_until_the_window_is_over() {
    use std::time::{Duration, Instant};
    let (now, mut patience) = (Instant::now(), super::patience::Patience::default());
    let (one, other) = (("eth0".to_owned(), ip("192.0.2.1")), ("eth0".to_owned(), ip("192.0.2.2")));
    assert!((0..10).all(|_| patience.allows(&one, now)));
    assert_eq!(patience.over(), None);
    assert!(!patience.allows(&one, now) && patience.allows(&other, now));
    assert_eq!(patience.over(), Some(now + Duration::from_secs(1)));
    patience.forget(now + Duration::from_secs(1));
    assert!(patience.over().is_none() && patience.allows(&one, now));
}

/// The names of the addresses in removals.
fn removed(actions: &[super::plan::Action]) -> Vec<(IpAddr, bool)> {
    let removed = actions.iter().filter_map(|action| match action {
        super::plan::Action::Remove { address, promote, .. } => Some((*address, *promote)),
        _ => None,
    });
    removed.collect()
}

fn active(names: &[&'static str]) -> impl Fn(&str) -> bool {
    let names: BTreeSet<&'static str> = names.iter().copied().collect();
    move |name| names.contains(name)
}
