//! ICMP to a VIP. Echo and the like are the kernel's. An error is about a packet that a real server sent as the VIP (RFC 792,
//! RFC 4443): it must reach exactly that one, or path MTU discovery dies behind the balancer.

use director_ebpf::abi::{Backend, Reason, backend_flag, forward, proto};
use director_ebpf::checksum;
use director_ebpf::flowword::kind;
use director_ebpf::hash::{self, Tuple};
use director_ebpf::packet::{ETHERNET, Fragment, Frame, SOLICITATION};

use crate::Verdict;
use crate::account::{self, drop, pass};
use crate::balance::{Arrival, send};
use crate::family::Family;
use crate::flow;
use crate::forward::{direct, nat};
use crate::guard;
use crate::maps::{BACKENDS, HashKey};

/// An ICMP packet to or from one of our addresses.
#[inline(always)]
pub fn packet<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    if arrival.fragment == Fragment::Later {
        return pass(Reason::PassIcmp);
    }
    let Some(kind) = arrival.l4().load::<u8>(0) else { return drop(Reason::DropTruncated) };
    if !F::IS_V4 && kind == SOLICITATION && guard::forbids_nd(arrival.frame()) {
        return drop(Reason::DropNoLease);
    }
    if !is_error::<F>(kind) {
        return pass(Reason::PassIcmp);
    }
    match error::<F>(arrival) {
        DIRECT => send::<F>(arrival),
        verdict => verdict,
    }
}

/// Stands for a verdict: the packet goes on as it is, by direct routing.
const DIRECT: Verdict = crate::NO_VERDICT;

/// Destination unreachable, time exceeded, parameter problem, packet too big.
#[inline(always)]
fn is_error<F: Family>(kind: u8) -> bool {
    if F::IS_V4 { matches!(kind, 3 | 11 | 12) } else { matches!(kind, 1..=4) }
}

/// An error about a packet from the VIP: to the real server that sent it. Eight bytes of its L4 header are enough (RFC 792).
/// Inner headers with options or extensions are left to the kernel.
#[inline(never)]
fn error<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    let arrival = core::hint::black_box(arrival);
    route::<F>(arrival).unwrap_or_else(|| pass(Reason::PassIcmp))
}

#[inline(always)]
fn route<F: Family>(arrival: &mut Arrival<F>) -> Option<Verdict> {
    let inner = arrival.l4().from(8);
    let first: u8 = inner.load(0)?;
    if first != if F::IS_V4 { 0x45 } else { 0x60 } && (F::IS_V4 || first >> 4 != 6) {
        return None;
    }
    let protocol: u8 = inner.load(if F::IS_V4 { 9 } else { 6 })?;
    if protocol != proto::TCP && protocol != proto::UDP {
        return None;
    }
    let vip: F::A = inner.load(F::SOURCE - ETHERNET)?;
    let client: F::A = inner.load(F::SOURCE - ETHERNET + size_of::<F::A>())?;
    let ports: u32 = inner.load(F::HEADER)?;
    if vip != arrival.tuple.dst {
        return None;
    }
    let tuple = Tuple { src: client, dst: vip, ports: ports.rotate_left(16), proto: u32::from(protocol) };
    let entry = flow::find_cold(hash::flow(&HashKey, &tuple))?;
    let backend = BACKENDS.get(entry.val().backend)?;
    let ours = entry.val().kind == kind::CLIENT && backend.flags & backend_flag::VALID != 0;
    if !ours || F::unmapped(&backend.vip) != vip {
        return None;
    }
    if backend.forward == forward::DIRECT {
        arrival.backend = entry.val().backend;
        return Some(DIRECT);
    }
    if backend.flags & backend_flag::REACHABLE == 0 {
        return Some(drop(Reason::DropNoNextHop));
    }
    if let Err(reason) = nat::hop::<F>(arrival.frame()) {
        return Some(drop(reason));
    }
    translate::<F>(arrival, inner, backend)?;
    account::inbound(entry.val().backend, F::frame_bytes(arrival.frame()));
    Some(direct::send(arrival.frame(), backend.hop()))
}

/// Under NAT, the error must speak of the packet as the real server knows it: its own address and port in the inner headers,
/// its own address as the outer destination (RFC 5508, 4.2). The inner L4 checksum is left: no host can check it here.
#[inline(always)]
fn translate<F: Family>(arrival: &Arrival<F>, inner: Frame, backend: &Backend) -> Option<()> {
    let real = F::unmapped(&backend.addr);
    let delta = u32::from(backend.addr_delta);
    let ports =
        checksum::fold(u32::from(backend.l4_delta) + u32::from(checksum::inverse(backend.addr_delta)));
    let mut icmp_delta = delta;
    arrival.frame().store(F::SOURCE + size_of::<F::A>(), real);
    inner.store(F::SOURCE - ETHERNET, real);
    if backend.port_be != 0 {
        inner.store(F::HEADER, backend.port_be);
        icmp_delta += u32::from(ports);
    }
    if F::IS_V4 {
        let outer: u16 = arrival.frame().load(ETHERNET + 10)?;
        arrival.frame().store(ETHERNET + 10, checksum::update(outer, delta));
        // The inner header's sum changes with its address; the two changes cancel out in ICMP's own.
        let check: u16 = inner.load(10)?;
        let new = checksum::update(check, delta);
        inner.store(10, new);
        icmp_delta += checksum::difference(u32::from(check), u32::from(new));
    } else {
        icmp_delta += delta; // the pseudo-header's destination (RFC 4443, 2.3)
    }
    let check: u16 = arrival.l4().load(2)?;
    arrival.l4().store(2, checksum::update(check, icmp_delta));
    Some(())
}
