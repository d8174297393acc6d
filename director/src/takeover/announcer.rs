//! Sends announcements: to all, to the neighbours that the configuration names, and to those that peers know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::netlink::Kernel;
use super::observed::Observed;
use super::plan::device_of;
use super::rounds::{Rounds, Target, Tours};
use super::{May, Setup, sysctl};
use crate::heartbeat::message::Neighbour;
use crate::model::Vip;
use crate::model::heartbeat::Group;
use crate::neighbours::packet::Sender;
use crate::neighbours::wire::{self, is_unicast};

/// What is announced when, and the socket for it.
pub struct Announcer {
    /// Whether a VIP may be announced at this moment.
    may: Arc<May>,
    sender: Sender,
    rounds: Rounds,
    tours: Tours,
    /// The named neighbours' MACs by interface, also such as the kernel has forgotten.
    named: BTreeMap<(u32, IpAddr), wire::Mac>,
    /// Which interfaces say of themselves that they are routers.
    routers: BTreeMap<u32, bool>,
    /// Neighbours that peers know.
    shared: Arc<Vec<Neighbour>>,
}

impl Announcer {
    /// Opens its socket in the caller's network namespace.
    ///
    /// # Errors
    /// There is no packet socket to be had.
    pub fn open(may: Arc<May>) -> Result<Announcer> {
        let sender = Sender::open().context("cannot open a packet socket")?;
        let (rounds, tours) = (Rounds::default(), Tours::default());
        let (named, routers) = (BTreeMap::new(), BTreeMap::new());
        Ok(Announcer { may, sender, rounds, tours, named, routers, shared: Arc::default() })
    }

    /// Notes whom peers know.
    pub fn set_shared(&mut self, shared: Arc<Vec<Neighbour>>) {
        self.shared = shared;
    }

    /// Announces a VIP on an interface, to all or to one neighbour. Says whether a frame was sent: an interface
    /// without a carrier or with a full queue takes none, and a later round makes up for that.
    pub fn announce(&mut self, observed: &Observed, index: u32, vip: &Vip, to: Option<Neighbour>) -> bool {
        let Some(link) = observed.link(index) else { return false };
        let Some(mac) = link.mac else { return false };
        if !(self.may)(vip.address) {
            return false;
        }
        let sent = match vip.address {
            IpAddr::V4(address) => {
                let to = to.map_or(wire::BROADCAST, |to| to.mac);
                self.sender.arp(index, to, &wire::gratuitous_arp(mac, address))
            }
            IpAddr::V6(address) => {
                let router = *self.routers.entry(index).or_insert_with(|| sysctl::is_router(&link.name));
                let (destination, to) = match to {
                    Some(Neighbour { address: IpAddr::V6(destination), mac }) => (destination, mac),
                    _ => (wire::ALL_NODES, wire::multicast_mac(wire::ALL_NODES)),
                };
                let bytes = wire::unsolicited_advertisement(mac, address, destination, router);
                self.sender.ipv6(index, to, &bytes)
            }
        };
        sent.is_ok()
    }

    /// A group's VIPs have just been announced to all: tells the named neighbours, and plans the rest.
    pub fn begin(&mut self, kernel: &mut Kernel, observed: &Observed, setup: &Setup, group: &Group) {
        self.tell_named(kernel, observed, setup, group);
        let now = Instant::now();
        self.rounds.begin(&group.name, &setup.announce, now);
        let targets = self.shared_targets(observed, group);
        self.tours.begin(&group.name, targets, group.vips.len(), now);
    }

    /// Announces a group no more.
    pub fn end(&mut self, group: &str) {
        self.rounds.end(group);
        self.tours.end(group);
    }

    /// When there is something to send.
    pub fn next(&self) -> Option<Instant> {
        self.rounds.next().into_iter().chain(self.tours.next()).min()
    }

