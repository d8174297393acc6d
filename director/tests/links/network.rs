//! Links of datagrams, to one peer each and by multicast.

use std::net::SocketAddr;

use director::heartbeat::transport::{Links, MAX_AT_ONCE, MAX_MESSAGE};
use director::model::heartbeat::{Link, Member};
use socket2::{Domain, Socket, Type};

use crate::rig::{DEADLINE, Namespace, PORT, hear, heard, members, readable, udp, until_heard};

/// What is said while an address is missing.
const MISSING: &str = "this machine does not have the link's own address now, or no route from it";

#[test]
fn datagrams_reach_all_peers_and_no_stranger_is_heard() {
    for [one, two, three, stranger] in
        [["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9"], ["fd00::1", "fd00::2", "fd00::3", "fd00::9"]]
    {
        let namespace = Namespace::new();
        for ip in [one, two, three, stranger].iter().filter(|ip| ip.contains(':')) {
            namespace.ip(&format!("address add {ip}/128 dev lo nodad"));
        }
        let members = udp(&[one, two, three]);
        let mut links: Vec<Links> = (0..3).map(|place| namespace.working(&members, place)).collect();
        links[0].send(0, b"hello");
        assert_eq!(hear(&mut links[1]), [b"hello"]);
        assert_eq!(hear(&mut links[2]), [b"hello"]);
        assert_eq!(heard(&mut links[0]), [b""; 0], "its own");
        let to = link_address(&members[0]);
        let port = if to.is_ipv4() { format!("{stranger}:0") } else { format!("[{stranger}]:0") };
        namespace.socket(&port).send_to(b"let me in", to).expect("sent");
        links[1].send(0, b"me too");
        assert_eq!(hear(&mut links[0]), [b"me too"]);
        let status = links[0].status(0);
        assert_eq!((status.sent, status.send_errors, status.strangers), (2, 0, 1));
        assert_eq!(status.last_error, None);
        assert_eq!(status.name, format!("udp {to}"));
    }
}

#[test]
fn a_flood_does_not_hold_the_thread() {
    let namespace = Namespace::new();
    let members = udp(&["127.0.0.1", "127.0.0.2"]);
    let mut links = namespace.working(&members, 0);
    let stranger = namespace.socket("127.0.0.9:0");
    let peer = namespace.socket("127.0.0.2:0");
    for _ in 0..MAX_AT_ONCE + 1 {
        stranger.send_to(b"flood", ("127.0.0.1", PORT)).expect("sent");
    }
    peer.send_to(b"peer", ("127.0.0.1", PORT)).expect("sent");
    assert!(readable(&links, DEADLINE));
    assert!(links.receive(0, &mut |_| panic!("too early")), "there is more");
    assert_eq!(links.status(0).strangers, MAX_AT_ONCE as u64);
    assert_eq!(heard(&mut links), [b"peer"]);
}

#[test]
fn a_peer_that_is_not_there_is_no_error() {
    let namespace = Namespace::new();
    let members = udp(&["127.0.0.1", "127.0.0.2"]);
    let mut one = namespace.working(&members, 0);
    // Each is answered with "port unreachable".
    for _ in 0..100 {
        one.send(0, b"anybody?");
    }
    assert_eq!(heard(&mut one), [b""; 0]);
    let mut two = namespace.working(&members, 1);
    one.send(0, b"there");
    assert_eq!(hear(&mut two), [b"there"]);
    two.send(0, b"here");
    assert_eq!(hear(&mut one), [b"here"]);
    assert_eq!((one.status(0).sent, one.status(0).send_errors), (101, 0));
}

