//! Directors on one real clock, and the network between them. Every event comes from a queue that is ordered by time, and everything
//! that is left to chance from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use director::heartbeat::machine::Lease;
use director::heartbeat::message::{Message, Role};
use director::heartbeat::node::Moved;

use crate::check::Watch;
use crate::host::{Host, Real, Stage, good_facts};
use crate::plan::Plan;
use crate::random::Random;

/// Messages that an attacker has recorded; later ones take the place of any.
const MOST_RECORDED: usize = 256;
/// How often goodbye is said.
const GOODBYES: usize = 3;
/// Lines of a story that are kept: the last ones.
const MOST_LINES: usize = 600;

/// What happens at a time.
enum Event {
    /// A message comes to a director by a link.
    Deliver { to: usize, link: usize, message: Rc<Message> },
    /// A director looks around.
    Wake { host: usize, number: u64 },
    /// A pause ends.
    Resume { host: usize, number: u64 },
    /// A director is started.
    Start { host: usize },
}

struct Entry {
    time: Real,
    number: u64,
    event: Event,
}

/// The network.
pub struct Network {
    /// Whether nothing comes from a director to another one by a link.
    pub cut: Vec<Vec<Vec<bool>>>,
    /// Of a hundred messages so many are lost.
    pub loss: usize,
    /// Of a hundred messages so many come twice.
    pub twice: usize,
    /// How long a message takes at most.
    pub delay: Duration,
}

/// See the module.
pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub now: Real,
    pub hosts: Vec<Host>,
    pub network: Network,
    pub watch: Watch,
    recorded: Vec<(usize, usize, Rc<Message>)>,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    runs: u64,
    story: Option<std::collections::VecDeque<String>>,
}

impl World {
    /// All directors start within a while.
    pub fn new(plan: Plan, mut random: Random, told: bool) -> World {
        let (count, links) = (plan.count(), plan.links);
        let network = Network {
            cut: vec![vec![vec![false; links]; count]; count],
            loss: 0,
            twice: 0,
            delay: plan.delay,
        };
        let hosts = (0..count).map(|i| Host::new(&plan, i)).collect();
        let starts: Vec<Duration> =
            (0..count).map(|_| random.between(Duration::ZERO, plan.heartbeat.dead_after)).collect();
        let mut world = World {
            watch: Watch::new(&plan),
            plan,
            random,
            now: 0,
            hosts,
            network,
            recorded: Vec::new(),
            queue: BinaryHeap::new(),
            number: 0,
            runs: 0,
            story: told.then(Default::default),
        };
        for (host, after) in starts.into_iter().enumerate() {
            world.schedule(after, Event::Start { host });
        }
        world
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl FnOnce(&World) -> String) {
        if self.story.is_none() {
            return;
        }
        let text = format!("{:>12.3} ms  {}", self.now as f64 / 1e6, line(self));
        if let Some(story) = &mut self.story {
            story.push_back(text);
            if story.len() > MOST_LINES {
                story.pop_front();
            }
        }
    }

    /// What happened.
    pub fn story(&mut self) -> String {
        self.story.take().map(|lines| lines.into_iter().collect::<Vec<_>>().join("\n")).unwrap_or_default()
    }

    /// Lets time pass until then, or until something is wrong.
    pub fn run_until(&mut self, end: Real) -> Result<(), String> {
        while let Some(Reverse(entry)) = self.queue.peek()
            && entry.time <= end
        {
            let Some(Reverse(entry)) = self.queue.pop() else { break };
            self.now = entry.time;
            self.happen(entry.event);
            self.watch.result()?;
        }
        self.now = end;
        Ok(())
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) -> Result<(), String> {
        self.run_until(self.now + span.as_nanos() as Real)
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.schedule_at(self.now + after.as_nanos() as Real, event);
    }

