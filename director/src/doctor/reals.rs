//! Real servers: whether they answer, and hold the VIP under direct forwarding. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Finding;
use super::facts::{Facts, Knock, Way};
use crate::model::Forward;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let silent = silent(facts);
    for real in &silent {
        found.push(
            Finding::error(
                "real",
                real,
                "it does not answer ARP or neighbour solicitations: nothing can be sent to it",
            )
            .help(format!("is it switched on, and in this segment? ping {real}")),
        );
    }
    found.extend(facts.knocks.iter().filter(|knock| !silent.contains(&knock.real)).filter_map(of_knock));
    if found.is_empty() && !facts.knocks.is_empty() {
        found.push(Finding::ok("real", "", "every real server under `direct` holds its VIPs"));
    }
    found.extend(facts.unasked.iter().map(|why| Finding::note("real", "", why)));
    found
}

/// Real servers on the link that did not answer for their own address.
fn silent(facts: &Facts) -> BTreeSet<IpAddr> {
    let reals = facts.config.services.iter().flat_map(|service| &service.reals).map(|real| real.address);
    let on_link = reals.filter_map(|real| match facts.ways.get(&real)? {
        Some(Way { index, gateway: None }) => Some((real, *index)),
        _ => None,
    });
    on_link
        .filter(|(real, index)| facts.answers.0.get(&(*index, *real)).is_some_and(BTreeSet::is_empty))
        .map(|(real, _)| real)
        .collect()
}

fn of_knock(knock: &Knock) -> Option<Finding> {
    let Knock { vip, real, port, vip_answered, own_answered } = *knock;
    if vip_answered {
        return None;
    }
    if !own_answered {
        let message = format!(
            "it answers connections to port {port} neither for itself nor for {vip}: whether it holds the VIP cannot be told"
        );
        return Some(
            Finding::note("real", real, message)
                .help(format!("a firewall may drop them; on {real}: director-real-server check {vip}")),
        );
    }
    let message = format!(
        "it answers connections to its own address, port {port}, but not to the VIP {vip}: the VIP is not on its lo, or a firewall drops them"
    );
    Some(Finding::error("real", real, message).help(format!("on {real}: director-real-server up {vip}")))
}

/// Which VIPs are knocked for at which real servers: of the services that forward directly, each pair once, with the first port.
pub(super) fn to_knock(facts: &Facts) -> Vec<(IpAddr, IpAddr, u16)> {
    use crate::model::Ports;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for service in facts.config.services.iter().filter(|service| service.forward == Forward::Direct) {
        let port = match &service.ports {
            Ports::List(ports) => ports.first().copied().unwrap_or(ANY),
            Ports::Any => ANY,
        };
        for real in &service.reals {
            if seen.insert((service.address, real.address)) {
                all.push((service.address, real.address, port));
            }
        }
    }
    all
}

/// The port for a service of any: where nothing listens, a machine that holds the VIP refuses, which is as good an answer.
const ANY: u16 = 80;
