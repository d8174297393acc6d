//! Sources in which everything that can be measured is.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use director_ebpf::abi::Reason;
use healthcheck::{Failure, Outcome, Success};

use super::{Moves, Own, Reloads, Sources};
use crate::api::types::{
    FlowTableStatus, HealthStatus, MeansStatus, PairStatus, Rates, RealStatus, ReasonStatus, ServiceStatus,
    Status, Traffic, VipStatus,
};
use crate::dataplane::{Attachment, Mode};
use crate::health::Tally;
use crate::heartbeat::report::{
    Cluster, ContenderReport, GroupReport, Lateness, LinkReport, PeerLinkReport, PeerReport,
};
use crate::model::{Forward, Protocol, Scheduler};
use crate::pool::RealKey;

/// So many services with so many real servers each, in a cluster of two. The second half of the services is under NAT; of each
/// service's real servers every third is down and every third not known.
pub fn sources(services: u16, reals: u8) -> Sources {
    let services: Vec<ServiceStatus> = (0..services).map(|i| service(i, i >= services / 2, reals)).collect();
    let keys = services.iter().flat_map(|service| {
        service.reals.iter().map(|real| RealKey {
            service: service.name.clone(),
            address: real.address,
            port: real.port,
        })
    });
    let mut reloads = Reloads::default();
    reloads.take(true, at(100));
    reloads.take(false, at(200));
    Sources {
        tallies: keys.map(|key| (key, tally())).collect(),
        active: services.iter().map(|service| service.forward == Forward::Direct).collect(),
        serving: services.iter().map(|service| vec![true; service.reals.len()]).collect(),
        status: status(services),
        own: Some(Own {
            cpu: Duration::from_millis(1_500),
            resident: 3 << 20,
            mapped: 5 << 20,
            threads: 9,
            files: 40,
            most_files: Some(1_024),
        }),
        started: at(50),
        reloads,
        log_lines_lost: 3,
        map_errors: vec![("DEVICES", "write", 2), ("GUARD", "write", 0)],
        moves: Moves::from([(("default".to_owned(), "active", "no_owner"), 2)]),
        takeovers: vec![("default".to_owned(), at(60), Duration::from_millis(7))],
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn tally() -> Tally {
    let mut tally = Tally { changes: 4, ..Tally::default() };
    for millis in [1, 20, 3_000] {
        let result = if millis < 100 { Ok(Success::default()) } else { Err(Failure::Closed) };
        tally.take(&Outcome { result, steps: Vec::new(), took: Duration::from_millis(millis) });
    }
    tally
}

fn status(services: Vec<ServiceStatus>) -> Status {
    let reason =
        |(count, reason): (u64, &Reason)| ReasonStatus { name: reason.name().into(), count, rate: 0.0 };
    Status {
        version: "0.1.0".into(),
        pid: 1,
        uptime_seconds: 9,
        config: "/etc/director/director.yaml".into(),
        interfaces: vec![Attachment {
            interface: "eth0".into(),
            ifindex: 2,
            mode: Mode::Native,
            replaced: false,
            program: 17,
            tag: "6b5a0c1d2e3f4051".into(),
        }],
        vips: vec![VipStatus {
            address: [192, 0, 2, 10].into(),
            prefix: 24,
            interface: "eth0".into(),
            held: true,
            wanted: true,
        }],
        services,
        flows: FlowTableStatus {
            capacity: 1_000,
            places: 2_048,
            used: 15,
            established: 5,
            embryonic: 4,
            closing: 3,
            closed: 3,
            other: 10,
            ..Default::default()
        },
        reasons: (1..).zip(Reason::ALL).map(reason).collect(),
        pair: Some(pair()),
        problems: vec!["the director lb2 has another configuration".into()],
    }
}

fn service(number: u16, nat: bool, reals: u8) -> ServiceStatus {
    ServiceStatus {
        name: format!("service-{number}"),
        address: [192, 0, 2, 10].into(),
        protocol: Protocol::Tcp,
        ports: "80".into(),
        forward: if nat { Forward::Nat } else { Forward::Direct },
        scheduler: Scheduler::Mh,
        persistence_seconds: None,
        id: Some(1),
        reals: (0..reals).map(|i| real(number, i)).collect(),
        fallback: false,
        panic: true,
        active: 1,
        inactive: 1,
        traffic: Traffic::default(),
        rates: Rates::default(),
        no_real_dropped: 5,
        no_real_rejected: 6,
        no_flow: 7,
        unplaced: 8,
    }
}

fn real(service: u16, number: u8) -> RealStatus {
    let [high, low] = service.to_be_bytes();
    let state = ["up", "down", "unknown"][usize::from(number % 3)];
    RealStatus {
        address: Ipv4Addr::from([10, high, low, number]).into(),
        port: number.is_multiple_of(2).then_some(8080),
        configured_weight: 10,
        weight: 5,
        overridden: true,
        health: Some(HealthStatus {
            state: state.into(),
            since_seconds: None,
            reason: String::new(),
            weight: None,
        }),
        reachable: true,
        mac: None,
        id: Some(1),
        active: 12,
        inactive: 34,
        traffic: Traffic {
            packets_in: 123_456_789_012,
            bytes_in: 98_765_432_109_876,
            packets_out: 1_234,
            bytes_out: 5_678,
            new_flows: 1_000_000,
        },
        rates: Rates::default(),
    }
}

fn pair() -> PairStatus {
    let link = |name: &str| LinkReport {
        name: name.into(),
        open: true,
        sent: 10,
        send_errors: 1,
        strangers: 2,
        garbled: 3,
        last_error: None,
        refused: vec![("replayed".into(), 3)],
    };
    let way = PeerLinkReport {
        heard: true,
        received: 9,
        lost: 1,
        loss: 0.1,
        delay_milliseconds: Some(0.25),
        jitter_milliseconds: Some(0.05),
    };
    let me = ContenderReport {
        director: "lb1".into(),
        role: "active".into(),
        eligible: true,
        reluctant: false,
        witnesses: 1,
        services: 1,
        score: 0,
    };
    let group = GroupReport {
        name: "default".into(),
        role: "active".into(),
        term: 7,
        since_seconds: 1.0,
        why: None,
        owner: Some("lb1".into()),
        unable: None,
        directors: vec![me],
    };
    let peer = PeerReport {
        name: "lb2".into(),
        alive: true,
        since_seconds: Some(1.0),
        heard_milliseconds: Some(1.0),
        hears_us: true,
        held: false,
        same_config: Some(false),
        clock_ahead_seconds: Some(-0.25),
        links: vec![way.clone(), way],
    };
    let means = MeansStatus {
        group: "default".into(),
        what: "dns".into(),
        state: String::new(),
        failure: Some("refused".into()),
    };
    let cluster = Cluster {
        me: "lb1".into(),
        listening: false,
        held: false,
        witnesses: (1, 2),
        groups: vec![group],
        peers: vec![peer],
        links: vec![link("udp 192.0.2.11:694"), link("serial /dev/ttyS0")],
        refused: vec![("no-link".into(), 1), ("replayed".into(), 7)],
        late: Lateness { count: 10, p50: 20, p99: 90, p999: 150, max: 2_000 },
    };
    PairStatus { cluster, taken: Vec::new(), means: vec![means] }
}
