//! Slot tables: which one a service needs, whether it has it already, and where a new one may lie.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use director_ebpf::abi;

use super::records::{fnv1a, fnv1a_more};
use crate::model::Scheduler;
use crate::pool::DesiredReal;
use crate::slots::{self, Candidate};

/// A real server that takes new flows, and its backend.
pub(super) struct Usable<'a> {
    /// The backend's id.
    pub(super) id: u32,
    /// The real server.
    pub(super) real: &'a DesiredReal,
}

/// The word of a service's record: where its table lies.
pub(super) fn table_word(offset: u32, len: u32) -> u64 {
    u64::from(len) << 32 | u64::from(offset)
}

/// The slots that a table word points to; empty for no table. Beyond the end of `u32` it is cut.
pub(super) fn table_range(word: u64) -> Range<u32> {
    let (offset, len) = (word as u32, (word >> 32) as u32);
    offset..offset.saturating_add(len)
}

/// Fingerprint of everything that a table is built from.
pub(super) fn signature(scheduler: Scheduler, size: u32, usable: &[Usable<'_>]) -> u64 {
    let mut sig = fnv1a(scheduler.to_string().as_bytes());
    sig = fnv1a_more(sig, &size.to_le_bytes());
    for Usable { id, real } in usable {
        sig = fnv1a_more(sig, &slots::identity(real.address, real.port).to_le_bytes());
        sig = fnv1a_more(sig, &id.to_le_bytes());
        sig = fnv1a_more(sig, &real.weight.to_le_bytes());
    }
    sig
}

/// The table: backend ids by slot. At most `size` slots; none without a usable real server.
pub(super) fn build(scheduler: Scheduler, size: u32, usable: &[Usable<'_>]) -> Vec<u32> {
    let candidates: Vec<Candidate> = usable
        .iter()
        .map(|u| Candidate { key: slots::identity(u.real.address, u.real.port), weight: u.real.weight })
        .collect();
    slots::build(scheduler, size, &candidates).into_iter().map(|i| usable[usize::from(i)].id).collect()
}

/// The sizes to try, largest first: what is desired, then what may still fit when slots run short.
pub(super) fn sizes(desired: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(desired), |&size| Some(size / 2).filter(|&n| n >= abi::SLOTS_PER_LINE / 2))
}

/// Services whose table cannot be right: it lies outside of the array, askew, or on another service's.
pub(super) fn broken(services: &BTreeMap<u32, abi::Service>, slots: u32) -> BTreeSet<u32> {
    let mut tables: Vec<(Range<u32>, u32)> = services
        .iter()
        .map(|(&id, record)| (table_range(record.table), id))
        .filter(|(range, _)| !range.is_empty())
        .collect();
    tables.sort_unstable_by_key(|(range, id)| (range.start, *id));
    let mut broken = BTreeSet::new();
    let mut end = 0;
    for (range, id) in tables {
        if range.start % abi::SLOTS_PER_LINE != 0 || range.end > slots || range.start < end {
            broken.insert(id);
        }
        end = end.max(range.end);
    }
    broken
}

/// The gaps of the slots array: ranges that no service's table lies in.
pub(super) struct Gaps(Vec<Range<u32>>);

impl Gaps {
    /// The gaps between the tables of `services` among `slots` slots. Tables that the plan is about to replace count as in use:
    /// packets read them until the plan has been applied.
    pub(super) fn new(services: &BTreeMap<u32, abi::Service>, slots: u32) -> Gaps {
        let slots = slots - slots % abi::SLOTS_PER_LINE;
        let mut tables: Vec<Range<u32>> = services.values().map(|record| table_range(record.table)).collect();
        tables.retain(|range| !range.is_empty());
        tables.sort_unstable_by_key(|range| range.start);
        let mut gaps = Vec::new();
        let mut start = 0;
        for table in tables {
            let end = (table.start - table.start % abi::SLOTS_PER_LINE).min(slots);
            if start < end {
                gaps.push(start..end);
            }
            start = start.max(whole_lines(table.end));
        }
        if start < slots {
            gaps.push(start..slots);
        }
        Gaps(gaps)
    }

    /// Takes room for `len` slots out of the first gap that has it.
    pub(super) fn take(&mut self, len: u32) -> Option<u32> {
        let len = whole_lines(len);
        let at = self.0.iter().position(|gap| gap.end - gap.start >= len)?;
        let offset = self.0[at].start;
        self.0[at].start += len;
        if self.0[at].is_empty() {
            self.0.remove(at);
        }
        Some(offset)
    }

    /// Whether [`Gaps::take`] would find room.
    pub(super) fn has(&self, len: u32) -> bool {
        self.0.iter().any(|gap| gap.end - gap.start >= whole_lines(len))
    }
}

/// `slots` rounded up to whole lines.
fn whole_lines(slots: u32) -> u32 {
    slots.checked_next_multiple_of(abi::SLOTS_PER_LINE).unwrap_or(u32::MAX)
}
