//! What the bench measures the director against: programs that do less, and one that does the same with BPF's own LRU table.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use director_ebpf::abi::{Backend, BackendStats, Hop, proto};
use director_ebpf::hash::{reduce, slot_end, slot_mix};
use director_ebpf::packet::{ETHERNET, Fragment, Frame, ethertype, ipv4_upper};

/// Backends of the floors; the ids are 1 to this.
const BACKENDS: u32 = 10;

/// What names a flow: source, destination, ports, protocol.
type Key = [u32; 4];

/// Flows to backends, as the director's table has them.
#[map]
static FLOOR_FLOWS: LruHashMap<Key, u32> = LruHashMap::with_max_entries(1, 0);
/// The director's own record.
#[map]
static FLOOR_BACKENDS: Array<Backend> = Array::with_max_entries(BACKENDS + 1, 0);
/// The director's own counters.
#[map]
static FLOOR_STATS: PerCpuArray<BackendStats> = PerCpuArray::with_max_entries(BACKENDS + 1, 0);

/// Swaps the MACs and sends the frame back.
#[xdp(frags)]
pub fn floor_swap(ctx: XdpContext) -> u32 {
    swap(frame(&ctx)).unwrap_or(xdp_action::XDP_DROP)
}

/// One look at the LRU table, and swaps the MACs.
#[xdp(frags)]
pub fn floor_look(ctx: XdpContext) -> u32 {
    look(frame(&ctx)).unwrap_or(xdp_action::XDP_DROP)
}

/// The director's work with an LRU table: parse, table (a new flow is put in), backend, counters, MACs.
#[xdp(frags)]
pub fn floor_lru(ctx: XdpContext) -> u32 {
    balance(frame(&ctx)).unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn frame(ctx: &XdpContext) -> Frame {
    // SAFETY: XDP owns the frame while the program runs.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

#[inline(always)]
fn swap(frame: Frame) -> Option<u32> {
    let (to, from): ([u16; 3], [u16; 3]) = (frame.load(0)?, frame.load(6)?);
    (frame.store(0, from) && frame.store(6, to)).then_some(xdp_action::XDP_TX)
}

#[inline(always)]
fn look(frame: Frame) -> Option<u32> {
    let (key, _) = key(frame)?;
    FLOOR_FLOWS.get_ptr(key)?;
    swap(frame)
}

#[inline(always)]
fn balance(frame: Frame) -> Option<u32> {
    let (key, bytes) = key(frame)?;
    let id = match FLOOR_FLOWS.get_ptr(key) {
        // SAFETY: a value of the map, which stays memory while the program runs.
        Some(id) => unsafe { *id },
        None => new_flow(&key)?,
    };
    let backend = FLOOR_BACKENDS.get(id)?;
    let hop: Hop = backend.hop();
    if let Some(stats) = FLOOR_STATS.get_ptr_mut(id) {
        // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
        unsafe {
            (*stats).packets_in += 1;
            (*stats).bytes_in += bytes;
        }
    }
    (frame.store(0, hop[0]) && frame.store(8, hop[1] as u32)).then_some(xdp_action::XDP_TX)
}

/// Chooses by hash, and files the flow.
#[inline(always)]
fn new_flow(key: &Key) -> Option<u32> {
    let id = 1 + reduce(slot_end(slot_mix(slot_mix(0, key[0]), key[2])), BACKENDS);
    FLOOR_FLOWS.insert(key, id, 0).ok()?;
    if let Some(stats) = FLOOR_STATS.get_ptr_mut(id) {
        // SAFETY: as above.
        unsafe { (*stats).new_flows += 1 };
    }
    Some(id)
}

/// A flow's key and the frame's length, read as the director reads them.
#[inline(always)]
fn key(frame: Frame) -> Option<(Key, u64)> {
    if frame.load::<u16>(ETHERNET - 2)? != ethertype::IPV4 {
        return None;
    }
    let (src, dst): (u32, u32) = (frame.load(ETHERNET + 12)?, frame.load(ETHERNET + 16)?);
    let upper = ipv4_upper(frame, ETHERNET).ok().filter(|upper| upper.fragment == Fragment::Whole)?;
    if upper.protocol != proto::TCP && upper.protocol != proto::UDP {
        return None;
    }
    let l4 = frame.from(upper.offset);
    let ports: u32 = l4.load(0)?;
    if upper.protocol == proto::TCP {
        l4.load::<u32>(16)?;
    }
    let total = u16::from_be(frame.load(ETHERNET + 2)?);
    Some(([src, dst, ports, u32::from(upper.protocol)], u64::from(total) + ETHERNET as u64))
}
