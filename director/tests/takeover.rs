//! Taking and releasing VIPs in network namespaces, seen by a real client's kernel and on its wire. Root only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use director::heartbeat::message::Neighbour;
use director::model::Vip;
use director::model::heartbeat::{Announce, Failback, Group, Means};
use director::takeover::{self, Inputs, Report, Setup, Takeover, Want, Wanted};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

const CLIENT_MAC: &str = "02:00:00:00:02:01";
const DIRECTOR_MACS: [&str; 2] = ["02:00:00:00:02:0a", "02:00:00:00:02:0b"];
const OLD_MAC: &str = "02:00:00:00:02:99";
const VIRTUAL_MAC: &str = "00:00:5e:00:01:07";

/// How long anything may take; less than passes between two checks of everything, which would hide that a
/// notification was missed.
const DEADLINE: Duration = Duration::from_secs(4);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(text: &str) -> [u8; 6] {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until something is so; returns how long that took.
fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// A network namespace that goes when this does.
struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nb{}-{count}-{role}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.sysctl("net.ipv6.conf.default.accept_dad=0");
        namespace
    }

    fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    fn sysctl(&self, setting: &str) {
        run(&format!("ip netns exec {} sysctl -qw {setting}", self.0));
    }

    fn has(&self, address: &str) -> bool {
        self.ip("-br address").split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    fn pings(&self, address: &str) {
        run(&format!("ip netns exec {} ping -n -c 1 -W 2 {address}", self.0));
    }

    /// The MAC that this one's kernel knows of an address.
    fn knows(&self, address: &str) -> Option<[u8; 6]> {
        let entry = self.ip(&format!("neighbour show to {address}"));
        let mut words = entry.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(mac)
    }

    /// Does something on a thread inside.
    fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let enter = self.entrance();
        let thread = std::thread::spawn(move || {
            enter().expect("entering the namespace");
            what()
        });
        thread.join().expect("no panic")
    }

    fn entrance(&self) -> impl FnOnce() -> anyhow::Result<()> + Send + 'static {
        let path = format!("/run/netns/{}", self.0);
        move || {
            let namespace = File::open(path)?;
            Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A client (c0; 10.9.0.1/24, fd09::1/64) and two directors (d0; .2 and .3) on a switch.
struct Lab {
    client: Namespace,
    directors: [Namespace; 2],
    switch: Namespace,
}

impl Lab {
    fn new() -> Self {
        let directors = [Namespace::new("a"), Namespace::new("b")];
        let lab = Self { client: Namespace::new("c"), directors, switch: Namespace::new("s") };
        lab.switch.ip("link add name br0 up type bridge mcast_snooping 0");
        lab.plug(&lab.client, "c0", CLIENT_MAC, 1);
        lab.plug(&lab.directors[0], "d0", DIRECTOR_MACS[0], 2);
        lab.plug(&lab.directors[1], "d0", DIRECTOR_MACS[1], 3);
        lab
    }

    fn plug(&self, namespace: &Namespace, device: &str, mac: &str, host: u8) {
        let (switch, name) = (&self.switch, &namespace.0);
        run(&format!(
            "ip link add {device} address {mac} netns {name} type veth peer name p{host} netns {}",
            switch.0
        ));
        switch.ip(&format!("link set p{host} master br0 up"));
        namespace.ip(&format!("link set {device} up"));
        namespace.ip(&format!("address add 10.9.0.{host}/24 dev {device}"));
        namespace.ip(&format!("address add fd09::{host}/64 dev {device} nodad"));
        until("carrier", || namespace.ip(&format!("link show {device}")).contains("state UP"));
    }

    fn director(&self, setup: Setup) -> Director {
        Director::start(&self.directors[0], setup)
    }

    /// Gives the client an old entry for an address.
    fn mislead(&self, address: &str) {
        self.client.ip(&format!("neighbour replace {address} lladdr {OLD_MAC} dev c0 nud stale"));
    }

    fn client_follows(&self, address: &str, to: &str) {
        let took = until(&format!("the client's entry for {address}"), || {
            self.client.knows(address) == Some(mac(to))
        });
        println!("the client knows that {address} is at {to} after {took:?}");
    }

    /// What arrives at the client's interface.
    fn capture(&self) -> Socket {
        let socket = self.client.inside(|| {
            let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(all)).expect("a packet socket")
        });
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        socket
    }
}

/// Waits for so many announcements of an address to a MAC on the client's wire; when each came.
fn announcements(mut wire: &Socket, address: &str, to: &str, count: usize) -> Vec<Instant> {
    let (address, to, start) = (ip(address), mac(to), Instant::now());
    let (mut times, mut frame) = (Vec::new(), [0; 256]);
    while times.len() < count {
        assert!(start.elapsed() < DEADLINE, "{} of {count} announcements of {address}", times.len());
        let Ok(length) = wire.read(&mut frame) else { continue };
        if frame[..6] == to && announced(&frame[..length]) == Some(address) {
            times.push(Instant::now());
        }
    }
    times
}

