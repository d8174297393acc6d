//! Clients, or their networks, that stay with one real server.

use std::time::Duration;

use director::dataplane::{Kind, State};
use director::model::{Forward, Persistence, Protocol, Scheduler};
use director::pool::DesiredService;

use crate::packet::{at, tcp, udp};
use crate::rig::{Rig, service};

fn persistent(mut service: DesiredService, prefix: u8) -> DesiredService {
    service.persistence = Some(Persistence { timeout: Duration::from_secs(30), prefix });
    service
}

fn v4(prefix: u8, forward: Forward) -> DesiredService {
    let reals = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    persistent(service(0, "192.0.2.1:0", Protocol::Tcp, forward, &reals), prefix)
}

fn syn(rig: &Rig, from: &str, port: u16) -> usize {
    let vip = std::net::SocketAddr::new(rig.desired.services[0].address, port);
    rig.real_for(&tcp(at(from), vip, "S", b"").frame()).1
}

#[test]
fn a_network_stays_together() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = Rig::new(vec![v4(24, forward)]);
        let all = |last: u8, port: u16| -> Vec<usize> {
            (0..8).map(|net| syn(&rig, &format!("198.51.{net}.{last}:{port}"), 80 + port % 3)).collect()
        };
        let first = all(1, 1000);
        assert_eq!(first, [0, 1, 2, 3, 0, 1, 2, 3], "networks in turn");
        for (last, port) in [(1, 1001), (255, 1002), (0, 1003), (77, 1000)] {
            assert_eq!(all(last, port), first, "any address of the network, any port");
        }
        let templates = rig.flows().iter().filter(|flow| flow.kind == Kind::Template).count();
        assert_eq!(templates, 8);
    }
}

#[test]
fn prefixes_of_every_length() {
    for (prefix, near, far) in [
        (32, "198.51.100.7", "198.51.100.6"),
        (31, "198.51.100.6", "198.51.100.5"),
        (25, "198.51.100.127", "198.51.100.128"),
        (24, "198.51.100.255", "198.51.101.7"),
        (17, "198.51.127.255", "198.51.128.7"),
        (8, "198.0.0.0", "199.51.100.7"),
        (1, "255.0.0.1", "98.51.100.7"),
    ] {
        let rig = Rig::new(vec![v4(prefix, Forward::Direct)]);
        let at = |from: &str, port: u16| syn(&rig, &format!("{from}:{port}"), 80);
        assert_eq!([at("198.51.100.7", 1), at(near, 2), at(far, 3), at(near, 4)], [0, 0, 1, 0], "/{prefix}");
    }
    for (prefix, near, far) in [
        (128, "2001:db8:0:1::7", "2001:db8:0:1::6"),
        (64, "2001:db8:0:1:ffff::1", "2001:db8:0:2::7"),
        (63, "2001:db8:0:0:ffff::1", "2001:db8:0:2::7"),
        (48, "2001:db8:0:ffff::1", "2001:db8:1:1::7"),
        (33, "2001:db8:7fff::1", "2001:db8:8000::7"),
        (32, "2001:db8:ffff::1", "2001:db9:0:1::7"),
        (100, "2001:db8:0:1::fff:ffff", "2001:db8:0:1::1000:7"),
    ] {
        let reals = ["2001:db8:1::1", "2001:db8:1::2"];
        let rig = Rig::new(vec![persistent(
            service(0, "[2001:db8::1]:0", Protocol::Tcp, Forward::Nat, &reals),
            prefix,
        )]);
        let at = |from: &str, port: u16| syn(&rig, &format!("[{from}]:{port}"), 80);
        assert_eq!(
            [at("2001:db8:0:1::7", 1), at(near, 2), at(far, 3), at(near, 4)],
            [0, 0, 1, 0],
            "/{prefix}"
        );
    }
}

#[test]
fn everyone_is_one_network_of_length_zero() {
    let rig = Rig::new(vec![v4(0, Forward::Direct)]);
    assert!(["1.2.3.4:5", "255.1.1.1:6", "127.255.0.1:7"].iter().all(|from| syn(&rig, from, 80) == 0));
}

/// A template lasts from the client's last flow on.
#[test]
fn a_template_expires_and_every_flow_renews_it() {
    let rig = Rig::new(vec![v4(32, Forward::Direct)]);
    let ticks = |seconds: u64| (seconds * 1_000 / rig.dataplane.units().tick.as_millis() as u64) as u16;
    assert_eq!(syn(&rig, "198.51.100.7:1", 80), 0);
    for port in 2..5 {
        rig.dataplane.flows().age(ticks(25));
        assert_eq!(syn(&rig, &format!("198.51.100.7:{port}"), 80), 0, "renewed");
    }
    rig.dataplane.flows().age(ticks(34));
    assert_eq!(syn(&rig, "198.51.100.7:9", 80), 1, "expired");
    assert_eq!(syn(&rig, "198.51.100.7:10", 80), 1, "the new one holds");
    let templates = rig.flows().iter().filter(|flow| flow.kind == Kind::Template).count();
    assert_eq!(templates, 1);
    rig.dataplane.flows().age(ticks(34));
    let report = rig.dataplane.flows().sweep(rig.dataplane.now().expect("a clock"));
    assert!(report.by_kind.keys().all(|(kind, _)| *kind != 2), "the sweep removes what is left: {report:?}");
}

