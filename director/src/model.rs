//! The words of the field as types: what a configuration means once it has been checked. No I/O, no clock.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A whole, checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
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
