//! The maps and the constants, as the loader fills them. Sizes here are placeholders, which the loader sets from the limits, or
//! the ABI's own.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMapHash, HashMap, PerCpuArray};
use director_ebpf::abi::{
    Addr, AddrFilter, Backend, BackendStats, FlowCold, FlowSet, MAX_GROUPS, MAX_GUARDED, Meta, Reason,
    Service, ServiceKey, ServiceStats, SlotLine,
};
use director_ebpf::hash::{KEY_WORDS, Key};

#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);
#[map]
pub static SERVICE_KEYS: HashMap<ServiceKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static BACKENDS: Array<Backend> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static SLOTS: Array<SlotLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static FLOWS: Array<FlowSet> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static FLOWS_COLD: Array<FlowCold> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static ADDR_FILTER: Array<AddrFilter> = Array::with_max_entries(1, 0);
#[map]
pub static BACKEND_STATS: PerCpuArray<BackendStats> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SERVICE_STATS: PerCpuArray<ServiceStats> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT as u32, 0);
#[map]
pub static DEVICES: DevMapHash = DevMapHash::with_max_entries(64, 0);
#[map]
pub static GUARD: HashMap<Addr, u32> = HashMap::with_max_entries(MAX_GUARDED, BPF_F_NO_PREALLOC);
#[map]
pub static LEASES: Array<u64> = Array::with_max_entries(MAX_GROUPS, BPF_F_MMAPABLE);
#[map]
pub static VMACS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_GROUPS, BPF_F_NO_PREALLOC);

/// The interface's MAC in its first six bytes, as a word of the frame has them.
#[unsafe(no_mangle)]
static OWN_MAC: u64 = 0;
/// The interface's index.
#[unsafe(no_mangle)]
static IFINDEX: u32 = 0;
/// Number of flow sets less one.
#[unsafe(no_mangle)]
static SET_MASK: u32 = 0;
/// `jiffies >> TICK_SHIFT` is a tick.
#[unsafe(no_mangle)]
static TICK_SHIFT: u32 = 8;
/// The flow hash's keys.
#[unsafe(no_mangle)]
static HASH_KEY: [u64; KEY_WORDS] = [0; KEY_WORDS];

macro_rules! constant {
    ($(#[$doc:meta])* $name:ident: $ty:ty = $from:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() -> $ty {
            // SAFETY: a valid static. Volatile, for the loader writes it after the compiler has seen its initial value.
            unsafe { core::ptr::read_volatile(&raw const $from) }
        }
    };
}

constant!(
    /// The interface's MAC, in the low 48 bits.
    own_mac: u64 = OWN_MAC
);
constant!(
    /// The interface's index.
    ifindex: u32 = IFINDEX
);
constant!(
    /// Number of flow sets less one.
    set_mask: u32 = SET_MASK
);
constant!(
    /// How far jiffies are shifted to make ticks.
    tick_shift: u32 = TICK_SHIFT
);

/// The flow hash's keys, read where they lie.
pub struct HashKey;

impl Key for HashKey {
    #[inline(always)]
    fn word(&self, i: usize) -> u64 {
        // SAFETY: `i` is a constant below KEY_WORDS wherever the hash calls. Volatile as above.
        unsafe { core::ptr::read_volatile((&raw const HASH_KEY).cast::<u64>().add(i)) }
    }
}
