//! Directors that talk, with links that lose and attackers that replay.

use proptest::prelude::*;

use super::*;
use crate::heartbeat::message::Beat;

const DEAD_AFTER: Duration = Duration::from_millis(350);

fn at(millis: u64) -> Moment {
    Moment::from_start(Duration::from_secs(1000) + Duration::from_millis(millis))
}

/// A director that sends a beat by each of its links.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    incarnation: u64,
    sessions: Sessions,
    links: usize,
}

impl Node {
    fn start(name: &str, incarnation: u64, others: &[&str], links: usize) -> Node {
        let others: Vec<String> = others.iter().map(|&other| other.to_owned()).collect();
        let sessions = Sessions::new(name, incarnation, &others, links, DEAD_AFTER);
        Node { name: name.to_owned(), incarnation, sessions, links }
    }

    /// The copies of its next beat, one a link.
    fn beats(&mut self, now: Moment) -> Vec<Message> {
        let sequence = self.sessions.next(now);
        let copy = |link| {
            let (acks, echoes) = (self.sessions.acks(now), self.sessions.echoes(now, link));
            let body = Body::Beat(Beat { acks, echoes, ..Beat::default() });
            Message { from: self.name.clone(), incarnation: self.incarnation, sequence, body }
        };
        (0..self.links).map(copy).collect()
    }

    /// Its next beat, as by link 0.
    fn beat(&mut self, now: Moment) -> Message {
        self.beats(now).remove(0)
    }

    fn hear(&mut self, now: Moment, message: &Message) -> Result<Accepted, Refused> {
        self.sessions.accept(now, 0, message)
    }

    /// Which run and number of another one it acknowledges.
    fn lists(&self, now: Moment, name: &str) -> Option<(u64, u64)> {
        let acks = self.sessions.acks(now);
        acks.iter().find(|ack| ack.node == Key::of(name)).map(|ack| (ack.incarnation, ack.sequence))
    }
}

/// Two directors that have confirmed each other at `at(30)`; a's run is 100, b's 200, and each has sent two messages.
fn confirmed_pair(links: usize) -> (Node, Node) {
    let (mut a, mut b) = (Node::start("a", 100, &["b"], links), Node::start("b", 200, &["a"], links));
    for millis in [0, 20] {
        let beats = (a.beats(at(millis)), b.beats(at(millis + 5)));
        for link in 0..links {
            let _ = b.sessions.accept(at(millis + 10), link, &beats.0[link]);
            let _ = a.sessions.accept(at(millis + 10), link, &beats.1[link]);
        }
    }
    let beats = (a.beats(at(30)), b.beats(at(30)));
    for link in 0..links {
        let outcome = if link == 0 { Accepted::New } else { Accepted::Copy };
        assert_eq!(b.sessions.accept(at(30), link, &beats.0[link]), Ok(outcome));
        assert_eq!(a.sessions.accept(at(30), link, &beats.1[link]), Ok(outcome));
    }
    (a, b)
}

/// A beat of b's run 200 that says nothing.
fn bare(sequence: u64) -> Message {
    Message { from: "b".to_owned(), incarnation: 200, sequence, body: Body::Beat(Beat::default()) }
}

/// A beat of a run of b that acknowledges this message of a run of a.
fn acking(run: u64, sequence: u64, incarnation: u64, acked: u64) -> Message {
    let acks = vec![Ack { node: Key::of("a"), incarnation, sequence: acked }];
    let body = Body::Beat(Beat { acks, ..Beat::default() });
    Message { from: "b".to_owned(), incarnation: run, sequence, body }
}

#[test]
fn two_that_start_at_once_confirm_each_other() {
    let (mut a, mut b) = (Node::start("a", 100, &["b"], 1), Node::start("b", 200, &["a"], 1));
    let (a1, b1) = (a.beat(at(0)), b.beat(at(0)));
    assert_eq!(a.hear(at(1), &b1), Ok(Accepted::Unconfirmed));
    assert_eq!(b.hear(at(1), &a1), Ok(Accepted::Unconfirmed));
    assert_eq!((a.lists(at(2), "b"), a.sessions.hears_me(Key::of("b"), at(2))), (Some((200, 1)), false));
    let (a2, b2) = (a.beat(at(100)), b.beat(at(100)));
    assert_eq!(a.hear(at(101), &b2), Ok(Accepted::New));
    assert_eq!(b.hear(at(101), &a2), Ok(Accepted::New));
    assert!(a.sessions.hears_me(Key::of("b"), at(102)) && b.sessions.hears_me(Key::of("a"), at(102)));
    assert_eq!(a.sessions.acked(Key::of("b")), Some(at(0)));
    assert_eq!(a.sessions.counted().total.get("unconfirmed"), 1);
}

