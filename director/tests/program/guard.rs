//! The guard: without a lease nobody is told where a guarded VIP is, and packets for its virtual MAC are dropped.

use std::net::IpAddr;
use std::time::Duration;

use director::dataplane::{Dataplane, GuardedGroup, Lease, Leases, Options, Verdict};
use director::model::{Forward, Protocol, Unserved};
use director_ebpf::abi::{MAX_GUARDED, Reason};
use rustix::time::{ClockId, clock_gettime};

use crate::packet::{CLIENT, OWN, Packet, arp, at, nd, other, tcp, udp};
use crate::rig::{Fate, LIMITS, Rig, hex, service};

/// The group's virtual MAC.
const VIRTUAL: [u8; 6] = [0x02, 0, 0x5e, 0, 1, 7];
/// What solicitations for the VIPs that end with 1 are sent to (RFC 4291, 2.7.1; RFC 2464, 7).
const GROUP: &str = "ff02::1:ff00:1";
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 1];
const ROUTER: [&str; 2] = ["192.0.2.254", "fe80::fe"];
const AN_HOUR: Duration = Duration::from_secs(3600);

fn rig() -> Rig {
    let mut refuses = service(3, "192.0.2.1:81", Protocol::Tcp, Forward::Direct, &[]);
    refuses.unserved = Unserved::Reject;
    Rig::new(vec![
        service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &["10.0.0.1"]),
        service(1, "[2001:db8::1]:80", Protocol::Tcp, Forward::Direct, &["2001:db8:1::1"]),
        service(2, "192.0.2.1:53", Protocol::Udp, Forward::Nat, &["10.0.0.3:5353"]),
        refuses,
    ])
}

/// The third and the fourth have no service.
fn group() -> GuardedGroup {
    let addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.77", "2001:db8:7::1"];
    GuardedGroup { addresses: addresses.map(ip).to_vec(), mac: Some(VIRTUAL) }
}

