//! What happens inside the machine: its first process makes the lab, and tells the host what held.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use director::dataplane::Probes;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, init_module, reboot, uname};

use super::initramfs::{DIRECTOR, MODULES};
use super::{END, FAILED, HELD, KERNEL, MARK, kernel};
use crate::clients::{Marked, Session, ask};
use crate::lab::{Config, DIRECT_VIPS, Daemon, Lab, NAT_VIPS, Service};
use crate::wait;

/// The echo servers' port, and the services': TCP and UDP.
const PORT: u16 = 7;

/// Requests of each kind. By round robin each of the two real servers answers half of them, but for one: each of the two
/// CPUs counts for itself.
const REQUESTS: usize = 8;

/// The kernel's last messages that are shown when something failed.
const LAST_MESSAGES: usize = 40;

/// A way through the director.
struct Way {
    name: &'static str,
    vip: &'static str,
    nat: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "direct v4", vip: DIRECT_VIPS[0], nat: false },
    Way { name: "direct v6", vip: DIRECT_VIPS[1], nat: false },
    Way { name: "nat v4", vip: NAT_VIPS[0], nat: true },
    Way { name: "nat v6", vip: NAT_VIPS[1], nat: true },
];

/// Runs as the machine's first process, to the machine's end.
pub fn main() -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is the first process of a virtual machine; `cargo xtask test vm` boots it"
    );
    tell(KERNEL, uname().release().to_string_lossy());
    if let Err(error) = prepare().and_then(|()| check_all()) {
        tell(FAILED, format!("{error:#}"));
        println!("the kernel's last messages:\n{}", last_messages());
    }
    tell(END, "");
    // A first process that returned would be a panic of the kernel, to the same effect.
    Ok(reboot(RebootCommand::PowerOff)?)
}

fn tell(word: &str, what: impl Display) {
    println!("{MARK}{word} {what}");
}

fn prepare() -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
        mount(kind, place, kind, MountFlags::empty(), None::<&CStr>)
            .with_context(|| format!("cannot mount {place}"))?;
    }
    for name in kernel::MODULES {
        let module = fs::read(format!("{MODULES}/{name}.ko"))?;
        init_module(&module, c"").with_context(|| format!("cannot load the module {name}"))?;
    }
    Ok(())
}

