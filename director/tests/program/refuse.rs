//! Who cannot be served is dropped or told so, byte by byte.

use director::dataplane::Verdict;
use director::model::{Forward, Protocol, Scheduler, Unserved};
use director_ebpf::abi::Reason;
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, TcpHeader};

use crate::packet::{ACK, CLIENT, OWN, Packet, SEQ, Upper, at, other, tcp, udp};
use crate::rig::{Fate, Rig, hop, service};

/// Services without a usable real server, TCP and UDP, both families.
fn rig(unserved: Unserved) -> Rig {
    let mut services = vec![
        service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &[]),
        service(1, "[2001:db8::1]:80", Protocol::Tcp, Forward::Nat, &["2001:db8:1::1"]),
        service(2, "192.0.2.1:53", Protocol::Udp, Forward::Nat, &["10.0.0.1"]),
        service(3, "[2001:db8::1]:53", Protocol::Udp, Forward::Direct, &["2001:db8:1::1"]),
    ];
    services.iter_mut().for_each(|service| service.unserved = unserved);
    services[1].reals[0].weight = 0;
    services[2].reals[0].hop = None;
    services[3].reals[0].weight = 0;
    Rig::new(services)
}

fn asks(s: usize, payload: &[u8]) -> Packet {
    match s {
        0 => tcp(at("198.51.100.7:40000"), at("192.0.2.1:80"), "S", payload),
        1 => tcp(at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:80"), "S", payload),
        2 => udp(at("198.51.100.7:40000"), at("192.0.2.1:53"), payload),
        _ => udp(at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:53"), payload),
    }
}

/// What the director answers itself, made from scratch.
fn answer(packet: &Packet, upper: Upper) -> Vec<u8> {
    let answer = Packet {
        to_mac: CLIENT,
        from_mac: OWN,
        from: packet.to,
        to: packet.from,
        ttl: 64,
        upper,
        ..packet.clone()
    };
    let mut frame = Packet { payload: vec![], options: vec![], extensions: vec![], id: 0, ..answer }.frame();
    if packet.from.is_ipv4() {
        frame[20] |= 0x40; // don't fragment
        frame[24..26].copy_from_slice(&[0, 0]);
        let header = etherparse::Ipv4Header::from_slice(&frame[14..34]).expect("a header").0;
        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
    frame
}

fn reset(packet: &Packet, seq: u32, ack: Option<u32>) -> Vec<u8> {
    let mut header = TcpHeader::new(0, 0, seq, 0);
    header.rst = true;
    (header.ack, header.acknowledgment_number) = (ack.is_some(), ack.unwrap_or(0));
    answer(packet, Upper::Tcp(header))
}

fn unreachable(packet: &Packet) -> Vec<u8> {
    let header = if packet.from.is_ipv4() { 20 } else { 40 };
    let quoted = &packet.ip()[..header + 8];
    let body = if packet.from.is_ipv4() {
        let kind = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
        Icmpv4Header::with_checksum(kind, quoted).to_bytes().to_vec()
    } else {
        let kind = Icmpv6Type::DestinationUnreachable(etherparse::icmpv6::DestUnreachableCode::Port);
        let addresses = |addr: std::net::IpAddr| match addr {
            std::net::IpAddr::V6(addr) => addr.octets(),
            std::net::IpAddr::V4(_) => unreachable!(),
        };
        let (from, to) = (addresses(packet.to.ip()), addresses(packet.from.ip()));
        Icmpv6Header::with_checksum(kind, from, to, quoted).expect("a short payload").to_bytes().to_vec()
    };
    let number = if packet.from.is_ipv4() { 1 } else { 58 };
    answer(packet, other(packet.from, packet.to, number, &[&body, quoted].concat()).upper)
}

#[test]
fn without_a_real_server_it_is_dropped() {
    let rig = rig(Unserved::Drop);
    for s in 0..4 {
        let fate = Fate::dropped(Reason::DropNoReal).service(s, |stats| stats.no_real_dropped += 1);
        rig.expect("drop", &asks(s, b"").frame(), fate);
    }
    assert_eq!(rig.flows(), []);
}

#[test]
fn a_syn_is_answered_by_a_reset() {
    let rig = rig(Unserved::Reject);
    for s in [0, 1] {
        for payload in [&b""[..], b"x", b"fast open data", &[7; 1400], &[7; 8_000]] {
            let packet = asks(s, payload);
            let fate =
                Fate::answered(Reason::RejectRst, &reset(&packet, 0, Some(SEQ + 1 + payload.len() as u32)));
            let fate = fate.service(s, |stats| stats.no_real_rejected += 1);
            rig.expect("reset", &packet.frame(), fate.clone());
            let mut padded = packet.frame();
            padded.extend([0; 6]);
            rig.expect("reset of a padded frame", &padded, fate);
        }
        let mut packet = asks(s, b"data");
        let Upper::Tcp(header) = &mut packet.upper else { unreachable!() };
        header.set_options_raw(&[2, 4, 5, 0xb4, 1, 3, 3, 7]).expect("options");
        (header.sequence_number, header.urg, header.urgent_pointer) = (u32::MAX, true, 77);
        let fate = Fate::answered(Reason::RejectRst, &reset(&packet, 0, Some(4)));
        rig.expect("its options", &packet.frame(), fate.service(s, |stats| stats.no_real_rejected += 1));
    }
    assert_eq!(rig.flows(), []);
}

#[test]
fn a_datagram_is_answered_by_an_icmp_error() {
    let rig = rig(Unserved::Reject);
    for s in [2, 3] {
        for payload in [&b""[..], b"x", b"even", &[7; 1400], &[7; 8_000]] {
            let packet = asks(s, payload);
            let fate = Fate::answered(Reason::RejectIcmp, &unreachable(&packet));
            let fate = fate.service(s, |stats| stats.no_real_rejected += 1);
            rig.expect("unreachable", &packet.frame(), fate.clone());
            let mut padded = packet.frame();
            padded.extend([0; 18]);
            rig.expect("unreachable of a padded frame", &padded, fate);
        }
    }
    assert_eq!(rig.flows(), []);
}

/// Errors beget no errors (RFC 1122, 3.2.2; RFC 4443, 2.4 e), and what is not plain is not answered.
#[test]
fn some_are_never_answered() {
    let rig = rig(Unserved::Reject);
    for s in 0..4 {
        let fate = Fate::dropped(Reason::DropNoReal).service(s, |stats| stats.no_real_dropped += 1);
        let packet = asks(s, &[1; 100]);
        rig.expect("a first fragment", &packet.fragments(64)[0], fate.clone());
        let mut wrapped = packet.clone();
        if packet.from.is_ipv4() {
            wrapped.options = vec![7, 7, 4, 0, 0, 0, 0, 0];
        } else {
            wrapped.extensions = vec![(60, vec![1; 6])];
        }
        rig.expect("options", &wrapped.frame(), fate.clone());
    }
    for s in [0, 1] {
        for flags in ["R", "RA", "SR"] {
            let packet =
                Packet { upper: tcp(asks(s, b"").from, asks(s, b"").to, flags, b"").upper, ..asks(s, b"") };
            let fate = Fate::dropped(Reason::DropNoFlow).service(s, |stats| stats.no_flow += 1);
            rig.expect(flags, &packet.frame(), fate);
        }
    }
}

/// A broadcast, multicast or unspecified source has nobody to answer to (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
#[test]
fn nobody_in_particular_is_not_answered() {
    let rig = rig(Unserved::Reject);
    let sources = [
        (0, "224.0.0.1"),
        (0, "239.255.255.250"),
        (0, "255.255.255.255"),
        (0, "0.0.0.0"),
        (0, "127.0.0.1"),
        (2, "224.0.0.251"),
        (2, "255.255.255.255"),
        (2, "0.0.0.0"),
        (2, "240.1.2.3"),
        (1, "ff02::1"),
        (1, "::"),
        (3, "ff05::2"),
        (3, "::"),
        (3, "::1"),
    ];
    for (s, source) in sources {
        let mut packet = asks(s, b"");
        packet.from.set_ip(source.parse().expect("an address"));
        let verdict = rig.run(&packet.frame()).verdict;
        assert_eq!(verdict, Verdict::Drop, "from {source}");
    }
}

#[test]
fn icmp_errors_are_limited() {
    let rig = rig(Unserved::Reject);
    let answers = (0..2_000).filter(|_| rig.run(&asks(2, b"").frame()).verdict == Verdict::Tx).count();
    // A tick's worth, or two or three where ticks ended meanwhile.
    assert!((256..1_024).contains(&answers), "{answers} answers to 2,000 datagrams");
    assert_eq!(rig.reason(Reason::RejectIcmp), answers as u64);
    assert_eq!(rig.reason(Reason::DropNoReal), 2_000 - answers as u64);
}

/// A segment of no flow: where hashing tells its real server it goes there, else it is dropped or refused.
#[test]
fn segments_of_no_flow() {
    let client = at("198.51.100.7:40000");
    for forward in [Forward::Direct, Forward::Nat] {
        for scheduler in
            [Scheduler::Rr, Scheduler::Wrr, Scheduler::Fo, Scheduler::Mh, Scheduler::Sh, Scheduler::Dh]
        {
            for (unserved, resets) in
                [(Unserved::Drop, false), (Unserved::Reject, false), (Unserved::Drop, true)]
            {
                let mut only = service(0, "192.0.2.1:80", Protocol::Tcp, forward, &["10.0.0.1"]);
                (only.scheduler, only.unserved, only.reset) = (scheduler, unserved, resets);
                let rig = Rig::new(vec![only]);
                let routed = forward == Forward::Direct
                    && matches!(scheduler, Scheduler::Mh | Scheduler::Sh | Scheduler::Dh);
                for flags in ["A", "PA", "FA", "SA", "R", "RA", "", "SF"] {
                    let packet = tcp(client, at("192.0.2.1:80"), flags, b"data");
                    let ends = packet.payload.len() as u32
                        + u32::from(flags.contains('F'))
                        + u32::from(flags.contains('S'));
                    let fate = if routed {
                        Fate::sent((0, 0), &packet.via(&hop(0, 0)).frame()).and(Reason::FlowOrphanRouted)
                    } else if unserved == Unserved::Drop && !resets || flags.contains('R') {
                        Fate::dropped(Reason::DropNoFlow).service(0, |stats| stats.no_flow += 1)
                    } else {
                        let reset = if flags.contains('A') {
                            reset(&packet, ACK, None)
                        } else {
                            reset(&packet, 0, Some(SEQ + ends))
                        };
                        Fate::answered(Reason::RejectRst, &reset).service(0, |stats| stats.no_flow += 1)
                    };
                    rig.expect(
                        &format!("{forward} {scheduler} {unserved:?} {resets} {flags}"),
                        &packet.frame(),
                        fate,
                    );
                }
                assert_eq!(rig.flows(), [], "an orphan is not filed");
            }
        }
    }
}

#[test]
fn a_sloppy_service_takes_segments_of_no_flow() {
    let mut only = service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Nat, &["10.0.0.1"]);
    (only.sloppy, only.unserved) = (true, Unserved::Reject);
    let rig = Rig::new(vec![only]);
    for (i, flags) in ["A", "PA", "FA", "SA", ""].iter().enumerate() {
        let mut packet = tcp(at("198.51.100.7:40000"), at("192.0.2.1:80"), flags, b"data");
        packet.from.set_port(40_000 + i as u16);
        let leaves = packet.to_real(&hop(0, 0), at("10.0.0.1:80")).frame();
        rig.expect(flags, &packet.frame(), Fate::sent((0, 0), &leaves).new_flow());
        rig.expect(flags, &packet.frame(), Fate::sent((0, 0), &leaves));
    }
    let reset = tcp(at("198.51.100.7:50000"), at("192.0.2.1:80"), "R", b"");
    rig.expect("R", &reset.frame(), Fate::dropped(Reason::DropNoFlow).service(0, |stats| stats.no_flow += 1));
}
