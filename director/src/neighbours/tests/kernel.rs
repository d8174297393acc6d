use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::hop::{HopKey, KernelNeighbour, Route};
use super::super::kernel::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn neighbour(state: NeighbourState, flags: NeighbourFlags) -> Option<Event> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 2;
    message.header.state = state;
    message.header.flags = flags;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(ip("10.0.0.2"))));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
    event(&RouteNetlinkMessage::NewNeighbour(message))
}

#[test]
fn a_neighbours_state_says_what_its_mac_is_worth() {
    let key = HopKey { ifindex: 2, address: ip("10.0.0.2") };
    let known = |fixed| Some(Event::Neighbour(key, Some(KernelNeighbour { mac: MAC, fixed })));
    let none = NeighbourFlags::empty();
    assert_eq!(neighbour(NeighbourState::Reachable, none), known(false));
    assert_eq!(neighbour(NeighbourState::Stale, none), known(false));
    assert_eq!(neighbour(NeighbourState::Permanent, none), known(true));
    assert_eq!(neighbour(NeighbourState::Stale, NeighbourFlags::ExtLearned), known(true));
    assert_eq!(neighbour(NeighbourState::Failed, none), Some(Event::Neighbour(key, None)));
    assert_eq!(neighbour(NeighbourState::Reachable, NeighbourFlags::Proxy), None);
}

#[test]
fn a_route_leads_to_the_gateway_or_the_address_itself() {
    let mut message = RouteMessage::default();
    message.header.kind = RouteType::Unicast;
    assert_eq!(route(ip("10.0.0.2"), &message), None, "no interface");
    message.attributes.push(RouteAttribute::Oif(2));
    message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(ip("10.0.0.1"))));
    let to = |address| {
        Some(Route {
            hop: HopKey { ifindex: 2, address: ip(address) },
            preferred_source: Some(ip("10.0.0.1")),
        })
    };
    assert_eq!(route(ip("10.0.0.2"), &message), to("10.0.0.2"));
    let mut through = message.clone();
    through.attributes.push(RouteAttribute::Gateway(RouteAddress::from(ip("10.0.0.254"))));
    assert_eq!(route(ip("192.0.2.1"), &through), to("10.0.0.254"));
    let mut through = message.clone();
    through.attributes.push(RouteAttribute::Via(RouteVia::from(ip("fe80::1"))));
    assert_eq!(route(ip("192.0.2.1"), &through), to("fe80::1"));
    message.header.kind = RouteType::Local;
    assert_eq!(route(ip("10.0.0.1"), &message), None);
}

#[test]
fn a_change_of_routes_names_the_network() {
    let mut message = RouteMessage::default();
    assert_eq!(
        event(&RouteNetlinkMessage::DelRoute(message.clone())),
        Some(Event::AllRoutes),
        "the default route"
    );
    message.header.destination_prefix_length = 8;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(ip("10.0.0.0"))));
    let expected = Event::Routes { network: ip("10.0.0.0"), prefix: 8 };
    assert_eq!(event(&RouteNetlinkMessage::NewRoute(message)), Some(expected));
}