#[test]
fn an_address_may_come_later() {
    for (network, addresses) in [("24", ["10.9.0.1", "10.9.0.2"]), ("64", ["fd09::1", "fd09::2"])] {
        let [left, right] = [Namespace::new(), Namespace::new()];
        let members = udp(&addresses);
        let mut one = left.working(&members, 0);
        let mut two = right.working(&members, 1);
        one.send(0, b"too early");
        let status = one.status(0);
        assert_eq!((status.open, status.sent, status.send_errors), (true, 0, 1), "{status:?}");
        let missing = format!("sending to {}: {MISSING}", link_address(&members[1]));
        assert_eq!(status.last_error, Some(missing));
        wire(&left, &right, 10);
        left.ip(&format!("address add {}/{network} dev hb0", addresses[0]));
        right.ip(&format!("address add {}/{network} dev hb0", addresses[1]));
        until_heard(&mut one, &mut two, b"there");
        until_heard(&mut two, &mut one, b"here");
        assert_eq!(one.status(0).last_error, None);
        // It goes away and comes back.
        left.ip(&format!("address del {}/{network} dev hb0", addresses[0]));
        one.send(0, b"lost");
        assert!(one.status(0).open);
        left.ip(&format!("address add {}/{network} dev hb0", addresses[0]));
        until_heard(&mut one, &mut two, b"again");
        until_heard(&mut two, &mut one, b"as well");
    }
}

fn link_address(member: &Member) -> SocketAddr {
    match &member.links[0] {
        Link::Udp(address) => *address,
        Link::Multicast { .. } | Link::Serial { .. } => panic!("no address"),
    }
}

#[test]
fn says_that_an_address_is_missing_where_there_is_a_route() {
    let namespace = Namespace::new();
    let other = Namespace::new();
    wire(&namespace, &other, 10);
    namespace.ip("address add 10.9.0.7/24 dev hb0");
    let mut one = namespace.working(&udp(&["10.9.0.1", "10.9.0.2"]), 0);
    one.send(0, b"nothing");
    assert_eq!(one.status(0).last_error, Some(format!("sending to 10.9.0.2:694: {MISSING}")));
}

#[test]
fn nobody_takes_the_messages_of_an_open_link() {
    let namespace = Namespace::new();
    let members = udp(&["127.0.0.1", "127.0.0.2"]);
    let sharing = |address: &str| {
        let address: SocketAddr = address.parse().expect("an address");
        namespace.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            socket.set_reuse_address(true).expect("sharing");
            socket.bind(&address.into()).map(|()| socket)
        })
    };
    let _all = sharing("0.0.0.0:694").expect("all addresses");
    let mut links = namespace.working(&members, 0);
    assert!(sharing("127.0.0.1:694").is_err(), "that one would get the messages");
    namespace.socket("127.0.0.2:0").send_to(b"for the link", ("127.0.0.1", PORT)).expect("sent");
    assert_eq!(hear(&mut links), [b"for the link"]);
}

#[test]
fn an_address_in_use_is_a_problem_until_it_is_free() {
    let namespace = Namespace::new();
    let members = udp(&["127.0.0.1", "127.0.0.2"]);
    let other = namespace.socket("127.0.0.1:694");
    let (mut links, problems) = namespace.open(&members, 0);
    let words = "The heartbeat link udp 127.0.0.1:694 does not work: another program uses this address and port \
                 (ss -ulnp sport = :694 shows it). It is tried again.";
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [words]);
    assert_eq!(links.descriptors().count(), 0);
    links.send(0, b"nowhere");
    let status = links.status(0);
    assert_eq!((status.open, status.send_errors, status.last_error), (false, 1, problems[0].problem.clone()));
    assert_eq!(namespace.repair(&mut links), [], "told already");
    drop(other);
    assert_eq!(namespace.repair(&mut links), [None]);
    assert_eq!(namespace.repair(&mut links), []);
    assert!(links.status(0).open);
}