fn check_all() -> Result<()> {
    let lab = Lab::builder().reals(2).build()?;
    let _servers = lab
        .reals()
        .map(|real| Ok((lab.tcp_echo(real.name(), PORT)?, lab.udp_echo(real.name(), PORT)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut daemon = lab.director_from(Path::new(DIRECTOR), config())?;
    tell(HELD, "load");
    let checked = check_director(&lab, &mut daemon);
    if checked.is_err() {
        println!("the director's status:\n{}", daemon.cli_ok(&["status"]).unwrap_or_default());
        println!("its log:\n{}", daemon.log());
    }
    checked
}

fn check_director(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    check_attachment(daemon, false).context("attach")?;
    tell(HELD, "attached native");
    daemon.await_reachable()?;
    for way in &WAYS {
        check_way(lab, way).context(way.name)?;
        tell(HELD, way.name);
    }
    check_probes(lab).context("probes")?;
    tell(HELD, "probes");
    check_restart(lab, daemon).context("restart")?;
    tell(HELD, "restart");
    daemon.cli_ok(&["stop", "--detach"]).context("detach")?;
    // What was pinned goes a little after its pin.
    wait::until("XDP to go", Duration::from_secs(10), || {
        let link = lab.host("director").run(&["ip", "link", "show", "eth0"])?;
        Ok((!link.contains("xdp")).then_some(()))
    })?;
    tell(HELD, "detach");
    Ok(())
}

fn config() -> Config {
    let mut config = Config::new();
    for (number, way) in WAYS.iter().enumerate() {
        let net = if way.vip.contains(':') { "2001:db8::" } else { "192.0.2." };
        for (service, protocol) in
            [(Service::tcp as fn(&str, &str, u16) -> Service, "tcp"), (Service::udp, "udp")]
        {
            let service = service(&format!("{protocol}{number}"), way.vip, PORT);
            let service = service.real(&format!("{net}21"), 1).real(&format!("{net}22"), 1);
            config = config.service(if way.nat { service.nat() } else { service });
        }
    }
    config
}

/// `director status` names one interface, in native mode; whether it took over what ran already shows, too.
fn check_attachment(daemon: &Daemon, replaced: bool) -> Result<()> {
    let status = daemon.status()?;
    let interfaces = status["interfaces"].as_array().context("no interfaces in the status")?;
    let [eth0] = interfaces.as_slice() else { anyhow::bail!("interfaces: {interfaces:?}") };
    let right = eth0["interface"] == "eth0" && eth0["mode"] == "native" && eth0["replaced"] == replaced;
    ensure!(right, "interfaces: {interfaces:?}");
    Ok(())
}

/// TCP connections and UDP questions to a VIP: every one is answered, about half of them by each real server.
fn check_way(lab: &Lab, way: &Way) -> Result<()> {
    let server = SocketAddr::new(way.vip.parse()?, PORT);
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..REQUESTS {
        let session = Session::start(lab.client(), server).with_context(|| format!("TCP {number}"))?;
        let report = session.finish()?;
        report.ensure_unbroken()?;
        *answers.entry(format!("tcp {}", report.real)).or_default() += 1;
        let answer = ask(lab.client(), server, "hello").with_context(|| format!("UDP {number}"))?;
        *answers.entry(format!("udp {answer}")).or_default() += 1;
    }
    let names = ["tcp real1", "tcp real2", "udp real1:hello", "udp real2:hello"];
    let fair = (REQUESTS / 2 - 1)..=(REQUESTS / 2 + 1);
    let even = names.iter().all(|name| answers.get(*name).is_some_and(|count| fair.contains(count)));
    ensure!(even && answers.len() == names.len(), "{answers:?}");
    Ok(())
}

/// Marked sockets reach the VIPs at the real server that they are connected to, by whatever this kernel has for it.
fn check_probes(lab: &Lab) -> Result<()> {
    let director = lab.host("director");
    let vips = DIRECT_VIPS.map(str::parse).into_iter().collect::<Result<BTreeSet<IpAddr>, _>>()?;
    let eth0 = director.run(&["ip", "-o", "link", "show", "eth0"])?;
    let eth0: u32 = eth0.split(':').next().context("no index")?.parse()?;
    let attach = || {
        let mut probes = Probes::open()?;
        probes.set_vips(&vips)?;
        probes.attach(&BTreeSet::from([eth0]))?;
        Ok(probes)
    };
    let probes = director.within(attach)?;
    println!("the probes' programs are attached by {:?}", probes.hook());
    for real in lab.reals() {
        for (vip, mark) in probes.marks() {
            let v4 = vip.is_ipv4();
            let (at, local) = if v4 { (real.v4(), director.v4()) } else { (real.v6(), director.v6()) };
            let (socket, server) = (Marked { mark: *mark, local }, SocketAddr::new(at, PORT));
            let answers = [socket.tcp(director, server)?, socket.udp(director, server)?];
            let expected = format!("{}:{vip}", real.name());
            ensure!(answers.iter().all(|answer| *answer == expected), "{answers:?} instead of {expected}");
        }
    }
    director.within(move || {
        drop(probes);
        Ok(())
    })
}

/// The daemon is killed and started again: connections go on meanwhile, new ones are made, and the new daemon takes
/// the data plane over.
fn check_restart(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    let start = |way: &Way| Session::start(lab.client(), SocketAddr::new(way.vip.parse()?, PORT));
    let sessions = WAYS.iter().map(start).collect::<Result<Vec<_>>>()?;
    daemon.kill9();
    for way in &WAYS {
        check_way(lab, way).with_context(|| format!("{} without a daemon", way.name))?;
    }
    daemon.run()?;
    check_attachment(daemon, true)?;
    daemon.await_reachable()?;
    for way in &WAYS {
        check_way(lab, way).with_context(|| format!("{} afterwards", way.name))?;
    }
    for session in sessions {
        session.finish()?.ensure_unbroken()?;
    }
    Ok(())
}

fn last_messages() -> String {
    let mut messages = Vec::new();
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    if let Ok(mut kmsg) = open {
        let mut record = [0; 8192];
        // Each read gives a message, and an error at their end.
        while let Ok(length @ 1..) = kmsg.read(&mut record) {
            let text = String::from_utf8_lossy(&record[..length]);
            messages.push(text.split_once(';').map_or("", |(_, message)| message).trim_end().to_owned());
        }
    }
    messages[messages.len().saturating_sub(LAST_MESSAGES)..].join("\n")
}
