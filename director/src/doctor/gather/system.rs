//! The machine, as /proc, /sys and a few system calls tell of it.

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

use super::super::facts::{Facts, System};
use crate::dataplane;

/// STA_UNSYNC of adjtimex(2): the clock follows no other one.
const UNSYNCHRONIZED: i32 = libc::STA_UNSYNC;

/// Asks for everything.
pub(super) fn system(facts: &Facts, pins: &Path) -> System {
    let pid = facts.running.as_ref().map(|status| status.pid.to_string());
    let readable = |pid: &String| fs::metadata(format!("/proc/{pid}/status")).is_ok();
    let pid = pid.filter(readable);
    let process = pid.clone().unwrap_or_else(|| "self".to_owned());
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let is_one = |path: &str| read(path).trim() == "1";
    let limits = read(&format!("/proc/{process}/limits"));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    System {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpffs: dataplane::is_bpf_fs(Path::new("/sys/fs/bpf")),
        cpus,
        capabilities: capabilities(&read(&format!("/proc/{process}/status"))),
        lockable: limit(&limits, "Max locked memory"),
        priority: limit(&limits, "Max realtime priority").unwrap_or(u64::MAX),
        of_director: pid.is_some(),
        memory_available: memory_available(&read("/proc/meminfo")),
        memory_wanted: dataplane::memory(&facts.config.limits, cpus),
        has_tables: facts.running.is_some() || dataplane::has_tables(pins),
        clock_synchronized: clock_synchronized(),
        forwards: (is_one("/proc/sys/net/ipv4/ip_forward"), is_one("/proc/sys/net/ipv6/conf/all/forwarding")),
        default_routes: default_routes(&read("/proc/net/route")),
    }
}

/// The effective ones of /proc/PID/status.
fn capabilities(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// A soft limit of /proc/PID/limits; none: there is none.
fn limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory_available(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Interfaces of routes to everywhere, in /proc/net/route: name, destination, …, the mask in the eighth column.
fn default_routes(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        if let [name, "00000000", _, _, _, _, _, "00000000", ..] = columns[..] {
            found.insert(name.to_owned());
        }
    }
    found
}

fn clock_synchronized() -> Option<bool> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeros ask for nothing to be changed; the kernel fills the structure in, which is integers.
    let (result, state) = unsafe { (libc::adjtimex(state.as_mut_ptr()), state.assume_init()) };
    (result >= 0).then_some(state.status & UNSYNCHRONIZED == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_understood() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        let limits = "Limit  Soft  Hard  Units\nMax locked memory         8388608              8388608              bytes\n";
        assert_eq!(limit(limits, "Max locked memory"), Some(8 << 20));
        assert_eq!(limit("Max locked memory  unlimited  unlimited  bytes", "Max locked memory"), None);
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 2 << 20);
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth1\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_routes(routes), BTreeSet::from(["eth1".to_owned()]));
    }
}
