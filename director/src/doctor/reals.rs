//! Real servers and fallbacks: whether they answer, alone for their addresses, and hold the VIP under direct forwarding. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Finding;
use super::facts::{Facts, Knock, Server, Way, mac_text};
use super::vips::find_it;
use crate::model::Forward;
use crate::neighbours::wire::Mac;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut silent = BTreeSet::new();
    for (address, (server, index)) in on_link(facts) {
        let Some(macs) = facts.answers.0.get(&(index, address)) else { continue };
        if macs.is_empty() {
            silent.insert(address);
            let message = format!(
                "this {} does not answer ARP or neighbour solicitations: nothing can be sent to it",
                server.title()
            );
            found.push(
                Finding::error("real", address, message)
                    .help(format!("is it switched on, and in this segment? ping {address}")),
            );
        }
        if macs.len() > 1 {
            found.push(doubled(server, facts.name_of(index), &macs.iter().copied().collect::<Vec<_>>()));
        }
    }
    let knocks = facts.knocks.iter().filter(|knock| !silent.contains(&knock.real));
    found.extend(knocks.filter_map(|knock| of_knock(knock, facts)));
    if found.is_empty() && !facts.knocks.is_empty() {
        found.push(Finding::ok("real", "", "every real server under `direct` holds its VIPs"));
    }
    found.extend(facts.unasked.iter().map(|why| Finding::note("real", "", why)));
    found
}

/// Servers on the link, each once, and by which interface.
fn on_link(facts: &Facts) -> BTreeMap<IpAddr, (Server<'_>, u32)> {
    let on_link = facts.servers().filter_map(|server| match facts.ways.get(&server.address)? {
        Some(Way { index, gateway: None }) => Some((server.address, (server, *index))),
        _ => None,
    });
    on_link.collect()
}

/// Packets go to one of several machines that say to be the same server: to whichever was believed last.
fn doubled(server: Server<'_>, interface: &str, macs: &[Mac]) -> Finding {
    let texts: Vec<String> = macs.iter().map(|mac| mac_text(*mac)).collect();
    let message = format!(
        "{} machines on {interface} answer for this {}: {}; only one of them gets its packets",
        macs.len(),
        server.title(),
        texts.join(", ")
    );
    let mut help = find_it(macs);
    if server.address.is_ipv4() {
        // Linux answers by each interface for all addresses of the machine, unless it is told not to (arp(7), ip-sysctl).
        help += "; if they are interfaces of one machine, sysctl -w net.ipv4.conf.all.arp_ignore=1 there";
    }
    Finding::error("duplicate", server.address, message).help(help)
}

fn of_knock(knock: &Knock, facts: &Facts) -> Option<Finding> {
    let Knock { vip, real, mac, port, vip_answered, own_answered } = *knock;
    if vip_answered {
        return None;
    }
    // Of several machines that answer for the address, this one.
    let several = facts.knocks.iter().any(|other| other.real == real && other.mac != mac);
    let which = if several { format!(" ({})", mac_text(mac)) } else { String::new() };
    if !own_answered {
        let message = format!(
            "it{which} answers connections to port {port} neither for itself nor for {vip}: whether it holds the VIP cannot be told"
        );
        return Some(
            Finding::note("real", real, message)
                .help(format!("a firewall may drop them; on {real}: director-real-server check {vip}")),
        );
    }
    let message = format!(
        "it{which} answers connections to its own address, port {port}, but not to the VIP {vip}: the VIP is not on its lo, or a firewall drops them"
    );
    Some(Finding::error("real", real, message).help(format!("on {real}: director-real-server up {vip}")))
}

/// Which VIPs are knocked for at which real servers: of the services that forward directly, each pair once, with the first port.
pub(super) fn to_knock(facts: &Facts) -> Vec<(IpAddr, IpAddr, u16)> {
    use crate::model::Ports;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for server in facts.servers().filter(|server| server.service.forward == Forward::Direct) {
        let port = match &server.service.ports {
            Ports::List(ports) => ports.first().copied().unwrap_or(ANY),
            Ports::Any => ANY,
        };
        let vip = server.service.address;
        if seen.insert((vip, server.address)) {
            all.push((vip, server.address, port));
        }
    }
    all
}

/// The port for a service of any: where nothing listens, a machine that holds the VIP refuses, which is as good an answer.
const ANY: u16 = 80;
