//! The comparison itself, service by service.

use std::collections::{BTreeSet, HashMap};

use director_ebpf::abi;
use thiserror::Error;

use super::identity::{BackendIdentity, Backends, FreeIds, claim_services};
use super::records::{address_filter, backend_record, service_keys, service_record};
use super::state::{MapOp, Observed, Units};
use super::tables::{self, Gaps, Usable};
use crate::model::Scheduler;
use crate::pool::{Desired, DesiredReal, DesiredService};

/// What to do, and what could not be planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order they are to be applied.
    pub ops: Vec<MapOp>,
    /// What the tables have no room for. The rest of the plan does without it; a later plan tries again.
    pub problems: Vec<Problem>,
    /// Where each desired service is in the maps, in their order; `None` where there is no room for it.
    pub placements: Vec<Option<Placement>>,
}

/// Where a desired service is in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The service's id.
    pub id: u32,
    /// The backends' ids, in the order of its real servers; `None` where it is out, or there is no room for it.
    pub backends: Vec<Option<u32>>,
}

/// Something desired that the data plane cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// No service record is free.
    #[error("service {service}: no room for it: limits.services is used up")]
    NoServiceId {
        /// The service's name.
        service: String,
    },
    /// No backend record is free.
    #[error(
        "service {service}: no room for real server {real}: limits.reals is used up \
         (a removed real server keeps its place until its flows are gone)"
    )]
    NoBackendId {
        /// The service's name.
        service: String,
        /// The real server's address.
        real: String,
    },
    /// No gap is long enough for the slot table that the service should have.
    #[error("service {service}: no room for a table of {wanted} slots: limits.slots is used up; {fallback}")]
    NoSlots {
        /// The service's name.
        service: String,
        /// The slots it should have.
        wanted: u32,
        /// What happens instead.
        fallback: Fallback,
    },
    /// Keys beyond the limit.
    #[error("service {service}: no room for {missing} of its ports: limits.keys is used up")]
    NoKeys {
        /// The service's name.
        service: String,
        /// Ports that lead nowhere.
        missing: usize,
    },
    /// Two services want the same key.
    #[error("service {service}: port {port} of its address belongs to an earlier service")]
    KeyTaken {
        /// The later service's name.
        service: String,
        /// The port; 0 is any.
        port: u16,
    },
}

/// What a service does without the slot table that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fallback {
    /// It has a coarser table.
    #[error("it has one of {0} instead")]
    Smaller(u32),
    /// It keeps the table of older weights.
    #[error("it keeps its old one")]
    Old,
    /// It has none, and takes no new flows.
    #[error("it takes no new flows")]
    Nothing,
}

/// What turns `observed` into `desired`.
pub fn diff(observed: &Observed, desired: &Desired, units: &Units) -> Plan {
    let claims = claim_services(observed, desired);
    let mut free_services = FreeIds::new(units.limits.services, |id| observed.services.contains_key(&id));
    let free_backends = FreeIds::new(units.limits.reals, |id| {
        observed.backends.contains_key(&id) || observed.quarantined_backends.contains(&id)
    });
    let mut planner = Planner {
        observed,
        units,
        backends: Backends::new(&observed.backends),
        free_backends,
        gaps: Gaps::new(&observed.services, units.limits.slots),
        broken: tables::broken(&observed.services, units.limits.slots),
        keys: HashMap::with_capacity(observed.keys.len()),
        devices: observed.attached.clone(),
        steps: Steps::default(),
        problems: Vec::new(),
    };
    let mut placements = Vec::with_capacity(desired.services.len());
    for (service, claim) in desired.services.iter().zip(&claims) {
        let Some(id) = claim.or_else(|| free_services.take()) else {
            planner.problems.push(Problem::NoServiceId { service: service.name.clone() });
            placements.push(None);
            continue;
        };
        placements.push(Some(planner.service(service, id)));
    }
    let kept: BTreeSet<u32> = claims.into_iter().flatten().collect();
    planner.finish(desired, &kept, placements)
}

/// A plan in the making. The fields of `steps` are its order.
struct Planner<'a, F: Fn(u32) -> bool> {
    observed: &'a Observed,
    units: &'a Units,
    backends: Backends,
    free_backends: FreeIds<F>,
    gaps: Gaps,
    broken: BTreeSet<u32>,
    keys: HashMap<abi::ServiceKey, u32>,
    devices: BTreeSet<u32>,
    steps: Steps,
    problems: Vec<Problem>,
}

