use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::super::hop::{Action, Heard, HopKey, KernelNeighbour, Route};
use super::super::interfaces::Link;
use super::super::pace;
use super::super::table::*;
use super::super::wire::Mac;
use crate::pool::NextHop;

const ETH: u32 = 2;
const OURS: Mac = [2, 0, 0, 0, 0, 0xee];
const OLD: Mac = [2, 0, 0, 0, 0, 0xa];
const NEW: Mac = [2, 0, 0, 0, 0, 0xb];
const LINK: Link = Link { mac: Some(OURS), running: true, resolves: true };
const ROUND_TRIP: Duration = Duration::from_millis(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

fn key(n: u32) -> HopKey {
    HopKey { ifindex: ETH, address: address(n) }
}

fn direct(n: u32) -> Option<Route> {
    Some(Route { hop: key(n), preferred_source: None })
}

/// A link with neighbours, under a clock that jumps from one thing that happens to the next.
struct Lab {
    table: Table,
    start: Instant,
    now: Instant,
    /// Who answers for an address, the quickest first.
    owners: HashMap<HopKey, Vec<Mac>>,
    /// Replies under way.
    replies: BTreeMap<(Instant, usize), (HopKey, Mac)>,
    sent: Vec<(Instant, HopKey, Option<Mac>)>,
    others: Vec<Action>,
}

impl Lab {
    fn new() -> Self {
        let start = Instant::now();
        let mut table = Table::new(start);
        assert!(table.set_link(start, ETH, Some(LINK)));
        Self {
            table,
            start,
            now: start,
            owners: HashMap::new(),
            replies: BTreeMap::new(),
            sent: Vec::new(),
            others: Vec::new(),
        }
    }

    /// One with a next hop that has answered for a second.
    fn settled() -> Self {
        let mut lab = Self::new();
        lab.owners.insert(key(1), vec![OLD]);
        lab.want(1);
        lab.run(ms(1000));
        assert_eq!(lab.mac(1), Some(OLD));
        lab.sent.clear();
        lab
    }

    fn want(&mut self, n: u32) {
        self.table.set_route(self.now, address(n), direct(n));
    }

    fn mac(&self, n: u32) -> Option<Mac> {
        self.table.next_hops().get(&address(n)).map(|hop| hop.mac)
    }

    fn hear(&mut self, n: u32, mac: Mac) {
        self.table.heard(self.now, key(n), Heard { named: Some(mac), sender: mac });
        self.poll();
    }

    fn poll(&mut self) {
        for action in self.table.poll(self.now) {
            self.act(action);
        }
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
    }

    /// Lets things happen until `done`, at most until `end`; says whether it was done.
    fn run_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let reply = self.replies.first_key_value().map(|(&(at, _), _)| at);
            let next = [reply, self.table.due()].into_iter().flatten().min().unwrap_or(end);
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.replies.first_entry()
                && entry.key().0 <= self.now
            {
                let (key, mac) = entry.remove();
                self.table.heard(self.now, key, Heard { named: Some(mac), sender: mac });
            }
            self.poll();
            if self.now == end && self.table.due().is_none_or(|due| due > end) {
                return done(self);
            }
        }
    }

    fn act(&mut self, action: Action) {
        let Action::Probe { hop, to, .. } = action else {
            self.others.push(action);
            return;
        };
        self.sent.push((self.now, hop, to));
        let answering =
            self.owners.get(&hop).into_iter().flatten().filter(|mac| to.is_none_or(|to| to == **mac));
        for (order, mac) in answering.enumerate() {
            self.replies.insert((self.now + ROUND_TRIP, self.sent.len() * 8 + order), (hop, *mac));
        }
    }

    fn duplicates(&self) -> usize {
        self.others.iter().filter(|action| matches!(action, Action::Duplicate { .. })).count()
    }
}

#[test]
fn an_unknown_next_hop_is_asked_by_broadcast_and_published() {
    let mut lab = Lab::new();
    lab.owners.insert(key(1), vec![OLD]);
    lab.want(1);
    assert!(lab.table.next_hops().is_empty());
    lab.table.take_changed();
    lab.run(ms(10));
    assert_eq!(lab.sent, [(lab.start, key(1), None)]);
    assert!(lab.table.take_changed());
    let hop = NextHop { mac: OLD, source_mac: OURS, ifindex: ETH };
    assert_eq!(lab.table.next_hops(), HashMap::from([(address(1), hop)]));
}

