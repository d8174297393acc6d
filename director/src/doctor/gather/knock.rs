//! Tries VIPs at single real servers: a SYN to the VIP in a frame to the real server's MAC, the way of a client's packet. A
//! machine that holds the VIP accepts or refuses; one that does not says nothing. Connections are not made: what is accepted
//! is reset at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::tcp::{self, MutableTcpPacket, TcpFlags, TcpPacket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::super::facts::{Facts, Knock, Link, Way};
use crate::neighbours::interfaces::range;
use crate::neighbours::packet::Sender;
use crate::neighbours::wire::Mac;

/// The first source port. Above those that Linux gives to connections (ip_local_port_range ends at 60999).
const FIRST_PORT: u16 = 61_001;
/// The most machines that are tried for one real server: who is found to be several of them is named anyhow. With the most pairs
/// that are tried, there is a source port for each connection.
const MOST_MACHINES: usize = 2;
/// How often a SYN is sent, and how long an answer may take each time.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_millis(250);
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
/// The longest packet that is read, in bytes: headers are all that counts.
const PACKET_LEN: usize = 256;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HEADER_LEN: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_HALF_BEHIND: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Passes TCP to one of our ports: a director sees much else.
const OURS_V4: [SockFilter; 7] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 9),
    SockFilter::new(JUMP_EQUAL, 0, 4, 6),
    SockFilter::new(LOAD_HEADER_LEN, 0, 0, 0),
    SockFilter::new(LOAD_HALF_BEHIND, 0, 0, 2),
    SockFilter::new(JUMP_AT_LEAST, 0, 1, FIRST_PORT as u32),
    SockFilter::new(RETURN, 0, 0, PACKET_LEN as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];
const OURS_V6: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 6),
    SockFilter::new(JUMP_EQUAL, 0, 3, 6),
    SockFilter::new(LOAD_HALF, 0, 0, IPV6_LEN as u32 + 2),
    SockFilter::new(JUMP_AT_LEAST, 0, 1, FIRST_PORT as u32),
    SockFilter::new(RETURN, 0, 0, PACKET_LEN as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];

/// A connection that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Door {
    index: u32,
    mac: Mac,
    source: IpAddr,
    source_port: u16,
    target: IpAddr,
    port: u16,
}

/// What is sent and heard by.
struct Sockets {
    sender: Sender,
    receivers: [Socket; 2],
}

/// Tries each VIP at its real server, and where nothing is said, the real server's own address: at each machine that answers
/// for that address, for it is not known which one is the right one. Real servers that are not on the link, or whose MAC is not
/// known, are left out.
pub(super) fn knock(facts: &Facts, pairs: &[(IpAddr, IpAddr, u16)]) -> io::Result<Vec<Knock>> {
    let sockets = Sockets::open()?;
    let mut ports = FIRST_PORT..=u16::MAX;
    let mut door = |Knock { real, mac, port, .. }: Knock, target| {
        let Some(Some(Way { index, gateway: None })) = facts.ways.get(&real) else { return None };
        let source = source(facts.link_at(*index)?, real, |address| facts.is_vip(address))?;
        Some(Door { index: *index, mac, source, source_port: ports.next()?, target, port })
    };
    let vips: Vec<(Knock, Door)> = machines(facts, pairs)
        .into_iter()
        .filter_map(|knock| Some((knock, door(knock, knock.vip)?)))
        .collect();
    let answered = sockets.try_all(vips.iter().map(|(_, door)| *door))?;
    let mut knocks: Vec<Knock> = vips
        .iter()
        .map(|(knock, door)| Knock { vip_answered: answered.contains(&door.source_port), ..*knock })
        .collect();
    let own: Vec<Option<Door>> =
        knocks.iter().map(|knock| if knock.vip_answered { None } else { door(*knock, knock.real) }).collect();
    let answered = sockets.try_all(own.iter().flatten().copied())?;
    for (knock, door) in knocks.iter_mut().zip(own) {
        knock.own_answered = door.is_some_and(|door| answered.contains(&door.source_port));
    }
    Ok(knocks)
}

/// The pairs, once for each machine that answers for the real server's address.
fn machines(facts: &Facts, pairs: &[(IpAddr, IpAddr, u16)]) -> Vec<Knock> {
    let at = |&(vip, real, port): &(IpAddr, IpAddr, u16)| {
        let index = match facts.ways.get(&real) {
            Some(Some(Way { index, gateway: None })) => Some(*index),
            _ => None,
        };
        let macs = index.into_iter().flat_map(move |index| facts.answers.of(index, real)).take(MOST_MACHINES);
        macs.map(move |mac| Knock { vip, real, mac, port, vip_answered: false, own_answered: false })
    };
    pairs.iter().flat_map(at).collect()
}

/// An address of an interface to ask a real server from: of its network if there is one. Never a VIP, which the real server
/// would take for its own.
fn source(link: &Link, real: IpAddr, is_vip: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let local = |address: IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let fits = |address: IpAddr| address.is_ipv4() == real.is_ipv4() && !is_vip(address) && !local(address);
    let all: Vec<(IpAddr, u8)> =
        link.addresses.iter().copied().filter(|(address, _)| fits(*address)).collect();
    let near = all.iter().find(|(address, prefix)| range(*address, *prefix).contains(&real));
    near.or(all.first()).map(|(address, _)| *address)
}