#[test]
fn a_message_that_is_too_long_is_refused_or_cut() {
    let namespace = Namespace::new();
    let members = udp(&["127.0.0.1", "127.0.0.2"]);
    let mut links = namespace.working(&members, 0);
    links.send(0, &[1; MAX_MESSAGE + 1]);
    assert_eq!((links.status(0).sent, links.status(0).send_errors), (0, 1));
    let peer = namespace.socket("127.0.0.2:0");
    peer.send_to(&[1; MAX_MESSAGE + 1], ("127.0.0.1", PORT)).expect("sent");
    assert_eq!(hear(&mut links), [[1; MAX_MESSAGE]]);
}

/// Connects two namespaces by interfaces `hb0` with this index.
fn wire(left: &Namespace, right: &Namespace, index: u32) {
    left.ip(&format!("link add hb0 index {index} type veth peer name hb0 index {index} netns {}", right.0));
    left.ip("link set hb0 up");
    right.ip("link set hb0 up");
}

/// Also gives them addresses of IPv4; they have some of IPv6 by themselves.
fn wire_addressed(left: &Namespace, right: &Namespace, index: u32) {
    wire(left, right, index);
    left.ip("address add 10.9.0.1/24 dev hb0");
    right.ip("address add 10.9.0.2/24 dev hb0");
}

#[test]
fn multicast_outlives_its_interface() {
    for group in ["239.0.0.43:694", "[ff02::694]:694", "[ff05::694]:694"] {
        let group: SocketAddr = group.parse().expect("a group");
        let [left, right] = [Namespace::new(), Namespace::new()];
        let members = members((0..2).map(|_| Link::Multicast { group, interface: "hb0".into(), ttl: 1 }));
        let (mut one, problems) = left.open(&members, 0);
        assert_eq!(problems[0].problem.as_deref(), Some("there is no interface hb0"), "{problems:?}");
        wire_addressed(&left, &right, 10);
        assert_eq!(left.repair(&mut one), [None]);
        let mut two = right.working(&members, 1);
        until_heard(&mut one, &mut two, b"hello");
        assert_eq!(heard(&mut one), [b""; 0], "its own");
        until_heard(&mut two, &mut one, b"hello yourself");
        assert_eq!(one.status(0).name, format!("multicast {group} on hb0"));

        // Away, and seen to be.
        left.ip("link del hb0");
        let gone = [Some("the interface hb0 went away".into()), Some("there is no interface hb0".into())];
        assert_eq!(left.repair(&mut one), gone);
        assert_eq!(left.repair(&mut one), []);
        assert!(!one.status(0).open);
        wire_addressed(&left, &right, 11);
        assert_eq!(left.repair(&mut one), [None]);
        assert_eq!(right.repair(&mut two), [gone[0].clone(), None]);
        until_heard(&mut one, &mut two, b"again");
        until_heard(&mut two, &mut one, b"again here");

        // Away and back with the same index before anyone looked: only sending has shown it.
        left.ip("link del hb0");
        one.send(0, b"lost");
        two.send(0, b"lost");
        assert!(one.status(0).send_errors > 0, "{:?}", one.status(0));
        wire_addressed(&left, &right, 11);
        assert_eq!(left.repair(&mut one), []);
        assert_eq!(right.repair(&mut two), []);
        until_heard(&mut one, &mut two, b"and again");
        until_heard(&mut two, &mut one, b"and again here");
    }
}

#[test]
fn multicast_hears_its_own_interface_only() {
    let [left, right] = [Namespace::new(), Namespace::new()];
    wire_addressed(&left, &right, 10);
    right.ip("link add other type veth peer name another");
    right.ip("link set other up");
    let group: SocketAddr = "239.0.0.43:694".parse().expect("a group");
    let on = |interface: &str| Link::Multicast { group, interface: interface.into(), ttl: 1 };
    let mut sender = left.working(&members([on("hb0")]), 0);
    let mut other = right.working(&members([on("other")]), 0);
    let mut receiver = right.working(&members([on("hb0")]), 0);
    until_heard(&mut sender, &mut receiver, b"on hb0");
    assert_eq!(heard(&mut other), [b""; 0]);
}
