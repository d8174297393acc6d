//! Builds a lab out of its plan.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use super::host::Host;
use super::plan::{HostPlan, MOST_DIRECTORS, Options, Plan};
use super::{Lab, bpffs, namespaces, xdp};

/// Receive and transmit queues of each interface. XDP wants as many receive queues as the peer has transmit
/// queues; with two, two CPUs can work.
const QUEUES: u32 = 2;

/// What a lab shall have; see [`Lab::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<String>,
    options: Options,
}

impl Builder {
    /// How many real servers are on the server LAN (3).
    pub fn reals(mut self, count: u8) -> Self {
        self.options.reals = count;
        self
    }

    /// The MTU of every link (1500).
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.options.mtu = mtu;
        self
    }

    /// How many directors there are (1), at most 3. The only one is the host `director`, several are `director1`, `director2`,
    /// …: on the switch by `eth0`, on `hbswitch`, which is for heartbeats alone, by `eth1`.
    pub fn directors(mut self, count: u8) -> Self {
        self.options.directors = count;
        self
    }

    /// With a second segment: `back1` behind the director's `eth1`.
    pub fn with_back(mut self) -> Self {
        self.options.back = true;
        self
    }

    /// With a router on the server LAN, and `far1` behind it.
    pub fn with_router(mut self) -> Self {
        self.options.router = true;
        self
    }

    /// The director's interface does not hold the VIPs.
    pub fn without_vips(mut self) -> Self {
        self.options.vips = false;
        self
    }

    /// A fixed name, for a lab that outlives the process. Left out, the name is the process's own, so that labs
    /// of concurrent tests do not meet.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes the lab.
    pub fn build(self) -> Result<Lab> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab makes network namespaces and loads BPF programs: it needs root. Try `{SUDO}`"
        );
        let directors = self.options.directors;
        ensure!(
            (1..=MOST_DIRECTORS).contains(&directors),
            "a lab has 1 to {MOST_DIRECTORS} directors, not {directors}"
        );
        ensure!(
            !(self.options.is_cluster() && self.options.back),
            "a lab with several directors has no second segment: leave out `with_back`"
        );
        namespaces::sweep_stale()?;
        bpffs::ensure_mounted()?;
        let name = self.name.unwrap_or_else(unique_name);
        ensure!(namespaces::hosts_of(&name).is_empty(), "a lab named {name} is up already");
        let plan = Plan::new(&self.options);
        // From here on, dropping `lab` takes back whatever has been made.
        let mut lab = Lab::empty(&name, self.options.clone());
        let directory = namespaces::directory(&name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for switch in &plan.switches {
            lab.add_host(open(&name, switch, Vec::new())?);
            set_up_switch(lab.host(switch), self.options.mtu)?;
        }
        for host in &plan.hosts {
            lab.add_host(open(&name, &host.name, host.addresses())?);
            set_up_host(&lab, host, self.options.mtu)?;
        }
        Ok(lab)
    }
}

/// The way to run one of the project's tasks as root with the user's own toolchain.
const SUDO: &str = "sudo -E env \"PATH=$PATH\" cargo xtask …";

fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("dl{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn open(lab: &str, name: &str, addresses: Vec<IpAddr>) -> Result<Host> {
    let namespace = format!("{lab}-{name}");
    namespaces::add(&namespace)?;
    Host::open(name, &namespace, addresses)
}

