//! Config + the operator's overrides + verdicts + what is known of next hops → what the data plane shall hold. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

mod resolve;
mod standing;

pub use resolve::{Hint, ResolveError, resolve, service};
pub use standing::{Health, Serving, Standing, Standings, next_step, serving};

use crate::model::{
    Config, Fallback, Forward, OnDown, Persistence, Ports, Protocol, Real, Scheduler, Service, Timeouts,
    Unserved,
};
use crate::slots::{self, Demand};

/// Where frames for a real server go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// MAC of the real server, or of the gateway before it.
    pub mac: [u8; 6],
    /// MAC of our interface on the way.
    pub source_mac: [u8; 6],
    /// Index of that interface.
    pub ifindex: u32,
}

/// Next hops by real server; one that is missing is not known (yet).
pub type NextHops = HashMap<IpAddr, NextHop>;

/// Names a real server within the configuration, for the operator's commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RealKey {
    /// The service's name.
    pub service: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Its port, where the configuration gives it one.
    pub port: Option<u16>,
}

impl RealKey {
    /// The key of a service's real server.
    pub fn new(service: &str, real: &Real) -> RealKey {
        RealKey { service: service.to_owned(), address: real.address, port: real.port }
    }

    /// The real server within its service, as [`resolve`] reads it: `192.0.2.1`, `192.0.2.1:8080`,
    /// `[2001:db8::1]:8080`.
    pub fn real(&self) -> String {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).to_string(),
            None => self.address.to_string(),
        }
    }
}

/// What the operator said of real servers: stays on top of the configuration until taken back. Serialized as
/// a list, since a JSON object has only strings for keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Override>", into = "Vec<Override>")]
pub struct Overrides {
    /// Weights in force instead of the configured ones; 0 drains. A key that the configuration does not have
    /// does nothing, and stays for a configuration that brings its real server back.
    pub weights: BTreeMap<RealKey, u16>,
}

impl Overrides {
    /// Puts a weight in force; returns the one that an earlier override had.
    pub fn set(&mut self, real: RealKey, weight: u16) -> Option<u16> {
        self.weights.insert(real, weight)
    }

    /// Gives the configuration its say back; returns the weight that was in force, if any.
    pub fn clear(&mut self, real: &RealKey) -> Option<u16> {
        self.weights.remove(real)
    }

    /// The weight in force instead of the configured one.
    pub fn weight(&self, real: &RealKey) -> Option<u16> {
        self.weights.get(real).copied()
    }
}

/// One entry of [`Overrides`], serialized.
#[derive(Serialize, Deserialize)]
struct Override {
    #[serde(flatten)]
    real: RealKey,
    weight: u16,
}

impl From<Vec<Override>> for Overrides {
    fn from(list: Vec<Override>) -> Overrides {
        Overrides { weights: list.into_iter().map(|entry| (entry.real, entry.weight)).collect() }
    }
}

impl From<Overrides> for Vec<Override> {
    fn from(overrides: Overrides) -> Vec<Override> {
        overrides.weights.into_iter().map(|(real, weight)| Override { real, weight }).collect()
    }
}

/// The whole desired state of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// In the configuration's order.
    pub services: Vec<DesiredService>,
}

impl Desired {
    /// Those of `fresh` whose next hops are worth waiting for: each may be the first usable real server of a service.
    pub fn awaited(&self, fresh: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        fn takers(service: &DesiredService) -> impl Iterator<Item = &DesiredReal> {
            service.reals.iter().filter(|real| real.weight > 0)
        }
        let unusable = self.services.iter().filter(|service| takers(service).all(|real| real.hop.is_none()));
        let addresses = unusable.flat_map(takers).map(|real| real.address);
        addresses.filter(|address| fresh.contains(address)).collect()
    }
}

