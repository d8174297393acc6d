//! The kernel's settings of single interfaces, in /proc/sys/net of the calling thread's network namespace.

use std::fs;
use std::io;

/// A number; 0 where the kernel has no such setting (IPv6 may be missing).
fn get(family: &str, device: &str, key: &str) -> i32 {
    let text = fs::read_to_string(path(family, device, key)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn set(family: &str, device: &str, key: &str, value: i32) -> io::Result<()> {
    fs::write(path(family, device, key), value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("net.{family}.conf.{device}.{key}: {error}")))
}

fn path(family: &str, device: &str, key: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{device}/{key}")
}

/// Raises an IPv4 setting of an interface to `value`, unless it, or the one of all interfaces, is so high already.
/// Says whether it had to.
fn raise(device: &str, key: &str, value: i32) -> io::Result<bool> {
    if get("ipv4", device, key).max(get("ipv4", "all", key)) >= value {
        return Ok(false);
    }
    set("ipv4", device, key, value).map(|()| true)
}

/// Has the interface keep its secondary addresses when their primary one goes. Says whether it had to be told.
///
/// # Errors
/// It cannot be told: /proc/sys cannot be written, say.
pub fn promote_secondaries(device: &str) -> io::Result<bool> {
    raise(device, "promote_secondaries", 1)
}

/// Whether an interface says of itself that it is a router (the R flag of neighbour advertisements).
pub fn is_router(device: &str) -> bool {
    get("ipv6", device, "forwarding") == 1
}

/// What a fresh macvlan with a virtual MAC needs, before it is switched on.
///
/// It answers ARP for its own addresses only (arp_ignore) and asks from them only (arp_announce). Answers to what
/// comes in there may leave by the parent (rp_filter is loose: 2 beats what `all` says). It makes no link-local
/// address of its MAC and none of router advertisements: both directors would have the same.
///
/// # Errors
/// One of them cannot be set.
pub fn prepare_macvlan(device: &str) -> io::Result<()> {
    for (key, value) in [("arp_ignore", 1), ("arp_announce", 2), ("rp_filter", 2), ("promote_secondaries", 1)]
    {
        set("ipv4", device, key, value)?;
    }
    for (key, value) in [("addr_gen_mode", 1), ("accept_ra", 0), ("autoconf", 0)] {
        match set("ipv6", device, key, value) {
            // A kernel without IPv6, or one where it is switched off.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// What the interface under a macvlan needs: it must not answer ARP for the macvlan's addresses with its own MAC
/// (arp_ignore), nor tell it to those that it asks for (arp_announce). Linux does both for any address of the
/// machine, so this cannot be had by settings of the macvlan alone. Says which settings it had to change; they are
/// left so.
///
/// # Errors
/// One of them cannot be set.
pub fn prepare_parent(device: &str) -> io::Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    for (key, value) in [("arp_ignore", 1), ("arp_announce", 2)] {
        if raise(device, key, value)? {
            changed.push(key);
        }
    }
    Ok(changed)
}
