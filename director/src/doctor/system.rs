//! The machine itself: kernel, rights, memory, clock. Pure.

use super::Finding;
use super::facts::{Facts, System};
use crate::realtime;

/// The oldest kernel that can run the program.
const OLDEST: (u32, u32) = (5, 18);

/// Capabilities by their numbers in linux/capability.h, and what a director needs them for.
const NEEDED: [(u64, &str, &str); 2] = [
    (12, "CAP_NET_ADMIN", "attaching XDP and adding VIPs"),
    (13, "CAP_NET_RAW", "ARP and neighbour discovery"),
];
const SYS_ADMIN: u64 = 21;
const BPF: [u64; 2] = [38, 39];
const IPC_LOCK: u64 = 14;
/// Those that only a heartbeat needs.
const FOR_HEARTBEAT: [(u64, &str, &str); 2] = [
    (IPC_LOCK, "CAP_IPC_LOCK", "keeping its memory out of swap"),
    (23, "CAP_SYS_NICE", "real-time priority"),
];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = kernel(&facts.system);
    found.extend(rights(facts));
    found.push(memory(&facts.system));
    found.extend(clock(facts));
    found
}

fn kernel(system: &System) -> Vec<Finding> {
    let System { kernel, .. } = system;
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST;
    let mut found = vec![if version >= OLDEST {
        Finding::ok("kernel", "", format!("Linux {kernel}"))
    } else {
        Finding::error("kernel", "", format!("Linux {kernel} cannot run the XDP program"))
            .help(format!("install a kernel of {major}.{minor} or newer"))
    }];
    found.push(if system.btf {
        Finding::ok("btf", "/sys/kernel/btf/vmlinux", "the kernel describes its types")
    } else {
        Finding::error(
            "btf",
            "/sys/kernel/btf/vmlinux",
            "the kernel was built without BTF, which the XDP program needs",
        )
        .help("use a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions' own have it; is /sys mounted?")
    });
    found.push(if system.bpffs {
        Finding::ok("bpffs", "/sys/fs/bpf", "the bpf file system is mounted")
    } else {
        Finding::note(
            "bpffs",
            "/sys/fs/bpf",
            "the bpf file system is not mounted; `director run` mounts it if it may",
        )
        .help("mount -t bpf bpf /sys/fs/bpf")
    });
    found
}

fn rights(facts: &Facts) -> Vec<Finding> {
    let System { capabilities, lockable, priority, of_director, .. } = facts.system;
    let who = if of_director { "the running director" } else { "this user" };
    let has = |number: u64| capabilities >> number & 1 == 1;
    let lacks = |name: &str, what: &str| {
        Finding::error("capabilities", name, format!("{who} does not have it: no {what}"))
            .help("run the director as root, or give its unit AmbientCapabilities= and CapabilityBoundingSet= with it")
    };
    let mut found: Vec<Finding> =
        NEEDED.iter().filter(|need| !has(need.0)).map(|(_, name, what)| lacks(name, what)).collect();
    if !has(SYS_ADMIN) && !BPF.into_iter().all(has) {
        found.push(lacks("CAP_BPF, CAP_PERFMON", "loading BPF programs"));
    }
    if facts.config.heartbeat.is_some() {
        // Limits may permit the same, as those of the package's service do.
        let permitted = |number| match number {
            IPC_LOCK => lockable.is_none(),
            _ => priority >= realtime::HEARTBEAT.cast_unsigned().into(),
        };
        let missing = FOR_HEARTBEAT.iter().filter(|need| !has(need.0) && !permitted(need.0));
        found.extend(missing.map(|(_, name, what)| {
            let message = format!("{who} does not have it: no {what}. Under load, heartbeats may be late");
            Finding::warning("capabilities", name, message)
                .help("run the director as root, or give its unit LimitMEMLOCK=infinity and LimitRTPRIO=40")
        }));
        // With the capability, no limit applies (mlock(2)).
        if let Some(bytes) = lockable.filter(|bytes| !has(IPC_LOCK) && *bytes < 64 << 20) {
            let message = format!("{who} may lock {} KiB of memory only", bytes >> 10);
            found.push(
                Finding::warning("memlock", "", message).help("LimitMEMLOCK=infinity in the director's unit"),
            );
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("capabilities", "", format!("{who} has all that a director needs")));
    }
    found
}

fn memory(system: &System) -> Finding {
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let (wanted, available) = (mebibytes(system.memory_wanted), mebibytes(system.memory_available));
    if system.has_tables {
        return Finding::ok("memory", "", format!("the tables are there; they take {wanted} MiB"));
    }
    let message = format!("the configured tables take {wanted} MiB; {available} MiB can be had");
    let finding = match () {
        () if wanted >= available => Finding::error("memory", "limits", message),
        () if wanted > available / 2 => Finding::warning("memory", "limits", message),
        () => return Finding::ok("memory", "limits", message),
    };
    finding.help("lower `limits` in the configuration, `flows` first: each takes 160 bytes; or add memory")
}

fn clock(facts: &Facts) -> Option<Finding> {
    let message = "the clock follows no other one";
    Some(match (facts.system.clock_synchronized?, facts.config.heartbeat.is_some()) {
        (true, _) => Finding::ok("clock", "", "the clock is synchronized"),
        (false, true) => Finding::warning(
            "clock",
            "",
            format!("{message}: logs of the directors cannot be compared, and DNS updates with a key may be refused"),
        )
        .help("timedatectl set-ntp true, or run chrony"),
        (false, false) => Finding::note("clock", "", format!("{message}: times in logs and certificates may be judged wrongly"))
            .help("timedatectl set-ntp true, or run chrony"),
    })
}
