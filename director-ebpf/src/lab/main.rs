//! Programs for tests and the bench; none of them is in the director's own object.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "what the macros make of a program has none")]

mod floors;
mod harness;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Passes everything: the least a program can do. (And a veth's peer must hold some program, or XDP_TX does not reach it.)
#[xdp(frags)]
pub fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The kernel's licence check.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: no path leads here.
    unsafe { core::hint::unreachable_unchecked() }
}
