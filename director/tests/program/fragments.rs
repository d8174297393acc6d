//! Fragments: the first has the ports, the later ones follow it.

use director::dataplane::{Kind, Verdict};
use director::model::{Forward, Protocol, Scheduler, Unserved};
use director_ebpf::abi::Reason;

use crate::packet::{Packet, at, tcp, udp};
use crate::rig::{Fate, Rig, hop, service};

/// UDP and TCP, both families, one real server each: mapped under NAT.
fn rig(forward: Forward) -> Rig {
    let port = |real: &str| match forward {
        Forward::Nat => format!("{real}:5353"),
        Forward::Direct => real.replace(['[', ']'], ""),
    };
    let one = |nth, vip, protocol, real| service(nth, vip, protocol, forward, &[&port(real)]);
    Rig::new(vec![
        one(0, "192.0.2.1:53", Protocol::Udp, "10.0.0.1"),
        one(1, "[2001:db8::1]:53", Protocol::Udp, "[2001:db8:1::1]"),
        one(2, "192.0.2.1:53", Protocol::Tcp, "10.0.0.1"),
        one(3, "[2001:db8::1]:53", Protocol::Tcp, "[2001:db8:1::1]"),
    ])
}

fn asks(s: usize, port: u16) -> Packet {
    let body: Vec<u8> = (0..101).collect();
    let (mut from, to) = match s % 2 {
        0 => (at("198.51.100.7:0"), at("192.0.2.1:53")),
        _ => (at("[2001:db8:c::7]:0"), at("[2001:db8::1]:53")),
    };
    from.set_port(port);
    if s < 2 { udp(from, to, &body) } else { tcp(from, to, "S", &body) }
}

fn leaves(rig: &Rig, s: usize, asks: &Packet) -> Packet {
    match rig.desired.services[s].forward {
        Forward::Direct => asks.via(&hop(s, 0)),
        Forward::Nat => asks.to_real(&hop(s, 0), rig.real_at((s, 0), 53)),
    }
}

#[test]
fn later_fragments_follow_the_first() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = rig(forward);
        for s in 0..4 {
            for (turn, cut) in [24, 64, 96].into_iter().enumerate() {
                let what = format!("{forward}, service {s}, cut at {cut}");
                let asks = Packet { id: turn as u16, ..asks(s, 40_000) };
                let ([first, later], [first_out, later_out]) =
                    (asks.fragments(cut), leaves(&rig, s, &asks).fragments(cut));
                rig.expect(&what, &later, Fate::passed(&later, Reason::PassFragment));
                let fate = Fate::sent((s, 0), &first_out);
                rig.expect(&what, &first, if turn == 0 { fate.new_flow() } else { fate });
                rig.expect(&what, &later, Fate::sent((s, 0), &later_out));
                rig.expect(&what, &later, Fate::sent((s, 0), &later_out));
            }
        }
    }
}

#[test]
fn a_cut_off_later_fragment_is_its_beginning_or_nothing() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = rig(forward);
        for s in 0..4 {
            let mut asks = asks(s, 40_000);
            if s % 2 == 0 {
                asks.options = vec![1; 12];
            } else {
                asks.extensions = vec![(60, vec![1; 6])];
            }
            rig.run(&asks.fragments(64)[0]);
            let (later, out) = (&asks.fragments(64)[1], &leaves(&rig, s, &asks).fragments(64)[1]);
            let head = later.len() - (asks.segment().1.len() - 64);
            for length in 14..=later.len() {
                let outcome = rig.run(&later[..length]);
                let sent = length > head;
                assert_eq!(
                    outcome.verdict,
                    if sent { Verdict::Tx } else { Verdict::Drop },
                    "service {s}, {length} bytes"
                );
                assert!(!sent || outcome.frame == out[..length], "service {s}, {length} bytes");
            }
        }
    }
}

#[test]
fn fragmented_replies_come_back() {
    let rig = rig(Forward::Nat);
    for s in 0..4 {
        let asks = asks(s, 40_000);
        rig.run(&asks.frame());
        let answers = leaves(&rig, s, &asks).answer("SA", &[9; 200]);
        let (ins, outs) = (answers.fragments(120), answers.back_from(asks.to).fragments(120));
        rig.expect("too early", &ins[1], Fate::passed(&ins[1], Reason::PassFragment));
        rig.expect("first", &ins[0], Fate::returned((s, 0), &outs[0]));
        rig.expect("later", &ins[1], Fate::returned((s, 0), &outs[1]));
    }
}

