//! Who says where an address is: ARP and neighbour advertisements as a host hears them.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::background::{Background, Stopped};
use crate::lab::Host;

/// At most so many are kept; what comes later is not.
const MOST_SIGHTINGS: usize = 100_000;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Hears what arrives at a host, on all its interfaces, until it is dropped. What the host itself sends is not heard.
#[derive(Debug)]
pub struct ArpWatch {
    seen: Arc<Mutex<Vec<Sighting>>>,
    _thread: Background<()>,
}

/// A message of ARP (RFC 826) or a neighbour advertisement (RFC 4861, 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it was heard.
    pub at: Instant,
    /// What it is.
    pub kind: Kind,
    /// The link-layer address that it gives for `ip`, written as `Host::mac` writes it. An advertisement without one stands
    /// for the frame's source.
    pub mac: String,
    /// The source of the frame.
    pub source: String,
    /// The sender's address; of an advertisement, the address that it is about.
    pub ip: IpAddr,
}

/// What a message wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ARP request for another's address.
    Request,
    /// An ARP reply, or a solicited advertisement.
    Reply,
    /// An ARP request or reply about its sender's own address (RFC 5227, 3), or an unsolicited advertisement.
    Gratuitous,
}

impl ArpWatch {
    /// Starts to listen.
    pub fn start(host: &Host) -> Result<ArpWatch> {
        let open = || Ok([packet_socket(ETHERTYPE_ARP)?, packet_socket(ETHERTYPE_IPV6)?]);
        let sockets = host.within(open).with_context(|| format!("cannot watch on {}", host.name()))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let thread = Background::start(move |stopped| watch(&sockets, stopped, &noted))?;
        Ok(ArpWatch { seen, _thread: thread })
    }

    /// What was heard up to now, the oldest first.
    pub fn seen(&self) -> Vec<Sighting> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was said of an address up to now.
    pub fn of(&self, ip: IpAddr) -> Vec<Sighting> {
        self.seen().into_iter().filter(|sighting| sighting.ip == ip).collect()
    }
}

