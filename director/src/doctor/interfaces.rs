//! Interfaces: whether they are there, how XDP runs on them, queues, offloads, MTU. Pure.

use std::collections::BTreeSet;

use super::Finding;
use super::facts::{Abilities, Facts, Link, Xdp};

/// The longest packet that a program for single buffers gets natively, on most drivers with pages of 4 KiB.
const LONGEST_SINGLE: u32 = 3_500;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let attached: BTreeSet<&str> = facts.config.interfaces.iter().map(String::as_str).collect();
    for &name in &attached {
        match facts.link(name) {
            None => found.push(missing("interfaces", name, facts)),
            Some(link) => found.extend(attached_link(facts, link)),
        }
    }
    for name in facts.held_vips().map(|vip| vip.interface.as_str()).collect::<BTreeSet<_>>() {
        match facts.link(name).filter(|_| !attached.contains(name)) {
            Some(link) => found.extend(idle(link)),
            None if !attached.contains(name) => found.push(missing("vips", name, facts)),
            None => {}
        }
    }
    found.extend(mtu(facts));
    found
}

fn missing(section: &str, name: &str, facts: &Facts) -> Finding {
    let others: Vec<&str> =
        facts.links.iter().map(|link| link.name.as_str()).filter(|name| *name != "lo").collect();
    Finding::error("interface", name, format!("there is no such interface; `{section}` names it"))
        .help(format!("correct `{section}` in {}; there is: {}", facts.file.display(), others.join(", ")))
}

/// Nothing comes in by it.
fn idle(link: &Link) -> Option<Finding> {
    let name = &link.name;
    if !link.up {
        let finding = Finding::error("interface", name, "it is switched off");
        return Some(finding.help(format!("ip link set dev {name} up")));
    }
    let finding = || Finding::error("interface", name, "it has no carrier");
    (!link.running).then(|| finding().help("look at the cable and the switch"))
}

fn attached_link(facts: &Facts, link: &Link) -> Vec<Finding> {
    let name = &link.name;
    let mut found: Vec<Finding> = idle(link).into_iter().collect();
    if link.mac.is_none() {
        found.push(
            Finding::error(
                "interface",
                name,
                "it is no Ethernet interface: the director forwards Ethernet frames only",
            )
            .help(format!("name another one in `interfaces` of {}", facts.file.display())),
        );
    }
    found.push(xdp(facts, link));
    if link.lro {
        found.push(
            Finding::warning(
                "offload",
                name,
                "large receive offload (LRO) is on: it makes frames that XDP cannot take",
            )
            .help(format!("ethtool -K {name} lro off")),
        );
    }
    found.extend(merging(link));
    if let Some(vlan) = link.vlan.as_ref().filter(|_| link.strips_vlan) {
        let message = format!(
            "VLAN tags are taken off before XDP sees a frame, and {vlan} is a VLAN on it: \
            frames of that VLAN can be taken for untagged ones"
        );
        found.push(Finding::warning("offload", name, message).help(format!("ethtool -K {name} rxvlan off")));
    }
    found.extend(queues(link, facts.system.cpus));
    found
}

/// Cards that merge frames (`rx-gro-hw`). Some drivers refuse XDP natively as long as it is on (mlx5; virtio_net where the host
/// cannot have it switched off), others switch it off by themselves. Where the program runs natively, the driver has agreed, whatever
/// the setting still says; for the generic mode the kernel switches it off where it can (`generic_xdp_install` in net/core/dev.c).
///
/// Merging by the kernel (`gro`) is not asked for: natively XDP runs before it, and for the generic mode the kernel leaves it out
/// (`netif_elide_gro`).
fn merging(link: &Link) -> Option<Finding> {
    let name = &link.name;
    let help =
        format!("ethtool -K {name} rx-gro-hw off; where it is fixed, in a virtual machine, its host has to");
    let finding = match link.xdp {
        _ if !link.merges => return None,
        Some(Xdp::Native | Xdp::Other) => return None,
        Some(Xdp::Generic) => Finding::warning(
            "offload",
            name,
            "the card merges frames (rx-gro-hw): this may be why the driver does not run the program natively",
        ),
        None => Finding::note(
            "offload",
            name,
            "the card merges frames (rx-gro-hw): some drivers do not run XDP natively then (mlx5, virtio_net)",
        ),
    };
    Some(finding.help(help))
}

