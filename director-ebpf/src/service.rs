//! Which service a packet is for.

use director_ebpf::abi::{Addr, AddrFilter, Service, ServiceKey, service_flag};
use director_ebpf::hash::{Words, filter_bit};

use crate::family::Family;
use crate::maps::{ADDR_FILTER, SERVICE_KEYS, SERVICES};

/// Whether either end of a packet may be a VIP, or a real server behind NAT. False positives are possible, false negatives are
/// not.
#[inline(always)]
pub fn may_concern<A: Words>(dst: &A, src: &A) -> bool {
    let Some(filter) = ADDR_FILTER.get(0) else { return true };
    has(filter, dst) || has(filter, src)
}

#[inline(always)]
fn has<A: Words>(filter: &AddrFilter, addr: &A) -> bool {
    let (word, mask) = filter_bit(addr);
    filter[word] & mask != 0
}

/// The service of a VIP, a protocol and a port (in network byte order): the one that names the port, else the one for any.
#[inline(always)]
pub fn find<F: Family>(vip: &F::A, port_be: u16, proto: u8) -> Option<(u32, &'static Service)> {
    let mut key = ServiceKey { addr: bytes(F::wide(vip)), port_be, proto, zero: 0 };
    // SAFETY: values of a hash map without preallocation live as long as the program runs (RCU); they are copied at once.
    let id = match unsafe { SERVICE_KEYS.get(key) } {
        Some(id) => *id,
        None => {
            key.port_be = 0;
            // SAFETY: as above.
            *unsafe { SERVICE_KEYS.get(key) }?
        }
    };
    let service = SERVICES.get(id)?;
    (service.flags & service_flag::VALID != 0).then_some((id, service))
}

/// An address in the maps' form, of its words.
#[inline(always)]
pub fn bytes(words: [u32; 4]) -> Addr {
    // SAFETY: sixteen bytes either way, all values valid.
    unsafe { core::mem::transmute(words) }
}
