//! Next hops that a predecessor left in the backends' records. A daemon that starts knows none of its own for a moment; if it
//! took that for the truth, every restart would be an outage. Pure.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use director_ebpf::abi::{Addr, backend_flag};

use crate::model::{Config, Fallback, OnDown, Real, mapped, unmapped};
use crate::pool::{self, Health, NextHop, NextHops, Overrides, RealKey, Serving};
use crate::reconcile::{self, Observed, fnv1a};

/// How long they are believed; the resolver has an answer, or has none, long before.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// The predecessor's next hops that are not known by better means yet.
#[derive(Debug)]
pub(super) struct Inherited {
    hops: NextHops,
    until: Instant,
    just_ended: bool,
}

impl Inherited {
    /// Takes them from the maps.
    pub(super) fn new(now: Instant, observed: &Observed) -> Inherited {
        // The kernel itself takes interfaces that went away out of `devices`.
        let usable = observed.backends.values().filter(|backend| {
            backend.flags & backend_flag::REACHABLE != 0 && observed.devices.contains(&backend.ifindex)
        });
        let hop = |backend: &director_ebpf::abi::Backend| {
            let (mac, source_mac, ifindex) = (backend.mac, backend.source_mac, backend.ifindex);
            (unmapped(backend.addr), NextHop { mac, source_mac, ifindex })
        };
        Inherited { hops: usable.map(hop).collect(), until: now + BELIEVED_FOR, just_ended: false }
    }

    /// What is known by all means. Once a next hop is known by better ones, its inherited one is forgotten.
    pub(super) fn merge(&mut self, now: Instant, known: &NextHops) -> NextHops {
        self.hops.retain(|address, _| !known.contains_key(address));
        self.just_ended = now >= self.until && !self.hops.is_empty();
        if now >= self.until {
            self.hops = HashMap::new();
        }
        let mut merged = known.clone();
        merged.extend(&self.hops);
        merged
    }

    /// Whether the last [`Inherited::merge`] was the one that stopped believing: then things change on their own.
    pub(super) fn just_ended(&self) -> bool {
        self.just_ended
    }
}

/// What a predecessor made of health, as far as the maps show it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    /// Real servers that it had in the pool.
    pub(super) in_pool: HashSet<RealKey>,
    /// Services whose fallback served.
    pub(super) serving: HashMap<String, Serving>,
}