/// How XDP runs, or would.
fn xdp(facts: &Facts, link: &Link) -> Finding {
    let name = &link.name;
    let driver = link.driver.as_deref().map_or_else(String::new, |driver| format!(" (driver {driver})"));
    let ours = link.pinned
        || facts.running.iter().any(|status| status.interfaces.iter().any(|its| its.interface == *name));
    let can = link.abilities.is_none_or(|abilities| abilities.native);
    match link.xdp {
        Some(_) if !ours => {
            Finding::error("xdp", name, "another XDP program is attached: `director run` will not replace it")
                .help(format!("ip link show dev {name} names it; ip link set dev {name} xdp off removes it"))
        }
        Some(Xdp::Native) => Finding::ok("xdp", name, format!("the program runs natively{driver}")),
        Some(Xdp::Other) => Finding::ok("xdp", name, format!("the program is attached{driver}")),
        Some(Xdp::Generic) if can => {
            let mut message = format!("the program runs in generic mode, which is slower{driver}");
            if link.abilities.is_some() {
                message += "; the driver could run it natively";
            }
            Finding::warning("xdp", name, message).help(format!(
                "the log of `director run` has the driver's reason: often the MTU, LRO, rx-gro-hw or the number of queues (ethtool -L {name} …)"
            ))
        }
        Some(Xdp::Generic) => Finding::note(
            "xdp",
            name,
            format!("the program runs in generic mode: the driver has no XDP{driver}"),
        ),
        None => not_attached(facts, link, &driver),
    }
}

fn not_attached(facts: &Facts, link: &Link, driver: &str) -> Finding {
    let name = &link.name;
    if facts.running.is_some() {
        return Finding::error(
            "xdp",
            name,
            format!("the director runs, but its program is not attached{driver}"),
        )
        .help("director status names the reason; director reload tries again");
    }
    match link.abilities {
        Some(Abilities { native: false, .. }) => Finding::note(
            "xdp",
            name,
            format!("nothing is attached; the driver has no XDP, so it will be generic mode{driver}"),
        ),
        Some(Abilities { fragments: false, .. }) if link.mtu > LONGEST_SINGLE => {
            let message =
                format!("nothing is attached; with an MTU of {} this driver may refuse it{driver}", link.mtu);
            Finding::note("xdp", name, message).help(format!("ip link set dev {name} mtu {LONGEST_SINGLE}"))
        }
        Some(_) => {
            Finding::ok("xdp", name, format!("nothing is attached; the driver can run it natively{driver}"))
        }
        None => Finding::ok(
            "xdp",
            name,
            format!("nothing is attached; this kernel does not tell what the driver can do{driver}"),
        ),
    }
}

fn queues(link: &Link, cpus: usize) -> Option<Finding> {
    let (now, most) = link.queues?;
    let name = &link.name;
    if now as usize >= cpus || now == 0 {
        return Some(Finding::ok("queues", name, format!("{now} receive queues for {cpus} CPUs")));
    }
    let message = format!(
        "{now} of {cpus} CPUs can forward what comes in here: there is one receive queue for each of them"
    );
    let could = (most as usize).min(cpus);
    Some(if could > now as usize {
        Finding::note("queues", name, message)
            .help(format!("ethtool -L {name} combined {could}, or rx {could}"))
    } else {
        Finding::note("queues", name, message)
    })
}

/// Frames go from one interface to another as they are: no larger ones may come in than can go out.
fn mtu(facts: &Facts) -> Option<Finding> {
    let outs = facts.ways.values().flatten().filter_map(|way| facts.link_at(way.index));
    let ins = facts.config.interfaces.iter().filter_map(|name| facts.link(name));
    let used: Vec<&Link> = ins.chain(outs).filter(|link| link.name != "lo").collect();
    let largest = used.iter().max_by_key(|link| link.mtu)?;
    let smallest = used.iter().min_by_key(|link| link.mtu)?;
    if largest.mtu == smallest.mtu {
        return Some(Finding::ok("mtu", "", format!("all interfaces in use have an MTU of {}", largest.mtu)));
    }
    let message = format!(
        "its MTU is {}, that of {} is {}: large packets between the two are lost",
        smallest.mtu, largest.name, largest.mtu
    );
    Some(
        Finding::warning("mtu", &smallest.name, message)
            .help(format!("ip link set dev {} mtu {}, if its segment can", smallest.name, largest.mtu)),
    )
}
