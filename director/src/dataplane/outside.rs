//! What can be said of a data plane without opening it.

use std::path::{Path, PathBuf};

use director_ebpf::abi::{self, maps};

use super::attach::{Mode, pin};
use super::layouts;
use super::object::{self, entries, sets_for, versioned};
use crate::model::Limits;

/// What the kernel's hash maps take for each entry besides key and value: a link, a hash, a pointer, and a bucket
/// (`struct htab_elem` and `struct bucket` in kernel/bpf/hashtab.c).
const HASH_ENTRY: u64 = 64;

/// Bytes of memory that the tables of these sizes take, all of it from the start.
pub fn memory(limits: &Limits, cpus: usize) -> u64 {
    let of = |count: u32, size: usize| u64::from(count) * size as u64;
    let sets = sets_for(limits.flows);
    let key = size_of::<abi::ServiceKey>() as u64 + size_of::<u32>() as u64 + HASH_ENTRY;
    let per_cpu = of(entries(limits.services), size_of::<abi::ServiceStats>())
        + of(entries(limits.reals), size_of::<abi::BackendStats>());
    of(sets, size_of::<abi::FlowSet>())
        + of(sets * abi::WAYS, size_of::<abi::FlowCold>())
        + of(entries(limits.services), size_of::<abi::Service>())
        + of(entries(limits.reals), size_of::<abi::Backend>())
        + of(limits.slots.div_ceil(abi::SLOTS_PER_LINE), size_of::<abi::SlotLine>())
        + u64::from(limits.keys) * key
        + per_cpu * cpus as u64
}

/// Whether the tables exist.
pub fn has_tables(pins: &Path) -> bool {
    versioned(pins).join(maps::FLOWS).exists()
}

/// Whether a program is attached to an interface by these pins, of whatever layout.
pub fn is_pinned(pins: &Path, interface: &str) -> bool {
    let own = versioned(pins);
    let others = layouts::others(&own);
    std::iter::once(&own)
        .chain(&others)
        .any(|pins| Mode::ALL.iter().any(|mode| pin(pins, interface, *mode).exists()))
}

/// The directories of pins of directors with other layouts of maps.
pub fn other_layouts(pins: &Path) -> Vec<PathBuf> {
    layouts::others(&versioned(pins))
}

/// Whether a bpf file system is mounted there.
pub fn is_bpf_fs(path: &Path) -> bool {
    object::is_bpf_fs(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_table_takes_most_of_the_memory() {
        let default = memory(&Limits::default(), 4);
        // A million flows: half a million sets of a cache line, two million ways of another one.
        assert!((160 << 20..400 << 20).contains(&default), "{default}");
        let more = memory(&Limits { flows: 4 << 20, ..Limits::default() }, 4);
        assert_eq!(more - default, 3 * (160 << 20));
    }

    #[test]
    fn the_guide_has_the_sizes() {
        let guide = include_str!("../../../docs/guide/operations.md");
        let none = Limits { flows: 4, services: 0, reals: 0, keys: 0, slots: 0 };
        // The more of one kind, and nothing else, and the CPUs.
        let of = |limits: Limits, cpus| memory(&limits, cpus) - memory(&none, cpus);
        let most = Limits::default();
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        for (what, count, limits) in [
            ("each flow ", most.flows, Limits { flows: most.flows, ..none }),
            ("each service ", most.services, Limits { services: most.services, ..none }),
            ("each real server of each service", most.reals, Limits { reals: most.reals, ..none }),
            ("each VIP, port and protocol", most.keys, Limits { keys: most.keys, ..none }),
            ("each slot ", most.slots, Limits { slots: most.slots, ..none }),
        ] {
            let row = guide.lines().find(|line| line.starts_with(&format!("| {what}"))).unwrap();
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let (one, two) = (of(limits, 1).div_ceil(count.into()), of(limits, 2).div_ceil(count.into()));
            let each_cpu = two - one;
            assert_eq!(
                cells[2..5],
                [(one - each_cpu).to_string(), each_cpu.to_string(), mebibytes(of(limits, 4))],
                "{row}"
            );
        }
    }
}