#[test]
fn a_drained_or_lost_real_server_gets_no_new_flows_of_its_clients() {
    let mut rig = Rig::new(vec![v4(32, Forward::Nat)]);
    assert_eq!([syn(&rig, "198.51.100.7:1", 80), syn(&rig, "198.51.100.8:1", 80)], [0, 1]);
    rig.change(|services| (services[0].reals[0].weight, services[0].reals[1].hop) = (0, None));
    let moved = [syn(&rig, "198.51.100.7:2", 80), syn(&rig, "198.51.100.8:2", 80)];
    assert!(moved.iter().all(|real| *real >= 2), "{moved:?}");
    assert_eq!(syn(&rig, "198.51.100.7:1", 80), 0, "the flow that was there stays");
    assert_eq!([syn(&rig, "198.51.100.7:3", 80), syn(&rig, "198.51.100.8:3", 80)], moved);
    rig.change(|services| _ = services[0].reals.remove(2));
    assert!(
        syn(&rig, "198.51.100.7:4", 80) == 2 && syn(&rig, "198.51.100.8:4", 80) == 2,
        "the last one open"
    );
}

/// A flood leaves templates that give way; only a client that answers has a lasting one.
#[test]
fn a_template_is_established_with_its_first_flow() {
    let rig = Rig::new(vec![v4(32, Forward::Direct)]);
    let state = || rig.flows().iter().find(|flow| flow.kind == Kind::Template).map(|flow| flow.state);
    let frame = |flags| tcp(at("198.51.100.7:1"), at("192.0.2.1:80"), flags, b"").frame();
    rig.run(&frame("S"));
    assert_eq!(state(), Some(State::Embryonic));
    syn(&rig, "198.51.100.7:2", 80);
    assert_eq!(state(), Some(State::Embryonic), "another SYN proves nothing");
    rig.run(&frame("A"));
    assert_eq!(state(), Some(State::Established));
    syn(&rig, "198.51.100.7:3", 80);
    assert_eq!(state(), Some(State::Established));
}

/// A segment of a flow that is not known goes where its client's flows go.
#[test]
fn an_orphan_follows_its_client() {
    let rig = Rig::new(vec![v4(32, Forward::Direct)]);
    let reals: Vec<usize> = (0..4).map(|host| syn(&rig, &format!("198.51.100.{host}:1"), 80)).collect();
    assert_eq!(reals, [0, 1, 2, 3]);
    for (host, real) in reals.into_iter().enumerate() {
        let frame = tcp(at(&format!("198.51.100.{host}:9")), at("192.0.2.1:80"), "A", b"").frame();
        assert_eq!(rig.real_for(&frame), (0, real));
    }
}

/// By hash, a network stays together even without a template.
#[test]
fn a_hash_is_of_the_network_too() {
    for scheduler in [Scheduler::Mh, Scheduler::Sh] {
        let mut only = v4(24, Forward::Direct);
        only.scheduler = scheduler;
        let rig = Rig::new(vec![only]);
        let mut seen = std::collections::BTreeSet::new();
        for net in 0..40 {
            let real = |last: u8, flags| {
                let from = at(&format!("198.51.{net}.{last}:{}", 1000 + u16::from(last)));
                rig.real_for(&tcp(from, at("192.0.2.1:443"), flags, b"").frame())
            };
            let orphan = real(9, "A");
            assert!(
                [(1, "S"), (200, "S"), (201, "A")].iter().all(|(last, flags)| real(*last, flags) == orphan)
            );
            seen.insert(orphan);
        }
        assert_eq!(seen.len(), 4, "{scheduler}: every real server has networks");
    }
}

#[test]
fn services_and_protocols_keep_apart() {
    let reals = ["10.0.0.1", "10.0.0.2"];
    let tcp_service = persistent(service(0, "192.0.2.1:0", Protocol::Tcp, Forward::Direct, &reals), 32);
    let udp_service = persistent(service(1, "192.0.2.1:0", Protocol::Udp, Forward::Direct, &reals), 32);
    let web = persistent(service(2, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &reals), 32);
    let rig = Rig::new(vec![tcp_service, udp_service, web]);
    assert_eq!([syn(&rig, "198.51.100.7:1", 443), syn(&rig, "198.51.100.8:1", 443)], [0, 1]);
    let datagram = |from| rig.real_for(&udp(at(from), at("192.0.2.1:443"), b"").frame());
    assert_eq!(
        [datagram("198.51.100.8:1"), datagram("198.51.100.7:1"), datagram("198.51.100.8:2")],
        [(1, 0), (1, 1), (1, 0)]
    );
    assert_eq!(
        [syn(&rig, "198.51.100.8:2", 80), syn(&rig, "198.51.100.8:3", 80)],
        [0, 0],
        "port 80 is another service"
    );
    assert_eq!(syn(&rig, "198.51.100.8:4", 443), 1);
}
