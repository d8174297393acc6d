//! Packets made by `etherparse`, with checksums worked out over the whole packet: what the program does by increments is held
//! against what somebody else's code makes from scratch.

use std::net::{IpAddr, SocketAddr};

use director::pool::NextHop;
use etherparse::{
    EtherType, Ethernet2Header, IpAuthHeader, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, TcpHeader, UdpHeader,
};

/// The interface's own MAC.
pub const OWN: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The MAC that clients' packets come from.
pub const CLIENT: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc1];
/// Sequence and acknowledgment numbers of every segment.
pub const SEQ: u32 = 0x0102_0304;
/// See [`SEQ`].
pub const ACK: u32 = 0xfffe_fdfc;

/// What a packet carries behind its IP header.
#[derive(Clone, Debug)]
pub enum Upper {
    /// TCP, by its header's flags; ports and checksum are filled in.
    Tcp(TcpHeader),
    /// UDP, with a checksum or (0) without.
    Udp {
        /// Whether there is one.
        checksum: bool,
    },
    /// Anything else, already in bytes.
    Other(IpNumber, Vec<u8>),
}

/// A packet in its parts.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Destination MAC.
    pub to_mac: [u8; 6],
    /// Source MAC.
    pub from_mac: [u8; 6],
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number and body (6 bytes, or 8 more each).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What names the datagram of a fragment.
    pub id: u16,
    /// What it carries.
    pub upper: Upper,
    /// What that carries.
    pub payload: Vec<u8>,
}

/// A socket address.
pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no socket address"))
}

fn packet(from: SocketAddr, to: SocketAddr, upper: Upper, payload: &[u8]) -> Packet {
    Packet {
        to_mac: OWN,
        from_mac: CLIENT,
        from,
        to,
        ttl: 57,
        options: Vec::new(),
        extensions: Vec::new(),
        id: 0x5aa5,
        upper,
        payload: payload.to_vec(),
    }
}

/// A TCP segment with flags by their letters: `S`, `A`, `F`, `R`, `P`.
pub fn tcp(from: SocketAddr, to: SocketAddr, flags: &str, payload: &[u8]) -> Packet {
    let mut header = TcpHeader::new(0, 0, SEQ, 0x1234);
    for flag in flags.chars() {
        match flag {
            'S' => header.syn = true,
            'A' => (header.ack, header.acknowledgment_number) = (true, ACK),
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            other => panic!("no TCP flag {other}"),
        }
    }
    packet(from, to, Upper::Tcp(header), payload)
}

/// A UDP datagram.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Packet {
    packet(from, to, Upper::Udp { checksum: true }, payload)
}

/// A client's segment to 192.0.2.1:80, from this port.
pub fn segment(port: u16, flags: &str) -> Vec<u8> {
    let mut packet = tcp(at("198.51.100.7:0"), at("192.0.2.1:80"), flags, b"");
    packet.from.set_port(port);
    packet.frame()
}

/// A packet of another protocol.
pub fn other(from: SocketAddr, to: SocketAddr, protocol: u8, payload: &[u8]) -> Packet {
    packet(from, to, Upper::Other(IpNumber(protocol), payload.to_vec()), &[])
}

/// An ARP message in a broadcast frame: 1 asks, 2 answers (RFC 826).
pub fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let [sender, target] = [sender, target].map(|text| v4(text.parse().expect("an address")));
    let head = [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation];
    [&[0xff; 6][..], &CLIENT, &head, &CLIENT, &sender, &[0; 6], &target].concat()
}

/// ICMPv6 of neighbour discovery (RFC 4861, 4): 135 asks for `about`, 136 speaks of it.
pub fn nd(kind: u8, from: &str, to: &str, about: &str) -> Packet {
    let [from, to, about] = [from, to, about].map(|text| text.parse::<IpAddr>().expect("an address"));
    let body = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &v6(about)].concat();
    Packet { ttl: 255, ..other(SocketAddr::new(from, 0), SocketAddr::new(to, 0), 58, &body) }
}

fn v4(addr: IpAddr) -> [u8; 4] {
    match addr {
        IpAddr::V4(addr) => addr.octets(),
        IpAddr::V6(addr) => panic!("{addr} in an IPv4 packet"),
    }
}

fn v6(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V6(addr) => addr.octets(),
        IpAddr::V4(addr) => panic!("{addr} in an IPv6 packet"),
    }
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    more: bool,
}

