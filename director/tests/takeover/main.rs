//! Taking and releasing VIPs in network namespaces, seen by a real client's kernel and on its wire. Root only.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use director::heartbeat::message::Neighbour;
use director::model::heartbeat::Group;
use director::takeover;

use crate::rig::{
    CLIENT_MAC, DIRECTOR_MACS, Director, Lab, Namespace, VIRTUAL_MAC, announcements, ip, mac, pair, setup,
    until, vip,
};

const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
const ALL_NODES: &str = "33:33:00:00:00:01";

#[test]
fn a_client_follows_what_is_taken_and_released_of_both_families() {
    let lab = Lab::new();
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    let director = lab.director(pair());
    println!("two VIPs taken in {:?}", director.take("g"));
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
    lab.client.pings("10.9.0.100");
    lab.client.pings("fd09::100");
    let addresses = lab.directors[0].ip("address show dev d0");
    assert!(addresses.contains("inet 10.9.0.100/24"), "{addresses}");
    assert!(addresses.contains("inet6 fd09::100/64 scope global nodad deprecated"), "{addresses}");
    director.want(&[], 0);
    until("released", || !lab.directors[0].has("10.9.0.100") && !lab.directors[0].has("fd09::100"));
    until("reported", || director.report().groups["g"].present.is_empty());
    let other = Director::start(&lab.directors[1], pair());
    other.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[1]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[1]);
    other.takeover.release().expect("released");
    assert!(!lab.directors[1].has("10.9.0.100") && lab.directors[1].has("10.9.0.3"));
}

#[test]
fn one_vip_and_two_hundred_are_taken_and_released() {
    let lab = Lab::new();
    let many = (0..100).flat_map(|n| [vip(&format!("10.9.1.{n}"), 32), vip(&format!("fd09::1:{n}"), 64)]);
    let groups = vec![Group::new("one", vec![vip("10.9.0.100", 24)]), Group::new("many", many.collect())];
    let director = lab.director(setup(groups));
    for _ in 0..3 {
        println!("one VIP taken in {:?}", director.take("one"));
        director.want(&[], 0);
        until("released", || !lab.directors[0].has("10.9.0.100"));
    }
    println!("200 VIPs taken in {:?}", director.take("many"));
    let start = Instant::now();
    director.want(&[], 0);
    until("released", || director.report().groups["many"].present.is_empty());
    println!("200 VIPs released in {:?}", start.elapsed());
    assert!(!lab.directors[0].has("10.9.1.99") && !lab.directors[0].has("fd09::1:99"));
}

#[test]
fn announcements_come_in_a_burst_then_as_a_refresh_and_anew_when_asked() {
    let lab = Lab::new();
    let mut setup = pair();
    (setup.announce.burst, setup.announce.refresh) = (3, Some(Duration::from_millis(800)));
    let director = lab.director(setup);
    for (address, to) in [("10.9.0.100", BROADCAST), ("fd09::100", ALL_NODES)] {
        let capture = lab.capture();
        director.want(&["g"], 0);
        let times = announcements(&capture, address, to, 5);
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        println!("{address}: {gaps:?}");
        // A busy machine only adds to them, or moves some towards the next.
        let spacings = (times[2] - times[0], times[4] - times[2]);
        assert!(spacings.0 >= Duration::from_millis(180), "{gaps:?}");
        assert!(spacings.0 < Duration::from_millis(700), "not the refresh: {gaps:?}");
        assert!(spacings.1 >= Duration::from_millis(1500), "{gaps:?}");
        director.want(&["g"], 1);
        let times = announcements(&capture, address, to, 3);
        assert!(times[2] - times[0] < Duration::from_millis(700), "from the beginning: {times:?}");
        director.want(&[], 0);
        until("released", || !lab.directors[0].has(address));
    }
}

#[test]
fn named_and_shared_neighbours_are_told_where_broadcasts_do_not_reach() {
    let lab = Lab::new();
    let mut named = pair();
    named.announce.neighbours = vec![ip("10.9.0.1"), ip("fd09::1")];
    named.announce.share = Some(Duration::from_millis(100));
    let director = lab.director(named);
    // It looks them up by itself, and tells of them.
    for address in ["10.9.0.1", "fd09::1"] {
        let client = Neighbour { address: ip(address), mac: mac(CLIENT_MAC) };
        let took = until("told", || director.takeover.neighbours.borrow().contains(&client));
        println!("{address} is known after {took:?}");
    }
    lab.switch.ip("link set dev p1 type bridge_slave bcast_flood off mcast_flood off");
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    director.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
    director.takeover.release().expect("released");

    // Another one has never heard of the client.
    let other = Director::start(&lab.directors[1], pair());
    let known =
        ["10.9.0.1", "fd09::1"].map(|address| Neighbour { address: ip(address), mac: mac(CLIENT_MAC) });
    other.shared.send_replace(Arc::new(known.to_vec()));
    other.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[1]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[1]);
}

