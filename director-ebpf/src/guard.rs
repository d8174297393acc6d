//! The guard, a dead man's switch: this director's host answers for guarded VIPs, and takes frames for virtual MACs, as long as
//! the daemon renews their group's lease. One that is frozen, starved or dead stops by itself, whatever addresses its interfaces
//! still have; packets that come to its own MAC nevertheless are forwarded as before.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use director_ebpf::packet::{Frame, arp_target, solicited};

use crate::family::{Family, V4};
use crate::maps::{GUARD, LEASES, VMACS};
use crate::service::bytes;

/// Whether a frame is ARP for an address that may not be answered for now.
#[inline(always)]
pub fn forbids_arp(frame: Frame) -> bool {
    arp_target(frame).is_some_and(|target| forbids(V4::wide(&target)))
}

/// Whether an IPv6 frame is a neighbour solicitation for an address that may not be answered for now. Not inlined: the fast
/// path has a use for it, but no stack.
#[inline(never)]
pub fn forbids_nd(frame: Frame) -> bool {
    solicited(frame).is_some_and(forbids)
}

/// Whether a frame that begins with this word is for a virtual MAC, and if so, whether its group has a lease.
#[inline(always)]
pub fn virtual_mac(start: u64) -> Option<bool> {
    let mac = start << 16 >> 16;
    if mac & 1 != 0 {
        return None;
    }
    // SAFETY: values of a hash map without preallocation live as long as the program runs (RCU); they are copied at once.
    unsafe { VMACS.get(mac) }.map(|group| leased(*group))
}

#[inline(always)]
fn forbids(address: [u32; 4]) -> bool {
    // SAFETY: as above.
    unsafe { GUARD.get(bytes(address)) }.is_some_and(|group| !leased(*group))
}

/// Whether a group's lease lasts. The clock is read last: a delay between may end a lease, but never lengthen it.
#[inline(always)]
fn leased(group: u32) -> bool {
    let Some(lease) = LEASES.get_ptr(group) else { return false };
    // SAFETY: a word of the map. Volatile, for userspace writes it.
    let until = unsafe { lease.read_volatile() };
    // SAFETY: a helper without arguments.
    until != 0 && unsafe { bpf_ktime_get_boot_ns() } <= until
}