/// A socket for one protocol hears what arrives, not what leaves (packet(7)).
fn packet_socket(ethertype: u16) -> Result<Socket> {
    let protocol = Protocol::from(i32::from(ethertype.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if ethertype == ETHERTYPE_IPV6 {
        // Under a load of IPv6, what we look for would not find room in the socket.
        socket.attach_filter(&only_advertisements())?;
    }
    Ok(socket)
}

/// Classic BPF: if the next header is ICMPv6 and its type that of an advertisement, the whole frame.
fn only_advertisements() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
        SockFilter::new(IF_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
        SockFilter::new(IF_EQUAL, 0, 1, ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

const ADVERTISEMENT: u8 = 136;

fn watch(sockets: &[Socket; 2], stopped: &Stopped, seen: &Mutex<Vec<Sighting>>) {
    let mut frame = [0; 2048];
    loop {
        let all = sockets.iter().map(AsFd::as_fd).chain([stopped.as_fd()]);
        let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if poll(&mut polled, None).is_err() {
            continue;
        }
        if !polled[sockets.len()].revents().is_empty() {
            return;
        }
        let now = Instant::now();
        for mut socket in sockets {
            // Both are nonblocking; an error (an interface went down) is gone once it was read.
            while let Ok(length) = socket.read(&mut frame) {
                let Some(sighting) = read_frame(&frame[..length], now) else { continue };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.len() < MOST_SIGHTINGS {
                    seen.push(sighting);
                }
            }
        }
    }
}

fn read_frame(frame: &[u8], at: Instant) -> Option<Sighting> {
    let (ethernet, payload) = frame.split_at_checked(14)?;
    let source = written(&ethernet[6..12]);
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        ETHERTYPE_ARP => read_arp(payload, source, at),
        ETHERTYPE_IPV6 => read_advertisement(payload, source, at),
        _ => None,
    }
}

fn read_arp(message: &[u8], source: String, at: Instant) -> Option<Sighting> {
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    if message.len() < 28 || message[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let (sender, target) = (&message[14..18], &message[24..28]);
    let kind = match message[7] {
        _ if sender == target => Kind::Gratuitous,
        1 => Kind::Request,
        2 => Kind::Reply,
        _ => return None,
    };
    let ip = Ipv4Addr::from(<[u8; 4]>::try_from(sender).ok()?).into();
    Some(Sighting { at, kind, mac: written(&message[8..14]), source, ip })
}

fn read_advertisement(packet: &[u8], source: String, at: Instant) -> Option<Sighting> {
    const SOLICITED: u8 = 0x40;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    let (header, message) = packet.split_at_checked(40)?;
    if header[6] != 58 || message.len() < 24 || message[0] != ADVERTISEMENT {
        return None;
    }
    let kind = if message[4] & SOLICITED == 0 { Kind::Gratuitous } else { Kind::Reply };
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&message[8..24]).ok()?).into();
    // The one option that advertisements are sent with.
    let option = message.get(24..32).filter(|option| option[..2] == TARGET_LINK_LAYER_ADDRESS);
    let mac = option.map_or_else(|| source.clone(), |option| written(&option[2..]));
    Some(Sighting { at, kind, mac, source, ip })
}

fn written(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const FRAME_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn read(ethertype: u16, payload: &[u8]) -> Option<(Kind, String, String, String)> {
        let frame = [&[0xff; 6], &FRAME_MAC[..], &ethertype.to_be_bytes(), payload].concat();
        let sighting = read_frame(&frame, Instant::now())?;
        Some((sighting.kind, sighting.mac, sighting.source, sighting.ip.to_string()))
    }

    fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4, 0, operation], &MAC[..], &sender, &[0; 6], &target].concat()
    }

    fn kind_of(payload: &[u8]) -> Option<Kind> {
        read(ETHERTYPE_ARP, payload).map(|read| read.0)
    }

    #[test]
    fn arp_is_read() {
        let (vip, client) = ([192, 0, 2, 10], [192, 0, 2, 100]);
        let (mac, source) = ("02:00:00:00:00:01".to_owned(), "02:00:00:00:00:09".to_owned());
        let read = read(ETHERTYPE_ARP, &arp(2, vip, client));
        assert_eq!(read, Some((Kind::Reply, mac, source, "192.0.2.10".to_owned())));
        assert_eq!(kind_of(&arp(1, vip, client)), Some(Kind::Request));
        assert_eq!(kind_of(&arp(1, vip, vip)), Some(Kind::Gratuitous));
        assert_eq!(kind_of(&arp(2, vip, vip)), Some(Kind::Gratuitous));
        assert_eq!((kind_of(&arp(3, vip, client)), kind_of(&arp(1, vip, client)[..27])), (None, None));
    }

    #[test]
    fn advertisements_are_read() {
        let target: [u8; 16] = "2001:db8::10".parse::<Ipv6Addr>().unwrap().octets();
        let packet = |flags: u8, option: &[u8]| {
            let header = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &[0; 32]].concat();
            [&header[..], &[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0], &target, option].concat()
        };
        let option = [&[2, 1], &MAC[..]].concat();
        let (kind, mac, source, ip) = read(ETHERTYPE_IPV6, &packet(0x20, &option)).unwrap();
        assert_eq!((kind, &mac[..], &ip[..]), (Kind::Gratuitous, "02:00:00:00:00:01", "2001:db8::10"));
        assert_eq!(source, "02:00:00:00:00:09");
        let (kind, mac, ..) = read(ETHERTYPE_IPV6, &packet(0x60, &[])).unwrap();
        assert_eq!((kind, &mac[..]), (Kind::Reply, "02:00:00:00:00:09"));
        assert_eq!(read(ETHERTYPE_IPV6, &packet(0x60, &[])[..60]), None);
    }
}
