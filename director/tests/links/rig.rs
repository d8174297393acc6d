//! Namespaces with links in them.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use director::heartbeat::transport::{Change, Links};
use director::model::heartbeat::{Link, Member};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// From one try to the next, where a message may be lost.
pub const AGAIN: Duration = Duration::from_millis(20);

pub const PORT: u16 = 694;

/// A network namespace that goes when this does.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let name = format!("nb{}-{}-link", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs an `ip` command inside.
    pub fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.0));
    }

    /// Runs a function inside.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
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
    pub fn open(&self, members: &[Member], place: usize) -> (Links, Vec<Change>) {
        self.inside(|| Links::open(&members[place], members))
    }

    /// Opens the links of a member, all of which work.
    pub fn working(&self, members: &[Member], place: usize) -> Links {
        let (links, problems) = self.open(members, place);
        assert_eq!(problems, []);
        links
    }

    pub fn repair(&self, links: &mut Links) -> Vec<Option<String>> {
        self.inside(|| problems(links.repair()))
    }

    pub fn socket(&self, address: &str) -> UdpSocket {
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

pub fn problems(changes: Vec<Change>) -> Vec<Option<String>> {
    changes.into_iter().map(|change| change.problem).collect()
}

/// Members with one link each.
pub fn members(links: impl IntoIterator<Item = Link>) -> Vec<Member> {
    let links = links.into_iter().enumerate();
    links
        .map(|(place, link)| Member { name: format!("d{place}"), priority: 100, links: vec![link] })
        .collect()
}

pub fn udp(addresses: &[&str]) -> Vec<Member> {
    members(addresses.iter().map(|ip| Link::Udp(SocketAddr::new(ip.parse().expect("an address"), PORT))))
}

/// Waits until the first link has something to read, for at most so long.
pub fn readable(links: &Links, time: Duration) -> bool {
    let fd = links.descriptors().next().expect("an open link").fd;
    let time = Timespec::try_from(time).expect("a short time");
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).expect("polling") > 0
}

/// What has come by the first link.
pub fn heard(links: &mut Links) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while links.receive(0, &mut |message| messages.push(message.to_vec())) {}
    messages
}

/// What comes by the first link next.
pub fn hear(links: &mut Links) -> Vec<Vec<u8>> {
    assert!(readable(links, DEADLINE), "nothing came: {:?}", links.status(0));
    heard(links)
}

/// Sends until it is heard.
pub fn until_heard(sender: &mut Links, receiver: &mut Links, message: &[u8]) {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        sender.send(0, message);
        if readable(receiver, AGAIN) && heard(receiver).iter().any(|heard| heard == message) {
            return;
        }
    }
    panic!("not heard: {:?}, {:?}", sender.status(0), receiver.status(0));
}
