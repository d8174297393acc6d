//! What is wrong with the machine itself, its interfaces, rights and memory; and strangers in its segment.
//!
//! Not to be had in a namespace, and left to unit tests: a clock that follows no other one, large receive offload, frames merged by
//! the card, VLANs on kernels without them, drivers that take no large MTU.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use tests::lab::{Cluster, Config, DIRECT_VIPS, Host, Lab, NAT_VIPS, Service, director_binary};

use super::{Said, doctor, doctor_under, ip};

/// The real server that lacks nothing.
const WELL: &str = "192.0.2.24";

#[test]
fn each_fault_of_a_machine_is_found_and_named() -> Result<()> {
    let lab = Lab::builder().without_vips().reals(5).build()?;
    interfaces_that_do_not_fit(lab.host("director"))?;
    strangers(&lab)?;
    let megabytes = before_the_first_start(&lab)?;
    without_rights(&lab, megabytes)?;
    on_an_old_kernel(&lab)?;
    with_more_than_can_be_asked(&lab)?;
    strangers_are_gone(&lab)?;
    with_a_director(&lab)
}

/// A configuration's file with these lines.
fn file(lab: &Lab, yaml: &str) -> Result<PathBuf> {
    let path = lab.directory().join("machine.yaml");
    fs::write(&path, format!("socket: {}\n{yaml}", lab.directory().join("director.sock").display()))?;
    Ok(path)
}

/// The same with an IPv6 VIP on another interface than `eth0`.
fn on(yaml: &str, vip: &str, interface: &str) -> String {
    let vip = format!("{vip}/128\", interface: ");
    yaml.replace(&format!("{vip}eth0"), &format!("{vip}{interface}"))
}

fn web() -> Service {
    Service::tcp("web", DIRECT_VIPS[0], 80).real(WELL, 1)
}

/// One that is off, one without a carrier that is no Ethernet either, two whose driver has no XDP. The one that all is well with has a
/// queue too few.
fn interfaces_that_do_not_fit(host: &Host) -> Result<()> {
    ip(host, "link add down0 type veth peer name down1")?;
    for name in ["bare0", "bare1"] {
        ip(host, &format!("link add link eth0 name {name} type macvlan mode bridge"))?;
        ip(host, &format!("link set {name} up arp off"))?;
    }
    ip(host, "tuntap add tun0 mode tun")?;
    ip(host, "link set tun0 up")?;
    host.run(&["ethtool", "-L", "eth0", "rx", "1"]).map(drop)
}

/// Machines that have addresses that they should not have, and some that lack theirs.
fn strangers(lab: &Lab) -> Result<()> {
    ip(lab.host("client"), "addr add 192.0.2.10/32 dev lo")?;
    ip(lab.host("client"), "addr add 198.51.100.10/32 dev lo")?;
    ip(lab.host("real5"), "addr add 198.51.100.10/32 dev eth0")?;
    let wall = "table inet wall { chain in { type filter hook input priority 0; tcp dport 80 drop; }; }";
    lab.host("real1").run(&["nft", wall])?;
    ip(lab.host("real2"), "addr del 192.0.2.10/32 dev lo")?;
    ip(lab.host("real3"), "addr del 192.0.2.10/32 dev lo")?;
    ip(lab.host("real4"), "addr add 192.0.2.22/32 dev eth0")
}

fn strangers_are_gone(lab: &Lab) -> Result<()> {
    ip(lab.host("client"), "addr del 192.0.2.10/32 dev lo")?;
    ip(lab.host("client"), "addr del 198.51.100.10/32 dev lo")?;
    ip(lab.host("real5"), "addr del 198.51.100.10/32 dev eth0")
}

