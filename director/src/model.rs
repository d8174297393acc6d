//! The words of the field as types: what a configuration means once it has been checked. No I/O, no clock.

pub mod heartbeat;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A whole, checked configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where clients' packets (and NAT's replies) arrive: XDP is attached to each.
    pub interfaces: Vec<String>,
    /// Virtual addresses that the active director holds.
    pub vips: Vec<Vip>,
    /// What clients reach.
    pub services: Vec<Service>,
    /// The operator's Unix socket.
    pub socket: PathBuf,
    /// Sizes of the data plane's tables, fixed when they are created.
    pub limits: Limits,
    /// How health checks are run.
    pub watching: Watching,
    /// The cluster that this director is one of; none: it is alone, and holds its VIPs always.
    pub heartbeat: Option<heartbeat::Heartbeat>,
    /// Where metrics and the dashboard are served by HTTP; none: nowhere.
    pub http: Option<Http>,
}

/// Where HTTP is served, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names that it may be asked for by, beside addresses and the machine's own name; in lower case.
    pub hosts: Vec<String>,
}

/// Sizes of the data plane's tables. They take effect when the tables are created: at the first start, or after
/// `director stop --detach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Flows that the table is made for; it has twice as many places, since a half-full table finds room for all.
    pub flows: u32,
    /// Service records.
    pub services: u32,
    /// Real servers, counted once for each service they are in.
    pub reals: u32,
    /// (address, protocol, port) keys, all services together.
    pub keys: u32,
    /// Slots of all services' tables together.
    pub slots: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { flows: 1_048_576, services: 4_096, reals: 65_536, keys: 262_144, slots: 4_194_304 }
    }
}

/// A virtual IP address and where it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length on the interface.
    pub prefix: u8,
    /// The interface that holds it.
    pub interface: String,
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// The ports of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port that no other service of this address and protocol names.
    Any,
    /// These, ascending and without repeats; never 0, never empty.
    List(Vec<u16>),
}

impl Ports {
    /// The only port, where there is just one.
    pub fn single(&self) -> Option<u16> {
        match self {
            Ports::List(ports) if ports.len() == 1 => Some(ports[0]),
            _ => None,
        }
    }
}

impl fmt::Display for Ports {
    /// `80`, `80,443`, `8000-8100`, `any`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports::List(ports) = self else { return f.write_str("any") };
        let mut start = 0;
        while start < ports.len() {
            let mut end = start;
            while end + 1 < ports.len() && ports[end + 1] == ports[end] + 1 {
                end += 1;
            }
            let comma = if start == 0 { "" } else { "," };
            match end - start {
                0 => write!(f, "{comma}{}", ports[start])?,
                _ => write!(f, "{comma}{}-{}", ports[start], ports[end])?,
            }
            start = end + 1;
        }
        Ok(())
    }
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// The destination MAC is rewritten; the real server holds the VIP and answers the client itself.
    Direct,
    /// Destination address and port are rewritten, and back in the reply.
    Nat,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forward::Direct => "direct",
            Forward::Nat => "nat",
        })
    }
}

/// How a new flow finds its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin: each real server in turn, whatever its weight (but 0).
    Rr,
    /// Smooth weighted round robin.
    Wrr,
    /// Maglev hashing of the flow.
    Mh,
    /// Hash of the client's address.
    Sh,
    /// Hash of the VIP.
    Dh,
    /// Failover: the usable real server of the highest weight takes all.
    Fo,
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheduler::Rr => "rr",
            Scheduler::Wrr => "wrr",
            Scheduler::Mh => "mh",
            Scheduler::Sh => "sh",
            Scheduler::Dh => "dh",
            Scheduler::Fo => "fo",
        })
    }
}

/// What happens to a packet that no usable real server can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unserved {
    /// Nothing is sent.
    Drop,
    /// A TCP RST, or an ICMP port unreachable.
    Reject,
}

/// A client (or its network) stays on one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long after its last flow.
    pub timeout: Duration,
    /// Leading bits of the client's address that count: 0–32 or 0–128, as the VIP's family has it.
    pub prefix: u8,
}

/// Idle timeouts of flows; the defaults are IPVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, only SYNs so far (IPVS SYN_RECV).
    pub syn: Duration,
    /// TCP, established.
    pub established: Duration,
    /// TCP, after the client's FIN (IPVS FIN_WAIT and TIME_WAIT).
    pub fin: Duration,
    /// TCP, after a RST (IPVS CLOSE).
    pub close: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            syn: Duration::from_secs(60),
            established: Duration::from_secs(900),
            fin: Duration::from_secs(120),
            close: Duration::from_secs(10),
            udp: Duration::from_secs(300),
        }
    }
}

