//! Next-hop MACs of the real servers, for frames the data plane writes itself.
//!
//! The kernel's routes say which neighbour leads to a real server: itself, or its gateway. The kernel's
//! neighbour table gives the MACs known at the start; from then on this asks each next hop itself and listens
//! to the answers (ARP, RFC 826; neighbour discovery, RFC 4861), for frames of the data plane refresh no
//! entry of the kernel's, and an entry it does not use goes stale without anyone noticing. Nor does it depend
//! on the kernel's table having room for all of them.
//!
//! [`table`] decides, without a clock or a socket; [`interfaces`], [`kernel`], [`wire`] and [`pace`] are pure
//! too. `netlink` and `packet` are the sockets, and this joins them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;

use crate::pool::NextHops;
use hop::{Action, HopKey};
use kernel::Event;
use netlink::{Notifications, Questions};
use packet::PacketSocket;
use table::Table;

pub mod hop;
pub mod interfaces;
pub mod kernel;
pub(crate) mod netlink;
pub mod pace;
pub(crate) mod packet;
pub mod table;
#[cfg(test)]
mod tests;
pub mod wire;

/// How long changes are gathered before they are acted on and published together.
const COALESCE: Duration = Duration::from_millis(20);

/// Between two readings of everything the kernel knows, in case a notification does not exist or was lost.
const RESYNC_INTERVAL: Duration = Duration::from_secs(10);

/// How long until the kernel is asked again after it could not answer.
const RETRY: Duration = Duration::from_secs(1);

/// A set of addresses that may change.
pub type Addresses = watch::Receiver<Arc<BTreeSet<IpAddr>>>;

/// Keeps the next hop of each address in `wanted` in `known`, in the network namespace of the thread that
/// polls this first. Ends when `wanted`'s sender is gone, or with an error when a socket fails.
///
/// An address is missing from `known` while there is no route to it, its interface is down or gone, or its
/// next hop has never answered; a next hop that falls silent keeps its MAC. A new MAC is found without an
/// announcement within [`pace::interval`] + [`pace::PROBE_INTERVAL`] and a round trip (0.6 s for up to 450
/// next hops), with one (gratuitous ARP, unsolicited advertisement) within [`table::CHALLENGE`]. All probes
/// together stay below [`pace::MAX_PROBES_PER_SECOND`].
///
/// No request comes from an address in `avoid`, the VIPs: it would claim them.
pub async fn run(wanted: Addresses, avoid: Addresses, known: watch::Sender<Arc<NextHops>>) -> Result<()> {
    Resolver::open(wanted, avoid, known)?.run().await
}

/// What has to be asked of the kernel again.
#[derive(Debug, Default)]
struct Stale {
    everything: bool,
    routes: BTreeSet<IpAddr>,
}

struct Resolver {
    wanted: Addresses,
    avoid: Addresses,
    known: watch::Sender<Arc<NextHops>>,
    questions: Questions,
    notifications: Notifications,
    arp: PacketSocket,
    discovery: PacketSocket,
    table: Table,
    stale: Stale,
    /// When what is stale is asked, and what changed is published.
    flush: Option<Instant>,
    resync: Instant,
}

