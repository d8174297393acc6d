use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::interfaces::*;

const LINK: Link = Link { mac: Some([2, 0, 0, 0, 0, 1]), running: true, resolves: true };

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn address(text: &str, prefix: u8) -> Address {
    Address { address: ip(text), prefix, secondary: false, usable: true }
}

fn on_one(addresses: &[Address]) -> Interfaces {
    let mut interfaces = Interfaces::default();
    interfaces.set_link(2, Some(LINK));
    for address in addresses {
        assert!(interfaces.add_address(2, *address));
        assert!(!interfaces.add_address(2, *address), "nothing new");
    }
    interfaces
}

#[test]
fn only_a_running_ethernet_interface_sends() {
    let mut interfaces = on_one(&[]);
    assert_eq!(interfaces.sender(2), LINK.mac);
    assert_eq!(interfaces.sender(3), None);
    for link in [
        Link { running: false, ..LINK },
        Link { resolves: false, ..LINK },
        Link { mac: None, ..LINK },
        Link { mac: Some([0; 6]), ..LINK },
    ] {
        assert!(interfaces.set_link(2, Some(link)));
        assert_eq!(interfaces.sender(2), None, "{link:?}");
    }
    assert!(interfaces.set_link(2, None));
    assert!(!interfaces.set_link(2, None), "gone already");
}

#[test]
fn an_arp_request_never_comes_from_a_vip() {
    let interfaces = on_one(&[address("10.0.0.100", 24), address("10.0.0.1", 24)]);
    let avoid = BTreeSet::from([ip("10.0.0.100")]);
    let target = Ipv4Addr::new(10, 0, 0, 2);
    let source = |avoid: &BTreeSet<IpAddr>| interfaces.source_v4(2, target, Some(ip("10.0.0.100")), avoid);
    assert_eq!(source(&avoid), Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(source(&BTreeSet::new()), Ipv4Addr::new(10, 0, 0, 100), "the kernel's choice");
    let both = BTreeSet::from([ip("10.0.0.100"), ip("10.0.0.1")]);
    assert_eq!(source(&both), Ipv4Addr::UNSPECIFIED);
}

#[test]
fn the_source_is_the_primary_address_of_the_targets_network() {
    let secondary = Address { secondary: true, ..address("10.1.0.9", 16) };
    let interfaces =
        on_one(&[address("192.168.0.1", 24), secondary, address("10.1.0.1", 16), address("10.1.0.3", 16)]);
    let source = |target, preferred: Option<&str>| {
        interfaces.source_v4(2, target, preferred.map(ip), &BTreeSet::new()).to_string()
    };
    let target = Ipv4Addr::new(10, 1, 2, 3);
    assert_eq!(source(target, None), "10.1.0.1");
    assert_eq!(source(target, Some("10.1.0.3")), "10.1.0.3");
    assert_eq!(source(target, Some("192.168.0.1")), "10.1.0.1", "the neighbour's network first");
    assert_eq!(source(Ipv4Addr::new(172, 16, 0, 1), None), "192.168.0.1");
}

#[test]
fn a_solicitation_comes_from_the_link_local_address() {
    let tentative = Address { usable: false, ..address("fe80::9", 64) };
    let all = [tentative, address("2001:db8::100", 64), address("2001:db8::1", 64), address("fe80::1", 64)];
    let avoid = BTreeSet::from([ip("2001:db8::100")]);
    assert_eq!(on_one(&all).source_v6(2, &avoid), Some("fe80::1".parse::<Ipv6Addr>().expect("an address")));
    assert_eq!(on_one(&all[..3]).source_v6(2, &avoid).map(IpAddr::from), Some(ip("2001:db8::1")));
    assert_eq!(
        on_one(&all[..2]).source_v6(2, &avoid),
        None,
        "rather none than a VIP, or a tentative address"
    );
}

#[test]
fn ranges_cover_their_network() {
    let range_of = |text, prefix| {
        let range = range(ip(text), prefix);
        (range.start().to_string(), range.end().to_string())
    };
    assert_eq!(range_of("10.1.2.3", 16), ("10.1.0.0".into(), "10.1.255.255".into()));
    assert_eq!(range_of("10.1.2.3", 32), ("10.1.2.3".into(), "10.1.2.3".into()));
    assert_eq!(range_of("10.1.2.3", 0), ("0.0.0.0".into(), "255.255.255.255".into()));
    assert_eq!(
        range_of("2001:db8::1", 32),
        ("2001:db8::".into(), "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".into())
    );
    assert_eq!(range_of("2001:db8::1", 128), ("2001:db8::1".into(), "2001:db8::1".into()));
}

#[test]
fn differences_are_what_changed_either_way() {
    let before = on_one(&[address("10.0.0.1", 24)]);
    let mut after = before.clone();
    assert!(before.differences(&after).is_empty());
    after.set_link(3, Some(LINK));
    assert!(after.remove_address(2, ip("10.0.0.1"), 24));
    assert!(!after.remove_address(2, ip("10.0.0.1"), 24));
    assert_eq!(before.differences(&after), BTreeSet::from([2, 3]));
    assert_eq!(after.differences(&before), BTreeSet::from([2, 3]));
}
