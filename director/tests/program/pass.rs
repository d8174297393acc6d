//! What is not for a service passes as it is, and what is broken goes no further.

use director::model::{Forward, Protocol};
use director_ebpf::abi::Reason;

use crate::packet::{CLIENT, OWN, Packet, at, other, tcp, udp};
use crate::rig::{Fate, Rig, service};

fn rig() -> Rig {
    Rig::new(vec![
        service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &["10.0.0.1", "10.0.0.2"]),
        service(1, "[2001:db8::1]:80", Protocol::Tcp, Forward::Direct, &["2001:db8:1::1"]),
        service(2, "192.0.2.2:53", Protocol::Udp, Forward::Nat, &["10.0.0.3:5353"]),
        service(3, "[2001:db8::2]:53", Protocol::Udp, Forward::Nat, &["2001:db8:1::3"]),
    ])
}

fn client() -> (Packet, Packet) {
    (
        tcp(at("198.51.100.7:40000"), at("192.0.2.1:80"), "S", b""),
        tcp(at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:80"), "S", b""),
    )
}

#[test]
fn frames_of_another_kind_pass() {
    let rig = rig();
    let (v4, _) = client();
    for (what, kind, reason) in [
        ("ARP", 0x0806u16, Reason::PassNotIp),
        ("LLDP", 0x88cc, Reason::PassNotIp),
        ("a length (802.3)", 0x0026, Reason::PassNotIp),
        ("802.1Q", 0x8100, Reason::PassVlan),
        ("802.1ad", 0x88a8, Reason::PassVlan),
    ] {
        let mut frame = v4.frame();
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        rig.expect(what, &frame, Fate::passed(&frame, reason));
        rig.expect(what, &frame[..14], Fate::passed(&frame[..14], reason));
        let tag = [kind.to_be_bytes(), [0x20, 0x07]].concat();
        let tagged = [&v4.frame()[..12], &tag, &v4.frame()[12..]].concat();
        rig.expect(what, &tagged, Fate::passed(&tagged, reason));
    }
}

#[test]
fn frames_for_another_host_pass() {
    let rig = rig();
    let (v4, v6) = client();
    let mut near = OWN;
    near[5] ^= 0x80;
    for mac in [[0x02, 0, 0, 0, 0, 9], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], near] {
        for packet in [&v4, &v6] {
            let frame = Packet { to_mac: mac, ..packet.clone() }.frame();
            rig.expect("another host", &frame, Fate::passed(&frame, Reason::PassOtherHost));
        }
    }
}

#[test]
fn other_addresses_protocols_and_ports_pass() {
    let rig = rig();
    let (c4, c6) = (at("198.51.100.7:40000"), at("[2001:db8:c::7]:40000"));
    let rows = [
        ("another IPv4 address", tcp(c4, at("192.0.2.9:80"), "S", b""), Reason::PassNotOurs),
        ("another IPv6 address", tcp(c6, at("[2001:db8::9]:80"), "S", b""), Reason::PassNotOurs),
        ("a real server behind direct routing", tcp(at("10.0.0.1:80"), c4, "SA", b""), Reason::PassNotOurs),
        ("GRE", other(c4, at("192.0.2.1:0"), 47, b"whatever"), Reason::PassOtherProtocol),
        ("SCTP", other(c4, at("192.0.2.1:0"), 132, b"whatever"), Reason::PassOtherProtocol),
        ("VRRP", other(c4, at("192.0.2.2:0"), 112, b""), Reason::PassOtherProtocol),
        ("ICMPv6 in IPv4", other(c4, at("192.0.2.1:0"), 58, &[128; 8]), Reason::PassOtherProtocol),
        ("ICMP in IPv6", other(c6, at("[2001:db8::1]:0"), 1, &[8; 8]), Reason::PassOtherProtocol),
        ("ESP", other(c6, at("[2001:db8::1]:0"), 50, &[0; 24]), Reason::PassOtherProtocol),
        ("no next header", other(c6, at("[2001:db8::1]:0"), 59, b""), Reason::PassOtherProtocol),
        ("GRE from a real server", other(at("10.0.0.3:0"), c4, 47, &[0; 8]), Reason::PassOtherProtocol),
        ("another port", tcp(c4, at("192.0.2.1:22"), "S", b""), Reason::PassNoService),
        ("another port, IPv6", tcp(c6, at("[2001:db8::1]:22"), "S", b""), Reason::PassNoService),
        ("port 0", tcp(c4, at("192.0.2.1:0"), "S", b""), Reason::PassNoService),
        ("UDP to a TCP service", udp(c4, at("192.0.2.1:80"), b"hello"), Reason::PassNoService),
        ("TCP to a UDP service", tcp(c4, at("192.0.2.2:53"), "S", b""), Reason::PassNoService),
        ("a real server's own traffic", tcp(at("10.0.0.3:22"), c4, "A", b"ssh"), Reason::PassNoService),
        ("a reply to nobody", udp(at("10.0.0.3:5353"), c4, b"?"), Reason::PassNoService),
        ("a reply to nobody, IPv6", udp(at("[2001:db8:1::3]:53"), c6, b"?"), Reason::PassNoService),
        ("from a VIP", tcp(at("192.0.2.1:80"), c4, "SA", b""), Reason::PassNoService),
    ];
    for (what, packet, reason) in rows {
        let frame = packet.frame();
        rig.expect(what, &frame, Fate::passed(&frame, reason));
    }
    assert_eq!(rig.flows(), [], "nothing of this leaves an entry");
}