#[test]
fn one_that_starts_second_is_confirmed_in_two_exchanges() {
    let (mut a, mut b) = (Node::start("a", 100, &["b"], 1), Node::start("b", 200, &["a"], 1));
    let b1 = b.beat(at(0));
    assert_eq!(a.hear(at(1), &b1), Ok(Accepted::Unconfirmed));
    let a1 = a.beat(at(50));
    assert_eq!(b.hear(at(51), &a1), Ok(Accepted::New), "it acknowledges b's run");
    let b2 = b.beat(at(100));
    assert_eq!(a.hear(at(101), &b2), Ok(Accepted::New));
}

#[test]
fn only_an_acknowledgement_of_this_run_confirms() {
    let cases = [
        (acking(200, 1, 99, 1), Accepted::Unconfirmed, "of another run"),
        (acking(200, 1, 100, 0), Accepted::Unconfirmed, "of no message"),
        (acking(200, 1, 100, 4), Accepted::Unconfirmed, "of one that was not sent"),
        (bare(1), Accepted::Unconfirmed, "none"),
        (acking(200, 1, 100, 1), Accepted::New, "of the first one"),
        (acking(200, 1, 100, 3), Accepted::New, "of the last one"),
    ];
    for (message, outcome, what) in cases {
        let mut a = Node::start("a", 100, &["b"], 1);
        for millis in 0..3 {
            a.beat(at(millis));
        }
        assert_eq!(a.hear(at(10), &message), Ok(outcome), "{what}");
    }
    let mut a = Node::start("a", 100, &["b"], 1);
    a.beat(at(0));
    let neighbours = Message { body: Body::Neighbours(Vec::new()), ..bare(1) };
    assert_eq!(a.hear(at(1), &neighbours), Ok(Accepted::Unconfirmed));
    assert_eq!(a.hear(at(1), &acking(200, 2, 100, 1)), Ok(Accepted::New));
    let neighbours = Message { body: Body::Neighbours(Vec::new()), ..bare(3) };
    assert_eq!(a.hear(at(2), &neighbours), Ok(Accepted::New));
    assert!(a.sessions.hears_me(Key::of("b"), at(2)), "neighbours do not say whom b hears");
}

#[test]
fn what_was_recorded_is_not_acted_upon_after_a_restart() {
    let (mut a, mut b) = confirmed_pair(1);
    let mut recorded = Vec::new();
    for tick in 1..=20 {
        let now = at(30 + tick * 100);
        let (from_a, from_b) = (a.beat(now), b.beat(now));
        let _ = b.hear(now, &from_a);
        assert_eq!(a.hear(now, &from_b), Ok(Accepted::New));
        recorded.push(from_b);
    }
    // b is dead and a has restarted: all that ever comes is old.
    let mut a = Node::start("a", 101, &["b"], 1);
    for (tick, message) in (0..).zip(&recorded) {
        let now = at(5000 + tick * 100);
        a.beat(now);
        assert_eq!(a.hear(now, message), Ok(Accepted::Unconfirmed));
        assert!(!a.sessions.hears_me(Key::of("b"), now) && a.sessions.acked(Key::of("b")).is_none());
        assert_eq!(a.sessions.heard(Key::of("b")), None);
    }
    // The same once more does not even keep b in the acknowledgements.
    for (tick, message) in (0..).zip(&recorded) {
        let now = at(8000 + tick * 100);
        assert_eq!(a.hear(now, message), Ok(Accepted::Unconfirmed));
        assert_eq!(a.lists(now, "b"), None);
    }
    // b starts again, while the recorded messages still come.
    let mut b = Node::start("b", 201, &["a"], 1);
    let mut taken = Vec::new();
    for (tick, message) in (0..4).zip(&recorded) {
        let now = at(11_000 + tick * 100);
        let (from_a, from_b) = (a.beat(now), b.beat(now));
        let _ = b.hear(now, &from_a);
        taken.push((a.hear(now, &from_b), a.hear(now, message)));
        assert_eq!(a.lists(now, "b"), Some((201, tick + 1)), "the old run displaces nothing");
    }
    let old = Err(Refused::OldRun);
    assert_eq!(taken[0], (Ok(Accepted::Unconfirmed), Ok(Accepted::Unconfirmed)));
    assert_eq!(taken[1..], [(Ok(Accepted::New), old); 3]);
}

