//! Route netlink (rtnetlink(7)) sockets: questions to the kernel, and its notifications.
//!
//! Questions go out many to a datagram, which the ordinary client does not do: ten thousand routes are looked
//! up in the time of some hundred system calls. Notifications have a socket of their own, so that an overrun
//! there loses no answer here.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;

use super::hop::{HopKey, Route};
use super::kernel::{self, Event};
use super::wire::Mac;

/// Room for one datagram, in bytes; the kernel fills at most 32 KiB.
pub const DATAGRAM_LEN: usize = 64 << 10;

/// How much may wait to be read, in bytes, as the kernel counts.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The most questions in one datagram. Their answers, of less than 2 KiB as the kernel counts, fit into the
/// smallest receive buffer.
const BATCH: usize = 64;

/// How long the kernel may take to answer. It does so within the call; longer means an answer was lost.
const PATIENCE: Duration = Duration::from_secs(2);

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// A netlink socket and room for what it receives.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens one in the caller's network namespace, subscribed to `groups`.
    pub fn open(groups: &[MulticastGroup]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // Without the privilege, the default has to do: an overrun is noticed, and everything read again.
        _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
        for group in groups {
            socket.add_membership(*group as u32)?;
        }
        // SAFETY: the socket owns its descriptor, and is neither closed nor replaced while it is registered.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM_LEN) })
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            let mut guard = self.socket.writable().await?;
            match guard.try_io(|socket| socket.get_ref().send(bytes, 0)) {
                Ok(sent) => return sent.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }

    /// Waits for a datagram, which is in the buffer then. May be dropped and called again without loss.
    pub async fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        loop {
            let mut guard = self.socket.readable().await?;
            let buffer = &mut self.buffer;
            match guard.try_io(|socket| socket.get_ref().recv(buffer, 0)) {
                Ok(received) => return received.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }

    /// Takes a datagram that is there already; says whether one was.
    pub fn receive_now(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        match self.socket.get_ref().recv(&mut self.buffer, libc::MSG_DONTWAIT) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The messages of the datagram that was received last.
    pub fn messages(&self) -> impl Iterator<Item = RawMessage<'_>> {
        RawMessages(&self.buffer)
    }
}

/// A message with its header (struct nlmsghdr).
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'a> {
    /// The question that it answers.
    pub sequence: u32,
    bytes: &'a [u8],
}

impl RawMessage<'_> {
    /// What it says.
    pub fn parse(&self) -> Result<NetlinkPayload<RouteNetlinkMessage>> {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.bytes);
        Ok(message.map_err(|error| anyhow!("a netlink message: {error}"))?.payload)
    }
}

/// The messages of a datagram, each padded to 4 bytes.
pub struct RawMessages<'a>(pub &'a [u8]);

impl<'a> Iterator for RawMessages<'a> {
    type Item = RawMessage<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<16>()?;
        let word = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
        let length = word(0) as usize;
        let bytes = self.0.get(..length).filter(|bytes| bytes.len() >= header.len())?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(RawMessage { sequence: word(8), bytes })
    }
}

/// Questions to the kernel.
#[derive(Debug)]
pub struct Questions {
    channel: Channel,
    sequence: u32,
}

impl Questions {
    /// Opens a socket in the caller's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { channel: Channel::open(&[]).context("opening a netlink socket")?, sequence: 0 })
    }

    /// All interfaces and their addresses.
    pub async fn interfaces(&mut self) -> Result<Vec<RouteNetlinkMessage>> {
        let mut all = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
        all.extend(self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?);
        Ok(all)
    }

    /// All neighbours.
    pub async fn neighbours(&mut self) -> Result<Vec<RouteNetlinkMessage>> {
        self.dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())).await
    }

    /// The ways to addresses, as the kernel would send there itself, policy rules included.
    pub async fn routes(&mut self, addresses: &[IpAddr]) -> Result<Vec<(IpAddr, Option<Route>)>> {
        let mut found = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            let questions = batch.iter().map(|address| (route_question(*address), NLM_F_REQUEST));
            let answers = self.ask(questions.collect()).await.context("looking up routes")?;
            for (&address, answer) in batch.iter().zip(answers) {
                found.push((address, read_route(address, answer)?));
            }
            // Ten thousand of these are not to hold up other tasks.
            tokio::task::yield_now().await;
        }
        Ok(found)
    }

    /// Tells the kernel a neighbour's MAC, where it has an entry for it.
    pub async fn teach(&mut self, hop: HopKey, mac: Mac) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(hop.address);
        message.header.ifindex = hop.ifindex;
        message.header.state = NeighbourState::Reachable;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(hop.address)));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
        let answers = self.ask(vec![(RouteNetlinkMessage::NewNeighbour(message), flags)]).await?;
        match answers.first() {
            Some(Answer::Refused(error)) if error.raw_os_error() != Some(libc::ENOENT) => {
                bail!("telling the kernel the MAC of {}: {error}", hop.address)
            }
            _ => Ok(()),
        }
    }

    async fn dump(&mut self, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let answers = self.ask(vec![(question, NLM_F_REQUEST | NLM_F_DUMP)]).await?;
        match answers.into_iter().next() {
            Some(Answer::Messages(messages)) => Ok(messages),
            Some(Answer::Refused(error)) => Err(error).context("a netlink dump"),
            None => bail!("no answer to a netlink dump"),
        }
    }

    /// Sends questions in one datagram and collects their answers, in order.
    async fn ask(&mut self, questions: Vec<(RouteNetlinkMessage, u16)>) -> Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut answers = Answers::new(first, questions.iter().map(|(_, flags)| *flags).collect());
        let mut bytes = Vec::new();
        for (question, flags) in questions {
            self.sequence = self.sequence.wrapping_add(1);
            append(&mut bytes, question, flags, self.sequence);
        }
        let channel = &mut self.channel;
        let exchange = async {
            channel.send(&bytes).await?;
            while answers.open > 0 {
                channel.receive().await?;
                channel.messages().for_each(|message| answers.take(message));
            }
            io::Result::Ok(())
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer on a netlink socket")??;
        Ok(answers.collected)
    }
}

