//! NAT: one address and one port change each way, a hop is counted, and checksums stay right.

use std::net::SocketAddr;

use director::dataplane::{Kind, State};
use director::model::{Forward, Protocol};
use director::pool::NextHop;
use director_ebpf::abi::Reason;

use crate::packet::{CLIENT, OWN, Packet, Upper, at, tcp, udp};
use crate::rig::{Fate, HERE, Rig, elsewhere, hop, service};

/// TCP and UDP, both families, with ports as they are and mapped.
fn rig() -> Rig {
    let nat = |nth, vip, protocol, real: &str| service(nth, vip, protocol, Forward::Nat, &[real]);
    Rig::new(vec![
        nat(0, "192.0.2.1:80", Protocol::Tcp, "10.0.0.1"),
        nat(1, "192.0.2.1:81", Protocol::Tcp, "10.0.0.1:8080"),
        nat(2, "[2001:db8::1]:80", Protocol::Tcp, "2001:db8:1::1"),
        nat(3, "[2001:db8::1]:81", Protocol::Tcp, "[2001:db8:1::1]:8080"),
        nat(4, "192.0.2.1:53", Protocol::Udp, "10.0.0.1"),
        nat(5, "192.0.2.1:54", Protocol::Udp, "10.0.0.1:5353"),
        nat(6, "[2001:db8::1]:53", Protocol::Udp, "2001:db8:1::1"),
        nat(7, "[2001:db8::1]:54", Protocol::Udp, "[2001:db8:1::1]:5353"),
    ])
}

fn vip(rig: &Rig, s: usize) -> SocketAddr {
    let service = &rig.desired.services[s];
    SocketAddr::new(service.address, service.ports.single().expect("one port"))
}

/// What a client sends to a service first, with so much payload.
fn first(rig: &Rig, s: usize, payload: &[u8]) -> Packet {
    let vip = vip(rig, s);
    let client = if vip.is_ipv4() { at("198.51.100.7:40000") } else { at("[2001:db8:c::7]:40000") };
    match rig.desired.services[s].protocol {
        Protocol::Tcp => tcp(client, vip, "S", payload),
        Protocol::Udp => udp(client, vip, payload),
    }
}

fn translated(rig: &Rig, s: usize, packet: &Packet) -> Packet {
    packet.to_real(&hop(s, 0), rig.real_at((s, 0), packet.to.port()))
}

fn flags(packet: &Packet, flags: &str) -> Packet {
    match packet.upper {
        Upper::Tcp(_) => Packet { upper: tcp(packet.from, packet.to, flags, b"").upper, ..packet.clone() },
        _ => packet.clone(),
    }
}

#[test]
fn there_and_back() {
    let rig = rig();
    for s in 0..8 {
        for (i, (letters, payload)) in
            [("S", &b""[..]), ("A", b""), ("PA", b"odd"), ("PA", b"even"), ("FA", b"x"), ("A", b"")]
                .iter()
                .enumerate()
        {
            let what = format!("service {s}, packet {i}");
            let asks = flags(&first(&rig, s, payload), letters);
            let leaves = translated(&rig, s, &asks);
            let fate = Fate::sent((s, 0), &leaves.frame());
            rig.expect(&what, &asks.frame(), if i == 0 { fate.new_flow() } else { fate });
            let answers = leaves.answer(if i == 0 { "SA" } else { "A" }, &[b"answer", *payload].concat());
            rig.expect(
                &what,
                &answers.frame(),
                Fate::returned((s, 0), &answers.back_from(vip(&rig, s)).frame()),
            );
        }
    }
}

#[test]
fn options_and_extension_headers_are_stepped_over() {
    let rig = rig();
    for s in 0..8 {
        let mut asks = first(&rig, s, b"payload");
        if asks.from.is_ipv4() {
            asks.options = vec![7, 7, 4, 0, 0, 0, 0, 0];
        } else {
            asks.extensions = vec![(0, vec![1; 6]), (60, vec![2; 14]), (51, vec![3; 12])];
        }
        let leaves = translated(&rig, s, &asks);
        rig.expect("options", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow());
        let answers = leaves.answer("SA", b"answer");
        rig.expect(
            "options",
            &answers.frame(),
            Fate::returned((s, 0), &answers.back_from(vip(&rig, s)).frame()),
        );
    }
}