#[test]
fn both_restart_at_once() {
    let (mut a, mut b) = confirmed_pair(1);
    let old = [a.beat(at(100)), b.beat(at(100))];
    let (mut a, mut b) = (Node::start("a", 101, &["b"], 1), Node::start("b", 201, &["a"], 1));
    // What was under way comes late.
    assert_eq!(a.hear(at(110), &old[1]), Ok(Accepted::Unconfirmed));
    assert_eq!(b.hear(at(110), &old[0]), Ok(Accepted::Unconfirmed));
    let (a1, b1) = (a.beat(at(120)), b.beat(at(120)));
    assert_eq!(a.hear(at(121), &b1), Ok(Accepted::Unconfirmed));
    assert_eq!(b.hear(at(121), &a1), Ok(Accepted::Unconfirmed));
    assert_eq!((a.lists(at(122), "b"), b.lists(at(122), "a")), (Some((201, 1)), Some((101, 1))));
    let (a2, b2) = (a.beat(at(220)), b.beat(at(220)));
    assert_eq!((a.hear(at(221), &b2), b.hear(at(221), &a2)), (Ok(Accepted::New), Ok(Accepted::New)));
    assert_eq!(a.hear(at(222), &old[1]), Err(Refused::OldRun));
}

#[test]
fn a_restart_is_noticed_while_the_old_run_counts_as_alive() {
    let (mut a, _) = confirmed_pair(1);
    let mut b = Node::start("b", 201, &["a"], 1);
    let b1 = b.beat(at(40));
    assert_eq!(a.hear(at(41), &b1), Ok(Accepted::Unconfirmed));
    assert_eq!(a.lists(at(42), "b"), Some((200, 3)), "the confirmed run stays named");
    let a1 = a.beat(at(60));
    assert_eq!(b.hear(at(61), &a1), Ok(Accepted::Unconfirmed), "it acknowledges b's old run");
    let b2 = b.beat(at(140));
    assert_eq!(a.hear(at(141), &b2), Ok(Accepted::New));
    assert_eq!(a.lists(at(142), "b"), Some((201, 2)), "the old run is gone");
    let a2 = a.beat(at(160));
    assert_eq!(b.hear(at(161), &a2), Ok(Accepted::New));
    assert_eq!(a.hear(at(162), &bare(4)), Err(Refused::OldRun));
    assert_eq!(a.sessions.acked(Key::of("b")), Some(at(60)), "what the new run acknowledged");
}

#[test]
fn a_run_that_was_long_silent_gives_way_in_the_acknowledgements() {
    let (mut a, _) = confirmed_pair(1);
    let mut b = Node::start("b", 201, &["a"], 1);
    let b1 = b.beat(at(1000));
    assert_eq!(a.lists(at(1000), "b"), None);
    assert_eq!(a.hear(at(1001), &b1), Ok(Accepted::Unconfirmed));
    assert_eq!(a.lists(at(1002), "b"), Some((201, 1)));
    assert!(a.sessions.echoes(at(1002), 0).is_empty(), "an echo is of the confirmed run");
}

#[test]
fn a_partition_that_heals_needs_no_confirmation() {
    let (mut a, mut b) = confirmed_pair(1);
    assert!(a.sessions.hears_me(Key::of("b"), at(379)) && !a.sessions.hears_me(Key::of("b"), at(380)));
    let message = b.beat(at(60_000));
    assert_eq!(a.hear(at(60_001), &message), Ok(Accepted::New));
    assert!(!a.sessions.hears_me(Key::of("b"), at(60_001)), "it did not hear us for long");
}

