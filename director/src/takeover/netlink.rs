//! Commands to the kernel by route netlink (rtnetlink(7)), one after the other.
//!
//! The kernel carries out a command within the system call that sends it, and its answer is there when that
//! returns. So nothing is waited for, and no runtime is needed: this is the shortest way from being told to
//! having an address. By the same token, the notifications of what a command changed are in their socket when
//! the command returns.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use netlink_packet_route::link::{LinkMessage, MacVlanMode};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkPayload,
};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::{LinkMacVlan, LinkUnspec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::observed::Observed;
use crate::model::Vip;
use crate::neighbours::kernel::address_and_mac;
use crate::neighbours::netlink::{DATAGRAM_LEN, RawMessages, append, family};
use crate::neighbours::wire::{Mac, is_unicast};

/// A lifetime without an end (linux/addrconf.h, INFINITY_LIFE_TIME).
const FOREVER: u32 = u32::MAX;

/// How long the kernel may take to answer. It does so within the call; longer means an answer was lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket for commands.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Opens one in the caller's network namespace.
    ///
    /// # Errors
    /// There is no netlink socket to be had.
    pub fn open() -> Result<Kernel> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
            io::Result::Ok(socket)
        };
        let socket = open().context("cannot open a netlink socket")?;
        Ok(Kernel { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_LEN) })
    }

    /// All interfaces and addresses.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn observe(&mut self) -> Result<Observed> {
        let mut all = self
            .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .context("cannot list interfaces")?;
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        all.extend(addresses.context("cannot list addresses")?);
        Ok(Observed::of(&all))
    }

    /// Adds a VIP to an interface. Says whether it was not there before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&mut self, index: u32, vip: &Vip) -> Result<bool> {
        let mut message = address_message(index, vip.address, vip.prefix);
        if vip.address.is_ipv6() {
            // Real servers under direct routing have the same address: duplicate address detection could find one
            // of them. Nor is there time for it.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            // Deprecated from the start, so that connections of the director's own do not come from a VIP.
            let mut lifetimes = CacheInfo::default();
            (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        match self.command(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(true),
            // Someone else added it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot add {}/{}", vip.address, vip.prefix)),
        }
    }

    /// Removes an address. Says whether it was there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<bool> {
        let message = address_message(index, address, prefix);
        match self.command(RouteNetlinkMessage::DelAddress(message), 0) {
            Ok(()) => Ok(true),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot remove {address}/{prefix}")),
        }
    }

    /// Makes a macvlan on an interface; it is not switched on yet. Private, as keepalived's: what a neighbour on
    /// this machine sends to the virtual MAC must come in by the wire, past the data plane, or not at all.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn create_macvlan(&mut self, name: &str, parent: u32, mac: Mac) -> Result<()> {
        let message = LinkMacVlan::new(name, parent, MacVlanMode::Private).address(mac.to_vec()).build();
        self.command(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("cannot make the interface {name}"))
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn raise(&mut self, index: u32) -> io::Result<()> {
        self.command(RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build()), 0)
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        match self.command(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(index).build()), 0) {
            Err(error) if gone(&error) => Ok(()),
            other => other,
        }
    }

    /// The MAC that the kernel knows of a neighbour, however old.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn neighbour(&mut self, index: u32, address: IpAddr) -> io::Result<Option<Mac>> {
        let message = neighbour_message(index, address);
        match self.ask(RouteNetlinkMessage::GetNeighbour(message), 0) {
            Ok(answers) => Ok(answers.iter().find_map(read_neighbour).map(|known| known.mac)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel ask for a neighbour (NTF_USE), which does not wait for the answer.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn resolve(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = neighbour_message(index, address);
        message.header.flags = NeighbourFlags::Use;
        self.command(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
    }

    /// All neighbours whose MACs are known.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn neighbours(&mut self) -> io::Result<Vec<Known>> {
        let messages = self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
        Ok(messages.iter().filter_map(read_neighbour).collect())
    }

    fn command(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags).map(|_| ())
    }

    fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.ask(message, NLM_F_DUMP)
    }

    /// Sends one message and collects what answers it.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        append(&mut bytes, message, NLM_F_REQUEST | flags, self.sequence);
        self.socket.send(&bytes, 0)?;
        let several = flags & (NLM_F_DUMP | NLM_F_ACK) != 0;
        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // Others are late answers to a question that was given up.
            for answer in RawMessages(&self.buffer).filter(|answer| answer.sequence == self.sequence) {
                match answer.parse().map_err(io::Error::other)? {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
            if !several && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// A neighbour as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// On which interface.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// How sure the kernel is of it.
    pub state: NeighbourState,
}

fn read_neighbour(message: &RouteNetlinkMessage) -> Option<Known> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let (address, mac) = address_and_mac(message);
    let state = message.header.state;
    let resolved = matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let mac = mac.filter(|mac| resolved && is_unicast(*mac))?;
    let proxy = message.header.flags.contains(NeighbourFlags::Proxy);
    (!proxy).then_some(Known { index: message.header.ifindex, address: address?, mac, state })
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = (family(address), prefix);
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address));
    if address.is_ipv4() {
        message.attributes.push(AddressAttribute::Local(address));
    }
    message
}

fn neighbour_message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    (message.header.family, message.header.ifindex) = (family(address), index);
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message
}

/// The address or the interface does not exist (any more).
fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV))
}
