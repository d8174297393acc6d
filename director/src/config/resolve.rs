//! Drafts of services → services: what was left out is filled in, and each is checked against itself, the VIPs, the limits
//! and the services before it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::model::{
    Forward, Limits, Persistence, Ports, Protocol, Real, Scheduler, Service, Timeouts, Unserved,
};

use super::draft::{Draft, RealDraft, Sticky};
use super::health;
use super::net::{self, Netmask, PortSpec};
use super::reader::{Complaint, Given, Reader};

/// Persistence's timeout where none is given: IPVS's.
const PERSISTENCE: Duration = Duration::from_secs(300);

/// Resolves one service after the other.
pub(super) struct Resolver<'d> {
    pub(super) reader: &'d mut Reader,
    defaults: &'d Draft,
    limits: Limits,
    /// The VIPs, unless one of them is wrong and so not known.
    vips: Option<HashSet<IpAddr>>,
    /// Lines of services by name.
    names: HashMap<&'d str, u32>,
    /// Who claimed a key; port 0 stands for `any`.
    claims: HashMap<(IpAddr, Protocol, u16), Claimant>,
    /// Real servers and keys so far.
    pub(super) reals: u64,
    pub(super) keys: u64,
}

/// A service as messages name it.
#[derive(Clone, Debug)]
struct Claimant {
    label: Rc<str>,
    line: u32,
}

/// What a service's real servers are checked against.
struct Around<'s> {
    label: &'s str,
    address: Option<IpAddr>,
    forward: Option<Forward>,
    ports: Option<&'s PortSpec>,
}