#[test]
fn a_lower_unconfirmed_run_waits_until_the_higher_one_is_silent() {
    let mut a = Node::start("a", 100, &["b"], 1);
    let of = |incarnation, sequence| Message { incarnation, ..bare(sequence) };
    a.hear(at(0), &of(300, 5)).unwrap();
    a.hear(at(100), &of(200, 1)).unwrap();
    assert_eq!(a.lists(at(100), "b"), Some((300, 5)));
    a.hear(at(200), &of(300, 5)).unwrap();
    a.hear(at(350), &of(200, 2)).unwrap();
    assert_eq!(a.lists(at(350), "b"), Some((200, 2)), "the higher one only came again");
    // Whichever acknowledges us is the one.
    a.beat(at(400));
    assert_eq!(a.hear(at(410), &of(300, 6)), Ok(Accepted::Unconfirmed));
    assert_eq!(a.hear(at(420), &acking(200, 3, 100, 1)), Ok(Accepted::New));
    assert_eq!(a.lists(at(420), "b"), Some((200, 3)));
}

#[test]
fn an_earlier_run_does_not_come_back_after_a_clock_went_back() {
    let (mut a, mut b) = confirmed_pair(1);
    let recorded = b.beat(at(40));
    assert_eq!(b.lists(at(40), "a").map(|(run, _)| run), Some(100), "it acknowledges the present run of a");
    // b restarts with its clock set back, and is believed when the run before has fallen silent.
    let mut b = Node::start("b", 150, &["a"], 1);
    let _ = b.hear(at(1000), &a.beat(at(1000)));
    for millis in [1001, 1101] {
        let _ = a.hear(at(millis), &b.beat(at(millis)));
        let _ = b.hear(at(millis + 1), &a.beat(at(millis + 1)));
    }
    assert_eq!(a.hear(at(1201), &b.beat(at(1201))), Ok(Accepted::New));
    assert_eq!(a.hear(at(1202), &recorded), Ok(Accepted::Unconfirmed));
    assert_eq!(a.hear(at(1203), &b.beat(at(1203))), Ok(Accepted::New));
}

#[test]
fn each_number_counts_once() {
    use Accepted::{Copy, Late, New};
    let replayed = Err(Refused::Replayed);
    // By which link, which number, and what becomes of it, one after another.
    let cases = [
        (0, 10, Ok(New)),
        (0, 10, replayed),
        (1, 10, Ok(Copy)),
        (1, 10, replayed),
        (1, 12, Ok(New)),
        (0, 12, Ok(Copy)),
        (0, 11, Ok(Late)),
        (1, 11, Ok(Copy)),
        (1, 11, replayed),
        (0, 9, Ok(Late)),
        (0, 100, Ok(New)),
        (0, 36, Ok(Late)),
        (0, 36, replayed),
        (0, 35, replayed),
        (1, 35, Ok(Late)),
        (0, 1_000_000, Ok(New)),
        (1, 500, Ok(Late)),
        (0, 500, replayed),
        (1, u64::MAX, Ok(New)),
        (1, 1_000_000, replayed),
        (0, u64::MAX, Ok(Copy)),
        (0, 0, replayed),
    ];
    let (mut a, _) = confirmed_pair(2);
    for (case, (link, number, outcome)) in cases.into_iter().enumerate() {
        assert_eq!(
            a.sessions.accept(at(40), link, &bare(number)),
            outcome,
            "case {case}: {number} by {link}"
        );
    }
    assert_eq!(a.lists(at(40), "b"), Some((200, u64::MAX)));
    assert_eq!(a.sessions.counted().links[0].get("replayed"), 5);
    assert_eq!(a.sessions.counted().links[1].get("replayed"), 3);
    assert_eq!(a.sessions.counted().total.get("replayed"), 8);
}