impl Resolver {
    fn open(wanted: Addresses, avoid: Addresses, known: watch::Sender<Arc<NextHops>>) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            wanted,
            avoid,
            known,
            // Before the first question: what changes after its answer is notified.
            notifications: Notifications::open()?,
            questions: Questions::open()?,
            arp: PacketSocket::arp().context("opening a packet socket for ARP")?,
            discovery: PacketSocket::neighbour_discovery()
                .context("opening a packet socket for neighbour discovery")?,
            table: Table::new(now),
            stale: Stale::default(),
            flush: None,
            resync: now,
        })
    }

    async fn run(mut self) -> Result<()> {
        self.want();
        loop {
            let now = Instant::now();
            if self.resync <= now {
                self.stale.everything = true;
                self.resync = now + RESYNC_INTERVAL;
                self.flush = Some(now);
            }
            if self.flush.is_some_and(|at| at <= now) {
                self.flush().await;
            }
            self.act().await;
            if self.table.changed() {
                self.flush.get_or_insert(now + COALESCE);
            }
            let wake = [self.flush, self.table.due()].into_iter().flatten().fold(self.resync, Instant::min);
            tokio::select! {
                said = self.arp.receive() => self.hear(said)?,
                said = self.discovery.receive() => self.hear(said)?,
                events = self.notifications.next() => self.note(events.context("netlink notifications")?),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.want(),
                    Err(_no_sender) => return Ok(()),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Takes over what is wanted now.
    fn want(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let before: BTreeSet<IpAddr> = self.table.wanted().collect();
        for address in before.difference(&wanted) {
            self.table.forget(*address);
        }
        self.stale.routes.extend(wanted.difference(&before));
        self.flush = Some(Instant::now());
    }

    fn hear(&mut self, said: io::Result<Option<(HopKey, hop::Heard)>>) -> Result<()> {
        match said {
            Ok(Some((key, heard))) => self.table.heard(Instant::now(), key, heard),
            Ok(None) => {}
            // An interface went down, which its notification says as well.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => return Err(error).context("reading from a packet socket"),
        }
        Ok(())
    }

    /// Notes what the kernel said; `None`: some of it was lost.
    fn note(&mut self, events: Option<Vec<Event>>) {
        let now = Instant::now();
        let mut all_routes = false;
        match events {
            None => {
                tracing::warn!("netlink notifications were lost: reading everything again");
                self.stale.everything = true;
            }
            Some(events) => {
                for event in events {
                    all_routes |= self.note_one(now, event);
                }
            }
        }
        if all_routes {
            self.stale.routes.extend(self.table.wanted());
        }
        if self.stale.everything || !self.stale.routes.is_empty() {
            self.flush.get_or_insert(now + COALESCE);
        }
    }

    /// Says whether all routes may have changed: the kernel announces none of those that an interface or a
    /// preferred source takes with it.
    fn note_one(&mut self, now: Instant, event: Event) -> bool {
        match event {
            Event::Link(ifindex, link) => self.table.set_link(now, ifindex, link),
            Event::Address(ifindex, address) => self.table.set_address(now, ifindex, address, false),
            Event::AddressGone(ifindex, address) => self.table.set_address(now, ifindex, address, true),
            Event::Neighbour(key, neighbour) => {
                self.table.kernel_neighbour(now, key, neighbour);
                false
            }
            Event::Routes { network, prefix } => {
                self.stale.routes.extend(self.table.wanted_in(network, prefix));
                false
            }
            Event::AllRoutes => true,
        }
    }

    /// Asks what is stale, and publishes.
    async fn flush(&mut self) {
        self.flush = None;
        let stale = std::mem::take(&mut self.stale);
        if let Err(error) = self.refresh(stale).await {
            tracing::warn!("asking the kernel for routes and neighbours: {error:#}; trying again");
            // What of it failed is not worth telling apart.
            self.stale.everything = true;
            self.flush = Some(Instant::now() + RETRY);
        }
        if self.table.take_changed() {
            let hops = self.table.next_hops();
            self.known.send_if_modified(|known| {
                let different = **known != hops;
                if different {
                    *known = Arc::new(hops);
                }
                different
            });
        }
    }

    async fn refresh(&mut self, stale: Stale) -> Result<()> {
        let wanted = Arc::clone(&self.wanted.borrow());
        let mut routes = stale.routes;
        if stale.everything {
            let interfaces = kernel::interfaces(&self.questions.interfaces().await?);
            let neighbours = kernel::neighbours(&self.questions.neighbours().await?);
            let now = Instant::now();
            self.table.set_interfaces(now, interfaces);
            self.table.kernel_neighbours(now, &neighbours);
            routes.clone_from(&wanted);
        }
        let addresses: Vec<IpAddr> = routes.intersection(&wanted).copied().collect();
        let found = self.questions.routes(&addresses).await?;
        let now = Instant::now();
        for (address, route) in found {
            self.table.set_route(now, address, route);
        }
        Ok(())
    }

    /// Does what the table says is to be done now.
    async fn act(&mut self) {
        let avoid = Arc::clone(&self.avoid.borrow());
        for action in self.table.poll(Instant::now()) {
            match action {
                Action::Probe { hop, to, preferred_source } => {
                    if let Err(error) = self.probe(hop, to, preferred_source, &avoid) {
                        // The next one will do, once there is room or the interface is back.
                        tracing::debug!("asking for {}: {error}", hop.address);
                    }
                }
                Action::Teach { hop, mac } => {
                    tracing::info!("{} has moved to MAC {}", hop.address, Colons(mac));
                    if let Err(error) = self.questions.teach(hop, mac).await {
                        tracing::debug!("{error:#}");
                    }
                }
                Action::Duplicate { hop, current, other } => tracing::warn!(
                    "two MACs answer for {}: {} stays in force, {} is ignored",
                    hop.address,
                    Colons(current),
                    Colons(other)
                ),
            }
        }
    }

    fn probe(
        &self,
        hop: HopKey,
        to: Option<wire::Mac>,
        preferred_source: Option<IpAddr>,
        avoid: &BTreeSet<IpAddr>,
    ) -> io::Result<()> {
        let interfaces = self.table.interfaces();
        let Some(source_mac) = interfaces.sender(hop.ifindex) else { return Ok(()) };
        match hop.address {
            IpAddr::V4(target) => {
                let source = interfaces.source_v4(hop.ifindex, target, preferred_source, avoid);
                let request = wire::arp_request(source_mac, source, target);
                self.arp.send(hop.ifindex, to.unwrap_or(wire::BROADCAST), &request)
            }
            IpAddr::V6(target) => {
                let Some(source) = interfaces.source_v6(hop.ifindex, avoid) else { return Ok(()) };
                let group = wire::solicited_node(target);
                let (destination, mac) = to.map_or((group, wire::multicast_mac(group)), |mac| (target, mac));
                let solicitation = wire::neighbour_solicitation(source_mac, source, target, destination);
                self.discovery.send(hop.ifindex, mac, &solicitation)
            }
        }
    }
}

/// A MAC as one writes it.
struct Colons(wire::Mac);

impl std::fmt::Display for Colons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
