//! Facts in, findings out.

mod cluster;
mod running;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::facts::{Abilities, Facts, Knock, Link, System, Way, Xdp};
use super::{Finding, Severity, examine, reals};
use crate::config;
use crate::model::{Fallback, Forward};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// The real server's.
const REAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A machine with a small farm where all is well, and no director runs.
fn well() -> Facts {
    let yaml = "interfaces: [eth0]\nvips:\n  - { address: 192.0.2.10/24, interface: eth0 }\nservices:\n  - name: web\n    \
                address: 192.0.2.10\n    port: 80\n    forward: direct\n    reals:\n      - { address: 192.0.2.21 }\n";
    let eth0 = Link {
        name: "eth0".to_owned(),
        index: 2,
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        running: true,
        addresses: vec![(address("192.0.2.11"), 24)],
        abilities: Some(Abilities { native: true, fragments: true }),
        queues: Some((4, 8)),
        ..Link::default()
    };
    let mut facts = Facts {
        file: "director.yaml".into(),
        config: config::parse(yaml).unwrap().config,
        system: System {
            kernel: "6.1.0-13-amd64".to_owned(),
            btf: true,
            bpffs: true,
            cpus: 4,
            capabilities: u64::MAX,
            memory_available: 4 << 30,
            memory_wanted: 200 << 20,
            clock_synchronized: Some(true),
            ..System::default()
        },
        links: vec![eth0],
        ..Facts::default()
    };
    let real = address("192.0.2.21");
    facts.ways.insert(real, Some(Way { index: 2, gateway: None }));
    for asked in ["192.0.2.10", "192.0.2.11"] {
        facts.answers.0.insert((2, address(asked)), BTreeSet::new());
    }
    facts.answers.0.insert((2, real), BTreeSet::from([REAL_MAC]));
    let (vip, vip_answered, own_answered) = (address("192.0.2.10"), true, false);
    facts.knocks.push(Knock { vip, real, mac: REAL_MAC, port: 80, vip_answered, own_answered });
    facts
}

/// Has a MAC answer for an address.
fn answer(facts: &mut Facts, asked: &str, mac: [u8; 6]) {
    facts.answers.0.entry((2, address(asked))).or_default().insert(mac);
}

/// The same, in a cluster.
fn in_cluster() -> Facts {
    let mut facts = well();
    let yaml = "interfaces: [eth0]\nvips: [{ address: 192.0.2.10/24, interface: eth0 }]\nheartbeat:\n  key_file: /k\n  \
                directors:\n    - { name: lb1, links: [{ udp: 192.0.2.11 }] }\n    - { name: lb2, links: [{ udp: 192.0.2.12 }] }\n\
                services: []\n";
    facts.config.heartbeat = config::parse(yaml).unwrap().config.heartbeat;
    facts.node = Some(Ok("lb1".to_owned()));
    facts
}

/// What is worse than all being well.
fn bad(facts: &Facts) -> Vec<(Severity, &'static str, String, String)> {
    let bad = examine(facts).into_iter().filter(|finding| finding.severity > Severity::Ok);
    bad.filter(|finding| (finding.severity, finding.topic) != (Severity::Note, "director"))
        .map(|Finding { severity, topic, at, message, .. }| (severity, topic, at, message))
        .collect()
}

