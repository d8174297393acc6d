//! The XDP program: a packet comes in, and is forwarded, answered, dropped or passed to the kernel.
//!
//! packet → parse → flow | service → schedule → forward → account → verdict. A packet of a flow that is known and owes nothing
//! takes the fast path; every other one starts over on the slow path, which knows everything. One instance is loaded for each
//! interface, so that what belongs to the interface is a constant; all instances share the maps.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "what the macros make of a program has none")]
#![allow(internal_features)]
#![feature(core_intrinsics)]

mod account;
mod balance;
mod family;
mod fast;
mod flow;
mod forward;
mod guard;
mod icmp;
mod maps;
mod reject;
mod schedule;
mod service;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use director_ebpf::abi::Reason;
use director_ebpf::packet::{ETHERNET, Frame, ethertype};

use crate::account::{drop, pass};
use crate::family::{V4, V6};

/// A verdict: one of `xdp_action`.
type Verdict = u32;

/// The one entry. `frags`: frames may be larger than a page (jumbo MTUs); headers always lie in the first buffer.
#[xdp(frags)]
pub fn director(ctx: XdpContext) -> Verdict {
    // SAFETY: the kernel's context; this is the first view.
    let frame = unsafe { view(ctx.ctx) };
    let (Some(destination), Some(kind)) = (frame.load::<u64>(0), frame.load::<u16>(ETHERNET - 2)) else {
        return drop(Reason::DropTruncated);
    };
    if kind != ethertype::IPV4 && kind != ethertype::IPV6 {
        return no_ip(ctx.ctx);
    }
    if destination << 16 != maps::own_mac() << 16 {
        let verdict = other_mac(ctx.ctx);
        if verdict != NO_VERDICT {
            return verdict;
        }
    }
    if kind == ethertype::IPV4 {
        either(fast_v4(ctx.ctx), |unknown| slow_v4(ctx.ctx, unknown))
    } else {
        either(fast_v6(ctx.ctx), |unknown| slow_v6(ctx.ctx, unknown))
    }
}

/// A frame that is neither IPv4 nor IPv6. A function of its own, as the next one, so that packets to forward need not step over
/// it.
#[inline(never)]
fn no_ip(ctx: *mut xdp_md) -> Verdict {
    // SAFETY: the kernel's context; the caller looks at its own view no more.
    let frame = unsafe { view(core::hint::black_box(ctx)) };
    match frame.load::<u16>(ETHERNET - 2) {
        Some(ethertype::VLAN | ethertype::QINQ) => pass(Reason::PassVlan),
        Some(ethertype::ARP) if guard::forbids_arp(frame) => drop(Reason::DropNoLease),
        _ => pass(Reason::PassNotIp),
    }
}

/// A frame for another MAC than the interface's: a verdict, or [`NO_VERDICT`] if it is ours all the same, because the MAC is a
/// virtual one that we hold. What a switch floods is not ours to forward: two directors would send it to and fro for ever.
#[inline(never)]
fn other_mac(ctx: *mut xdp_md) -> Verdict {
    // SAFETY: as above.
    let frame = unsafe { view(core::hint::black_box(ctx)) };
    match frame.load(0).and_then(guard::virtual_mac) {
        Some(true) => return NO_VERDICT,
        // The kernel must not see it: on an owner that froze it still has the MAC and the VIPs, and would refuse connections.
        Some(false) => return drop(Reason::DropNoLease),
        None => {}
    }
    // Most solicitations go to a multicast MAC.
    if frame.load(ETHERNET - 2) == Some(ethertype::IPV6) && guard::forbids_nd(frame) {
        return drop(Reason::DropNoLease);
    }
    pass(Reason::PassOtherHost)
}

/// What the fast path says when it leaves a packet to the slow one.
const NO_VERDICT: Verdict = u32::MAX;
/// What it says when that is because the flow has no entry: the slow path need not look again.
const NO_ENTRY: Verdict = u32::MAX - 1;

#[inline(always)]
fn either(fast: Verdict, slow: impl FnOnce(u64) -> Verdict) -> Verdict {
    if fast < NO_ENTRY { fast } else { slow(u64::from(fast == NO_ENTRY)) }
}

/// The fast path, IPv4. Part of the program itself: a call costs 7 ns where returns are guarded against speculation, and the
/// slow path has just the stack to spare for its variables.
#[inline(always)]
fn fast_v4(ctx: *mut xdp_md) -> Verdict {
    // SAFETY: the kernel's context; the caller looks at its own view no more.
    fast::packet::<V4>(unsafe { view(core::hint::black_box(ctx)) }).unwrap_or(NO_VERDICT)
}

/// The fast path, IPv6. A function of its own, for its variables are more.
#[inline(never)]
fn fast_v6(ctx: *mut xdp_md) -> Verdict {
    // SAFETY: as above.
    fast::packet::<V6>(unsafe { view(core::hint::black_box(ctx)) }).unwrap_or(NO_VERDICT)
}

/// The slow path, IPv4. A global function: the verifier proves it once, by itself, and not again behind every way of the fast
/// path that ends here. `unknown`: the flow has no entry.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn slow_v4(ctx: *mut xdp_md, unknown: u64) -> Verdict {
    balance::packet::<V4>(ctx, unknown != 0)
}

/// The slow path, IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn slow_v6(ctx: *mut xdp_md, unknown: u64) -> Verdict {
    balance::packet::<V6>(ctx, unknown != 0)
}

/// Says what time it is, in ticks modulo 2^32: userspace runs it to read the clock that the flow table is kept by.
#[xdp]
pub fn clock(_: XdpContext) -> u32 {
    flow::now()
}

/// A frame as the context has it now.
///
/// # Safety
/// `ctx` is the kernel's own, and no older view of the frame is used any more.
#[inline(always)]
unsafe fn view(ctx: *mut xdp_md) -> Frame {
    // SAFETY: by this function's contract; XDP owns the frame while the program runs.
    unsafe { Frame::new((*ctx).data as usize, (*ctx).data_end as usize) }
}

/// The reference itself, but unknown to the compiler. A function that is not inlined calls it on what it is given: LLVM would
/// otherwise hand it the fields instead ("argument promotion"), and BPF has only five registers for arguments.
#[inline(always)]
fn opaque<T>(reference: &T) -> &T {
    core::hint::black_box(reference)
}

/// The kernel lets programs under a GPL-compatible licence only use the helpers we need.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: no path leads here: overflow checks are off and every index is checked; the verifier would refuse a loop.
    unsafe { core::hint::unreachable_unchecked() }
}

const _: () = assert!(xdp_action::XDP_TX == 3);
