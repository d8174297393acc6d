//! Every way in which things can go wrong with few directors, one thing at a time and so many changes of it: not drawn, but all of
//! them. A state of a cluster has times and numbers in it that only grow, so hardly two are equal, and a search that remembers
//! states would find nothing to leave out. What is bounded instead is how often the fault changes, at the steps of a coarse clock.

use std::rc::Rc;
use std::time::Duration;

use director::heartbeat::machine::{Lease, Machine};
use director::heartbeat::message::{Message, Role};
use director::heartbeat::moment::Moment;
use director::heartbeat::settings::Settings;
use director::model::heartbeat::{Heartbeat, Quorum};

use crate::host::good_facts;
use crate::plan::Plan;
use crate::random::Random;

const INTERVAL: Duration = Duration::from_millis(100);
/// In intervals.
const DEAD_AFTER: u32 = 3;
/// Steps in which the fault may change.
const STEPS: u32 = 9;
/// Steps after which all must be well again.
const HEALS: u32 = 14;
/// How often messages are answered within a step.
const ROUNDS: usize = 3;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Nothing comes to this director, nor from it.
    Alone(usize),
    /// Nothing comes from the first one to the second one.
    Cut(usize, usize),
    /// This director does not run; messages wait.
    Paused(usize),
    /// This director is dead; when that ends, a new run of it begins.
    Dead(usize),
}

impl Wrong {
    fn lets_through(self, from: usize, to: usize) -> bool {
        match self {
            Wrong::Nothing | Wrong::Paused(_) => true,
            Wrong::Alone(i) | Wrong::Dead(i) => i != from && i != to,
            Wrong::Cut(a, b) => (a, b) != (from, to),
        }
    }
}

#[derive(Clone)]
struct Cluster {
    plan: Rc<Plan>,
    machines: Vec<Machine>,
    waiting: Vec<Vec<Rc<Message>>>,
    shown: Vec<(Role, Lease)>,
    wrong: Wrong,
    step: u32,
    runs: u64,
    story: Vec<(u32, Wrong)>,
}

impl Cluster {
    fn new(plan: Plan) -> Cluster {
        let count = plan.count();
        let mut cluster = Cluster {
            plan: Rc::new(plan),
            machines: Vec::new(),
            waiting: vec![Vec::new(); count],
            shown: vec![(Role::Standby, Lease::Never); count],
            wrong: Wrong::Nothing,
            step: 0,
            runs: 0,
            story: Vec::new(),
        };
        for i in 0..count {
            let machine = cluster.begin(i);
            cluster.machines.push(machine);
        }
        cluster
    }

    /// A new run of a director.
    fn begin(&mut self, i: usize) -> Machine {
        self.runs += 1;
        let heartbeat = &self.plan.heartbeat;
        let settings = Settings::new(heartbeat, &heartbeat.directors[i].name).expect("it is a director");
        let mut machine = Machine::new(settings, self.runs, 1, 1, self.own(i));
        machine.know(&good_facts(&self.plan, i));
        machine
    }

    /// What a director's clock says.
    fn own(&self, i: usize) -> Moment {
        let rate = (1_000_000 + self.plan.drift[i]) as u32;
        Moment::from_start(Duration::from_secs(1000) + INTERVAL * self.step * (rate / 1000) / 1000)
    }

    /// Lets an interval pass in which this is wrong.
    fn pass(&mut self, wrong: Wrong) {
        if self.wrong != wrong {
            if let Wrong::Dead(i) = self.wrong {
                self.waiting[i].clear();
                self.machines[i] = self.begin(i);
            }
            if let Wrong::Dead(i) = wrong {
                self.shown[i] = (Role::Standby, Lease::Never);
            }
            self.wrong = wrong;
            self.story.push((self.step, wrong));
        }
        self.step += 1;
        for round in 0..ROUNDS {
            for i in 0..self.machines.len() {
                let stands = self.wrong == Wrong::Paused(i) || self.wrong == Wrong::Dead(i);
                if !stands && (round == 0 || !self.waiting[i].is_empty()) {
                    self.turn(i);
                }
            }
        }
    }

