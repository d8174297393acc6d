use super::*;
use crate::heartbeat::settings::{GroupSettings, Peer};
use crate::model::heartbeat::Failback;

const MS: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_millis(350);

fn peer(name: &str) -> Peer {
    Peer { name: name.to_owned(), key: Key::of(name) }
}

/// The director of this name out of a pair with one group.
fn director(me: &str, other: &str, preference: u16, now: Moment) -> Node {
    let group =
        GroupSettings { name: "web".to_owned(), key: Key::of("web"), preference, failback: Failback::Never };
    let settings = Settings {
        me: peer(me),
        peers: vec![peer(other)],
        interval: 100 * MS,
        dead_after: WAIT,
        initial_wait: WAIT,
        settle: Duration::ZERO,
        votes: 1,
        balance: None,
        witnesses: false,
        groups: vec![group],
    };
    let mut node = Node::new(settings, now);
    node.know(&facts(None));
    node
}

fn facts(unable: Option<&str>) -> Facts {
    let group = GroupFacts { unable: unable.map(str::to_owned), ..GroupFacts::default() };
    Facts { witnesses: 0, groups: vec![("web".to_owned(), group)] }
}

/// An interval in which each hears the other, if the cable is there.
fn pass(pair: &mut [Node; 2], now: Moment, cable: bool) {
    if cable {
        for (one, other) in [(0, 1), (1, 0)] {
            let (key, beat) = (pair[one].settings.me.key, pair[one].beat(now));
            pair[other].hear(now, key, 1, beat, true, Some(now));
        }
    }
    pair.iter_mut().for_each(|node| drop(node.turn(now)));
}

#[test]
fn a_cable_that_is_plugged_in_again_has_time_to_bring_the_first_message() {
    let start = Moment::from_start(Duration::from_secs(1000));
    let mut pair = [director("lb1", "lb2", 200, start), director("lb2", "lb1", 100, start)];
    let roles = |pair: &[Node; 2]| [pair[0].groups[0].role, pair[1].groups[0].role];
    let mut now = start;
    let mut run = |pair: &mut [Node; 2], for_: Duration, cable: bool| {
        let end = now + for_;
        while now < end {
            now = now + 100 * MS;
            pass(pair, now, cable);
        }
    };
    run(&mut pair, 1_000 * MS, true);
    assert_eq!(roles(&pair), [Role::Active, Role::Standby]);
    // Its cable is pulled: what it heard last is that lb2 may hold the group.
    pair[0].know(&facts(Some("the link eth0 is down")));
    run(&mut pair, 1_000 * MS, false);
    assert_eq!(roles(&pair), [Role::Standby, Role::Active]);
    // The carrier is back, and for another second no message comes through.
    pair[0].know(&facts(None));
    run(&mut pair, 1_000 * MS + WAIT - 100 * MS, false);
    assert_eq!(roles(&pair), [Role::Standby, Role::Active], "it did not wait");
    run(&mut pair, 1_000 * MS, true);
    assert_eq!(roles(&pair), [Role::Standby, Role::Active]);
    // It was heard: nothing is waited for any more.
    pair[0].know(&facts(Some("the link eth0 is down")));
    run(&mut pair, 300 * MS, true);
    pair[0].know(&facts(None));
    run(&mut pair, 200 * MS, true);
    run(&mut pair, WAIT + 100 * MS, false);
    assert_eq!(roles(&pair)[0], Role::Active, "it waits for whom it has heard");
    run(&mut pair, 500 * MS, true);
    // Where nobody is there, it waits no longer than that.
    pair[0].know(&facts(Some("the link eth0 is down")));
    run(&mut pair, 1_000 * MS, true);
    pair[0].know(&facts(None));
    run(&mut pair, 1_000 * MS + WAIT + 200 * MS, false);
    assert_eq!(roles(&pair)[0], Role::Active);
}

#[test]
fn who_slept_and_reaches_no_witness_takes_nothing_while_another_one_may_hold_it() {
    let start = Moment::from_start(Duration::from_secs(1000));
    let mut pair = [director("lb1", "lb2", 200, start), director("lb2", "lb1", 100, start)];
    pair.iter_mut().for_each(|node| node.settings.witnesses = true);
    let seen = |witnesses| Facts { witnesses, ..facts(None) };
    pair.iter_mut().for_each(|node| node.know(&seen(1)));
    let now = (1..=10).fold(start, |now, _| {
        pass(&mut pair, now + 100 * MS, true);
        now + 100 * MS
    });
    assert_eq!(pair[0].groups[0].role, Role::Active);
    // It sleeps, and wakes without any network.
    let woken = now + Duration::from_secs(5);
    drop(pair[0].wake(woken, Duration::from_secs(5)));
    pair[0].know(&seen(0));
    (1..=50).for_each(|i| drop(pair[0].turn(woken + i * 100 * MS)));
    assert_eq!(pair[0].groups[0].role, Role::Standby);
}

#[test]
fn an_end_waits_for_one_that_may_take_over_in_a_moment() {
    let start = Moment::from_start(Duration::from_secs(1000));
    let mut pair = [director("lb1", "lb2", 200, start), director("lb2", "lb1", 100, start)];
    let mut now = start;
    let mut run = |pair: &mut [Node; 2]| {
        for _ in 0..10 {
            now = now + 100 * MS;
            pass(pair, now, true);
        }
        now
    };
    pair[1].know(&facts(Some("a command fails")));
    let now = run(&mut pair);
    pair[0].leave();
    assert!(pair[0].groups[0].role == Role::Active && !pair[0].may_end(now), "lb2 lives");
    // What an operator holds back takes nothing: that is not waited for.
    pair[1].hold(now, true).unwrap();
    let now = run(&mut pair);
    assert!(pair[0].may_end(now));
    pair[1].hold(now, false).unwrap();
    pair[1].know(&facts(None));
    let now = run(&mut pair);
    assert!(pair[0].may_end(now));
    assert_eq!(pair.each_ref().map(|node| node.groups[0].role), [Role::Standby, Role::Active]);
}
