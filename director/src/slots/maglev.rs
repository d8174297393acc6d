//! Maglev hashing: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4.
//!
//! Each candidate has a permutation of the slots, made of its key alone. They take turns; at its turn a
//! candidate takes the first slot of its permutation that is still free. Weights decide how often a turn
//! comes (the paper leaves them open): a candidate's turns are due at times 0, 1/w, 2/w, …, those due at once
//! come in the order of keys. So shares follow weights, rounded up to whole slots (Adams's method of
//! apportionment), equal weights give the paper's rounds, and the turns of those who stay keep their order
//! whoever leaves or joins. IPVS and Envoy scale turns by the greatest common divisor or the highest weight,
//! which one candidate's change can alter for all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Entrant, mix};

/// A table of exactly `size` slots, or of the next lower prime if `size` is none; empty without entrants.
pub(super) fn table(entrants: &[Entrant], size: usize) -> Vec<u16> {
    let size = prime_at_most(size);
    if size == 0 || entrants.is_empty() {
        return Vec::new();
    }
    let mut entrants = entrants.to_vec();
    entrants.sort_unstable_by_key(|entrant| (entrant.key, entrant.index));
    let mut walks: Vec<Walk> = entrants.iter().map(|entrant| Walk::new(entrant.key, size)).collect();
    let mut turns: BinaryHeap<Turn> =
        (0..).zip(&entrants).map(|(rank, e)| Turn { taken: 0, weight: e.weight.into(), rank }).collect();

    let mut table = vec![0; size];
    let mut free = Free::new(size);
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else { break };
        let rank = turn.rank as usize;
        table[walks[rank].next_free(&mut free, size)] = entrants[rank].index;
        turn.taken += 1;
    }
    table
}

/// A candidate's next turn, due at `taken / weight`. The heap's greatest is the one due first.
struct Turn {
    taken: u64,
    weight: u64,
    /// Place in the order of keys.
    rank: u32,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        // taken / weight, compared without dividing; at most 2^17 × 2^16.
        let (ours, theirs) = (self.taken * other.weight, other.taken * self.weight);
        theirs.cmp(&ours).then(other.rank.cmp(&self.rank))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

/// Where a candidate is in its permutation `(offset + i × skip) mod size`: all slots once, since `size` is a
/// prime.
struct Walk {
    at: usize,
    skip: usize,
}

impl Walk {
    fn new(key: u64, size: usize) -> Walk {
        // The paper's h1 and h2, told apart by an arbitrary constant each (digits of π's and e's fractions).
        let offset = mix(key ^ 0x243f_6a88_85a3_08d3) % size as u64;
        let skip = mix(key ^ 0xb7e1_5162_8aed_2a6a) % (size as u64 - 1).max(1) + 1;
        Walk { at: offset as usize, skip: skip as usize }
    }

    /// Takes the first free slot from here on; there must be one.
    fn next_free(&mut self, free: &mut Free, size: usize) -> usize {
        loop {
            let slot = self.at;
            self.at += self.skip;
            if self.at >= size {
                self.at -= size;
            }
            if free.take(slot) {
                return slot;
            }
        }
    }
}

/// Which slots are free: a bit each, so that the many probes of a late turn stay within the first-level
/// cache.
struct Free(Vec<u64>);

impl Free {
    fn new(size: usize) -> Free {
        Free(vec![u64::MAX; size.div_ceil(64)])
    }

    /// Takes a slot; false if it was taken before.
    fn take(&mut self, slot: usize) -> bool {
        let (word, bit) = (&mut self.0[slot / 64], 1 << (slot % 64));
        let was_free = *word & bit != 0;
        *word &= !bit;
        was_free
    }
}

/// The greatest prime up to `n`, as a permutation needs it; 1 and 0 for themselves.
fn prime_at_most(n: usize) -> usize {
    let composite = |n: &usize| (2..).take_while(|d| d * d <= *n).any(|d| n.is_multiple_of(d));
    (0..=n).rev().find(|n| !composite(n)).unwrap_or(0)
}