#[test]
fn only_what_is_acted_upon_keeps_a_peer_alive() {
    let (mut a, mut b) = confirmed_pair(2);
    let message = b.beat(at(100));
    assert_eq!(a.sessions.accept(at(100), 0, &message), Ok(Accepted::New));
    let late = a.sessions.accept(at(400), 1, &message);
    assert_eq!(late, Ok(Accepted::Copy));
    assert_eq!(a.sessions.heard(Key::of("b")), Some(at(100)));
    assert_eq!(a.lists(at(449), "b"), Some((200, 4)));
    assert_eq!(a.lists(at(450), "b"), None);
    assert_eq!(a.sessions.link(Key::of("b"), 1).heard, Some(at(400)));
}

#[test]
fn who_may_not_speak_is_refused_and_counted() {
    let (mut a, mut b) = confirmed_pair(2);
    let own = a.beat(at(40));
    assert_eq!(a.hear(at(40), &own), Err(Refused::Own));
    assert_eq!(a.hear(at(40), &Message { incarnation: 99, ..own.clone() }), Err(Refused::SameName));
    assert_eq!(a.hear(at(40), &Message { incarnation: 101, ..own }), Err(Refused::SameName));
    assert_eq!(a.hear(at(40), &Message { from: "c".to_owned(), ..bare(1) }), Err(Refused::Stranger));
    assert_eq!(a.sessions.accept(at(40), 2, &b.beat(at(40))), Err(Refused::NoLink));
    a.sessions.bad(1, &Bad::NotOurs);
    a.sessions.bad(1, &Bad::WrongKey(1));
    a.sessions.bad(1, &Bad::UnknownKey(2));
    a.sessions.bad(9, &Bad::Version(2));
    let total: Vec<_> = a.sessions.counted().total.iter().collect();
    let expected = [
        ("garbage", 1),
        ("key", 2),
        ("no-link", 1),
        ("own", 1),
        ("same-name", 2),
        ("stranger", 1),
        ("unconfirmed", 2),
        ("version", 1),
    ];
    assert_eq!(total, expected);
    assert_eq!(a.sessions.counted().links[1].get("key"), 2);
    assert_eq!(a.sessions.counted().links[0].get("same-name"), 2);
}

#[test]
fn three_know_each_other_and_one_restarts() {
    let names = ["a", "b", "c"];
    let mut nodes: Vec<Node> =
        (100..).zip(names).map(|(run, name)| Node::start(name, run, &names, 1)).collect();
    let round = |nodes: &mut Vec<Node>, now: Moment| {
        let beats: Vec<Message> = nodes.iter_mut().map(|node| node.beat(now)).collect();
        for node in nodes {
            for beat in &beats {
                let own = beat.from == node.name;
                assert_eq!(node.hear(now, beat) == Err(Refused::Own), own);
            }
        }
    };
    for tick in 0..3 {
        round(&mut nodes, at(tick * 100));
    }
    let lists = |node: &Node, now| names.map(|name| node.lists(now, name));
    assert_eq!(lists(&nodes[0], at(200)), [None, Some((101, 3)), Some((102, 3))]);
    assert_eq!(lists(&nodes[2], at(200)), [Some((100, 3)), Some((101, 3)), None]);
    nodes[1] = Node::start("b", 201, &names, 1);
    round(&mut nodes, at(250));
    round(&mut nodes, at(350));
    round(&mut nodes, at(450));
    for (node, others) in [(0, ["b", "c"]), (1, ["a", "c"]), (2, ["a", "b"])] {
        for other in others {
            assert!(nodes[node].sessions.hears_me(Key::of(other), at(450)), "{other} hears {}", names[node]);
        }
    }
    assert_eq!(lists(&nodes[0], at(450)), [None, Some((201, 3)), Some((102, 6))]);
}

