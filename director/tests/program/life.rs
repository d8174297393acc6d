//! A flow stays with its real server as long as it lives, whatever happens around it.

use director::dataplane::{State, Verdict};
use director::model::{Forward, Protocol, Scheduler};
use director_ebpf::abi::Reason;

use crate::packet::{Packet, at, segment, tcp, udp};
use crate::rig::{Fate, Rig, hop, service};

const REALS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

fn rig(forward: Forward) -> Rig {
    Rig::new(vec![
        service(0, "192.0.2.1:80", Protocol::Tcp, forward, &REALS),
        service(1, "192.0.2.1:53", Protocol::Udp, forward, &REALS),
    ])
}

fn datagram(client: u16) -> Vec<u8> {
    let mut packet = udp(at("198.51.100.7:0"), at("192.0.2.1:53"), b"");
    packet.from.set_port(client);
    packet.frame()
}

#[test]
fn a_syn_on_a_live_flow_stays() {
    for forward in [Forward::Direct, Forward::Nat] {
        let rig = rig(forward);
        let flags = ["S", "S", "S", "A", "S", "PA", "S", "A"];
        assert!(flags.iter().all(|flags| rig.real_for(&segment(1000, flags)) == (0, 0)));
        assert_eq!(rig.counts().backends[&(0, 0)].new_flows, 1);
        let flows = rig.flows();
        assert!(flows.iter().all(|flow| flow.state == State::Established), "{flows:?}");
        assert_eq!(flows.len(), if forward == Forward::Nat { 2 } else { 1 });
    }
}

#[test]
fn a_syn_after_the_end_opens_a_fresh_flow() {
    for forward in [Forward::Direct, Forward::Nat] {
        for (end, state) in [("FA", State::Closing), ("R", State::Closed), ("RA", State::Closed)] {
            let rig = rig(forward);
            let to = |flags| rig.real_for(&segment(1000, flags));
            assert_eq!(["S", "A", end].map(to), [(0, 0); 3]);
            assert_eq!(rig.flows()[0].state, state);
            if end == "FA" {
                assert_eq!(to("A"), (0, 0), "the last acknowledgment belongs to the old flow");
            }
            assert_eq!(["S", "S", "A"].map(to), [(0, 1); 3], "round robin goes on: this is a new flow");
            let live = rig.flows().iter().filter(|flow| flow.state == State::Established).count();
            assert_eq!(live, if forward == Forward::Nat { 2 } else { 1 });
        }
    }
}

/// A RST that was forged, or outside the window, does not end what goes on.
#[test]
fn a_flow_that_goes_on_after_a_reset_is_alive() {
    let rig = rig(Forward::Direct);
    let to = |flags| rig.real_for(&segment(1000, flags));
    assert_eq!(["S", "A", "R", "A", "S", "A"].map(to), [(0, 0); 6]);
    assert_eq!(rig.flows()[0].state, State::Established);
}

#[test]
fn after_the_real_servers_end_a_syn_opens_a_fresh_flow() {
    for end in ["FA", "RA"] {
        let rig = rig(Forward::Nat);
        let (client, vip) = (at("198.51.100.7:1000"), at("192.0.2.1:80"));
        assert_eq!(["S", "A"].map(|flags| rig.real_for(&segment(1000, flags))), [(0, 0); 2]);
        let ends = tcp(at("10.0.0.1:80"), client, end, b"");
        rig.expect(end, &ends.frame(), Fate::returned((0, 0), &ends.back_from(vip).frame()));
        assert_eq!(rig.real_for(&segment(1000, "S")), (0, 1));
        let late = tcp(at("10.0.0.1:80"), client, "A", b"late");
        assert_eq!(
            rig.run(&late.frame()).verdict,
            Verdict::Tx,
            "the old real server's last words still arrive"
        );
        let fresh = tcp(at("10.0.0.2:80"), client, "SA", b"");
        rig.expect("the new one's", &fresh.frame(), Fate::returned((0, 1), &fresh.back_from(vip).frame()));
    }
}

