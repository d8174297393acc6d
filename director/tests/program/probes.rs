//! The probes' programs: a marked packet goes to the VIP or nobody, its answers come back, and everything else stays as it is.

use std::net::{IpAddr, SocketAddr};

use director::dataplane::{Direction, ProbeCounts, Probes, Verdict};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};

use crate::packet::{Packet, Upper, at, other, tcp, udp};
use crate::rig::hex;
use crate::traffic::{Random, mutate, services, sound};

const VIPS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const REALS: [&str; 2] = ["10.0.0.1:80", "[2001:db8:1::1]:80"];
const OWNS: [&str; 2] = ["10.0.0.100:40000", "[2001:db8:1::100]:40000"];

/// How many random packets.
const PACKETS: usize = 200_000;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn probes() -> (Probes, [u32; 2]) {
    let mut probes = Probes::open().expect("the kernel takes the programs");
    let marks = probes.set_vips(&VIPS.map(ip).into()).expect("room for two VIPs");
    let marks = VIPS.map(|vip| marks[&ip(vip)]);
    (probes, marks)
}

/// A packet of a probe as the socket sends it, as the real server gets it, its answer, and that as the socket gets it.
fn exchange(family: usize, request: impl Fn(SocketAddr, SocketAddr) -> Packet) -> [Vec<u8>; 4] {
    let (own, real) = (at(OWNS[family]), at(REALS[family]));
    let vip = SocketAddr::new(ip(VIPS[family]), real.port());
    let sent = request(own, real);
    let got = Packet { ttl: 1, ..request(own, vip) };
    [sent.frame(), got.frame(), request(vip, own).frame(), request(real, own).frame()]
}

fn echo(from: SocketAddr, to: SocketAddr, reply: bool) -> Packet {
    let header = IcmpEchoHeader { id: 0x1234, seq: 7 };
    match (from.ip(), to.ip()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let kind = if reply { Icmpv6Type::EchoReply(header) } else { Icmpv6Type::EchoRequest(header) };
            let icmp = Icmpv6Header::with_checksum(kind, a.octets(), b.octets(), b"ping").expect("short");
            other(from, to, 58, &[&icmp.to_bytes()[..], b"ping"].concat())
        }
        _ => {
            let kind = if reply { Icmpv4Type::EchoReply(header) } else { Icmpv4Type::EchoRequest(header) };
            let icmp = Icmpv4Header::with_checksum(kind, b"ping");
            other(from, to, 1, &[&icmp.to_bytes()[..], b"ping"].concat())
        }
    }
}

fn check(probes: &Probes, what: &str, direction: Direction, frame: &[u8], expected: &[u8]) {
    let outcome = probes.run(direction, frame).expect("the kernel runs it");
    assert_eq!(outcome.verdict, Verdict::Pass, "{what}, {direction:?}");
    assert_eq!(hex(&outcome.frame), hex(expected), "{what}, {direction:?}");
}

#[test]
fn packets_are_rewritten_with_every_checksum() {
    let (probes, marks) = probes();
    for (family, mark) in marks.into_iter().enumerate() {
        let no_checksum = |from, to| Packet { upper: Upper::Udp { checksum: false }, ..udp(from, to, b"?") };
        let options = |from: SocketAddr, to| {
            let options = if from.is_ipv4() { vec![1; 8] } else { Vec::new() };
            Packet { options, ..tcp(from, to, "PA", b"question") }
        };
        type Make<'a> = (&'a str, &'a dyn Fn(SocketAddr, SocketAddr) -> Packet);
        let kinds: [Make<'_>; 5] = [
            ("SYN", &|from, to| tcp(from, to, "S", b"")),
            ("data", &|from, to| tcp(from, to, "PA", b"of odd length")),
            ("IP options", &options),
            ("UDP", &|from, to| udp(from, to, b"question")),
            ("UDP without a checksum", &no_checksum),
        ];
        for (what, make) in kinds {
            let [sent, got, answer, back] = exchange(family, make);
            // Not before it was asked for.
            if what == "SYN" {
                check(&probes, "an answer to nobody", Direction::In, &answer, &answer);
            }
            check(&probes, what, Direction::Out(mark), &sent, &got);
            check(&probes, what, Direction::In, &answer, &back);
        }
        let [sent, got, ..] = exchange(family, |from, to| echo(from, to, false));
        let [_, _, answer, back] = exchange(family, |from, to| echo(from, to, true));
        check(&probes, "echo", Direction::Out(mark), &sent, &got);
        check(&probes, "echo", Direction::In, &answer, &back);
    }
    let counts = probes.counts().expect("counters");
    assert_eq!(counts, ProbeCounts { sent: 12, answered: 12, errors: 0, refused: 0 });
}

