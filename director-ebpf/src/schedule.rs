//! From a new flow to a backend: every scheduler is a slot table that userspace built, and one rule for its index.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use director_ebpf::abi::{SLOTS_PER_LINE, Service, backend_flag, index_rule, service_flag};
use director_ebpf::hash::{Tuple, reduce, slot_addr, slot_end, slot_mix};

use crate::account;
use crate::family::Family;
use crate::maps::{BACKENDS, SLOTS};

/// What a backend must be to take a new flow.
const TAKES_FLOWS: u8 = backend_flag::VALID | backend_flag::REACHABLE | backend_flag::OPEN;

/// Whether the service's index rule is a hash: then any director, at any time, finds the same slot for a flow.
#[inline(always)]
pub fn is_hash(service: &Service) -> bool {
    service.rule != index_rule::COUNTER
}

/// How far apart in the table two CPUs start: a prime, so that few tables' lengths divide it.
const CPU_STRIDE: u32 = 7919;

/// The index of the next slot in turn. Each CPU counts for itself, and starts elsewhere: else the first real server would get
/// every CPU's first flow.
#[inline(always)]
pub fn next_in_turn(service_id: u32) -> u32 {
    let turn = account::service(service_id, |stats| {
        let turn = stats.rr;
        stats.rr += 1;
        turn as u32
    });
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    turn.unwrap_or(0).wrapping_add(cpu.wrapping_mul(CPU_STRIDE))
}

/// The index of a flow's slot, by hash: of the client's address alone where the service is persistent or says so, of the VIP
/// (`dh`), else of both ends and their ports.
#[inline(always)]
pub fn by_hash<F: Family>(service: &Service, t: &Tuple<F::A>) -> u32 {
    let table_len = (service.table >> 32) as u32;
    let h = if service.rule == index_rule::DEST_HASH {
        slot_addr(0, &t.dst)
    } else if service.flags & service_flag::PERSISTENT != 0 {
        slot_addr(0, &F::masked(&t.src, service.persist_prefix))
    } else if service.rule == index_rule::SOURCE_HASH {
        slot_addr(0, &t.src)
    } else {
        slot_mix(slot_addr(slot_addr(0, &t.src), &t.dst), t.ports)
    };
    reduce(slot_end(h), table_len)
}

/// The id of the backend in a slot, if it takes new flows. Indices beyond the table wrap around.
#[inline(always)]
pub fn slot(service_id: u32, service: &Service, index: u32) -> Option<u32> {
    // One read, for the table may change under our feet: offset and length must be of the same one.
    // SAFETY: an aligned word of a map value.
    let table = unsafe { core::ptr::read_volatile(&raw const service.table) };
    let (offset, len) = (table as u32, (table >> 32) as u32);
    if len == 0 {
        return None;
    }
    let at = offset + index % len;
    let line = SLOTS.get(at / SLOTS_PER_LINE)?;
    open(service_id, line[(at % SLOTS_PER_LINE) as usize])
}

/// The id itself, if its backend belongs to the service and takes new flows.
#[inline(always)]
pub fn open(service_id: u32, id: u32) -> Option<u32> {
    let backend = BACKENDS.get(id)?;
    (backend.flags & TAKES_FLOWS == TAKES_FLOWS && backend.service == service_id).then_some(id)
}
