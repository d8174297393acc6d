//! What may become of any packet at all, told from the packet and from what left; headers are read here anew.

use std::collections::HashSet;
use std::net::IpAddr;

use director::dataplane::{GuardedGroup, Outcome, Verdict};
use director::model::{Forward, Ports, Protocol, mapped};
use director::pool::{DesiredReal, DesiredService};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::packet::OWN;
use crate::rig::HERE;

/// What there is, and what was seen.
pub struct Judge<'a> {
    services: &'a [DesiredService],
    /// The virtual MAC that is held.
    held: Option<[u8; 6]>,
    /// The group without a lease: addresses that may not be answered for, and a virtual MAC that nothing is taken for.
    lost: &'a GuardedGroup,
    /// MACs that frames came from: replies go to one of those.
    sources: HashSet<[u8; 6]>,
}

/// An IP packet's parts, by their places in the frame.
struct Parts {
    v4: bool,
    upper: usize,
    protocol: u8,
    later: bool,
}

impl Parts {
    /// None of what is cut off or contradicts itself.
    fn of(frame: &[u8]) -> Option<Parts> {
        let byte = |at: usize| frame.get(at).copied();
        match (&frame[12..14], byte(14)? >> 4) {
            ([0x08, 0x00], 4) => {
                let header = usize::from(byte(14)? & 15) * 4;
                let total = usize::from(byte(16)?) << 8 | usize::from(byte(17)?);
                byte(33)?;
                let later = byte(20)? & 0x1f != 0 || byte(21)? != 0;
                (header >= 20 && total >= header).then_some(Parts {
                    v4: true,
                    upper: 14 + header,
                    protocol: byte(23)?,
                    later,
                })
            }
            ([0x86, 0xdd], 6) => {
                byte(53)?;
                let mut parts = Parts { v4: false, upper: 54, protocol: byte(20)?, later: false };
                for _ in 0..=6 {
                    let length = match parts.protocol {
                        0 | 43 | 60 => 8 * (usize::from(byte(parts.upper + 1)?) + 1),
                        51 => 4 * (usize::from(byte(parts.upper + 1)?) + 2),
                        44 => {
                            byte(parts.upper + 7)?;
                            parts.later = byte(parts.upper + 2)? != 0 || byte(parts.upper + 3)? & 0xf8 != 0;
                            8
                        }
                        _ => return Some(parts),
                    };
                    parts.protocol = byte(parts.upper)?;
                    parts.upper += length;
                    if parts.later {
                        return Some(parts);
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// Where source and destination addresses stand.
    fn addresses(&self) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        if self.v4 { (26..30, 30..34) } else { (22..38, 38..54) }
    }
}

/// Whether all headers are there. (One look-up's false positive is enough for a packet to be read to their end.)
fn whole(frame: &[u8]) -> bool {
    Parts::of(frame).is_some_and(|parts| {
        let least = match parts.protocol {
            _ if parts.later => 1,
            6 => 20,
            17 => 8,
            1 | 58 => 1,
            _ => 0,
        };
        frame.len() >= parts.upper + least
    })
}

fn addr(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into(),
    }
}

/// Whose MAC a frame asks for.
fn asked_for(frame: &[u8]) -> Option<IpAddr> {
    let arp = || {
        let of_ipv4 = frame[16..20] == [8, 0, 6, 4] && matches!(frame[20..22], [0, 1 | 2]);
        (of_ipv4 && frame[28..32] != frame[38..42]).then(|| addr(&frame[38..42]))
    };
    match frame[12..14] {
        [0x08, 0x06] if frame.len() >= 42 => arp(),
        [0x86, 0xdd] if frame.len() >= 78 && frame[20] == 58 && frame[54] == 135 => {
            Some(addr(&frame[62..78]))
        }
        _ => None,
    }
}

/// The sum of all 16-bit words, modulo 65,535: equal sums, equally right or wrong checksums.
fn sum(parts: &[&[u8]]) -> u32 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    words.fold(0, |sum, word| {
        (sum + (u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))) % 0xffff
    })
}

/// A change that NAT makes: an address, a port, and the way out.
struct Change {
    at: std::ops::Range<usize>,
    to: IpAddr,
    port_at: usize,
    port: Option<u16>,
}

type Judgment = Result<(), String>;

fn ensure(fact: bool, otherwise: &str) -> Judgment {
    if fact { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl<'a> Judge<'a> {
    /// A judge who has seen nothing yet.
    pub fn new(services: &'a [DesiredService], held: Option<[u8; 6]>, lost: &'a GuardedGroup) -> Judge<'a> {
        Judge { services, held, lost, sources: HashSet::new() }
    }

    /// Whether this may become of that frame.
    pub fn judge(&mut self, frame: &[u8], outcome: &Outcome) -> Judgment {
        self.sources.insert(frame[6..12].try_into().expect("six bytes"));
        let out = &outcome.frame[..];
        if asked_for(frame).is_some_and(|address| self.lost.addresses.contains(&address)) {
            return ensure(outcome.verdict == Verdict::Drop, "answered for without a lease");
        }
        let is_ip = matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd]);
        if is_ip && self.lost.mac.is_some_and(|mac| frame[..6] == mac) {
            return ensure(outcome.verdict == Verdict::Drop, "taken for a virtual MAC without a lease");
        }
        match outcome.verdict {
            Verdict::Pass => ensure(out == frame, "passed, but changed"),
            Verdict::Drop => ensure(self.concerns(frame) || !whole(frame), "dropped, but not ours"),
            Verdict::Tx | Verdict::Redirect => {
                ensure(self.concerns(frame), "sent, but not ours")?;
                self.sent(frame, outcome)
            }
            verdict => Err(format!("{verdict:?}")),
        }
    }