/// What changes, and what is found then: severity, topic, where, part of the message.
type Case = (fn(&mut Facts), Severity, &'static str, &'static str, &'static str);

fn each_alone(base: fn() -> Facts, cases: &[Case]) {
    assert_eq!(bad(&base()), []);
    for (change, severity, topic, at, message) in cases {
        let mut facts = base();
        change(&mut facts);
        let found = bad(&facts);
        let [(its, of, there, words)] = &found[..] else { panic!("{message}: {found:#?}") };
        assert_eq!((*its, *of, there.as_str()), (*severity, *topic, *at), "{words}");
        assert!(words.contains(message), "{words} without {message}");
    }
}

#[test]
fn a_machine_that_lacks_something() {
    use Severity::{Error, Note, Warning};
    each_alone(
        well,
        &[
            (|f| f.system.kernel = "5.15.0".to_owned(), Error, "kernel", "", "5.15.0 cannot"),
            (|f| f.system.kernel = "4.19".to_owned(), Error, "kernel", "", "4.19"),
            (|f| f.system.btf = false, Error, "btf", "/sys/kernel/btf/vmlinux", "without BTF"),
            (|f| f.system.bpffs = false, Note, "bpffs", "/sys/fs/bpf", "not mounted"),
            (|f| f.system.capabilities ^= 1 << 12, Error, "capabilities", "CAP_NET_ADMIN", "no attaching"),
            (|f| f.system.capabilities ^= 1 << 13, Error, "capabilities", "CAP_NET_RAW", "no ARP"),
            (
                |f| f.system.capabilities ^= 1 << 21 | 1 << 39,
                Error,
                "capabilities",
                "CAP_BPF, CAP_PERFMON",
                "no loading",
            ),
            (
                |f| f.system.capabilities ^= 1 << 21 | 1 << 38,
                Error,
                "capabilities",
                "CAP_BPF, CAP_PERFMON",
                "BPF",
            ),
            (|f| f.system.memory_available = 100 << 20, Error, "memory", "limits", "take 200 MiB; 100 MiB"),
            (|f| f.system.memory_available = 300 << 20, Warning, "memory", "limits", "300 MiB can be had"),
            (|f| f.system.clock_synchronized = Some(false), Note, "clock", "", "follows no other"),
            (
                |f| f.unusable = Some("has 2 errors".to_owned()),
                Error,
                "configuration",
                "director.yaml",
                "has 2 errors",
            ),
        ],
    );
    // Either right will do for BPF; tables that exist need no more memory; a clock that cannot be asked says nothing.
    let mut facts = well();
    facts.system.capabilities ^= 1 << 39;
    (facts.system.has_tables, facts.system.memory_available) = (true, 0);
    facts.system.clock_synchronized = None;
    assert_eq!(bad(&facts), []);
}

#[test]
fn an_interface_that_does_not_fit() {
    use Severity::{Error, Note, Warning};
    each_alone(
        well,
        &[
            (|f| f.links[0].up = false, Error, "interface", "eth0", "switched off"),
            (|f| f.links[0].running = false, Error, "interface", "eth0", "no carrier"),
            (|f| f.links[0].mac = None, Error, "interface", "eth0", "no Ethernet"),
            (|f| f.links[0].lro = true, Warning, "offload", "eth0", "LRO"),
            (
                |f| {
                    f.links[0].strips_vlan = true;
                    f.links[0].vlan = Some("eth0.5".to_owned());
                },
                Warning,
                "offload",
                "eth0",
                "eth0.5 is a VLAN on it",
            ),
            (|f| f.links[0].merges = true, Note, "offload", "eth0", "rx-gro-hw"),
            (|f| f.links[0].queues = Some((1, 8)), Note, "queues", "eth0", "1 of 4 CPUs"),
            (|f| f.links[0].queues = Some((2, 2)), Note, "queues", "eth0", "2 of 4 CPUs"),
            (
                |f| f.links[0].name = "eth1".to_owned(),
                Error,
                "interface",
                "eth0",
                "no such interface; `interfaces`",
            ),
            (
                |f| f.config.vips[0].interface = "eth7".to_owned(),
                Error,
                "interface",
                "eth7",
                "`vips` names it",
            ),
            (
                |f| {
                    f.links.push(Link { name: "eth7".to_owned(), index: 7, up: true, ..Link::default() });
                    f.config.vips[0].interface = "eth7".to_owned();
                },
                Error,
                "interface",
                "eth7",
                "no carrier",
            ),
        ],
    );
    // Tags that are taken off do no harm where there is no VLAN; an old kernel's silence is none.
    let mut facts = well();
    (facts.links[0].strips_vlan, facts.links[0].abilities) = (true, None);
    let mut other = well();
    other.links[0].vlan = Some("eth0.5".to_owned());
    assert_eq!(bad(&other), []);
    (facts.links[0].xdp, facts.links[0].pinned) = (Some(Xdp::Native), true);
    assert_eq!(bad(&facts), []);
    // More queues than there can be are not proposed.
    let help = |most| {
        let mut facts = well();
        facts.links[0].queues = Some((2, most));
        let found = examine(&facts).into_iter().find(|finding| finding.topic == "queues");
        found.and_then(|finding| finding.help)
    };
    assert_eq!((help(2), help(3)), (None, Some("ethtool -L eth0 combined 3, or rx 3".to_owned())));
}

#[test]
fn a_card_that_merges_frames_matters_unless_its_driver_runs_the_program_all_the_same() {
    let merging = |xdp| {
        let mut facts = well();
        (facts.links[0].merges, facts.links[0].xdp, facts.links[0].pinned) = (true, Some(xdp), true);
        let found = bad(&facts).into_iter().filter(|(_, topic, ..)| *topic == "offload");
        found.map(|(severity, _, _, message)| (severity, message)).collect::<Vec<_>>()
    };
    assert_eq!((merging(Xdp::Native), merging(Xdp::Other)), (vec![], vec![]));
    assert!(
        matches!(&merging(Xdp::Generic)[..], [(Severity::Warning, why)] if why.contains("may be why")),
        "{:?}",
        merging(Xdp::Generic)
    );
}

#[test]
fn xdp_that_is_slow_or_in_the_way() {
    use Severity::{Error, Note, Warning};
    each_alone(
        well,
        &[
            (|f| f.links[0].xdp = Some(Xdp::Native), Error, "xdp", "eth0", "another XDP program"),
            (
                |f| {
                    f.links[0].xdp = Some(Xdp::Generic);
                    f.links[0].pinned = true;
                },
                Warning,
                "xdp",
                "eth0",
                "the driver could run it natively",
            ),
            (
                |f| {
                    f.links[0].xdp = Some(Xdp::Generic);
                    f.links[0].pinned = true;
                    f.links[0].abilities = Some(Abilities { native: false, fragments: false });
                },
                Note,
                "xdp",
                "eth0",
                "the driver has no XDP",
            ),
            (
                |f| {
                    f.links[0].abilities = Some(Abilities { native: true, fragments: false });
                    f.links[0].mtu = 9000;
                },
                Note,
                "xdp",
                "eth0",
                "MTU of 9000",
            ),
            (
                |f| f.links[0].abilities = Some(Abilities { native: false, fragments: false }),
                Note,
                "xdp",
                "eth0",
                "nothing is attached; the driver has no XDP",
            ),
        ],
    );
}

#[test]
fn answers_for_vips_from_where_none_should_come() {
    use Severity::Error;
    each_alone(
        well,
        &[
            (
                |f| answer(f, "192.0.2.10", [2, 0, 0, 0, 0, 0x21]),
                Error,
                "arp",
                "192.0.2.10",
                "the real server 192.0.2.21",
            ),
            (|f| answer(f, "192.0.2.10", MAC), Error, "arp", "192.0.2.10", "but this is the only director"),
            (
                |f| {
                    f.links[0].addresses.push((address("192.0.2.10"), 32));
                    answer(f, "192.0.2.10", MAC);
                },
                Error,
                "arp",
                "192.0.2.10",
                "this machine holds it, but 02:00:00:00:00:09",
            ),
            (|f| answer(f, "192.0.2.11", MAC), Error, "duplicate", "192.0.2.11", "02:00:00:00:00:09"),
        ],
    );
}

#[test]
fn what_a_cluster_wants_besides() {
    use Severity::{Error, Note};
    each_alone(
        in_cluster,
        &[
            (|f| answer(f, "192.0.2.10", MAC), Note, "arp", "192.0.2.10", "whose MAC is not known"),
            (
                |f| {
                    answer(f, "192.0.2.12", [2, 0, 0, 0, 0, 2]);
                    answer(f, "192.0.2.10", [2, 0, 0, 0, 0, 2]);
                    answer(f, "192.0.2.10", MAC);
                },
                Error,
                "arp",
                "192.0.2.10",
                "2 machines on eth0 answer",
            ),
            (
                |f| f.system.clock_synchronized = Some(false),
                Severity::Warning,
                "clock",
                "",
                "of the directors",
            ),
            (|f| f.keys = Some("key file /k: open".to_owned()), Error, "key", "", "key file /k"),
            (|f| f.node = Some(Err("none".to_owned())), Error, "node", "", "none"),
            (
                |f| f.system.capabilities ^= 1 << 23,
                Severity::Warning,
                "capabilities",
                "CAP_SYS_NICE",
                "heartbeats may be late",
            ),
        ],
    );
    // The director that holds it may answer, and so may the group's virtual MAC.
    let mut facts = in_cluster();
    answer(&mut facts, "192.0.2.12", MAC);
    answer(&mut facts, "192.0.2.10", MAC);
    assert_eq!(bad(&facts), []);
    let mut facts = in_cluster();
    facts.config.heartbeat.as_mut().unwrap().groups[0].virtual_mac = Some(MAC);
    answer(&mut facts, "192.0.2.10", MAC);
    assert_eq!(bad(&facts), []);
}

#[test]
fn real_servers_that_do_not_answer_as_they_should() {
    use Severity::{Error, Note, Warning};
    each_alone(
        well,
        &[
            (|f| f.ways.values_mut().for_each(|way| *way = None), Error, "routes", "192.0.2.21", "no route"),
            (
                |f| f.ways.values_mut().flatten().for_each(|way| way.gateway = Some(address("192.0.2.1"))),
                Error,
                "routes",
                "192.0.2.21",
                "behind the router 192.0.2.1 (by eth0)",
            ),
            (
                |f| f.answers.0.values_mut().for_each(BTreeSet::clear),
                Error,
                "real",
                "192.0.2.21",
                "does not answer ARP",
            ),
            (
                |f| (f.knocks[0].vip_answered, f.knocks[0].own_answered) = (false, true),
                Error,
                "real",
                "192.0.2.21",
                "but not to the VIP 192.0.2.10",
            ),
            (|f| f.knocks[0].vip_answered = false, Note, "real", "192.0.2.21", "cannot be told"),
            (|f| answer(f, "192.0.2.21", MAC), Error, "duplicate", "192.0.2.21", "2 machines on eth0 answer"),
            (|f| f.unasked.push("nobody was asked".to_owned()), Note, "real", "", "nobody was asked"),
            (
                |f| {
                    f.links[0].rp_filter = 1;
                    f.system.default_routes.insert("eth5".to_owned());
                },
                Warning,
                "rp_filter",
                "eth0",
                "leads out by eth5",
            ),
            (
                |f| {
                    f.links.push(Link { name: "eth1".to_owned(), index: 3, mtu: 1400, ..Link::default() });
                    f.ways.values_mut().flatten().for_each(|way| way.index = 3);
                },
                Warning,
                "mtu",
                "eth1",
                "its MTU is 1400, that of eth0 is 1500",
            ),
        ],
    );
    // Under NAT a router is no obstacle; the kernel's forwarding is none of XDP's business.
    let mut facts = well();
    facts.config.services[0].forward = Forward::Nat;
    facts.ways.values_mut().flatten().for_each(|way| way.gateway = Some(address("192.0.2.1")));
    let found = bad(&facts);
    assert!(
        matches!(&found[..], [(Note, "forwarding", key, _)] if key == "net.ipv4.ip_forward"),
        "{found:?}"
    );
    facts.links.push(Link { name: "eth1".to_owned(), index: 3, mtu: 1500, ..Link::default() });
    (facts.system.forwards.0, facts.links[0].rp_filter) = (true, 1);
    facts.ways.values_mut().flatten().for_each(|way| way.index = 3);
    let found = bad(&facts);
    assert!(matches!(&found[..], [(Error, "routes", at, _)] if at == "eth1"), "{found:?}");
}

#[test]
fn limits_permit_what_the_packages_service_has_no_capabilities_for() {
    let mut facts = in_cluster();
    facts.system.capabilities &= !(1 << 14 | 1 << 23);
    let late = |facts: &Facts| {
        let found = examine(facts).into_iter().filter(|one| one.message.contains("heartbeats may be late"));
        found.map(|one| one.at).collect::<Vec<_>>()
    };
    (facts.system.lockable, facts.system.priority) = (None, 40);
    assert_eq!(late(&facts), [""; 0]);
    (facts.system.lockable, facts.system.priority) = (Some(1 << 30), 39);
    assert_eq!(late(&facts), ["CAP_IPC_LOCK", "CAP_SYS_NICE"]);
    let little = |facts: &Facts| {
        let found = bad(facts).into_iter().filter(|(_, topic, ..)| *topic == "memlock");
        found.map(|(severity, _, _, message)| (severity, message)).collect::<Vec<_>>()
    };
    assert_eq!(little(&facts), []);
    facts.system.lockable = Some(8 << 20);
    assert_eq!(
        little(&facts),
        [(Severity::Warning, "this user may lock 8192 KiB of memory only".to_owned())]
    );
    facts.system.of_director = true;
    assert!(little(&facts)[0].1.starts_with("the running director may lock"), "{:?}", little(&facts));
    // With the capability no limit applies, and without a heartbeat none is needed.
    facts.system.capabilities |= 1 << 14;
    assert_eq!(little(&facts), []);
    facts.system.capabilities &= !(1 << 14);
    facts.config.heartbeat = None;
    assert_eq!(bad(&facts), []);
}

/// A fallback on the link, where all is well with it.
fn with_fallback() -> Facts {
    let mut facts = well();
    let (fallback, mac) = (address("192.0.2.99"), [2, 0, 0, 0, 0, 0x99]);
    facts.config.services[0].health.fallback = Some(Fallback::Real { address: fallback, port: None });
    facts.ways.insert(fallback, Some(Way { index: 2, gateway: None }));
    facts.answers.0.insert((2, fallback), BTreeSet::from([mac]));
    facts.knocks.push(Knock { real: fallback, mac, ..facts.knocks[0] });
    facts
}

/// Changes the way to the fallback.
fn fallback_way(facts: &mut Facts, way: Option<Way>) {
    facts.ways.insert(address("192.0.2.99"), way);
}

#[test]
fn a_fallback_is_looked_at_as_a_real_server_is() {
    use Severity::Error;
    assert!(reals::to_knock(&with_fallback()).contains(&(address("192.0.2.10"), address("192.0.2.99"), 80)));
    each_alone(
        with_fallback,
        &[
            (|f| fallback_way(f, None), Error, "routes", "192.0.2.99", "no route to this fallback of web"),
            (
                |f| fallback_way(f, Some(Way { index: 2, gateway: Some(address("192.0.2.1")) })),
                Error,
                "routes",
                "192.0.2.99",
                "this fallback of web is behind the router",
            ),
            (
                |f| f.answers.0.insert((2, address("192.0.2.99")), BTreeSet::new()).map_or((), drop),
                Error,
                "real",
                "192.0.2.99",
                "this fallback of web does not answer ARP",
            ),
            (
                |f| answer(f, "192.0.2.99", MAC),
                Error,
                "duplicate",
                "192.0.2.99",
                "2 machines on eth0 answer for this fallback of web",
            ),
            (
                |f| (f.knocks[1].vip_answered, f.knocks[1].own_answered) = (false, true),
                Error,
                "real",
                "192.0.2.99",
                "not to the VIP 192.0.2.10",
            ),
            (
                |f| answer(f, "192.0.2.10", [2, 0, 0, 0, 0, 0x99]),
                Error,
                "arp",
                "192.0.2.10",
                "the fallback 192.0.2.99 (02:00:00:00:00:99) answers ARP",
            ),
        ],
    );
    // The director's own host needs no way.
    let mut facts = well();
    facts.config.services[0].health.fallback = Some(Fallback::Local);
    assert_eq!(bad(&facts), []);
    // Under NAT, its answers have to come in where XDP runs.
    let mut facts = with_fallback();
    (facts.config.services[0].forward, facts.system.forwards.0) = (Forward::Nat, true);
    facts.links.push(Link { name: "eth1".to_owned(), index: 3, mtu: 1500, ..Link::default() });
    fallback_way(&mut facts, Some(Way { index: 3, gateway: None }));
    let found = bad(&facts);
    assert!(
        matches!(&found[..], [(Error, "routes", at, why)] if at == "eth1" && why.starts_with("192.0.2.99")),
        "{found:?}"
    );
}

#[test]
fn of_several_machines_with_one_address_each_is_told_apart() {
    let mut facts = well();
    answer(&mut facts, "192.0.2.21", MAC);
    facts.knocks.push(Knock { mac: MAC, vip_answered: false, own_answered: true, ..facts.knocks[0] });
    let found = bad(&facts);
    let [(_, "duplicate", at, both), (Severity::Error, "real", real, one)] = &found[..] else {
        panic!("{found:#?}")
    };
    assert_eq!((at.as_str(), real.as_str()), ("192.0.2.21", "192.0.2.21"));
    assert!(both.contains("02:00:00:00:00:09, 02:00:00:00:00:21"), "{both}");
    assert!(one.starts_with("it (02:00:00:00:00:09) answers connections to its own address"), "{one}");
}
