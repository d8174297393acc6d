//! Probes through the data path: a marked socket of the director's reaches the VIP at the real server that it is connected to,
//! and nobody else's packets change.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use director::dataplane::{Hook, ProbeCounts, Probes};
use tests::clients::{Curl, Marked};
use tests::lab::{DIRECT_VIPS, Host, Lab, TcpEcho, UdpEcho};

use crate::farm::{WAYS, everywhere, url};

/// The echo servers' port.
const PORT: u16 = 7;

/// One address family's ends.
struct Ends {
    vip: IpAddr,
    real: IpAddr,
    /// A socket that goes to the VIP.
    marked: Marked,
    /// One that goes to the real server's own address.
    plain: Marked,
}

impl Ends {
    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.real, port)
    }
}

/// A lab whose director has the programs, with echo servers on all real servers. Detached before the lab goes.
struct Rig {
    probes: Option<Probes>,
    lab: Lab,
    _echoes: Vec<(TcpEcho, UdpEcho)>,
}

impl Rig {
    fn new(hook: Hook) -> Result<Rig> {
        let lab = Lab::builder().reals(2).build()?;
        let echoes = lab
            .reals()
            .map(|real| Ok((lab.tcp_echo(real.name(), PORT)?, lab.udp_echo(real.name(), PORT)?)))
            .collect::<Result<Vec<_>>>()?;
        let probes = attach(&lab, hook)?;
        Ok(Rig { probes: Some(probes), lab, _echoes: echoes })
    }

    fn director(&self) -> &Host {
        self.lab.host("director")
    }

    fn probes(&self) -> &Probes {
        self.probes.as_ref().expect("they are there until the end")
    }

    fn counts(&self) -> Result<ProbeCounts> {
        Ok(self.probes().counts()?)
    }

    /// IPv4's ends and IPv6's, towards a real server.
    fn ends(&self, real: &str) -> Result<[Ends; 2]> {
        let (director, real) = (self.director(), self.lab.host(real));
        let [v4, v6] = DIRECT_VIPS.map(|vip| vip.parse::<IpAddr>());
        let ends = |vip, real, local| {
            let mark = *self.probes().marks().get(&vip).context("no mark")?;
            let socket = |mark| Marked { mark, local };
            Ok::<Ends, anyhow::Error>(Ends { vip, real, marked: socket(mark), plain: socket(0) })
        };
        Ok([ends(v4?, real.v4(), director.v4())?, ends(v6?, real.v6(), director.v6())?])
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let probes = self.probes.take();
        // Filters are named by the index of an interface of the namespace that we are in.
        let _ = self.director().within(|| {
            drop(probes);
            Ok(())
        });
    }
}

/// Attaches to the director's `eth0`.
fn attach(lab: &Lab, hook: Hook) -> Result<Probes> {
    let vips = DIRECT_VIPS.map(str::parse).into_iter().collect::<Result<BTreeSet<IpAddr>, _>>()?;
    let eth0 = index(lab.host("director"), "eth0")?;
    lab.host("director").within(|| {
        let mut probes = Probes::open_with(hook)?;
        probes.set_vips(&vips)?;
        probes.attach(&BTreeSet::from([eth0]))?;
        ensure!(probes.hook() == hook, "attached by {:?}", probes.hook());
        Ok(probes)
    })
}

fn index(host: &Host, interface: &str) -> Result<u32> {
    let line = host.run(&["ip", "-o", "link", "show", interface])?;
    Ok(line.split(':').next().context("no index")?.parse()?)
}

/// How many filters the director's `eth0` has.
fn filters(lab: &Lab) -> Result<usize> {
    let show = |side: &str| lab.host("director").run(&["tc", "filter", "show", "dev", "eth0", side]);
    Ok((show("ingress")? + &show("egress")?).matches("direct-action").count())
}

fn take_vip(real: &Host, vip: IpAddr) -> Result<()> {
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    real.run(&["ip", "address", "del", &format!("{vip}/{prefix}"), "dev", "lo"]).map(drop)
}

fn reaches_the_vip(hook: Hook) -> Result<()> {
    let rig = Rig::new(hook)?;
    everyone_answers(&rig).context("checksums left to the interface")?;
    // A veth interface looks at no checksum. So now the kernel makes and checks them.
    for host in rig.lab.reals().chain([rig.director()]) {
        host.run(&["ethtool", "-K", "eth0", "tx", "off"])?;
    }
    everyone_answers(&rig).context("checksums made by the kernel")?;
    ensure!(rig.counts()?.refused == 0, "{:?}", rig.counts()?);
    Ok(())
}