fn guarded(number: usize) -> (Rig, Leases) {
    let mut rig = rig();
    let leases = rig.dataplane.leases().expect("leases");
    let mut groups = vec![GuardedGroup::default(); number];
    groups.push(group());
    rig.dataplane.guard(&groups).expect("a guard");
    (rig, leases)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn to(mac: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

fn solicitation(to: &str, about: &str) -> Vec<u8> {
    nd(135, ROUTER[1], to, about).frame()
}

/// What asks for the group's addresses, and why it passes where it may.
fn questions() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let other_mac = [0x02, 0, 0, 0, 0, 9];
    vec![
        ("ARP", arp(1, ROUTER[0], "192.0.2.1"), Reason::PassNotIp),
        ("ARP by unicast", to(OWN, arp(1, ROUTER[0], "192.0.2.1")), Reason::PassNotIp),
        ("ARP to the virtual MAC", to(VIRTUAL, arp(1, ROUTER[0], "192.0.2.1")), Reason::PassNotIp),
        ("an ARP probe (RFC 5227)", arp(1, "0.0.0.0", "192.0.2.1"), Reason::PassNotIp),
        ("an ARP reply to the VIP", to(OWN, arp(2, ROUTER[0], "192.0.2.1")), Reason::PassNotIp),
        ("ARP for a VIP without a service", arp(1, ROUTER[0], "192.0.2.77"), Reason::PassNotIp),
        ("ND", to(GROUP_MAC, solicitation(GROUP, "2001:db8::1")), Reason::PassOtherHost),
        ("ND by broadcast", to([0xff; 6], solicitation(GROUP, "2001:db8::1")), Reason::PassOtherHost),
        ("ND by unicast", solicitation("2001:db8::1", "2001:db8::1"), Reason::PassIcmp),
        ("ND to the group at our MAC", solicitation(GROUP, "2001:db8::1"), Reason::PassNotOurs),
        (
            "ND for a VIP without a service",
            solicitation("2001:db8:7::1", "2001:db8:7::1"),
            Reason::PassNotOurs,
        ),
        ("ND to another MAC", to(other_mac, solicitation(GROUP, "2001:db8::1")), Reason::PassOtherHost),
        (
            "duplicate address detection (RFC 4862)",
            to(GROUP_MAC, nd(135, "::", GROUP, "2001:db8::1").frame()),
            Reason::PassOtherHost,
        ),
    ]
}

#[track_caller]
fn all_pass(rig: &Rig, when: &str) {
    for (what, frame, reason) in questions() {
        rig.expect(&format!("{what}, {when}"), &frame, Fate::passed(&frame, reason));
    }
}

#[track_caller]
fn all_drop(rig: &Rig, when: &str) {
    for (what, frame, _) in questions() {
        rig.expect(&format!("{what}, {when}"), &frame, Fate::dropped(Reason::DropNoLease));
    }
}

#[test]
fn questions_are_heard_under_a_lease_only() {
    all_pass(&rig(), "nothing guarded");
    // The last group, too.
    for number in [0, 63] {
        let (mut rig, leases) = guarded(number);
        all_drop(&rig, "no lease yet");
        for _ in 0..2 {
            leases.set(number, Lease::Until(now() + AN_HOUR));
            all_pass(&rig, "a lease");
            leases.set(number, Lease::Until(now() - Duration::from_nanos(1)));
            all_drop(&rig, "a lease that ended");
            leases.set(number, Lease::Forever);
            all_pass(&rig, "a lease for ever");
            leases.set(number, Lease::Never);
            all_drop(&rig, "no lease");
        }
        leases.set(number ^ 1, Lease::Forever);
        all_drop(&rig, "another group's lease");
        rig.dataplane.release_guard().expect("no guard");
        all_pass(&rig, "no guard any more");
        assert_eq!(leases.get(number ^ 1), Lease::Never);
    }
}

#[test]
fn a_lease_ends_by_itself() {
    let (rig, leases) = guarded(0);
    let question = arp(1, ROUTER[0], "192.0.2.1");
    let end = now() + Duration::from_millis(30);
    leases.set(0, Lease::Until(end));
    let mut heard = 0;
    loop {
        let before = now();
        match rig.run(&question).verdict {
            Verdict::Pass => assert!(before <= end, "heard {:?} too late", before - end),
            Verdict::Drop => break assert!(now() > end, "not heard, while there was a lease"),
            verdict => panic!("{verdict:?}"),
        }
        heard += 1;
    }
    assert!(heard > 0);
}

#[test]
fn what_is_no_question_passes() {
    let (rig, _leases) = guarded(0);
    let changed = |mut frame: Vec<u8>, at: usize, byte: u8| {
        frame[at] = byte;
        frame
    };
    let request = || arp(1, ROUTER[0], "192.0.2.1");
    let from_vip = nd(136, "2001:db8::1", "ff02::1", "2001:db8::1").frame();
    let options = Packet { extensions: vec![(60, vec![1; 6])], ..nd(135, ROUTER[1], GROUP, "2001:db8::1") };
    let fragment = nd(135, ROUTER[1], GROUP, "2001:db8::1").fragments(8);
    let echo = other(at("198.51.100.7:0"), at("192.0.2.1:0"), 1, &[8, 0, 1, 2, 3, 4, 5, 6]).frame();
    let rows = [
        ("another's gratuitous request", arp(1, "192.0.2.1", "192.0.2.1"), Reason::PassNotIp),
        ("another's gratuitous reply", arp(2, "192.0.2.1", "192.0.2.1"), Reason::PassNotIp),
        ("another's answer", to(OWN, arp(2, "192.0.2.1", "192.0.2.10")), Reason::PassNotIp),
        ("a question from the VIP", arp(1, "192.0.2.1", ROUTER[0]), Reason::PassNotIp),
        ("a question for an address of ours", arp(1, ROUTER[0], "192.0.2.10"), Reason::PassNotIp),
        ("RARP's request", arp(3, ROUTER[0], "192.0.2.1"), Reason::PassNotIp),
        ("operation 257", changed(request(), 20, 1), Reason::PassNotIp),
        ("ARP for another protocol", changed(request(), 16, 9), Reason::PassNotIp),
        ("hardware addresses of 8 bytes", changed(request(), 18, 8), Reason::PassNotIp),
        ("protocol addresses of 16 bytes", changed(request(), 19, 16), Reason::PassNotIp),
        ("another's advertisement", to([0x33, 0x33, 0, 0, 0, 1], from_vip.clone()), Reason::PassOtherHost),
        ("its advertisement by unicast", from_vip, Reason::PassIcmp),
        ("ND for another", to(GROUP_MAC, solicitation(GROUP, "2001:db8::2:1")), Reason::PassOtherHost),
        ("ND for an address of ours", solicitation("2001:db8::9", "2001:db8::9"), Reason::PassNotOurs),
        ("a router's solicitation", nd(133, ROUTER[1], GROUP, "2001:db8::1").frame(), Reason::PassNotOurs),
        // The kernel answers such a one. No sender of solicitations has a use for extension headers.
        ("extension headers", to(GROUP_MAC, options.frame()), Reason::PassOtherHost),
        // The kernel ignores it (RFC 6980).
        ("a fragment", to(GROUP_MAC, fragment[0].clone()), Reason::PassOtherHost),
        ("ping", echo, Reason::PassIcmp),
    ];
    for (what, frame, reason) in rows {
        rig.expect(what, &frame, Fate::passed(&frame, reason));
    }
}

#[test]
fn what_is_cut_off_fares_as_without_a_guard() {
    let (unguarded, (rig, _leases)) = (rig(), guarded(0));
    for (what, frame, _) in questions() {
        for length in 14..frame.len() {
            let (seen, wanted) = (rig.send(&frame[..length]), unguarded.send(&frame[..length]));
            assert!(!seen.counts.reasons.contains_key(&Reason::DropNoLease), "{what}, {length} bytes");
            assert_eq!(seen, wanted, "{what}, {length} bytes of {}", hex(&frame));
        }
    }
}

#[test]
fn other_kinds_of_arp_hardware_are_asked_as_well() {
    let (rig, _leases) = guarded(0);
    let mut frame = arp(1, ROUTER[0], "192.0.2.1");
    frame[15] = 6; // IEEE 802, which the kernel answers like Ethernet
    rig.expect("IEEE 802", &frame, Fate::dropped(Reason::DropNoLease));
}

#[test]
fn what_still_comes_is_forwarded() {
    let (rig, _leases) = guarded(0);
    for (s, asks) in [
        (0, tcp(at("198.51.100.7:40000"), at("192.0.2.1:80"), "S", b"")),
        (1, tcp(at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:80"), "S", b"")),
    ] {
        let leaves = asks.via(&rig.hop((s, 0)));
        rig.expect("a SYN", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow());
    }
}

#[test]
fn a_virtual_mac_is_ours_under_a_lease_only() {
    let (mut rig, leases) = guarded(5);
    let client = at("198.51.100.7:40000");
    let v4 = Packet { to_mac: VIRTUAL, ..tcp(client, at("192.0.2.1:80"), "S", b"") };
    let v6 = Packet { to_mac: VIRTUAL, ..tcp(at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:80"), "S", b"") };
    let ping = other(client, at("192.0.2.1:0"), 1, &[8, 0, 1, 2, 3, 4, 5, 6]).frame();
    let ping = to(VIRTUAL, ping);
    let stray = to(VIRTUAL, tcp(client, at("192.0.2.10:80"), "A", b"").frame());
    let all = [v4.frame(), v6.frame(), ping.clone(), stray];
    let unheard = |rig: &Rig, when: &str| {
        for frame in &all {
            rig.expect(when, frame, Fate::dropped(Reason::DropNoLease));
        }
    };
    unheard(&rig, "no lease");
    leases.set(5, Lease::Until(now() + AN_HOUR));
    for (s, asks) in [(0, &v4), (1, &v6)] {
        let leaves = Fate::sent((s, 0), &asks.via(&rig.hop((s, 0))).frame());
        rig.expect("new", &asks.frame(), leaves.clone().new_flow());
        rig.expect("again", &asks.frame(), leaves);
    }
    rig.expect("ping", &ping, Fate::passed(&ping, Reason::PassIcmp));
    let question = to(VIRTUAL, solicitation("2001:db8::1", "2001:db8::1"));
    rig.expect("ND", &question, Fate::passed(&question, Reason::PassIcmp));
    // Neither its neighbour nor a multicast MAC.
    for mac in [[0x02, 0, 0x5e, 0, 1, 6], [0x03, 0, 0x5e, 0, 1, 7], [0xff; 6]] {
        let frame = to(mac, v4.frame());
        rig.expect("another MAC", &frame, Fate::passed(&frame, Reason::PassOtherHost));
    }
    leases.set(5, Lease::Until(now() - Duration::from_nanos(1)));
    unheard(&rig, "a lease that ended");
    leases.set(5, Lease::Forever);
    let mut groups = vec![GuardedGroup::default(); 5];
    groups.push(GuardedGroup { mac: None, ..group() });
    rig.dataplane.guard(&groups).expect("a guard");
    for frame in &all {
        rig.expect("nobody's any more", frame, Fate::passed(frame, Reason::PassOtherHost));
    }
}

/// Whatever the director sends has the interface's MAC as its source: a reply's entry may outlast the lease, and switches learn.
#[test]
fn nothing_leaves_from_a_virtual_mac() {
    let (rig, leases) = guarded(0);
    leases.set(0, Lease::Forever);
    let (client, vip) = (at("198.51.100.7:40000"), at("192.0.2.1:53"));
    let asks = Packet { to_mac: VIRTUAL, ..udp(client, vip, b"?") };
    let leaves = asks.to_real(&rig.hop((2, 0)), at("10.0.0.3:5353"));
    rig.expect("asks", &asks.frame(), Fate::sent((2, 0), &leaves.frame()).new_flow());
    let answers = Packet { to_mac: OWN, ..leaves.answer("", b"!") };
    let back = answers.back_from(vip).frame();
    assert_eq!((&back[..6], &back[6..12]), (&CLIENT[..], &OWN[..]));
    rig.expect("answers", &answers.frame(), Fate::returned((2, 0), &back));
    let refused = Packet { to_mac: VIRTUAL, ..tcp(client, at("192.0.2.1:81"), "S", b"") };
    let outcome = rig.run(&refused.frame());
    assert_eq!((outcome.verdict, &outcome.frame[..12]), (Verdict::Tx, &[CLIENT, OWN].concat()[..]));
}

#[test]
fn a_successor_finds_the_guard_as_it_was() {
    let (mut rig, leases) = guarded(0);
    leases.set(0, Lease::Forever);
    leases.set(3, Lease::Until(AN_HOUR));
    let pins = rig.dataplane.pins().parent().expect("a directory").to_owned();
    rig.dataplane = Dataplane::open(&Options { pins, limits: LIMITS }).expect("a data plane");
    rig.trial = rig.dataplane.trial(OWN, crate::rig::HERE).expect("the program loads");
    let found = rig.dataplane.leases().expect("leases");
    assert_eq!((found.get(0), found.get(3)), (Lease::Forever, Lease::Until(AN_HOUR)));
    all_pass(&rig, "a predecessor's lease");
    found.set(0, Lease::Never);
    all_drop(&rig, "taken back");
    // The predecessor's handle is as good, in whatever thread.
    std::thread::spawn(move || leases.set(0, Lease::Forever)).join().expect("it does not panic");
    all_pass(&rig, "renewed");
}

#[test]
fn the_guard_becomes_what_is_asked_for() {
    let (mut rig, leases) = guarded(0);
    leases.set(1, Lease::Forever);
    let groups = [GuardedGroup::default(), group()];
    for _ in 0..2 {
        rig.dataplane.guard(&groups).expect("a guard");
        all_pass(&rig, "of a group with a lease");
    }
    rig.dataplane.guard(&[group()]).expect("a guard");
    all_drop(&rig, "of the first group again");
    // All at once others, as many as there can be: then those before are guarded no more.
    for net in [0x0a00_0000u32, 0x0b00_0000] {
        let addresses = (0..MAX_GUARDED).map(|i| std::net::Ipv4Addr::from(net + i).into()).collect();
        rig.dataplane.guard(&[GuardedGroup { addresses, mac: None }]).expect("room");
    }
    all_pass(&rig, "others guarded");
    let (gone, there) = (arp(1, ROUTER[0], "10.0.0.1"), arp(1, ROUTER[0], "11.0.15.255"));
    rig.expect("gone", &gone, Fate::passed(&gone, Reason::PassNotIp));
    rig.expect("there", &there, Fate::dropped(Reason::DropNoLease));
    let twice = [group(), group()];
    rig.dataplane.guard(&twice).expect_err("in two groups");
    rig.expect("there", &there, Fate::dropped(Reason::DropNoLease));
}
