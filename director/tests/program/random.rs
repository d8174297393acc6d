//! Packets cut at every length, and a million that are mutated or random: nothing leaves corrupted, and nothing that is not
//! ours is changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use director::dataplane::{Lease, Verdict};
use director::model::{Forward, Protocol};
use director_ebpf::abi::Reason;

use crate::judge::Judge;
use crate::packet::{Packet, Upper, at, tcp, udp};
use crate::rig::{Rig, hex};
use crate::traffic::{Random, guarded, mutate, services, sound};

/// How many.
const PACKETS: usize = 1_000_000;
/// How many sound ones they are made of, at a time.
const POOL: usize = 2_000;

#[test]
fn a_million_mutated_packets_come_to_no_harm() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("SEED={seed} repeats this run");
    let mut rig = Rig::new(services());
    let [held, lost] = guarded();
    rig.dataplane.leases().expect("leases").set(0, Lease::Forever);
    rig.dataplane.guard(&[held.clone(), lost.clone()]).expect("a guard");
    let mut judge = Judge::new(&rig.desired.services, held.mac, &lost);
    let mut random = Random::new(seed);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for turn in 0..PACKETS / POOL / 10 {
        let pool: Vec<Vec<u8>> = (0..POOL).map(|_| sound(&mut random, &rig.desired.services)).collect();
        for i in 0..POOL * 10 {
            let another = random.below(POOL);
            let frame = mutate(&mut random, pool[i % POOL].clone(), &pool[another]);
            let outcome = rig.run(&frame);
            if let Err(why) = judge.judge(&frame, &outcome) {
                let (out, at) = (hex(&outcome.frame), turn * POOL * 10 + i);
                panic!("packet {at} of seed {seed}: {why}: {:?}\n{}\n{out}", outcome.verdict, hex(&frame));
            }
            *seen.entry(format!("{:?}", outcome.verdict)).or_default() += 1;
        }
    }
    println!("{seen:?}");
    let reasons = rig.counts().reasons;
    println!("{reasons:?}");
    let least = |verdict: &str| seen.get(verdict).copied().unwrap_or(0) > PACKETS / 100;
    assert!(["Pass", "Drop", "Tx"].into_iter().all(least), "all branches are met: {seen:?}");
    for reason in Reason::ALL {
        let rare = matches!(
            reason,
            Reason::DropNoNextHop | Reason::DropInternal | Reason::DropTupleBusy | Reason::FlowEvictedExpired
        );
        assert!(
            reasons.contains_key(reason) != rare || rare && *reason != Reason::DropInternal,
            "{}",
            reason.name()
        );
    }
}

/// A frame cut at any length leaves as its beginning would, or not at all.
#[test]
fn a_cut_off_packet_is_its_beginning_or_nothing() {
    let rig = Rig::new(services());
    let mut count = 0;
    for service in rig.desired.services.iter().filter(|service| !service.reals.is_empty()) {
        let port = service.ports.single().unwrap_or(4711);
        let vip = SocketAddr::new(service.address, port);
        let client = if vip.is_ipv4() { at("198.51.100.7:40000") } else { at("[2001:db8:c::7]:40000") };
        let plain = match service.protocol {
            Protocol::Tcp => tcp(client, vip, "S", b"some data"),
            Protocol::Udp => udp(client, vip, b"some data"),
        };
        let mut wrapped = plain.clone();
        if vip.is_ipv4() {
            wrapped.options = vec![1; 12];
        } else {
            wrapped.extensions = vec![(0, vec![1; 6]), (60, vec![1; 14]), (51, vec![2; 12])];
        }
        let least = if service.protocol == Protocol::Tcp { 20 } else { 8 };
        for asks in [plain, wrapped] {
            let real = rig.real_for(&asks.frame());
            let asks = match asks.upper {
                Upper::Tcp(_) => Packet { upper: tcp(client, vip, "PA", b"").upper, ..asks },
                _ => asks,
            };
            let (hop, whole) = (rig.hop(real), asks.frame());
            let leaves = match service.forward {
                Forward::Direct => asks.via(&hop),
                Forward::Nat => asks.to_real(&hop, rig.real_at(real, port)),
            };
            let head = whole.len() - asks.segment().1.len() + least;
            cut(&rig, &whole, &leaves.frame(), head);
            if service.forward == Forward::Nat {
                let answers = leaves.answer("A", b"an answer");
                let answers = Packet { to_mac: crate::packet::OWN, from_mac: hop.mac, ..answers };
                let head = answers.frame().len() - answers.segment().1.len() + least;
                cut(&rig, &answers.frame(), &answers.back_from(vip).frame(), head);
            }
            count += 1;
        }
    }
    assert_eq!(count, 28);
}

/// Sends a frame cut at every length; from `head` bytes on it must leave.
fn cut(rig: &Rig, whole: &[u8], leaves: &[u8], head: usize) {
    for length in 14..=whole.len() {
        let outcome = rig.run(&whole[..length]);
        let what = || format!("{length} bytes of {}", hex(whole));
        if length < head {
            assert_eq!(outcome.verdict, Verdict::Drop, "{}", what());
        } else {
            assert!(
                matches!(outcome.verdict, Verdict::Tx | Verdict::Redirect),
                "{:?}: {}",
                outcome.verdict,
                what()
            );
            assert_eq!(hex(&outcome.frame), hex(&leaves[..length]), "{}", what());
        }
    }
    assert!(rig.reason(Reason::DropTruncated) > 0);
}