    /// Whether a frame is for us, and its destination a VIP or its source a real server behind NAT.
    fn concerns(&self, frame: &[u8]) -> bool {
        let to_us = frame[..6] == OWN || self.held.is_some_and(|mac| frame[..6] == mac);
        let (source, destination) = match frame[12..14] {
            [0x08, 0x00] if frame.len() >= 34 => (addr(&frame[26..30]), addr(&frame[30..34])),
            [0x86, 0xdd] if frame.len() >= 54 => (addr(&frame[22..38]), addr(&frame[38..54])),
            [0x08, 0x00] | [0x86, 0xdd] => return to_us,
            _ => return false,
        };
        let vip = self.services.iter().any(|service| service.address == destination);
        to_us && (vip || self.real(source).is_some())
    }

    fn real(&self, address: IpAddr) -> Option<(&DesiredService, &DesiredReal)> {
        let nat = self.services.iter().filter(|service| service.forward == Forward::Nat);
        nat.flat_map(|service| service.reals.iter().map(move |real| (service, real)))
            .find(|(_, real)| real.address == address)
    }

    fn sent(&self, frame: &[u8], outcome: &Outcome) -> Judgment {
        let parts = Parts::of(frame).ok_or("sent, but cut off or contradictory")?;
        let out = &outcome.frame[..];
        let (source, destination) = parts.addresses();
        let all =
            self.services.iter().flat_map(|service| service.reals.iter().map(move |real| (service, real)));
        let mut to = all.filter_map(|(service, real)| real.hop.map(|hop| (service, real, hop)));
        if let Some((service, real, hop)) =
            to.find(|(_, _, hop)| out[..12] == [hop.mac, hop.source_mac].concat())
        {
            let verdict = if hop.ifindex == HERE { Verdict::Tx } else { Verdict::Redirect };
            ensure(outcome.verdict == verdict, "by the wrong interface")?;
            ensure(service.address == addr(&frame[destination.clone()]), "to another VIP's real server")?;
            return to_real(frame, out, &parts, service, real);
        }
        ensure(outcome.verdict == Verdict::Tx && out[6..12] == OWN, "from another interface")?;
        let asked = self.services.iter().any(|service| service.address == addr(&frame[destination.clone()]));
        let Some((service, real)) = self.real(addr(&frame[source.clone()])).filter(|_| !asked) else {
            return answered(frame, out, &parts);
        };
        ensure(self.sources.contains(&out[..6]), "back to nobody")?;
        let port = real.port.and(service.ports.single());
        let change = Change { at: source, to: service.address, port_at: parts.upper, port };
        translated(frame, out, &parts, &change)
    }
}