#[test]
fn pings_and_neighbour_discovery_pass() {
    let rig = rig();
    let (c4, c6) = (at("198.51.100.7:0"), at("[2001:db8:c::7]:0"));
    for kind in [0u8, 8, 13, 5, 9, 10] {
        let frame = other(c4, at("192.0.2.1:0"), 1, &[kind, 0, 1, 2, 3, 4, 5, 6, 7, 8]).frame();
        rig.expect("ICMP", &frame, Fate::passed(&frame, Reason::PassIcmp));
    }
    for kind in [128u8, 129, 133, 134, 135, 136, 137] {
        let frame = other(c6, at("[2001:db8::1]:0"), 58, &[kind, 0, 1, 2, 3, 4, 5, 6, 7, 8]).frame();
        rig.expect("ICMPv6", &frame, Fate::passed(&frame, Reason::PassIcmp));
    }
    let frame = other(c4, at("192.0.2.1:0"), 1, b"").frame();
    rig.expect("no ICMP header", &frame, Fate::dropped(Reason::DropTruncated));
}

#[test]
fn headers_that_contradict_themselves_are_dropped() {
    let rig = rig();
    let (v4, v6) = client();
    let with = |packet: &Packet, at: usize, value: u8| {
        let mut frame = packet.frame();
        frame[at] = value;
        frame
    };
    let from_port = |packet: &Packet, port: u16| {
        let mut packet = packet.clone();
        packet.from.set_port(port);
        packet
    };
    let chain = |numbers: &[u8]| {
        let extensions = numbers.iter().map(|number| (*number, vec![0; 6])).collect();
        Packet { extensions, ..v6.clone() }.frame()
    };
    let rows = [
        ("version 6 in IPv4", with(&v4, 14, 0x65), Reason::DropMalformed),
        ("version 0 in IPv4", with(&v4, 14, 0x05), Reason::DropMalformed),
        ("a header of 16 bytes", with(&v4, 14, 0x44), Reason::DropMalformed),
        ("a header of 0 bytes", with(&v4, 14, 0x40), Reason::DropMalformed),
        ("a header larger than the packet", with(&v4, 14, 0x4b), Reason::DropMalformed),
        ("a total below the header", with(&v4, 17, 19), Reason::DropMalformed),
        ("version 4 in IPv6", with(&v6, 14, 0x40), Reason::DropMalformed),
        ("version 15 in IPv6", with(&v6, 14, 0xf0), Reason::DropMalformed),
        ("seven extension headers", chain(&[0, 60, 43, 60, 60, 60, 60]), Reason::DropMalformed),
        ("options beyond the frame", with(&v4, 14, 0x4a), Reason::DropTruncated),
        ("extensions beyond the frame", with(&from_port(&v6, 0x2bff), 20, 60), Reason::DropTruncated),
        ("TCP beyond the frame", with(&from_port(&v6, 0x0601), 20, 60), Reason::DropTruncated),
    ];
    for (what, frame, reason) in rows {
        rig.expect(what, &frame, Fate::dropped(reason));
    }
    for mac in [CLIENT, [0xff; 6]] {
        let mut frame = with(&v4, 14, 0x65);
        frame[..6].copy_from_slice(&mac);
        rig.expect("not for us to judge", &frame, Fate::passed(&frame, Reason::PassOtherHost));
    }
}
