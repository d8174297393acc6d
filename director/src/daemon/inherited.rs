//! Next hops that a predecessor left in the backends' records. A daemon that starts knows none of its own for a moment; if it
//! took that for the truth, every restart would be an outage. Pure.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use director_ebpf::abi::backend_flag;

use crate::model::{Config, Fallback, OnDown, Ports, Protocol, Service, mapped, unmapped};
use crate::pool::{NextHop, NextHops, RealKey, Serving};
use crate::reconcile::{self, Observed};

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

/// Real servers of a configuration that a predecessor had in the pool.
pub(super) fn in_pool(observed: &Observed, config: &Config) -> HashSet<RealKey> {
    let mut known = HashSet::new();
    for service in &config.services {
        let (ids, _) = ids(observed, service);
        for real in &service.reals {
            let serves = |backend: &director_ebpf::abi::Backend| {
                // A weight of 0 may mean that it is down, where those stay for their connections' sake.
                let down = backend.weight == 0 && real.weight > 0 && service.health.on_down == OnDown::Keep;
                let port_be = real.port.unwrap_or(0).to_be();
                ids.contains(&backend.service)
                    && backend.addr == mapped(real.address)
                    && backend.port_be == port_be
                    && !down
            };
            if observed.backends.values().any(serves) {
                known.insert(RealKey::new(&service.name, real));
            }
        }
    }
    known
}

/// What services made of their real servers' health under a predecessor, as far as it shows: whose fallback served.
pub(super) fn serving(observed: &Observed, config: &Config) -> HashMap<String, Serving> {
    let mut serving = HashMap::new();
    for service in &config.services {
        let (ids, known) = ids(observed, service);
        let fallback = match service.health.fallback {
            None => false,
            // Its packets are the kernel's: no key leads to it, but it is there.
            Some(Fallback::Local) => known && ids.is_empty(),
            Some(Fallback::Real { address, port }) => observed.backends.values().any(|backend| {
                let is_it = backend.addr == mapped(address) && backend.port_be == port.unwrap_or(0).to_be();
                is_it && ids.contains(&backend.service) && backend.weight > 0
            }),
        };
        if fallback {
            serving.insert(service.name.clone(), Serving { fallback, panic: false });
        }
    }
    serving
}

/// The ids that a service's keys lead to; and whether there is a record of its name at all.
fn ids(observed: &Observed, service: &Service) -> (HashSet<u32>, bool) {
    let at = |key: &director_ebpf::abi::ServiceKey| {
        let named = match &service.ports {
            Ports::Any => key.port_be == 0,
            Ports::List(ports) => ports.contains(&u16::from_be(key.port_be)),
        };
        named && key.addr == mapped(service.address) && key.proto == proto(service.protocol)
    };
    let ids = observed.keys.iter().filter(|(key, _)| at(key)).map(|(_, id)| *id).collect();
    let name = reconcile::name_hash(&service.name);
    (ids, observed.services.values().any(|record| record.name_hash == name))
}

fn proto(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => director_ebpf::abi::proto::TCP,
        Protocol::Udp => director_ebpf::abi::proto::UDP,
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
}
