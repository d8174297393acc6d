//! When two flows would look alike, and when there is no room.

use director::dataplane::{Kind, State, Verdict};
use director::model::{Forward, Limits, Persistence, Protocol, Scheduler, Unserved};
use director::reconcile::MapOp;
use director_ebpf::abi::Reason;
use std::time::Duration;

use crate::packet::{Packet, at, segment, tcp, udp};
use crate::rig::{Fate, LIMITS, Rig, hop, service};

/// Four places in all.
const ONE_SET: Limits = Limits { flows: 2, ..LIMITS };

fn tiny(protocol: Protocol, forward: Forward) -> Rig {
    let reals = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    Rig::sized(ONE_SET, vec![service(0, "192.0.2.1:80", protocol, forward, &reals)])
}

fn datagram(port: u16) -> Vec<u8> {
    let mut packet = udp(at("198.51.100.7:0"), at("192.0.2.1:80"), b"");
    packet.from.set_port(port);
    packet.frame()
}

/// Two services of one real server at one port: of one client's port, it could not tell their connections apart.
fn sharing(scheduler: Scheduler, reals: &[&str]) -> Rig {
    let one = service(0, "192.0.2.1:80", Protocol::Tcp, Forward::Nat, &["10.0.0.1:8080"]);
    let mut two = service(1, "192.0.2.1:81", Protocol::Tcp, Forward::Nat, reals);
    two.scheduler = scheduler;
    Rig::new(vec![one, two])
}

#[test]
fn a_reply_tuple_belongs_to_one_flow() {
    for scheduler in [Scheduler::Rr, Scheduler::Wrr, Scheduler::Mh, Scheduler::Sh, Scheduler::Dh] {
        let rig = sharing(scheduler, &["10.0.0.1:8080", "10.0.0.2:8080"]);
        let mut evaded = 0;
        for port in 1000..1100 {
            assert_eq!(rig.real_for(&segment(port, "S")), (0, 0));
            let mut second = tcp(at("198.51.100.7:0"), at("192.0.2.1:81"), "S", b"");
            second.from.set_port(port);
            assert_eq!(rig.real_for(&second.frame()), (1, 1), "{scheduler}, client port {port}");
            evaded += 1;
            // Both go on, and both get their answers from who they asked.
            assert_eq!(rig.real_for(&segment(port, "A")), (0, 0));
            let mut answers = tcp(at("10.0.0.1:8080"), second.from, "SA", b"");
            rig.expect(
                "the first's",
                &answers.frame(),
                Fate::returned((0, 0), &answers.back_from(at("192.0.2.1:80")).frame()),
            );
            answers.from = at("10.0.0.2:8080");
            rig.expect(
                "the second's",
                &answers.frame(),
                Fate::returned((1, 1), &answers.back_from(second.to).frame()),
            );
        }
        assert_eq!(evaded, 100);
    }
}

#[test]
fn without_another_real_server_the_second_flow_is_refused() {
    for (scheduler, persistent) in [(Scheduler::Rr, false), (Scheduler::Fo, false), (Scheduler::Mh, true)] {
        for unserved in [Unserved::Drop, Unserved::Reject] {
            let mut rig = sharing(scheduler, &["10.0.0.1:8080"]);
            rig.change(|services| {
                services[1].unserved = unserved;
                let persistence = Persistence { timeout: Duration::from_secs(300), prefix: 32 };
                services[1].persistence = persistent.then_some(persistence);
            });
            let second = |port: u16, flags: &str| Packet {
                to: at("192.0.2.1:81"),
                ..{
                    let mut packet = tcp(at("198.51.100.7:0"), at("192.0.2.1:81"), flags, b"");
                    packet.from.set_port(port);
                    packet
                }
            };
            assert_eq!(rig.real_for(&second(999, "S").frame()), (1, 0), "the template's first flow");
            rig.run(&segment(1000, "S"));
            rig.run(&segment(1000, "A"));
            let seen = rig.send(&second(1000, "S").frame());
            match unserved {
                Unserved::Drop => {
                    let fate =
                        Fate::dropped(Reason::DropTupleBusy).service(1, |stats| stats.no_real_dropped += 1);
                    assert_eq!(seen, fate, "{scheduler} {persistent}");
                }
                Unserved::Reject => {
                    assert_eq!((seen.verdict, seen.counts.reasons[&Reason::RejectRst]), (Verdict::Tx, 1))
                }
            }
            let answers = tcp(at("10.0.0.1:8080"), at("198.51.100.7:1000"), "A", b"");
            let back = answers.back_from(at("192.0.2.1:80")).frame();
            rig.expect("the first goes on", &answers.frame(), Fate::returned((0, 0), &back));
            rig.run(&segment(1000, "FA"));
            assert_eq!(rig.real_for(&second(1000, "S").frame()), (1, 0), "the first is over");
            rig.dataplane.flows().age(1);
            rig.run(&segment(1000, "A"));
            let back = answers.back_from(at("192.0.2.1:81")).frame();
            rig.expect("and takes nothing back", &answers.frame(), Fate::returned((1, 0), &back));
        }
    }
}

