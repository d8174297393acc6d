//! Schedulers that are tables: from weighted candidates to the slots that the data plane indexes by a counter
//! or a hash. Pure.
//!
//! | scheduler  | table                                                         | the data plane's index  |
//! |------------|---------------------------------------------------------------|-------------------------|
//! | `rr`       | every candidate once, in list order                           | a counter               |
//! | `wrr`      | one period of smooth weighted round robin                     | a counter               |
//! | `mh`       | Maglev, 65,537 slots where there is room                      | hash of the flow        |
//! | `sh`, `dh` | Maglev, smaller: the hash has few distinct inputs             | hash of the client, VIP |
//! | `fo`       | one slot: the highest weight, of equals the first in the list | none to choose          |
//!
//! IPVS fills `sh` and `dh` by dealing 256 buckets out in turn, so a real server that leaves moves most
//! clients; Maglev moves hardly any but its own, at the same price for the data plane.

use std::net::IpAddr;

use crate::model::{Scheduler, mapped};

mod maglev;
mod size;
mod wrr;

#[cfg(test)]
mod tests;

pub use size::{Demand, table_sizes};

/// The most candidates a table can tell apart: indices are 16 bits wide. Those further down the list get no
/// slot.
pub const MAX_CANDIDATES: usize = 1 << 16;

/// A real server that may take new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is, wherever it stands in the list: [`identity`].
    pub key: u64,
    /// Its share of new flows; 0 gets none.
    pub weight: u16,
}

/// A candidate of weight above 0 and its place in the caller's list.
#[derive(Clone, Copy)]
struct Entrant {
    index: u16,
    key: u64,
    weight: u16,
}

/// The slot table of a service: indices into `candidates`, at most `table_size` of them. A candidate of
/// weight 0 has no slot, every other has at least one as far as the slots go round; without any, the table is
/// empty.
///
/// `table_size` is exact for `mh`, `sh` and `dh` and should be a prime (another number is rounded down to
/// one); the others take what they need of it. Where candidates outnumber slots, `mh`, `sh` and `dh` leave
/// out those of the highest keys, `wrr` the lightest, `rr` the last of the list; [`table_sizes`] avoids that.
///
/// The same candidates give the same table on every machine, and for `mh`, `sh` and `dh` in whatever order
/// they are listed.
pub fn build(scheduler: Scheduler, table_size: u32, candidates: &[Candidate]) -> Vec<u16> {
    let entrants: Vec<Entrant> = (0..=u16::MAX)
        .zip(candidates)
        .filter(|(_, candidate)| candidate.weight > 0)
        .map(|(index, &Candidate { key, weight })| Entrant { index, key, weight })
        .collect();
    let size = table_size as usize;
    match scheduler {
        Scheduler::Rr => entrants.iter().map(|entrant| entrant.index).take(size).collect(),
        Scheduler::Wrr => wrr::table(&entrants, size),
        Scheduler::Mh | Scheduler::Sh | Scheduler::Dh => maglev::table(&entrants, size),
        Scheduler::Fo => highest(&entrants).into_iter().take(size).collect(),
    }
}

/// The heaviest; of equals, the first in the list.
fn highest(entrants: &[Entrant]) -> Option<u16> {
    // `min_by_key` keeps the first of equals, `max_by_key` would keep the last.
    entrants.iter().min_by_key(|entrant| u16::MAX - entrant.weight).map(|entrant| entrant.index)
}

/// Who a real server is, for [`Candidate::key`]: FNV-1a (64 bits) over the 16 bytes of its address (IPv4 as
/// `::ffff:a.b.c.d`) and the two of its port in network byte order (0 without one), then SplitMix64's
/// finalizer.
///
/// Both directors of a pair must agree on it, so it never changes: a test pins some values.
pub fn identity(address: IpAddr, port: Option<u16>) -> u64 {
    let fnv1a = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let address = mapped(address);
    let port = port.unwrap_or(0).to_be_bytes();
    mix(address.iter().chain(&port).fold(0xcbf2_9ce4_8422_2325, fnv1a))
}

/// Stafford's mix 13 (SplitMix64's finalizer), a bijection: FNV-1a alone hardly stirs the high bits when only
/// the last byte differs, as it does among neighbouring addresses.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}