#[test]
fn what_cannot_be_rewritten_reaches_nobody() {
    let (probes, marks) = probes();
    for (family, mark) in marks.into_iter().enumerate() {
        let (own, real) = (at(OWNS[family]), at(REALS[family]));
        let packet = tcp(own, real, "S", &[7; 64]);
        let [first, later] = packet.fragments(40);
        let reply = echo(own, real, true).frame();
        let gre = other(own, real, 47, &[0; 20]).frame();
        let mut arp = packet.frame();
        arp[12..14].copy_from_slice(&[8, 6]);
        let mut cut = packet.frame();
        cut.truncate(14 + if family == 0 { 20 } else { 40 } + 3);
        let cases = [&first, &later, &reply, &gre, &arp, &cut];
        for (nth, frame) in cases.into_iter().enumerate() {
            let outcome = probes.run(Direction::Out(mark), frame).expect("the kernel runs it");
            assert_eq!(outcome.verdict, Verdict::Drop, "case {nth}");
        }
        for mark in [marks[1 - family], mark + 2, mark & 0xffff_0000] {
            let outcome = probes.run(Direction::Out(mark), &packet.frame()).expect("the kernel runs it");
            assert_eq!(outcome.verdict, Verdict::Drop, "mark {mark:#x}");
        }
    }
    assert_eq!(probes.counts().expect("counters"), ProbeCounts { refused: 18, ..ProbeCounts::default() });
}

#[test]
fn errors_about_probes_speak_of_the_real_server() {
    let (probes, marks) = probes();
    for (family, mark) in marks.into_iter().enumerate() {
        let (own, real) = (at(OWNS[family]), at(REALS[family]));
        let vip = SocketAddr::new(ip(VIPS[family]), real.port());
        let router = if family == 0 { at("10.0.0.254:0") } else { at("[2001:db8:1::254]:0") };
        let asks = |to| Packet { ttl: 1, ..tcp(own, to, "S", b"") };
        let about_another = error(vip, own, &Packet { from: real, ..asks(vip) }).frame();
        check(&probes, "not asked yet", Direction::In, &about_another, &about_another);
        let sent = Packet { ttl: 64, ..asks(real) }.frame();
        check(&probes, "SYN", Direction::Out(mark), &sent, &asks(vip).frame());
        for (from, to_socket) in [(vip, real), (real, real), (router, router)] {
            let frame = error(from, own, &asks(vip)).frame();
            let expected = error(to_socket, own, &asks(real)).frame();
            check(&probes, "an error", Direction::In, &frame, &expected);
        }
        check(&probes, "about another", Direction::In, &about_another, &about_another);
    }
    let counts = probes.counts().expect("counters");
    assert_eq!(counts, ProbeCounts { sent: 2, answered: 0, errors: 6, refused: 0 });
}

/// Destination unreachable, quoting a packet's IP header and eight bytes more: what covers more is not rewritten.
fn error(from: SocketAddr, to: SocketAddr, about: &Packet) -> Packet {
    let mut quoted = about.ip();
    quoted.truncate(8 + if from.is_ipv4() { 20 } else { 40 });
    match (from.ip(), to.ip()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let kind = Icmpv6Type::Unknown { type_u8: 1, code_u8: 4, bytes5to8: [0; 4] };
            let icmp = Icmpv6Header::with_checksum(kind, a.octets(), b.octets(), &quoted).expect("short");
            other(from, to, 58, &[&icmp.to_bytes()[..], &quoted].concat())
        }
        _ => {
            let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: 3, bytes5to8: [0; 4] };
            let icmp = Icmpv4Header::with_checksum(kind, &quoted);
            other(from, to, 1, &[&icmp.to_bytes()[..], &quoted].concat())
        }
    }
}

#[test]
fn what_is_no_probe_stays_as_it_is() {
    let ((quiet, _), (busy, marks)) = (probes(), probes());
    // One probe that nobody below answers.
    let [sent, got, ..] = exchange(0, |from, to| tcp(from, to, "S", b""));
    check(&quiet, "SYN", Direction::Out(marks[0]), &sent, &got);
    let services = services();
    let mut random = Random::new(20_260_101);
    let mut through = 0;
    for _ in 0..PACKETS {
        let another = sound(&mut random, &services);
        let frame = sound(&mut random, &services);
        let frame = mutate(&mut random, frame, &another);
        // What the kernel does not take for a frame: too short for what it says it is.
        if frame.len() < 14 + 40 && quiet.run(Direction::In, &frame).is_err() {
            continue;
        }
        let mark = *random.pick(&[0, 1, 0x0d1f_0001, 0xffff_ffff, marks[0] ^ 0x8000_0000]);
        for direction in [Direction::Out(mark), Direction::In] {
            check(&quiet, "unmarked", direction, &frame, &frame);
        }
        // A probe of whatever kind goes to its VIP or nowhere.
        let family = random.below(2);
        let outcome = busy.run(Direction::Out(marks[family]), &frame).expect("the kernel runs it");
        if outcome.verdict == Verdict::Pass {
            through += 1;
            let (at, length) = if family == 0 { (30, 4) } else { (38, 16) };
            let vip = director::model::mapped(ip(VIPS[family]));
            assert_eq!(outcome.frame[at..at + length], vip[16 - length..], "{}", hex(&frame));
        }
    }
    println!("{through} of the packets went to a VIP when they were marked");
    assert!(through > PACKETS / 20, "only {through}");
    let counts = quiet.counts().expect("counters");
    assert_eq!(counts, ProbeCounts { sent: 1, ..ProbeCounts::default() });
}
