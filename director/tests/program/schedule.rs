//! Schedulers as the program carries them out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use director::model::{Forward, Protocol, Scheduler};
use director::pool::DesiredService;
use director::slots::{self, Candidate};
use director_ebpf::hash;

use crate::packet::{at, tcp, udp};
use crate::rig::{Rig, service, stay_on};

const REALS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

fn rig(scheduler: Scheduler, weights: [u16; 3]) -> Rig {
    let mut only = service(0, "192.0.2.1:0", Protocol::Udp, Forward::Direct, &REALS);
    (only.scheduler, only.table_size) = (scheduler, 65_537);
    only.reals.iter_mut().zip(weights).for_each(|(real, weight)| real.weight = weight);
    Rig::sized(director::model::Limits { flows: 1 << 16, ..crate::rig::LIMITS }, vec![only])
}

fn ask(rig: &Rig, host: u8, port: u16) -> usize {
    let client = SocketAddr::new(IpAddr::from([198, 51, 100, host]), port);
    rig.real_for(&udp(client, at("192.0.2.1:80"), b"").frame()).1
}

#[test]
fn round_robin_is_even_whatever_the_weights() {
    let rig = rig(Scheduler::Rr, [1, 50, 7]);
    let turns: Vec<usize> = (0..300).map(|i| ask(&rig, 1, 1000 + i)).collect();
    assert!(turns.iter().enumerate().all(|(i, real)| *real == i % 3), "{turns:?}");
}

#[test]
fn every_cpu_takes_turns_of_its_own() {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rig = rig(Scheduler::Rr, [1, 1, 1]);
    for cpu in 0..cpus.min(2) {
        stay_on(cpu);
        let mut counts = [0; 3];
        (0..300).for_each(|i| counts[ask(&rig, cpu as u8, 1000 + i)] += 1);
        assert_eq!(counts, [100; 3], "CPU {cpu}");
    }
    stay_on(0);
}

#[test]
fn weighted_round_robin_is_exact_and_smooth() {
    let rig = rig(Scheduler::Wrr, [3, 2, 1]);
    let turns: Vec<usize> = (0..600).map(|i| ask(&rig, 1, 1000 + i)).collect();
    for period in turns.chunks(6) {
        let count = |real| period.iter().filter(|turn| **turn == real).count();
        assert_eq!([count(0), count(1), count(2)], [3, 2, 1], "{period:?}");
    }
    assert!(turns.windows(3).all(|three| three != [0, 0, 0]), "smooth: never three in a row");
}

#[test]
fn failover_has_one_at_a_time() {
    let mut rig = rig(Scheduler::Fo, [10, 30, 20]);
    let ask = |rig: &Rig, from: u16| {
        (0..20).map(|i| ask(rig, 1, from + i)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ask(&rig, 1000).into_iter().collect::<Vec<_>>(), [1]);
    rig.change(|services| services[0].reals[1].hop = None);
    assert_eq!(ask(&rig, 2000).into_iter().collect::<Vec<_>>(), [2]);
    rig.change(|services| services[0].reals[2].weight = 0);
    assert_eq!(ask(&rig, 3000).into_iter().collect::<Vec<_>>(), [0]);
}

/// A service's slot table, worked out here.
struct Table(Vec<u16>);

impl Table {
    fn of(service: &DesiredService) -> Table {
        let key = |real: &director::pool::DesiredReal| slots::identity(real.address, real.port);
        let candidates: Vec<Candidate> =
            service.reals.iter().map(|real| Candidate { key: key(real), weight: real.weight }).collect();
        Table(slots::build(service.scheduler, service.table_size, &candidates))
    }

    fn real(&self, hash: u32) -> usize {
        usize::from(self.0[hash::reduce(hash::slot_end(hash), self.0.len() as u32) as usize])
    }
}

fn word(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => u32::from_ne_bytes(addr.octets()),
        IpAddr::V6(_) => unreachable!("these tests are of IPv4"),
    }
}

fn ports(client: SocketAddr, vip: SocketAddr) -> u32 {
    u32::from(client.port().to_be()) | u32::from(vip.port().to_be()) << 16
}

#[test]
fn maglev_follows_its_definition_and_shares_evenly() {
    let rig = rig(Scheduler::Mh, [1, 1, 1]);
    let vip = at("192.0.2.1:80");
    let table = Table::of(&rig.desired.services[0]);
    let mut counts = [0u32; 3];
    for i in 0..10_000u16 {
        let client = SocketAddr::new(IpAddr::from([198, 51, (i >> 8) as u8, i as u8]), 1024 + i % 77);
        let real = rig.real_for(&udp(client, vip, b"").frame()).1;
        let hash = hash::slot_mix(
            hash::slot_addr(hash::slot_addr(0, &word(client.ip())), &word(vip.ip())),
            ports(client, vip),
        );
        assert_eq!(real, table.real(hash), "{client}");
        counts[real] += 1;
    }
    assert!(counts.iter().all(|count| (3_150..3_520).contains(count)), "{counts:?}");
}

#[test]
fn source_hashing_is_of_the_address_alone() {
    let rig = rig(Scheduler::Sh, [1, 1, 1]);
    let table = Table::of(&rig.desired.services[0]);
    let mut counts = BTreeMap::new();
    for host in 0..=255 {
        let real = table.real(hash::slot_addr(0, &word(IpAddr::from([198, 51, 100, host]))));
        assert!((0..5).all(|i| ask(&rig, host, 1000 + i * 777) == real), "client {host}");
        *counts.entry(real).or_insert(0) += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn destination_hashing_is_of_the_vip_alone() {
    let vips: Vec<String> = (1..=30).map(|host| format!("192.0.2.{host}:0")).collect();
    let services = vips.iter().enumerate().map(|(i, vip)| {
        let mut one = service(i, vip, Protocol::Tcp, Forward::Direct, &REALS);
        one.scheduler = Scheduler::Dh;
        one
    });
    let rig = Rig::new(services.collect());
    let mut seen = std::collections::BTreeSet::new();
    for (i, service) in rig.desired.services.iter().enumerate() {
        let real = (i, Table::of(service).real(hash::slot_addr(0, &word(service.address))));
        for client in ["198.51.100.1:1", "198.51.100.2:7", "203.0.113.77:40000"] {
            for port in [80, 443] {
                let vip = SocketAddr::new(service.address, port);
                assert_eq!(rig.real_for(&tcp(at(client), vip, "S", b"").frame()), real);
            }
        }
        seen.insert(real.1);
    }
    assert_eq!(seen.len(), 3, "every real server has VIPs");
}

/// A real server that goes takes hardly any flows with it but its own.
#[test]
fn maglev_moves_few() {
    let mut rig = rig(Scheduler::Mh, [1, 1, 1]);
    let before: Vec<usize> = (0..3_000).map(|i| ask(&rig, 1, 1000 + i)).collect();
    rig.change(|services| services[0].reals[2].weight = 0);
    rig.dataplane.flows().sweep(rig.dataplane.now().expect("a clock") + 400);
    let after: Vec<usize> = (0..3_000).map(|i| ask(&rig, 1, 1000 + i)).collect();
    assert!(after.iter().all(|real| *real != 2));
    let moved = before.iter().zip(&after).filter(|(before, after)| **before != 2 && before != after).count();
    assert!(moved < 60, "{moved} of 3,000 moved without need");
}