#[test]
fn what_was_acknowledged_is_known_with_when_it_was_sent() {
    let (mut a, _) = confirmed_pair(2);
    let b = Key::of("b");
    for tick in 4..=300 {
        assert_eq!(a.sessions.next(at(tick * 100)), tick);
    }
    let now = at(30_000);
    // By link and number: which message it acknowledges, and the newest one after that.
    let before = a.sessions.acked(b);
    assert_eq!(before, Some(at(20)));
    let cases = [
        (0, acking(200, 10, 100, 44), before, "too long ago to know"),
        (0, acking(200, 11, 100, 45), Some(at(4500)), "the oldest one that is known"),
        (0, acking(200, 12, 100, 290), Some(at(29_000)), "a later one"),
        (0, acking(200, 13, 100, 280), Some(at(29_000)), "an earlier one"),
        (0, acking(200, 14, 100, 301), Some(at(29_000)), "one that was never sent"),
        (0, acking(200, 15, 99, 295), Some(at(29_000)), "one of an earlier run"),
        (0, acking(200, 9, 100, 299), Some(at(29_000)), "in a message that is not acted upon: late"),
        (1, acking(200, 15, 100, 299), Some(at(29_000)), "in a message that is not acted upon: a copy"),
        (0, acking(200, 16, 100, 300), Some(at(30_000)), "the newest one"),
    ];
    for (link, message, acked, what) in cases {
        a.sessions.accept(now, link, &message).unwrap();
        assert_eq!(a.sessions.acked(b), acked, "{what}");
    }
    assert!(a.sessions.hears_me(b, now));
    a.hear(now, &acking(200, 17, 100, 301)).unwrap();
    assert!(!a.sessions.hears_me(b, now), "it acknowledges what was never sent");
    assert_eq!(a.sessions.acked(Key::of("nobody")), None);
}

#[test]
fn loss_is_that_of_the_last_hundred() {
    let (mut a, _) = confirmed_pair(2);
    let stats = |a: &Node, link| a.sessions.link(Key::of("b"), link);
    // b's run began for a with its 2nd message. By link 0 each tenth is lost, by link 1 nothing comes after the 103rd.
    for number in 4..=203_u64 {
        if number % 10 != 0 {
            a.sessions.accept(at(number * 100), 0, &bare(number)).unwrap();
        }
        if number <= 103 {
            a.sessions.accept(at(number * 100 + 1), 1, &bare(number)).unwrap();
        }
    }
    let link = stats(&a, 0);
    assert_eq!((link.received, link.lost, link.heard), (182, 20, Some(at(20_300))));
    assert!((link.loss - 0.1).abs() < 1e-9, "{link:?}");
    let link = stats(&a, 1);
    // Up to the 199th they are overdue.
    assert_eq!((link.received, link.lost, link.heard), (102, 96, Some(at(10_301))));
    assert!((link.loss - 0.96).abs() < 1e-9, "{link:?}");
    // A late one is not lost after all.
    a.sessions.accept(at(30_000), 0, &bare(200)).unwrap();
    assert_eq!(stats(&a, 0).lost, 19);
    // Another run: what was lost stays counted, the fraction is that of the new one.
    let _ = a.beat(at(30_001));
    a.sessions.accept(at(30_002), 1, &acking(300, 7, 100, 4)).unwrap();
    assert_eq!((stats(&a, 0).lost, stats(&a, 0).loss), (19, 0.0));
    assert_eq!((stats(&a, 1).lost, stats(&a, 1).loss, stats(&a, 1).received), (96, 0.0, 103));
}

#[test]
fn a_few_messages_lost_at_first_are_a_fraction_of_those() {
    let (mut a, _) = confirmed_pair(1);
    a.hear(at(40), &bare(5)).unwrap();
    let link = a.sessions.link(Key::of("b"), 0);
    // 2, 3 and 5 came.
    assert_eq!((link.received, link.lost), (3, 1));
    assert!((link.loss - 0.25).abs() < 1e-9, "{link:?}");
}

/// Sends beats to and fro, each every 100 ms, with these delays to and fro.
fn talk(delays: impl Iterator<Item = (u64, u64)>) -> LinkStats {
    let (mut a, mut b) = (Node::start("a", 100, &["b"], 1), Node::start("b", 200, &["a"], 1));
    for (tick, (to, fro)) in (0..).zip(delays) {
        let from_a = a.beat(at(tick * 100));
        b.hear(at(tick * 100 + to), &from_a).unwrap();
        let from_b = b.beat(at(tick * 100 + 50));
        a.hear(at(tick * 100 + 50 + fro), &from_b).unwrap();
    }
    a.sessions.link(Key::of("b"), 0)
}

