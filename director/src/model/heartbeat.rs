//! The directors of a cluster, and how they agree on who holds which VIPs: the section `heartbeat`, checked.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Vip;

/// How the directors hear of each other, and who is to hold what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The file of the keys that messages are authenticated with.
    pub key_file: PathBuf,
    /// From one message to the next.
    pub interval: Duration,
    /// A director that was not heard for so long counts as dead. At least twice the interval.
    pub dead_after: Duration,
    /// How long a director that starts listens before it takes anything, unless it has heard all others before.
    pub initial_wait: Duration,
    /// For how long another director must be better off before VIPs move to it because of that (never because of
    /// priority: see [`Failback`]).
    pub settle: Duration,
    /// Whether more than half of the directors must agree to an owner.
    pub quorum: Quorum,
    /// Addresses outside of the cluster that a director with a working network reaches.
    pub ping: Vec<IpAddr>,
    /// From one ping to the next.
    pub ping_interval: Duration,
    /// Commands whose success says how fit a director is.
    pub track: Vec<Track>,
    /// Whether and how groups are spread over the directors.
    pub balance: Option<Balance>,
    /// How VIPs are announced.
    pub announce: Announce,
    /// All directors, also this one, in the order of the file. 2 to 16 with different names.
    pub directors: Vec<Member>,
    /// All groups, in the order of the file; never empty. VIPs that name no group are in `default`.
    pub groups: Vec<Group>,
}

impl Heartbeat {
    /// How many directors must agree to an owner, itself included; 1: nobody else.
    pub fn votes(&self) -> usize {
        match self.quorum {
            Quorum::None => 1,
            Quorum::Majority => self.directors.len() / 2 + 1,
        }
    }

    /// The director of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.directors.iter().find(|member| member.name == name)
    }
}

/// A director of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: its host name, or what `--node` says there. 1 to 63 characters.
    pub name: String,
    /// The higher one holds VIPs, where nothing else decides.
    pub priority: u8,
    /// How it is reached. All are used side by side; the same place in each director's list is the same link.
    pub links: Vec<Link>,
}

/// One way between directors. All directors' links of one place are of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Datagrams to this address of that director.
    Udp(SocketAddr),
    /// Datagrams to a multicast group, sent and heard on an interface of that director.
    Multicast {
        /// Group and port.
        group: SocketAddr,
        /// That director's interface.
        interface: String,
        /// How many routers a datagram may cross, and one; 1 stays on the segment.
        ttl: u8,
    },
    /// A serial line to the one other director.
    Serial {
        /// That director's device.
        device: PathBuf,
        /// Bits a second.
        baud: u32,
    },
}

/// Who must agree to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// Nobody: whoever hears no owner may be one. For two directors.
    None,
    /// More than half of all directors.
    Majority,
}

/// What a director does that returns and would come before the present owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// It leaves the VIPs where they are.
    Never,
    /// They move to it, after it was heard for so long.
    After(Duration),
}

/// A command that is run again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its name, for status.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// From one run to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// What a positive weight adds to the score while the command succeeds, and a negative one while it fails. Without a
    /// weight, a director where it fails is not eligible.
    pub weight: Option<i8>,
}

/// How groups are spread over the directors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The most groups that move in a round.
    pub moves: u8,
    /// From one round to the next.
    pub every: Duration,
    /// For how long a director must have been heard before it is given anything.
    pub mature: Duration,
}

/// How VIPs are announced (gratuitous ARP, unsolicited neighbour advertisements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// How many announcements of each VIP a takeover begins with, the first one at once.
    pub burst: u8,
    /// From one of them to the next.
    pub spacing: Duration,
    /// From one later announcement to the next; none: there are no later ones.
    pub refresh: Option<Duration>,
    /// Neighbours that are told by unicast, too: routers behind switches that drop broadcasts.
    pub neighbours: Vec<IpAddr>,
    /// How often directors tell each other whom they know, so that a new owner can tell those by unicast; none: never.
    pub share: Option<Duration>,
}

/// VIPs that are always together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name, 1 to 63 characters.
    pub name: String,
    /// Its VIPs, in the order of the file.
    pub vips: Vec<Vip>,
    /// Directors that come before all others, the first one first.
    pub prefer: Vec<String>,
    /// What becomes of it when a director returns that would come before.
    pub failback: Failback,
    /// How its VIPs are taken.
    pub takeover: Means,
    /// The MAC address that moves with its VIPs.
    pub virtual_mac: Option<[u8; 6]>,
    /// What is started in this order where the group is held, and stopped in the opposite one.
    pub resources: Vec<Resource>,
}

impl Group {
    /// One of which nothing else is said: its VIPs are taken by addresses, and stay where they are.
    pub fn new(name: &str, vips: Vec<Vip>) -> Group {
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
}

/// How VIPs are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// By addresses on interfaces, announced by ARP and neighbour discovery.
    Address,
    /// By a command.
    Command(TakeoverCommand),
    /// By a change of the DNS.
    Dns(DnsTakeover),
}

/// A command that takes and releases a group. It gets the group, the role (`active`, `standby`) and the addresses as its last
/// arguments and in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeoverCommand {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// How long one run may take.
    pub timeout: Duration,
    /// From a failure to the next try.
    pub retry: Duration,
}

/// A name that follows the group, by RFC 2136 updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTakeover {
    /// The primary server of the zone.
    pub server: SocketAddr,
    /// The zone, absolute.
    pub zone: String,
    /// The name whose A and AAAA records are replaced, absolute.
    pub name: String,
    /// This many seconds resolvers may keep them.
    pub ttl: u32,
    /// The addresses that the name has while a director holds the group, by the director's name.
    pub addresses: Vec<(String, Vec<IpAddr>)>,
    /// The file with the TSIG key: `NAME ALGORITHM SECRET` in one line, the secret in base64.
    pub tsig_file: PathBuf,
    /// How long one exchange may take.
    pub timeout: Duration,
    /// From a failure to the next try.
    pub retry: Duration,
}

/// Something that runs where the group is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, for status.
    pub name: String,
    /// The program and its arguments that start it.
    pub start: Vec<String>,
    /// Those that stop it.
    pub stop: Vec<String>,
    /// How long each of them may take.
    pub timeout: Duration,
}
