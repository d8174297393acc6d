//! Datagrams to a group, on one interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{InterfaceIndexOrAddress, Socket};

use super::{Counts, Medium, udp};

/// Datagrams to a group and from it, on one interface. Those of this director are not heard.
#[derive(Debug)]
pub struct Multicast {
    /// With the interface as scope, once it is open.
    group: SocketAddr,
    interface: String,
    ttl: u8,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    /// The interface that it is a member on.
    ifindex: u32,
    /// Sending failed as it does while the interface is away. It may be back, with the same index even, but not the
    /// membership.
    suspect: bool,
}

impl Multicast {
    pub fn new(group: SocketAddr, interface: String, ttl: u8) -> Self {
        Self { group, interface, ttl, open: None }
    }

    fn join(&mut self) -> io::Result<Open> {
        let socket = udp::socket(self.group)?;
        let ifindex = name_to_index(&socket, &self.interface)?;
        // Every member gets every datagram, so sharing takes nothing from this one.
        socket.set_reuse_address(true)?;
        if let SocketAddr::V6(group) = &mut self.group {
            group.set_scope_id(ifindex);
        }
        socket.bind(&self.group.into())?;
        match self.group.ip() {
            IpAddr::V4(group) => {
                set_ip_multicast_if_with_ifindex(&socket, &group, &Ipv4Addr::UNSPECIFIED, ifindex)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_multicast_ttl_v4(self.ttl.into())?;
                // Only by this membership, not by another program's on another interface.
                socket.set_multicast_all_v4(false)?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(ifindex))?;
            }
            IpAddr::V6(group) => {
                socket.set_multicast_if_v6(ifindex)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_hops_v6(self.ttl.into())?;
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&group, ifindex)?;
            }
        }
        Ok(Open { socket, ifindex, suspect: false })
    }
}

impl Medium for Multicast {
    fn open(&mut self) -> Result<(), String> {
        match self.join() {
            Ok(open) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                Err(format!("there is no interface {}", self.interface))
            }
            Err(error) => Err(format!("joining the group on {}: {error}", self.interface)),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let Some(Open { socket, ifindex, suspect }) = &self.open else { return Ok(()) };
        let there = name_to_index(socket, &self.interface) == Ok(*ifindex);
        if there && !suspect {
            return Ok(());
        }
        self.open = None;
        if there { self.open() } else { Err(format!("the interface {} went away", self.interface)) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    fn send(&mut self, bytes: &[u8], counts: &mut Counts) {
        let Some(open) = &mut self.open else { return };
        // The latter with IPv6, also while the interface is only down; joining anew does no harm then.
        if let Err(Errno::NODEV | Errno::NETUNREACH) = udp::send(&open.socket, bytes, self.group, counts) {
            open.suspect = true;
        }
    }

    fn receive(&mut self, buffer: &mut [u8], each: &mut dyn FnMut(&[u8]), _counts: &mut Counts) -> bool {
        let Some(open) = &self.open else { return false };
        // Which addresses the others send from is not configured.
        udp::receive(&open.socket, buffer, each, &mut |_| true)
    }
}