#[test]
fn a_drained_real_server_keeps_its_flows_and_gets_no_new_ones() {
    for forward in [Forward::Direct, Forward::Nat] {
        let mut rig = rig(forward);
        let all = |rig: &Rig, flags| -> Vec<_> {
            (1000..1006)
                .map(|client| (rig.real_for(&segment(client, flags)), rig.real_for(&datagram(client))))
                .collect()
        };
        let before = all(&rig, "S");
        assert_eq!(all(&rig, "A"), before);
        for (turn, weights) in (0..).zip([[0, 1, 1], [5, 0, 0], [65_535, 1, 0]]) {
            rig.change(|services| {
                for service in services {
                    service.reals.iter_mut().zip(weights).for_each(|(real, weight)| real.weight = weight);
                }
            });
            assert_eq!(all(&rig, "A"), before, "{weights:?}");
            let open: Vec<usize> = (0..3).filter(|real| weights[*real] > 0).collect();
            for client in (2000..2009).map(|client| client + turn * 100) {
                assert!(open.contains(&rig.real_for(&segment(client, "S")).1));
                assert!(open.contains(&rig.real_for(&datagram(client)).1));
            }
        }
    }
}

#[test]
fn no_table_and_no_scheduler_moves_a_flow() {
    let mut rig = rig(Forward::Direct);
    let clients = 1000..1100;
    let all = |rig: &Rig, flags| -> Vec<_> {
        clients.clone().map(|client| rig.real_for(&segment(client, flags))).collect()
    };
    let before = all(&rig, "S");
    assert_eq!(all(&rig, "A"), before);
    for scheduler in [Scheduler::Mh, Scheduler::Sh, Scheduler::Dh, Scheduler::Fo, Scheduler::Wrr] {
        rig.change(|services| services[0].scheduler = scheduler);
        assert_eq!(all(&rig, "A"), before, "{scheduler}");
    }
    rig.change(|services| {
        services[0].reals.insert(
            0,
            service(7, "192.0.2.1:80", Protocol::Tcp, Forward::Direct, &["10.0.0.9"]).reals.remove(0),
        )
    });
    let moved: Vec<_> = before.iter().map(|(s, r)| (*s, r + 1)).collect();
    assert_eq!(all(&rig, "A"), moved, "the same real servers, one further down the list");
}

#[test]
fn flows_of_a_removed_real_server_start_over() {
    for forward in [Forward::Direct, Forward::Nat] {
        let mut rig = rig(forward);
        for client in 1000..1003 {
            ["S", "A"].iter().for_each(|flags| _ = rig.real_for(&segment(client, flags)));
            (0..2).for_each(|_| _ = rig.real_for(&datagram(client)));
        }
        rig.change(|services| services.iter_mut().for_each(|service| _ = service.reals.remove(0)));
        let mac = hop(0, 0).mac;
        let refused = Fate::dropped(Reason::DropNoFlow).service(0, |stats| stats.no_flow += 1);
        rig.expect("in the middle", &segment(1000, "A"), refused.clone());
        rig.expect("and again", &segment(1000, "PA"), refused);
        for frame in [segment(1000, "S"), datagram(1000)] {
            let outcome = rig.run(&frame);
            assert!(outcome.verdict == Verdict::Tx && outcome.frame[..6] != mac, "a new flow elsewhere");
        }
        assert_eq!(
            [segment(1001, "A"), segment(1002, "A")].map(|frame| rig.real_for(&frame)),
            [(0, 0), (0, 1)]
        );
    }
}

