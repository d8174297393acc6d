//! The data plane: the one place that names aya. It loads and pins the program and its maps, attaches it, reads what the maps
//! hold and applies what the reconciler asks for. Nothing here decides anything.
//!
//! Everything is pinned under `<pins>/v<ABI_VERSION>/`: each map by its name, each interface's link as
//! `link-<interface>-<mode>`. So neither an exit nor a crash detaches anything, and the next process takes over.

mod apply;
mod attach;
mod clock;
mod counters;
mod error;
mod faults;
mod flows;
mod guard;
mod layouts;
mod mapped;
mod object;
mod outside;
mod probes;
mod tcx;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use director_ebpf::abi::{self, Backend, Service, ServiceKey, SlotLine, maps};

pub use attach::{Attachment, Mode};
pub use counters::Counters;
pub use error::Error;
pub use faults::MapErrors;
pub use flows::{Flow, FlowTable, Kind, State, SweepReport};
pub use guard::{GuardedGroup, Lease, Leases};
pub use object::{LAB_OBJECT, OBJECT};
pub use outside::{has_tables, is_bpf_fs, is_pinned, memory, other_layouts};
pub use probes::{Hook, ProbeCounts, Probes};
pub use trial::{Direction, Outcome, Trial, Verdict};

use crate::model::Limits;
use crate::reconcile::{Observed, Units};
use mapped::Mapped;
use object::Shared;

/// How the data plane is to be opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory for pins, in a bpf file system.
    pub pins: PathBuf,
    /// Sizes for maps that do not exist yet.
    pub limits: Limits,
}

/// The open data plane.
pub struct Dataplane {
    pins: PathBuf,
    shared: Shared,
    /// Holds the `clock` program, and the maps by which everything below was opened.
    base: Ebpf,
    /// Holds all maps, to pin them again where somebody removes a pin.
    keeper: Ebpf,
    services: Arc<Mapped<Service>>,
    backends: Arc<Mapped<Backend>>,
    slots: Mapped<SlotLine>,
    keys: HashMap<MapData, Key, u32>,
    filter: Array<MapData, Filter>,
    devices: aya::maps::DevMapHash<MapData>,
    guard: HashMap<MapData, abi::Addr, u32>,
    virtual_macs: HashMap<MapData, u64, u32>,
    flows: Arc<FlowTable>,
    errors: Arc<MapErrors>,
    attached: BTreeMap<String, attach::Attached>,
    /// CPUs that per-CPU maps have values for.
    cpus: usize,
    /// Backends cleared, and the number of sweeps there had been then.
    quarantine: BTreeMap<u32, u64>,
    sweeps: u64,
}

/// [`ServiceKey`] as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Key(ServiceKey);
// SAFETY: integers without padding (asserted in the ABI), any bits are a value.
unsafe impl aya::Pod for Key {}

/// [`abi::AddrFilter`] as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Filter(abi::AddrFilter);
// SAFETY: as above.
unsafe impl aya::Pod for Filter {}

impl Dataplane {
    /// Makes the directory in which pins lie, in the bpf file system, and says where it is.
    ///
    /// # Errors
    /// No bpf file system, no permission.
    pub fn directory(pins: &Path) -> Result<PathBuf, Error> {
        object::directory(pins)
    }

    /// Mounts the bpf file system for pins, if it is the usual one and nobody did: that takes a capability that nothing later does.
    ///
    /// # Errors
    /// No permission, or a kernel without one.
    pub fn ensure_mounted(pins: &Path) -> Result<(), Error> {
        object::ensure_mounted(pins)
    }