/// Says how many megabytes the tables take, too.
fn before_the_first_start(lab: &Lab) -> Result<u64> {
    let fallback = |address: &str| format!("{{ address: \"{address}\" }}");
    let reals = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.21", 1).real("192.0.2.22", 1);
    let six = Service::tcp("web6", DIRECT_VIPS[1], 80).real("2001:db8::24", 1);
    let shop = Service::tcp("shop", NAT_VIPS[0], 80).nat().real(WELL, 1);
    let config = Config::new().interface("down0").interface("bare0").interface("tun0");
    let config = config
        .service(reals.set("fallback", &fallback("192.0.2.23")))
        .service(six.set("fallback", &fallback("2001:db8::99")))
        .service(shop.set("fallback", &fallback("203.0.113.99")));
    let yaml = on(&on(&config.yaml(), NAT_VIPS[1], "eth7"), DIRECT_VIPS[1], "down1");
    let file = file(lab, &yaml)?;
    let said = doctor(lab.host("director"), &file, &[Path::new("--pins"), &lab.pins()])?;

    let [client, real2] = ["client", "real2"].map(|name| lab.host(name).mac("eth0"));
    let (client, real2) = (client?, real2?);
    let lacks = format!("it ({real2}) answers connections to its own address, port 80, but not to the VIP");
    said.ensure_bad(&[
        ["error", "interface", "down0", "switched off", "ip link set dev down0 up"],
        ["error", "interface", "tun0", "no carrier", "cable"],
        ["error", "interface", "tun0", "no Ethernet", "name another one in `interfaces`"],
        ["error", "interface", "down1", "switched off", "ip link set dev down1 up"],
        ["error", "interface", "eth7", "no such interface; `vips` names it", "correct `vips`"],
        ["error", "routes", "203.0.113.99", "no route to this fallback of shop", "ip route get 203.0.113.99"],
        [
            "error",
            "arp",
            "192.0.2.10",
            &format!("{client} on eth0 answers for it, but this is the only"),
            &client,
        ],
        ["error", "arp", "198.51.100.10", "2 machines on eth0 answer for it", &client],
        ["error", "duplicate", "192.0.2.22", "2 machines on eth0 answer for this real server of web", &real2],
        ["error", "real", "192.0.2.22", &lacks, "director-real-server up 192.0.2.10"],
        ["error", "real", "192.0.2.23", "it answers connections to its own address", "on 192.0.2.23"],
        ["error", "real", "2001:db8::99", "this fallback of web6 does not answer", "ping 2001:db8::99"],
    ])?;
    said.ensure_notes(&[
        ["xdp", "bare0", "nothing is attached; the driver has no XDP, so it will be generic mode"],
        [
            "real",
            "192.0.2.21",
            "neither for itself nor for 192.0.2.10: whether it holds the VIP cannot be told",
        ],
        ["forwarding", "net.ipv4.ip_forward", "it is 0. NAT needs it not"],
        ["director", "", "What only a running one knows was not looked at"],
    ])?;
    let cpus = available_parallelism()?.get();
    if cpus > 1 {
        said.ensure_notes(&[[
            "queues",
            "eth0",
            &format!("1 of {cpus} CPUs can forward what comes in here"),
        ]])?;
    }
    lab.host("director").sysctl("net/ipv4/ip_forward", "1")?;
    let memory = said.findings.iter().find(|finding| finding["topic"] == "memory").context("no memory")?;
    let words = memory["message"].as_str().context("no message")?.split(' ');
    Ok(words.skip_while(|word| *word != "take").nth(1).context("no size")?.parse()?)
}

/// A shell's line that has the machine have as much memory as this.
fn has_memory(lab: &Lab, megabytes: u64) -> Result<String> {
    let path = lab.directory().join("meminfo");
    fs::write(&path, format!("MemAvailable: {} kB\n", megabytes << 10))?;
    Ok(format!("mount --bind {} /proc/meminfo", path.display()))
}

/// Runs the doctor after these lines of a shell that may change mounts, by these words of it.
fn doctor_after(lab: &Lab, lines: &[String], by: &str, file: &Path, arguments: &[&str]) -> Result<Said> {
    let script = format!("{}\nexec {by} \"$@\"", lines.join("\n"));
    let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
    doctor_under(&["unshare", "--mount", "sh", "-ec", &script, "sh"], lab.host("director"), file, &arguments)
}

/// In a cluster, so that rights to be in time count, too. One who answers for a VIP may be the other director then.
fn without_rights(lab: &Lab, megabytes: u64) -> Result<()> {
    lab.cluster()?;
    let cluster = Cluster::new(2, &lab.directory().join("heartbeat.key")).links(&["udp: 192.0.2.{}"]);
    let file = file(lab, &Config::new().cluster(cluster).service(web()).yaml())?;
    let by = "prlimit --memlock=8388608 --rtprio=0 \
              setpriv --bounding-set=-net_admin,-bpf,-perfmon,-sys_admin,-ipc_lock,-sys_nice";
    let said = doctor_after(lab, &[has_memory(lab, megabytes * 3 / 2)?], by, &file, &["--node", "lb1"])?;
    let said_of_memory = format!("the configured tables take {megabytes} MiB; {} MiB", megabytes * 3 / 2);
    said.ensure_bad(&[
        ["error", "capabilities", "CAP_NET_ADMIN", "this user does not have it", "AmbientCapabilities="],
        ["error", "capabilities", "CAP_BPF, CAP_PERFMON", "no loading BPF programs", "as root"],
        ["warning", "capabilities", "CAP_IPC_LOCK", "heartbeats may be late", "LimitMEMLOCK=infinity"],
        ["warning", "capabilities", "CAP_SYS_NICE", "heartbeats may be late", "LimitRTPRIO=40"],
        ["warning", "memlock", "", "may lock 8192 KiB of memory only", "LimitMEMLOCK=infinity"],
        ["warning", "memory", "limits", &said_of_memory, "lower `limits`"],
        ["error", "arp", "198.51.100.10", "2 machines on eth0 answer for it", "switch"],
    ])?;
    let client = lab.host("client").mac("eth0")?;
    said.ensure_notes(&[[
        "arp",
        "192.0.2.10",
        &format!("{client} answers for it: a director whose MAC is not known"),
    ]])?;
    ensure!(said.of("forwarding").is_empty(), "{:#?}", said.of("forwarding"));
    Ok(())
}

