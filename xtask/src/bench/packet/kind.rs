//! The kinds of packet that are measured, and the frames they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use director::model::{Forward, Protocol};
use director_ebpf::abi::proto;
use director_ebpf::harness::{FRAME_BYTES, Setup};
use director_ebpf::state::flag;

use super::harness::Shape;
use super::scene::OWN_MAC;

/// The first client, VIP and real server: the last four bytes of their addresses.
const CLIENTS: u32 = u32::from_be_bytes([10, 0, 0, 0]);
const VIPS: u32 = u32::from_be_bytes([10, 128, 0, 1]);
const REALS: u32 = u32::from_be_bytes([172, 16, 0, 1]);
/// Nobody's.
const STRANGER: u32 = u32::from_be_bytes([203, 0, 113, 1]);
/// The first bytes of every IPv6 address here (RFC 3849).
const V6: [u8; 12] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];

/// The service's port, and the real servers' under NAT.
const PORT: u16 = 80;
const REAL_PORT: u16 = 8080;

/// The order in which flows are made, and another in which they are measured.
const MAKING: u32 = 0x9e37_79b1;
const WALKING: u32 = 0x2545_f491;

/// What a packet is and meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of an established TCP connection over IPv4, forwarded directly.
    Tcp4,
    /// The same over IPv6.
    Tcp6,
    /// Of a known UDP flow over IPv4, forwarded directly.
    Udp4,
    /// Of an established TCP connection over IPv4, to a real server behind NAT.
    NatIn,
    /// The reply to it.
    NatOut,
    /// A new connection's SYN, where there is room.
    Fresh,
    /// A new connection's SYN, where somebody must give way.
    FreshFull,
    /// Neither to a VIP nor from a real server.
    NotOurs,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 8] = [
        Kind::Tcp4,
        Kind::Tcp6,
        Kind::Udp4,
        Kind::NatIn,
        Kind::NatOut,
        Kind::Fresh,
        Kind::FreshFull,
        Kind::NotOurs,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tcp4 => "established TCPv4, direct",
            Kind::Tcp6 => "established TCPv6, direct",
            Kind::Udp4 => "UDPv4, direct",
            Kind::NatIn => "TCPv4, nat, to the real server",
            Kind::NatOut => "TCPv4, nat, to the client",
            Kind::Fresh => "new flow, room in the table",
            Kind::FreshFull => "new flow, table full",
            Kind::NotOurs => "not ours",
        }
    }

    /// For JSON and the command line.
    pub fn key(self) -> &'static str {
        match self {
            Kind::Tcp4 => "tcp4",
            Kind::Tcp6 => "tcp6",
            Kind::Udp4 => "udp4",
            Kind::NatIn => "nat-in",
            Kind::NatOut => "nat-out",
            Kind::Fresh => "fresh",
            Kind::FreshFull => "fresh-full",
            Kind::NotOurs => "not-ours",
        }
    }

    /// Whether every packet begins a flow.
    pub fn is_fresh(self) -> bool {
        matches!(self, Kind::Fresh | Kind::FreshFull)
    }

    /// Whether it is a packet of a flow that was made before.
    pub fn has_flows(self) -> bool {
        !self.is_fresh() && self != Kind::NotOurs
    }

    /// Entries that each of its flows takes.
    pub fn entries(self) -> u32 {
        if self.forward() == Forward::Nat { 2 } else { 1 }
    }

    /// How its service forwards.
    pub fn forward(self) -> Forward {
        if matches!(self, Kind::NatIn | Kind::NatOut) { Forward::Nat } else { Forward::Direct }
    }

    /// Its service's protocol.
    pub fn protocol(self) -> Protocol {
        if self == Kind::Udp4 { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Its frames' shape.
    pub fn shape(self) -> Shape {
        if self == Kind::Tcp6 { Shape::V6 } else { Shape::V4 }
    }

    /// The VIP of service `i`.
    pub fn vip(self, i: u32) -> IpAddr {
        self.address(VIPS + i)
    }

    /// Real server `i`, all services together.
    pub fn real(self, i: u32) -> IpAddr {
        self.address(REALS + i)
    }

    fn address(self, last: u32) -> IpAddr {
        if self.shape() == Shape::V4 {
            return Ipv4Addr::from(last).into();
        }
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&V6);
        bytes[12..].copy_from_slice(&last.to_be_bytes());
        Ipv6Addr::from(bytes).into()
    }

    /// Bytes of its frames, as their IP headers say.
    pub fn frame_bytes(self) -> u64 {
        (14 + ip_header(self.shape()) + l4_header(self.protocol())) as u64
    }

    /// The packets to measure. `mask`: flows less one; fresh ones ignore it.
    pub fn measured(self, mask: u32, services: u32) -> Setup {
        let flags = if self.is_fresh() { flag::SYN } else { flag::ACK };
        let mask = if self.is_fresh() { u32::MAX } else { mask };
        let mut setup = self.setup(flags, mask, services, WALKING);
        if self == Kind::NatOut {
            // Each service has one real server then.
            setup = Setup { reply: 1, service: REALS, port_be: REAL_PORT.to_be().into(), ..setup };
        }
        if self == Kind::NotOurs {
            setup.service = STRANGER;
        }
        setup
    }

    /// The packets that make flows: first with this, then once more with the other, which establishes them.
    pub fn making(self, mask: u32, services: u32) -> [Setup; 2] {
        [flag::SYN, flag::ACK].map(|flags| self.setup(flags, mask, services, MAKING))
    }

    fn setup(self, flags: u8, mask: u32, services: u32, multiplier: u32) -> Setup {
        let shift = mask.count_ones().div_ceil(2).max(1);
        let frame = frame(self.shape(), self.protocol(), flags);
        let (client, service, port_be) = (CLIENTS, VIPS, PORT.to_be().into());
        Setup { frame, mask, shift, multiplier, client, service, services, reply: 0, port_be }
    }
}

/// The real servers' port where it is not the service's.
pub fn real_port(forward: Forward) -> Option<u16> {
    (forward == Forward::Nat).then_some(REAL_PORT)
}

/// The service's port.
pub const fn service_port() -> u16 {
    PORT
}

fn ip_header(shape: Shape) -> usize {
    if shape == Shape::V4 { 20 } else { 40 }
}

fn l4_header(protocol: Protocol) -> usize {
    if protocol == Protocol::Tcp { 20 } else { 8 }
}

/// A frame without a payload. Checksums are some number: nobody looks, NAT only updates them.
fn frame(shape: Shape, protocol: Protocol, flags: u8) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    let number = if protocol == Protocol::Tcp { proto::TCP } else { proto::UDP };
    let upper = l4_header(protocol) as u16;
    frame[..6].copy_from_slice(&OWN_MAC);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xc1]);
    let l4 = 14 + ip_header(shape);
    if shape == Shape::V4 {
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14..26].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, number, 0x12, 0x34]);
        frame[16..18].copy_from_slice(&(20 + upper).to_be_bytes());
    } else {
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, upper as u8, number, 64]);
        frame[22..34].copy_from_slice(&V6);
        frame[38..50].copy_from_slice(&V6);
    }
    if protocol == Protocol::Tcp {
        frame[l4 + 12..l4 + 18].copy_from_slice(&[0x50, flags, 0xff, 0xff, 0x56, 0x78]);
    } else {
        frame[l4 + 4..l4 + 8].copy_from_slice(&[0, 8, 0x56, 0x78]);
    }
    frame
}
