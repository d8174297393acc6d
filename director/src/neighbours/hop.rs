//! Next hops: their names, what is known of one, and what may be done about it.

use std::net::IpAddr;
use std::time::Instant;

use super::wire::Mac;

/// Names a next hop: a real server or a gateway, on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopKey {
    /// Index of our interface.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
}

/// The kernel's way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next hop: the address itself where it is on the link.
    pub hop: HopKey,
    /// The source address the kernel would take.
    pub preferred_source: Option<IpAddr>,
}

/// An entry of the kernel's neighbour table that has a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelNeighbour {
    /// The MAC.
    pub mac: Mac,
    /// An operator or a routing daemon put it there (permanent, noarp or externally learned): it is right,
    /// and not probed.
    pub fixed: bool,
}

/// What a packet said of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The MAC it named.
    pub named: Option<Mac>,
    /// The MAC that sent the frame.
    pub sender: Mac,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a next hop for its MAC.
    Probe {
        /// Whom.
        hop: HopKey,
        /// The MAC to ask; `None` asks everyone on the link.
        to: Option<Mac>,
        /// The source address the kernel would take.
        preferred_source: Option<IpAddr>,
    },
    /// A next hop has another MAC now: the kernel's entry, where there is one, follows.
    Teach {
        /// Which.
        hop: HopKey,
        /// Its MAC.
        mac: Mac,
    },
    /// Two MACs answer for one address; said once for a next hop.
    Duplicate {
        /// Which.
        hop: HopKey,
        /// The MAC that stays in force.
        current: Mac,
        /// The other one.
        other: Mac,
    },
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// The MAC in force.
    pub(super) mac: Option<Mac>,
    /// See [`KernelNeighbour::fixed`].
    pub(super) fixed: bool,
    /// How many wanted addresses are reached through it.
    pub(super) users: usize,
    pub(super) preferred_source: Option<IpAddr>,
    /// When something is to be done.
    pub(super) due: Instant,
    /// When it was last asked.
    pub(super) asked: Option<Instant>,
    /// Probes since the last answer.
    pub(super) unanswered: u32,
    /// A MAC that claims the address while the one in force may still answer for itself; it wins when `due`
    /// comes.
    pub(super) challenger: Option<Mac>,
    /// When another MAC last claimed it.
    pub(super) challenged: Option<Instant>,
    /// Two MACs were seen to answer.
    pub(super) contested: bool,
}

impl Hop {
    /// One for the first address reached through it.
    pub(super) fn new(
        now: Instant,
        preferred_source: Option<IpAddr>,
        kernel: Option<KernelNeighbour>,
    ) -> Self {
        Self {
            mac: kernel.map(|known| known.mac),
            fixed: kernel.is_some_and(|known| known.fixed),
            users: 1,
            preferred_source,
            due: now,
            asked: None,
            unanswered: 0,
            challenger: None,
            challenged: None,
            contested: false,
        }
    }
}
