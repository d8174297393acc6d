//! Heartbeat links over real sockets in network namespaces, and over pseudo terminals. Root only.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use director::heartbeat::transport::{Change, Links, MAX_AT_ONCE, MAX_MESSAGE};
use director::model::heartbeat::{Link, Member};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// From one try to the next, where a message may be lost.
const AGAIN: Duration = Duration::from_millis(20);

const PORT: u16 = 694;

/// What is said while an address is missing.
const MISSING: &str = "this machine does not have the link's own address now, or no route from it";

/// A network namespace that goes when this does.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let name = format!("hl{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs an `ip` command inside.
    fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.0));
    }

    /// Runs a function inside.
    fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        let enter = move || {
            let namespace = File::open(path).expect("the namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering it");
            function()
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).expect("no panic")
    }

    /// Opens the links of the member of this place.
    fn open(&self, members: &[Member], place: usize) -> (Links, Vec<Change>) {
        self.inside(|| Links::open(&members[place], members))
    }

    /// Opens the links of a member, all of which work.
    fn working(&self, members: &[Member], place: usize) -> Links {
        let (links, problems) = self.open(members, place);
        assert_eq!(problems, []);
        links
    }

    fn repair(&self, links: &mut Links) -> Vec<Option<String>> {
        self.inside(|| problems(links.repair()))
    }

    fn socket(&self, address: &str) -> UdpSocket {
        self.inside(|| UdpSocket::bind(address).expect("a socket"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Even while panicking: nothing to be done about a failure.
        _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn problems(changes: Vec<Change>) -> Vec<Option<String>> {
    changes.into_iter().map(|change| change.problem).collect()
}

/// Members with one link each.
fn members(links: impl IntoIterator<Item = Link>) -> Vec<Member> {
    let links = links.into_iter().enumerate();
    links
        .map(|(place, link)| Member { name: format!("d{place}"), priority: 100, links: vec![link] })
        .collect()
}

fn udp(addresses: &[&str]) -> Vec<Member> {
    members(addresses.iter().map(|ip| Link::Udp(SocketAddr::new(ip.parse().expect("an address"), PORT))))
}

/// Waits until the first link has something to read, for at most so long.
fn readable(links: &Links, time: Duration) -> bool {
    let fd = links.descriptors().next().expect("an open link").fd;
    let time = Timespec::try_from(time).expect("a short time");
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).expect("polling") > 0
}

/// What has come by the first link.
fn heard(links: &mut Links) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while links.receive(0, &mut |message| messages.push(message.to_vec())) {}
    messages
}

/// What comes by the first link next.
fn hear(links: &mut Links) -> Vec<Vec<u8>> {
    assert!(readable(links, DEADLINE), "nothing came: {:?}", links.status(0));
    heard(links)
}

/// Sends until it is heard.
fn until_heard(sender: &mut Links, receiver: &mut Links, message: &[u8]) {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        sender.send(0, message);
        if readable(receiver, AGAIN) && heard(receiver).iter().any(|heard| heard == message) {
            return;
        }
    }
    panic!("not heard: {:?}, {:?}", sender.status(0), receiver.status(0));
}

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

/// The far end of a line: what this director writes is read here.
struct Line {
    far: OwnedFd,
    path: PathBuf,
}

impl Line {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("line{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        Self { far: Self::plug(&path), path }
    }

    /// Makes the device and what stands at its far end.
    fn plug(path: &PathBuf) -> OwnedFd {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        rustix::io::ioctl_fionbio(&far, true).expect("not blocking");
        grantpt(&far).expect("granted");
        unlockpt(&far).expect("unlocked");
        let near = ptsname(&far, Vec::new()).expect("a name");
        _ = std::fs::remove_file(path);
        symlink(near.to_str().expect("text"), path).expect("a link");
        far
    }

    fn link(&self) -> Link {
        Link::Serial { device: self.path.clone(), baud: 19200 }
    }

    /// What was written and not read yet, at most so much.
    fn read(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let length = rustix::io::read(&self.far, &mut bytes[..]).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Writes all, for `links` to read, and returns what they found.
    fn write(&self, mut bytes: &[u8], links: &mut Links) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            bytes = &bytes[rustix::io::write(&self.far, bytes).unwrap_or(0)..];
            if readable(links, DEADLINE) {
                messages.extend(heard(links));
            }
        }
        messages
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Even while panicking: nothing to be done about a failure.
        _ = std::fs::remove_file(&self.path);
    }
}

