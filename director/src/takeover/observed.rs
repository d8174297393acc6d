//! Interfaces and their addresses, as the kernel's messages tell of them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::neighbours::kernel::own_address;
use crate::neighbours::wire::Mac;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its MAC, if it has one.
    pub mac: Option<Mac>,
    /// It is switched on (IFF_UP).
    pub up: bool,
    /// It is switched on and has a carrier (IFF_LOWER_UP), and nothing keeps it from being used (IFF_RUNNING).
    pub running: bool,
    /// The interface that it is a macvlan on; none where it is no macvlan.
    pub macvlan_on: Option<u32>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    links: BTreeMap<u32, Link>,
    names: BTreeMap<String, u32>,
    /// By interface: address and prefix length, and whether it is secondary (IFA_F_SECONDARY).
    addresses: BTreeMap<u32, BTreeMap<(IpAddr, u8), bool>>,
}

impl Observed {
    /// What all these messages say.
    pub fn of(messages: &[RouteNetlinkMessage]) -> Observed {
        let mut observed = Observed::default();
        messages.iter().for_each(|message| observed.take(message));
        observed
    }

    /// Notes what a message says.
    pub fn take(&mut self, message: &RouteNetlinkMessage) {
        match message {
            // A bridge's port is also announced as a member of its bridge.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                if let Some(read) = read_link(link) {
                    self.forget_name(link.header.index);
                    self.names.insert(read.name.clone(), link.header.index);
                    self.links.insert(link.header.index, read);
                }
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.forget_name(link.header.index);
                self.links.remove(&link.header.index);
                self.addresses.remove(&link.header.index);
            }
            RouteNetlinkMessage::NewAddress(message) => {
                if let Some((address, secondary)) = read_address(message) {
                    self.addresses.entry(message.header.index).or_default().insert(address, secondary);
                }
            }
            RouteNetlinkMessage::DelAddress(message) => {
                if let Some((address, _)) = read_address(message)
                    && let Some(addresses) = self.addresses.get_mut(&message.header.index)
                {
                    addresses.remove(&address);
                }
            }
            _ => {}
        }
    }

    /// Notes that an interface has an address. The kernel tells of an IPv6 address that needs no duplicate address
    /// detection only some time later (`inet6_addr_add` in net/ipv6/addrconf.c).
    pub fn note_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        self.addresses.entry(index).or_default().entry((address, prefix)).or_insert(false);
    }

    /// The interface of a name, and its index.
    pub fn named(&self, name: &str) -> Option<(u32, &Link)> {
        let index = *self.names.get(name)?;
        Some((index, self.links.get(&index)?))
    }

    /// An interface may be about to have another name.
    fn forget_name(&mut self, index: u32) {
        if let Some(link) = self.links.get(&index)
            && self.names.get(&link.name) == Some(&index)
        {
            self.names.remove(&link.name);
        }
    }

    /// The interface of an index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The index of the interface of a name.
    pub fn index(&self, name: &str) -> Option<u32> {
        Some(self.named(name)?.0)
    }

    /// All interfaces with their indices.
    pub fn links(&self) -> impl Iterator<Item = (u32, &Link)> {
        self.links.iter().map(|(index, link)| (*index, link))
    }

    /// The prefix lengths with which an interface has an address; none: it does not have it.
    pub fn prefixes(&self, index: u32, address: IpAddr) -> impl Iterator<Item = u8> {
        let all = self.addresses.get(&index).into_iter();
        all.flat_map(move |all| all.range((address, 0)..=(address, u8::MAX)).map(|((_, prefix), _)| *prefix))
    }

    /// Whether an interface has an address, whatever the prefix length.
    pub fn has(&self, index: u32, address: IpAddr) -> bool {
        self.prefixes(index, address).next().is_some()
    }

    /// Whether an address is secondary: another one of its network came first, and takes it along when it goes.
    pub fn is_secondary(&self, index: u32, address: IpAddr, prefix: u8) -> bool {
        self.addresses.get(&index).and_then(|all| all.get(&(address, prefix))).is_some_and(|second| *second)
    }

    /// The secondary addresses that hang on a primary one: of the same network, by the same prefix length
    /// (`inet_insert_ifa` in net/ipv4/devinet.c).
    pub fn dependants(&self, index: u32, address: IpAddr, prefix: u8) -> impl Iterator<Item = IpAddr> {
        let all = self.addresses.get(&index).into_iter().flatten();
        let hangs = move |(other, length): &(IpAddr, u8), secondary: &bool| {
            *secondary && *length == prefix && in_network(*other, address, prefix)
        };
        all.filter(move |(key, secondary)| hangs(key, secondary)).map(|((other, _), _)| *other)
    }

    /// Whether an address is on an interface's own network, so that its MAC can be known there.
    pub fn on_link(&self, index: u32, address: IpAddr) -> bool {
        let mut all = self.addresses.get(&index).into_iter().flatten();
        all.any(|((own, prefix), _)| in_network(address, *own, *prefix))
    }
}

/// Whether an address is in the network of another one.
fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn read_link(message: &LinkMessage) -> Option<Link> {
    let (mut name, mut mac, mut parent, mut macvlan) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                macvlan = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::MacVlan)));
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    Some(Link {
        name: name?,
        mac,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
        macvlan_on: parent.filter(|_| macvlan),
    })
}

/// The interface's own address in a message (of a point-to-point one, not the peer's), its prefix length, and
/// whether it is secondary.
fn read_address(message: &AddressMessage) -> Option<((IpAddr, u8), bool)> {
    let (address, flags) = own_address(message)?;
    // IPv6 has no secondary addresses: there, the same bit says "temporary".
    let secondary = address.is_ipv4() && flags.contains(AddressFlags::Secondary);
    Some(((address, message.header.prefix_len), secondary))
}
