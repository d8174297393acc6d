//! A client and two directors on a switch, and what the client's wire shows.

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
use director::model::heartbeat::{Announce, Group};
use director::takeover::{self, Inputs, Report, Setup, Takeover, Want, Wanted};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

pub const CLIENT_MAC: &str = "02:00:00:00:02:01";
pub const DIRECTOR_MACS: [&str; 2] = ["02:00:00:00:02:0a", "02:00:00:00:02:0b"];
pub const OLD_MAC: &str = "02:00:00:00:02:99";
pub const VIRTUAL_MAC: &str = "00:00:5e:00:01:07";

/// How long anything may take; less than passes between two checks of everything, which would hide that a
/// notification was missed.
pub const DEADLINE: Duration = Duration::from_secs(4);

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn mac(text: &str) -> [u8; 6] {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until something is so; returns how long that took.
pub fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// A network namespace that goes when this does.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nb{}-{count}-{role}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.sysctl("net.ipv6.conf.default.accept_dad=0");
        namespace
    }

    pub fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    pub fn sysctl(&self, setting: &str) {
        run(&format!("ip netns exec {} sysctl -qw {setting}", self.0));
    }

    pub fn has(&self, address: &str) -> bool {
        self.ip("-br address").split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    pub fn pings(&self, address: &str) {
        run(&format!("ip netns exec {} ping -n -c 1 -W 2 {address}", self.0));
    }

    /// The MAC that this one's kernel knows of an address.
    pub fn knows(&self, address: &str) -> Option<[u8; 6]> {
        let entry = self.ip(&format!("neighbour show to {address}"));
        let mut words = entry.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(mac)
    }

    /// Does something on a thread inside.
    pub fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let enter = self.entrance();
        let thread = std::thread::spawn(move || {
            enter().expect("entering the namespace");
            what()
        });
        thread.join().expect("no panic")
    }

    pub fn entrance(&self) -> impl FnOnce() -> anyhow::Result<()> + Send + 'static {
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
pub struct Lab {
    pub client: Namespace,
    pub directors: [Namespace; 2],
    pub switch: Namespace,
}

impl Lab {
    pub fn new() -> Self {
        let directors = [Namespace::new("a"), Namespace::new("b")];
        let lab = Self { client: Namespace::new("c"), directors, switch: Namespace::new("s") };
        lab.switch.ip("link add name br0 up type bridge mcast_snooping 0");
        lab.plug(&lab.client, "c0", CLIENT_MAC, 1);
        lab.plug(&lab.directors[0], "d0", DIRECTOR_MACS[0], 2);
        lab.plug(&lab.directors[1], "d0", DIRECTOR_MACS[1], 3);
        lab
    }

    pub fn plug(&self, namespace: &Namespace, device: &str, mac: &str, host: u8) {
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

    pub fn director(&self, setup: Setup) -> Director {
        Director::start(&self.directors[0], setup)
    }

    /// Gives the client an old entry for an address.
    pub fn mislead(&self, address: &str) {
        self.client.ip(&format!("neighbour replace {address} lladdr {OLD_MAC} dev c0 nud stale"));
    }

    pub fn client_follows(&self, address: &str, to: &str) {
        let took = until(&format!("the client's entry for {address}"), || {
            self.client.knows(address) == Some(mac(to))
        });
        println!("the client knows that {address} is at {to} after {took:?}");
    }

    /// What arrives at the client's interface.
    pub fn capture(&self) -> Socket {
        let socket = self.client.inside(|| {
            let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(all)).expect("a packet socket")
        });
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        socket
    }
}

/// Waits for so many announcements of an address to a MAC on the client's wire; when each came.
pub fn announcements(mut wire: &Socket, address: &str, to: &str, count: usize) -> Vec<Instant> {
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
pub fn announced(frame: &[u8]) -> Option<IpAddr> {
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
pub struct Director {
    pub wanted: watch::Sender<Arc<Wanted>>,
    pub setups: watch::Sender<Arc<Setup>>,
    pub shared: watch::Sender<Arc<Vec<Neighbour>>>,
    pub takeover: Takeover,
}

impl Director {
    pub fn start(namespace: &Namespace, setup: Setup) -> Self {
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
    pub fn want(&self, groups: &[&str], announce: u64) {
        let want = Want { active: true, announce };
        let groups = groups.iter().map(|group| ((*group).to_owned(), want)).collect();
        self.wanted.send_replace(Arc::new(Wanted { groups, told: Instant::now() }));
    }

    pub fn report(&self) -> Arc<Report> {
        Arc::clone(&self.takeover.reports.borrow())
    }

    /// Wants a group held, and waits until it is; returns how long it took by its own measure.
    pub fn take(&self, group: &str) -> Duration {
        let taken = |report: &Report| report.groups.get(group).and_then(|group| group.taken);
        let before = taken(&self.report());
        self.want(&[group], 0);
        until("taken", || taken(&self.report()) != before);
        let report = &self.report().groups[group];
        assert!(report.active && report.missing.is_empty() && report.problems.is_empty(), "{report:?}");
        report.taken.expect("it was taken").took
    }
}

pub fn vip(address: &str, prefix: u8) -> Vip {
    Vip { address: ip(address), prefix, interface: "d0".to_owned() }
}

pub fn setup(groups: Vec<Group>) -> Setup {
    let spacing = Duration::from_millis(100);
    let announce = Announce { burst: 2, spacing, refresh: None, neighbours: Vec::new(), share: None };
    Setup { groups, announce }
}

/// One group with a VIP of each family.
pub fn pair() -> Setup {
    setup(vec![Group::new("g", vec![vip("10.9.0.100", 24), vip("fd09::100", 64)])])
}
