//! The fast path: a packet of a known flow that changes nothing but when the flow was last seen. One look at the flow table,
//! one at the backend, and out.

use director_ebpf::abi::{Reason, backend_flag, proto};
use director_ebpf::flowword::kind;
use director_ebpf::hash::{self, Tuple};
use director_ebpf::packet::{Fragment, Frame};
use director_ebpf::state;

use crate::account::{drop, pass};
use crate::family::Family;
use crate::flow;
use crate::forward::{self as out, Headers, nat};
use crate::guard;
use crate::maps::{BACKENDS, HashKey};
use crate::service;
use crate::{NO_ENTRY, Verdict};

/// The flags of a backend that packets can be sent to.
const FORWARDS: u8 = backend_flag::VALID | backend_flag::REACHABLE;

/// The verdict, or [`NO_ENTRY`], or None where the slow path must decide for any other reason.
#[inline(always)]
pub fn packet<F: Family>(frame: Frame) -> Option<Verdict> {
    let src: F::A = frame.load(F::SOURCE)?;
    let dst: F::A = frame.load(F::SOURCE + size_of::<F::A>())?;
    if !service::may_concern(&dst, &src) {
        // A VIP without a service is no less guarded, and solicitations to our MAC may be to a multicast address (RFC 6085).
        if !F::IS_V4 && guard::forbids_nd(frame) {
            return Some(drop(Reason::DropNoLease));
        }
        return Some(pass(Reason::PassNotOurs));
    }
    let upper = F::plain_upper(frame)?;
    let tcp = upper.protocol == proto::TCP;
    if !tcp && upper.protocol != proto::UDP {
        return None;
    }
    let l4 = frame.from(upper.offset);
    let flags = if tcp { tcp_flags(l4)? } else { 0 };
    let ports: u32 = l4.load(0)?;
    l4.load::<u64>(0)?;
    let tuple = Tuple { src, dst, ports, proto: u32::from(upper.protocol) };
    let Some(entry) = flow::find(hash::flow(&HashKey, &tuple)) else { return Some(NO_ENTRY) };
    let val = entry.val();
    let backend = BACKENDS.get(val.backend)?;
    if backend.flags & FORWARDS != FORWARDS {
        return None;
    }
    let now = flow::now();
    let stale = entry.is_stale(now);
    let headers = Headers { frame, l4, protocol: upper.protocol, fragment: Fragment::Whole };
    match val.kind {
        kind::CLIENT => {
            let after = if tcp { state::after_client(val.state, flags) } else { state::ESTABLISHED };
            let reopens = tcp && state::opens(flags);
            if after != val.state || reopens || F::unmapped(&backend.vip) != dst {
                return None;
            }
            if stale {
                if backend.flags & backend_flag::PLAIN == 0 {
                    return None; // more is owed once a tick than this flow's own time
                }
                entry.note(val.state, now);
            }
            Some(out::to_real::<F>(&headers, val.backend, backend))
        }
        kind::REPLY => {
            let after = if tcp { state::after_real(val.state, flags) } else { val.state };
            if stale || after != val.state || !nat::is_from::<F>(&tuple, backend) {
                return None;
            }
            Some(nat::send_reply::<F>(&headers, &entry, backend))
        }
        _ => None,
    }
}

/// A TCP header's flags, if all of its 20 bytes are there.
#[inline(always)]
pub fn tcp_flags(header: Frame) -> Option<u8> {
    header.load::<u32>(16)?;
    header.load::<u8>(13)
}
