//! Counting. Every verdict but a plain forward has a reason, and every forward a backend.

use aya_ebpf::bindings::xdp_action;
use director_ebpf::abi::{BackendStats, Reason, ServiceStats};

use crate::Verdict;
use crate::maps::{BACKEND_STATS, REASONS, SERVICE_STATS};

/// Counts one reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
        unsafe { *counter += 1 };
    }
}

/// Passes the packet to the kernel, counted.
#[inline(always)]
pub fn pass(reason: Reason) -> Verdict {
    count(reason);
    xdp_action::XDP_PASS
}

/// Drops the packet, counted.
#[inline(always)]
pub fn drop(reason: Reason) -> Verdict {
    count(reason);
    xdp_action::XDP_DROP
}

/// Counts a client's packet to a backend.
#[inline(always)]
pub fn inbound(backend: u32, bytes: u64) {
    backend_stats(backend, |stats| {
        stats.packets_in += 1;
        stats.bytes_in += bytes;
    });
}

/// Counts a real server's reply.
#[inline(always)]
pub fn outbound(backend: u32, bytes: u64) {
    backend_stats(backend, |stats| {
        stats.packets_out += 1;
        stats.bytes_out += bytes;
    });
}

/// Counts a flow that begins.
#[inline(always)]
pub fn new_flow(backend: u32) {
    backend_stats(backend, |stats| stats.new_flows += 1);
}

#[inline(always)]
fn backend_stats(backend: u32, f: impl FnOnce(&mut BackendStats)) {
    if let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
        // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
        f(unsafe { &mut *stats });
    }
}

/// Works on one service's counters of this CPU.
#[inline(always)]
pub fn service<R>(service: u32, f: impl FnOnce(&mut ServiceStats) -> R) -> Option<R> {
    let stats = SERVICE_STATS.get_ptr_mut(service)?;
    // SAFETY: a per-CPU value, and XDP programs of one CPU do not interrupt each other.
    Some(f(unsafe { &mut *stats }))
}