impl Sockets {
    fn open() -> io::Result<Sockets> {
        let receiver = |ethertype: i32, filter: &[SockFilter]| {
            // What comes in before there is a filter is told apart by its port.
            let protocol = Protocol::from(i32::from((ethertype as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
            socket.attach_filter(filter)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let receivers = [receiver(libc::ETH_P_IP, &OURS_V4)?, receiver(libc::ETH_P_IPV6, &OURS_V6)?];
        Ok(Sockets { sender: Sender::open()?, receivers })
    }

    /// Tries all, and says at which source ports there was an answer.
    fn try_all(&self, doors: impl Iterator<Item = Door>) -> io::Result<BTreeSet<u16>> {
        let doors: BTreeMap<u16, Door> = doors.map(|door| (door.source_port, door)).collect();
        let mut answered = BTreeSet::new();
        for _ in 0..TRIES {
            for door in doors.values().filter(|door| !answered.contains(&door.source_port)) {
                self.send(door, TcpFlags::SYN, 0)?;
            }
            let end = Instant::now() + PATIENCE;
            while answered.len() < doors.len() && self.wait(end)? {
                self.read_all(&doors, &mut answered)?;
            }
        }
        Ok(answered)
    }

    /// Waits until something can be read; says whether it can.
    fn wait(&self, end: Instant) -> io::Result<bool> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut waiting =
            self.receivers.each_ref().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        Ok(poll(&mut waiting, Some(&timeout))? > 0)
    }

    fn read_all(&self, doors: &BTreeMap<u16, Door>, answered: &mut BTreeSet<u16>) -> io::Result<()> {
        for (socket, parse) in self.receivers.iter().zip([parse_v4 as fn(&[u8]) -> Option<Answer>, parse_v6])
        {
            let mut buffer = [0; PACKET_LEN];
            loop {
                let length = match rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty())
                {
                    Ok((length, _)) => length,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                };
                let Some(answer) = parse(&buffer[..length]) else { continue };
                let Some(door) = doors.get(&answer.to) else { continue };
                if answer.from == (door.target, door.port) {
                    answered.insert(answer.to);
                    if answer.accepted {
                        self.send(door, TcpFlags::RST, answer.expects)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&self, door: &Door, flags: u8, sequence: u32) -> io::Result<()> {
        let sent = match (door.source, door.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let mut bytes = [0; IPV4_LEN + TCP_LEN];
                let mut ip = MutableIpv4Packet::new(&mut bytes).ok_or(io::ErrorKind::InvalidInput)?;
                ip.set_version(4);
                ip.set_header_length((IPV4_LEN / 4) as u8);
                ip.set_total_length((IPV4_LEN + TCP_LEN) as u16);
                // It is for the neighbour, and is not to be forwarded by one that does not hold the VIP.
                ip.set_ttl(1);
                ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
                ip.set_source(source);
                ip.set_destination(target);
                ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
                segment(&mut bytes[IPV4_LEN..], door, flags, sequence, |segment| {
                    tcp::ipv4_checksum(segment, &source, &target)
                });
                self.sender.ipv4(door.index, door.mac, &bytes)
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let mut bytes = [0; IPV6_LEN + TCP_LEN];
                let mut ip = MutableIpv6Packet::new(&mut bytes).ok_or(io::ErrorKind::InvalidInput)?;
                ip.set_version(6);
                ip.set_payload_length(TCP_LEN as u16);
                ip.set_hop_limit(1);
                ip.set_next_header(IpNextHeaderProtocols::Tcp);
                ip.set_source(source);
                ip.set_destination(target);
                segment(&mut bytes[IPV6_LEN..], door, flags, sequence, |segment| {
                    tcp::ipv6_checksum(segment, &source, &target)
                });
                self.sender.ipv6(door.index, door.mac, &bytes)
            }
            _ => return Ok(()),
        };
        match sent {
            // A full queue, or an interface that went down: the next try, or silence, says so.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }
}

fn segment(
    bytes: &mut [u8],
    door: &Door,
    flags: u8,
    sequence: u32,
    checksum: impl Fn(&TcpPacket<'_>) -> u16,
) {
    let Some(mut segment) = MutableTcpPacket::new(bytes) else { return };
    segment.set_source(door.source_port);
    segment.set_destination(door.port);
    segment.set_sequence(sequence);
    segment.set_data_offset((TCP_LEN / 4) as u8);
    segment.set_flags(flags);
    segment.set_window(1024);
    let checksum = checksum(&segment.to_immutable());
    segment.set_checksum(checksum);
}

/// What was said to a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    from: (IpAddr, u16),
    /// Our port.
    to: u16,
    /// A SYN came back, and is to be reset.
    accepted: bool,
    /// The sequence number that is expected of us.
    expects: u32,
}

fn parse_v4(bytes: &[u8]) -> Option<Answer> {
    let ip = Ipv4Packet::new(bytes)?;
    (ip.get_next_level_protocol() == IpNextHeaderProtocols::Tcp).then_some(())?;
    let start = usize::from(ip.get_header_length()) * 4;
    answer(ip.get_source().into(), bytes.get(start..)?)
}

fn parse_v6(bytes: &[u8]) -> Option<Answer> {
    let ip = Ipv6Packet::new(bytes)?;
    (ip.get_next_header() == IpNextHeaderProtocols::Tcp).then_some(())?;
    answer(ip.get_source().into(), bytes.get(IPV6_LEN..)?)
}

fn answer(from: IpAddr, bytes: &[u8]) -> Option<Answer> {
    let segment = TcpPacket::new(bytes)?;
    let flags = segment.get_flags();
    let accepted = flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN | TcpFlags::ACK;
    (accepted || flags & TcpFlags::RST != 0).then(|| Answer {
        from: (from, segment.get_source()),
        to: segment.get_destination(),
        accepted,
        expects: segment.get_acknowledgement(),
    })
}
