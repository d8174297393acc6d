//! Addresses, networks and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::reader::{Complaint, Reader};
use super::tree::{Kind, Tree, shown};
use super::values::{text, whole};

/// Most addresses that a range may name.
pub(super) const MAX_RANGE: u128 = 1024;

/// An address that a host can have.
pub(super) fn address(tree: &Tree, label: &str) -> Result<IpAddr, Complaint> {
    host(text(tree, label)?, label)
}

fn host(text: &str, label: &str) -> Result<IpAddr, Complaint> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let complaint = Complaint::new(format!(
            "`{label}` must be an IPv4 or IPv6 address, found the text {}",
            shown(text)
        ));
        return Err(match text.contains('/') {
            true => complaint.hint("write it without the prefix length"),
            false => complaint,
        });
    };
    one_host(address, label)
}

/// An address, if one host can have it.
fn one_host(address: IpAddr, label: &str) -> Result<IpAddr, Complaint> {
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(Complaint::new(format!("{address} is an IPv4 address in IPv6's clothes"))
            .hint(format!("write {v4}")));
    }
    let kind = match address {
        _ if address.is_unspecified() => "no address at all",
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_loopback() => "a loopback address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        _ => return Ok(address),
    };
    Err(Complaint::new(format!("`{label}` must be the address of one host, but {address} is {kind}")))
}

/// An address with or without a port: `192.0.2.11`, `192.0.2.11:694`, `[2001:db8::11]:694`.
pub(super) fn endpoint(tree: &Tree, label: &str, port: u16) -> Result<SocketAddr, Complaint> {
    let text = text(tree, label)?;
    let whole = text.parse::<SocketAddr>();
    let endpoint = whole.or_else(|_| text.parse().map(|address: IpAddr| SocketAddr::new(address, port)));
    let complaint = || {
        Complaint::expected(label, "an address with or without a port", tree)
            .hint(format!("write \"192.0.2.11:{port}\" or \"[2001:db8::11]:{port}\", in quotes"))
    };
    let endpoint = endpoint.map_err(|_| complaint())?;
    let scoped = matches!(endpoint, SocketAddr::V6(v6) if v6.scope_id() != 0);
    if endpoint.port() == 0 || scoped { Err(complaint()) } else { Ok(endpoint) }
}

/// The same, of one host, and not of a link alone.
pub(super) fn unicast(tree: &Tree, label: &str, port: u16) -> Result<SocketAddr, Complaint> {
    let endpoint = endpoint(tree, label, port)?;
    let address = one_host(endpoint.ip(), label)?;
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let what = format!("`{label}` must say where it is reached, but {address} is a link-local address");
        return Err(Complaint::new(what).hint("give the host an address of the site, as one of fd00::/8"));
    }
    Ok(endpoint)
}

/// An address to listen at or send to, with its port: `127.0.0.1:9694`, `[::1]:9694`.
pub(super) fn socket_address(tree: &Tree, label: &str) -> Result<SocketAddr, Complaint> {
    let text = text(tree, label)?;
    text.parse().map_err(|_| {
        Complaint::expected(label, "an address and a port", tree)
            .hint("write \"127.0.0.1:9694\" or \"[::1]:9694\", in quotes")
    })
}

/// An address and its prefix length: `192.0.2.10/24`.
pub(super) fn cidr(tree: &Tree, label: &str) -> Result<(IpAddr, u8), Complaint> {
    let text = text(tree, label)?;
    let Some((left, right)) = text.split_once('/') else {
        let address = host(text, label)?;
        let example = if address.is_ipv4() { 24 } else { 64 };
        return Err(Complaint::new(format!("`{label}` needs the prefix length of its network")).hint(
            format!("write {address}/{example}, or {address}/{} for the address alone", bits(address)),
        ));
    };
    let address = host(left, label)?;
    match right.parse::<u8>() {
        Ok(prefix) if (1..=bits(address)).contains(&prefix) => Ok((address, prefix)),
        _ => Err(Complaint::new(format!(
            "the prefix length of {address} must be from 1 to {}, found {}",
            bits(address),
            shown(right)
        ))),
    }
}

/// Addresses from a first to a last one, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
}

impl Range {
    /// How many there are: 1 to [`MAX_RANGE`].
    pub(super) fn len(&self) -> u64 {
        (number(self.last) - number(self.first) + 1) as u64
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.first.is_ipv4();
        (number(self.first)..=number(self.last)).map(move |n| match v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(n as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(n)),
        })
    }
}