    fn turn(&mut self, i: usize) {
        let own = self.own(i);
        let machine = &mut self.machines[i];
        machine.awake(own);
        for message in self.waiting[i].drain(..) {
            let _ = machine.receive(own, 0, &message);
        }
        for mut message in machine.turn(own).send {
            machine.for_link(own, 0, &mut message);
            let message = Rc::new(message);
            for to in 0..self.waiting.len() {
                if to != i && self.wrong.lets_through(i, to) {
                    self.waiting[to].push(Rc::clone(&message));
                }
            }
        }
        self.shown[i] = (machine.role(0).0, machine.lease(own, 0));
        self.safe();
    }

    /// With a quorum there are never two owners.
    fn safe(&self) {
        let holds = |i: &usize| match self.shown[*i] {
            (Role::Active, Lease::Until(end)) => end > self.own(*i),
            (Role::Active, Lease::Forever) => true,
            _ => false,
        };
        let owners = (0..self.machines.len()).filter(holds).count();
        assert!(
            owners <= 1 || !self.plan.majority(),
            "{owners} owners at step {} after {:?}",
            self.step,
            self.story
        );
    }

    /// Once nothing is wrong, there is one owner, and it stays.
    fn heals(mut self) {
        for _ in 0..HEALS {
            self.pass(Wrong::Nothing);
        }
        let roles =
            |cluster: &Cluster| cluster.machines.iter().map(|machine| machine.role(0).0).collect::<Vec<_>>();
        let before = roles(&self);
        let owners = before.iter().filter(|role| **role == Role::Active).count();
        let standbys = before.iter().filter(|role| **role == Role::Standby).count();
        assert_eq!((owners, standbys), (1, before.len() - 1), "{before:?} after {:?}", self.story);
        for _ in 0..DEAD_AFTER * 2 {
            self.pass(Wrong::Nothing);
            assert_eq!(roles(&self), before, "restless after {:?}", self.story);
        }
    }

    fn faults(&self) -> Vec<Wrong> {
        let all = 0..self.machines.len();
        let one = all.clone().flat_map(|i| [Wrong::Alone(i), Wrong::Paused(i), Wrong::Dead(i)]);
        let pairs =
            all.clone().flat_map(|a| all.clone().filter(move |b| *b != a).map(move |b| Wrong::Cut(a, b)));
        std::iter::once(Wrong::Nothing).chain(one).chain(pairs).collect()
    }
}

/// All ways from here; how many there were.
fn explore(cluster: &Cluster, steps: u32, changes: u32) -> u64 {
    if steps == 0 {
        cluster.clone().heals();
        return 1;
    }
    let mut ways = 0;
    let faults = if changes > 0 { cluster.faults() } else { vec![cluster.wrong] };
    for wrong in faults {
        let mut next = cluster.clone();
        next.pass(wrong);
        ways += explore(&next, steps - 1, changes - u32::from(wrong != cluster.wrong));
    }
    ways
}

fn cluster(count: usize, quorum: Quorum, drift: &[i64]) -> Cluster {
    let mut plan = Plan::new(&mut Random::new(1));
    let mut member = plan.heartbeat.directors[0].clone();
    let members = ["a", "b", "c"].iter().take(count).map(|name| {
        member.name = (*name).to_owned();
        member.priority = 100;
        member.clone()
    });
    plan.heartbeat.directors = members.collect();
    plan.heartbeat.groups.truncate(1);
    plan.heartbeat.groups[0].prefer.clear();
    plan.heartbeat = Heartbeat {
        interval: INTERVAL,
        dead_after: INTERVAL * DEAD_AFTER,
        initial_wait: INTERVAL * DEAD_AFTER,
        quorum,
        balance: None,
        ping: Vec::new(),
        ..plan.heartbeat
    };
    plan.services = vec![1; count];
    plan.drift = drift.to_vec();
    let mut cluster = Cluster::new(plan);
    (0..8).for_each(|_| cluster.pass(Wrong::Nothing));
    cluster
}

fn changes() -> u32 {
    crate::number("CLUSTER_CHANGES").map_or(2, |changes| changes as u32)
}

#[test]
fn two_directors() {
    for drift in [[50_000, -50_000], [-50_000, 50_000]] {
        let ways = explore(&cluster(2, Quorum::None, &drift), STEPS, changes());
        println!("{ways} ways");
        explore(&cluster(2, Quorum::Majority, &drift), STEPS, changes());
    }
}

#[test]
fn three_directors_with_a_majority() {
    for drift in [[50_000, -50_000, 0], [-50_000, 50_000, 50_000]] {
        let ways = explore(&cluster(3, Quorum::Majority, &drift), STEPS, changes());
        println!("{ways} ways");
    }
}