#[test]
fn what_others_change_is_put_right_and_announced() {
    let lab = Lab::new();
    let groups = vec![pair().groups.remove(0), Group::new("standby", vec![vip("10.9.0.200", 24)])];
    let (director, namespace) = (lab.director(setup(groups)), &lab.directors[0]);
    director.take("g");
    for (address, prefix) in [("10.9.0.100", 24), ("fd09::100", 64)] {
        lab.mislead(address);
        namespace.ip(&format!("address del {address}/{prefix} dev d0"));
        println!("{address} is back after {:?}", until("back", || namespace.has(address)));
        lab.client_follows(address, DIRECTOR_MACS[0]);
    }
    namespace.ip("address add 10.9.0.200/32 dev d0");
    println!("a foreign VIP is gone after {:?}", until("gone", || !namespace.has("10.9.0.200")));

    until("the link is up", || director.takeover.links.borrow().get("d0") == Some(&true));
    namespace.ip("link set d0 down");
    until("the link is down", || director.takeover.links.borrow().get("d0") == Some(&false));
    until("IPv6 is missing", || {
        director.report().groups["g"]
            .missing
            .iter()
            .any(|(vip, reason)| vip.address.is_ipv6() && reason.contains("is down"))
    });
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    namespace.ip("link set d0 up");
    println!("IPv6 is back after {:?}", until("back", || namespace.has("fd09::100")));
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
}

#[test]
fn what_a_crash_has_left_is_removed() {
    let lab = Lab::new();
    let namespace = &lab.directors[0];
    let leave = || {
        namespace.ip("address add 10.9.0.100/32 dev d0");
        namespace.ip("address add fd09::100/64 dev d0 nodad");
        namespace.ip("link add dv-0123abcd link d0 type macvlan mode private");
    };
    let clean = || !namespace.has("10.9.0.100") && !namespace.has("fd09::100");
    leave();
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(takeover::clear(&pair().groups[0].vips)).expect("cleared");
    });
    assert!(clean() && !namespace.ip("link").contains("dv-0123abcd") && namespace.has("10.9.0.2"));
    leave();
    let director = lab.director(pair());
    until("removed", || clean() && !namespace.ip("link").contains("dv-0123abcd"));
    // What is left on purpose stays.
    director.take("g");
    director.takeover.leave().expect("it ends");
    assert!(namespace.has("10.9.0.100") && namespace.has("fd09::100"));
    // A reload forgets a VIP.
    let director =
        lab.director(setup(vec![Group::new("g", vec![vip("fd09::100", 64), vip("10.9.0.101", 24)])]));
    director.take("g");
    director.setups.send_replace(Arc::new(setup(vec![Group::new("g", vec![vip("fd09::100", 64)])])));
    until("forgotten", || !namespace.has("10.9.0.101"));
    assert!(namespace.has("fd09::100"));
}

#[test]
fn vips_of_one_network_leave_each_other_and_foreign_addresses_alone() {
    for order in [["x", "y"], ["y", "x"]] {
        let lab = Lab::new();
        let namespace = &lab.directors[0];
        namespace.sysctl("net.ipv4.conf.all.promote_secondaries=0");
        namespace.sysctl("net.ipv4.conf.d0.promote_secondaries=0");
        let groups =
            vec![Group::new("x", vec![vip("10.8.0.10", 24)]), Group::new("y", vec![vip("10.8.0.20", 24)])];
        let director = lab.director(setup(groups));
        director.take("x");
        director.want(&["x", "y"], 0);
        until("both", || namespace.has("10.8.0.10") && namespace.has("10.8.0.20"));
        namespace.ip("address add 10.8.0.77/24 dev d0");
        let [first, second] = order;
        let (gone, stays) = if first == "x" { (10, 20) } else { (20, 10) };
        director.want(&[second], 0);
        until("one released", || !namespace.has(&format!("10.8.0.{gone}")));
        assert!(namespace.has(&format!("10.8.0.{stays}")), "it was never away");
        director.want(&[], 0);
        until("the other released", || !namespace.has(&format!("10.8.0.{stays}")));
        assert!(namespace.has("10.8.0.77") && namespace.has("10.9.0.2"));
    }
}

#[test]
fn a_virtual_mac_moves_and_the_client_never_has_to_learn() {
    let lab = Lab::new();
    let mut setup = pair();
    setup.groups[0].virtual_mac = Some(mac(VIRTUAL_MAC));
    let addresses = ["10.9.0.100", "fd09::100"];
    let one = Director::start(&lab.directors[0], setup.clone());
    let two = Director::start(&lab.directors[1], setup.clone());
    println!("with a virtual MAC taken in {:?}", one.take("g"));
    for address in addresses {
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
    }
    let macvlan = |namespace: &Namespace| namespace.ip("link").contains("dv-");
    one.want(&[], 0);
    until("released", || !macvlan(&lab.directors[0]));
    println!("with a virtual MAC taken over in {:?}", two.take("g"));
    for address in addresses {
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        lab.client.ip(&format!("neighbour del {address} dev c0"));
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        assert!(lab.directors[1].has(address) && !lab.directors[0].has(address));
    }
    // Someone deletes it.
    let link = lab.directors[1].ip("-br link");
    let name = link.lines().find_map(|line| line.starts_with("dv-").then(|| line[..11].to_owned()));
    lab.directors[1].ip(&format!("link del {}", name.expect("a macvlan")));
    until("back", || addresses.iter().all(|address| lab.directors[1].has(address)));
    lab.client.pings("10.9.0.100");
    two.takeover.release().expect("released");
    assert!(!macvlan(&lab.directors[1]));
}
