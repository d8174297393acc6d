//! ICMP errors about what a real server sent as the VIP go to exactly that real server.

use std::net::IpAddr;

use director::model::{Forward, Protocol};
use director_ebpf::abi::Reason;
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};

use crate::packet::{Packet, Upper, at, other, tcp, udp};
use crate::rig::{Fate, Rig, hop, service};

/// Two real servers each; TCP of IPv4, TCP of IPv6, UDP of IPv4 and UDP of IPv6. Under NAT the UDP ones map their port.
fn rig(forward: Forward) -> Rig {
    let reals = |v6: bool, mapped: bool| -> Vec<String> {
        let address = |i| if v6 { format!("2001:db8:1::{i}") } else { format!("10.0.0.{i}") };
        let real = |i| match (forward == Forward::Nat && mapped, v6) {
            (false, _) => address(i),
            (true, false) => format!("{}:5353", address(i)),
            (true, true) => format!("[{}]:5353", address(i)),
        };
        [1, 2].map(real).to_vec()
    };
    let one = |nth, vip, protocol, v6| {
        let reals = reals(v6, protocol == Protocol::Udp);
        service(nth, vip, protocol, forward, &reals.iter().map(String::as_str).collect::<Vec<_>>())
    };
    Rig::new(vec![
        one(0, "192.0.2.1:53", Protocol::Tcp, false),
        one(1, "[2001:db8::1]:53", Protocol::Tcp, true),
        one(2, "192.0.2.1:53", Protocol::Udp, false),
        one(3, "[2001:db8::1]:53", Protocol::Udp, true),
    ])
}

fn asks(s: usize, port: u16) -> Packet {
    let (mut from, to) = match s % 2 {
        0 => (at("198.51.100.7:0"), at("192.0.2.1:53")),
        _ => (at("[2001:db8:c::7]:0"), at("[2001:db8::1]:53")),
    };
    from.set_port(port);
    if s < 2 { tcp(from, to, "S", b"") } else { udp(from, to, b"question") }
}

/// What an ICMP error is: type, code, and the word behind the checksum.
type Kind = (u8, u8, [u8; 4]);

const V4_KINDS: [Kind; 4] = [(3, 4, [0, 0, 5, 0x78]), (3, 1, [0; 4]), (11, 0, [0; 4]), (12, 0, [9, 0, 0, 0])];
const V6_KINDS: [Kind; 4] = [(2, 0, [0, 0, 5, 0x78]), (1, 3, [0; 4]), (3, 0, [0; 4]), (4, 1, [0, 0, 0, 6])];

/// An error from a router on the client's side, about so much of a packet, to whoever that came from.
fn error(about: &Packet, kind: Kind, quoted: usize) -> Packet {
    let bytes = about.ip();
    error_quoting(about, &bytes[..quoted.min(bytes.len())], kind)
}

fn error_quoting(about: &Packet, quotation: &[u8], (type_u8, code_u8, bytes5to8): Kind) -> Packet {
    let to = about.from;
    let router = if to.is_ipv4() { at("203.0.113.1:0") } else { at("[2001:db8:f::1]:0") };
    let (number, header) = match (router.ip(), to.ip()) {
        (IpAddr::V6(router), IpAddr::V6(to)) => {
            let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
            let header = Icmpv6Header::with_checksum(kind, router.octets(), to.octets(), quotation);
            (58, header.expect("a short payload").to_bytes().to_vec())
        }
        _ => {
            let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
            (1, Icmpv4Header::with_checksum(kind, quotation).to_bytes().to_vec())
        }
    };
    other(router, to, number, &[&header, quotation].concat())
}

/// What the client's side saw of a flow: the VIP's packet. And what the real server had sent.
fn sent(rig: &Rig, s: usize, r: usize, asks: &Packet) -> (Packet, Packet) {
    match rig.desired.services[s].forward {
        Forward::Direct => {
            (asks.answer("SA", b"answer that is long"), asks.answer("SA", b"answer that is long"))
        }
        Forward::Nat => {
            let answers =
                asks.to_real(&hop(s, r), rig.real_at((s, r), 53)).answer("SA", b"answer that is long");
            (answers.back_from(asks.to), answers)
        }
    }
}

/// The error as the real server must see it: about its own packet, with the TTL that was left of it. The checksum in the quoted
/// TCP or UDP header stays as it is (nobody can check it against so few bytes).
fn translated(seen: &Packet, own: &Packet, kind: Kind, quoted: usize) -> Packet {
    let own = Packet { ttl: seen.ttl, ..own.clone() };
    let mut bytes = own.ip();
    let header = if own.from.is_ipv4() { 20 } else { 40 };
    let at = header + if matches!(own.upper, Upper::Tcp(_)) { 16 } else { 6 };
    bytes[at..at + 2].copy_from_slice(&seen.ip()[at..at + 2]);
    error_quoting(&own, &bytes[..quoted.min(bytes.len())], kind)
}

