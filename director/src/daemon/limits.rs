//! Whether tables that exist are as large as a configuration wants them. Pure.

use director_ebpf::abi::SLOTS_PER_LINE;

use crate::model::Limits;

/// Whether two sets of limits make tables of the same sizes: some are rounded up when tables are made.
pub(super) fn alike(a: &Limits, b: &Limits) -> bool {
    as_made(a) == as_made(b)
}

fn as_made(limits: &Limits) -> Limits {
    Limits {
        // Sets are a power of two, and there is one at least, which half-full holds two.
        flows: limits.flows.checked_next_power_of_two().unwrap_or(u32::MAX).max(2),
        slots: limits.slots.checked_next_multiple_of(SLOTS_PER_LINE).unwrap_or(u32::MAX),
        ..*limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rounded_is_no_difference() {
        let a = Limits { flows: 1_000_000, slots: 1_000, ..Limits::default() };
        let b = Limits { flows: 1_048_576, slots: 1_008, ..Limits::default() };
        assert!(alike(&a, &b));
        assert!(!alike(&a, &Limits { flows: 2_000_000, ..b }));
        assert!(!alike(&a, &Limits { keys: 1, ..b }));
    }
}