    /// Sends what is due.
    pub fn send_due(&mut self, kernel: &mut Kernel, observed: &Observed, setup: &Setup) {
        let now = Instant::now();
        let find = |name: &str| setup.groups.iter().find(|group| group.name == name);
        for name in self.rounds.due(&setup.announce, now) {
            let Some(group) = find(&name) else { continue };
            for (vip, index) in held(observed, group) {
                self.announce(observed, index, vip, None);
            }
            self.tell_named(kernel, observed, setup, group);
        }
        let mut tours = std::mem::take(&mut self.tours);
        tours.step(now, |name, place, target| {
            let vip = find(name).and_then(|group| Some((group, group.vips.get(place)?)));
            let Some((group, vip)) = vip else { return false };
            let leads = observed.index(&vip.interface) == Some(target.index)
                && vip.address.is_ipv4() == target.neighbour.address.is_ipv4();
            let index = observed.index(&device_of(group, vip)).filter(|_| leads);
            index.is_some_and(|index| {
                observed.has(index, vip.address)
                    && self.announce(observed, index, vip, Some(target.neighbour))
            })
        });
        self.tours = tours;
    }

    /// Looks the named neighbours up on the VIPs' interfaces; the kernel asks for those that it does not know. So
    /// their MACs are known before they are needed. Reads again who is a router.
    pub fn look_up(&mut self, kernel: &mut Kernel, observed: &Observed, setup: &Setup) {
        self.routers.clear();
        for interface in interfaces(setup.groups.iter()) {
            if let Some(index) = observed.index(interface) {
                self.named_targets(kernel, observed, setup, index);
            }
        }
    }

    fn tell_named(&mut self, kernel: &mut Kernel, observed: &Observed, setup: &Setup, group: &Group) {
        if setup.announce.neighbours.is_empty() {
            return;
        }
        for interface in interfaces([group].into_iter()) {
            let Some(parent) = observed.index(interface) else { continue };
            for neighbour in self.named_targets(kernel, observed, setup, parent) {
                let there = held(observed, group).filter(|(vip, _)| vip.interface == interface);
                for (vip, index) in there {
                    if vip.address.is_ipv4() == neighbour.address.is_ipv4() {
                        self.announce(observed, index, vip, Some(neighbour));
                    }
                }
            }
        }
    }

    /// The named neighbours on an interface whose MACs are known. One that the kernel does not know is asked for, and
    /// told by the next round.
    fn named_targets(
        &mut self,
        kernel: &mut Kernel,
        observed: &Observed,
        setup: &Setup,
        index: u32,
    ) -> Vec<Neighbour> {
        let mut known = Vec::new();
        for &address in &setup.announce.neighbours {
            if !observed.on_link(index, address) {
                continue;
            }
            match kernel.neighbour(index, address) {
                Ok(Some(mac)) => _ = self.named.insert((index, address), mac),
                // It is unknown; or the kernel cannot be asked now, and the next round tries again.
                Ok(None) | Err(_) => _ = kernel.resolve(index, address),
            }
            let mac = self.named.get(&(index, address));
            known.extend(mac.map(|&mac| Neighbour { address, mac }));
        }
        known
    }

    /// Those that peers know, on the interfaces of a group's VIPs.
    fn shared_targets(&self, observed: &Observed, group: &Group) -> Vec<Target> {
        let mut targets = Vec::new();
        for interface in interfaces([group].into_iter()) {
            let Some(index) = observed.index(interface) else { continue };
            let there = self.shared.iter().filter(|known| {
                is_unicast(known.mac)
                    && observed.on_link(index, known.address)
                    && !known.address.is_multicast()
            });
            targets.extend(there.map(|&neighbour| Target { index, neighbour }));
        }
        targets
    }
}

/// The VIPs of a group that are where they are to be, and the indices of their devices.
pub fn held<'a>(observed: &'a Observed, group: &'a Group) -> impl Iterator<Item = (&'a Vip, u32)> {
    group.vips.iter().filter_map(move |vip| {
        let index = observed.index(&device_of(group, vip))?;
        observed.has(index, vip.address).then_some((vip, index))
    })
}

/// The interfaces of groups' VIPs, as configured.
pub fn interfaces<'a>(groups: impl Iterator<Item = &'a Group>) -> BTreeSet<&'a str> {
    groups.flat_map(|group| group.vips.iter().map(|vip| vip.interface.as_str())).collect()
}
