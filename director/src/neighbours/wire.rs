//! ARP requests and neighbour solicitations, what answers them, and announcements that nobody asked for, as
//! bytes. Pure; what it reads comes from the network.
//!
//! Both kinds are built and read from the network layer on: the packet sockets add and take off the Ethernet
//! header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::EtherTypes;
use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::{MutablePacket, Packet};
use pnet::util::MacAddr;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The Ethernet broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// Length of an ARP packet for IPv4 over Ethernet, in bytes (RFC 826).
pub const ARP_LEN: usize = 28;

/// Length of a neighbour solicitation with its IPv6 header and one option, in bytes (RFC 4861, 4.3).
pub const SOLICITATION_LEN: usize = IPV6_HEADER_LEN + SOLICITATION_HEADER_LEN + LINK_LAYER_OPTION_LEN;

/// Length of an unsolicited neighbour advertisement with its IPv6 header and one option, in bytes (RFC 4861,
/// 4.4).
pub const ADVERTISEMENT_LEN: usize = SOLICITATION_LEN;

/// All nodes of a link (RFC 4291, 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IPV6_HEADER_LEN: usize = 40;
const SOLICITATION_HEADER_LEN: usize = 24;
const LINK_LAYER_OPTION_LEN: usize = 8;

/// Options of neighbour discovery (RFC 4861, 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The hop limit that proves a packet of neighbour discovery crossed no router (RFC 4861, 7.1).
const NDP_HOP_LIMIT: u8 = 255;

/// Flag of a neighbour advertisement: it answers a solicitation (RFC 4861, 4.4).
const SOLICITED: u8 = 0x40;

/// Flag of a neighbour advertisement: its sender is a router (RFC 4861, 4.4).
const ROUTER: u8 = 0x80;

/// Flag of a neighbour advertisement: it overrides what is known (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;

/// What a packet says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address that is claimed.
    pub address: IpAddr,
    /// By which MAC. `None`: an answer to a unicast solicitation that names none, which an advertisement may
    /// leave out then, as Linux does; it confirms the MAC that was asked (RFC 4861, 7.2.4).
    pub mac: Option<Mac>,
}

/// Whether a MAC can be a next hop's: not a group's, not all zeros.
pub fn is_unicast(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// An ARP request for `target` (RFC 826). A `source` of 0.0.0.0 makes it a probe that enters no cache (RFC
/// 5227).
pub fn arp_request(source_mac: Mac, source: Ipv4Addr, target: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut bytes = [0; ARP_LEN];
    if let Some(mut arp) = MutableArpPacket::new(&mut bytes) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(MacAddr::from(source_mac));
        arp.set_sender_proto_addr(source);
        arp.set_target_proto_addr(target);
    }
    bytes
}

/// An ARP announcement: `mac` has `address` (RFC 5227, 2.3). Only its request form exists here. RFC 5227, 3
/// says why that is the better one: every implementation reads requests, while some take a reply that answers
/// nothing for an attack. Linux takes both, and a request of this form it believes at once, where it may hold a
/// reply back (`locktime` in net/ipv4/arp.c).
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> [u8; ARP_LEN] {
    arp_request(mac, address, address)
}

/// What an ARP packet says of its sender: replies, and requests too, for a gratuitous one may be either (RFC
/// 5944, 4.6), and a request says where its sender is (RFC 826).
pub fn parse_arp(bytes: &[u8]) -> Option<Claim> {
    let arp = ArpPacket::new(bytes)?;
    let known = [ArpOperations::Request, ArpOperations::Reply].contains(&arp.get_operation());
    let ethernet = arp.get_hardware_type() == ArpHardwareTypes::Ethernet && arp.get_hw_addr_len() == 6;
    let ipv4 = arp.get_protocol_type() == EtherTypes::Ipv4 && arp.get_proto_addr_len() == 4;
    let sender = arp.get_sender_proto_addr();
    let mac = arp.get_sender_hw_addr().octets();
    (known && ethernet && ipv4 && !sender.is_unspecified() && is_unicast(mac))
        .then_some(Claim { address: sender.into(), mac: Some(mac) })
}

/// A neighbour solicitation for `target` to `destination`: the target itself, or its group
/// ([`solicited_node`]).
pub fn neighbour_solicitation(
    source_mac: Mac,
    source: Ipv6Addr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
) -> [u8; SOLICITATION_LEN] {
    discovery(source, destination, |body| fill_solicitation(body, source_mac, source, target, destination))
}