/// What the kernel answered to one question.
#[derive(Debug)]
enum Answer {
    /// None for an acknowledgement.
    Messages(Vec<RouteNetlinkMessage>),
    Refused(io::Error),
}

/// Answers to a datagram of questions with consecutive sequence numbers.
#[derive(Debug)]
struct Answers {
    first: u32,
    /// The flags of each question whose answer is not complete.
    flags: Vec<Option<u16>>,
    open: usize,
    collected: Vec<Answer>,
}

impl Answers {
    fn new(first: u32, flags: Vec<u16>) -> Self {
        let collected = flags.iter().map(|_| Answer::Messages(Vec::new())).collect();
        Self { first, open: flags.len(), flags: flags.into_iter().map(Some).collect(), collected }
    }

    fn take(&mut self, message: RawMessage<'_>) {
        let index = message.sequence.wrapping_sub(self.first) as usize;
        // Others are late answers to a question that was given up.
        let Some(Some(flags)) = self.flags.get(index).copied() else { return };
        let complete = match message.parse() {
            Ok(NetlinkPayload::InnerMessage(inner)) => {
                if let Answer::Messages(messages) = &mut self.collected[index] {
                    messages.push(inner);
                }
                flags & (NLM_F_DUMP | NLM_F_ACK) == 0
            }
            Ok(NetlinkPayload::Error(error)) => {
                if error.code.is_some() {
                    self.collected[index] = Answer::Refused(error.to_io());
                }
                true
            }
            Ok(NetlinkPayload::Done(_)) => true,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!("unreadable: {error:#}");
                flags & NLM_F_DUMP == 0
            }
        };
        if complete {
            self.flags[index] = None;
            self.open -= 1;
        }
    }
}

/// Appends a question, padded to 4 bytes.
pub fn append(bytes: &mut Vec<u8>, question: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(question);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

fn route_question(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    RouteNetlinkMessage::GetRoute(message)
}

/// The kernel refuses where there is no route, or one that forbids; what says nothing of the route is an
/// error.
fn read_route(address: IpAddr, answer: Answer) -> Result<Option<Route>> {
    match answer {
        Answer::Messages(messages) => Ok(messages.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => kernel::route(address, route),
            _ => None,
        })),
        Answer::Refused(error) => match error.raw_os_error() {
            Some(libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::EBUSY) => {
                Err(error).with_context(|| format!("looking up the route to {address}"))
            }
            _ => Ok(None),
        },
    }
}

/// The family of an address.
pub fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// What the kernel tells unasked.
#[derive(Debug)]
pub struct Notifications {
    channel: Channel,
}

impl Notifications {
    /// Subscribes, in the caller's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { channel: Channel::open(&GROUPS).context("subscribing to netlink notifications")? })
    }

    /// Waits for some. `None`: some were lost, so that everything is to be read again. May be dropped and
    /// called again without loss.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Event>>> {
        match self.channel.receive().await {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
            Err(error) => return Err(error),
        }
        let events = self.channel.messages().filter_map(|message| match message.parse() {
            Ok(NetlinkPayload::InnerMessage(inner)) => kernel::event(&inner),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("unreadable: {error:#}");
                None
            }
        });
        Ok(Some(events.collect()))
    }
}
