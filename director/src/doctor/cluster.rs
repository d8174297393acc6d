//! The configuration, the running director, and the others of its cluster. Pure.

use super::Finding;
use super::facts::Facts;
use crate::heartbeat::report::{Cluster, PeerReport};

/// From which difference of the clocks on, in seconds, entries of two logs cannot be brought into an order.
const MUCH_AHEAD: f64 = 1.0;
/// From which loss on a link is worth a warning.
const MUCH_LOSS: f64 = 0.05;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let file = facts.file.display();
    let mut found = Vec::new();
    if let Some(why) = &facts.unusable {
        found.push(
            Finding::error("configuration", &file, why)
                .help(format!("director check {file}; until it is mended, only the machine was looked at")),
        );
    }
    if let Some(Err(why)) = &facts.node {
        found.push(Finding::error("node", "", why).help("director doctor --node NAME"));
    }
    if facts.config.heartbeat.is_some() {
        found.push(match &facts.keys {
            Some(why) => Finding::error("key", "", why),
            None => Finding::ok("key", "", "the key file is there, and nobody else can read it"),
        });
    }
    found.extend(running(facts));
    if let Some(pair) = facts.running.as_ref().and_then(|status| status.pair.as_ref()) {
        found.extend(cluster(&pair.cluster));
    }
    found
}

fn running(facts: &Facts) -> Vec<Finding> {
    let Some(status) = &facts.running else {
        let why = facts.silent.as_deref().unwrap_or("no director was asked");
        let message = format!("{why}. What only a running one knows was not looked at");
        return vec![Finding::note("director", "", message)];
    };
    let told = |problem: &&String| {
        // What is said of other directors and of links has findings of its own, below.
        status.pair.iter().any(|pair| {
            let names = pair.cluster.peers.iter().map(|peer| format!("the director {} ", peer.name));
            let links = pair.cluster.links.iter().map(|link| format!("the heartbeat link {} ", link.name));
            names.chain(links).any(|start| problem.starts_with(&start))
        })
    };
    let problems = status.problems.iter().filter(|problem| !told(problem));
    let mut found: Vec<Finding> = problems.map(|problem| Finding::warning("director", "", problem)).collect();
    if status.config != facts.file.display().to_string() {
        let message = format!("it runs by {}, not by {}", status.config, facts.file.display());
        found.push(
            Finding::note("director", "", message)
                .help(format!("director doctor --config {}", status.config)),
        );
    }
    if found.is_empty() {
        found.push(Finding::ok("director", "", "it runs, and names no problems"));
    }
    found
}

fn cluster(cluster: &Cluster) -> Vec<Finding> {
    let mut found = Vec::new();
    let alone = !cluster.peers.iter().any(|peer| peer.alive);
    if alone {
        let names: Vec<&str> = cluster.peers.iter().map(|peer| peer.name.as_str()).collect();
        let message = format!("no other director is alive ({}): nobody would take over", names.join(", "));
        found.push(
            Finding::error("peer", "", message).help("director status on each of them; start it there"),
        );
    }
    found.extend(cluster.peers.iter().flat_map(|one| peer(one, cluster, alone)));
    for link in &cluster.links {
        match (&link.last_error, link.open) {
            (None, true) => {}
            (why, false) => {
                let why = why.as_deref().unwrap_or("it cannot be used");
                found.push(Finding::error("link", &link.name, why).help("compare `links` with `ip address`"));
            }
            (Some(why), true) => found.push(Finding::warning("link", &link.name, why)),
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("peer", "", "the other directors are alive, and have the same configuration"));
    }
    found
}

/// `alone`: none of the others is alive.
fn peer(peer: &PeerReport, cluster: &Cluster, alone: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = &peer.name;
    if !peer.alive && !alone {
        found.push(
            Finding::warning("peer", name, "it is not heard")
                .help(format!("director status on {name}; start it there")),
        );
    }
    if peer.same_config == Some(false) {
        found.push(
            Finding::error(
                "peer",
                name,
                "its configuration is another one: VIPs and services may differ after a takeover",
            )
            .help("copy the file, and run `director reload` on both"),
        );
    }
    if let Some(ahead) = peer.clock_ahead_seconds.filter(|ahead| ahead.abs() >= MUCH_AHEAD) {
        let way = if ahead > 0.0 { "ahead of" } else { "behind" };
        let message =
            format!("its clock is {:.1} s {way} this director's: their logs cannot be compared", ahead.abs());
        found.push(
            Finding::warning("clock", name, message).help("timedatectl set-ntp true, or run chrony, on both"),
        );
    }
    if peer.alive && !peer.hears_us {
        found.push(
            Finding::error(
                "peer",
                name,
                "it is heard, but does not hear this director: both may hold the VIPs",
            )
            .help("look for a firewall on it: its heartbeat port must be open for this machine"),
        );
    }
    for (link, own) in peer.links.iter().zip(&cluster.links).filter(|_| peer.alive) {
        if !link.heard {
            let message = format!("it is not heard by the link {}", own.name);
            found.push(
                Finding::warning("link", name, message).help("director status shows each link's state"),
            );
        } else if link.loss >= MUCH_LOSS {
            let message = format!("{:.0} % of its messages by {} are lost", link.loss * 100.0, own.name);
            found.push(Finding::warning("link", name, message));
        }
    }
    found
}