#[test]
fn a_next_hop_that_answers_is_asked_by_unicast_every_interval() {
    let mut lab = Lab::settled();
    lab.run(ms(3000));
    assert_eq!(lab.sent.len(), 10);
    assert!(lab.sent.iter().all(|(_, hop, to)| (*hop, *to) == (key(1), Some(OLD))));
    for pair in lab.sent.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, pace::PROBE_INTERVAL);
    }
}

#[test]
fn a_silent_move_is_followed_within_two_intervals_and_the_kernel_told() {
    for offset in [0, 1, 150, 299] {
        let mut lab = Lab::settled();
        lab.run(ms(offset));
        lab.owners.insert(key(1), vec![NEW]);
        let moved = lab.now;
        assert!(lab.run_until(moved + ms(2000), |lab| lab.mac(1) == Some(NEW)));
        assert!(lab.now - moved <= ms(602), "took {:?}", lab.now - moved);
        lab.run(ms(1));
        assert_eq!(lab.others, [Action::Teach { hop: key(1), mac: NEW }]);
    }
}

#[test]
fn an_announced_move_is_followed_once_the_old_mac_had_its_chance() {
    let mut lab = Lab::settled();
    lab.owners.insert(key(1), vec![NEW]);
    lab.hear(1, NEW);
    assert_eq!(lab.mac(1), Some(OLD));
    let moved = lab.now;
    assert!(lab.run_until(moved + ms(1000), |lab| lab.mac(1) == Some(NEW)));
    assert_eq!(lab.now - moved, CHALLENGE);
    assert_eq!(
        lab.sent.last().map(|(_, hop, to)| (*hop, *to)),
        Some((key(1), Some(OLD))),
        "the old one was asked"
    );
    lab.run(ms(1000));
    assert_eq!(lab.duplicates(), 0);
}

#[test]
fn two_owners_of_an_address_do_not_take_turns() {
    let mut lab = Lab::settled();
    lab.owners.insert(key(1), vec![NEW, OLD]);
    for _ in 0..2000 {
        lab.hear(1, NEW);
        lab.run(ms(5));
        assert_eq!(lab.mac(1), Some(OLD));
    }
    assert_eq!(lab.others, [Action::Duplicate { hop: key(1), current: OLD, other: NEW }], "said once");
    // One probe an interval, and one for claims.
    assert!(lab.sent.len() <= 70, "{} probes in 10 s", lab.sent.len());
}

#[test]
fn of_two_owners_the_other_takes_over_when_the_one_in_force_falls_silent() {
    let mut lab = Lab::settled();
    lab.owners.insert(key(1), vec![NEW, OLD]);
    lab.hear(1, NEW);
    lab.run(ms(1000));
    assert_eq!((lab.mac(1), lab.duplicates()), (Some(OLD), 1));
    lab.owners.insert(key(1), vec![NEW]);
    let silent = lab.now;
    assert!(lab.run_until(silent + ms(2000), |lab| lab.mac(1) == Some(NEW)));
    assert!(lab.now - silent <= ms(702), "took {:?}", lab.now - silent);
    // Contested, it now stays with the new one, though a broadcast would find both.
    lab.owners.insert(key(1), vec![OLD, NEW]);
    for _ in 0..200 {
        lab.hear(1, OLD);
        lab.run(ms(5));
        assert_eq!(lab.mac(1), Some(NEW));
    }
    assert_eq!(lab.duplicates(), 1);
}

#[test]
fn silence_takes_no_mac_away_and_is_asked_ever_less() {
    let mut lab = Lab::settled();
    lab.owners.clear();
    lab.table.take_changed();
    lab.run(Duration::from_secs(600));
    assert_eq!(lab.mac(1), Some(OLD));
    assert!(!lab.table.take_changed());
    assert!((600..=604).contains(&lab.sent.len()), "{} probes", lab.sent.len());
    lab.owners.insert(key(1), vec![NEW]);
    let back = lab.now;
    assert!(lab.run_until(back + ms(1002), |lab| lab.mac(1) == Some(NEW)), "followed within a second");
}

