//! Traffic of every kind for services of every kind, and what may befall it on the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use director::dataplane::GuardedGroup;
use director::model::{Forward, Persistence, Ports, Protocol, Scheduler, Unserved};
use director::pool::{DesiredService, NextHop};

use crate::packet::{OWN, Packet, Upper, arp, nd, other, tcp, udp};
use crate::rig::{elsewhere, service};

/// Random numbers that a seed repeats: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators,
/// scrambled", 2016).
pub struct Random(u64);

impl Random {
    /// From a seed other than 0.
    pub fn new(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize * limit) >> 32
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A service of every kind.
pub fn services() -> Vec<DesiredService> {
    let mut services = Vec::new();
    for v6 in [false, true] {
        for (protocol, forward, port, mapped, scheduler) in [
            (Protocol::Tcp, Forward::Direct, 80, None, Scheduler::Rr),
            (Protocol::Tcp, Forward::Nat, 81, Some(8080), Scheduler::Wrr),
            (Protocol::Udp, Forward::Direct, 53, None, Scheduler::Mh),
            (Protocol::Udp, Forward::Nat, 54, Some(5353), Scheduler::Sh),
            (Protocol::Tcp, Forward::Nat, 82, None, Scheduler::Mh),
            (Protocol::Udp, Forward::Nat, 0, None, Scheduler::Dh),
            (Protocol::Tcp, Forward::Direct, 0, None, Scheduler::Fo),
        ] {
            let mut one = kind(services.len(), v6, protocol, forward, port, mapped);
            one.scheduler = scheduler;
            one.sloppy = port == 82;
            let persistence =
                Persistence { timeout: Duration::from_secs(60), prefix: if v6 { 64 } else { 24 } };
            one.persistence = (port == 0).then_some(persistence);
            services.push(one);
        }
        for (protocol, port) in [(Protocol::Tcp, 90), (Protocol::Udp, 91)] {
            let mut none = kind(services.len(), v6, protocol, Forward::Direct, port, None);
            (none.unserved, none.reals) = (Unserved::Reject, vec![]);
            services.push(none);
        }
        let away = NextHop {
            mac: [0x02, 0xdd, 0, 0, 0, v6.into()],
            source_mac: [0x02, 0xdd, 0, 0, 1, 2],
            ifindex: elsewhere(),
        };
        services[if v6 { 9 } else { 0 }].reals[1].hop = Some(away);
    }
    services
}

fn kind(
    nth: usize,
    v6: bool,
    protocol: Protocol,
    forward: Forward,
    port: u16,
    mapped: Option<u16>,
) -> DesiredService {
    let vip = if v6 { format!("[2001:db8::1]:{port}") } else { format!("192.0.2.1:{port}") };
    let real = |i: u8| match (v6, mapped) {
        (false, None) => format!("10.0.{nth}.{i}"),
        (false, Some(port)) => format!("10.0.{nth}.{i}:{port}"),
        (true, None) => format!("2001:db8:1:{nth}::{i}"),
        (true, Some(port)) => format!("[2001:db8:1:{nth}::{i}]:{port}"),
    };
    let reals = [1, 2, 3].map(real);
    service(nth, &vip, protocol, forward, &reals.each_ref().map(String::as_str))
}

/// A sound packet: a client's, a real server's, an ICMP error about either, or one of neighbours.
pub fn sound(random: &mut Random, services: &[DesiredService]) -> Vec<u8> {
    let service = random.pick(services);
    let asks = asks(random, service);
    let packet = match random.below(11) {
        0..=4 => asks,
        5 | 6 => answer(random, service, &asks),
        7 => about(random, &Packet { from: asks.to, to: asks.from, ..asks }),
        8 => {
            let number = *random.pick(&[1u8, 58, 47, 50, 2, 89, 132, 255]);
            other(asks.from, asks.to, number, &asks.payload)
        }
        9 => return neighbour(random),
        _ => {
            let mut elsewhere = asks;
            elsewhere.to.set_ip(if elsewhere.to.is_ipv4() {
                Ipv4Addr::from(random.next() as u32).into()
            } else {
                Ipv6Addr::from(u128::from(random.next()) << 64 | 7).into()
            });
            elsewhere
        }
    };
    let fragmentable = packet.payload.len() > 40 && !matches!(packet.upper, Upper::Other(..));
    if fragmentable && random.below(3) == 0 {
        let parts = packet.fragments(*random.pick(&[8, 24, 40]));
        return random.pick(&parts).clone();
    }
    packet.frame()
}

fn asks(random: &mut Random, service: &DesiredService) -> Packet {
    let port = match &service.ports {
        Ports::List(ports) => *random.pick(ports),
        Ports::Any => 1 + random.below(200) as u16,
    };
    let to = SocketAddr::new(service.address, port);
    let host = random.below(16) as u8;
    let from = match service.address {
        IpAddr::V4(_) => IpAddr::from([198, 51, 100 + host % 2, host]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xc, u16::from(host % 2), 0, 0, 0, u16::from(host)]),
    };
    let from = SocketAddr::new(from, 1024 + random.below(32) as u16);
    let payload: Vec<u8> =
        (0..*random.pick(&[0, 0, 1, 7, 64, 65, 300])).map(|_| random.next() as u8).collect();
    let flags = *random.pick(&["S", "S", "A", "PA", "PA", "FA", "R", "RA", "SA", "", "SF"]);
    let mut packet = match service.protocol {
        Protocol::Tcp => tcp(from, to, flags, &payload),
        Protocol::Udp => udp(from, to, &payload),
    };
    packet.ttl = *random.pick(&[64, 64, 64, 255, 2, 1]);
    packet.id = random.below(50) as u16;
    packet.from_mac[5] = 0xc0 | random.below(4) as u8;
    if service.address.is_ipv4() && matches!(packet.upper, Upper::Udp { .. }) && random.below(8) == 0 {
        packet.upper = Upper::Udp { checksum: false };
    }
    if random.below(8) == 0 {
        if service.address.is_ipv4() {
            packet.options = vec![1; *random.pick(&[4, 8, 40])];
        } else {
            let extension = |random: &mut Random| {
                let number = *random.pick(&[0u8, 43, 60, 51]);
                (number, vec![1; if number == 51 { 12 } else { *random.pick(&[6, 14, 54]) }])
            };
            packet.extensions = (0..1 + random.below(7)).map(|_| extension(random)).collect();
        }
    }
    packet
}

