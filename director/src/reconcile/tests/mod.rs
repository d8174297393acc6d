//! A small model of the data plane that applies plans one operation at a time and looks for harm at every step.

mod cases;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use director_ebpf::abi;

use super::records::{fnv1a, service_keys};
use super::tables::table_range;
use super::*;
use crate::model::{Forward, Limits, Ports, Protocol, Scheduler, Timeouts, Unserved, mapped};
use crate::pool::{Desired, DesiredReal, DesiredService, NextHop};

fn units() -> Units {
    let limits = Limits { flows: 1024, services: 64, reals: 512, keys: 1024, slots: 16_384 };
    Units { tick: Duration::from_millis(1024), limits }
}

fn hop(n: u8) -> NextHop {
    NextHop { mac: [2, 0, 0, 0, 0, n], source_mac: [2, 0, 0, 0, 1, n], ifindex: u32::from(n % 3) + 1 }
}

fn real(last: u8, weight: u16) -> DesiredReal {
    DesiredReal {
        address: IpAddr::from([10, 0, 0, last]),
        port: None,
        weight,
        out: false,
        hop: Some(hop(last)),
    }
}

fn service(name: &str, vip: u8, ports: &[u16], reals: Vec<DesiredReal>) -> DesiredService {
    DesiredService {
        name: name.to_owned(),
        address: IpAddr::from([192, 0, 2, vip]),
        protocol: Protocol::Tcp,
        ports: if ports.is_empty() { Ports::Any } else { Ports::List(ports.to_vec()) },
        forward: Forward::Direct,
        scheduler: Scheduler::Wrr,
        persistence: None,
        timeouts: Timeouts::default(),
        unserved: Unserved::Drop,
        sloppy: false,
        reset: false,
        local: false,
        table_size: 61,
        reals,
    }
}

/// The maps, slots included.
struct World {
    observed: Observed,
    slots: Vec<u32>,
    units: Units,
}

impl World {
    fn new(units: Units) -> World {
        World { observed: Observed::default(), slots: vec![0; units.limits.slots as usize], units }
    }

    fn plan(&self, desired: &Desired) -> Plan {
        diff(&self.observed, desired, &self.units)
    }

    /// Applies a plan that meets a sound world: it must be so at every step.
    fn apply(&mut self, plan: &Plan) {
        self.check();
        let in_use: Vec<_> = self.observed.services.values().map(|s| table_range(s.table)).collect();
        for op in &plan.ops {
            if let MapOp::WriteSlots { offset, slots } = op {
                let end = offset + slots.len() as u32;
                assert!(offset % abi::SLOTS_PER_LINE == 0 && end <= self.units.limits.slots);
                assert!(in_use.iter().all(|used| end <= used.start || used.end <= *offset), "a table in use");
            }
            if let MapOp::WriteBackend { id, .. } = op {
                assert!(!self.observed.quarantined_backends.contains(id), "backend {id} is quarantined");
            }
            self.step(op);
            self.check();
        }
    }

    /// Applies a plan that repairs a world which is not sound.
    fn repair(&mut self, plan: &Plan) {
        plan.ops.iter().for_each(|op| self.step(op));
        self.check();
    }

    fn step(&mut self, op: &MapOp) {
        if let MapOp::WriteSlots { offset, slots } = op {
            let at = *offset as usize;
            self.slots[at..at + slots.len()].copy_from_slice(slots);
        }
        self.observed.apply(op);
    }

    /// What must always hold: whatever leads to a record leads to the right one.
    fn check(&self) {
        for (key, id) in &self.observed.keys {
            let service = self.observed.services.get(id).expect("a key leads to a service");
            assert_eq!((service.vip, service.proto), (key.addr, key.proto));
        }
        let mut covered = BTreeSet::new();
        for (&id, service) in &self.observed.services {
            for slot in table_range(service.table) {
                assert!(covered.insert(slot), "two tables share slot {slot}");
                let backend = &self.observed.backends[&self.slots[slot as usize]];
                assert_eq!(backend.service, id);
                let open = abi::backend_flag::VALID | abi::backend_flag::REACHABLE | abi::backend_flag::OPEN;
                assert_eq!(backend.flags & open, open, "a slot leads to an open backend");
                assert!(self.observed.devices.contains(&backend.ifindex));
            }
        }
    }

    /// That the maps hold what is desired, no less and no more.
    fn check_holds(&self, desired: &Desired, plan: &Plan) {
        let observed = &self.observed;
        assert_eq!(observed.services.len(), desired.services.len());
        let mut keys = BTreeMap::new();
        let mut backends = 0;
        for (service, placement) in desired.services.iter().zip(&plan.placements) {
            let placement = placement.as_ref().expect("there is room");
            let record = &observed.services[&placement.id];
            assert_eq!(record.name_hash, fnv1a(service.name.as_bytes()));
            assert_eq!(record.vip, mapped(service.address));
            if !service.local {
                keys.extend(service_keys(service).map(|key| (key, placement.id)));
            }
            let slots: BTreeSet<u32> =
                table_range(record.table).map(|slot| self.slots[slot as usize]).collect();
            for (real, backend) in service.reals.iter().zip(&placement.backends) {
                if real.out {
                    assert_eq!(*backend, None);
                    continue;
                }
                let id = backend.expect("there is room");
                let backend = &observed.backends[&id];
                assert_eq!(backend.addr, mapped(real.address));
                assert_eq!(backend.weight, real.weight);
                assert_eq!(*backend, backend.sealed());
                let usable = real.weight > 0 && real.hop.is_some();
                assert_eq!(backend.flags & abi::backend_flag::OPEN != 0, usable);
                // Failover gives its one slot to the best; every other scheduler has room for all of them here.
                assert!(slots.contains(&id) == usable || service.scheduler == Scheduler::Fo);
                backends += 1;
            }
        }
        assert_eq!(keys, observed.keys.iter().map(|(&key, &id)| (key, id)).collect());
        assert_eq!(backends, observed.backends.len());
    }

    /// Plans and applies until nothing is left; the last plan that did something.
    fn settle(&mut self, desired: &Desired) -> Plan {
        let plan = self.plan(desired);
        assert_eq!(plan.problems, []);
        self.apply(&plan);
        let again = self.plan(desired);
        assert_eq!(again.ops, [], "a second plan is empty");
        self.check_holds(desired, &plan);
        assert_eq!(plan.placements, again.placements);
        plan
    }
}