fn to_real(
    frame: &[u8],
    out: &[u8],
    parts: &Parts,
    service: &DesiredService,
    real: &DesiredReal,
) -> Judgment {
    let error = parts.protocol == if parts.v4 { 1 } else { 58 };
    let protocol = if service.protocol == Protocol::Tcp { 6 } else { 17 };
    ensure(error || parts.protocol == protocol, "to a service of another protocol")?;
    if !error && !parts.later {
        let port = u16::from_be_bytes([frame[parts.upper + 2], frame[parts.upper + 3]]);
        let listed = match &service.ports {
            Ports::List(ports) => ports.contains(&port),
            Ports::Any => true,
        };
        ensure(listed, "to a service of another port")?;
    }
    if service.forward == Forward::Direct {
        return ensure(out[12..] == frame[12..], "direct, but changed");
    }
    let (_, destination) = parts.addresses();
    if error {
        return error_translated(frame, out, parts, real);
    }
    let change = Change { at: destination, to: real.address, port_at: parts.upper + 2, port: real.port };
    translated(frame, out, parts, &change)
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    let wide = mapped(address);
    if address.is_ipv4() { wide[12..].to_vec() } else { wide.to_vec() }
}

/// The frame with what any forwarding under NAT changes, but for checksums: those are taken over from what left.
fn expected(frame: &[u8], out: &[u8], parts: &Parts, change: &Change, checks: &[usize]) -> Vec<u8> {
    let mut expected = frame.to_vec();
    expected[..12].copy_from_slice(&out[..12]);
    expected[change.at.clone()].copy_from_slice(&bytes_of(change.to));
    expected[if parts.v4 { 22 } else { 21 }] -= 1;
    if let (Some(port), false) = (change.port, parts.later) {
        expected[change.port_at..change.port_at + 2].copy_from_slice(&port.to_be_bytes());
    }
    for at in checks {
        expected[*at..at + 2].copy_from_slice(&out[*at..at + 2]);
    }
    expected
}

fn translated(frame: &[u8], out: &[u8], parts: &Parts, change: &Change) -> Judgment {
    ensure(frame.len() == out.len(), "NAT changed the length")?;
    let upper = (!parts.later).then_some(parts.upper + if parts.protocol == 6 { 16 } else { 6 });
    let mut checks: Vec<usize> = upper.into_iter().collect();
    checks.extend(parts.v4.then_some(24));
    ensure(out == expected(frame, out, parts, change, &checks), "NAT changed more than it may")?;
    header_sum(frame, out, parts)?;
    let Some(check) = upper else { return Ok(()) };
    if parts.protocol == 17 && frame[check..check + 2] == [0, 0] {
        return ensure(out[check..check + 2] == [0, 0], "a checksum out of nowhere");
    }
    ensure(parts.protocol == 6 || out[check..check + 2] != [0, 0], "a checksum got lost")?;
    let (source, destination) = parts.addresses();
    let all =
        |frame: &[u8]| sum(&[&frame[source.clone()], &frame[destination.clone()], &frame[parts.upper..]]);
    ensure(all(frame) == all(out), "the checksum does not follow")
}

fn header_sum(frame: &[u8], out: &[u8], parts: &Parts) -> Judgment {
    let header = |frame: &[u8]| sum(&[&frame[14..parts.upper]]);
    ensure(!parts.v4 || header(frame) == header(out), "the header's checksum does not follow")
}