/// VIP + protocol + port(s): what clients reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique in the configuration.
    pub name: String,
    /// The VIP.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: Ports,
    /// How packets reach its real servers.
    pub forward: Forward,
    /// How new flows choose.
    pub scheduler: Scheduler,
    /// Clients that stay.
    pub persistence: Option<Persistence>,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// What happens without a usable real server, and to TCP segments of no flow.
    pub unserved: Unserved,
    /// A TCP segment without a flow may start one even if it is no SYN.
    pub sloppy: bool,
    /// Who answers.
    pub reals: Vec<Real>,
    /// How its real servers are watched.
    pub health: HealthPolicy,
}

/// How a service's real servers are watched, and what follows from what is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// All of these must pass. None: every real server counts as up.
    pub checks: Vec<CheckPlan>,
    /// What becomes of the flows of a real server that is down.
    pub on_down: OnDown,
    /// With fewer real servers up than these, the fallback serves.
    pub quorum: u32,
    /// So many more must be up before the real servers serve again.
    pub hysteresis: u32,
    /// How long a real server that comes back takes to its whole weight.
    pub slow_start: Duration,
    /// When more than this share of the real servers, in percent, would be down, none is taken out.
    pub panic_threshold: Option<u8>,
    /// Who serves below the quorum.
    pub fallback: Option<Fallback>,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        HealthPolicy {
            checks: Vec::new(),
            on_down: OnDown::Reset,
            quorum: 1,
            hysteresis: 0,
            slow_start: Duration::ZERO,
            panic_threshold: None,
            fallback: None,
        }
    }
}

/// One check of a service's real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPlan {
    /// What is asked.
    pub check: healthcheck::Check,
    /// Where, unless it is the real server's port.
    pub port: Option<u16>,
    /// The way to the real server.
    pub via: Via,
    /// From one probe's start to the next.
    pub interval: Duration,
    /// The same while the verdict is changing.
    pub fast_interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// How many outcomes in a row change the verdict.
    pub limits: healthcheck::Limits,
    /// What a real server counts as before its first verdict.
    pub assume: Assume,
}

/// The way of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// To the real server's own address.
    Real,
    /// To the VIP at that real server: the way of clients' packets.
    Vip,
}

/// What a real server counts as before anything is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assume {
    /// In the pool.
    Up,
    /// Not in it.
    Down,
}

/// What becomes of the flows of a real server that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay where they are, and wait.
    Keep,
    /// They end at once: TCP's with a RST at the client's next segment.
    Reset,
    /// Their next packets go to another real server.
    Reschedule,
}

/// Who serves when too few real servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The director's own host: packets are its kernel's.
    Local,
    /// Another server, reached as the service's real servers are. It is not checked.
    Real {
        /// Its address.
        address: IpAddr,
        /// Its port under NAT, where it differs from the service's.
        port: Option<u16>,
    },
}

/// How health checks are run, for all services together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The most probes at a time.
    pub in_flight: usize,
    /// Files in it, named like ldirectord's, take real servers out.
    pub maintenance_dir: Option<PathBuf>,
    /// Who is told of changes.
    pub notify: Option<Notify>,
}

impl Default for Watching {
    fn default() -> Self {
        Watching { in_flight: 512, maintenance_dir: None, notify: None }
    }
}

/// Who is told of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// A program, called with what happened in its environment.
    pub command: Option<PathBuf>,
    /// E-mail.
    pub mail: Option<MailNotice>,
    /// The least time between two notices; what happens meanwhile comes in one.
    pub at_most_every: Duration,
}

/// Notices by e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailNotice {
    /// Whom.
    pub to: Vec<String>,
    /// From whom.
    pub from: String,
    /// The mail server that takes them, a name or an address.
    pub server: String,
    /// Its port.
    pub port: u16,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Real {
    /// Its own address, of the VIP's family.
    pub address: IpAddr,
    /// Its port under NAT where it differs from the service's; only with a service of one port.
    pub port: Option<u16>,
    /// Its share of new flows; 0 drains.
    pub weight: u16,
}

/// The 16 bytes that stand for an address in every map.
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that 16 bytes of a map stand for.
pub fn unmapped(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_an_operator_wrote_them() {
        assert_eq!(Ports::List(vec![80]).to_string(), "80");
        assert_eq!(Ports::List(vec![80, 443]).to_string(), "80,443");
        assert_eq!(Ports::List((8000..=8100).chain([9000]).collect()).to_string(), "8000-8100,9000");
        assert_eq!(Ports::Any.to_string(), "any");
    }

    #[test]
    fn an_address_survives_mapping() {
        for text in ["192.0.2.1", "2001:db8::1", "0.0.0.0", "255.255.255.255"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(unmapped(mapped(address)), address);
        }
    }
}
