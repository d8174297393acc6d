//! Our interfaces: which can send, from which MAC, and from which address to ask for a neighbour. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::wire::{Mac, is_unicast};

/// An interface as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its MAC; `None` where it has none (a tunnel, say).
    pub mac: Option<Mac>,
    /// Administratively up and with a carrier (IFF_UP and IFF_RUNNING).
    pub running: bool,
    /// It resolves neighbours: neither a loopback nor IFF_NOARP.
    pub resolves: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix: u8,
    /// Another address of the same network came first (IPv4: IFA_F_SECONDARY).
    pub secondary: bool,
    /// It may be a source: not tentative, and no duplicate (IPv6: RFC 4862).
    pub usable: bool,
}

/// All interfaces with their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    links: HashMap<u32, Link>,
    addresses: HashMap<u32, Vec<Address>>,
}

impl Interfaces {
    /// Notes an interface, or with `None` its end. Says whether anything is different now.
    pub fn set_link(&mut self, ifindex: u32, link: Option<Link>) -> bool {
        match link {
            Some(link) => self.links.insert(ifindex, link) != Some(link),
            None => {
                self.addresses.remove(&ifindex);
                self.links.remove(&ifindex).is_some()
            }
        }
    }

    /// Notes an address. Says whether anything is different now.
    pub fn add_address(&mut self, ifindex: u32, address: Address) -> bool {
        let addresses = self.addresses.entry(ifindex).or_default();
        let same = |other: &&mut Address| other.address == address.address && other.prefix == address.prefix;
        match addresses.iter_mut().find(same) {
            Some(known) => std::mem::replace(known, address) != address,
            None => {
                addresses.push(address);
                true
            }
        }
    }

    /// Notes that an address is gone. Says whether it was known.
    pub fn remove_address(&mut self, ifindex: u32, address: IpAddr, prefix: u8) -> bool {
        let Some(addresses) = self.addresses.get_mut(&ifindex) else { return false };
        let before = addresses.len();
        addresses.retain(|known| (known.address, known.prefix) != (address, prefix));
        addresses.len() != before
    }

    /// The interfaces that are not the same here and there.
    pub fn differences(&self, other: &Self) -> BTreeSet<u32> {
        let all = self.links.keys().chain(other.links.keys()).copied();
        let same = |ifindex: &u32| {
            self.links.get(ifindex) == other.links.get(ifindex)
                && self.addresses.get(ifindex) == other.addresses.get(ifindex)
        };
        all.filter(|ifindex| !same(ifindex)).collect()
    }

    /// The MAC that frames out of an interface bear; `None` while it cannot reach a neighbour by a MAC: gone,
    /// down, without carrier, or of another kind.
    pub fn sender(&self, ifindex: u32) -> Option<Mac> {
        let link = self.links.get(&ifindex)?;
        link.mac.filter(|mac| link.running && link.resolves && is_unicast(*mac))
    }

    /// Whether a MAC is one of ours.
    pub fn own(&self, mac: Mac) -> bool {
        self.links.values().any(|link| link.mac == Some(mac))
    }

    /// The source address of an ARP request out of `ifindex` for `target`. Never one to `avoid`: a request
    /// enters its sender into the neighbours' caches (RFC 826), so asking from a VIP would claim it. First
    /// `preferred`, the source the kernel would take, and the primary addresses of the target's own network;
    /// without any, 0.0.0.0 (RFC 5227).
    pub fn source_v4(
        &self,
        ifindex: u32,
        target: Ipv4Addr,
        preferred: Option<IpAddr>,
        avoid: &BTreeSet<IpAddr>,
    ) -> Ipv4Addr {
        let worth = |known: &Address| {
            let near = range(known.address, known.prefix).contains(&IpAddr::V4(target));
            (near, Some(known.address) == preferred, !known.secondary)
        };
        let mut best = None;
        for known in self.sources(ifindex, avoid) {
            let IpAddr::V4(address) = known.address else { continue };
            let worth = worth(known);
            // Strictly better: of equals, the first stays, as the kernel's order has it.
            if best.is_none_or(|(other, _)| worth > other) {
                best = Some((worth, address));
            }
        }
        best.map_or(Ipv4Addr::UNSPECIFIED, |(_, address)| address)
    }

    /// The source address of a neighbour solicitation out of `ifindex`. The link-local one, which is never a
    /// VIP, before any other; `None` where there is no usable address (a solicitation from `::` means
    /// duplicate address detection).
    pub fn source_v6(&self, ifindex: u32, avoid: &BTreeSet<IpAddr>) -> Option<Ipv6Addr> {
        let mut fallback = None;
        for known in self.sources(ifindex, avoid) {
            match known.address {
                IpAddr::V6(address) if address.is_unicast_link_local() => return Some(address),
                IpAddr::V6(address) if fallback.is_none() => fallback = Some(address),
                IpAddr::V6(_) | IpAddr::V4(_) => {}
            }
        }
        fallback
    }

    fn sources<'a>(&'a self, ifindex: u32, avoid: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = &'a Address> {
        let addresses = self.addresses.get(&ifindex).into_iter().flatten();
        addresses.filter(|known| known.usable && !avoid.contains(&known.address))
    }
}

/// The first and the last address of the network of `address` with a prefix of `prefix` bits.
pub fn range(address: IpAddr, prefix: u8) -> RangeInclusive<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let first = address.to_bits() & !host;
            Ipv4Addr::from_bits(first).into()..=Ipv4Addr::from_bits(first | host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let first = address.to_bits() & !host;
            Ipv6Addr::from_bits(first).into()..=Ipv6Addr::from_bits(first | host).into()
        }
    }
}
