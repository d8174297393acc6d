//! Desired services and real servers as the records of the map ABI.

use director_ebpf::{abi, hash};
use std::net::IpAddr;

use super::state::Units;
use crate::model::{Forward, Ports, Protocol, Scheduler, Unserved, mapped};
use crate::pool::{Desired, DesiredReal, DesiredService};

/// FNV-1a, 64 bits: a fingerprint, not a secret.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_more(0xcbf2_9ce4_8422_2325, bytes)
}

/// Goes on with an FNV-1a fingerprint.
pub(super) fn fnv1a_more(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The protocol's number.
pub(super) fn service_proto(service: &DesiredService) -> u8 {
    match service.protocol {
        Protocol::Tcp => abi::proto::TCP,
        Protocol::Udp => abi::proto::UDP,
    }
}

/// Every key that leads to the service.
pub(super) fn service_keys(service: &DesiredService) -> impl Iterator<Item = abi::ServiceKey> + '_ {
    let (any, list): (Option<u16>, &[u16]) = match &service.ports {
        Ports::Any => (Some(0), &[]),
        Ports::List(ports) => (None, ports),
    };
    let addr = mapped(service.address);
    let proto = service_proto(service);
    any.into_iter().chain(list.iter().copied()).map(move |port| abi::ServiceKey {
        addr,
        port_be: port.to_be(),
        proto,
        zero: 0,
    })
}

/// The service's record with its table yet to come.
pub(super) fn service_record(service: &DesiredService, units: &Units) -> abi::Service {
    let mut flags = abi::service_flag::VALID;
    if service.unserved == Unserved::Reject {
        flags |= abi::service_flag::REJECT;
    }
    if service.sloppy {
        flags |= abi::service_flag::SLOPPY;
    }
    if service.reset {
        flags |= abi::service_flag::RESET;
    }
    let (mut persist_prefix, mut persist_ticks) = (0, 0);
    if let Some(persistence) = service.persistence {
        flags |= abi::service_flag::PERSISTENT;
        let (before, most) = if service.address.is_ipv4() { (96, 32) } else { (0, 128) };
        persist_prefix = before + persistence.prefix.min(most);
        persist_ticks = units.ticks(persistence.timeout);
    }
    abi::Service {
        vip: mapped(service.address),
        table: 0,
        rule: index_rule(service.scheduler),
        flags,
        persist_prefix,
        proto: service_proto(service),
        persist_ticks,
        syn_ticks: units.ticks(service.timeouts.syn),
        established_ticks: units.ticks(service.timeouts.established),
        fin_ticks: units.ticks(service.timeouts.fin),
        close_ticks: units.ticks(service.timeouts.close),
        udp_ticks: units.ticks(service.timeouts.udp),
        table_sig: 0,
        name_hash: fnv1a(service.name.as_bytes()),
        zero: [0],
    }
}

fn index_rule(scheduler: Scheduler) -> u8 {
    match scheduler {
        Scheduler::Rr | Scheduler::Wrr | Scheduler::Fo => abi::index_rule::COUNTER,
        Scheduler::Mh => abi::index_rule::FLOW_HASH,
        Scheduler::Sh => abi::index_rule::SOURCE_HASH,
        Scheduler::Dh => abi::index_rule::DEST_HASH,
    }
}

/// The number of a way of forwarding.
pub(super) fn forward_number(forward: Forward) -> u8 {
    match forward {
        Forward::Direct => abi::forward::DIRECT,
        Forward::Nat => abi::forward::NAT,
    }
}

/// The real server's own port as records have it; 0: as the client sent it.
pub(super) fn own_port_be(real: &DesiredReal) -> u16 {
    real.port.unwrap_or(0).to_be()
}

/// A backend's record. Where the next hop got lost, the old one stays written but no packet is sent there.
pub(super) fn backend_record(
    service: &DesiredService,
    service_id: u32,
    real: &DesiredReal,
    before: Option<&abi::Backend>,
) -> abi::Backend {
    let mut flags = abi::backend_flag::VALID;
    if real.hop.is_some() {
        flags |= abi::backend_flag::REACHABLE;
        if real.weight > 0 {
            flags |= abi::backend_flag::OPEN;
        }
    }
    if service.forward == Forward::Direct && service.persistence.is_none() {
        flags |= abi::backend_flag::PLAIN;
    }
    let (mac, source_mac, ifindex) = match (real.hop, before) {
        (Some(hop), _) => (hop.mac, hop.source_mac, hop.ifindex),
        (None, Some(before)) => (before.mac, before.source_mac, before.ifindex),
        (None, None) => ([0; 6], [0; 6], 0),
    };
    let port_be = own_port_be(real);
    let vport = if port_be == 0 { 0 } else { service.ports.single().unwrap_or(0) };
    abi::Backend {
        mac,
        forward: forward_number(service.forward),
        flags,
        source_mac,
        weight: real.weight,
        ifindex,
        service: service_id,
        vip: mapped(service.address),
        addr: mapped(real.address),
        port_be,
        vport_be: vport.to_be(),
        addr_delta: 0,
        l4_delta: 0,
    }
    .sealed()
}

/// The filter that lets through to the service look-up what may concern us: VIPs, and real servers whose replies pass here.
pub(super) fn address_filter(desired: &Desired) -> Box<abi::AddrFilter> {
    let mut filter = Box::new([0; abi::FILTER_WORDS]);
    for service in &desired.services {
        admit(&mut filter, service.address);
        if service.forward == Forward::Nat {
            service.reals.iter().for_each(|real| admit(&mut filter, real.address));
        }
    }
    filter
}

fn admit(filter: &mut abi::AddrFilter, address: IpAddr) {
    let (word, bit) = match address {
        IpAddr::V4(v4) => hash::filter_bit(&u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let words: [u32; 4] = std::array::from_fn(|i| {
                u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
            });
            hash::filter_bit(&words)
        }
    };
    filter[word] |= bit;
}