impl Verdicts {
    /// Takes them from the maps, for the services of a configuration.
    pub(super) fn new(observed: &Observed, config: &Config) -> Verdicts {
        let mut weights: HashMap<(u32, Addr, u16), u16> = HashMap::new();
        for backend in observed.backends.values() {
            let weight = weights.entry((backend.service, backend.addr, backend.port_be)).or_default();
            *weight = (*weight).max(backend.weight);
        }
        let names: HashSet<u64> = observed.services.values().map(|record| record.name_hash).collect();
        // Only for its services' keys: nothing of it depends on health or next hops.
        let unknown = Health::unknown(Instant::now());
        let desired = pool::desired(config, &Overrides::default(), unknown, &NextHops::new());
        let mut verdicts = Verdicts::default();
        for (service, desired) in config.services.iter().zip(&desired.services) {
            let ids: HashSet<u32> = reconcile::sharing_keys(observed, desired).collect();
            let weight = |address, port: Option<u16>| {
                let keys = ids.iter().map(|id| (*id, mapped(address), port.unwrap_or(0).to_be()));
                keys.filter_map(|key| weights.get(&key)).max()
            };
            // A weight of 0 may mean that it is down, where those stay for their connections' sake.
            let stays = service.health.on_down == OnDown::Keep;
            let was_in = |real: &&Real| {
                weight(real.address, real.port)
                    .is_some_and(|weight| *weight > 0 || real.weight == 0 || !stays)
            };
            let reals = service.reals.iter().filter(was_in).map(|real| RealKey::new(&service.name, real));
            verdicts.in_pool.extend(reals);
            let fallback = match service.health.fallback {
                None => false,
                // Its packets are the kernel's: no key leads to it, but it is there.
                Some(Fallback::Local) => ids.is_empty() && names.contains(&fnv1a(service.name.as_bytes())),
                Some(Fallback::Real { address, port }) => {
                    weight(address, port).is_some_and(|weight| *weight > 0)
                }
            };
            if fallback {
                verdicts.serving.insert(service.name.clone(), Serving { fallback, panic: false });
            }
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapped;
    use director_ebpf::abi::Backend;
    use std::net::IpAddr;

    fn hop(n: u8) -> NextHop {
        NextHop { mac: [n; 6], source_mac: [n + 1; 6], ifindex: 2 }
    }

    fn backend(address: IpAddr, flags: u8, ifindex: u32) -> Backend {
        let NextHop { mac, source_mac, .. } = hop(7);
        Backend {
            mac,
            forward: 0,
            flags,
            source_mac,
            weight: 1,
            ifindex,
            service: 1,
            vip: [0; 16],
            addr: mapped(address),
            port_be: 0,
            vport_be: 0,
            addr_delta: 0,
            l4_delta: 0,
        }
    }

    #[test]
    fn an_inherited_hop_bridges_the_time_until_a_better_one() {
        let [a, b, c, d]: [IpAddr; 4] = std::array::from_fn(|i| IpAddr::from([10, 0, 0, i as u8]));
        let mut observed = Observed::default();
        observed.devices.insert(2);
        let records = [backend(a, 7, 2), backend(b, 3, 2), backend(c, 1, 2), backend(d, 7, 9)];
        observed.backends.extend((1..).zip(records));
        let start = Instant::now();
        let mut inherited = Inherited::new(start, &observed);

        let merged = inherited.merge(start, &NextHops::new());
        assert_eq!(
            merged,
            NextHops::from([(a, hop(7)), (b, hop(7))]),
            "not unreachable ones, nor on lost interfaces"
        );

        let known = NextHops::from([(a, hop(1))]);
        assert_eq!(inherited.merge(start, &known)[&a], hop(1));
        let merged = inherited.merge(start, &NextHops::new());
        assert!(!merged.contains_key(&a), "what was known better once is not believed again");

        let later = start + BELIEVED_FOR;
        assert_eq!(inherited.merge(later, &NextHops::new()), NextHops::new());
        assert!(inherited.just_ended());
        inherited.merge(later, &NextHops::new());
        assert!(!inherited.just_ended());
    }

    #[test]
    fn who_was_in_the_pool_and_whose_fallback_served_is_seen() {
        let text = "\
interfaces: [eth0]
vips: [{ address: 192.0.2.1/24, interface: eth0 }]
services:
  - { name: web, address: 192.0.2.1, port: 80, forward: direct, check: { type: ping }, fallback: { address: 10.0.0.9 },
      reals: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }] }
  - { name: own, address: 192.0.2.1, port: 81, forward: direct, check: { type: ping }, fallback: local,
      reals: [{ address: 10.0.0.1 }] }
";
        let config = crate::config::parse(text).unwrap().config;
        let hop = NextHop { mac: [2; 6], source_mac: [3; 6], ifindex: 2 };
        let addresses = [1, 9].map(|last| IpAddr::from([10, 0, 0, last]));
        let hops: NextHops = addresses.into_iter().map(|address| (address, hop)).collect();
        let up = |name: &str| (name.to_owned(), Serving { fallback: true, panic: false });
        let serving = HashMap::from([up("web"), up("own")]);
        let standings = pool::Standings::new();
        let health = Health { standings: &standings, serving: &serving, now: Instant::now() };
        let mut desired = pool::desired(&config, &Overrides::default(), health, &hops);
        desired.services[0].reals[0].out = false;
        let limits = crate::model::Limits::default();
        let units = crate::reconcile::Units { tick: Duration::from_secs(1), limits };
        let mut observed = Observed::default();
        for op in reconcile::diff(&observed, &desired, &units).ops {
            match op {
                crate::reconcile::MapOp::WriteBackend { id, record } => {
                    observed.backends.extend([(id, record)])
                }
                crate::reconcile::MapOp::WriteService { id, record } => {
                    observed.services.extend([(id, record)])
                }
                crate::reconcile::MapOp::PutKey { key, id } => observed.keys.extend([(key, id)]),
                _ => {}
            }
        }
        let first = RealKey::new("web", &config.services[0].reals[0]);
        let verdicts = Verdicts { in_pool: HashSet::from([first]), serving };
        assert_eq!(Verdicts::new(&observed, &config), verdicts);
    }
}