fn answer(random: &mut Random, service: &DesiredService, asks: &Packet) -> Packet {
    if service.reals.is_empty() {
        return asks.clone();
    }
    let real = random.pick(&service.reals);
    let from = SocketAddr::new(real.address, real.port.unwrap_or(asks.to.port()));
    let answers = Packet { to: from, ..asks.clone() };
    let flags = *random.pick(&["SA", "A", "PA", "FA", "RA"]);
    let answers = answers.answer(flags, &asks.payload);
    Packet { to_mac: OWN, from_mac: [0x02, 0xef, 0, 0, 0, 0], ..answers }
}

/// An ICMP error (or what looks like one) about a packet.
fn about(random: &mut Random, packet: &Packet) -> Packet {
    let mut quotation = packet.ip();
    quotation.truncate(*random.pick(&[28, 40, 48, 60, 500]));
    let kind = [
        *random.pick(&[0u8, 1, 2, 3, 4, 8, 11, 12]),
        0,
        random.next() as u8,
        random.next() as u8,
        0,
        0,
        5,
        0,
    ];
    let number = if packet.from.is_ipv4() { 1 } else { 58 };
    other(packet.to, packet.from, number, &[&kind[..], &quotation].concat())
}

/// The virtual MAC of a group that has a lease.
const HELD: [u8; 6] = [0x02, 0, 0x5e, 0, 1, 1];
/// That of one that has none.
const LOST: [u8; 6] = [0x02, 0, 0x5e, 0, 1, 2];
/// Addresses of either kind, with and without services.
const GUARDED: [[&str; 3]; 2] =
    [["192.0.2.1", "2001:db8::2", "2001:db8::3"], ["192.0.2.2", "192.0.2.3", "2001:db8::1"]];

/// Two groups for the guard: the first is to have a lease, the second none.
pub fn guarded() -> [GuardedGroup; 2] {
    let group = |addresses: [&str; 3], mac| GuardedGroup {
        addresses: addresses.map(|text| text.parse().expect("an address")).to_vec(),
        mac: Some(mac),
    };
    [group(GUARDED[0], HELD), group(GUARDED[1], LOST)]
}

/// A question for a MAC, or something like it.
fn neighbour(random: &mut Random) -> Vec<u8> {
    let [sender, target] =
        [(), ()].map(|()| *random.pick(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]));
    if random.below(2) == 0 {
        return arp(*random.pick(&[1, 1, 2, 3]), sender, target);
    }
    let [to, about] =
        [(), ()].map(|()| *random.pick(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "ff02::1"]));
    nd(*random.pick(&[135, 135, 136, 133]), "2001:db8:c::7", to, about).frame()
}

/// What may befall a frame.
pub fn mutate(random: &mut Random, mut frame: Vec<u8>, another: &[u8]) -> Vec<u8> {
    match random.below(12) {
        0 | 1 => {}
        2 => flip(random, &mut frame, usize::MAX),
        3 | 4 => flip(random, &mut frame[12..], 68),
        5 => frame.truncate(14 + random.below(frame.len() - 13)),
        6 => {
            // Where lengths, offsets and numbers of next headers stand, of either family.
            let at =
                *random.pick(&[14, 16, 17, 18, 19, 20, 21, 23, 34, 35, 38, 46, 54, 55, 58, 59, 62, 63, 66]);
            if let Some(byte) = frame.get_mut(at) {
                *byte = *random.pick(&[
                    0, 1, 2, 4, 5, 6, 8, 17, 20, 40, 43, 44, 51, 58, 60, 0x45, 0x4f, 0x60, 0x7f, 0xff,
                ]);
            }
        }
        7 => {
            let (at, more) = (14 + random.below(frame.len() - 13), 1 + random.below(24));
            let bytes: Vec<u8> = (0..more).map(|_| random.next() as u8).collect();
            frame.splice(at..at, bytes);
        }
        8 => {
            // A VLAN tag, or a header in front of the payload.
            let at = *random.pick(&[12, 34, 54]);
            if at <= frame.len() {
                frame.splice(at..at, *random.pick(&[[0x81, 0, 0, 7, 6, 0, 1, 4], [44, 0, 0, 1, 0, 0, 0, 9]]));
            }
        }
        9 => frame.extend((0..random.below(60)).map(|_| random.next() as u8)),
        10 => {
            let at = random.below(frame.len().min(another.len()));
            frame.truncate(at);
            frame.extend_from_slice(&another[at..]);
        }
        _ => {
            let kind = *random.pick(&[[0x08, 0x00], [0x86, 0xdd]]);
            frame[12..14].copy_from_slice(&kind);
            frame[14..].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
    }
    let mac = match random.below(40) {
        0 => return frame,
        1 => HELD,
        2 => LOST,
        3 => [0x33, 0x33, 0xff, 0, 0, 1],
        _ => OWN,
    };
    frame[..6].copy_from_slice(&mac);
    frame
}

fn flip(random: &mut Random, bytes: &mut [u8], within: usize) {
    for _ in 0..1 + random.below(8) {
        let at = random.below(bytes.len().min(within).max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
}
