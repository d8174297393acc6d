//! Datagrams to each of the other directors; and what multicast has in common with that.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Counts, MAX_AT_ONCE, Medium};

/// How much may wait to be read, in bytes as the kernel counts: some hundred messages.
const RECEIVE_BUFFER: usize = 256 << 10;

/// Differentiated services field with class selector 6, network control (RFC 4594, section 3.1).
const NETWORK_CONTROL: u32 = 48 << 2;

/// TC_PRIO_CONTROL (linux/pkt_sched.h): the first band of the interface's queue.
const PRIORITY: u32 = 7;

/// Datagrams from an address of this director to one of each other's.
#[derive(Debug)]
pub struct Udp {
    address: SocketAddr,
    peers: Vec<SocketAddr>,
    socket: Option<Socket>,
}

impl Udp {
    pub fn new(address: SocketAddr, peers: Vec<SocketAddr>) -> Self {
        Self { address, peers, socket: None }
    }

    fn bind(&self) -> io::Result<Socket> {
        let socket = socket(self.address)?;
        // The address may come later; the socket then works without being asked.
        match self.address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
        // Sockets that others bound to all addresses are no obstacle if they share. But none that comes later may
        // share, since it would get the messages instead of this one.
        socket.set_reuse_address(true)?;
        socket.bind(&self.address.into())?;
        socket.set_reuse_address(false)?;
        Ok(socket)
    }
}

impl Medium for Udp {
    fn open(&mut self) -> Result<(), String> {
        match self.bind() {
            Ok(socket) => {
                self.socket = Some(socket);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
                "another program uses this address and port (ss -ulnp sport = :{} shows it)",
                self.address.port()
            )),
            Err(error) => Err(format!("binding a socket: {error}")),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn send(&mut self, bytes: &[u8], counts: &mut Counts) {
        let Some(socket) = &self.socket else { return };
        for peer in &self.peers {
            _ = send(socket, bytes, *peer, counts);
        }
    }

    fn receive(&mut self, buffer: &mut [u8], each: &mut dyn FnMut(&[u8]), counts: &mut Counts) -> bool {
        let Some(socket) = &self.socket else { return false };
        let Self { peers, .. } = self;
        receive(socket, buffer, each, &mut |source| {
            let known = peers.iter().any(|peer| peer.ip() == source);
            counts.strangers += u64::from(!known);
            known
        })
    }
}

/// A socket of the family of `address`, not bound.
pub fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // What follows makes losses rarer, and nothing else depends on it.
    match address {
        SocketAddr::V4(_) => _ = socket.set_tos_v4(NETWORK_CONTROL),
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            _ = socket.set_tclass_v6(NETWORK_CONTROL);
        }
    }
    // After the type of service, which sets a priority of its own.
    _ = socket.set_priority(PRIORITY);
    _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
    Ok(socket)
}

/// Sends and counts.
pub fn send(socket: &Socket, bytes: &[u8], to: SocketAddr, counts: &mut Counts) -> Result<(), Errno> {
    match sendto(socket, bytes, SendFlags::empty(), &to) {
        Ok(_) => {
            counts.sent += 1;
            Ok(())
        }
        Err(error) => {
            counts.failed(Some(to), error);
            Err(error)
        }
    }
}

/// Hands over what comes from addresses that `known` accepts. Returns whether there may be more.
pub fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    each: &mut dyn FnMut(&[u8]),
    known: &mut dyn FnMut(IpAddr) -> bool,
) -> bool {
    for _ in 0..MAX_AT_ONCE {
        match recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _, source)) => {
                let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                if source.is_some_and(|source| known(source.ip())) {
                    each(&buffer[..length]);
                }
            }
            Err(Errno::AGAIN) => return false,
            // An error that waited at the socket. It is gone by having been read.
            Err(_) => {}
        }
    }
    true
}