#[test]
fn the_last_hop_is_not_forwarded() {
    let rig = rig(Forward::Nat);
    for s in 0..4 {
        let asks = asks(s, 40_000);
        rig.run(&asks.fragments(64)[0]);
        let last = Packet { ttl: 1, ..asks };
        rig.expect("later", &last.fragments(64)[1], Fate::dropped(Reason::DropTtl));
    }
}

/// Two datagrams of one client under one id: the later fragments follow the first one seen last. An IPv4 id comes round again
/// after 65,536 datagrams.
#[test]
fn an_id_that_comes_round_again_names_the_new_datagram() {
    for forward in [Forward::Direct, Forward::Nat] {
        let mut two = service(0, "192.0.2.1:53", Protocol::Udp, forward, &["10.0.0.1", "10.0.0.2"]);
        two.scheduler = Scheduler::Rr;
        let rig = Rig::new(vec![two]);
        for (turn, real) in [(0, 0), (1, 1), (0, 0), (1, 1)] {
            let asks = asks(0, 40_000 + turn);
            let [first, later] = asks.fragments(64);
            assert_eq!([rig.real_for(&first), rig.real_for(&later)], [(0, real); 2]);
        }
        let fragments = rig.flows().iter().filter(|flow| flow.kind == Kind::Fragment).count();
        assert_eq!(fragments, 1, "one entry for one id");
    }
}

#[test]
fn fragments_of_one_address_pair_keep_apart() {
    let rig = rig(Forward::Direct);
    let datagram = asks(0, 40_000);
    rig.run(&datagram.fragments(64)[0]);
    let stranger = |packet: Packet| {
        let later = &packet.fragments(64)[1];
        rig.expect("of another datagram", later, Fate::passed(later, Reason::PassFragment));
    };
    stranger(Packet { id: datagram.id + 1, ..datagram.clone() });
    stranger(Packet { from: at("198.51.100.8:40000"), ..datagram.clone() });
    stranger(asks(2, 40_000));
}

/// An IPv6 fragment header around a whole packet (RFC 6946).
#[test]
fn an_atomic_fragment_is_a_packet() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = rig(forward);
        for s in [1, 3] {
            let asks = asks(s, 40_000);
            let whole = |packet: &Packet| {
                let mut frame = packet.fragments(64)[0].clone();
                frame[14 + 40 + 3] &= !1;
                frame
            };
            rig.expect(
                "atomic",
                &whole(&asks),
                Fate::sent((s, 0), &whole(&leaves(&rig, s, &asks))).new_flow(),
            );
            assert!(rig.flows().iter().all(|flow| flow.kind != Kind::Fragment));
        }
    }
}

#[test]
fn a_first_fragment_too_short_for_its_header_is_dropped() {
    let rig = rig(Forward::Nat);
    for s in [2, 3] {
        rig.expect(
            "eight bytes of TCP",
            &asks(s, 40_000).fragments(8)[0],
            Fate::dropped(Reason::DropTruncated),
        );
    }
    assert_eq!(rig.flows(), []);
}

#[test]
fn fragments_of_a_refused_datagram_pass() {
    let mut none = service(0, "192.0.2.1:53", Protocol::Udp, Forward::Direct, &[]);
    none.unserved = Unserved::Reject;
    let rig = Rig::new(vec![none]);
    let [first, later] = asks(0, 40_000).fragments(64);
    let fate = Fate::dropped(Reason::DropNoReal).service(0, |stats| stats.no_real_dropped += 1);
    rig.expect("first", &first, fate);
    rig.expect("later", &later, Fate::passed(&later, Reason::PassFragment));
}

#[test]
fn fragments_of_a_removed_real_server_pass() {
    let mut rig = rig(Forward::Direct);
    let [first, later] = asks(0, 40_000).fragments(64);
    rig.run(&first);
    rig.change(|services| services[0].reals.clear());
    rig.expect("later", &later, Fate::passed(&later, Reason::PassFragment));
}
