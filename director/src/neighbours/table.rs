//! Which next hops there are, what is known of each, whom to ask and what an answer changes. Pure.
//!
//! A next hop that answers is asked by unicast every [`pace::interval`]; one that did not answer in
//! [`pace::PROBE_INTERVAL`] is asked by broadcast (solicited-node multicast for IPv6), which finds a new MAC.
//! It keeps its last MAC through any silence: whether a real server lives is for the health checks to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::hop::{Action, Heard, Hop, HopKey, KernelNeighbour, Route};
use super::interfaces::{self, Address, Interfaces, Link};
use super::pace::{self, Pace};
use super::wire::{Mac, is_unicast};
use crate::pool::{NextHop, NextHops};

/// How long the MAC in force has to answer for itself when another one claims its address.
pub const CHALLENGE: Duration = Duration::from_millis(100);

/// Everything known of next hops.
#[derive(Debug)]
pub struct Table {
    wanted: BTreeMap<IpAddr, Option<Route>>,
    hops: HashMap<HopKey, Hop>,
    kernel: HashMap<HopKey, KernelNeighbour>,
    interfaces: Interfaces,
    /// Next hops that are probed, by when that is due.
    queue: BTreeSet<(Instant, HopKey)>,
    pace: Pace,
    actions: Vec<Action>,
    changed: bool,
    arrivals: u32,
}

impl Table {
    /// One that wants nothing.
    pub fn new(now: Instant) -> Self {
        Self {
            wanted: BTreeMap::new(),
            hops: HashMap::new(),
            kernel: HashMap::new(),
            interfaces: Interfaces::default(),
            queue: BTreeSet::new(),
            pace: Pace::new(now),
            actions: Vec::new(),
            changed: false,
            arrivals: 0,
        }
    }

    /// Our interfaces.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The addresses whose next hops are kept.
    pub fn wanted(&self) -> impl Iterator<Item = IpAddr> {
        self.wanted.keys().copied()
    }

    /// Those of them in a network.
    pub fn wanted_in(&self, network: IpAddr, prefix: u8) -> impl Iterator<Item = IpAddr> {
        self.wanted.range(interfaces::range(network, prefix)).map(|(address, _)| *address)
    }

    /// The MACs in force. An address is missing without a route, while the interface is down, and until its
    /// next hop answered for the first time.
    pub fn next_hops(&self) -> NextHops {
        let resolve = |route: &Route| {
            let mac = self.hops.get(&route.hop)?.mac?;
            let source_mac = self.interfaces.sender(route.hop.ifindex)?;
            Some(NextHop { mac, source_mac, ifindex: route.hop.ifindex })
        };
        let known =
            self.wanted.iter().filter_map(|(&address, route)| Some((address, resolve(route.as_ref()?)?)));
        known.collect()
    }