    /// Opens the data plane: takes over the pinned maps with all their flows, or creates them. Attached programs go on
    /// running; [`Dataplane::attach`] replaces them.
    ///
    /// # Errors
    /// No bpf file system, no permission, maps of another layout, a kernel that refuses the program.
    pub fn open(options: &Options) -> Result<Dataplane, Error> {
        let pins = object::directory(&options.pins)?;
        let shared = object::shared(&pins, &options.limits)?;
        let mut base = object::load(&pins, &shared, None)?;
        object::program(&mut base, "clock")?;
        let keeper = object::load(&pins, &shared, None)?;
        let limits = &shared.limits;
        let services =
            Arc::new(object::mapped(&base, maps::SERVICES, object::entries(limits.services) as usize)?);
        let backends =
            Arc::new(object::mapped(&base, maps::BACKENDS, object::entries(limits.reals) as usize)?);
        let sets = shared.meta.set_mask as usize + 1;
        let flows = FlowTable::new(
            object::mapped(&base, maps::FLOWS, sets)?,
            object::mapped(&base, maps::FLOWS_COLD, sets * abi::WAYS as usize)?,
            Arc::clone(&backends),
            Arc::clone(&services),
            shared.tick,
        );
        let mut dataplane = Dataplane {
            slots: object::mapped(&base, maps::SLOTS, limits.slots.div_ceil(abi::SLOTS_PER_LINE) as usize)?,
            keys: object::take(&mut base, maps::SERVICE_KEYS)?,
            filter: object::take(&mut base, maps::ADDR_FILTER)?,
            devices: object::take(&mut base, maps::DEVICES)?,
            guard: object::take(&mut base, maps::GUARD)?,
            virtual_macs: object::take(&mut base, maps::VMACS)?,
            flows: Arc::new(flows),
            errors: Arc::default(),
            attached: BTreeMap::new(),
            cpus: aya::util::nr_cpus().map_err(|(what, error)| Error::File(what.into(), error))?,
            quarantine: BTreeMap::new(),
            sweeps: 0,
            pins,
            shared,
            base,
            keeper,
            services,
            backends,
        };
        // A predecessor may have died between clearing a backend and sweeping its flows.
        dataplane.sweep()?;
        Ok(dataplane)
    }

    /// Tick length and table sizes in force.
    pub fn units(&self) -> Units {
        Units { tick: self.shared.tick.length(), limits: self.shared.limits }
    }

    /// The flow table, to walk at any time from any thread.
    pub fn flows(&self) -> Arc<FlowTable> {
        Arc::clone(&self.flows)
    }

    /// Operations on maps that failed, to look at at any time.
    pub fn map_errors(&self) -> Arc<MapErrors> {
        Arc::clone(&self.errors)
    }

    /// The time in ticks.
    ///
    /// # Errors
    /// The kernel refuses to run a program.
    pub fn now(&self) -> Result<u32, Error> {
        object::clock(&self.base)
    }

    /// Sweeps the flow table once.
    ///
    /// # Errors
    /// As [`Dataplane::now`].
    pub fn sweep(&mut self) -> Result<SweepReport, Error> {
        let report = self.flows.sweep(self.now()?);
        self.swept();
        Ok(report)
    }

    /// Notes that a sweep has ended which [`FlowTable::sweep`] did elsewhere.
    pub fn swept(&mut self) {
        self.sweeps += 1;
        let done = self.sweeps;
        // One whole sweep must have begun after the backend was cleared; the one that was under way then does not count.
        self.quarantine.retain(|_, cleared| done < *cleared + 2);
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn observe(&mut self) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        for id in 1..self.services.len() {
            if flags(&self.services, id, Service::FLAGS) & abi::service_flag::VALID != 0 {
                observed.services.insert(id as u32, self.services.get(id));
            }
        }
        for id in 1..self.backends.len() {
            if flags(&self.backends, id, Backend::FLAGS) & abi::backend_flag::VALID != 0 {
                observed.backends.insert(id as u32, self.backends.get(id).unsealed());
            }
        }
        for entry in self.keys.iter() {
            let (key, id) = self.errors.note(maps::SERVICE_KEYS, faults::READ, entry)?;
            observed.keys.insert(key.0, id);
        }
        let filter = self.errors.note(maps::ADDR_FILTER, faults::READ, self.filter.get(&0, 0))?;
        observed.filter = Box::new(filter.0);
        let devices: Result<BTreeSet<u32>, _> = self.devices.keys().collect();
        observed.devices = self.errors.note(maps::DEVICES, faults::READ, devices)?;
        observed.attached = self.attached.values().map(|attached| attached.attachment.ifindex).collect();
        observed.quarantined_backends = self.quarantine.keys().copied().collect();
        Ok(observed)
    }

    /// Where pins lie.
    pub fn pins(&self) -> &Path {
        &self.pins
    }
}

/// Where a record keeps its flags: a word and a byte of it.
trait Flags {
    /// (word, byte)
    const FLAGS: (usize, usize);
}

impl Flags for Service {
    const FLAGS: (usize, usize) = place(std::mem::offset_of!(Service, flags));
}

impl Flags for Backend {
    const FLAGS: (usize, usize) = place(std::mem::offset_of!(Backend, flags));
}

const fn place(offset: usize) -> (usize, usize) {
    (offset / 8, offset % 8)
}

fn flags<T: mapped::Element>(map: &Mapped<T>, id: usize, (word, byte): (usize, usize)) -> u8 {
    map.word(id, word).load(Ordering::Acquire).to_ne_bytes()[byte]
}