/// The address that a frame announces.
fn announced(frame: &[u8]) -> Option<IpAddr> {
    let body = frame.get(14..)?;
    match frame[12..14] {
        [0x08, 0x06] if body.len() >= 28 && body[6..8] == [0, 1] && body[14..18] == body[24..28] => {
            Some(IpAddr::from(<[u8; 4]>::try_from(&body[14..18]).ok()?))
        }
        // An advertisement that answers nothing, and overrides.
        [0x86, 0xdd] if body.len() >= 72 && body[6] == 58 && body[40] == 136 && body[44] & 0x60 == 0x20 => {
            Some(IpAddr::from(<[u8; 16]>::try_from(&body[48..64]).ok()?))
        }
        _ => None,
    }
}

/// The thread under test, in a director's namespace.
struct Director {
    wanted: watch::Sender<Arc<Wanted>>,
    setups: watch::Sender<Arc<Setup>>,
    shared: watch::Sender<Arc<Vec<Neighbour>>>,
    takeover: Takeover,
}

impl Director {
    fn start(namespace: &Namespace, setup: Setup) -> Self {
        let nothing = Wanted { groups: BTreeMap::new(), told: Instant::now() };
        let (wanted, wanted_receiver) = watch::channel(Arc::new(nothing));
        let (setups, setups_receiver) = watch::channel(Arc::new(setup));
        let (shared, shared_receiver) = watch::channel(Arc::default());
        let inputs = Inputs {
            may: Arc::new(|_| true),
            wanted: wanted_receiver,
            setups: setups_receiver,
            shared: shared_receiver,
        };
        let takeover = takeover::start(inputs, namespace.entrance()).expect("it starts");
        Self { wanted, setups, shared, takeover }
    }

    /// Wants these groups held, and no others.
    fn want(&self, groups: &[&str], announce: u64) {
        let want = Want { active: true, announce };
        let groups = groups.iter().map(|group| ((*group).to_owned(), want)).collect();
        self.wanted.send_replace(Arc::new(Wanted { groups, told: Instant::now() }));
    }

    fn report(&self) -> Arc<Report> {
        Arc::clone(&self.takeover.reports.borrow())
    }

    /// Wants a group held, and waits until it is; returns how long it took by its own measure.
    fn take(&self, group: &str) -> Duration {
        let taken = |report: &Report| report.groups.get(group).and_then(|group| group.taken);
        let before = taken(&self.report());
        self.want(&[group], 0);
        until("taken", || taken(&self.report()) != before);
        let report = &self.report().groups[group];
        assert!(report.active && report.missing.is_empty() && report.problems.is_empty(), "{report:?}");
        report.taken.expect("it was taken").took
    }
}

fn vip(address: &str, prefix: u8) -> Vip {
    Vip { address: ip(address), prefix, interface: "d0".to_owned() }
}

fn group(name: &str, vips: Vec<Vip>) -> Group {
    Group {
        name: name.to_owned(),
        vips,
        prefer: Vec::new(),
        failback: Failback::Never,
        takeover: Means::Address,
        virtual_mac: None,
        resources: Vec::new(),
    }
}

fn setup(groups: Vec<Group>) -> Setup {
    let spacing = Duration::from_millis(100);
    let announce = Announce { burst: 2, spacing, refresh: None, neighbours: Vec::new(), share: None };
    Setup { groups, announce }
}

/// One group with a VIP of each family.
fn pair() -> Setup {
    setup(vec![group("g", vec![vip("10.9.0.100", 24), vip("fd09::100", 64)])])
}

const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
const ALL_NODES: &str = "33:33:00:00:00:01";

#[test]
fn a_client_follows_what_is_taken_and_released_of_both_families() {
    let lab = Lab::new();
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    let director = lab.director(pair());
    println!("two VIPs taken in {:?}", director.take("g"));
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
    lab.client.pings("10.9.0.100");
    lab.client.pings("fd09::100");
    let addresses = lab.directors[0].ip("address show dev d0");
    assert!(addresses.contains("inet 10.9.0.100/24"), "{addresses}");
    assert!(addresses.contains("inet6 fd09::100/64 scope global nodad deprecated"), "{addresses}");
    director.want(&[], 0);
    until("released", || !lab.directors[0].has("10.9.0.100") && !lab.directors[0].has("fd09::100"));
    until("reported", || director.report().groups["g"].present.is_empty());
    let other = Director::start(&lab.directors[1], pair());
    other.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[1]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[1]);
    other.takeover.release().expect("released");
    assert!(!lab.directors[1].has("10.9.0.100") && lab.directors[1].has("10.9.0.3"));
}