#[test]
fn delay_is_half_of_there_and_back() {
    let link = talk(std::iter::repeat_n((3, 5), 20));
    assert_eq!((link.delay, link.jitter), (Some(Duration::from_millis(4)), Some(Duration::ZERO)));
    // The first message's echo comes after the others' confirmation.
    let link = talk([(3, 5), (3, 5), (3, 5), (13, 11)].into_iter());
    let (delay, jitter) = (link.delay.unwrap().as_micros(), link.jitter.unwrap().as_micros());
    assert_eq!(delay, (7 * 4000 + 12_000) / 8, "RFC 6298, 2.3");
    assert_eq!(jitter, 8000 / 16, "RFC 3550, 6.4.1");
}

#[test]
fn an_echo_that_cannot_be_is_no_measurement() {
    let echo = |number, echoed, waited| {
        let mut message = acking(200, number, 100, 1);
        let Body::Beat(beat) = &mut message.body else { unreachable!() };
        beat.echoes.push(Echo {
            node: Key::of("a"),
            sequence: echoed,
            waited: Duration::from_millis(waited),
        });
        message
    };
    let (mut a, _) = confirmed_pair(1);
    let before = a.sessions.link(Key::of("b"), 0);
    assert!(before.delay.is_some());
    a.beat(at(50));
    a.hear(at(60), &echo(10, 4, 11)).unwrap();
    a.hear(at(60), &echo(11, 5, 0)).unwrap();
    a.hear(at(60), &echo(12, 0, 0)).unwrap();
    a.hear(at(60), &echo(13, u64::MAX, 0)).unwrap();
    let mut of_another_run = echo(14, 4, 0);
    let Body::Beat(beat) = &mut of_another_run.body else { unreachable!() };
    beat.acks[0].incarnation = 99;
    a.hear(at(60), &of_another_run).unwrap();
    assert_eq!(a.sessions.link(Key::of("b"), 0).delay, before.delay);
    a.hear(at(60), &echo(15, 4, 6)).unwrap();
    let once = a.sessions.link(Key::of("b"), 0).delay;
    assert_ne!(once, before.delay);
    a.hear(at(90), &echo(16, 4, 6)).unwrap();
    assert_eq!(a.sessions.link(Key::of("b"), 0).delay, once, "the same one again");
}

#[test]
fn two_links_that_go_one_way_each_make_a_pair_without_a_delay() {
    let (mut a, mut b) = (Node::start("a", 100, &["b"], 2), Node::start("b", 200, &["a"], 2));
    for tick in 0..20 {
        let now = at(tick * 100);
        let (from_a, from_b) = (a.beats(now), b.beats(now));
        b.sessions.accept(now, 0, &from_a[0]).unwrap();
        a.sessions.accept(now, 1, &from_b[1]).unwrap();
    }
    let now = at(1900);
    assert!(a.sessions.hears_me(Key::of("b"), now) && b.sessions.hears_me(Key::of("a"), now));
    let [dead, live] = [0, 1].map(|link| a.sessions.link(Key::of("b"), link));
    assert_eq!((dead.heard, dead.received, dead.lost, dead.loss), (None, 0, 15, 1.0));
    assert_eq!((live.heard, live.received, live.lost, live.loss), (Some(now), 19, 0, 0.0));
    assert_eq!((dead.delay, live.delay), (None, None), "no echo comes back by the link it is of");
}

#[test]
fn another_configuration_keeps_who_stays() {
    let names = ["a", "b", "c"];
    let mut nodes: Vec<Node> =
        (100..).zip(names).map(|(run, name)| Node::start(name, run, &names, 1)).collect();
    for tick in 0..3 {
        let beats: Vec<Message> = nodes.iter_mut().map(|node| node.beat(at(tick * 100))).collect();
        for node in &mut nodes {
            for beat in &beats {
                let _ = node.hear(at(tick * 100), beat);
            }
        }
    }
    let mut b = nodes.remove(1);
    let mut a = nodes.remove(0);
    let peers = ["a", "b", "d", "d"].map(str::to_owned);
    a.sessions.reconfigure(&peers, 2, Duration::from_secs(1));
    assert_eq!(
        (a.lists(at(1199), "b"), a.lists(at(1200), "b")),
        (Some((101, 3)), None),
        "dead_after is another"
    );
    assert_eq!((a.lists(at(200), "c"), a.sessions.link(Key::of("b"), 0).received), (None, 2));
    let message = b.beat(at(300));
    assert_eq!(a.sessions.accept(at(300), 1, &message), Ok(Accepted::New));
    let link = a.sessions.link(Key::of("b"), 1);
    assert_eq!((link.received, link.lost), (1, 0), "what came before it was there is not lost");
    a.sessions.reconfigure(&peers, 1, DEAD_AFTER);
    assert_eq!(a.sessions.accept(at(300), 1, &message), Err(Refused::NoLink));
    assert_eq!(a.sessions.link(Key::of("b"), 1), LinkStats::default());
    a.sessions.reconfigure(&[], 1, DEAD_AFTER);
    assert_eq!(a.sessions.accept(at(300), 0, &message), Err(Refused::Stranger));
    assert_eq!(a.sessions.sequence, 3, "our own run goes on");
}