/// Operations by the phase they belong to.
#[derive(Default)]
struct Steps {
    /// Backends that are new, or change without closing: before any slot leads to them.
    backends: Vec<MapOp>,
    /// New tables, into ranges that nobody reads.
    slots: Vec<MapOp>,
    /// Services, which flips them to the new tables.
    services: Vec<MapOp>,
    /// Backends that close: after no slot leads to them.
    closing: Vec<MapOp>,
    /// New or moved keys.
    keys: Vec<MapOp>,
}

impl<F: Fn(u32) -> bool> Planner<'_, F> {
    /// Plans one service under its id.
    fn service(&mut self, service: &DesiredService, id: u32) -> Placement {
        let backends: Vec<Option<u32>> = service
            .reals
            .iter()
            .map(|real| if real.out { None } else { self.backend(service, id, real) })
            .collect();
        let usable: Vec<Usable<'_>> = service
            .reals
            .iter()
            .zip(&backends)
            .filter(|(real, _)| real.weight > 0 && real.hop.is_some())
            .filter_map(|(real, backend)| backend.map(|id| Usable { id, real }))
            .collect();
        let mut record = service_record(service, self.units);
        (record.table, record.table_sig) = self.table(service, id, &usable);
        if self.observed.services.get(&id) != Some(&record) {
            self.steps.services.push(MapOp::WriteService { id, record });
        }
        if !service.local {
            self.service_keys(service, id);
        }
        Placement { id, backends }
    }

    /// Plans one real server; its backend's id.
    fn backend(&mut self, service: &DesiredService, service_id: u32, real: &DesiredReal) -> Option<u32> {
        let identity = BackendIdentity::of(&backend_record(service, service_id, real, None));
        let Some(id) = self.backends.claim(&identity).or_else(|| self.free_backends.take()) else {
            let (service, real) = (service.name.clone(), real.address.to_string());
            self.problems.push(Problem::NoBackendId { service, real });
            return None;
        };
        let before = self.observed.backends.get(&id);
        let record = backend_record(service, service_id, real, before);
        // Where the hop got lost, its interface may be gone, too, and the kernel would refuse it.
        if record.flags & abi::backend_flag::REACHABLE != 0 {
            self.devices.insert(record.ifindex);
        }
        // An observer may leave out the deltas, which follow from the rest; wrong ones are put right.
        if !before.is_some_and(|before| *before == record || *before == record.unsealed()) {
            let closes = before.is_some_and(is_open) && !is_open(&record);
            let step = if closes { &mut self.steps.closing } else { &mut self.steps.backends };
            step.push(MapOp::WriteBackend { id, record });
        }
        Some(id)
    }

    /// The table word and signature of a service's record; plans a new table where it needs one.
    fn table(&mut self, service: &DesiredService, id: u32, usable: &[Usable<'_>]) -> (u64, u64) {
        let wanted = service.table_size.max(1);
        let signature = |size| tables::signature(service.scheduler, size, usable);
        if usable.is_empty() {
            return (0, signature(wanted));
        }
        let before = self
            .observed
            .services
            .get(&id)
            .filter(|record| !self.broken.contains(&id) && !tables::table_range(record.table).is_empty());
        if let Some(before) = before.filter(|before| before.table_sig == signature(wanted)) {
            return (before.table, before.table_sig);
        }
        for size in tables::sizes(wanted) {
            // A coarser table from an earlier plan stays as long as no better one fits.
            if let Some(before) = before.filter(|before| before.table_sig == signature(size)) {
                let got = tables::table_range(before.table).len() as u32;
                self.no_slots(service, Fallback::Smaller(got));
                return (before.table, before.table_sig);
            }
            // Hash tables are the large ones, and as long as asked for: not built in vain.
            let hashed = matches!(service.scheduler, Scheduler::Mh | Scheduler::Sh | Scheduler::Dh);
            if hashed && !self.gaps.has(size) {
                continue;
            }
            let slots = tables::build(service.scheduler, size, usable);
            let len = slots.len() as u32;
            if let Some(offset) = self.gaps.take(len) {
                self.steps.slots.push(MapOp::WriteSlots { offset, slots });
                if size != wanted {
                    self.no_slots(service, Fallback::Smaller(len));
                }
                return (tables::table_word(offset, len), signature(size));
            }
        }
        self.without_new_table(service, id, before, usable)
    }

    /// No room at all: the old table goes on if all it leads to still takes new flows.
    fn without_new_table(
        &mut self,
        service: &DesiredService,
        id: u32,
        before: Option<&abi::Service>,
        usable: &[Usable<'_>],
    ) -> (u64, u64) {
        let usable: BTreeSet<u32> = usable.iter().map(|u| u.id).collect();
        let mut backends = self.observed.backends.iter().filter(|(_, record)| record.service == id);
        match before {
            Some(before) if backends.all(|(id, record)| !is_open(record) || usable.contains(id)) => {
                self.no_slots(service, Fallback::Old);
                (before.table, before.table_sig)
            }
            _ => {
                self.no_slots(service, Fallback::Nothing);
                (0, 0)
            }
        }
    }

    fn no_slots(&mut self, service: &DesiredService, fallback: Fallback) {
        let (service, wanted) = (service.name.clone(), service.table_size);
        self.problems.push(Problem::NoSlots { service, wanted, fallback });
    }

    /// Plans the keys that lead to a service.
    fn service_keys(&mut self, service: &DesiredService, id: u32) {
        let mut missing = 0;
        for key in service_keys(service) {
            if self.keys.contains_key(&key) {
                let port = u16::from_be(key.port_be);
                self.problems.push(Problem::KeyTaken { service: service.name.clone(), port });
                continue;
            }
            if self.keys.len() >= self.units.limits.keys as usize {
                missing += 1;
                continue;
            }
            self.keys.insert(key, id);
            if self.observed.keys.get(&key) != Some(&id) {
                self.steps.keys.push(MapOp::PutKey { key, id });
            }
        }
        if missing > 0 {
            self.problems.push(Problem::NoKeys { service: service.name.clone(), missing });
        }
    }

    /// Plans the removals, and puts all in order.
    fn finish(self, desired: &Desired, kept: &BTreeSet<u32>, placements: Vec<Option<Placement>>) -> Plan {
        let Planner { observed, units, backends, keys, devices, steps, problems, .. } = self;
        let put_devices = devices.difference(&observed.devices).map(|&ifindex| MapOp::PutDevice { ifindex });
        let mut ops: Vec<MapOp> = put_devices.collect();
        let filter = address_filter(desired);
        // Before any flow goes to a new real server, its replies must not pass for somebody else's.
        let mut wider = observed.filter.clone();
        wider.iter_mut().zip(filter.iter()).for_each(|(have, want)| *have |= want);
        if wider != observed.filter {
            ops.push(MapOp::WriteFilter(wider.clone()));
        }
        ops.extend(steps.backends);
        ops.extend(steps.slots);
        ops.extend(steps.services);
        ops.extend(steps.closing);
        if filter != wider {
            ops.push(MapOp::WriteFilter(filter));
        }

        let mut stale: Vec<abi::ServiceKey> =
            observed.keys.keys().filter(|key| !keys.contains_key(key)).copied().collect();
        stale.sort_unstable();
        let delete_keys = stale.into_iter().map(|key| MapOp::DeleteKey { key });
        let new_keys = keys.keys().filter(|key| !observed.keys.contains_key(key)).count();
        if observed.keys.len() + new_keys <= units.limits.keys as usize {
            // A service that goes from a list of ports to any port is reachable all the time.
            ops.extend(steps.keys);
            ops.extend(delete_keys);
        } else {
            ops.extend(delete_keys);
            ops.extend(steps.keys);
        }
        let gone = observed.services.keys().filter(|id| !kept.contains(id));
        ops.extend(gone.map(|&id| MapOp::ClearService { id }));
        ops.extend(backends.unclaimed().into_iter().map(|id| MapOp::ClearBackend { id }));
        let unused = observed.devices.difference(&devices);
        ops.extend(unused.map(|&ifindex| MapOp::DeleteDevice { ifindex }));
        Plan { ops, problems, placements }
    }
}

fn is_open(record: &abi::Backend) -> bool {
    record.flags & abi::backend_flag::OPEN != 0
}
