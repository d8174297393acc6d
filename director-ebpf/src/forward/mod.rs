//! How a packet leaves.

pub mod direct;
pub mod nat;

use aya_ebpf::bindings::xdp_action;
use director_ebpf::abi::{Backend, Reason, backend_flag, forward};
use director_ebpf::packet::{Fragment, Frame};

use crate::Verdict;
use crate::account;
use crate::family::Family;
use crate::maps::{DEVICES, ifindex};

/// What forwarding needs of a packet.
#[derive(Clone, Copy)]
pub struct Headers {
    /// The frame.
    pub frame: Frame,
    /// The frame from its TCP or UDP header on.
    pub l4: Frame,
    /// TCP or UDP.
    pub protocol: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
}

/// Sends a client's packet to its real server, counted.
#[inline(always)]
pub fn to_real<F: Family>(headers: &Headers, id: u32, backend: &Backend) -> Verdict {
    if backend.flags & backend_flag::REACHABLE == 0 {
        return account::drop(Reason::DropNoNextHop);
    }
    if backend.forward == forward::NAT
        && let Err(reason) = nat::to_real::<F>(headers, backend)
    {
        return account::drop(reason);
    }
    account::inbound(id, F::frame_bytes(headers.frame));
    direct::send(headers.frame, backend.hop())
}

/// Out by an interface: back by the one it came from, or over to another.
#[inline(always)]
fn out(to: u32) -> Verdict {
    if to == ifindex() {
        return xdp_action::XDP_TX;
    }
    match DEVICES.redirect(to, 0) {
        Ok(verdict) => verdict,
        Err(_) => account::drop(Reason::DropInternal),
    }
}
