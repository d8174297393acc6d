//! Reading what the program counted.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use director_ebpf::abi::{BackendStats, Reason, ServiceStats, maps};

use super::Dataplane;
use super::error::Error;
use super::faults::{READ, WRITE};

/// Counters, summed over the CPUs. They only grow, until the data plane is detached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By backend id.
    pub backends: BTreeMap<u32, BackendStats>,
    /// By service id.
    pub services: BTreeMap<u32, ServiceStats>,
    /// By [`Reason`].
    pub reasons: Vec<u64>,
}

impl Counters {
    /// How often a reason was given.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).copied().unwrap_or(0)
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct BackendPod(BackendStats);
// SAFETY: integers without padding (asserted in the ABI), any bits are a value.
unsafe impl aya::Pod for BackendPod {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct ServicePod(ServiceStats);
// SAFETY: as above.
unsafe impl aya::Pod for ServicePod {}

impl Dataplane {
    /// Reads the counters of the given backends and services, and all reasons.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn counters(
        &self,
        backends: impl IntoIterator<Item = u32>,
        services: impl IntoIterator<Item = u32>,
    ) -> Result<Counters, Error> {
        let mut counters = Counters::default();
        let map: PerCpuArray<&MapData, BackendPod> = PerCpuArray::try_from(self.map(maps::BACKEND_STATS)?)?;
        for id in backends {
            let each = self.errors.note(maps::BACKEND_STATS, READ, map.get(&id, 0))?;
            let sum = each.iter().fold(BackendStats::default(), |a, b| a.plus(&b.0));
            counters.backends.insert(id, sum);
        }
        let map: PerCpuArray<&MapData, ServicePod> = PerCpuArray::try_from(self.map(maps::SERVICE_STATS)?)?;
        for id in services {
            let each = self.errors.note(maps::SERVICE_STATS, READ, map.get(&id, 0))?;
            let sum = each.iter().fold(ServiceStats::default(), |a, b| a.plus(&b.0));
            counters.services.insert(id, sum);
        }
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(self.map(maps::REASONS)?)?;
        for reason in Reason::ALL {
            let each = self.errors.note(maps::REASONS, READ, map.get(&(*reason as u32), 0))?;
            counters.reasons.push(each.iter().sum());
        }
        Ok(counters)
    }

    /// Sets a backend's counters to zero, on every CPU.
    pub(super) fn forget_backend_stats(&mut self, id: u32) -> Result<(), Error> {
        self.zero(maps::BACKEND_STATS, id, BackendPod(BackendStats::default()))
    }

    /// Sets a service's counters to zero, on every CPU.
    pub(super) fn forget_service_stats(&mut self, id: u32) -> Result<(), Error> {
        self.zero(maps::SERVICE_STATS, id, ServicePod(ServiceStats::default()))
    }

    fn zero<T: aya::Pod>(&mut self, name: &str, id: u32, zero: T) -> Result<(), Error> {
        let missing = || Error::Load(format!("the object has no {name}"));
        let mut map: PerCpuArray<&mut MapData, T> =
            PerCpuArray::try_from(self.base.map_mut(name).ok_or_else(missing)?)?;
        let zeros =
            PerCpuValues::try_from(vec![zero; self.cpus]).map_err(|error| Error::Load(error.to_string()))?;
        Ok(self.errors.note(name, WRITE, map.set(id, zeros, 0))?)
    }

    fn map(&self, name: &str) -> Result<&Map, Error> {
        self.base.map(name).ok_or_else(|| Error::Load(format!("the object has no {name}")))
    }
}

/// Adding counters of two CPUs.
trait Plus {
    fn plus(&self, other: &Self) -> Self;
}

impl Plus for BackendStats {
    fn plus(&self, other: &Self) -> Self {
        BackendStats {
            packets_in: self.packets_in + other.packets_in,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            bytes_out: self.bytes_out + other.bytes_out,
            new_flows: self.new_flows + other.new_flows,
        }
    }
}

impl Plus for ServiceStats {
    fn plus(&self, other: &Self) -> Self {
        ServiceStats {
            no_real_dropped: self.no_real_dropped + other.no_real_dropped,
            no_real_rejected: self.no_real_rejected + other.no_real_rejected,
            no_flow: self.no_flow + other.no_flow,
            unplaced: self.unplaced + other.unplaced,
            rr: 0,
            last_unplaced: 0,
            icmp_budget: 0,
        }
    }
}
