//! The kernel's messages about links, addresses, neighbours and routes, as what the table understands. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::hop::{HopKey, KernelNeighbour, Route};
use super::interfaces::{Address, Interfaces, Link};
use super::wire::{Mac, is_unicast};

/// Something changed in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface is this now; `None`: it is gone.
    Link(u32, Option<Link>),
    /// An interface has an address.
    Address(u32, Address),
    /// An interface lost an address.
    AddressGone(u32, Address),
    /// A neighbour is this now; `None`: it has no MAC.
    Neighbour(HopKey, Option<KernelNeighbour>),
    /// Routes to a network came, went or changed.
    Routes {
        /// An address of the network.
        network: IpAddr,
        /// Length of its prefix, in bits.
        prefix: u8,
    },
    /// All routes may have changed.
    AllRoutes,
}

/// What a message says; `None` where it is nothing to us.
pub fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            // A bridge's port is also announced as a member of its bridge.
            let whole = link.header.interface_family == AddressFamily::Unspec;
            whole.then(|| Event::Link(link.header.index, Some(read_link(link))))
        }
        RouteNetlinkMessage::DelLink(link) => {
            let whole = link.header.interface_family == AddressFamily::Unspec;
            whole.then_some(Event::Link(link.header.index, None))
        }
        RouteNetlinkMessage::NewAddress(message) => {
            Some(Event::Address(message.header.index, read_address(message)?))
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Some(Event::AddressGone(message.header.index, read_address(message)?))
        }
        RouteNetlinkMessage::NewNeighbour(message) => {
            let (key, neighbour) = read_neighbour(message)?;
            Some(Event::Neighbour(key, neighbour))
        }
        RouteNetlinkMessage::DelNeighbour(message) => {
            Some(Event::Neighbour(read_neighbour(message)?.0, None))
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            Some(read_network(route))
        }
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::AllRoutes),
        _ => None,
    }
}

/// A dump of links and addresses.
pub fn interfaces(messages: &[RouteNetlinkMessage]) -> Interfaces {
    let mut interfaces = Interfaces::default();
    for message in messages {
        match event(message) {
            Some(Event::Link(ifindex, link)) => _ = interfaces.set_link(ifindex, link),
            Some(Event::Address(ifindex, address)) => _ = interfaces.add_address(ifindex, address),
            _ => {}
        }
    }
    interfaces
}

/// A dump of neighbours: those that have a MAC.
pub fn neighbours(messages: &[RouteNetlinkMessage]) -> HashMap<HopKey, KernelNeighbour> {
    let known = messages.iter().filter_map(|message| match event(message) {
        Some(Event::Neighbour(key, neighbour)) => Some((key, neighbour?)),
        _ => None,
    });
    known.collect()
}

/// The way to `address` in the kernel's answer; `None` where packets do not leave this box for a neighbour.
pub fn route(address: IpAddr, message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut ifindex = None;
    let mut gateway = None;
    let mut preferred_source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            // An IPv4 route may have an IPv6 gateway (RFC 5549).
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(IpAddr::V4(*address)),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(IpAddr::V6(*address)),
            RouteAttribute::PrefSource(address) => preferred_source = ip(address),
            _ => {}
        }
    }
    let hop = HopKey { ifindex: ifindex?, address: gateway.unwrap_or(address) };
    Some(Route { hop, preferred_source })
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    Link {
        mac,
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        resolves: !flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp),
    }
}

/// An interface's own address in a message, and all flags of it.
pub(crate) fn own_address(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    let mut address = None;
    let mut local = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            // On a point-to-point link, the other one is the peer's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags |= *all,
            _ => {}
        }
    }
    Some((local.or(address)?, flags))
}

fn read_address(message: &AddressMessage) -> Option<Address> {
    let (address, flags) = own_address(message)?;
    Some(Address {
        address,
        prefix: message.header.prefix_len,
        secondary: flags.contains(AddressFlags::Secondary),
        usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}

/// A neighbour's address and MAC, as far as a message names them.
pub(crate) fn address_and_mac(message: &NeighbourMessage) -> (Option<IpAddr>, Option<Mac>) {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    (address, mac)
}

fn read_neighbour(message: &NeighbourMessage) -> Option<(HopKey, Option<KernelNeighbour>)> {
    let header = &message.header;
    let (address, mac) = address_and_mac(message);
    let key = HopKey { ifindex: header.ifindex, address: address? };
    let ours = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
        && !header.flags.contains(NeighbourFlags::Proxy);
    let resolved =
        !matches!(header.state, NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed);
    let fixed = matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp)
        || header.flags.contains(NeighbourFlags::ExtLearned);
    let mac = mac.filter(|mac| resolved && is_unicast(*mac));
    ours.then_some((key, mac.map(|mac| KernelNeighbour { mac, fixed })))
}

fn read_network(message: &RouteMessage) -> Event {
    let network = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    match network {
        Some(network) => Event::Routes { network, prefix: message.header.destination_prefix_length },
        // A default route; or one of a family that is none of ours.
        None => Event::AllRoutes,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