/// It has another id then, and what the table still says of the old one does not stand in its way.
#[test]
fn a_real_server_that_comes_back_takes_flows_at_once() {
    for forward in [Forward::Direct, Forward::Nat] {
        let mut rig = Rig::new(vec![service(0, "192.0.2.1:80", Protocol::Tcp, forward, &REALS[..1])]);
        ["S", "A"].iter().for_each(|flags| _ = rig.real_for(&segment(1000, flags)));
        let mut gone = None;
        rig.change(|services| gone = services[0].reals.pop());
        rig.change(|services| services[0].reals.extend(gone));
        assert_eq!(["S", "A"].map(|flags| rig.real_for(&segment(1000, flags))), [(0, 0); 2]);
        assert_eq!(rig.counts().backends[&(0, 0)].new_flows, 1);
    }
}

#[test]
fn an_orphan_of_a_removed_real_server_goes_by_hash() {
    let mut rig = rig(Forward::Direct);
    rig.change(|services| services[0].scheduler = Scheduler::Mh);
    let mine: Vec<u16> =
        (1000..1060).filter(|client| rig.real_for(&segment(*client, "S")) == (0, 0)).collect();
    assert!(!mine.is_empty());
    rig.change(|services| _ = services[0].reals.remove(0));
    for client in mine {
        let outcome = rig.run(&segment(client, "A"));
        assert!(outcome.verdict == Verdict::Tx && outcome.frame[..6] != hop(0, 0).mac);
    }
}

/// An id in quarantine serves nobody else until a sweep: what still names it meets an unused record.
#[test]
fn a_sweep_frees_what_is_expired_and_what_is_orphaned() {
    let mut rig = rig(Forward::Nat);
    for client in 1000..1090 {
        ["S", "A"].iter().for_each(|flags| _ = rig.run(&segment(client, flags)));
        rig.run(&datagram(client));
    }
    let report = rig.dataplane.sweep().expect("a sweep");
    assert_eq!((report.expired, report.orphaned, report.used()), (0, 0, 360));
    rig.change(|services| services.iter_mut().for_each(|service| _ = service.reals.remove(0)));
    let report = rig.dataplane.sweep().expect("a sweep");
    assert_eq!((report.expired, report.orphaned, report.used()), (0, 120, 240));
    let now = rig.dataplane.now().expect("a clock");
    let ticks = |seconds: u64| seconds * 1_000_000 / rig.dataplane.units().tick.as_micros() as u64;
    let report = rig.dataplane.flows().sweep(now + ticks(310) as u32);
    assert_eq!((report.expired, report.used()), (120, 120), "UDP's 300 s are over");
    let report = rig.dataplane.flows().sweep(now + ticks(890) as u32);
    assert_eq!((report.expired, report.used()), (0, 120));
    let report = rig.dataplane.flows().sweep(now + ticks(910) as u32);
    assert_eq!((report.expired, report.used()), (120, 0), "TCP's 900 s are over");
}

#[test]
fn states_have_timeouts_of_their_own() {
    let rig = rig(Forward::Direct);
    for (client, segments) in
        [(1, &["S"][..]), (2, &["S", "A"]), (3, &["S", "A", "FA"]), (4, &["S", "A", "R"])]
    {
        segments.iter().for_each(|flags| _ = rig.run(&segment(client, flags)));
    }
    let now = rig.dataplane.now().expect("a clock");
    for (seconds, expired, left) in
        [(9u64, 0, 4), (12, 1, 3), (59, 0, 3), (63, 1, 2), (119, 0, 2), (123, 1, 1), (898, 0, 1), (903, 1, 0)]
    {
        let ticks = (seconds * 1_000_000).div_ceil(rig.dataplane.units().tick.as_micros() as u64) as u32;
        let report = rig.dataplane.flows().sweep(now + ticks);
        assert_eq!((report.expired, report.used()), (expired, left), "after {seconds} s");
    }
    let fresh = Packet { ..tcp(at("198.51.100.7:2"), at("192.0.2.1:80"), "A", b"") };
    rig.expect(
        "swept",
        &fresh.frame(),
        Fate::dropped(Reason::DropNoFlow).service(0, |stats| stats.no_flow += 1),
    );
}