/// One that says to be of 2.6, without BTF and bpffs; and without the right to ask anybody.
fn on_an_old_kernel(lab: &Lab) -> Result<()> {
    let file = file(lab, &Config::new().service(web()).yaml())?;
    let lines = [
        "mount -t tmpfs none /sys/fs/bpf".to_owned(),
        "mount -t tmpfs none /sys/kernel/btf".to_owned(),
        has_memory(lab, 64)?,
    ];
    let by = "setpriv --bounding-set=-net_raw setarch --uname-2.6";
    let said = doctor_after(lab, &lines, by, &file, &[])?;
    said.ensure_bad(&[
        ["error", "kernel", "", "Linux 2.6.", "install a kernel of 5.18 or newer"],
        ["error", "btf", "/sys/kernel/btf/vmlinux", "without BTF", "CONFIG_DEBUG_INFO_BTF=y"],
        ["error", "capabilities", "CAP_NET_RAW", "no ARP and neighbour discovery", "as root"],
        ["error", "memory", "limits", "64 MiB can be had", "each takes 160 bytes"],
    ])?;
    said.ensure_notes(&[
        ["bpffs", "/sys/fs/bpf", "not mounted"],
        ["real", "", "nobody was asked by ARP or neighbour discovery: Operation not permitted"],
    ])
}

/// What is left out is said.
fn with_more_than_can_be_asked(lab: &Lab) -> Result<()> {
    let host = lab.host("director");
    ip(host, "addr add 10.9.255.1/16 dev eth0")?;
    let many = |third: u8| Service::tcp(&format!("many{third}"), DIRECT_VIPS[0], 1_000 + u16::from(third));
    let many = |third: u8| many(third).real(&format!("10.9.{third}.0-10.9.{}.255", third + 3), 1);
    let config =
        [0, 4, 8, 12, 16].into_iter().fold(Config::new(), |config, third| config.service(many(third)));
    let said = doctor(host, &file(lab, &config.yaml())?, &[Path::new("--pins"), &lab.pins()])?;
    said.ensure_notes(&[
        ["real", "", "only the first 4096 of 51"],
        ["real", "", "only the first 1024 of 5120 real servers were tried"],
    ])?;
    ip(host, "addr del 10.9.255.1/16 dev eth0")
}

/// Attached where the driver cannot, and where it could by now; told of an interface since; and with a problem of its own.
fn with_a_director(lab: &Lab) -> Result<()> {
    let host = lab.host("director");
    let config = |more: &str| {
        let yaml = Config::new().service(web()).yaml().replace("[eth0]", &format!("[eth0, bare0{more}]"));
        on(&yaml, NAT_VIPS[1], "eth7")
    };
    // The switch's side has two queues to send by, more than there are here to receive: veth refuses.
    let director = lab.director_from(&director_binary()?, config(""))?;
    host.run(&["ethtool", "-L", "eth0", "rx", "2"])?;
    director.await_reachable()?;
    let said = doctor(host, &file(lab, &config(", bare1"))?, &[Path::new("--pins"), &lab.pins()])?;
    said.ensure_bad(&[
        [
            "warning",
            "xdp",
            "eth0",
            "in generic mode, which is slower (driver veth); the driver could",
            "ethtool -L eth0",
        ],
        ["error", "xdp", "bare1", "the director runs, but its program is not attached", "director reload"],
        ["error", "interface", "eth7", "no such interface; `vips` names it", "correct `vips`"],
        ["warning", "director", "", NAT_VIPS[1], ""],
    ])?;
    said.ensure_notes(&[
        ["xdp", "bare0", "the program runs in generic mode: the driver has no XDP"],
        ["director", "", &format!("it runs by {}, not by", director.config_file().display())],
    ])
}