    /// Whether [`Table::next_hops`] may say something else than when [`Table::take_changed`] was last called.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// The same, and begins anew.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When [`Table::poll`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| (*due).max(self.pace.ready()))
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Instant) -> Vec<Action> {
        while let Some(&(due, key)) = self.queue.first() {
            if due > now || !self.step(now, key) {
                break;
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// Does what is due for a next hop; false while no more probes may leave.
    fn step(&mut self, now: Instant, key: HopKey) -> bool {
        let Some(hop) = self.hops.get_mut(&key) else { return true };
        if let Some(challenger) = hop.challenger.take() {
            self.replace(now, key, challenger);
            return true;
        }
        if self.interfaces.sender(key.ifindex).is_none() {
            self.schedule(key, now + pace::patience(u32::MAX, self.hops.len()));
            return true;
        }
        if !self.pace.take(now) {
            return false;
        }
        let to = hop.mac.filter(|_| hop.unanswered == 0);
        hop.unanswered = hop.unanswered.saturating_add(1);
        hop.asked = Some(now);
        self.actions.push(Action::Probe { hop: key, to, preferred_source: hop.preferred_source });
        let patience = pace::patience(hop.unanswered, self.hops.len());
        self.schedule(key, now + patience);
        true
    }

    /// Wants an address, whose route is this; `None` where it has none.
    pub fn set_route(&mut self, now: Instant, address: IpAddr, route: Option<Route>) {
        let before = self.wanted.insert(address, route);
        if before == Some(route) {
            return;
        }
        self.changed = true;
        // The new one first: a next hop they share keeps what is known of it.
        if let Some(route) = route {
            self.acquire(now, route);
        }
        self.release(before.flatten());
    }

    /// Wants an address no more.
    pub fn forget(&mut self, address: IpAddr) {
        if let Some(route) = self.wanted.remove(&address) {
            self.changed = true;
            self.release(route);
        }
    }

    fn acquire(&mut self, now: Instant, route: Route) {
        let Route { hop: key, preferred_source } = route;
        if let Some(hop) = self.hops.get_mut(&key) {
            hop.users += 1;
            hop.preferred_source = preferred_source;
            return;
        }
        let hop = Hop::new(now, preferred_source, self.kernel.get(&key).copied());
        self.hops.insert(key, hop);
        // Those that are known already are asked spread over the interval, by the golden ratio.
        self.arrivals = self.arrivals.wrapping_add(0x9e37_79b9);
        let share = f64::from(self.arrivals) / f64::from(u32::MAX);
        let wait =
            if hop.mac.is_some() { pace::interval(self.hops.len()).mul_f64(share) } else { Duration::ZERO };
        self.schedule(key, now + wait);
    }

    fn release(&mut self, route: Option<Route>) {
        let Some(Route { hop: key, .. }) = route else { return };
        let Some(hop) = self.hops.get_mut(&key) else { return };
        hop.users -= 1;
        if hop.users == 0 {
            self.queue.remove(&(hop.due, key));
            self.hops.remove(&key);
        }
    }

    /// Puts a next hop where it belongs in the queue; one that is fixed does not.
    fn schedule(&mut self, key: HopKey, due: Instant) {
        let Some(hop) = self.hops.get_mut(&key) else { return };
        self.queue.remove(&(hop.due, key));
        hop.due = due;
        if !hop.fixed {
            self.queue.insert((due, key));
        }
    }

    /// A packet spoke for a next hop. Its MAC in force confirms itself. Another one replaces it at once where
    /// it is silent (a unicast probe and then a broadcast found it so); otherwise it has [`CHALLENGE`] to
    /// answer, so that an announced move is followed at once and two owners of one address do not take turns.
    pub fn heard(&mut self, now: Instant, key: HopKey, heard: Heard) {
        let Some(hop) = self.hops.get_mut(&key) else { return };
        // An answer that names no MAC confirms the one that sent it, and nothing else: others may ask too.
        let mac = heard.named.unwrap_or(heard.sender);
        if hop.fixed || !is_unicast(mac) || self.interfaces.own(mac) {
            return;
        }
        match hop.mac {
            Some(current) if current == mac => self.answered(now, key),
            _ if heard.named.is_none() => {}
            None => self.adopt(now, key, mac),
            Some(current) => self.contend(now, key, current, mac),
        }
    }

    fn answered(&mut self, now: Instant, key: HopKey) {
        let hops = self.hops.len();
        let Some(hop) = self.hops.get_mut(&key) else { return };
        hop.unanswered = 0;
        if let (Some(challenger), Some(current)) = (hop.challenger.take(), hop.mac)
            && !hop.contested
        {
            hop.contested = true;
            self.actions.push(Action::Duplicate { hop: key, current, other: challenger });
        }
        let due = (hop.asked.unwrap_or(now) + pace::interval(hops)).max(now);
        self.schedule(key, due);
    }

    fn adopt(&mut self, now: Instant, key: HopKey, mac: Mac) {
        let Some(hop) = self.hops.get_mut(&key) else { return };
        self.changed |= hop.mac.replace(mac) != Some(mac);
        self.answered(now, key);
    }

    fn replace(&mut self, now: Instant, key: HopKey, mac: Mac) {
        self.actions.push(Action::Teach { hop: key, mac });
        self.adopt(now, key, mac);
    }

    fn contend(&mut self, now: Instant, key: HopKey, current: Mac, mac: Mac) {
        let Some(hop) = self.hops.get_mut(&key) else { return };
        if hop.challenger.is_some() {
            return;
        }
        if hop.unanswered > 1 && !hop.contested {
            self.replace(now, key, mac);
            return;
        }
        // A stream of claims must not become a stream of probes.
        let lately = hop.challenged.is_some_and(|at| now < at + pace::PROBE_INTERVAL);
        if lately || !self.pace.take(now) {
            return;
        }
        hop.challenged = Some(now);
        hop.challenger = Some(mac);
        hop.asked = Some(now);
        let preferred_source = hop.preferred_source;
        self.actions.push(Action::Probe { hop: key, to: Some(current), preferred_source });
        self.schedule(key, now + CHALLENGE);
    }

    /// Notes what the kernel knows of a neighbour; `None`: nothing, which changes no MAC in force. A learned
    /// entry fills a gap; where it says something else than what is in force, that is only asked at once, for
    /// the packets that taught the kernel were heard here too. A fixed one is followed.
    pub fn kernel_neighbour(&mut self, now: Instant, key: HopKey, neighbour: Option<KernelNeighbour>) {
        let before = match neighbour {
            Some(neighbour) => self.kernel.insert(key, neighbour),
            None => self.kernel.remove(&key),
        };
        let Some(hop) = self.hops.get_mut(&key) else { return };
        if before == neighbour {
            return;
        }
        let released =
            std::mem::replace(&mut hop.fixed, neighbour.is_some_and(|known| known.fixed)) && !hop.fixed;
        match neighbour {
            Some(KernelNeighbour { mac, fixed: true }) => {
                self.changed |= hop.mac.replace(mac) != Some(mac);
                hop.challenger = None;
                let due = hop.due;
                self.schedule(key, due);
            }
            Some(KernelNeighbour { mac, .. }) if hop.mac.is_none() => self.adopt(now, key, mac),
            Some(KernelNeighbour { mac, .. }) if hop.mac != Some(mac) => self.hurry(now, key),
            Some(_) | None if released => self.hurry(now, key),
            Some(_) | None => {}
        }
    }

    /// Replaces everything the kernel knows of neighbours.
    pub fn kernel_neighbours(&mut self, now: Instant, neighbours: &HashMap<HopKey, KernelNeighbour>) {
        let gone: Vec<HopKey> =
            self.kernel.keys().filter(|key| !neighbours.contains_key(key)).copied().collect();
        for key in gone {
            self.kernel_neighbour(now, key, None);
        }
        for (&key, &neighbour) in neighbours {
            self.kernel_neighbour(now, key, Some(neighbour));
        }
    }

    /// Notes an interface; `None`: it is gone. Says whether anything is different now, routes perhaps too.
    pub fn set_link(&mut self, now: Instant, ifindex: u32, link: Option<Link>) -> bool {
        let different = self.interfaces.set_link(ifindex, link);
        if different {
            self.interface_changed(now, ifindex);
        }
        different
    }

    /// Notes an address of an interface, or that it is `gone`. Says whether anything is different now.
    pub fn set_address(&mut self, now: Instant, ifindex: u32, address: Address, gone: bool) -> bool {
        let different = if gone {
            self.interfaces.remove_address(ifindex, address.address, address.prefix)
        } else {
            self.interfaces.add_address(ifindex, address)
        };
        if different {
            self.interface_changed(now, ifindex);
        }
        different
    }

    /// Replaces all interfaces.
    pub fn set_interfaces(&mut self, now: Instant, interfaces: Interfaces) {
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        let different: Vec<u32> = before.differences(&self.interfaces).into_iter().collect();
        for ifindex in different {
            self.interface_changed(now, ifindex);
        }
    }

    /// Next hops that could not be asked perhaps can be now.
    fn interface_changed(&mut self, now: Instant, ifindex: u32) {
        self.changed = true;
        let waiting = self.hops.iter().filter(|(key, hop)| key.ifindex == ifindex && !hop.fixed);
        let silent = waiting.filter(|(_, hop)| hop.mac.is_none() || hop.unanswered > 0);
        let keys: Vec<HopKey> = silent.map(|(key, _)| *key).collect();
        for key in keys {
            self.hurry(now, key);
        }
    }

    /// Asks a next hop now, unless a claim on it is being decided or it was asked only just.
    fn hurry(&mut self, now: Instant, key: HopKey) {
        let Some(hop) = self.hops.get(&key) else { return };
        if hop.challenger.is_none() {
            let due = hop.asked.map_or(now, |asked| now.max(asked + CHALLENGE));
            self.schedule(key, due);
        }
    }
}