impl Packet {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let (protocol, segment) = self.segment();
        self.wrap(protocol, &segment, None)
    }

    /// The frame as two fragments, cut behind `at` bytes (a multiple of 8) of the TCP or UDP segment.
    pub fn fragments(&self, at: usize) -> [Vec<u8>; 2] {
        assert_eq!(at % 8, 0);
        let (protocol, segment) = self.segment();
        [
            self.wrap(protocol, &segment[..at], Some(Place { offset: 0, more: true })),
            self.wrap(protocol, &segment[at..], Some(Place { offset: at, more: false })),
        ]
    }

    /// The TCP or UDP segment, with its checksum.
    pub fn segment(&self) -> (IpNumber, Vec<u8>) {
        let mut bytes = Vec::new();
        let protocol = match &self.upper {
            Upper::Tcp(header) => {
                let mut header = header.clone();
                (header.source_port, header.destination_port) = (self.from.port(), self.to.port());
                header.checksum = match self.from.ip() {
                    IpAddr::V4(from) => {
                        header.calc_checksum_ipv4_raw(from.octets(), v4(self.to.ip()), &self.payload)
                    }
                    IpAddr::V6(from) => {
                        header.calc_checksum_ipv6_raw(from.octets(), v6(self.to.ip()), &self.payload)
                    }
                }
                .expect("a short payload");
                bytes.extend_from_slice(&header.to_bytes());
                IpNumber::TCP
            }
            Upper::Udp { checksum } => {
                let length = (UdpHeader::LEN + self.payload.len()) as u16;
                let (source_port, destination_port) = (self.from.port(), self.to.port());
                let mut header = UdpHeader { source_port, destination_port, length, checksum: 0 };
                if *checksum {
                    header.checksum = match self.from.ip() {
                        IpAddr::V4(from) => {
                            header.calc_checksum_ipv4_raw(from.octets(), v4(self.to.ip()), &self.payload)
                        }
                        IpAddr::V6(from) => {
                            header.calc_checksum_ipv6_raw(from.octets(), v6(self.to.ip()), &self.payload)
                        }
                    }
                    .expect("a short payload");
                }
                bytes.extend_from_slice(&header.to_bytes());
                IpNumber::UDP
            }
            Upper::Other(protocol, body) => {
                bytes.extend_from_slice(body);
                *protocol
            }
        };
        bytes.extend_from_slice(&self.payload);
        (protocol, bytes)
    }

    /// The IP packet without its Ethernet header.
    pub fn ip(&self) -> Vec<u8> {
        self.frame().split_off(Ethernet2Header::LEN)
    }

    fn wrap(&self, protocol: IpNumber, body: &[u8], place: Option<Place>) -> Vec<u8> {
        let v4 = self.from.is_ipv4();
        let ether_type = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let ethernet = Ethernet2Header { source: self.from_mac, destination: self.to_mac, ether_type };
        let mut frame = ethernet.to_bytes().to_vec();
        frame.extend(if v4 {
            self.head_v4(protocol, body, place)
        } else {
            self.head_v6(protocol, body, place)
        });
        frame.extend_from_slice(body);
        frame
    }

    fn head_v4(&self, protocol: IpNumber, body: &[u8], place: Option<Place>) -> Vec<u8> {
        let place = place.unwrap_or(Place { offset: 0, more: false });
        let mut header =
            Ipv4Header::new(0, self.ttl, protocol, v4(self.from.ip()), v4(self.to.ip())).expect("a header");
        header.options = Ipv4Options::try_from(&self.options[..]).expect("whole words of options");
        header.identification = self.id;
        header.fragment_offset = IpFragOffset::try_new((place.offset / 8) as u16).expect("a small offset");
        (header.more_fragments, header.dont_fragment) = (place.more, false);
        header.set_payload_len(body.len()).expect("a short payload");
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn head_v6(&self, protocol: IpNumber, body: &[u8], place: Option<Place>) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.extensions.iter().map(|(number, _)| *number).collect();
        numbers.extend(place.map(|_| IpNumber::IPV6_FRAGMENTATION_HEADER.0));
        numbers.push(protocol.0);
        let mut chain = Vec::new();
        for ((number, content), next) in self.extensions.iter().zip(&numbers[1..]) {
            chain.extend(match number {
                51 => IpAuthHeader::new(IpNumber(*next), 7, 9, content)
                    .expect("whole words")
                    .to_bytes()
                    .to_vec(),
                _ => Ipv6RawExtHeader::new_raw(IpNumber(*next), content)
                    .expect("6 + 8n bytes")
                    .to_bytes()
                    .to_vec(),
            });
        }
        if let Some(place) = place {
            let offset = IpFragOffset::try_new((place.offset / 8) as u16).expect("a small offset");
            let header = Ipv6FragmentHeader::new(protocol, offset, place.more, self.id.into());
            chain.extend_from_slice(&header.to_bytes());
        }
        let header = Ipv6Header {
            payload_length: (chain.len() + body.len()) as u16,
            next_header: IpNumber(numbers[0]),
            hop_limit: self.ttl,
            source: v6(self.from.ip()),
            destination: v6(self.to.ip()),
            ..Ipv6Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(chain);
        bytes
    }

    /// As it leaves to a next hop.
    pub fn via(&self, hop: &NextHop) -> Packet {
        Packet { to_mac: hop.mac, from_mac: hop.source_mac, ..self.clone() }
    }

    /// As it leaves under NAT to a real server.
    pub fn to_real(&self, hop: &NextHop, real: SocketAddr) -> Packet {
        Packet { to: real, ttl: self.ttl - 1, ..self.via(hop) }
    }

    /// A real server's answer to a packet it got.
    pub fn answer(&self, flags: &str, payload: &[u8]) -> Packet {
        let upper = match &self.upper {
            Upper::Tcp(_) => tcp(self.to, self.from, flags, &[]).upper,
            same => same.clone(),
        };
        let (from, to) = (self.to, self.from);
        Packet {
            to_mac: OWN,
            from_mac: self.to_mac,
            from,
            to,
            upper,
            payload: payload.to_vec(),
            ..self.clone()
        }
    }

    /// A real server's answer as its client gets it.
    pub fn back_from(&self, vip: SocketAddr) -> Packet {
        Packet { to_mac: CLIENT, from_mac: OWN, from: vip, ttl: self.ttl - 1, ..self.clone() }
    }
}
