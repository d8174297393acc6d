//! Config + the operator's overrides + what is known of next hops → what the data plane shall hold. Pure.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{Forward, Persistence, Ports, Protocol, Scheduler, Timeouts, Unserved};

/// Where frames for a real server go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// MAC of the real server, or of the gateway before it.
    pub mac: [u8; 6],
    /// MAC of our interface on the way.
    pub source_mac: [u8; 6],
    /// Index of that interface.
    pub ifindex: u32,
}

/// Next hops by real server; one that is missing is not known (yet).
pub type NextHops = HashMap<IpAddr, NextHop>;

/// Names a real server within the configuration, for the operator's commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RealKey {
    /// The service's name.
    pub service: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Its port, where the configuration gives it one.
    pub port: Option<u16>,
}

/// What the operator said of real servers: stays on top of the configuration until taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Weights in force instead of the configured ones; 0 drains.
    pub weights: BTreeMap<RealKey, u16>,
}

/// The whole desired state of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// In the configuration's order.
    pub services: Vec<DesiredService>,
}

/// A service as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Its name.
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
    /// What happens to what cannot be served.
    pub unserved: Unserved,
    /// Non-SYN segments may start flows.
    pub sloppy: bool,
    /// The most slots its table may have (Maglev: exactly; a prime).
    pub table_size: u32,
    /// Its real servers, in the configuration's order.
    pub reals: Vec<DesiredReal>,
}

/// A real server as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredReal {
    /// Its address.
    pub address: IpAddr,
    /// Its port, where it is not the client's destination port.
    pub port: Option<u16>,
    /// The weight in force; 0 takes no new flows.
    pub weight: u16,
    /// Where its frames go; without it, it takes no new flows.
    pub hop: Option<NextHop>,
}
