//! The flow table: the one module of the program that knows its layout.
//!
//! A set is one cache line of four ways. A flow may live in either of two sets, both told by its hash; the first is preferred.
//! Any CPU may read and write any way at any time:
//! - a writer owns a way from the moment its compare-and-swap made the tag [`BUSY`]; it writes the cold half, the value, and
//!   last the tag (x86 keeps that order; another architecture needs a releasing store there);
//! - a reader takes tag, value, tag again, and believes the value only if both tags are its own and the value's check bits too;
//! - a value is changed only by compare-and-swap, so that a late refresh never lands in another flow's entry;
//! - whoever removes an entry swaps its tag to [`FREE`].

use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_jiffies64;
use director_ebpf::abi::{COLD_HOP, ColdWords, FlowSet, FlowWay, Hop, Reason, WAYS};
use director_ebpf::flowword::{self, BUSY, FREE, Val, check, first_set, kind, second_set, tag};
use director_ebpf::state;

use crate::account::count;
use crate::maps::{BACKENDS, FLOWS, FLOWS_COLD, SERVICES, set_mask, tick_shift};

/// An entry that was found.
#[derive(Clone, Copy)]
pub struct Entry {
    way: *mut FlowWay,
    tag: u64,
    word: u64,
    /// Its index among all ways.
    index: u32,
}

/// The tick now, modulo 2^32.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_jiffies64() } >> tick_shift()) as u32
}

/// The entry of the flow with this hash.
#[inline(always)]
pub fn find(hash: u64) -> Option<Entry> {
    match find_in(first(hash), hash) {
        None => find_in(second(hash), hash),
        found => found,
    }
}

/// [`find`] for the slow path: not inlined, and the verifier proves it but once.
#[inline(always)]
pub fn find_cold(hash: u64) -> Option<Entry> {
    let index = (flow_find(hash) as u32).checked_sub(1)?;
    let way = way(index)?;
    // SAFETY: a way of the map's. The entry may have changed since, and may be changing now: as in `find`.
    let (before, word, tag) = unsafe {
        (
            read_volatile(&raw const (*way).tag),
            read_volatile(&raw const (*way).val),
            read_volatile(&raw const (*way).tag),
        )
    };
    let same = before == flowword::tag(hash) && tag == before && Val::unpack(word).check == check(hash);
    same.then_some(Entry { way, tag, word, index })
}

/// One more than the index of a flow's way, or 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_find(hash: u64) -> u64 {
    find(hash).map_or(0, |entry| u64::from(entry.index) + 1)
}

#[inline(always)]
fn find_in(set: u32, hash: u64) -> Option<Entry> {
    let ways = ways(set)?;
    let tag = tag(hash);
    let mut i = 0;
    while i < WAYS {
        // SAFETY: `i` is below WAYS, and map values stay mapped while the program runs.
        unsafe {
            let way = ways.add(i as usize);
            if read_volatile(&raw const (*way).tag) == tag {
                let word = read_volatile(&raw const (*way).val);
                if read_volatile(&raw const (*way).tag) == tag && Val::unpack(word).check == check(hash) {
                    return Some(Entry { way, tag, word, index: set * WAYS + i });
                }
            }
        }
        i += 1;
    }
    None
}

impl Entry {
    /// What it says.
    #[inline(always)]
    pub fn val(&self) -> Val {
        Val::unpack(self.word)
    }

    /// Whether its last packet was in an earlier tick: the moment for work that is owed once a second.
    #[inline(always)]
    pub fn is_stale(&self, now: u32) -> bool {
        self.val().last_seen != now as u16
    }

    /// Notes a packet: last seen now, and this state. Writes only what changed.
    #[inline(always)]
    pub fn note(&self, state: u8, now: u32) {
        let old = self.val();
        let new = Val { state, last_seen: now as u16, ..old }.pack();
        if new != self.word {
            // SAFETY: `way` points into a map value. A failed swap means that another CPU was first: its news is as good.
            let _ = unsafe { compare_and_swap(&raw mut (*self.way).val, self.word, new) };
        }
    }

    /// Takes it out of the table, if it is still what was found.
    #[inline(always)]
    pub fn remove(&self) {
        // SAFETY: as above.
        let _ = unsafe { compare_and_swap(&raw mut (*self.way).tag, self.tag, FREE) };
    }

    /// Its cold half.
    #[inline(always)]
    pub fn cold(&self) -> Option<Cold> {
        cold_at(self.index)
    }