#[test]
fn one_vip_and_two_hundred_are_taken_and_released() {
    let lab = Lab::new();
    let many = (0..100).flat_map(|n| [vip(&format!("10.9.1.{n}"), 32), vip(&format!("fd09::1:{n}"), 64)]);
    let groups = vec![group("one", vec![vip("10.9.0.100", 24)]), group("many", many.collect())];
    let director = lab.director(setup(groups));
    for _ in 0..3 {
        println!("one VIP taken in {:?}", director.take("one"));
        director.want(&[], 0);
        until("released", || !lab.directors[0].has("10.9.0.100"));
    }
    println!("200 VIPs taken in {:?}", director.take("many"));
    let start = Instant::now();
    director.want(&[], 0);
    until("released", || director.report().groups["many"].present.is_empty());
    println!("200 VIPs released in {:?}", start.elapsed());
    assert!(!lab.directors[0].has("10.9.1.99") && !lab.directors[0].has("fd09::1:99"));
}

#[test]
fn announcements_come_in_a_burst_then_as_a_refresh_and_anew_when_asked() {
    let lab = Lab::new();
    let mut setup = pair();
    (setup.announce.burst, setup.announce.refresh) = (3, Some(Duration::from_millis(800)));
    let director = lab.director(setup);
    for (address, to) in [("10.9.0.100", BROADCAST), ("fd09::100", ALL_NODES)] {
        let capture = lab.capture();
        director.want(&["g"], 0);
        let times = announcements(&capture, address, to, 5);
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        println!("{address}: {gaps:?}");
        // A busy machine only adds to them, or moves some towards the next.
        let spacings = (times[2] - times[0], times[4] - times[2]);
        assert!(spacings.0 >= Duration::from_millis(180), "{gaps:?}");
        assert!(spacings.0 < Duration::from_millis(700), "not the refresh: {gaps:?}");
        assert!(spacings.1 >= Duration::from_millis(1500), "{gaps:?}");
        director.want(&["g"], 1);
        let times = announcements(&capture, address, to, 3);
        assert!(times[2] - times[0] < Duration::from_millis(700), "from the beginning: {times:?}");
        director.want(&[], 0);
        until("released", || !lab.directors[0].has(address));
    }
}

#[test]
fn named_and_shared_neighbours_are_told_where_broadcasts_do_not_reach() {
    let lab = Lab::new();
    let mut named = pair();
    named.announce.neighbours = vec![ip("10.9.0.1"), ip("fd09::1")];
    named.announce.share = Some(Duration::from_millis(100));
    let director = lab.director(named);
    // It looks them up by itself, and tells of them.
    for address in ["10.9.0.1", "fd09::1"] {
        let client = Neighbour { address: ip(address), mac: mac(CLIENT_MAC) };
        let took = until("told", || director.takeover.neighbours.borrow().contains(&client));
        println!("{address} is known after {took:?}");
    }
    lab.switch.ip("link set dev p1 type bridge_slave bcast_flood off mcast_flood off");
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    director.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
    director.takeover.release().expect("released");

    // Another one has never heard of the client.
    let other = Director::start(&lab.directors[1], pair());
    let known =
        ["10.9.0.1", "fd09::1"].map(|address| Neighbour { address: ip(address), mac: mac(CLIENT_MAC) });
    other.shared.send_replace(Arc::new(known.to_vec()));
    other.take("g");
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[1]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[1]);
}

#[test]
fn what_others_change_is_put_right_and_announced() {
    let lab = Lab::new();
    let groups = vec![pair().groups.remove(0), group("standby", vec![vip("10.9.0.200", 24)])];
    let (director, namespace) = (lab.director(setup(groups)), &lab.directors[0]);
    director.take("g");
    for (address, prefix) in [("10.9.0.100", 24), ("fd09::100", 64)] {
        lab.mislead(address);
        namespace.ip(&format!("address del {address}/{prefix} dev d0"));
        println!("{address} is back after {:?}", until("back", || namespace.has(address)));
        lab.client_follows(address, DIRECTOR_MACS[0]);
    }
    namespace.ip("address add 10.9.0.200/32 dev d0");
    println!("a foreign VIP is gone after {:?}", until("gone", || !namespace.has("10.9.0.200")));

    until("the link is up", || director.takeover.links.borrow().get("d0") == Some(&true));
    namespace.ip("link set d0 down");
    until("the link is down", || director.takeover.links.borrow().get("d0") == Some(&false));
    until("IPv6 is missing", || {
        director.report().groups["g"]
            .missing
            .iter()
            .any(|(vip, reason)| vip.address.is_ipv6() && reason.contains("is down"))
    });
    lab.mislead("10.9.0.100");
    lab.mislead("fd09::100");
    namespace.ip("link set d0 up");
    println!("IPv6 is back after {:?}", until("back", || namespace.has("fd09::100")));
    lab.client_follows("10.9.0.100", DIRECTOR_MACS[0]);
    lab.client_follows("fd09::100", DIRECTOR_MACS[0]);
}