#[test]
fn jumbo_frames_go_through() {
    let rig = rig();
    for s in 0..8 {
        let asks = first(&rig, s, &[0x5a; 8_901]);
        let leaves = translated(&rig, s, &asks);
        rig.expect("jumbo", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow());
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let rig = rig();
    for s in [4, 5] {
        let asks = Packet { upper: Upper::Udp { checksum: false }, ..first(&rig, s, b"unsummed") };
        let leaves = translated(&rig, s, &asks);
        rig.expect("no checksum", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow());
        let answers = leaves.answer("", b"nor back");
        rig.expect(
            "no checksum",
            &answers.frame(),
            Fate::returned((s, 0), &answers.back_from(vip(&rig, s)).frame()),
        );
    }
}

/// A checksum that comes out as 0 is sent as 0xffff (RFC 768), whichever way it is made.
#[test]
fn a_udp_checksum_never_becomes_zero() {
    let rig = rig();
    for s in 4..8 {
        let check =
            |packet: &Packet| u16::from_be_bytes(packet.segment().1[6..8].try_into().expect("two bytes"));
        let made = |word: u16| {
            let asks = first(&rig, s, &word.to_be_bytes());
            (check(&translated(&rig, s, &asks)) == 0xffff).then_some(asks)
        };
        let asks = (0..=u16::MAX).find_map(made).expect("one of all words does it");
        let leaves = translated(&rig, s, &asks);
        rig.expect("0xffff there", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow());
        let made = |word: u16| {
            let answers = leaves.answer("", &word.to_be_bytes());
            (check(&answers.back_from(vip(&rig, s))) == 0xffff).then_some(answers)
        };
        let answers = (0..=u16::MAX).find_map(made).expect("one of all words does it");
        rig.expect(
            "0xffff back",
            &answers.frame(),
            Fate::returned((s, 0), &answers.back_from(vip(&rig, s)).frame()),
        );
        // And from there it goes on: 0xffff comes in.
        let made = |word: u16| {
            let asks = first(&rig, s, &word.to_be_bytes());
            (check(&asks) == 0xffff).then_some(asks)
        };
        let asks = (0..=u16::MAX).find_map(made).expect("one of all words does it");
        rig.expect("from 0xffff", &asks.frame(), Fate::sent((s, 0), &translated(&rig, s, &asks).frame()));
    }
}

#[test]
fn checksums_come_out_right_whatever_they_are() {
    let rig = rig();
    for s in 0..8 {
        for word in (0..=u16::MAX).step_by(251) {
            let asks = flags(&first(&rig, s, &word.to_be_bytes()), if word == 0 { "S" } else { "A" });
            let asks = Packet { id: word, ttl: (word >> 8) as u8 | 2, ..asks };
            let outcome = rig.run(&asks.frame());
            assert_eq!(outcome.frame, translated(&rig, s, &asks).frame(), "service {s}, {word:#x}");
        }
    }
}

#[test]
fn the_last_hop_is_not_forwarded() {
    let rig = rig();
    for s in 0..8 {
        let asks = first(&rig, s, b"");
        rig.run(&asks.frame());
        for ttl in [0, 1] {
            rig.expect("there", &Packet { ttl, ..asks.clone() }.frame(), Fate::dropped(Reason::DropTtl));
        }
        let last = Packet { ttl: 2, ..asks };
        let leaves = translated(&rig, s, &last);
        assert_eq!(rig.run(&last.frame()).frame, leaves.frame());
        for ttl in [0, 1] {
            let answers = Packet { ttl, ..leaves.answer("SA", b"") };
            rig.expect("back", &answers.frame(), Fate::dropped(Reason::DropTtl));
        }
    }
}

#[test]
fn both_directions_cross_interfaces() {
    let mut rig = rig();
    let (theirs, ifindex) = ([0x02, 0xdd, 0, 0, 0, 2], elsewhere());
    let away = NextHop { mac: [0x02, 0xdd, 0, 0, 0, 1], source_mac: theirs, ifindex };
    rig.change(|services| {
        services.iter_mut().for_each(|service| service.reals[0].hop = Some(away));
        // Somebody here, so that frames may be redirected to here.
        services.push(service(8, "192.0.2.1:99", Protocol::Tcp, Forward::Direct, &["10.0.0.9"]));
    });
    let other = rig.dataplane.trial(theirs, ifindex).expect("a second instance");
    for s in 0..8 {
        let asks = first(&rig, s, b"");
        let leaves = asks.to_real(&away, rig.real_at((s, 0), asks.to.port()));
        rig.expect("there", &asks.frame(), Fate::sent((s, 0), &leaves.frame()).new_flow().redirected());
        let answers = Packet { to_mac: theirs, from_mac: away.mac, ..leaves.answer("SA", b"") };
        let outcome = other.run(&answers.frame(), 1).expect("a run");
        assert_eq!(outcome.verdict, director::dataplane::Verdict::Redirect);
        assert_eq!(outcome.frame, answers.back_from(vip(&rig, s)).frame());
    }
    assert_ne!(ifindex, HERE);
}

/// Replies leave to where the client's packets come from, and follow when that changes.
#[test]
fn replies_follow_the_clients_router() {
    let rig = rig();
    let router = [0x02, 0xcc, 0, 0, 0, 9];
    for s in 0..8 {
        let asks = flags(&first(&rig, s, b""), "S");
        let leaves = translated(&rig, s, &asks);
        rig.run(&asks.frame());
        rig.run(&flags(&asks, "A").frame());
        let answers = leaves.answer("SA", b"").frame();
        assert_eq!(rig.run(&answers).frame[..12], [CLIENT, OWN].concat());
        rig.dataplane.flows().age(1);
        let moved = Packet { from_mac: router, ..flags(&asks, "A") };
        assert_eq!(rig.run(&moved.frame()).frame, translated(&rig, s, &moved).frame());
        assert_eq!(rig.run(&answers).frame[..12], [router, OWN].concat());
    }
}

/// Both entries of a flow go through its life together: a reply that goes on keeps the client's entry alive.
#[test]
fn both_entries_live_together() {
    let rig = rig();
    let states = |kind| {
        let flows = rig.flows();
        let mut states: Vec<_> =
            flows.iter().filter(|flow| flow.kind == kind).map(|flow| flow.state).collect();
        states.dedup();
        states
    };
    let asks: Vec<Packet> = (0..4).map(|s| first(&rig, s, b"")).collect();
    let see = |letters: &str, back: &str, state| {
        for (s, asks) in asks.iter().enumerate() {
            let asks = flags(asks, letters);
            let leaves = translated(&rig, s, &asks);
            if !letters.is_empty() {
                assert_eq!(rig.run(&asks.frame()).frame, leaves.frame());
            }
            if !back.is_empty() {
                let answers = leaves.answer(back, b"");
                assert_eq!(rig.run(&answers.frame()).frame, answers.back_from(vip(&rig, s)).frame());
            }
        }
        assert_eq!(
            (states(Kind::Client), states(Kind::Reply)),
            (vec![state], vec![state]),
            "{letters} {back}"
        );
    };
    see("S", "SA", State::Embryonic);
    see("A", "A", State::Established);
    rig.dataplane.flows().age(500);
    see("", "PA", State::Established);
    assert!(
        rig.flows().iter().all(|flow| flow.idle.as_secs() < 3),
        "the replies' news reached the clients' entries"
    );
    see("", "FA", State::Closing);
    see("FA", "A", State::Closing);
    see("", "RA", State::Closed);
    see("S", "SA", State::Embryonic);
    see("R", "", State::Embryonic);
}