/// One address, or a range: `192.0.2.31-192.0.2.38`.
pub(super) fn range(tree: &Tree, label: &str) -> Result<Range, Complaint> {
    let text = text(tree, label)?;
    let Some((left, right)) = text.split_once('-') else {
        let only = host(text, label)?;
        return Ok(Range { first: only, last: only });
    };
    let (first, last) = (host(left.trim(), label)?, host(right.trim(), label)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(Complaint::new(format!("a range must be of one family, found {first} and {last}")));
    }
    if first > last {
        return Err(Complaint::new(format!("the range ends before it begins: {first} is after {last}"))
            .hint(format!("write {last}-{first}")));
    }
    let count = number(last) - number(first);
    if count >= MAX_RANGE {
        return Err(Complaint::new(format!("a range may name at most {MAX_RANGE} addresses"))
            .hint("split it, if it is meant to be that long"));
    }
    Ok(Range { first, last })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Bits of an address of this family.
pub(super) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Which part of a client's address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Netmask {
    /// So many leading bits, of either family.
    Prefix(u8),
    /// So many, written as IPv4 writes a mask.
    Dotted(u8),
}

/// A prefix length, or an IPv4 mask: `24`, `255.255.255.0`.
pub(super) fn netmask(tree: &Tree, label: &str) -> Result<Netmask, Complaint> {
    let complaint = || {
        Complaint::expected(label, "a prefix length from 0 to 128, or a dotted IPv4 mask", tree)
            .hint("write 24 or 255.255.255.0")
    };
    let Kind::Text(text) = &tree.kind else {
        return whole(tree, label, 0..=128).map(Netmask::Prefix).map_err(|_| complaint());
    };
    let mask: u32 = text.parse::<Ipv4Addr>().map_err(|_| complaint())?.to_bits();
    if mask.leading_ones() + mask.trailing_zeros() < 32 {
        let what = format!("`{label}` must be ones and then zeros in binary, found {}", shown(text));
        return Err(Complaint::new(what).hint("write 24 or 255.255.255.0"));
    }
    Ok(Netmask::Dotted(mask.leading_ones() as u8))
}

/// The ports of a service as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PortSpec {
    Any,
    /// First and last port of each range, ascending, none of them twice, at least one.
    Ranges(Vec<(u16, u16)>),
}

impl PortSpec {
    /// The only port, where there is just one.
    pub(super) fn single(&self) -> Option<u16> {
        match self {
            PortSpec::Ranges(ranges) => match ranges[..] {
                [(first, last)] if first == last => Some(first),
                _ => None,
            },
            PortSpec::Any => None,
        }
    }

    /// How many keys of the data plane it takes.
    pub(super) fn len(&self) -> u64 {
        match self {
            PortSpec::Any => 1,
            PortSpec::Ranges(ranges) => ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum(),
        }
    }
}

/// `80`, `[80, 443]`, `[80, 8000-8100]`, `8000-8100` or `any`.
pub(super) fn ports(reader: &mut Reader, tree: &Tree, label: &str) -> Option<PortSpec> {
    if matches!(&tree.kind, Kind::Text(text) if text == "any") {
        return Some(PortSpec::Any);
    }
    let Kind::List(items) = &tree.kind else {
        let range = port_range(tree, label);
        return Some(PortSpec::Ranges(vec![reader.take(tree.place, range)?]));
    };
    if items.is_empty() {
        reader.error(tree.place, Complaint::new(format!("`{label}` must name a port")));
        return None;
    }
    let found: Vec<Option<(u16, u16)>> =
        items.iter().map(|item| reader.take(item.place, port_range(item, label))).collect();
    let mut ranges = found.into_iter().collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        let what = format!("`{label}` names port {} twice", pair[1].0);
        reader.error(tree.place, Complaint::new(what).hint("name every port once"));
        return None;
    }
    Some(PortSpec::Ranges(ranges))
}

