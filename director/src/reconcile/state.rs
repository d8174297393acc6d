//! What the reconciler reads and what it asks for: the data plane's state as observed, and operations on its maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use director_ebpf::abi;

use crate::model::Limits;

/// What the data plane holds, as last read from its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Service records in use (with [`abi::service_flag::VALID`]), by id.
    pub services: BTreeMap<u32, abi::Service>,
    /// Every key, and the service id it leads to (which may be one that no longer exists).
    pub keys: HashMap<abi::ServiceKey, u32>,
    /// Backend records in use (with [`abi::backend_flag::VALID`]), by id.
    pub backends: BTreeMap<u32, abi::Backend>,
    /// The address filter.
    pub filter: Box<abi::AddrFilter>,
    /// Backends not in use any more that flows may still name: their ids must not serve another real server yet.
    pub quarantined_backends: BTreeSet<u32>,
    /// Interfaces that packets may be redirected to.
    pub devices: BTreeSet<u32>,
    /// Interfaces that the program is attached to: they stay in `devices`, since NAT's replies leave by them.
    pub attached: BTreeSet<u32>,
}

impl Default for Observed {
    fn default() -> Self {
        Observed {
            services: BTreeMap::new(),
            keys: HashMap::new(),
            backends: BTreeMap::new(),
            filter: Box::new([0; abi::FILTER_WORDS]),
            quarantined_backends: BTreeSet::new(),
            devices: BTreeSet::new(),
            attached: BTreeSet::new(),
        }
    }
}

/// One operation on the data plane's maps. A plan's operations are applied in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Allows redirects to an interface.
    PutDevice {
        /// Its index.
        ifindex: u32,
    },
    /// Writes a backend's record, new or changed. Flows may be using it.
    WriteBackend {
        /// Its id.
        id: u32,
        /// The whole record.
        record: abi::Backend,
    },
    /// Writes a slot table into a range that nobody reads yet.
    WriteSlots {
        /// The first slot, a multiple of [`abi::SLOTS_PER_LINE`].
        offset: u32,
        /// Backend ids.
        slots: Vec<u32>,
    },
    /// Writes a service's record, new or changed. Packets may be using it: [`abi::Service::table`] is stored last, at once.
    WriteService {
        /// Its id.
        id: u32,
        /// The whole record.
        record: abi::Service,
    },
    /// Writes the address filter.
    WriteFilter(Box<abi::AddrFilter>),
    /// Leads a key to a service; another service may have had it.
    PutKey {
        /// The key.
        key: abi::ServiceKey,
        /// The service's id.
        id: u32,
    },
    /// Takes a key away.
    DeleteKey {
        /// The key.
        key: abi::ServiceKey,
    },
    /// Takes a service's record out of use.
    ClearService {
        /// Its id.
        id: u32,
    },
    /// Takes a backend's record out of use; its id is quarantined until no flow names it.
    ClearBackend {
        /// Its id.
        id: u32,
    },
    /// Forbids redirects to an interface.
    DeleteDevice {
        /// Its index.
        ifindex: u32,
    },
}

impl Observed {
    /// What will be observed once `op` is applied.
    pub fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::WriteSlots { .. } => {}
            MapOp::PutDevice { ifindex } => {
                self.devices.insert(*ifindex);
            }
            MapOp::DeleteDevice { ifindex } => {
                self.devices.remove(ifindex);
            }
            MapOp::WriteBackend { id, record } => {
                self.backends.insert(*id, *record);
            }
            MapOp::ClearBackend { id } => {
                self.backends.remove(id);
                self.quarantined_backends.insert(*id);
            }
            MapOp::WriteService { id, record } => {
                self.services.insert(*id, *record);
            }
            MapOp::ClearService { id } => {
                self.services.remove(id);
            }
            MapOp::WriteFilter(filter) => self.filter = filter.clone(),
            MapOp::PutKey { key, id } => {
                self.keys.insert(*key, *id);
            }
            MapOp::DeleteKey { key } => {
                self.keys.remove(key);
            }
        }
    }
}

/// The scales and sizes of the running data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// The length of a tick.
    pub tick: Duration,
    /// The sizes that the maps were created with.
    pub limits: Limits,
}

impl Units {
    /// The longest timeout: last-seen ticks are compared modulo 2^16, so that half of it can be told apart.
    pub const MOST_TICKS: u16 = 32_767;

    /// A timeout in ticks: rounded up, at least one, at most [`Self::MOST_TICKS`].
    pub fn ticks(&self, timeout: Duration) -> u16 {
        let ticks = timeout.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        ticks.clamp(1, Self::MOST_TICKS.into()) as u16
    }

    /// The time that so many ticks take.
    pub fn duration(&self, ticks: u32) -> Duration {
        self.tick.saturating_mul(ticks)
    }
}