fn everyone_answers(rig: &Rig) -> Result<()> {
    let director = rig.director();
    for real in ["real1", "real2"] {
        for ends in rig.ends(real)? {
            let at = |address: IpAddr| format!("{real}:{address}");
            ensure!(ends.marked.tcp(director, ends.at(PORT))? == at(ends.vip), "TCP to {}", ends.vip);
            ensure!(ends.marked.udp(director, ends.at(PORT))? == at(ends.vip), "UDP to {}", ends.vip);
            ends.marked.ping(director, ends.real)?;
            ensure!(ends.plain.tcp(director, ends.at(PORT))? == at(ends.real), "unmarked TCP");
            ensure!(ends.plain.udp(director, ends.at(PORT))? == at(ends.real), "unmarked UDP");
        }
    }
    Ok(())
}

#[test]
fn a_marked_socket_reaches_the_vip_at_its_real_server() -> Result<()> {
    reaches_the_vip(Hook::Link)
}

#[test]
fn a_marked_socket_reaches_the_vip_by_filters_too() -> Result<()> {
    reaches_the_vip(Hook::Filter)
}

#[test]
fn an_echo_goes_to_the_vip_and_back() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    for ends in rig.ends("real1")?.iter().chain(&rig.ends("real2")?) {
        ends.marked.ping(rig.director(), ends.real)?;
        ends.plain.ping(rig.director(), ends.real)?;
    }
    let counts = rig.counts()?;
    ensure!(counts == ProbeCounts { sent: 4, answered: 4, ..ProbeCounts::default() }, "{counts:?}");
    Ok(())
}

#[test]
fn much_data_passes_whole() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    // More than a segment, so that the kernel leaves the cutting to the interface.
    let line = "0123456789abcdef".repeat(16_384);
    for ends in rig.ends("real1")? {
        let answer = ends.marked.tcp_line(rig.director(), ends.at(PORT), &line)?;
        ensure!(answer == format!("real1:{line}"), "{}: {} bytes", ends.vip, answer.len());
    }
    Ok(())
}

#[test]
fn probes_at_once_are_told_apart() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    let reals = [("real1", rig.ends("real1")?), ("real2", rig.ends("real2")?)];
    let ask = |number: usize| -> Result<()> {
        let (real, ends) = &reals[number % 2];
        let ends = &ends[number / 2 % 2];
        let answers = [
            ends.marked.tcp(rig.director(), ends.at(PORT))?,
            ends.marked.udp(rig.director(), ends.at(PORT))?,
        ];
        let expected = format!("{real}:{}", ends.vip);
        ensure!(answers.iter().all(|answer| *answer == expected), "{answers:?} instead of {expected}");
        Ok(())
    };
    let ask = &ask;
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..200).map(|number| scope.spawn(move || ask(number))).collect();
        asking.into_iter().try_for_each(|one| one.join().expect("no panic"))
    })
}

#[test]
fn a_missing_vip_is_found_out() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    let director = rig.director();
    for ends in rig.ends("real1")? {
        take_vip(rig.lab.host("real1"), ends.vip)?;
        let vip = ends.vip;
        ensure!(ends.marked.tcp(director, ends.at(PORT)).is_err(), "TCP to {vip}, which is not there");
        ensure!(ends.marked.udp(director, ends.at(PORT)).is_err(), "UDP to {vip}, which is not there");
        ensure!(ends.marked.ping(director, ends.real).is_err(), "an echo from {vip}, which is not there");
        ensure!(ends.plain.tcp(director, ends.at(PORT))? == format!("real1:{}", ends.real), "unmarked TCP");
        ensure!(ends.plain.udp(director, ends.at(PORT))? == format!("real1:{}", ends.real), "unmarked UDP");
        ends.plain.ping(director, ends.real)?;
    }
    for ends in rig.ends("real2")? {
        ensure!(ends.marked.tcp(director, ends.at(PORT))? == format!("real2:{}", ends.vip), "real2");
    }
    Ok(())
}

#[test]
fn a_closed_port_is_an_error_at_once() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    for ends in rig.ends("real1")? {
        for answer in
            [ends.marked.tcp(rig.director(), ends.at(9)), ends.marked.udp(rig.director(), ends.at(9))]
        {
            let error = format!("{:#}", answer.err().context("nobody listens there")?);
            ensure!(error.contains("refused"), "{}: {error}", ends.vip);
        }
    }
    ensure!(rig.counts()?.errors == 2, "two ICMP errors: {:?}", rig.counts()?);
    Ok(())
}

/// A real server without the VIP that forwards packets sends a probe back to the director, which would balance it to another.
#[test]
fn another_real_server_never_answers_a_probe() -> Result<()> {
    let rig = Rig::new(Hook::Link)?;
    let _nginx = rig.lab.nginx_everywhere()?;
    let _daemon = rig.lab.director(everywhere_of_two())?;
    let real = rig.lab.host("real1");
    real.sysctl("net/ipv4/ip_forward", "1")?;
    real.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    for ends in rig.ends("real1")? {
        ensure!(fetches(&rig, &ends), "{}: nginx answers", ends.vip);
        take_vip(real, ends.vip)?;
        // By round robin, another real server would have one of these.
        for _ in 0..4 {
            ensure!(!fetches(&rig, &ends), "{}: someone answered", ends.vip);
        }
    }
    Ok(())
}

