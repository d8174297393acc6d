//! Next hops in network namespaces, with the kernel's routes and neighbours on one side and real answers on
//! the other. Root only.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use director::neighbours;
use director::pool::{NextHop, NextHops};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::watch;

const ROUTER_MAC: &str = "02:00:00:00:01:01";
const DIRECTOR_MAC: &str = "02:00:00:00:01:02";
const MOVED_MAC: &str = "02:00:00:00:01:03";

/// Index of the director's interface.
const IFINDEX: u32 = 42;

/// What a machine as busy as one that runs all tests may add to any time.
const SLACK: Duration = Duration::from_secs(2);

/// How long anything may take; less than passes until the kernel is asked for everything again, which would
/// hide that a notification was missed.
const DEADLINE: Duration = Duration::from_secs(8);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(text: &str) -> [u8; 6] {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
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
        Self(name)
    }

    /// Runs an `ip` command inside.
    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.0));
    }

    fn sysctl(&self, setting: &str) {
        run(&format!("ip netns exec {} sysctl -qw {setting}", self.0));
    }

    /// Runs many `ip` commands at once.
    fn batch(&self, commands: &str) {
        let mut ip = Command::new("ip")
            .args(["-n", &self.0, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip starts");
        ip.stdin.take().expect("its input").write_all(commands.as_bytes()).expect("it reads");
        assert!(ip.wait().expect("it ends").success());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Even while panicking: nothing to be done about a failure.
        _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `neighbours::run` in a namespace, on a thread of its own.
struct Resolver {
    wanted: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    known: watch::Receiver<Arc<NextHops>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Resolver {
    fn start(namespace: &Namespace, wanted: BTreeSet<IpAddr>, avoid: BTreeSet<IpAddr>) -> Self {
        let (wanted, wanted_receiver) = watch::channel(Arc::new(wanted));
        let (known_sender, known) = watch::channel(Arc::new(NextHops::new()));
        let path = format!("/run/netns/{}", namespace.0);
        let thread = std::thread::spawn(move || {
            let namespace = File::open(path)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (_avoid_sender, avoid) = watch::channel(Arc::new(avoid));
            // Spawned, as a daemon does.
            runtime.block_on(async {
                tokio::spawn(neighbours::run(wanted_receiver, avoid, known_sender)).await?
            })
        });
        Self { wanted, known, thread: Some(thread) }
    }

    /// Waits until what is known is as asked; returns how long that took.
    fn until(&mut self, what: &str, is: impl Fn(&NextHops) -> bool) -> Duration {
        let start = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let known = runtime.block_on(async {
            let waiting = self.known.wait_for(|known| is(known));
            tokio::time::timeout(DEADLINE, waiting).await.map(|known| known.is_ok())
        });
        assert_eq!(known, Ok(true), "{what}: known are {:?}", self.known.borrow());
        start.elapsed()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // Without a sender, it ends.
        self.wanted = watch::channel(Arc::default()).0;
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("one thread").expect("no panic").expect("no error");
        }
    }
}

/// A director and a router with a network behind it:
///
/// ```text
/// director d0 ── r0 router
/// 10.9.0.1/24      10.9.0.2/24, 10.9.0.3     192.0.2.0/24, 2001:db8:9::/64 behind it
/// fd09::1/64       fd09::2/64
/// ```
struct Lab {
    director: Namespace,
    router: Namespace,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { director: Namespace::new("d"), router: Namespace::new("r") };
        run(&format!(
            "ip link add d0 index {IFINDEX} address {DIRECTOR_MAC} netns {} type veth \
             peer name r0 address {ROUTER_MAC} netns {}",
            lab.director.0, lab.router.0
        ));
        for (namespace, device) in [(&lab.director, "d0"), (&lab.router, "r0")] {
            namespace.sysctl("net.ipv6.conf.default.accept_dad=0");
            namespace.sysctl(&format!("net.ipv6.conf.{device}.accept_dad=0"));
            namespace.ip(&format!("link set {device} up"));
        }
        lab.director.ip("address add 10.9.0.1/24 dev d0");
        lab.director.ip("address add fd09::1/64 dev d0 nodad");
        lab.router.ip("address add 10.9.0.2/24 dev r0");
        lab.router.ip("address add 10.9.0.3/24 dev r0");
        lab.router.ip("address add fd09::2/64 dev r0 nodad");
        lab.director.ip("route add 192.0.2.0/24 via 10.9.0.2");
        lab.director.ip("route add 2001:db8:9::/64 via fd09::2");
        lab
    }

    fn resolver(&self, wanted: &[&str]) -> Resolver {
        Resolver::start(&self.director, wanted.iter().map(|text| ip(text)).collect(), BTreeSet::new())
    }

    fn move_router(&self) {
        self.router.ip(&format!("link set dev r0 address {MOVED_MAC}"));
    }
}

fn is_at(known: &NextHops, address: &str, at: &str) -> bool {
    known.get(&ip(address)).is_some_and(|hop: &NextHop| hop.mac == mac(at))
}

#[test]
fn neighbours_and_gateways_are_resolved_for_both_families() {
    let lab = Lab::new();
    let wanted = ["10.9.0.2", "fd09::2", "192.0.2.7", "2001:db8:9::7"];
    let mut resolver = lab.resolver(&wanted);
    let took = resolver.until("resolved", |known| known.len() == wanted.len());
    println!("resolved in {took:?}");
    for (address, hop) in resolver.known.borrow().iter() {
        let expected = NextHop { mac: mac(ROUTER_MAC), source_mac: mac(DIRECTOR_MAC), ifindex: IFINDEX };
        assert_eq!(*hop, expected, "{address}");
    }
    resolver.wanted.send_replace(Arc::new(BTreeSet::from([ip("10.9.0.3")])));
    resolver.until("the new one only", |known| known.len() == 1 && is_at(known, "10.9.0.3", ROUTER_MAC));
}

#[test]
fn a_mac_that_changes_silently_is_followed() {
    let lab = Lab::new();
    let wanted = ["10.9.0.2", "fd09::2", "192.0.2.7"];
    let mut resolver = lab.resolver(&wanted);
    resolver.until("resolved", |known| wanted.iter().all(|address| is_at(known, address, ROUTER_MAC)));
    lab.move_router();
    let took = resolver.until("moved", |known| wanted.iter().all(|address| is_at(known, address, MOVED_MAC)));
    println!("followed in {took:?}");
    assert!(took < Duration::from_secs(1) + SLACK, "followed in {took:?}");
    // Back, and our own too.
    lab.router.ip(&format!("link set dev r0 address {ROUTER_MAC}"));
    resolver.until("moved back", |known| wanted.iter().all(|address| is_at(known, address, ROUTER_MAC)));
    lab.director.ip("link set dev d0 address 02:00:00:00:01:04");
    let ours = mac("02:00:00:00:01:04");
    resolver.until("our own MAC", |known| known.values().all(|hop| hop.source_mac == ours));
}

#[test]
fn a_mac_that_is_announced_is_followed() {
    let lab = Lab::new();
    lab.router.sysctl("net.ipv4.conf.r0.arp_notify=1");
    lab.router.sysctl("net.ipv6.conf.r0.ndisc_notify=1");
    let wanted = ["10.9.0.2", "fd09::2"];
    let mut resolver = lab.resolver(&wanted);
    resolver.until("resolved", |known| wanted.iter().all(|address| is_at(known, address, ROUTER_MAC)));
    lab.move_router();
    let took = resolver.until("moved", |known| wanted.iter().all(|address| is_at(known, address, MOVED_MAC)));
    println!("followed in {took:?}");
    assert!(took < Duration::from_secs(1) + SLACK, "followed in {took:?}");
}

#[test]
fn a_next_hop_vanishes_with_its_route_and_its_link_and_returns() {
    let lab = Lab::new();
    let mut resolver = lab.resolver(&["10.9.0.2", "192.0.2.7", "2001:db8:9::7"]);
    resolver.until("resolved", |known| known.len() == 3);
    for (gone, back, address) in [
        ("route del 192.0.2.0/24", "route add 192.0.2.0/24 via 10.9.0.2", "192.0.2.7"),
        ("route del 2001:db8:9::/64", "route add 2001:db8:9::/64 via fd09::2", "2001:db8:9::7"),
    ] {
        lab.director.ip(gone);
        let took = resolver.until("gone", |known| known.len() == 2 && !known.contains_key(&ip(address)));
        println!("{address} gone in {took:?}");
        lab.director.ip(back);
        let took = resolver.until("back", |known| is_at(known, address, ROUTER_MAC));
        println!("{address} back in {took:?}");
    }
    lab.router.ip("link set r0 down");
    resolver.until("no carrier", NextHops::is_empty);
    lab.router.ip("link set r0 up");
    resolver.until("carrier", |known| is_at(known, "10.9.0.2", ROUTER_MAC));
    lab.director.ip("link set d0 down");
    resolver.until("down", NextHops::is_empty);
    lab.director.ip("link set d0 up");
    resolver.until("up", |known| is_at(known, "10.9.0.2", ROUTER_MAC));
    lab.director.ip("link del d0");
    resolver.until("deleted", NextHops::is_empty);
}

#[test]
fn a_silent_next_hop_keeps_its_mac_and_is_found_when_it_returns_with_another() {
    let lab = Lab::new();
    let mut resolver = lab.resolver(&["10.9.0.2", "10.9.0.3"]);
    resolver.until("resolved", |known| known.len() == 2);
    lab.router.ip("address del 10.9.0.3/24 dev r0");
    lab.move_router();
    // The other one has moved: by then the silent one was asked in vain.
    resolver.until("moved", |known| is_at(known, "10.9.0.2", MOVED_MAC));
    assert!(is_at(&resolver.known.borrow(), "10.9.0.3", ROUTER_MAC));
    lab.router.ip("address add 10.9.0.3/24 dev r0");
    resolver.until("found", |known| is_at(known, "10.9.0.3", MOVED_MAC));
}

#[test]
fn no_request_comes_from_a_vip() {
    let lab = Lab::new();
    // The VIP is the address the kernel itself would ask from.
    lab.director.ip("address del 10.9.0.1/24 dev d0");
    lab.director.ip("address add 10.9.0.100/24 dev d0");
    lab.director.ip("address add 10.9.0.1/24 dev d0");
    let avoid = BTreeSet::from([ip("10.9.0.100")]);
    let mut resolver = Resolver::start(&lab.director, BTreeSet::from([ip("10.9.0.2")]), avoid);
    resolver.until("resolved", |known| known.len() == 1);
    // Who is asked remembers who asked.
    let output =
        Command::new("ip").args(["-n", &lab.router.0, "neighbour", "show"]).output().expect("it starts");
    let seen = String::from_utf8(output.stdout).expect("text");
    assert!(seen.contains("10.9.0.1 ") && !seen.contains("10.9.0.100 "), "{seen}");
}

/// Ten thousand addresses on the director's link, and the commands that make them known to its kernel.
fn ten_thousand(lab: &Lab) -> (BTreeSet<IpAddr>, String) {
    lab.director.ip("address add 10.10.0.1/16 dev d0");
    let wanted: BTreeSet<IpAddr> =
        (0..10_000_u32).map(|n| IpAddr::from([10, 10, 1 + (n / 250) as u8, 1 + (n % 250) as u8])).collect();
    // Permanent entries do not count towards the limit of the neighbour table.
    let commands =
        wanted.iter().map(|to| format!("neigh add {to} lladdr {ROUTER_MAC} dev d0 nud permanent\n"));
    let commands = commands.collect();
    (wanted, commands)
}

#[test]
fn ten_thousand_known_neighbours_are_published_in_half_a_second() {
    let lab = Lab::new();
    let (wanted, commands) = ten_thousand(&lab);
    lab.director.batch(&commands);
    let mut resolver = Resolver::start(&lab.director, wanted.clone(), BTreeSet::new());
    let took = resolver.until("all of them", |known| known.len() == wanted.len());
    println!("published in {took:?}");
    assert!(took < Duration::from_millis(500) + SLACK, "took {took:?}");
}

#[test]
fn neighbours_that_the_kernel_learns_are_taken_over_however_many_at_once() {
    let lab = Lab::new();
    let (wanted, commands) = ten_thousand(&lab);
    let mut resolver = Resolver::start(&lab.director, wanted.clone(), BTreeSet::new());
    lab.director.batch(&commands);
    let took = resolver.until("all of them", |known| known.len() == wanted.len());
    println!("taken over in {took:?}");
}
