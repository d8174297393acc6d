//! Two CPUs on the same few sets: no packet ever leaves to a wrong real server. The scheduler hashes, so that each flow has one
//! right real server whether it has an entry or not.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use director::dataplane::Verdict;
use director::model::{Forward, Limits, Protocol, Scheduler};
use director::pool::NextHop;
use director_ebpf::abi::Reason;

use crate::packet::{CLIENT, OWN, Packet, at, tcp};
use crate::rig::{LIMITS, Rig, hop, service, stay_on};
use crate::traffic::Random;

/// Four sets, sixteen places.
const FOUR_SETS: Limits = Limits { flows: 8, ..LIMITS };
/// Real servers.
const REALS: usize = 8;

fn rig(hops: impl Fn(usize) -> NextHop) -> Rig {
    let reals: Vec<String> = (1..=REALS).map(|i| format!("10.0.0.{i}")).collect();
    let mut only = service(
        0,
        "192.0.2.1:80",
        Protocol::Tcp,
        Forward::Direct,
        &reals.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    only.scheduler = Scheduler::Mh;
    only.reals.iter_mut().enumerate().for_each(|(r, real)| real.hop = Some(hops(r)));
    let rig = Rig::sized(FOUR_SETS, vec![only]);
    assert_eq!(rig.dataplane.flows().places(), 16);
    rig
}

fn segment(port: u16, flags: &str) -> Packet {
    let mut packet = tcp(at("198.51.100.7:0"), at("192.0.2.1:80"), flags, b"");
    packet.from.set_port(port);
    packet
}

/// Many flows, few places: entries come, go and change hands all the time, and every packet is looked at.
#[test]
fn every_packet_of_two_cpus_goes_where_its_hash_says() {
    const FLOWS: usize = 256;
    const EACH: usize = 500_000;
    let rig = rig(|r| hop(0, r));
    let flags = ["S", "S", "S", "S", "A", "PA", "FA", "R"];
    let frames: Vec<Vec<Vec<u8>>> = (0..FLOWS)
        .map(|i| flags.iter().map(|flags| segment(1000 + i as u16, flags).frame()).collect())
        .collect();
    let right: Vec<(usize, usize)> = frames.iter().map(|flow| rig.real_for(&flow[0])).collect();
    let (start, sent) = (Barrier::new(2), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (rig, frames, right, start, sent) = (&rig, &frames, &right, &start, &sent);
            scope.spawn(move || {
                stay_on(cpu);
                start.wait();
                let mut random = Random::new(7 + cpu as u64);
                for turn in 0..EACH {
                    // Mostly all flows from both CPUs; now and then each CPU's own.
                    let flow = match turn / 10_000 % 4 {
                        3 => random.below(FLOWS / 2) * 2 + cpu,
                        2 => random.below(24),
                        _ => random.below(FLOWS),
                    };
                    let frame = random.pick(&frames[flow]);
                    let outcome = rig.run(frame);
                    assert_eq!(outcome.verdict, Verdict::Tx);
                    assert_eq!(
                        rig.real_of(&outcome.frame),
                        Some(right[flow]),
                        "flow {flow}, CPU {cpu}, packet {turn}"
                    );
                    assert_eq!(outcome.frame[12..], frame[12..]);
                }
                sent.fetch_add(EACH as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(sent.into_inner(), 2 * EACH as u64);
    let counts = rig.counts();
    assert!(counts.reasons[&Reason::FlowEvictedEmbryonic] > 100_000, "entries changed hands: {counts:?}");
    assert_eq!(
        counts.backends.values().map(|stats| stats.packets_in).sum::<u64>(),
        (2 * EACH + FLOWS) as u64
    );
}

/// One CPU sends each of a few flows' packets thousands of times in a row, as fast as the program runs, while another turns all
/// entries out with fresh flows. Frames leave with their own destination MAC, so that the next round finds them as they were;
/// the counters tell where each of them went.
#[test]
fn a_reader_at_full_speed_never_takes_anothers_value() {
    const TURNS: u64 = 400;
    const ROUNDS: u32 = 20_000;
    const FRESH: usize = 60_000;
    let itself = |r: usize| NextHop {
        mac: OWN,
        source_mac: [0x02, 0xee, 0, 0, 0, r as u8],
        ifindex: crate::rig::HERE,
    };
    let rig = rig(itself);
    let real = |frame: &[u8]| usize::from(frame[11]);
    let learn = |packet: &Packet| real(&rig.run(&packet.frame()).frame);
    let own: Vec<(Vec<u8>, usize)> =
        (0..8).map(|i| segment(1000 + i, "S")).map(|packet| (packet.frame(), learn(&packet))).collect();
    let fresh: Vec<(Vec<u8>, usize)> = (0..FRESH)
        .map(|i| segment(2000 + i as u16, "S"))
        .map(|packet| (packet.frame(), learn(&packet)))
        .collect();
    let before = rig.counts();
    let (start, done) = (Barrier::new(2), AtomicBool::new(false));
    let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
    let disturbed = std::thread::scope(|scope| {
        let (rig, fresh, start, done) = (&rig, &fresh, &start, &done);
        let other = scope.spawn(move || {
            stay_on(1);
            start.wait();
            let mut sent = vec![0u64; REALS];
            for (frame, right) in fresh.iter().cycle() {
                assert_eq!(real(&rig.run(frame).frame), *right, "a fresh flow");
                sent[*right] += 1;
                if done.load(Ordering::Relaxed) {
                    return sent;
                }
            }
            unreachable!("a cycle ends never")
        });
        stay_on(0);
        start.wait();
        for turn in 0..TURNS as usize {
            let (frame, right) = &own[turn % own.len()];
            let outcome = rig.trial.run(frame, ROUNDS).expect("a run");
            assert_eq!((outcome.verdict, real(&outcome.frame)), (Verdict::Tx, *right));
            *wanted.entry(*right).or_default() += u64::from(ROUNDS);
        }
        done.store(true, Ordering::Relaxed);
        other.join().expect("the other CPU")
    });
    disturbed.iter().enumerate().for_each(|(r, sent)| *wanted.entry(r).or_default() += sent);
    let counts = rig.counts();
    for r in 0..REALS {
        let sent =
            |counts: &crate::rig::Counts| counts.backends.get(&(0, r)).map_or(0, |stats| stats.packets_in);
        assert_eq!(
            sent(&counts) - sent(&before),
            wanted.get(&r).copied().unwrap_or(0),
            "packets for real server {r}"
        );
    }
    let evicted =
        |counts: &crate::rig::Counts| counts.reasons.get(&Reason::FlowEvictedEmbryonic).copied().unwrap_or(0);
    assert!(evicted(&counts) - evicted(&before) > 10_000, "entries changed hands meanwhile");
    assert_eq!(CLIENT[0] & 1, 0);
}