/// Carries bytes from one end to the other until something is found there.
fn carry(from: &Line, sender: &mut Links, to: &Line, receiver: &mut Links) -> Vec<Vec<u8>> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        let mut ready = [PollFd::new(&from.far, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::try_from(AGAIN).expect("a short time"))).expect("polling");
        sender.flush(0);
        let messages = to.write(&from.read(4096), receiver);
        if !messages.is_empty() {
            return messages;
        }
    }
    panic!("nothing came: {:?}, {:?}", sender.status(0), receiver.status(0));
}

/// Two directors and their ends of the line.
fn line() -> ([Line; 2], [Links; 2]) {
    let lines = [Line::new(), Line::new()];
    let members = members(lines.iter().map(Line::link));
    let links = [0, 1].map(|place| {
        let (links, problems) = Links::open(&members[place], &members);
        assert_eq!(problems, []);
        links
    });
    (lines, links)
}

#[test]
fn a_line_carries_all_bytes_both_ways() {
    let (lines, [mut one, mut two]) = line();
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    one.send(0, &all);
    assert_eq!(carry(&lines[0], &mut one, &lines[1], &mut two), [&all[..]]);
    two.send(0, b"answer");
    assert_eq!(carry(&lines[1], &mut two, &lines[0], &mut one), [b"answer"]);
    assert_eq!(one.status(0).name, format!("serial {}", lines[0].path.display()));
}

#[test]
fn noise_on_a_line_spoils_no_later_message() {
    let (lines, [mut one, mut two]) = line();
    // A wrong escape within a frame.
    lines[1].write(b"\xc0noise\xdb\x01noise", &mut two);
    one.send(0, b"clear");
    assert_eq!(carry(&lines[0], &mut one, &lines[1], &mut two), [b"clear"]);
    assert_eq!(two.status(0).garbled, 1);
}

#[test]
fn a_slow_line_gets_the_newest_message() {
    let (lines, [mut one, mut two]) = line();
    const LAST: u32 = 5000;
    let message = |number: u32| [number.to_be_bytes().to_vec(), vec![0xc0; 200]].concat();
    for number in 0..=LAST {
        one.send(0, &message(number));
    }
    let status = one.status(0);
    assert!(status.replaced > 0, "{status:?}");
    assert_eq!(status.send_errors, 0);
    assert!(one.descriptors().next().expect("open").wants_write);
    let mut numbers = Vec::new();
    while numbers.last() != Some(&LAST) {
        for found in carry(&lines[0], &mut one, &lines[1], &mut two) {
            let number = u32::from_be_bytes(found[..4].try_into().expect("four bytes"));
            assert_eq!(found, message(number), "it is whole");
            numbers.push(number);
        }
    }
    assert!(numbers.is_sorted_by(|earlier, later| earlier < later), "{numbers:?}");
    let status = one.status(0);
    assert_eq!(numbers.len() as u64 + status.replaced, u64::from(LAST) + 1);
    assert_eq!(numbers.len() as u64, status.sent);
    assert_eq!(two.status(0).garbled, 0);
    assert!(!one.descriptors().next().expect("open").wants_write);
}

#[test]
fn a_line_that_hung_up_is_opened_again() {
    let ([mut left, right], [mut one, mut two]) = line();
    one.send(0, b"hello");
    assert_eq!(carry(&left, &mut one, &right, &mut two), [b"hello"]);
    // The device goes away: closing the far end is what hangs up.
    std::fs::remove_file(&left.path).expect("removed");
    left.far =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).expect("open");
    assert!(readable(&one, DEADLINE), "hanging up wakes");
    assert_eq!(heard(&mut one), [b""; 0]);
    assert!(!one.status(0).open);
    let gone = [Some("the device went away".into()), Some("there is no such device".into())];
    assert_eq!(problems(one.repair()), gone);
    assert_eq!(problems(one.repair()), []);
    left.far = Line::plug(&left.path);
    assert_eq!(problems(one.repair()), [None]);
    one.send(0, b"again");
    assert_eq!(carry(&left, &mut one, &right, &mut two), [b"again"]);
    two.send(0, b"again here");
    assert_eq!(carry(&right, &mut two, &left, &mut one), [b"again here"]);
}

#[test]
fn a_file_is_no_line() {
    let path = std::env::temp_dir().join(format!("file{}", std::process::id()));
    File::create(&path).expect("a file");
    let members = members([Link::Serial { device: path.clone(), baud: 19200 }]);
    let (_links, changes) = Links::open(&members[0], &members);
    std::fs::remove_file(path).expect("removed");
    assert_eq!(problems(changes), [Some("this is not a serial device".into())]);
}