#[test]
fn a_flow_without_a_place_goes_by_hash() {
    let rig = tiny(Protocol::Tcp, Forward::Direct);
    let placed: Vec<_> = (0..4).map(|port| rig.real_for(&segment(port, "S"))).collect();
    (0..4).for_each(|port| assert_eq!(rig.real_for(&segment(port, "A")), placed[usize::from(port)]));
    let mut seen = std::collections::BTreeSet::new();
    for port in 1000..1050 {
        let before = rig.counts();
        let real = rig.real_for(&segment(port, "S"));
        seen.insert(real);
        for flags in ["S", "A", "PA", "FA", "A"] {
            assert_eq!(rig.real_for(&segment(port, flags)), real, "{flags} of client port {port}");
        }
        let after = rig.counts();
        let more =
            |reason| after.reasons.get(&reason).unwrap_or(&0) - before.reasons.get(&reason).unwrap_or(&0);
        assert_eq!((more(Reason::FlowUnplaced), more(Reason::FlowOrphanRouted)), (2, 4));
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(rig.counts().services[&0].unplaced, 100);
    (0..4).for_each(|port| assert_eq!(rig.real_for(&segment(port, "PA")), placed[usize::from(port)]));
    assert_eq!(rig.flows().len(), 4);
}

#[test]
fn datagrams_without_a_place_go_by_hash() {
    let rig = tiny(Protocol::Udp, Forward::Direct);
    let placed: Vec<_> = (0..4).map(|port| [(); 2].map(|()| rig.real_for(&datagram(port)))).collect();
    for port in 1000..1050 {
        let reals = [(); 4].map(|()| rig.real_for(&datagram(port)));
        assert!(reals.iter().all(|real| *real == reals[0]), "{reals:?}");
    }
    assert_eq!(rig.reason(Reason::FlowUnplaced), 200);
    (0..4).for_each(|port| {
        assert_eq!([(); 2].map(|()| rig.real_for(&datagram(port))), placed[usize::from(port)])
    });
}

#[test]
fn under_nat_a_flow_without_a_place_is_dropped() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let rig = tiny(protocol, Forward::Nat);
        let frame =
            |port, flags| if protocol == Protocol::Tcp { segment(port, flags) } else { datagram(port) };
        for port in 0..2 {
            assert_eq!(
                ["S", "A"].map(|flags| rig.real_for(&frame(port, flags))),
                [(0, usize::from(port)); 2]
            );
        }
        for _ in 0..4 {
            let fate = Fate::dropped(Reason::FlowUnplaced).service(0, |stats| stats.unplaced += 1);
            rig.expect("no place", &frame(1000, "S"), fate);
        }
        assert_eq!([0, 1].map(|port| rig.real_for(&frame(port, "PA"))), [(0, 0), (0, 1)]);
    }
}

