//! Direct routing: two MACs change, nothing else.

use director::dataplane::Verdict;
use director::model::{Forward, Ports, Protocol};
use director::pool::NextHop;
use director_ebpf::abi::Reason;

use crate::packet::{CLIENT, OWN, Packet, Upper, at, tcp, udp};
use crate::rig::{Fate, Rig, elsewhere, hop, service};

const V4: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const V6: [&str; 2] = ["2001:db8:1::1", "2001:db8:1::2"];

/// TCP and UDP on the same VIPs.
fn rig() -> Rig {
    Rig::new(vec![
        service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &V4),
        service(1, "[2001:db8::1]:80", Protocol::Tcp, Forward::Direct, &V6),
        service(2, "192.0.2.1:80", Protocol::Udp, Forward::Direct, &V4),
        service(3, "[2001:db8::1]:80", Protocol::Udp, Forward::Direct, &V6),
    ])
}

/// A flow's packets: as they come, and by which service.
fn flows() -> Vec<(usize, Vec<Packet>)> {
    let (c4, v4) = (at("198.51.100.7:40000"), at("192.0.2.1:80"));
    let (c6, v6) = (at("[2001:db8:c::7]:40000"), at("[2001:db8::1]:80"));
    let segments = |from, to| {
        ["S", "A", "PA", "PA", "FA", "A"]
            .map(|flags| tcp(from, to, flags, &b"0123456"[..flags.len() / 2 * 7]))
            .to_vec()
    };
    let datagrams = |from, to| (0..5).map(|n| udp(from, to, &b"abcde"[..n])).collect();
    vec![(0, segments(c4, v4)), (1, segments(c6, v6)), (2, datagrams(c4, v4)), (3, datagrams(c6, v6))]
}

#[test]
fn only_the_macs_change() {
    let rig = rig();
    for (s, packets) in flows() {
        for r in [0, 1] {
            for (i, packet) in packets.iter().enumerate() {
                let mut packet = packet.clone();
                packet.from.set_port(40_000 + r as u16);
                let fate = Fate::sent((s, r), &packet.via(&hop(s, r)).frame());
                let fate = if i == 0 { fate.new_flow() } else { fate };
                rig.expect(&format!("service {s}, client {r}, packet {i}"), &packet.frame(), fate);
            }
        }
    }
}

#[test]
fn options_and_extension_headers_are_stepped_over() {
    let rig = rig();
    let record_route = vec![7, 7, 4, 0, 0, 0, 0, 0];
    for (s, packets) in flows() {
        for (i, packet) in packets.iter().take(3).enumerate() {
            let mut packet = packet.clone();
            if s % 2 == 0 {
                packet.options = record_route.clone();
            } else {
                packet.extensions = vec![
                    (0, vec![1; 6]),
                    (60, vec![2; 14]),
                    (43, vec![0; 6]),
                    (51, vec![3; 12]),
                    (60, vec![0; 22]),
                ];
            }
            let leaves = packet.via(&hop(s, 0)).frame();
            let fate = Fate::sent((s, 0), &leaves);
            rig.expect("with options", &packet.frame(), if i == 0 { fate.new_flow() } else { fate });
        }
    }
}

#[test]
fn a_ttl_of_one_is_the_real_servers_matter() {
    let rig = rig();
    for (s, packets) in flows() {
        for ttl in [1, 0] {
            let packet = Packet { ttl, ..packets[0].clone() };
            let (real, outcome) = (rig.real_for(&packet.frame()), rig.run(&packet.frame()));
            assert_eq!((real, outcome.frame), ((s, 0), packet.via(&hop(s, 0)).frame()));
        }
    }
}

#[test]
fn bytes_behind_the_packet_are_kept_and_not_counted() {
    let rig = rig();
    for (s, packets) in flows() {
        let (mut frame, mut leaves) = (packets[0].frame(), packets[0].via(&hop(s, 0)).frame());
        let mut fate = Fate::sent((s, 0), &leaves).new_flow();
        frame.extend([0xab; 9]);
        leaves.extend([0xab; 9]);
        fate.frame = Some(leaves);
        rig.expect("Ethernet padding", &frame, fate);
    }
}

