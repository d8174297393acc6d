//! Ways to real servers and back: routes, reverse path filters, what NAT and direct forwarding ask for. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Finding;
use super::facts::{Facts, Server, Way};
use crate::model::Forward;

/// rp_filter's value for packets that must come in where answers to them would go out (RFC 3704, 2.2).
const STRICT: u8 = 1;

/// The most addresses that a message names.
const MOST_NAMED: usize = 5;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(no_route(facts));
    found.extend(behind_gateway(facts));
    found.extend(way_back(facts));
    found.extend(reverse_path(facts));
    found.extend(forwarding(facts));
    if found.is_empty() && !facts.ways.is_empty() {
        found.push(Finding::ok("routes", "", "there is a way to each real server"));
    }
    found
}

/// Real servers and fallbacks, each once.
fn servers(facts: &Facts, forward: Option<Forward>) -> BTreeMap<IpAddr, Server<'_>> {
    let all =
        facts.servers().filter(|server| forward.is_none_or(|forward| server.service.forward == forward));
    all.map(|server| (server.address, server)).collect()
}

fn no_route(facts: &Facts) -> Vec<Finding> {
    let lost = servers(facts, None).into_iter().filter(|(address, _)| {
        // This machine itself needs none.
        facts.ways.get(address) == Some(&None) && !facts.holds(*address)
    });
    lost.map(|(address, server)| {
        Finding::error("routes", address, format!("there is no route to this {}", server.title()))
            .help(format!("ip route get {address}; then add an address of its network, or a route"))
    })
    .collect()
}

/// Under direct forwarding a frame has the VIP as its destination: a router would send it back.
fn behind_gateway(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (address, server) in servers(facts, Some(Forward::Direct)) {
        if let Some(Some(Way { gateway: Some(gateway), index })) = facts.ways.get(&address) {
            let message = format!(
                "this {} is behind the router {gateway} (by {}); under `direct` it must be on a segment of this machine",
                server.title(),
                facts.name_of(*index)
            );
            found.push(
                Finding::error("routes", address, message)
                    .help("forward: nat, or an interface of this machine in its segment"),
            );
        }
    }
    found
}

/// NAT's answers are translated where they come in, so XDP must run there.
fn way_back(facts: &Facts) -> Vec<Finding> {
    let mut by: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for real in servers(facts, Some(Forward::Nat)).into_keys() {
        let Some(Some(way)) = facts.ways.get(&real) else { continue };
        let name = facts.name_of(way.index);
        if !facts.config.interfaces.iter().any(|listed| listed == name) {
            by.entry(name).or_default().push(real);
        }
    }
    by.into_iter()
        .map(|(name, reals)| {
            let message = format!(
                "{} under `nat` {} reached by this interface, which is not in `interfaces`: their answers are not translated back",
                named(&reals),
                if reals.len() == 1 { "is" } else { "are" }
            );
            Finding::error("routes", name, message)
                .help(format!("add {name} to `interfaces` in {}", facts.file.display()))
        })
        .collect()
}

fn named(reals: &[IpAddr]) -> String {
    let mut text: Vec<String> = reals.iter().take(MOST_NAMED).map(IpAddr::to_string).collect();
    if let Some(more) = reals.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// What XDP forwards passes no filter, but what it leaves to the kernel does: pings to VIPs, and probes' answers.
fn reverse_path(facts: &Facts) -> Vec<Finding> {
    let elsewhere: Vec<&str> = facts.system.default_routes.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    let used: BTreeSet<&str> = facts.config.interfaces.iter().map(String::as_str).collect();
    for link in used.into_iter().filter_map(|name| facts.link(name)).filter(|link| link.rp_filter == STRICT) {
        let name = &link.name;
        if elsewhere.is_empty() || elsewhere.contains(&name.as_str()) {
            found.push(Finding::ok(
                "rp_filter",
                name,
                "it is strict, and answers to clients leave by this interface",
            ));
            continue;
        }
        let message = format!(
            "rp_filter is strict, but the default route leads out by {}: the kernel drops what comes in here from clients far away",
            elsewhere.join(", ")
        );
        found.push(
            Finding::warning("rp_filter", name, message)
                .help(format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/"))),
        );
    }
    found
}

/// Forwarding needs none of the kernel's, which may surprise whoever knows IPVS.
fn forwarding(facts: &Facts) -> Vec<Finding> {
    let (v4, v6) = facts.system.forwards;
    let nat = servers(facts, Some(Forward::Nat));
    let mut found = Vec::new();
    for (is_v4, on, key) in [(true, v4, "net.ipv4.ip_forward"), (false, v6, "net.ipv6.conf.all.forwarding")] {
        if nat.keys().any(|real| real.is_ipv4() == is_v4) && !on {
            let message = "it is 0. NAT needs it not, for XDP forwards; but real servers whose default route is this \
                           machine reach nobody by connections of their own";
            found.push(
                Finding::note("forwarding", key, message)
                    .help(format!("sysctl -w {key}=1, with firewall rules, if they are to")),
            );
        }
    }
    found
}