/// An advertisement that answers nothing: `mac` has `address` (RFC 4861, 7.2.6), to [`ALL_NODES`] or one of
/// them. It overrides what is known, and comes from the address that it is about, for an interface with a MAC
/// of its own need not have any other. `router` is what the kernel says of itself in its answers: a host takes
/// its default route away from a router that ceases to be one (7.2.5).
pub fn unsolicited_advertisement(
    mac: Mac,
    address: Ipv6Addr,
    destination: Ipv6Addr,
    router: bool,
) -> [u8; ADVERTISEMENT_LEN] {
    discovery(address, destination, |body| {
        set_option(body, TARGET_LINK_LAYER_ADDRESS, mac);
        let Some(mut advertisement) = MutableNeighborAdvertPacket::new(body) else { return };
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(if router { ROUTER | OVERRIDE } else { OVERRIDE });
        advertisement.set_target_addr(address);
        let checksum = Icmpv6Packet::new(advertisement.packet())
            .map_or(0, |packet| icmpv6::checksum(&packet, &address, &destination));
        advertisement.set_checksum(checksum);
    })
}

/// A packet of neighbour discovery with one option; `fill` writes what follows the IPv6 header.
fn discovery(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    fill: impl FnOnce(&mut [u8]),
) -> [u8; SOLICITATION_LEN] {
    let mut bytes = [0; SOLICITATION_LEN];
    if let Some(mut ip) = MutableIpv6Packet::new(&mut bytes) {
        ip.set_version(6);
        ip.set_payload_length((SOLICITATION_HEADER_LEN + LINK_LAYER_OPTION_LEN) as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(NDP_HOP_LIMIT);
        ip.set_source(source);
        ip.set_destination(destination);
        fill(ip.payload_mut());
    }
    bytes
}

/// Solicitations and advertisements are equally long up to their options.
fn set_option(bytes: &mut [u8], kind: u8, mac: Mac) {
    let option = &mut bytes[SOLICITATION_HEADER_LEN..];
    option[0] = kind;
    option[1] = (LINK_LAYER_OPTION_LEN / 8) as u8;
    option[2..].copy_from_slice(&mac);
}

fn fill_solicitation(
    bytes: &mut [u8],
    source_mac: Mac,
    source: Ipv6Addr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
) {
    set_option(bytes, SOURCE_LINK_LAYER_ADDRESS, source_mac);
    let Some(mut solicitation) = MutableNeighborSolicitPacket::new(bytes) else { return };
    solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
    solicitation.set_target_addr(target);
    let checksum = Icmpv6Packet::new(solicitation.packet())
        .map_or(0, |packet| icmpv6::checksum(&packet, &source, &destination));
    solicitation.set_checksum(checksum);
}

/// The multicast group in which the owner of an address listens for solicitations (RFC 4291, 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast group (RFC 2464, 7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// What a neighbour advertisement says of its target, if it is valid (RFC 4861, 7.1.2). `bytes` begin with
/// the IPv6 header.
pub fn parse_advertisement(bytes: &[u8]) -> Option<Claim> {
    let ip = Ipv6Packet::new(bytes)?;
    let end = IPV6_HEADER_LEN + usize::from(ip.get_payload_length());
    let body = bytes.get(IPV6_HEADER_LEN..end)?;
    let from_link = ip.get_version() == 6
        && ip.get_hop_limit() == NDP_HOP_LIMIT
        && ip.get_next_header() == IpNextHeaderProtocols::Icmpv6;
    let icmp = Icmpv6Packet::new(body)?;
    let checksum = icmpv6::checksum(&icmp, &ip.get_source(), &ip.get_destination());
    let advertisement = NeighborAdvertPacket::new(body)?;
    let valid = from_link
        && icmp.get_icmpv6_type() == Icmpv6Types::NeighborAdvert
        && icmp.get_icmpv6_code().0 == 0
        && icmp.get_checksum() == checksum;
    let target = advertisement.get_target_addr();
    let solicited = advertisement.get_flags() & SOLICITED != 0;
    if !valid || target.is_multicast() || (solicited && ip.get_destination().is_multicast()) {
        return None;
    }
    let mac = target_link_layer_address(&body[NeighborSolicitPacket::minimum_packet_size()..])?;
    // Without an address, only an answer to a question of ours says anything.
    (solicited || mac.is_some()).then_some(Claim { address: target.into(), mac })
}

/// The target's link-layer address among the options; the outer `None` is a malformed packet. By hand: pnet
/// computes an option's length in 8 bits, which overflows at 32 units.
fn target_link_layer_address(mut options: &[u8]) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        let (option, rest) = options.split_at(length);
        if kind == TARGET_LINK_LAYER_ADDRESS && length == LINK_LAYER_OPTION_LEN {
            let mac: Mac = option[2..].try_into().ok()?;
            found = Some(is_unicast(mac).then_some(mac)?);
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}