fn error_translated(frame: &[u8], out: &[u8], parts: &Parts, real: &DesiredReal) -> Judgment {
    ensure(frame.len() == out.len(), "NAT changed the length")?;
    let inner = parts.upper + 8;
    let (source, destination) = parts.addresses();
    let header = if parts.v4 { 20 } else { 40 };
    let change =
        Change { at: destination.clone(), to: real.address, port_at: inner + header, port: real.port };
    let mut checks = vec![parts.upper + 2];
    checks.extend(parts.v4.then_some(24));
    checks.extend(parts.v4.then_some(inner + 10));
    let mut expected = expected(frame, out, parts, &change, &checks);
    let inner_source = source.start - 14 + inner..source.end - 14 + inner;
    expected[inner_source].copy_from_slice(&bytes_of(real.address));
    ensure(out == expected, "NAT changed more of an ICMP error than it may")?;
    header_sum(frame, out, parts)?;
    let quoted = |frame: &[u8]| sum(&[&frame[inner..inner + 20]]);
    ensure(!parts.v4 || quoted(frame) == quoted(out), "the quoted header's checksum does not follow")?;
    let pseudo =
        |frame: &[u8]| if parts.v4 { 0 } else { sum(&[&frame[source.clone()], &frame[destination.clone()]]) };
    let all = |frame: &[u8]| (pseudo(frame) + sum(&[&frame[parts.upper..]])) % 0xffff;
    ensure(all(frame) == all(out), "the ICMP error's checksum does not follow")
}

/// An answer of the director's own: whole, sound, and to whoever asked.
fn answered(frame: &[u8], out: &[u8], parts: &Parts) -> Judgment {
    ensure(out[..6] == frame[6..12], "answered to another MAC")?;
    let (source, destination) = parts.addresses();
    ensure(out[source.clone()] == frame[destination.clone()], "answered from another address")?;
    ensure(out[destination.clone()] == frame[source.clone()], "answered to another address")?;
    let packet =
        SlicedPacket::from_ethernet(out).map_err(|error| format!("an answer that is not sound: {error}"))?;
    let payload = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            ensure(
                sum(&[&out[14..34]]) == 0 && ip.header().total_len() as usize + 14 == out.len(),
                "an unsound header",
            )?;
            ip.payload().payload
        }
        Some(NetSlice::Ipv6(ip)) => {
            ensure(ip.header().payload_length() as usize + 54 == out.len(), "a wrong length")?;
            ip.payload().payload
        }
        _ => return Err("an answer without IP".into()),
    };
    let (protocol, quoted) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let ports =
                [&frame[parts.upper + 2..parts.upper + 4], &frame[parts.upper..parts.upper + 2]].concat();
            ensure(tcp.rst() && !tcp.syn() && payload.len() == 20 && payload[..4] == ports, "no proper RST")?;
            (6, 0)
        }
        Some(TransportSlice::Icmpv4(_)) => {
            ensure(payload[..8] == [3, 3, payload[2], payload[3], 0, 0, 0, 0], "not port unreachable")?;
            (1, 28)
        }
        Some(TransportSlice::Icmpv6(_)) => {
            ensure(payload[..8] == [1, 4, payload[2], payload[3], 0, 0, 0, 0], "not port unreachable")?;
            (58, 48)
        }
        _ => return Err("an answer of another protocol".into()),
    };
    ensure(quoted == 0 || frame.get(14..14 + quoted) == Some(&payload[8..]), "a wrong quotation")?;
    let length = (payload.len() as u16).to_be_bytes();
    let pseudo = sum(&[&out[source], &out[destination], &[0, protocol], &length]);
    let all = sum(&[payload]) + if protocol == 1 { 0 } else { pseudo };
    ensure(all.is_multiple_of(0xffff), "an answer with a wrong checksum")
}
