//! Which observed record is which desired one: what keeps its id keeps its flows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use director_ebpf::abi;

use super::records::{fnv1a, service_keys, service_proto};
use super::state::Observed;
use crate::model::mapped;
use crate::pool::{Desired, DesiredService};

/// The observed id of each desired service, where there is one.
///
/// A service is first of all what its keys say, so that it may be renamed; among several that share keys with it, the one of
/// its name is meant. One that shares no key is recognized by its name, so that its ports may be replaced.
pub(super) fn claim_services(observed: &Observed, desired: &Desired) -> Vec<Option<u32>> {
    let mut claims = vec![None; desired.services.len()];
    let mut taken = BTreeSet::new();
    let mut claim_by = |find: &dyn Fn(&DesiredService, &BTreeSet<u32>) -> Option<u32>| {
        for (claim, service) in claims.iter_mut().zip(&desired.services) {
            if claim.is_none()
                && let Some(id) = find(service, &taken)
            {
                *claim = Some(id);
                taken.insert(id);
            }
        }
    };
    let named: HashMap<u64, u32> = observed.services.iter().map(|(&id, r)| (r.name_hash, id)).collect();

    claim_by(&|service, taken| {
        let name = fnv1a(service.name.as_bytes());
        sharing_keys(observed, service)
            .find(|id| !taken.contains(id) && observed.services[id].name_hash == name)
    });
    claim_by(&|service, taken| sharing_keys(observed, service).find(|id| !taken.contains(id)));
    claim_by(&|service, taken| {
        let id = *named.get(&fnv1a(service.name.as_bytes()))?;
        (!taken.contains(&id) && is_at(&observed.services[&id], service)).then_some(id)
    });
    claims
}

/// Observed services that one of the desired one's keys leads to, in the keys' order (with repeats).
pub fn sharing_keys<'a>(
    observed: &'a Observed,
    service: &'a DesiredService,
) -> impl Iterator<Item = u32> + 'a {
    service_keys(service).filter_map(|key| {
        let id = *observed.keys.get(&key)?;
        is_at(observed.services.get(&id)?, service).then_some(id)
    })
}

fn is_at(record: &abi::Service, service: &DesiredService) -> bool {
    record.vip == mapped(service.address) && record.proto == service_proto(service)
}

/// What makes a backend the same one from one configuration to the next, beside its service: flows of another address, port or
/// way of forwarding could not go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BackendIdentity {
    /// The service's id.
    pub(super) service: u32,
    /// The VIP, and its port where the real server has its own: replies get them back, and checksums their difference.
    pub(super) vip: abi::Addr,
    pub(super) vport_be: u16,
    /// The real server's address.
    pub(super) addr: abi::Addr,
    /// Its port.
    pub(super) port_be: u16,
    /// How packets reach it.
    pub(super) forward: u8,
}

impl BackendIdentity {
    /// A record's.
    pub(super) fn of(record: &abi::Backend) -> BackendIdentity {
        let abi::Backend { service, vip, vport_be, addr, port_be, forward, .. } = *record;
        BackendIdentity { service, vip, vport_be, addr, port_be, forward }
    }
}

/// Observed backends by identity, to be claimed one by one.
pub(super) struct Backends(HashMap<BackendIdentity, Vec<u32>>);

impl Backends {
    pub(super) fn new(backends: &BTreeMap<u32, abi::Backend>) -> Backends {
        let mut by_identity: HashMap<_, Vec<u32>> = HashMap::with_capacity(backends.len());
        // From the back, so that `pop` gives the lowest id first, in every plan alike.
        for (&id, record) in backends.iter().rev() {
            by_identity.entry(BackendIdentity::of(record)).or_default().push(id);
        }
        Backends(by_identity)
    }

    /// The id of an observed backend of this identity that is not claimed yet.
    pub(super) fn claim(&mut self, identity: &BackendIdentity) -> Option<u32> {
        self.0.get_mut(identity)?.pop()
    }

    /// Those that nobody claimed, ascending.
    pub(super) fn unclaimed(self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.0.into_values().flatten().collect();
        ids.sort_unstable();
        ids
    }
}

/// Ids that nothing uses, ascending from 1.
pub(super) struct FreeIds<F: Fn(u32) -> bool> {
    next: u32,
    limit: u32,
    used: F,
}

impl<F: Fn(u32) -> bool> FreeIds<F> {
    /// Ids from 1 to `limit` for which `used` does not hold; the maps have one entry more, for entry 0 is never used.
    pub(super) fn new(limit: u32, used: F) -> FreeIds<F> {
        FreeIds { next: 1, limit, used }
    }

    /// The next one; never the same twice.
    pub(super) fn take(&mut self) -> Option<u32> {
        while self.next <= self.limit {
            let id = self.next;
            self.next += 1;
            if !(self.used)(id) {
                return Some(id);
            }
        }
        None
    }
}
