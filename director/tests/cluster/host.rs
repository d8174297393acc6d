//! A director in the simulator: a [`Machine`], its clock, its sockets, and what others see of it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use director::heartbeat::machine::{Lease, Machine};
use director::heartbeat::message::{Message, Role};
use director::heartbeat::moment::Moment;
use director::heartbeat::node::{Facts, GroupFacts};
use director::heartbeat::session::Sessions;
use director::heartbeat::settings::Settings;

use crate::plan::Plan;

/// Real time since the trial's beginning, in nanoseconds.
pub type Real = u64;

/// Messages that wait in a socket while the director does not run; later ones are lost.
const MOST_WAITING: usize = 64;

/// A machine's own clock.
#[derive(Clone, Copy)]
pub struct Clock {
    offset: u64,
    rate: u64,
}

/// What a director is for a group, as the data plane has it.
#[derive(Clone, Copy)]
pub struct Shown {
    pub role: Role,
    pub announce: u64,
    pub lease: Lease,
}

/// Where a pause caught a director.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// While it waited.
    Waiting,
    /// After it had received messages and before it decided.
    Deciding,
    /// After it had sent messages and before it renewed its leases.
    Renewing,
}

/// See the module.
pub struct Host {
    pub name: String,
    /// None: it does not run.
    pub machine: Option<Machine>,
    /// Which messages the machine must have believed.
    pub shadow: Sessions,
    pub clock: Clock,
    pub incarnation: u64,
    /// When this run began.
    pub born: Real,
    pub paused: Option<Stage>,
    /// Which of its pauses it is in.
    pub pauses: u64,
    /// A pause that catches it there, next time.
    pub trip: Option<(Stage, Duration)>,
    pub inbox: Vec<VecDeque<Rc<Message>>>,
    /// Which of its wake-ups is the next one.
    pub wake: u64,
    pub shown: Vec<Shown>,
    pub facts: Facts,
    /// When it last sent something.
    pub sent: Option<Moment>,
    /// It gives everything away, and ends then at the latest.
    pub leaves: Option<Real>,
}

impl Clock {
    /// One that is off by so many millionths.
    pub fn new(offset: Duration, drift: i64) -> Clock {
        Clock { offset: offset.as_nanos() as u64, rate: (1_000_000 + drift) as u64 }
    }

    /// What it says at a time.
    pub fn at(self, real: Real) -> Moment {
        Moment::from_start(Duration::from_nanos(
            self.offset + (u128::from(real) * u128::from(self.rate) / 1_000_000) as u64,
        ))
    }

    /// When it says that, or first something later.
    pub fn when(self, moment: Moment) -> Real {
        let own = (moment.since_start().as_nanos() as u64).saturating_sub(self.offset);
        (u128::from(own) * 1_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}

impl Host {
    /// One that was not started yet.
    pub fn new(plan: &Plan, i: usize) -> Host {
        let name = plan.heartbeat.directors[i].name.clone();
        Host {
            shadow: Sessions::new(&name, 0, &[], 0, plan.heartbeat.dead_after),
            name,
            machine: None,
            clock: Clock::new(plan.offset[i], plan.drift[i]),
            incarnation: 0,
            born: 0,
            paused: None,
            pauses: 0,
            trip: None,
            inbox: vec![VecDeque::new(); plan.links],
            wake: 0,
            shown: nothing(plan),
            facts: good_facts(plan, i),
            sent: None,
            leaves: None,
        }
    }

    /// Starts it.
    pub fn start(&mut self, plan: &Plan, incarnation: u64, now: Real) {
        let own = self.clock.at(now);
        let settings = Settings::new(&plan.heartbeat, &self.name).expect("it is a director");
        let peers: Vec<String> = plan.heartbeat.directors.iter().map(|member| member.name.clone()).collect();
        self.shadow = Sessions::new(&self.name, incarnation, &peers, plan.links, plan.heartbeat.dead_after);
        let mut machine = Machine::new(settings, incarnation, plan.links, 1, own);
        machine.know(&self.facts);
        self.machine = Some(machine);
        (self.incarnation, self.born, self.paused, self.trip) = (incarnation, now, None, None);
        self.inbox.iter_mut().for_each(VecDeque::clear);
        self.shown = nothing(plan);
        (self.sent, self.leaves) = (None, None);
    }

    /// A message comes to a socket.
    pub fn queue(&mut self, link: usize, message: Rc<Message>) {
        if self.inbox[link].len() < MOST_WAITING {
            self.inbox[link].push_back(message);
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.machine.is_some() && self.paused.is_none()
    }

    /// Whether it answers for a group as this role: whatever became of the daemon, the data plane does as long as the lease says.
    pub fn holds(&self, group: usize, role: Role, now: Real) -> bool {
        let shown = &self.shown[group];
        shown.role == role
            && match shown.lease {
                Lease::Never => false,
                Lease::Until(end) => end > self.clock.at(now),
                Lease::Forever => true,
            }
    }

    /// What it is for a group; nothing if it does not run.
    pub fn role(&self, group: usize) -> Option<Role> {
        self.machine.as_ref().map(|machine| machine.role(group).0)
    }

    /// Answers for nothing any more.
    pub fn dark(&mut self) {
        for shown in &mut self.shown {
            shown.lease = Lease::Never;
        }
    }
}

fn nothing(plan: &Plan) -> Vec<Shown> {
    vec![Shown { role: Role::Standby, announce: 0, lease: Lease::Never }; plan.heartbeat.groups.len()]
}

/// A machine where everything works.
pub fn good_facts(plan: &Plan, i: usize) -> Facts {
    let facts = GroupFacts { unable: None, services: plan.services[i], score: 0 };
    Facts {
        witnesses: plan.heartbeat.ping.len() as u8,
        groups: plan.heartbeat.groups.iter().map(|group| (group.name.clone(), facts.clone())).collect(),
    }
}