fn set_up_switch(switch: &Host, mtu: u32) -> Result<()> {
    // A switch has no addresses; IPv6 would give it some.
    sysctls(switch, &[("net/ipv6/conf/default/disable_ipv6", "1"), ("net/ipv6/conf/all/disable_ipv6", "1")])?;
    // Without spanning tree a port forwards at once; without snooping, neighbour discovery needs no querier.
    let bridge = format!("link add br0 mtu {mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    ip_batch(switch, &[bridge, "link set br0 up".into(), "link set lo up".into()])
}

fn set_up_host(lab: &Lab, plan: &HostPlan, mtu: u32) -> Result<()> {
    let host = lab.host(&plan.name);
    prepare_kernel(host, plan)?;
    for (number, port) in plan.ports.iter().enumerate() {
        let switch = lab.host(port.switch);
        connect(host, &format!("eth{number}"), switch, mtu)?;
        if port.xdp {
            prepare_peer(switch, &plan.name)?;
        }
    }
    ip_batch(host, &addressing(plan))?;
    if plan.loopback.is_empty() {
        return Ok(());
    }
    // What an administrator would run there.
    let vips: Vec<String> = plan.loopback.iter().map(IpAddr::to_string).collect();
    let mut words = vec!["up"];
    words.extend(vips.iter().map(String::as_str));
    let output = lab.real_server(&plan.name, &words)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "director-real-server on {}: {stderr}", plan.name);
    Ok(())
}

/// What has to be set before there are interfaces: they inherit it.
fn prepare_kernel(host: &Host, plan: &HostPlan) -> Result<()> {
    sysctls(
        host,
        &[
            // Addresses are usable at once, and nothing but the plan decides which there are.
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/dad_transmits", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            // Loose, as Debian's systemd sets it.
            ("net/ipv4/conf/default/rp_filter", "2"),
        ],
    )?;
    // Everywhere else forwarding stays off, so that a test shows it was XDP that forwarded.
    if plan.forwards {
        sysctls(host, &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    }
    Ok(())
}

/// Makes the link between a host's interface and a switch, where the port is named after the host.
fn connect(host: &Host, interface: &str, switch: &Host, mtu: u32) -> Result<()> {
    let shape = format!("mtu {mtu} numtxqueues {QUEUES} numrxqueues {QUEUES}");
    let (port, namespace) = (host.name(), host.namespace());
    ip_batch(
        switch,
        &[
            format!("link add {port} {shape} type veth peer name {interface} {shape} netns {namespace}"),
            format!("link set {port} master br0"),
            format!("link set {port} up"),
        ],
    )
}

/// Prepares the switch's end of a link whose other end runs XDP.
fn prepare_peer(switch: &Host, port: &str) -> Result<()> {
    // Local senders leave checksums to the "hardware", and the switch passes them on as they are: XDP would see
    // half a checksum. This makes the switch's end finish them.
    switch.run(&["ethtool", "-K", port, "tx", "off"])?;
    switch.within(|| xdp::attach(&xdp::PASS, port))
}

fn addressing(plan: &HostPlan) -> Vec<String> {
    let mut commands = vec!["link set lo up".to_owned()];
    for (number, port) in plan.ports.iter().enumerate() {
        commands.push(format!("link set eth{number} up"));
        for address in &port.addresses {
            // Deprecated, a VIP is not chosen as the source of what the machine itself sends.
            let vip = address.ip.is_ipv6() && address.prefix == 128;
            let lifetime = if vip { " preferred_lft 0" } else { "" };
            let (ip, prefix) = (address.ip, address.prefix);
            let nodad = if ip.is_ipv6() { " nodad" } else { "" };
            commands.push(format!("addr add {ip}/{prefix} dev eth{number}{nodad}{lifetime}"));
        }
    }
    commands.extend(plan.routes.iter().map(|route| format!("route add {route}")));
    commands
}

fn sysctls(host: &Host, settings: &[(&str, &str)]) -> Result<()> {
    host.within(|| {
        settings.iter().try_for_each(|(name, value)| {
            fs::write(format!("/proc/sys/{name}"), value)
                .with_context(|| format!("cannot set {name} to {value}"))
        })
    })
}

/// Runs many `ip` commands in one process.
fn ip_batch(host: &Host, commands: &[String]) -> Result<()> {
    let text = commands.join("\n");
    let mut command = host.command("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run `ip`; `cargo xtask setup` installs it")?;
    child.stdin.take().context("no pipe to `ip`")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip on {}: {stderr}\nin\n{text}", host.name());
    Ok(())
}
