//! ICMP and ICMPv6 echo (RFC 792, RFC 4443).

use std::io;
use std::net::SocketAddr;

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Header, Icmpv6Slice, Icmpv6Type,
};
use etherparse::{IpNumber, Ipv4Slice};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::attempt::Attempt;
use crate::outcome::{Failure, Success};

/// Bytes after the ICMP header, as `ping` has it. Random, so that no other's answer is taken for ours.
const PAYLOAD: usize = 56;
/// No answer to us is longer, not even with the largest IPv4 header.
const LONGEST: usize = 60 + 8 + PAYLOAD;
/// There is one request a socket.
const SEQUENCE: u16 = 1;

/// Sends an echo request and waits for its reply, on an ICMP datagram socket where `net.ipv4.ping_group_range` allows it, else on
/// a raw one.
///
/// # Errors
/// There is no way there, or no permission for either socket.
pub async fn probe(attempt: &mut Attempt) -> Result<Success, Failure> {
    let mut real = attempt.real();
    // ICMP has no ports; raw sockets would take one for a protocol number.
    real.set_port(0);
    let (socket, kind) = open(real)?;
    attempt.prepare(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    // Connected: otherwise every raw socket gets a copy of every ICMP packet.
    socket.connect(&real.into())?;
    // Nothing in that type is about UDP, once the socket is connected.
    let socket = UdpSocket::from_std(socket.into())?;

    let mut random = [0; 2 + PAYLOAD];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
        .map_err(io::Error::from)?;
    let (id, payload) = random.split_at(2);
    let echo = IcmpEchoHeader { id: u16::from_be_bytes([id[0], id[1]]), seq: SEQUENCE };
    let question = Question { v4: real.is_ipv4(), kind, echo, payload };
    let request = question.request();
    socket.send(&request).await?;
    attempt.step("echo request sent");
    attempt.awaits("echo reply");
    loop {
        let mut packet = [0; LONGEST];
        let count = socket.recv(&mut packet).await.map_err(failure)?;
        if question.is_answered_by(&packet[..count]) {
            attempt.step("echo reply");
            return Ok(Success::default());
        }
    }
}

/// Some hosts refuse an echo request as they would a connection; it must not read like one.
fn failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Unreachable("an ICMP error came back".into()),
        _ => error.into(),
    }
}

fn open(real: SocketAddr) -> Result<(Socket, Type), Failure> {
    let protocol = if real.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    for kind in [Type::DGRAM, Type::RAW] {
        match Socket::new(Domain::for_address(real), kind, Some(protocol)) {
            Ok(socket) => return Ok((socket, kind)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Local("ICMP needs CAP_NET_RAW, or our group in net.ipv4.ping_group_range".into()))
}

/// An echo request, and what its reply looks like on this kind of socket.
struct Question<'a> {
    v4: bool,
    kind: Type,
    echo: IcmpEchoHeader,
    payload: &'a [u8],
}

impl Question<'_> {
    /// The packet. The kernel fills in ICMPv6's checksum, and, on datagram sockets, the identifier.
    fn request(&self) -> Vec<u8> {
        let mut packet = if self.v4 {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(self.echo), self.payload).to_bytes().to_vec()
        } else {
            Icmpv6Header::new(Icmpv6Type::EchoRequest(self.echo)).to_bytes().to_vec()
        };
        packet.extend_from_slice(self.payload);
        packet
    }

    fn is_answered_by(&self, packet: &[u8]) -> bool {
        let Some((echo, payload)) = self.reply(packet) else {
            return false;
        };
        // A datagram socket gets what has its identifier, which is not the one in `self.echo`.
        let mine = self.kind == Type::DGRAM || echo.id == self.echo.id;
        mine && echo.seq == self.echo.seq && payload == self.payload
    }

    /// The echo reply in a packet, if it is one.
    fn reply<'p>(&self, packet: &'p [u8]) -> Option<(IcmpEchoHeader, &'p [u8])> {
        if !self.v4 {
            let icmp = Icmpv6Slice::from_slice(packet).ok()?;
            let Icmpv6Type::EchoReply(echo) = icmp.icmp_type() else { return None };
            return Some((echo, icmp.payload()));
        }
        let icmp = if self.kind == Type::RAW {
            // Raw IPv4 sockets, and only they, get the IP header too.
            let ip = Ipv4Slice::from_slice(packet).ok()?;
            let payload = ip.payload();
            if payload.ip_number != IpNumber::ICMP || payload.fragmented {
                return None;
            }
            payload.payload
        } else {
            packet
        };
        let icmp = Icmpv4Slice::from_slice(icmp).ok()?;
        let Icmpv4Type::EchoReply(echo) = icmp.icmp_type() else { return None };
        Some((echo, icmp.payload()))
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const PAYLOAD: &[u8] = b"who is it";
    const ECHO: IcmpEchoHeader = IcmpEchoHeader { id: 7, seq: SEQUENCE };

    fn question(v4: bool, kind: Type) -> Question<'static> {
        Question { v4, kind, echo: ECHO, payload: PAYLOAD }
    }

    fn v4(kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
        [&Icmpv4Header::with_checksum(kind, payload).to_bytes()[..], payload].concat()
    }

    #[test]
    fn a_reply_answers_on_either_socket() {
        let reply = v4(Icmpv4Type::EchoReply(ECHO), PAYLOAD);
        assert!(question(true, Type::DGRAM).is_answered_by(&reply));
        let mut packet = Vec::new();
        PacketBuilder::ipv4([127, 0, 0, 1], [127, 0, 0, 1], 64)
            .icmpv4(Icmpv4Type::EchoReply(ECHO))
            .write(&mut packet, PAYLOAD)
            .unwrap();
        assert!(question(true, Type::RAW).is_answered_by(&packet));
        assert!(!question(true, Type::RAW).is_answered_by(&reply), "the IP header is missing");
        for cut in 0..packet.len() {
            assert!(!question(true, Type::RAW).is_answered_by(&packet[..cut]), "cut to {cut}");
        }
    }

    #[test]
    fn our_own_request_and_others_replies_do_not() {
        let dgram = question(true, Type::DGRAM);
        assert!(!dgram.is_answered_by(&dgram.request()));
        assert!(!dgram.is_answered_by(&v4(Icmpv4Type::EchoReply(ECHO), b"not what was sent")));
        let late = IcmpEchoHeader { seq: SEQUENCE + 1, ..ECHO };
        assert!(!dgram.is_answered_by(&v4(Icmpv4Type::EchoReply(late), PAYLOAD)));

        let other = IcmpEchoHeader { id: 8, ..ECHO };
        let v6 = |kind| [&Icmpv6Header::new(kind).to_bytes()[..], PAYLOAD].concat();
        let raw = question(false, Type::RAW);
        assert!(raw.is_answered_by(&v6(Icmpv6Type::EchoReply(ECHO))));
        assert!(!raw.is_answered_by(&v6(Icmpv6Type::EchoReply(other))));
        assert!(!raw.is_answered_by(&v6(Icmpv6Type::EchoRequest(ECHO))));
        assert!(!raw.is_answered_by(&[]));
    }
}