impl<'d> Resolver<'d> {
    pub(super) fn new(
        reader: &'d mut Reader,
        defaults: &'d Draft,
        limits: Limits,
        vips: Option<HashSet<IpAddr>>,
    ) -> Resolver<'d> {
        let (names, claims) = (HashMap::new(), HashMap::new());
        Resolver { reader, defaults, limits, vips, names, claims, reals: 0, keys: 0 }
    }

    /// The service, unless something in it is wrong.
    pub(super) fn service(&mut self, draft: &'d Draft) -> Option<Service> {
        let defaults = self.defaults;
        let name = self.name(draft);
        let label = match name {
            Some(name) => format!("service `{name}`"),
            None => format!("the service on line {}", draft.place.line),
        };
        let address = self.address(draft, &label);
        let ports = self.needed(draft, &label, "port", "80", |draft| &draft.ports);
        let forward = self.needed(draft, &label, "forward", "direct or nat", |draft| &draft.forward).copied();
        let protocol = settled(&draft.protocol, &defaults.protocol, Protocol::Tcp);
        let persistence = self.persistence(draft, &label, address);
        if let (Some(PortSpec::Any), Some(None)) = (ports, &persistence) {
            let place = draft.ports.place().unwrap_or(draft.place);
            let complaint = Complaint::new(format!("{label} takes any port, and that needs `persistence`"));
            self.reader.error(place, complaint.hint("write persistence: { timeout: 5m }, or name the ports"));
        }
        let ports = match (address, protocol, ports) {
            (Some(address), Some(protocol), Some(ports)) => {
                let claimant = Claimant { label: label.as_str().into(), line: draft.place.line };
                self.claim(draft, claimant, (address, protocol), ports);
                Some(ports)
            }
            _ => ports,
        };
        let reals = self.reals(draft, &Around { label: &label, address, forward, ports });
        let health = health::policy(
            self.reader,
            draft,
            defaults,
            &health::Around { label: &label, address, forward, ports },
        );
        Some(Service {
            name: name?.clone(),
            address: address?,
            protocol: protocol?,
            ports: self.expanded(ports?),
            forward: forward?,
            scheduler: settled(&draft.scheduler, &defaults.scheduler, Scheduler::Wrr)?,
            persistence: persistence?,
            timeouts: timeouts(draft, defaults)?,
            unserved: settled(&draft.unserved, &defaults.unserved, Unserved::Drop)?,
            sloppy: settled(&draft.sloppy, &defaults.sloppy, false)?,
            reals: reals?,
            health: health?,
        })
    }

    fn name(&mut self, draft: &'d Draft) -> Option<&'d String> {
        if draft.name.is_absent() {
            let complaint = Complaint::new("a service needs a `name`").hint("write name: web");
            self.reader.error(draft.place, complaint);
        }
        let name = draft.name.right()?;
        let line = draft.name.place().unwrap_or(draft.place).line;
        if let Some(first) = self.names.get(name.as_str()) {
            let complaint =
                Complaint::new(format!("two services are named `{name}`, the first on line {first}"));
            self.reader
                .error(draft.name.place().unwrap_or(draft.place), complaint.hint("rename one of them"));
        } else {
            self.names.insert(name, line);
        }
        Some(name)
    }

    /// A value that must be given, by the service or by `defaults`.
    fn needed<T>(
        &mut self,
        draft: &'d Draft,
        label: &str,
        key: &str,
        example: &str,
        of: impl Fn(&'d Draft) -> &'d Given<T>,
    ) -> Option<&'d T> {
        let given = of(draft).or(of(self.defaults));
        if given.is_absent() {
            let complaint =
                Complaint::new(format!("{label} needs `{key}`")).hint(format!("write {key}: {example}"));
            self.reader.error(draft.place, complaint);
        }
        given.right()
    }

    fn address(&mut self, draft: &'d Draft, label: &str) -> Option<IpAddr> {
        let address = *self.needed(draft, label, "address", "192.0.2.10", |draft| &draft.address)?;
        if let Some(vips) = &self.vips
            && !vips.contains(&address)
        {
            let complaint = Complaint::new(format!("{label} is at {address}, which is none of the VIPs"));
            let hint = format!(
                "add it to `vips` with its prefix length and interface, as {address}/{}",
                net::bits(address)
            );
            self.reader.error(draft.address.place().unwrap_or(draft.place), complaint.hint(hint));
        }
        Some(address)
    }

    /// Nothing where it is wrong; `Some(None)` where there is no persistence.
    fn persistence(
        &mut self,
        draft: &Draft,
        label: &str,
        address: Option<IpAddr>,
    ) -> Option<Option<Persistence>> {
        let (timeout, netmask) = match (&draft.persistence, &self.defaults.persistence) {
            (Given::Wrong, _) | (Given::Absent, Given::Wrong) => return None,
            (Given::Right { value: Sticky::Off, .. }, _) | (Given::Absent, Given::Absent) => {
                return Some(None);
            }
            (Given::Right { value: Sticky::On { timeout, netmask }, .. }, base) => match base.right() {
                Some(Sticky::On { timeout: base, netmask: mask }) => (timeout.or(base), netmask.or(mask)),
                _ => (timeout, netmask),
            },
            (Given::Absent, Given::Right { value, .. }) => match value {
                Sticky::Off => return Some(None),
                Sticky::On { timeout, netmask } => (timeout, netmask),
            },
        };
        let address = address?;
        let place = draft.persistence.right().and(netmask.place()).unwrap_or(draft.place);
        let timeout = settled(timeout, &Given::Absent, PERSISTENCE);
        let netmask = settled(netmask, &Given::Absent, Netmask::Prefix(net::bits(address)))?;
        let prefix = match netmask {
            Netmask::Dotted(prefix) if address.is_ipv4() => Ok(prefix),
            Netmask::Prefix(prefix) if prefix <= net::bits(address) => Ok(prefix),
            Netmask::Prefix(prefix) => Err(Complaint::new(format!(
                "a netmask of {prefix} bits does not fit {label}, which is at the IPv4 address {address}"
            ))
            .hint("write a prefix length from 0 to 32")),
            Netmask::Dotted(_) => Err(Complaint::new(format!(
                "a dotted netmask does not fit {label}, which is at the IPv6 address {address}"
            ))
            .hint("write a prefix length, as 64")),
        };
        let prefix = self.reader.take(place, prefix)?;
        Some(Some(Persistence { timeout: timeout?, prefix }))
    }

    /// Claims a service's keys; complains of the first that is taken.
    fn claim(&mut self, draft: &Draft, by: Claimant, at: (IpAddr, Protocol), ports: &PortSpec) {
        let (address, protocol) = at;
        self.keys += ports.len();
        // Too many already: that is complained of in the end, and listing them all would only cost memory.
        if self.keys > u64::from(self.limits.keys) {
            return;
        }
        let place = draft.ports.place().unwrap_or(draft.place);
        for port in each_port(ports) {
            let Some(first) = self.claims.get(&(address, protocol, port)) else {
                self.claims.insert((address, protocol, port), by.clone());
                continue;
            };
            let what = if port == 0 { "any port".to_owned() } else { format!("port {port}") };
            let complaint = Complaint::new(format!(
                "{} claims {address} {protocol} {what}, but {} (line {}) has it already",
                by.label, first.label, first.line
            ));
            let hint =
                "a packet is for one service: change the address, the protocol or the port of one of them";
            self.reader.error(place, complaint.hint(hint));
            return;
        }
    }

    fn expanded(&self, ports: &PortSpec) -> Ports {
        match ports {
            PortSpec::Any => Ports::Any,
            PortSpec::Ranges(_) if self.keys > u64::from(self.limits.keys) => Ports::List(Vec::new()),
            PortSpec::Ranges(_) => Ports::List(each_port(ports).collect()),
        }
    }

    fn reals(&mut self, draft: &'d Draft, around: &Around) -> Option<Vec<Real>> {
        let defaults = self.defaults;
        let drafts = match draft.reals.or(&defaults.reals) {
            Given::Absent => &[][..],
            Given::Wrong => return None,
            Given::Right { value, .. } => value,
        };
        if drafts.is_empty() {
            let place = draft.reals.place().unwrap_or(draft.place);
            let complaint =
                Complaint::new(format!("{} has no real servers: nothing answers its clients", around.label));
            self.reader.note(place, complaint);
        }
        let mut all = Vec::with_capacity(drafts.len());
        let mut seen = HashMap::with_capacity(drafts.len());
        for real in drafts {
            self.real(real, around, &mut all, &mut seen);
        }
        Some(all)
    }

    /// Adds an entry's real servers.
    fn real(
        &mut self,
        draft: &RealDraft,
        around: &Around,
        all: &mut Vec<Real>,
        seen: &mut HashMap<(IpAddr, Option<u16>), u32>,
    ) {
        let port = real_port(draft, around);
        let port = self.reader.take(draft.port.place().unwrap_or(draft.place), port);
        let Given::Right { place, value: range } = draft.addresses else { return };
        if let Some(vip) = around.address
            && vip.is_ipv4() != range.first.is_ipv4()
        {
            let complaint = Complaint::new(format!(
                "{} cannot serve {}, which is at {vip}: the families differ",
                range.first, around.label
            ));
            self.reader.error(place, complaint.hint("VIP and real servers are all IPv4 or all IPv6"));
        }
        self.reals += range.len();
        if self.reals > u64::from(self.limits.reals) {
            return;
        }
        let weight = draft.weight.right().copied().unwrap_or(1);
        for address in range.addresses() {
            if self.vips.as_ref().is_some_and(|vips| vips.contains(&address)) {
                let complaint =
                    Complaint::new(format!("{address} is a VIP, and cannot be a real server too"));
                self.reader.error(place, complaint.hint("name the real server's own address"));
                return;
            }
            let Some(port) = port else { continue };
            if let Some(line) = seen.insert((address, port), place.line) {
                let complaint =
                    Complaint::new(format!("{address} is in {} twice, first on line {line}", around.label));
                self.reader.error(place, complaint.hint("to give it more flows, raise its `weight`"));
                return;
            }
            all.push(Real { address, port, weight });
        }
    }
}