#[test]
fn the_oldest_embryonic_entry_gives_way_first() {
    let rig = tiny(Protocol::Tcp, Forward::Direct);
    for port in 0..4 {
        rig.run(&segment(port, "S"));
        rig.dataplane.flows().age(3);
    }
    rig.run(&segment(1, "A"));
    for (fresh, gone) in [(10, 0), (11, 2), (12, 3)] {
        let seen = rig.send(&segment(fresh, "S"));
        assert_eq!(seen.counts.reasons.get(&Reason::FlowEvictedEmbryonic), Some(&1));
        let ports: Vec<u16> = rig.flows().iter().map(|flow| flow.client.port()).collect();
        assert!(ports.contains(&fresh) && !ports.contains(&gone) && ports.contains(&1), "{ports:?}");
        rig.dataplane.flows().age(3);
    }
    assert_eq!(rig.reason(Reason::FlowUnplaced), 0);
}

#[test]
fn an_expired_entry_gives_way_before_the_sweep() {
    for (protocol, seconds) in [(Protocol::Tcp, 900), (Protocol::Udp, 300)] {
        let rig = tiny(protocol, Forward::Direct);
        let frame =
            |port, flags| if protocol == Protocol::Tcp { segment(port, flags) } else { datagram(port) };
        (0..4).for_each(|port| ["S", "A"].iter().for_each(|flags| _ = rig.run(&frame(port, flags))));
        let ticks = (seconds * 1000 / rig.dataplane.units().tick.as_millis()) as u16;
        rig.dataplane.flows().age(ticks - 5);
        let seen = rig.send(&frame(1000, "S"));
        assert_eq!(seen.counts.reasons.get(&Reason::FlowUnplaced), Some(&1), "not yet");
        rig.run(&frame(2, "A"));
        rig.dataplane.flows().age(8);
        for port in 1000..1003 {
            let seen = rig.send(&frame(port, "S"));
            assert_eq!(seen.counts.reasons.get(&Reason::FlowEvictedExpired), Some(&1), "{protocol}");
            rig.run(&frame(port, "A"));
        }
        let seen = rig.send(&frame(1003, "S"));
        assert_eq!(seen.counts.reasons.get(&Reason::FlowUnplaced), Some(&1), "the refreshed one stays");
        let flows = rig.flows();
        assert!(
            flows.iter().all(|flow| flow.state == State::Established && flow.client.port() != 0),
            "{flows:?}"
        );
    }
}

/// Templates of established clients, and later fragments, take places like any other.
#[test]
fn templates_and_fragments_take_places_too() {
    let mut only = service(0, "192.0.2.1:80", Protocol::Udp, Forward::Direct, &["10.0.0.1"]);
    only.persistence = Some(Persistence { timeout: Duration::from_secs(60), prefix: 32 });
    let rig = Rig::sized(ONE_SET, vec![only]);
    let packet = udp(at("198.51.100.7:1"), at("192.0.2.1:80"), &[1; 100]);
    rig.run(&packet.fragments(64)[0]);
    rig.run(&packet.fragments(64)[0]);
    let kinds = |kind| rig.flows().iter().filter(|flow| flow.kind == kind).count();
    assert_eq!([Kind::Client, Kind::Template, Kind::Fragment].map(kinds), [1, 1, 1]);
    let later = packet.fragments(64)[1].clone();
    let leaves = Packet { ..packet.via(&hop(0, 0)) }.fragments(64)[1].clone();
    rig.expect("later", &later, Fate::sent((0, 0), &leaves));
    (10..30).for_each(|port| _ = rig.run(&datagram(port)));
    assert_eq!([Kind::Client, Kind::Template].map(kinds)[1], 1, "an established client's template stays");
    assert_eq!(
        rig.flows().iter().filter(|flow| flow.client.port() == 1 && flow.kind == Kind::Client).count(),
        1
    );
}

/// An operation on a map that the kernel refuses is stepped over, or not; it is counted.
#[test]
fn operations_that_fail_are_counted() {
    let mut rig = tiny(Protocol::Tcp, Forward::Direct);
    let errors = rig.dataplane.map_errors();
    assert_eq!(errors.counts().iter().map(|(_, _, count)| count).sum::<u64>(), 0);
    let nowhere = MapOp::PutDevice { ifindex: i32::MAX as u32 };
    rig.dataplane.apply(&[nowhere]).expect("an interface that is gone is stepped over");
    assert!(errors.counts().contains(&("DEVICES", "write", 1)), "{:?}", errors.counts());
}