#[test]
fn what_a_crash_has_left_is_removed() {
    let lab = Lab::new();
    let namespace = &lab.directors[0];
    let leave = || {
        namespace.ip("address add 10.9.0.100/32 dev d0");
        namespace.ip("address add fd09::100/64 dev d0 nodad");
        namespace.ip("link add dv-0123abcd link d0 type macvlan mode private");
    };
    let clean = || !namespace.has("10.9.0.100") && !namespace.has("fd09::100");
    leave();
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(takeover::clear(&pair().groups[0].vips)).expect("cleared");
    });
    assert!(clean() && !namespace.ip("link").contains("dv-0123abcd") && namespace.has("10.9.0.2"));
    leave();
    let director = lab.director(pair());
    until("removed", || clean() && !namespace.ip("link").contains("dv-0123abcd"));
    // What is left on purpose stays.
    director.take("g");
    director.takeover.leave().expect("it ends");
    assert!(namespace.has("10.9.0.100") && namespace.has("fd09::100"));
    // A reload forgets a VIP.
    let director = lab.director(setup(vec![group("g", vec![vip("fd09::100", 64), vip("10.9.0.101", 24)])]));
    director.take("g");
    director.setups.send_replace(Arc::new(setup(vec![group("g", vec![vip("fd09::100", 64)])])));
    until("forgotten", || !namespace.has("10.9.0.101"));
    assert!(namespace.has("fd09::100"));
}

#[test]
fn vips_of_one_network_leave_each_other_and_foreign_addresses_alone() {
    for order in [["x", "y"], ["y", "x"]] {
        let lab = Lab::new();
        let namespace = &lab.directors[0];
        namespace.sysctl("net.ipv4.conf.all.promote_secondaries=0");
        namespace.sysctl("net.ipv4.conf.d0.promote_secondaries=0");
        let groups = vec![group("x", vec![vip("10.8.0.10", 24)]), group("y", vec![vip("10.8.0.20", 24)])];
        let director = lab.director(setup(groups));
        director.take("x");
        director.want(&["x", "y"], 0);
        until("both", || namespace.has("10.8.0.10") && namespace.has("10.8.0.20"));
        namespace.ip("address add 10.8.0.77/24 dev d0");
        let [first, second] = order;
        let (gone, stays) = if first == "x" { (10, 20) } else { (20, 10) };
        director.want(&[second], 0);
        until("one released", || !namespace.has(&format!("10.8.0.{gone}")));
        assert!(namespace.has(&format!("10.8.0.{stays}")), "it was never away");
        director.want(&[], 0);
        until("the other released", || !namespace.has(&format!("10.8.0.{stays}")));
        assert!(namespace.has("10.8.0.77") && namespace.has("10.9.0.2"));
    }
}

#[test]
fn a_virtual_mac_moves_and_the_client_never_has_to_learn() {
    let lab = Lab::new();
    let mut setup = pair();
    setup.groups[0].virtual_mac = Some(mac(VIRTUAL_MAC));
    let addresses = ["10.9.0.100", "fd09::100"];
    let one = Director::start(&lab.directors[0], setup.clone());
    let two = Director::start(&lab.directors[1], setup.clone());
    println!("with a virtual MAC taken in {:?}", one.take("g"));
    for address in addresses {
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
    }
    let macvlan = |namespace: &Namespace| namespace.ip("link").contains("dv-");
    one.want(&[], 0);
    until("released", || !macvlan(&lab.directors[0]));
    println!("with a virtual MAC taken over in {:?}", two.take("g"));
    for address in addresses {
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        lab.client.ip(&format!("neighbour del {address} dev c0"));
        lab.client.pings(address);
        assert_eq!(lab.client.knows(address), Some(mac(VIRTUAL_MAC)));
        assert!(lab.directors[1].has(address) && !lab.directors[0].has(address));
    }
    // Someone deletes it.
    let link = lab.directors[1].ip("-br link");
    let name = link.lines().find_map(|line| line.starts_with("dv-").then(|| line[..11].to_owned()));
    lab.directors[1].ip(&format!("link del {}", name.expect("a macvlan")));
    until("back", || addresses.iter().all(|address| lab.directors[1].has(address)));
    lab.client.pings("10.9.0.100");
    two.takeover.release().expect("released");
    assert!(!macvlan(&lab.directors[1]));
}