#[test]
fn an_error_reaches_the_real_server_it_is_for() {
    let rig = rig(Forward::Direct);
    for s in 0..4 {
        for (r, port) in [(0, 40_000), (1, 40_001)] {
            let asks = asks(s, port);
            assert_eq!(rig.real_for(&asks.frame()), (s, r));
            let (seen, _) = sent(&rig, s, r, &asks);
            let header = if s % 2 == 0 { 20 } else { 40 };
            for kind in if s % 2 == 0 { V4_KINDS } else { V6_KINDS } {
                for quoted in [header + 8, header + 9, 1000] {
                    let error = error(&seen, kind, quoted);
                    let leaves = error.via(&hop(s, r)).frame();
                    rig.expect(
                        &format!("{kind:?} about service {s}"),
                        &error.frame(),
                        Fate::sent((s, r), &leaves),
                    );
                }
            }
        }
    }
}

#[test]
fn under_nat_an_error_is_translated_inside_too() {
    let rig = rig(Forward::Nat);
    for s in 0..4 {
        for (r, port) in [(0, 40_000), (1, 40_001)] {
            let asks = asks(s, port);
            assert_eq!(rig.real_for(&asks.frame()), (s, r));
            let (seen, own) = sent(&rig, s, r, &asks);
            let header = if s % 2 == 0 { 20 } else { 40 };
            for kind in if s % 2 == 0 { V4_KINDS } else { V6_KINDS } {
                for quoted in [header + 8, header + 9, 1000] {
                    let arrives = error(&seen, kind, quoted);
                    let mut leaves = translated(&seen, &own, kind, quoted).via(&hop(s, r));
                    leaves.ttl = arrives.ttl - 1;
                    let what = format!("{kind:?} about service {s}, {quoted} bytes");
                    rig.expect(&what, &arrives.frame(), Fate::sent((s, r), &leaves.frame()));
                }
            }
        }
    }
}

#[test]
fn under_nat_errors_count_hops_and_need_a_next_one() {
    let mut rig = rig(Forward::Nat);
    let error = |rig: &Rig, s: usize| {
        rig.run(&asks(s, 40_000).frame());
        let (seen, _) = sent(rig, s, 0, &asks(s, 40_000));
        error(&seen, if s.is_multiple_of(2) { V4_KINDS[0] } else { V6_KINDS[0] }, 1000)
    };
    let errors: Vec<Packet> = (0..4).map(|s| error(&rig, s)).collect();
    for error in &errors {
        rig.expect("TTL 1", &Packet { ttl: 1, ..error.clone() }.frame(), Fate::dropped(Reason::DropTtl));
    }
    rig.change(|services| services.iter_mut().for_each(|service| service.reals[0].hop = None));
    for error in &errors {
        rig.expect("no next hop", &error.frame(), Fate::dropped(Reason::DropNoNextHop));
    }
}

#[test]
fn errors_about_nothing_of_ours_pass() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = rig(forward);
        for s in 0..4 {
            let asks = asks(s, 40_000);
            rig.run(&asks.frame());
            let (seen, _) = sent(&rig, s, 0, &asks);
            let kind = if s % 2 == 0 { V4_KINDS[0] } else { V6_KINDS[0] };
            let header = if s % 2 == 0 { 20 } else { 40 };
            let pass = |what: &str, packet: &Packet| {
                let frame = packet.frame();
                rig.expect(what, &frame, Fate::passed(&frame, Reason::PassIcmp));
            };
            let mut stranger = seen.clone();
            stranger.to.set_port(9);
            pass("another client", &error(&stranger, kind, 1000));
            pass("too short a quotation", &error(&seen, kind, header + 3));
            pass("no quotation", &error(&seen, kind, 0));
            let mut of_the_client = error(&asks, kind, 1000);
            of_the_client.to.set_ip(seen.from.ip());
            pass("not the VIP's packet", &of_the_client);
            let mut elsewhere = error(&seen, kind, 1000);
            if let Upper::Other(_, bytes) = &mut elsewhere.upper {
                bytes[8 + if s % 2 == 0 { 12 } else { 8 }] ^= 1;
            }
            pass("about another address's packet", &elsewhere);
            let options = if s % 2 == 0 {
                Packet { options: vec![1; 4], ..seen.clone() }
            } else {
                Packet { extensions: vec![(60, vec![1; 6])], ..seen.clone() }
            };
            pass("quoted options", &error(&options, kind, 1000));
        }
    }
}
