//! Who answers for VIPs and for this machine's own addresses. Pure.

use std::net::IpAddr;

use super::Finding;
use super::facts::{Facts, Link, Server, mac_text};
use crate::model::Vip;
use crate::model::heartbeat;
use crate::neighbours::wire::Mac;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for vip in facts.held_vips() {
        let Some(link) = facts.link(&vip.interface) else { continue };
        if link.running && link.mac.is_some() {
            found.extend(who_answers(facts, vip, link));
        }
    }
    for link in &facts.links {
        let own = link.addresses.iter().map(|(address, _)| *address).filter(|own| !facts.is_vip(*own));
        found.extend(own.flat_map(|own| duplicates(facts, own, link)));
    }
    found
}

/// Whether only whoever holds a VIP answers for it.
fn who_answers(facts: &Facts, vip: &Vip, link: &Link) -> Vec<Finding> {
    let address = vip.address;
    let here = facts.holds(address);
    let mut found = Vec::new();
    let mut others: Vec<Mac> = Vec::new();
    for mac in facts.answers.of(link.index, address) {
        // By its address of the VIP's family, if it has one.
        let near = |asked: IpAddr| server(facts, asked).is_some() && asked.is_ipv4() == address.is_ipv4();
        let real = facts.answers.whose(link.index, mac, near);
        let real =
            real.or_else(|| facts.answers.whose(link.index, mac, |asked| server(facts, asked).is_some()));
        match real.and_then(|real| server(facts, real)) {
            Some(server) => found.push(real_answers(address, server, mac)),
            None => others.push(mac),
        }
    }
    let peers = others.iter().filter(|mac| is_peer(facts, link.index, address, **mac)).count();
    let texts: Vec<String> = others.iter().map(|mac| mac_text(*mac)).collect();
    let texts = texts.join(", ");
    let message = match others.len() {
        0 => None,
        _ if here => Some(format!("this machine holds it, but {texts} on {} answers for it, too", link.name)),
        1 if peers == 1 => None,
        1 if facts.config.heartbeat.is_some() => {
            found.push(
                Finding::note(
                    "arp",
                    address,
                    format!("{texts} answers for it: a director whose MAC is not known, or a stranger"),
                )
                .help("director status names who holds it; compare `ip neighbour` on a router"),
            );
            None
        }
        1 => Some(format!("{texts} on {} answers for it, but this is the only director", link.name)),
        several => Some(format!("{several} machines on {} answer for it: {texts}", link.name)),
    };
    if let Some(message) = message {
        found.push(Finding::error("arp", address, message).help(find_it(&others)));
    }
    if found.is_empty() {
        let holder = match (here, peers) {
            (true, _) => "nobody else answers for it",
            (false, 1) => "only the director that holds it answers for it",
            (false, _) => "nobody answers for it",
        };
        found.push(Finding::ok("arp", address, holder));
    }
    found
}

fn real_answers(vip: IpAddr, server: Server<'_>, mac: Mac) -> Finding {
    let (kind, real) = (server.kind(), server.address);
    let (asked, help) = match vip {
        IpAddr::V4(_) => (
            "ARP requests",
            format!(
                "on {real}: director-real-server up {vip}; or sysctl -w net.ipv4.conf.all.arp_ignore=1 \
                 net.ipv4.conf.all.arp_announce=2, with the VIP on lo only"
            ),
        ),
        // Linux answers for addresses of the interface that was asked only.
        IpAddr::V6(_) => (
            "neighbour solicitations",
            format!("on {real}: have the VIP on lo only, with /128: director-real-server check {vip}"),
        ),
    };
    let message = format!(
        "the {kind} {real} ({}) answers {asked} for this VIP: clients may reach it past the director",
        mac_text(mac)
    );
    Finding::error("arp", vip, message).help(help)
}

fn duplicates(facts: &Facts, own: IpAddr, link: &Link) -> Option<Finding> {
    let others: Vec<Mac> = facts.answers.of(link.index, own).collect();
    if others.is_empty() {
        return None;
    }
    let texts: Vec<String> = others.iter().map(|mac| mac_text(*mac)).collect();
    let message =
        format!("this is an address of {}, but {} answers for it, too", link.name, texts.join(", "));
    Some(Finding::error("duplicate", own, message).help(find_it(&others)))
}

pub(super) fn find_it(macs: &[Mac]) -> String {
    let macs: Vec<String> = macs.iter().map(|mac| mac_text(*mac)).collect();
    format!(
        "find the machine by its MAC in the switch's table ({}), and take the address from it",
        macs.join(", ")
    )
}

/// The real server or fallback of an address.
fn server(facts: &Facts, address: IpAddr) -> Option<Server<'_>> {
    let known = !facts.is_vip(address) && !is_peers(facts, address);
    facts.servers().filter(|_| known).find(|server| server.address == address)
}

/// Whether an address is one by which other directors are reached.
fn is_peers(facts: &Facts, address: IpAddr) -> bool {
    peer_addresses(facts).any(|its| its == address)
}

/// The addresses by which other directors are reached.
pub(super) fn peer_addresses(facts: &Facts) -> impl Iterator<Item = IpAddr> {
    let me = match &facts.node {
        Some(Ok(me)) => me.as_str(),
        _ => "",
    };
    let members = facts.config.heartbeat.iter().flat_map(|heartbeat| &heartbeat.directors);
    members.filter(move |member| member.name != me).flat_map(|member| &member.links).filter_map(|link| {
        match link {
            heartbeat::Link::Udp(address) => Some(address.ip()),
            _ => None,
        }
    })
}

/// Whether a MAC is another director's, or the virtual one of the VIP's group.
fn is_peer(facts: &Facts, index: u32, vip: IpAddr, mac: Mac) -> bool {
    let groups = facts.config.heartbeat.iter().flat_map(|heartbeat| &heartbeat.groups);
    let virtual_mac = groups
        .filter(|group| group.vips.iter().any(|its| its.address == vip))
        .any(|group| group.virtual_mac == Some(mac));
    virtual_mac || facts.answers.whose(index, mac, |asked| is_peers(facts, asked)).is_some()
}