/// A service as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Its name.
    pub name: String,
    /// The VIP.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: Ports,
    /// How packets reach its real servers.
    pub forward: Forward,
    /// How new flows choose.
    pub scheduler: Scheduler,
    /// Clients that stay.
    pub persistence: Option<Persistence>,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// What happens to what cannot be served.
    pub unserved: Unserved,
    /// Non-SYN segments may start flows.
    pub sloppy: bool,
    /// Segments of flows that ended here are refused, whatever `unserved` says: clients are not left waiting.
    pub reset: bool,
    /// Its packets are the kernel's.
    pub local: bool,
    /// The most slots its table may have (Maglev: exactly; a prime).
    pub table_size: u32,
    /// Its real servers, in the configuration's order; the fallback, where there is one, comes last.
    pub reals: Vec<DesiredReal>,
}

/// A real server as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredReal {
    /// Its address.
    pub address: IpAddr,
    /// Its port, where it is not the client's destination port.
    pub port: Option<u16>,
    /// The weight in force; 0 takes no new flows. While one of the service's real servers starts slowly, all are a hundred
    /// times as large, as far as they go.
    pub weight: u16,
    /// It is down, and not in the data plane at all: its flows end.
    pub out: bool,
    /// Where its frames go; without it, it takes no new flows.
    pub hop: Option<NextHop>,
}

/// What the data plane shall hold. The sizes of tables follow from the configuration alone: neither an
/// override nor a next hop that comes or goes changes how a Maglev table hashes.
pub fn desired(config: &Config, overrides: &Overrides, health: Health<'_>, hops: &NextHops) -> Desired {
    let demand =
        |service: &Service| Demand::new(service.scheduler, service.reals.iter().map(|real| real.weight));
    let demands: Vec<Demand> = config.services.iter().map(demand).collect();
    let sizes = slots::table_sizes(&demands, config.limits.slots);
    let services = config.services.iter().zip(sizes);
    Desired {
        services: services
            .map(|(service, size)| desired_service(service, size, overrides, health, hops))
            .collect(),
    }
}

fn desired_service(
    service: &Service,
    table_size: u32,
    overrides: &Overrides,
    health: Health<'_>,
    hops: &NextHops,
) -> DesiredService {
    let serving = health.serving.get(&service.name).copied().unwrap_or_default();
    let parts: Vec<_> = service.reals.iter().map(|real| health.part(service, real, overrides)).collect();
    let slow = parts.iter().any(|part| part.share < 100);
    let heaviest = parts.iter().map(|part| u32::from(part.weight)).max().unwrap_or(0);
    // Shares of small weights need finer ones.
    let scale = if slow { (u32::from(u16::MAX) / heaviest.max(1)).clamp(1, 100) } else { 1 };
    let scaled = |weight: u16, share: u16| match u32::from(weight) * scale * u32::from(share) / 100 {
        0 if weight > 0 => 1,
        scaled => scaled as u16,
    };
    let real = |(real, part): (&Real, &standing::Part)| DesiredReal {
        address: real.address,
        port: real.port,
        weight: scaled(part.weight, part.share),
        out: part.out,
        hop: hops.get(&real.address).copied(),
    };
    let mut reals: Vec<DesiredReal> = service.reals.iter().zip(&parts).map(real).collect();
    if let Some(Fallback::Real { address, port }) = service.health.fallback {
        // It stays when it serves no more, so that its connections can end by themselves.
        let weight = u16::from(serving.fallback);
        reals.push(DesiredReal { address, port, weight, out: false, hop: hops.get(&address).copied() });
    }
    let maintained = |real: &Real| {
        let standing = health.standings.get(&RealKey::new(&service.name, real));
        standing.is_some_and(|standing| standing.maintenance)
    };
    let watched = !service.health.checks.is_empty() || service.reals.iter().any(maintained);
    DesiredService {
        name: service.name.clone(),
        address: service.address,
        protocol: service.protocol,
        ports: service.ports.clone(),
        forward: service.forward,
        scheduler: service.scheduler,
        persistence: service.persistence,
        timeouts: service.timeouts,
        unserved: service.unserved,
        sloppy: service.sloppy || watched && service.health.on_down == OnDown::Reschedule,
        reset: watched && service.health.on_down == OnDown::Reset,
        local: standing::is_local(service, serving),
        table_size,
        reals,
    }
}

#[cfg(test)]
mod tests;