#[test]
fn an_answer_without_a_mac_confirms_only_its_sender() {
    let mut lab = Lab::settled();
    lab.owners.clear();
    lab.run(ms(310));
    lab.table.heard(lab.now, key(1), Heard { named: None, sender: NEW });
    lab.run(ms(300));
    assert_eq!(lab.sent.last().map(|sent| sent.2), Some(None), "still missed: asked by broadcast");
    lab.table.heard(lab.now, key(1), Heard { named: None, sender: NEW });
    assert_eq!(lab.mac(1), Some(OLD));
    lab.table.heard(lab.now, key(1), Heard { named: None, sender: OLD });
    lab.run(ms(300));
    assert_eq!(lab.sent.last().map(|sent| sent.2), Some(Some(OLD)), "asked by unicast again");
}

#[test]
fn impossible_claims_are_ignored() {
    let mut lab = Lab::new();
    lab.want(1);
    for mac in [OURS, [0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        lab.hear(1, mac);
        assert_eq!(lab.mac(1), None, "{mac:?}");
    }
    lab.hear(7, OLD);
    assert!(lab.table.next_hops().is_empty());
}

#[test]
fn a_learned_entry_of_the_kernel_fills_a_gap_and_is_checked() {
    let mut lab = Lab::new();
    let learned = |mac| Some(KernelNeighbour { mac, fixed: false });
    lab.table.kernel_neighbour(lab.now, key(1), learned(OLD));
    lab.want(1);
    lab.want(2);
    assert_eq!(lab.mac(1), Some(OLD));
    lab.table.kernel_neighbour(lab.now, key(2), learned(OLD));
    assert_eq!(lab.mac(2), Some(OLD));
    // The kernel's word against one that answers: no change, but a question.
    lab.owners.insert(key(1), vec![OLD]);
    lab.owners.insert(key(2), vec![NEW]);
    lab.run(ms(1000));
    assert_eq!((lab.mac(1), lab.mac(2)), (Some(OLD), Some(NEW)));
    lab.sent.clear();
    assert!(lab.run_until(lab.now + ms(500), |lab| lab.sent.iter().any(|(_, hop, _)| *hop == key(1))));
    lab.run(ROUND_TRIP * 2);
    lab.sent.clear();
    lab.table.kernel_neighbour(lab.now, key(1), learned(NEW));
    assert!(lab.run_until(lab.now + CHALLENGE, |lab| lab.sent.iter().any(|(_, hop, _)| *hop == key(1))));
    lab.run(ms(1000));
    assert_eq!((lab.mac(1), lab.duplicates()), (Some(OLD), 0));
    lab.table.kernel_neighbour(lab.now, key(1), None);
    assert_eq!(lab.mac(1), Some(OLD), "its end changes nothing");
}

#[test]
fn a_fixed_entry_of_the_kernel_rules_and_is_not_probed() {
    let mut lab = Lab::settled();
    lab.table.kernel_neighbour(lab.now, key(1), Some(KernelNeighbour { mac: NEW, fixed: true }));
    assert!(lab.table.take_changed());
    assert_eq!(lab.mac(1), Some(NEW));
    lab.hear(1, OLD);
    lab.sent.clear();
    lab.run(ms(5000));
    assert_eq!((lab.mac(1), lab.sent.len()), (Some(NEW), 0));
    lab.table.kernel_neighbours(lab.now, &HashMap::new());
    lab.run(ms(1000));
    assert_eq!(lab.mac(1), Some(OLD), "found again by asking");
}

#[test]
fn a_gateway_serves_all_behind_it() {
    let mut lab = Lab::new();
    lab.owners.insert(key(1), vec![OLD]);
    for n in [100, 101] {
        lab.table.set_route(lab.now, address(n), direct(1));
    }
    lab.run(ms(250));
    assert_eq!((lab.mac(100), lab.mac(101)), (Some(OLD), Some(OLD)));
    assert_eq!(lab.sent.len(), 1, "it is asked once");
    lab.table.forget(address(100));
    lab.run(ms(1000));
    assert_eq!((lab.mac(100), lab.mac(101)), (None, Some(OLD)));
    lab.table.set_route(lab.now, address(101), None);
    assert_eq!(lab.mac(101), None);
    assert_eq!(lab.table.due(), None, "no one is left to ask");
}

#[test]
fn next_hops_vanish_with_the_route_and_the_link_and_return() {
    let mut lab = Lab::settled();
    lab.table.take_changed();
    lab.table.set_link(lab.now, ETH, Some(Link { running: false, ..LINK }));
    assert!(lab.table.take_changed());
    assert_eq!(lab.mac(1), None);
    lab.sent.clear();
    lab.run(ms(5000));
    assert!(lab.sent.is_empty(), "nothing is asked on a dead link");
    lab.table.set_link(lab.now, ETH, Some(LINK));
    assert_eq!(lab.mac(1), Some(OLD), "at once");
    lab.table.set_route(lab.now, address(1), None);
    assert_eq!(lab.mac(1), None);
    lab.want(1);
    lab.run(ms(2));
    assert_eq!(lab.mac(1), Some(OLD));
    let mac = [2, 0, 0, 0, 0, 0xef];
    lab.table.set_link(lab.now, ETH, Some(Link { mac: Some(mac), ..LINK }));
    assert_eq!(lab.table.next_hops()[&address(1)].source_mac, mac);
}

#[test]
fn a_link_that_comes_up_is_asked_on_at_once() {
    let mut lab = Lab::new();
    lab.table.set_link(lab.now, ETH, Some(Link { running: false, ..LINK }));
    lab.owners.insert(key(1), vec![OLD]);
    lab.want(1);
    lab.run(ms(1500));
    lab.table.set_link(lab.now, ETH, Some(LINK));
    lab.run(ms(1));
    assert_eq!(lab.mac(1), Some(OLD));
}

/// No stretch of time holds more probes than the bucket gives.
fn assert_bounded(lab: &Lab) {
    let mut oldest = 0;
    for (count, (at, ..)) in lab.sent.iter().enumerate() {
        while *at - lab.sent[oldest].0 > Duration::from_secs(1) {
            oldest += 1;
        }
        let sent = count + 1 - oldest;
        let most = (pace::MAX_PROBES_PER_SECOND + pace::BURST) as usize;
        assert!(sent <= most, "{sent} probes in a second, {:?} after the start", *at - lab.start);
    }
}

#[test]
fn ten_thousand_next_hops_stay_within_the_rate_answering_or_not() {
    const HOPS: u32 = 10_000;
    let mut lab = Lab::new();
    for n in 0..HOPS {
        lab.owners.insert(key(n), vec![OLD]);
        lab.want(n);
    }
    let all = |mac| {
        move |lab: &Lab| lab.table.next_hops().values().filter(|hop| hop.mac == mac).count() == HOPS as usize
    };
    lab.run(ms(5100));
    assert!(all(OLD)(&lab), "all are resolved in {:?}", lab.elapsed());
    lab.run(ms(20_000));
    assert!(lab.sent[20_000..].iter().all(|(_, _, to)| to.is_some()), "then none is missed");
    lab.owners.clear();
    lab.run(ms(20_000));
    for n in 0..HOPS {
        lab.owners.insert(key(n), vec![NEW]);
    }
    lab.run(ms(20_000));
    assert!(all(NEW)(&lab));
    assert_bounded(&lab);
}

#[test]
fn four_hundred_and_fifty_next_hops_are_all_followed_within_a_second() {
    let mut lab = Lab::new();
    for n in 0..450 {
        lab.owners.insert(key(n), vec![OLD]);
        lab.want(n);
    }
    lab.run(ms(3000));
    for n in 0..450 {
        lab.owners.insert(key(n), vec![NEW]);
    }
    lab.run(ms(900));
    assert!(lab.table.next_hops().values().all(|hop| hop.mac == NEW));
    assert_bounded(&lab);
}

#[test]
fn a_flood_of_claims_stays_within_the_rate() {
    let mut lab = Lab::new();
    for n in 0..2000 {
        lab.owners.insert(key(n), vec![OLD]);
        lab.want(n);
    }
    lab.run(ms(3000));
    for round in 0..50_u8 {
        for n in 0..2000 {
            lab.hear(n, [2, 0, 0, 0, 1, round]);
        }
        lab.run(ms(20));
    }
    assert!(lab.table.next_hops().values().all(|hop| hop.mac == OLD));
    assert_bounded(&lab);
}
