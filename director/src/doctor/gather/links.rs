//! Interfaces, as the kernel's netlink, its /proc and its drivers tell of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::facts::{Link, Xdp};
use super::ethtool::{Ethtool, XdpFeatures};
use crate::dataplane;
use crate::neighbours::kernel::own_address;
use crate::neighbours::wire::Mac;

/// What the kernel calls the merging of frames by the card (net/ethtool/common.c).
const HARDWARE_GRO: &str = "rx-gro-hw";

/// All interfaces that these messages tell of.
pub(super) fn links(messages: &[RouteNetlinkMessage], pins: &Path) -> Vec<Link> {
    let mut links: BTreeMap<u32, Link> = BTreeMap::new();
    let mut vlans: HashMap<u32, String> = HashMap::new();
    for message in messages {
        match message {
            // A bridge's port is also announced as a member of its bridge.
            RouteNetlinkMessage::NewLink(message)
                if message.header.interface_family == AddressFamily::Unspec =>
            {
                let (link, parent) = read(message);
                vlans.extend(parent.map(|parent| (parent, link.name.clone())));
                links.insert(link.index, link);
            }
            RouteNetlinkMessage::NewAddress(message) => {
                if let (Some((address, _)), Some(link)) =
                    (own_address(message), links.get_mut(&message.header.index))
                {
                    link.addresses.push((address, message.header.prefix_len));
                }
            }
            _ => {}
        }
    }
    let (ethtool, features) = (Ethtool::open(), XdpFeatures::open());
    let of_all = rp_filter("all");
    for link in links.values_mut() {
        link.vlan = vlans.get(&link.index).cloned();
        link.rp_filter = rp_filter(&link.name).max(of_all);
        link.pinned = dataplane::is_pinned(pins, &link.name);
        link.abilities = features.as_ref().and_then(|features| features.of(link.index));
        if let Some(ethtool) = &ethtool {
            link.driver = ethtool.driver(&link.name);
            link.queues = ethtool.queues(&link.name);
            (link.lro, link.strips_vlan) = ethtool.offloads(&link.name);
            link.merges = ethtool.feature(&link.name, HARDWARE_GRO).unwrap_or(false);
        }
    }
    links.into_values().collect()
}

/// An interface; and where it is a VLAN, the index of the one that it is on.
fn read(message: &LinkMessage) -> (Link, Option<u32>) {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
        ..Link::default()
    };
    let (mut parent, mut vlan) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.clone(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::Address(bytes) => link.mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::LinkInfo(infos) => {
                vlan = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan)));
            }
            LinkAttribute::Xdp(all) => {
                link.xdp = all.iter().find_map(|one| match one {
                    LinkXdp::Attached(XdpAttached::None) => None,
                    LinkXdp::Attached(XdpAttached::Driver) => Some(Xdp::Native),
                    LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(Xdp::Generic),
                    LinkXdp::Attached(_) => Some(Xdp::Other),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (link, parent.filter(|_| vlan))
}

fn rp_filter(name: &str) -> u8 {
    let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