    /// Its place.
    #[inline(always)]
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// No place.
pub const NOWHERE: u32 = u32::MAX;

/// The cold half of a place.
#[inline(always)]
pub fn cold_at(index: u32) -> Option<Cold> {
    FLOWS_COLD.get_ptr_mut(index).map(|cold| Cold(cold.cast()))
}

/// The cold half of an entry. Its place may be taken by another flow at any time: then what is read here sends one frame
/// astray, no more.
#[derive(Clone, Copy)]
pub struct Cold(*mut ColdWords);

impl Cold {
    /// A reply's way back.
    #[inline(always)]
    pub fn hop(self) -> Hop {
        // SAFETY: a map value.
        unsafe { [(*self.0)[COLD_HOP], (*self.0)[COLD_HOP + 1]] }
    }

    /// Sets a reply's way back.
    #[inline(always)]
    pub fn set_hop(self, hop: Hop) {
        // SAFETY: a map value; other CPUs write the same here.
        unsafe {
            write_volatile(&raw mut (*self.0)[COLD_HOP], hop[0]);
            write_volatile(&raw mut (*self.0)[COLD_HOP + 1], hop[1]);
        }
    }
}

/// Puts a flow in. Takes, in this order, a free way of its first set, of its second, the place of the oldest embryonic entry
/// of both, or of one past its timeout or ended; never of a live established one. Returns whether there was a place.
#[inline(always)]
pub fn insert(hash: u64, val: Val, cold: &ColdWords) -> bool {
    let cold = core::ptr::from_ref(cold).cast::<ColdRecord>();
    flow_insert(hash, Val { check: check(hash), ..val }.pack(), cold) != 0
}

/// [`ColdWords`] under a name: the verifier takes the size of what a global function's pointer points to from its type.
#[repr(C)]
pub struct ColdRecord {
    words: ColdWords,
}

/// [`insert`], packed. A global function, as [`flow_find`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_insert(hash: u64, word: u64, cold: *const ColdRecord) -> u64 {
    if cold.is_null() {
        return 0; // the verifier wants to see it asked
    }
    // SAFETY: not null, so the caller's own.
    u64::from(insert_word(hash, word, unsafe { &(*cold).words }))
}

#[inline(always)]
fn insert_word(hash: u64, word: u64, cold: &ColdWords) -> bool {
    // Where the sets are is worked out each time: the stack has no room to remember it.
    if insert_free(first(hash), hash, word, cold) || insert_free(second(hash), hash, word, cold) {
        return true;
    }
    let victim = Victim::find(hash, Val::unpack(word).last_seen);
    if victim.score == 0 {
        return false;
    }
    let Some(way) = way(victim.index) else { return false };
    if !victim.evict(way, word) {
        return false;
    }
    count(if victim.score == EXPIRED { Reason::FlowEvictedExpired } else { Reason::FlowEvictedEmbryonic });
    fill(way, victim.index, hash, word, cold);
    true
}

/// Whether [`insert`] would find a place.
#[inline(always)]
pub fn has_room(hash: u64, now: u32) -> bool {
    flow_has_room(hash, now.into()) != 0
}

/// [`has_room`], as a global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_has_room(hash: u64, now: u64) -> u64 {
    u64::from(room(hash, now as u32))
}

#[inline(always)]
fn room(hash: u64, now: u32) -> bool {
    has_free(first(hash)) || has_free(second(hash)) || Victim::find(hash, now as u16).score != 0
}

/// The entry that may give way, so far: the higher its score the sooner; 0 is none.
struct Victim {
    tag: u64,
    word: u64,
    index: u32,
    score: u32,
}

/// The score of an entry past its timeout; embryonic ones score one more than their idle ticks, up to 2^16.
const EXPIRED: u32 = 1 << 20;

impl Victim {
    /// The one to go for a flow with this hash.
    #[inline(always)]
    fn find(hash: u64, now: u16) -> Victim {
        let mut victim = Victim { tag: 0, word: 0, index: 0, score: 0 };
        victim.consider(first(hash), now);
        victim.consider(second(hash), now);
        if victim.score == 0 {
            victim.consider_expired(first(hash), now);
            victim.consider_expired(second(hash), now);
        }
        victim
    }

    /// Looks for an embryonic entry.
    #[inline(always)]
    fn consider(&mut self, set: u32, now: u16) {
        each(set, |_, index, tag, word| {
            let val = Val::unpack(word);
            let score = u32::from(val.idle(now)) + 1;
            if tag > BUSY && val.state == state::EMBRYONIC && score > self.score {
                *self = Victim { tag, word, index, score };
            }
        });
    }