fn port_range(tree: &Tree, label: &str) -> Result<(u16, u16), Complaint> {
    let complaint = || {
        Complaint::expected(label, "a port from 1 to 65535", tree)
            .hint("write 80, [80, 443], 8000-8100, or any (with persistence)")
    };
    let Kind::Text(text) = &tree.kind else {
        let port = whole::<u16>(tree, label, 1..=65535).map_err(|_| complaint())?;
        return Ok((port, port));
    };
    if text == "any" {
        return Err(Complaint::new("`any` names every port, and stands alone").hint("write `port: any`"));
    }
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0).ok_or_else(complaint);
    let (left, right) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(left)?, port(right)?);
    if first > last {
        return Err(Complaint::new(format!("the range ends before it begins: {first} is after {last}"))
            .hint(format!("write {last}-{first}")));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Place;
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree { place: Place::START, kind: Kind::Text(text.into()) }
    }

    fn int(number: i64) -> Tree {
        Tree { place: Place::START, kind: Kind::Int(number) }
    }

    #[test]
    fn addresses_of_one_host_only() {
        assert!(address(&tree("192.0.2.1"), "address").is_ok());
        assert!(address(&tree("2001:db8::1"), "address").is_ok());
        for bad in [
            "192.0.2",
            "192.0.2.1/24",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "127.0.0.1",
            "255.255.255.255",
            "::ffff:192.0.2.1",
        ] {
            assert!(address(&tree(bad), "address").is_err(), "{bad}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(cidr(&tree("192.0.2.1/24"), "a"), Ok(("192.0.2.1".parse().unwrap(), 24)));
        assert_eq!(cidr(&tree("2001:db8::1/128"), "a"), Ok(("2001:db8::1".parse().unwrap(), 128)));
        for bad in ["192.0.2.1", "192.0.2.1/33", "192.0.2.1/0", "192.0.2.1/x", "2001:db8::1/129", "/24"] {
            assert!(cidr(&tree(bad), "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let eight = range(&tree("192.0.2.31-192.0.2.38"), "a").unwrap();
        assert_eq!((eight.len(), eight.addresses().count()), (8, 8));
        assert_eq!(eight.addresses().last(), Some("192.0.2.38".parse().unwrap()));
        let v6 = range(&tree("2001:db8::fe - 2001:db8::101"), "a").unwrap();
        assert_eq!(v6.addresses().nth(2), Some("2001:db8::100".parse().unwrap()));
        assert_eq!(range(&tree("10.0.0.0-10.0.3.255"), "a").unwrap().len(), 1024);
        for bad in
            ["10.0.0.0-10.0.4.0", "10.0.0.2-10.0.0.1", "10.0.0.1-2001:db8::1", "10.0.0.1-", "1::-f::", "a-b"]
        {
            assert!(range(&tree(bad), "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn netmasks() {
        assert_eq!(netmask(&int(24), "n"), Ok(Netmask::Prefix(24)));
        assert_eq!(netmask(&tree("255.255.255.0"), "n"), Ok(Netmask::Dotted(24)));
        assert_eq!(netmask(&tree("0.0.0.0"), "n"), Ok(Netmask::Dotted(0)));
        assert_eq!(netmask(&tree("255.255.255.255"), "n"), Ok(Netmask::Dotted(32)));
        assert!(netmask(&tree("255.0.255.0"), "n").is_err());
        assert!(netmask(&int(129), "n").is_err());
        assert!(netmask(&tree("/24"), "n").is_err());
    }

    #[test]
    fn every_form_of_ports() {
        let read = |kind| ports(&mut Reader::default(), &Tree { place: Place::START, kind }, "ports");
        assert_eq!(read(Kind::Int(80)), Some(PortSpec::Ranges(vec![(80, 80)])));
        assert_eq!(read(Kind::Text("any".into())), Some(PortSpec::Any));
        assert_eq!(read(Kind::Text("8000-8100".into())).map(|p| p.len()), Some(101));
        let list = read(Kind::List(vec![tree("8000-8100"), int(80)]));
        assert_eq!(list, Some(PortSpec::Ranges(vec![(80, 80), (8000, 8100)])));
        assert_eq!(read(Kind::List(vec![int(80), int(80)])), None);
        assert_eq!(read(Kind::List(vec![tree("70-90"), int(80)])), None);
        assert_eq!(read(Kind::List(vec![tree("any")])), None);
        for bad in [Kind::Int(0), Kind::Int(65536), Kind::Float(1.0), Kind::List(vec![]), Kind::Null] {
            assert_eq!(read(bad), None);
        }
        for bad in ["90-80", "0-80", "x", "80-", "1-2-3"] {
            assert_eq!(read(Kind::Text(bad.into())), None, "{bad}");
        }
    }
}