fn fetches(rig: &Rig, ends: &Ends) -> bool {
    ends.marked.tcp_line(rig.director(), ends.at(80), "GET / HTTP/1.0\r\n\r").is_ok()
}

fn everywhere_of_two() -> tests::lab::Config {
    WAYS.into_iter().filter(|(_, _, nat)| !nat).fold(tests::lab::Config::new(), |config, (name, vip, nat)| {
        config.service(crate::farm::web(name, vip, nat, &[1, 1]))
    })
}

#[test]
fn clients_and_unmarked_sockets_are_left_alone() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _daemon = lab.director(everywhere())?;
    let rig = Rig { probes: Some(attach(&lab, Hook::Link)?), lab, _echoes: Vec::new() };
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 30).run(rig.lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{name}: {answers}");
    }
    for real in rig.lab.reals() {
        for address in [real.v4(), real.v6()] {
            let answers = Curl::new(&url(&address.to_string(), 80), 2).run(rig.director())?;
            ensure!(answers.of(real.name()) == 2, "{address}: {answers}");
        }
    }
    ensure!(rig.counts()? == ProbeCounts::default(), "{:?}", rig.counts()?);
    // With the daemon's program at work, the answers reach the socket.
    for ends in rig.ends("real3")? {
        let answer = ends.marked.tcp_line(rig.director(), ends.at(80), "GET / HTTP/1.0\r\n\r")?;
        ensure!(answer.contains("200"), "{}: {answer}", ends.vip);
    }
    Ok(())
}

#[test]
fn an_unknown_mark_reaches_nobody() -> Result<()> {
    let mut rig = Rig::new(Hook::Link)?;
    let [v4, v6] = rig.ends("real1")?;
    let before: Vec<u32> = rig.probes().marks().values().copied().collect();
    rig.probes.as_mut().context("probes")?.set_vips(&BTreeSet::from([v6.vip, "192.0.2.99".parse()?]))?;
    let marks = rig.probes().marks().clone();
    ensure!(marks.len() == 2 && marks[&v6.vip] == v6.marked.mark, "VIPs keep their marks: {marks:?}");
    ensure!(marks.values().filter(|mark| before.contains(mark)).count() == 1, "a mark was used again");
    ensure!(v4.marked.tcp(rig.director(), v4.at(PORT)).is_err(), "a VIP that is not probed any more");
    // A mark of the other family.
    ensure!(
        Marked { mark: v6.marked.mark, ..v4.plain }.tcp(rig.director(), v4.at(PORT)).is_err(),
        "IPv6's mark"
    );
    ensure!(rig.counts()?.refused >= 2 && rig.counts()?.sent == 0, "{:?}", rig.counts()?);
    ensure!(v6.marked.tcp(rig.director(), v6.at(PORT))?.starts_with("real1:"), "the other VIP goes on");
    Ok(())
}

#[test]
fn nothing_stays_attached() -> Result<()> {
    for hook in [Hook::Link, Hook::Filter] {
        let mut rig = Rig::new(hook)?;
        let eth0 = index(rig.director(), "eth0")?;
        let [v4, _] = rig.ends("real1")?;
        let mut probes = rig.probes.take().context("probes")?;
        // Again and again, as a daemon looks after it.
        rig.director().within(|| (0..3).try_for_each(|_| Ok(probes.attach(&BTreeSet::from([eth0]))?)))?;
        ensure!(v4.marked.tcp(rig.director(), v4.at(PORT))? == format!("real1:{}", v4.vip), "{hook:?}");
        let expected = if hook == Hook::Filter { 2 } else { 0 };
        ensure!(filters(&rig.lab)? == expected, "{hook:?}: {} filters", filters(&rig.lab)?);
        match hook {
            Hook::Link => drop(probes),
            // Killed: its filters stay.
            Hook::Filter => std::mem::forget(probes),
        }
        ensure!(filters(&rig.lab)? == expected, "{hook:?}: {} filters left", filters(&rig.lab)?);
        let mut probes = attach(&rig.lab, hook)?;
        ensure!(filters(&rig.lab)? == expected, "{hook:?}: {} filters, anew", filters(&rig.lab)?);
        ensure!(v4.marked.tcp(rig.director(), v4.at(PORT))? == format!("real1:{}", v4.vip), "{hook:?}, anew");
        rig.director().within(|| Ok(probes.attach(&BTreeSet::new())?))?;
        ensure!(filters(&rig.lab)? == 0, "{hook:?}: {} filters at the end", filters(&rig.lab)?);
        ensure!(v4.marked.tcp(rig.director(), v4.at(PORT))? == format!("real1:{}", v4.real), "{hook:?}, off");
        rig.probes = Some(probes);
    }
    Ok(())
}