#[test]
fn jumbo_frames_go_through() {
    let rig = rig();
    for (s, packets) in flows() {
        let packet = Packet { payload: vec![0x5a; 8_900], ..packets[0].clone() };
        let leaves = packet.via(&hop(s, 0)).frame();
        rig.expect("a jumbo frame", &packet.frame(), Fate::sent((s, 0), &leaves).new_flow());
    }
}

#[test]
fn a_real_server_on_another_interface_is_redirected_to() {
    let mut rig = rig();
    let away =
        NextHop { mac: [0x02, 0xdd, 0, 0, 0, 1], source_mac: [0x02, 0xdd, 0, 0, 0, 2], ifindex: elsewhere() };
    rig.change(|services| services.iter_mut().for_each(|service| service.reals[0].hop = Some(away)));
    for (s, packets) in flows() {
        let packet = &packets[0];
        let leaves = packet.via(&away).frame();
        rig.expect("elsewhere", &packet.frame(), Fate::sent((s, 0), &leaves).new_flow().redirected());
    }
}

#[test]
fn a_new_mac_is_followed_and_a_lost_one_drops() {
    let mut rig = rig();
    for (_, packets) in flows() {
        rig.run(&packets[0].frame());
    }
    let moved = |s: usize| NextHop { mac: [0x02, 0xbb, 0, 0, 0, s as u8], ..hop(s, 0) };
    rig.change(|services| {
        services.iter_mut().enumerate().for_each(|(s, service)| service.reals[0].hop = Some(moved(s)));
    });
    for (s, packets) in flows() {
        let leaves = packets[1].via(&moved(s)).frame();
        rig.expect("moved", &packets[1].frame(), Fate::sent((s, 0), &leaves));
    }
    rig.change(|services| services.iter_mut().for_each(|service| service.reals[0].hop = None));
    for (s, packets) in flows() {
        for (i, packet) in packets[2..4].iter().enumerate() {
            // A connection waits for its real server; a datagram can start over elsewhere.
            let moves = Fate::sent((s, 1), &packet.via(&hop(s, 1)).frame());
            let fate = match (&packet.upper, i) {
                (Upper::Tcp(_), _) => Fate::dropped(Reason::DropNoNextHop),
                (_, 0) => moves.new_flow(),
                _ => moves,
            };
            rig.expect("lost", &packet.frame(), fate);
        }
        let mut fresh = packets[0].clone();
        fresh.from.set_port(50_000);
        let leaves = fresh.via(&hop(s, 1)).frame();
        rig.expect("a new flow goes to who is there", &fresh.frame(), Fate::sent((s, 1), &leaves).new_flow());
    }
}

#[test]
fn lists_ranges_and_any_port() {
    let mut range = service(0, "192.0.2.1:8000", Protocol::Tcp, Forward::Direct, &["10.0.0.1"]);
    range.ports = Ports::List((8000..=8100).chain([9000]).collect());
    let any = service(1, "192.0.2.1:0", Protocol::Tcp, Forward::Direct, &["10.0.0.2"]);
    let rig = Rig::new(vec![range, any]);
    for (port, s) in [(8000, 0), (8050, 0), (8100, 0), (9000, 0), (7999, 1), (8101, 1), (1, 1), (65_535, 1)] {
        let mut packet = tcp(at("198.51.100.7:40000"), at("192.0.2.1:0"), "S", b"");
        packet.to.set_port(port);
        assert_eq!(rig.real_for(&packet.frame()), (s, 0), "port {port}");
    }
    let frame = udp(at("198.51.100.7:40000"), at("192.0.2.1:8000"), b"").frame();
    rig.expect("another protocol", &frame, Fate::passed(&frame, Reason::PassNoService));
}

#[test]
fn every_instance_answers_to_its_own_mac_only() {
    let rig = rig();
    let other = rig.dataplane.trial(CLIENT, elsewhere()).expect("a second instance");
    let packet = tcp(at("198.51.100.7:40000"), at("192.0.2.1:80"), "S", b"");
    assert_eq!(other.run(&packet.frame(), 1).expect("a run").verdict, Verdict::Pass);
    let here = Packet { to_mac: CLIENT, from_mac: OWN, ..packet };
    assert_eq!(rig.run(&here.frame()).verdict, Verdict::Pass);
    // Back by the interface that the real server is on, which is not the one it came from.
    assert_eq!(other.run(&here.frame(), 1).expect("a run").verdict, Verdict::Redirect);
}