    /// Looks for an entry past its timeout, or ended: the sweep removes those, but it may be late, or dead.
    #[inline(always)]
    fn consider_expired(&mut self, set: u32, now: u16) {
        each(set, |_, index, tag, word| {
            if tag > BUSY && self.score == 0 && expired(Val::unpack(word), now) {
                *self = Victim { tag, word, index, score: EXPIRED };
            }
        });
    }

    /// Takes its way for a new value; false if it was refreshed since it was looked at: then it stays.
    #[inline(always)]
    fn evict(&self, way: *mut FlowWay, word: u64) -> bool {
        if !claim(way, self.tag) {
            return false;
        }
        // SAFETY: `way` points into a map value, and is ours while its tag is BUSY.
        unsafe {
            let still = compare_and_swap(&raw mut (*way).val, self.word, word);
            if !still {
                write_volatile(&raw mut (*way).tag, self.tag);
            }
            still
        }
    }
}

#[inline(always)]
fn expired(val: Val, now: u16) -> bool {
    let Some(backend) = BACKENDS.get(val.backend) else { return false };
    let Some(service) = SERVICES.get(backend.service) else { return false };
    let timeout = if val.kind == kind::TEMPLATE {
        service.persist_ticks
    } else {
        state::timeout(service, service.proto, val.state)
    };
    val.idle(now) > timeout || val.kind != kind::TEMPLATE && state::is_over(val.state, val.idle(now))
}

#[inline(always)]
fn has_free(set: u32) -> bool {
    let mut free = false;
    each(set, |_, _, tag, _| free |= tag == FREE);
    free
}

#[inline(always)]
fn insert_free(set: u32, hash: u64, word: u64, cold: &ColdWords) -> bool {
    let mut done = false;
    each(set, |way, index, tag, _| {
        if !done && tag == FREE && claim(way, FREE) {
            fill(way, index, hash, word, cold);
            done = true;
        }
    });
    done
}

#[inline(always)]
fn claim(way: *mut FlowWay, tag: u64) -> bool {
    // SAFETY: `way` points into a map value.
    unsafe { compare_and_swap(&raw mut (*way).tag, tag, BUSY) }
}

#[inline(always)]
fn fill(way: *mut FlowWay, index: u32, hash: u64, word: u64, cold: &ColdWords) {
    if let Some(place) = FLOWS_COLD.get_ptr_mut(index) {
        // SAFETY: map values; the way is ours while its tag is BUSY.
        unsafe { *place.cast::<ColdWords>() = *cold };
    }
    // SAFETY: as above.
    unsafe {
        write_volatile(&raw mut (*way).val, word);
        write_volatile(&raw mut (*way).tag, tag(hash));
    }
}

#[inline(always)]
fn each(set: u32, mut f: impl FnMut(*mut FlowWay, u32, u64, u64)) {
    let Some(ways) = ways(set) else { return };
    let mut i = 0;
    while i < WAYS {
        // SAFETY: `i` is below WAYS, and map values stay mapped while the program runs.
        unsafe {
            let way = ways.add(i as usize);
            let tag = read_volatile(&raw const (*way).tag);
            f(way, set * WAYS + i, tag, read_volatile(&raw const (*way).val));
        }
        i += 1;
    }
}

/// The set where a flow is looked for first.
#[inline(always)]
fn first(hash: u64) -> u32 {
    first_set(hash) & set_mask()
}

/// The set where it may be instead.
#[inline(always)]
fn second(hash: u64) -> u32 {
    second_set(hash) & set_mask()
}

/// The way with this index among all.
#[inline(always)]
fn way(index: u32) -> Option<*mut FlowWay> {
    // SAFETY: a way of the set looked up.
    ways(index / WAYS).map(|ways| unsafe { ways.add((index % WAYS) as usize) })
}

#[inline(always)]
fn ways(set: u32) -> Option<*mut FlowWay> {
    FLOWS.get_ptr_mut(set).map(|set: *mut FlowSet| set.cast::<FlowWay>())
}

/// # Safety
/// `place` is an aligned word of a map value.
#[inline(always)]
unsafe fn compare_and_swap(place: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: by this function's contract. `AtomicU64::compare_exchange` does not exist for this target; what this compiles to
    // (BPF_CMPXCHG) is a full barrier on every architecture.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(place, old, new).1 }
}