/// A real server's port where it differs from the service's.
fn real_port(draft: &RealDraft, around: &Around) -> Result<Option<u16>, Complaint> {
    let Some(&port) = draft.port.right() else { return Ok(None) };
    let (Some(forward), Some(ports)) = (around.forward, around.ports) else { return Ok(None) };
    match (ports.single(), forward) {
        (Some(single), _) if single == port => Ok(None),
        (Some(_), Forward::Nat) => Ok(Some(port)),
        (Some(single), Forward::Direct) => Err(Complaint::new(format!(
            "port {port} needs `forward: nat`: under `direct` packets arrive with the service's port {single}"
        ))
        .hint("remove the port, or forward by nat")),
        (None, _) => Err(Complaint::new(format!(
            "a real server has a port of its own only where the service has one port, and {} has more",
            around.label
        ))
        .hint("remove the port: packets keep theirs; or make a service of each port")),
    }
}

/// The ports of a service, ascending; 0 for `any`.
fn each_port(ports: &PortSpec) -> impl Iterator<Item = u16> {
    let ranges = match ports {
        PortSpec::Any => &[(0, 0)][..],
        PortSpec::Ranges(ranges) => ranges,
    };
    ranges.iter().flat_map(|&(first, last)| first..=last)
}

/// The service's value, or `defaults`', or this version's; `None` where it is wrong.
pub(super) fn settled<T: Copy>(own: &Given<T>, defaults: &Given<T>, otherwise: T) -> Option<T> {
    Some(own.or(defaults).optional()?.copied().unwrap_or(otherwise))
}

fn timeouts(draft: &Draft, defaults: &Draft) -> Option<Timeouts> {
    let (own, base, otherwise) = (&draft.timeouts, &defaults.timeouts, Timeouts::default());
    Some(Timeouts {
        syn: settled(&own.syn, &base.syn, otherwise.syn)?,
        established: settled(&own.established, &base.established, otherwise.established)?,
        fin: settled(&own.fin, &base.fin, otherwise.fin)?,
        close: settled(&own.close, &base.close, otherwise.close)?,
        udp: settled(&own.udp, &base.udp, otherwise.udp)?,
    })
}