/// What happens in a random history of two directors.
#[derive(Clone, Debug)]
enum Event {
    /// One sends by both links, and each copy comes or does not.
    Send { a: bool, come: [bool; 2] },
    /// One starts anew.
    Restart { a: bool },
    /// Someone sends a recorded message by a link to its receiver.
    Replay { which: prop::sample::Index, link: usize },
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<(bool, [bool; 2])>().prop_map(|(a, come)| Event::Send { a, come }),
        1 => any::<bool>().prop_map(|a| Event::Restart { a }),
        6 => (any::<prop::sample::Index>(), 0..2_usize).prop_map(|(which, link)| Event::Replay { which, link }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever is recorded and sent again, and whoever restarts: what is acted upon was sent after the receiver started, is of
    /// the newest run acted upon, and has a higher number than all before. And when all that ends, two exchanges are enough.
    #[test]
    fn nothing_is_acted_upon_twice_or_after_a_restart(events in prop::collection::vec(any_event(), 1..120)) {
        let start = |name: usize, run| Node::start(["a", "b"][name], run, &[["b", "a"][name]], 2);
        let mut nodes = [start(0, 100), start(1, 100)];
        let mut started = [0, 0];
        // What each has acted upon since it started: the last incarnation and number.
        let mut acted = [(0, 0); 2];
        // Messages, by whom they are to be heard, and when they were sent.
        let mut recorded: Vec<(Message, usize, u64)> = Vec::new();
        let mut millis = 0;
        for event in events {
            millis += 40;
            let now = at(millis);
            let mut come: Vec<(Message, usize, u64, usize)> = Vec::new();
            match event {
                Event::Send { a, come: copies } => {
                    let from = usize::from(!a);
                    for (link, message) in (0..).zip(nodes[from].beats(now)) {
                        recorded.push((message.clone(), 1 - from, millis));
                        if copies[link] {
                            come.push((message, 1 - from, millis, link));
                        }
                    }
                }
                Event::Restart { a } => {
                    let which = usize::from(!a);
                    nodes[which] = start(which, nodes[which].incarnation + 1);
                    (started[which], acted[which]) = (millis, (0, 0));
                }
                Event::Replay { which, link } if !recorded.is_empty() => {
                    let (message, to, sent) = recorded[which.index(recorded.len())].clone();
                    come.push((message, to, sent, link));
                }
                Event::Replay { .. } => {}
            }
            for (message, to, sent, link) in come {
                if nodes[to].sessions.accept(now, link, &message) == Ok(Accepted::New) {
                    let number = (message.incarnation, message.sequence);
                    prop_assert!(sent > started[to], "sent at {} and acted upon after a start at {}", sent, started[to]);
                    prop_assert!(number > acted[to], "{:?} after {:?}", number, acted[to]);
                    acted[to] = number;
                }
            }
        }
        for _ in 0..2 {
            millis += 100;
            for from in [0, 1] {
                let message = nodes[from].beat(at(millis));
                let _ = nodes[1 - from].hear(at(millis), &message);
            }
        }
        for which in [0, 1] {
            let message = nodes[which].beat(at(millis + 10));
            prop_assert_eq!(nodes[1 - which].hear(at(millis + 10), &message), Ok(Accepted::New));
        }
    }
}
