//! What is known of the machine and of the farm. Pure data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::api::types::Status;
use crate::model::{Config, Fallback, Service, Vip};
use crate::neighbours::interfaces::range;
use crate::neighbours::wire::Mac;

/// Everything that findings are made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The configuration's file.
    pub file: PathBuf,
    /// What it says; empty where it cannot be used.
    pub config: Config,
    /// Why it cannot be used.
    pub unusable: Option<String>,
    /// Which of the cluster's directors this machine is, or why it is none.
    pub node: Option<Result<String, String>>,
    /// Why the cluster's key file cannot be used.
    pub keys: Option<String>,
    /// The machine.
    pub system: System,
    /// Its interfaces.
    pub links: Vec<Link>,
    /// The way to each real server; `None`: there is none.
    pub ways: BTreeMap<IpAddr, Option<Way>>,
    /// Who answers for which address.
    pub answers: Answers,
    /// What real servers under direct forwarding said to a connection to a VIP.
    pub knocks: Vec<Knock>,
    /// What the running director says.
    pub running: Option<Status>,
    /// Why no director could be asked.
    pub silent: Option<String>,
    /// What was not looked at, and why.
    pub unasked: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// The kernel describes its types (BTF).
    pub btf: bool,
    /// The bpf file system is mounted at its usual place.
    pub bpffs: bool,
    /// CPUs that are online.
    pub cpus: usize,
    /// Rights of the process in question, as a bit mask of capabilities(7).
    pub capabilities: u64,
    /// How much memory it may lock; `None`: as much as it likes.
    pub lockable: Option<u64>,
    /// The highest real-time priority that it may take without a capability.
    pub priority: u64,
    /// That process is the running director; else it is this one.
    pub of_director: bool,
    /// Memory that can be had.
    pub memory_available: u64,
    /// Memory that the configured tables take.
    pub memory_wanted: u64,
    /// The tables exist already.
    pub has_tables: bool,
    /// The clock follows another one (adjtimex(2)); `None`: that could not be asked.
    pub clock_synchronized: Option<bool>,
    /// The kernel forwards packets: IPv4, IPv6.
    pub forwards: (bool, bool),
    /// The interfaces of IPv4 default routes.
    pub default_routes: BTreeSet<String>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// In the card, or at several of these places.
    Other,
}

/// An interface.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC, if it has one.
    pub mac: Option<Mac>,
    /// The longest packet, in bytes.
    pub mtu: u32,
    /// It is switched on.
    pub up: bool,
    /// It has a carrier, too.
    pub running: bool,
    /// Its addresses and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// An XDP program is attached to it.
    pub xdp: Option<Xdp>,
    /// The pins have a link to it: the program is a director's.
    pub pinned: bool,
    /// Its driver's name.
    pub driver: Option<String>,
    /// What its driver can do of XDP; `None`: the kernel does not tell.
    pub abilities: Option<Abilities>,
    /// Receive queues, and how many it could have.
    pub queues: Option<(u32, u32)>,
    /// Large receive offload is on.
    pub lro: bool,
    /// The card merges frames of a connection (`rx-gro-hw`).
    pub merges: bool,
    /// VLAN tags are taken off frames before anybody sees them.
    pub strips_vlan: bool,
    /// A VLAN interface on it.
    pub vlan: Option<String>,
    /// rp_filter in force: 0 off, 1 strict, 2 loose.
    pub rp_filter: u8,
}

/// What a driver can do of XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Run a program.
    pub native: bool,
    /// Take frames of several buffers (a large MTU).
    pub fragments: bool,
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Out of which interface.
    pub index: u32,
    /// The gateway; `None`: it is on the link.
    pub gateway: Option<IpAddr>,
}

/// Which MACs answered for which address on which interface. None of them is this machine's own.
#[derive(Clone, Debug, Default)]
pub struct Answers(pub BTreeMap<(u32, IpAddr), BTreeSet<Mac>>);

/// A server that packets of a service go to.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The service.
    pub service: &'a Service,
    /// It serves only where too few real servers do.
    pub fallback: bool,
}

/// A connection to a VIP at one real server, which the real server may have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The VIP.
    pub vip: IpAddr,
    /// The real server.
    pub real: IpAddr,
    /// Which of the machines that answer for its address.
    pub mac: Mac,
    /// The TCP port.
    pub port: u16,
    /// It answered for the VIP.
    pub vip_answered: bool,
    /// It answered for its own address.
    pub own_answered: bool,
}

impl Facts {
    /// The interface of a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface of an index.
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The name of the interface of an index.
    pub fn name_of(&self, index: u32) -> &str {
        self.link_at(index).map_or("an interface that is gone", |link| &link.name)
    }

    /// Whether an address is on one of this machine's interfaces.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.links.iter().any(|link| link.has(address))
    }

    /// All real servers and fallbacks, once for each service that they are in.
    pub fn servers(&self) -> impl Iterator<Item = Server<'_>> {
        self.config.services.iter().flat_map(|service| {
            let fallback = match service.health.fallback {
                Some(Fallback::Real { address, .. }) => Some(address),
                Some(Fallback::Local) | None => None,
            };
            let reals = service.reals.iter().map(|real| (real.address, false));
            let all = reals.chain(fallback.map(|address| (address, true)));
            all.map(move |(address, fallback)| Server { address, service, fallback })
        })
    }

    /// Whether an address is a VIP of the configuration.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.config.vips.iter().any(|vip| vip.address == address)
    }

    /// The VIPs that are addresses on interfaces: not those of groups that move by a command or by DNS.
    pub fn held_vips(&self) -> impl Iterator<Item = &Vip> {
        use crate::model::heartbeat::Means;
        let groups = self.config.heartbeat.as_ref().map(|heartbeat| &heartbeat.groups);
        self.config.vips.iter().filter(move |vip| {
            let group = groups.and_then(|groups| {
                groups.iter().find(|group| group.vips.iter().any(|its| its.address == vip.address))
            });
            group.is_none_or(|group| group.takeover == Means::Address)
        })
    }
}

impl Server<'_> {
    /// What it is.
    pub fn kind(&self) -> &'static str {
        if self.fallback { "fallback" } else { "real server" }
    }

    /// What it is, and whose.
    pub fn title(&self) -> String {
        format!("{} of {}", self.kind(), self.service.name)
    }
}

impl Link {
    /// Whether it has an address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(its, _)| *its == address)
    }

    /// Whether an address is on one of its networks.
    pub fn reaches(&self, address: IpAddr) -> bool {
        let same = |own: &IpAddr| own.is_ipv4() == address.is_ipv4();
        self.addresses.iter().any(|(own, prefix)| same(own) && range(*own, *prefix).contains(&address))
    }
}

impl Answers {
    /// The MACs that answered for an address on an interface.
    pub fn of(&self, index: u32, address: IpAddr) -> impl Iterator<Item = Mac> {
        self.0.get(&(index, address)).into_iter().flatten().copied()
    }

    /// Who answered with a MAC on an interface, of these addresses.
    pub fn whose(&self, index: u32, mac: Mac, of: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let mut all = self.0.iter();
        all.find(|((on, address), macs)| *on == index && macs.contains(&mac) && of(*address))
            .map(|((_, address), _)| *address)
    }
}

/// A MAC as people write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
