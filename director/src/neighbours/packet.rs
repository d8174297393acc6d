//! Packet sockets (packet(7)) for ARP and neighbour discovery, on all interfaces at once.
//!
//! They are "cooked": the kernel adds and takes off the Ethernet header, and says which interface a packet
//! came through.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, recvfrom, sendto};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::hop::{Heard, HopKey};
use super::wire::{self, Claim, Mac};

/// The longest packet that is read, in bytes; the answers are shorter than 100.
const PACKET_LEN: usize = 512;

/// How much may wait to be read, in bytes, as the kernel counts: some thousand packets.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Passes neighbour advertisements (ICMPv6 type 136) without extension headers, which none has in practice:
/// loads the next header, compares, loads the type, compares, accepts or drops.
const ADVERTISEMENTS: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 6),
    SockFilter::new(JUMP_EQUAL, 0, 3, 58),
    SockFilter::new(LOAD_BYTE, 0, 0, 40),
    SockFilter::new(JUMP_EQUAL, 0, 1, 136),
    SockFilter::new(RETURN, 0, 0, PACKET_LEN as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A socket for packets of one kind.
#[derive(Debug)]
pub struct PacketSocket {
    socket: AsyncFd<OwnedFd>,
    ethertype: u16,
    parse: fn(&[u8]) -> Option<Claim>,
    buffer: [u8; PACKET_LEN],
}

impl PacketSocket {
    /// For ARP.
    pub fn arp() -> io::Result<Self> {
        Self::open(libc::ETH_P_ARP as u16, &[], wire::parse_arp)
    }

    /// Receives neighbour advertisements, sends any IPv6.
    pub fn neighbour_discovery() -> io::Result<Self> {
        Self::open(libc::ETH_P_IPV6 as u16, &ADVERTISEMENTS, wire::parse_advertisement)
    }

    fn open(ethertype: u16, filter: &[SockFilter], parse: fn(&[u8]) -> Option<Claim>) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        if !filter.is_empty() {
            socket.attach_filter(filter)?;
        }
        socket.set_nonblocking(true)?;
        // Where the privilege is missing, the default has to do: what is lost is asked again.
        _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
        // SAFETY: the descriptor is owned, and neither closed nor replaced while it is registered.
        let socket = unsafe { AsyncFd::register(OwnedFd::from(socket)) }?;
        Ok(Self { socket, ethertype, parse, buffer: [0; PACKET_LEN] })
    }

    /// Sends a packet that begins with its network header. Does not wait: a full queue is an error.
    pub fn send(&self, ifindex: u32, to: Mac, bytes: &[u8]) -> io::Result<()> {
        send(self.socket.get_ref(), self.ethertype, ifindex, to, bytes)
    }

    /// Waits for a packet, and returns what it says of which next hop. `None`: it says nothing, or was for
    /// another box. May be dropped and called again without loss.
    pub async fn receive(&mut self) -> io::Result<Option<(HopKey, Heard)>> {
        let (length, from) = loop {
            let mut guard = self.socket.readable().await?;
            let buffer = &mut self.buffer;
            let read = guard.try_io(|socket| {
                let (length, _, from) = recvfrom(socket.get_ref(), &mut buffer[..], RecvFlags::empty())?;
                Ok((length, from))
            });
            match read {
                Ok(read) => break read?,
                Err(_would_block) => {}
            }
        };
        let Some((ifindex, sender)) = from.as_ref().and_then(read_link_address) else { return Ok(None) };
        let claim = (self.parse)(&self.buffer[..length]);
        Ok(claim.map(|Claim { address, mac }| (HopKey { ifindex, address }, Heard { named: mac, sender })))
    }
}

/// A socket that only sends: nothing is queued for it, and nothing wakes its thread.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// For ARP and IP.
    pub fn open() -> io::Result<Self> {
        // Without a protocol, a packet socket receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(OwnedFd::from(socket)))
    }

    /// Sends an ARP packet. Does not wait: a full queue is an error.
    pub fn arp(&self, ifindex: u32, to: Mac, bytes: &[u8]) -> io::Result<()> {
        send(&self.0, libc::ETH_P_ARP as u16, ifindex, to, bytes)
    }

    /// Sends an IPv4 packet. Does not wait: a full queue is an error.
    pub fn ipv4(&self, ifindex: u32, to: Mac, bytes: &[u8]) -> io::Result<()> {
        send(&self.0, libc::ETH_P_IP as u16, ifindex, to, bytes)
    }

    /// Sends an IPv6 packet. Does not wait: a full queue is an error.
    pub fn ipv6(&self, ifindex: u32, to: Mac, bytes: &[u8]) -> io::Result<()> {
        send(&self.0, libc::ETH_P_IPV6 as u16, ifindex, to, bytes)
    }
}

fn send(socket: &OwnedFd, ethertype: u16, ifindex: u32, to: Mac, bytes: &[u8]) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to);
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: `link` is a valid socket address of `length` initialized bytes, with nothing between its fields.
    let link = unsafe { SocketAddrAny::read((&raw const link).cast(), length) };
    sendto(socket, bytes, SendFlags::empty(), &link)?;
    Ok(())
}

/// The interface and the sender's MAC, if the packet was addressed to us or to a group.
fn read_link_address(address: &SocketAddrAny) -> Option<(u32, Mac)> {
    let needed = offset_of!(libc::sockaddr_ll, sll_addr) + size_of::<Mac>();
    let packet = i32::from(address.address_family().as_raw()) == libc::AF_PACKET;
    if !packet || (address.addr_len() as usize) < needed {
        return None;
    }
    let link = address.as_ptr().cast::<libc::sockaddr_ll>();
    // SAFETY: the kernel wrote an address of this family, at least as long as all that is read here; its
    // storage is aligned for any socket address.
    let (kind, length, ifindex, mac) = unsafe {
        let mac = (&raw const (*link).sll_addr).cast::<Mac>().read();
        ((*link).sll_pkttype, (*link).sll_halen, (*link).sll_ifindex, mac)
    };
    let for_us = matches!(kind, libc::PACKET_HOST | libc::PACKET_BROADCAST | libc::PACKET_MULTICAST);
    (for_us && length == 6).then_some((ifindex as u32, mac))
}