    fn schedule_at(&mut self, time: Real, event: Event) {
        self.number += 1;
        self.queue.push(Reverse(Entry { time, number: self.number, event }));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, link, message } => {
                if self.hosts[to].machine.is_some() {
                    self.hosts[to].queue(link, message);
                    self.step(to);
                }
            }
            Event::Wake { host, number } if self.hosts[host].wake == number => self.step(host),
            Event::Resume { host, number } if self.hosts[host].pauses == number => self.resume(host),
            Event::Start { host } => self.start(host),
            Event::Wake { .. } | Event::Resume { .. } => {}
        }
    }

    /// A director does not run for a while.
    pub fn pause(&mut self, host: usize, span: Duration, stage: Stage) {
        if !self.hosts[host].runs() {
            return;
        }
        self.tell(|world| format!("{} is paused for {span:?}", world.hosts[host].name));
        self.hosts[host].paused = Some(stage);
        self.hosts[host].pauses += 1;
        self.schedule(span, Event::Resume { host, number: self.hosts[host].pauses });
    }

    /// A pause ends.
    pub fn resume(&mut self, host: usize) {
        self.hosts[host].pauses += 1;
        if let Some(stage) = self.hosts[host].paused.take() {
            self.tell(|world| format!("{} runs again", world.hosts[host].name));
            match stage {
                Stage::Waiting => {}
                Stage::Deciding => self.decide(host),
                Stage::Renewing => self.renew(host),
            }
            self.step(host);
        }
    }

    /// A director's process ends. `power`: so does the machine, with all that it answers for.
    pub fn kill(&mut self, host: usize, power: bool, back: Option<Duration>) {
        if self.hosts[host].machine.is_none() {
            return;
        }
        self.tell(|world| {
            format!("{} {}", world.hosts[host].name, if power { "loses power" } else { "is killed" })
        });
        self.watch.ended(host, self.hosts[host].incarnation, self.now);
        self.hosts[host].machine = None;
        self.hosts[host].paused = None;
        if power {
            self.hosts[host].dark();
        }
        if let Some(after) = back {
            self.schedule(after, Event::Start { host });
        }
    }

    /// A director is started, unless it runs.
    pub fn start(&mut self, host: usize) {
        if self.hosts[host].machine.is_some() {
            return;
        }
        self.runs += 1 + self.random.below(1000) as u64;
        self.hosts[host].start(&self.plan, self.runs, self.now);
        self.watch.started(host);
        self.tell(|world| {
            format!("{} starts, run {}", world.hosts[host].name, world.hosts[host].incarnation)
        });
        self.step(host);
    }

    /// What `driver` does whenever something happened.
    pub fn step(&mut self, host: usize) {
        if !self.hosts[host].runs() {
            return;
        }
        let this = &mut self.hosts[host];
        let own = this.clock.at(self.now);
        let Some(machine) = &mut this.machine else { return };
        let moved = machine.awake(own);
        self.revoke(host, &moved);
        for link in 0..self.plan.links {
            while let Some(message) = self.hosts[host].inbox[link].pop_front() {
                self.receive(host, link, &message);
            }
        }
        if !self.trips(host, Stage::Deciding) {
            self.decide(host);
        }
    }

    /// As `driver` does before anything is sent: what was lost is not answered for any more. What was won is shown only after the
    /// leases: see `show`.
    fn revoke(&mut self, host: usize, moved: &[Moved]) {
        for moved in moved.iter().filter(|moved| moved.to != Role::Active) {
            let group = self.plan.heartbeat.groups.iter().position(|group| group.name == moved.group);
            if let Some(shown) = group.and_then(|group| self.hosts[host].shown.get_mut(group)) {
                shown.role = moved.to;
                if matches!(moved.to, Role::Standby | Role::Candidate) {
                    shown.lease = Lease::Never;
                }
            }
        }
        self.note(host, moved);
    }

    /// Whether a pause catches a director here.
    fn trips(&mut self, host: usize, stage: Stage) -> bool {
        match self.hosts[host].trip {
            Some((at, span)) if at == stage => {
                self.hosts[host].trip = None;
                self.pause(host, span, stage);
                true
            }
            _ => false,
        }
    }

    fn receive(&mut self, host: usize, link: usize, message: &Message) {
        let this = &mut self.hosts[host];
        let own = this.clock.at(self.now);
        let accepted = this.shadow.accept(own, link, message);
        let Some(machine) = &mut this.machine else { return };
        let _ = machine.receive(own, link, message);
        self.watch.heard(host, this, message, accepted);
    }

    fn decide(&mut self, host: usize) {
        let own = self.hosts[host].clock.at(self.now);
        let Some(machine) = &mut self.hosts[host].machine else { return };
        let turn = machine.turn(own);
        self.revoke(host, &turn.moved);
        for message in turn.send {
            self.send(host, message);
        }
        if !self.trips(host, Stage::Renewing) {
            self.renew(host);
        }
    }

    fn renew(&mut self, host: usize) {
        self.show(host);
        let own = self.hosts[host].clock.at(self.now);
        let this = &mut self.hosts[host];
        let Some(machine) = &mut this.machine else { return };
        if this.leaves.is_some_and(|end| machine.node().may_end(own) || self.now >= end) {
            return self.say_goodbye(host);
        }
        // A timer is never early, and a thread takes a moment to look.
        let next = this.clock.when(machine.next(own)).max(self.now + 1000);
        this.wake += 1;
        let number = this.wake;
        self.schedule_at(next, Event::Wake { host, number });
        self.watch.stepped(self.now, &self.hosts, host);
    }

    fn show(&mut self, host: usize) {
        let this = &mut self.hosts[host];
        let Some(machine) = &this.machine else { return };
        let own = this.clock.at(self.now);
        for (i, shown) in this.shown.iter_mut().enumerate() {
            let (role, announce) = machine.role(i);
            if announce != shown.announce {
                self.watch.announced(self.now, host, i);
            }
            // In this order: VIPs are taken, and announced, with a lease.
            shown.lease = machine.lease(own, i);
            (shown.role, shown.announce) = (role, announce);
        }
        self.watch.renewed(self.now, host, this);
    }

    fn say_goodbye(&mut self, host: usize) {
        let own = self.hosts[host].clock.at(self.now);
        for _ in 0..GOODBYES {
            let Some(machine) = &mut self.hosts[host].machine else { return };
            let turn = machine.goodbye(own);
            self.note(host, &turn.moved);
            for message in turn.send {
                self.send(host, message);
            }
        }
        let back = self.random.between(Duration::ZERO, self.plan.heartbeat.dead_after * 2);
        self.kill(host, true, Some(back));
    }

    fn send(&mut self, host: usize, message: Message) {
        let own = self.hosts[host].clock.at(self.now);
        let number = self.hosts[host].shadow.next(own);
        self.watch.sent(host, &mut self.hosts[host], own, number, &message);
        for link in 0..self.plan.links {
            let mut copy = message.clone();
            if let Some(machine) = &self.hosts[host].machine {
                machine.for_link(own, link, &mut copy);
            }
            let copy = Rc::new(copy);
            for to in (0..self.hosts.len()).filter(|to| *to != host) {
                self.transmit(host, to, link, &copy);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, link: usize, message: &Rc<Message>) {
        if self.plan.attacker && self.random.below(8) == 0 {
            let record = (to, link, Rc::clone(message));
            if self.recorded.len() < MOST_RECORDED {
                self.recorded.push(record);
            } else {
                let place = self.random.below(MOST_RECORDED);
                self.recorded[place] = record;
            }
        }
        if self.network.cut[from][to][link] || self.random.percent(self.network.loss) {
            return;
        }
        let copies = if self.random.percent(self.network.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.random.between(self.network.delay / 10, self.network.delay);
            self.schedule(delay, Event::Deliver { to, link, message: Rc::clone(message) });
        }
    }

    /// An attacker sends a recorded message once more, mostly to where it was meant for.
    pub fn replay(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        let (to, link, message) = &self.recorded[self.random.below(self.recorded.len())];
        let to = if self.random.percent(80) { *to } else { self.random.below(self.hosts.len()) };
        let link = if self.random.percent(60) { *link } else { self.random.below(self.plan.links) };
        let message = Rc::clone(message);
        self.schedule(Duration::ZERO, Event::Deliver { to, link, message });
    }

    /// Notes which roles changed.
    pub fn note(&mut self, host: usize, moved: &[Moved]) {
        for moved in moved {
            let Moved { group, from, to, term, why } = moved;
            self.tell(|world| {
                format!("{} {group}: {from:?} -> {to:?}, term {term}: {why}", world.hosts[host].name)
            });
            self.watch.moved(self.now, host, moved);
        }
    }

    /// From now on nothing is wrong.
    pub fn heal(&mut self) {
        self.tell(|_| "everything is well from now on".to_owned());
        self.network.cut.iter_mut().flatten().flatten().for_each(|cut| *cut = false);
        (self.network.loss, self.network.twice, self.network.delay) = (0, 0, self.plan.delay);
        for host in 0..self.hosts.len() {
            if self.hosts[host].leaves.is_some() {
                self.kill(host, true, None);
            }
            self.hosts[host].trip = None;
            self.hosts[host].facts = good_facts(&self.plan, host);
            self.start(host);
            self.resume(host);
            let this = &mut self.hosts[host];
            let own = this.clock.at(self.now);
            if let Some(machine) = &mut this.machine {
                machine.know(&this.facts);
                // To be held no more is never refused.
                let _ = machine.node_mut().hold(own, false);
            }
            self.step(host);
        }
    }

    /// Who is this for a group.
    pub fn who(&self, group: usize, role: Role) -> Vec<usize> {
        (0..self.hosts.len()).filter(|i| self.hosts[*i].role(group) == Some(role)).collect()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}
