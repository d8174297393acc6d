//! NAT: VIP and VIP port become the real server's, and in the reply the other way round. Checksums are updated by what the
//! change of addresses and ports adds to them, the same for every packet of a backend ([`Backend::sealed`]).
//!
//! A reply is found by an entry of its own, keyed by what stands in it. It leaves to where the client's packets come from: the
//! client's last source MAC, refreshed once a tick with its packets, so that a change of router is followed.

use director_ebpf::abi::{Backend, ColdKind, FlowCold, Hop, Reason, backend_flag, forward, proto};
use director_ebpf::checksum;
use director_ebpf::flowword::kind;
use director_ebpf::hash::{self, Tuple};
use director_ebpf::packet::{ETHERNET, Fragment, Frame};
use director_ebpf::state;

use crate::Verdict;
use crate::account;
use crate::balance::Arrival;
use crate::family::Family;
use crate::flow::{self, Entry};
use crate::forward::{Headers, direct};
use crate::maps::{BACKENDS, HashKey, ifindex, own_mac};

/// Rewrites a client's packet for its real server.
#[inline(always)]
pub fn to_real<F: Family>(headers: &Headers, backend: &Backend) -> Result<(), Reason> {
    hop::<F>(headers.frame)?;
    let to = F::SOURCE + size_of::<F::A>();
    let change = Change { at: to, addr: F::unmapped(&backend.addr), port_at: 2, port_be: backend.port_be };
    rewrite::<F>(headers, &change, backend.addr_delta, backend.l4_delta)
}

/// Whether a packet comes from a NAT backend's real server.
#[inline(always)]
pub fn is_from<F: Family>(tuple: &Tuple<F::A>, backend: &Backend) -> bool {
    backend.forward == forward::NAT
        && F::unmapped(&backend.addr) == tuple.src
        && (backend.port_be == 0 || backend.port_be == tuple.ports as u16)
}

/// Notes a real server's reply and sends it to the client.
#[inline(never)]
pub fn reply<F: Family>(arrival: &Arrival<F>, entry: &Entry, backend: &Backend) -> Verdict {
    let (arrival, entry, backend) = (crate::opaque(arrival), crate::opaque(entry), crate::opaque(backend));
    let val = entry.val();
    let after = after::<F>(arrival, val.state);
    if after != val.state || entry.is_stale(arrival.now) {
        entry.note(after, arrival.now);
        note_client::<F>(arrival, backend);
    }
    send_reply::<F>(&arrival.headers(), entry, backend)
}

/// The state of a flow after its real server's packet.
#[inline(always)]
fn after<F: Family>(arrival: &Arrival<F>, state: u8) -> u8 {
    if arrival.protocol == proto::TCP { state::after_real(state, arrival.flags) } else { state }
}

/// Rewrites a packet of a real server's and sends it the way that `entry` names.
#[inline(always)]
pub fn send_reply<F: Family>(headers: &Headers, entry: &Entry, backend: &Backend) -> Verdict {
    let Some(cold) = entry.cold() else { return account::drop(Reason::DropInternal) };
    let change =
        Change { at: F::SOURCE, addr: F::unmapped(&backend.vip), port_at: 0, port_be: backend.vport_be };
    let (addr_delta, l4_delta) = (checksum::inverse(backend.addr_delta), checksum::inverse(backend.l4_delta));
    if let Err(reason) =
        hop::<F>(headers.frame).and_then(|()| rewrite::<F>(headers, &change, addr_delta, l4_delta))
    {
        return account::drop(reason);
    }
    account::outbound(entry.val().backend, F::frame_bytes(headers.frame));
    direct::send(headers.frame, cold.hop())
}

/// The ports of a reply to this flow.
#[inline(always)]
fn reply_ports<F: Family>(arrival: &Arrival<F>, backend: &Backend) -> u32 {
    let vport = arrival.tuple.ports >> 16;
    let rport = if backend.port_be == 0 { vport } else { u32::from(backend.port_be) };
    rport | arrival.tuple.ports << 16
}

/// The hash that a reply to this flow will have.
#[inline(never)]
pub fn reply_hash<F: Family>(arrival: &Arrival<F>, backend: &Backend) -> u64 {
    let (arrival, backend) = (crate::opaque(arrival), crate::opaque(backend));
    let tuple = Tuple {
        src: F::unmapped(&backend.addr),
        dst: arrival.tuple.src,
        ports: reply_ports::<F>(arrival, backend),
        proto: u32::from(arrival.protocol),
    };
    hash::flow(&HashKey, &tuple)
}

/// Whether no other flow's replies look like this flow's would: one real server in two services, one client port to both.
#[inline(never)]
pub fn reply_is_free<F: Family>(arrival: &Arrival<F>, id: u32, backend: &Backend) -> bool {
    let (arrival, backend) = (crate::opaque(arrival), crate::opaque(backend));
    match flow::find_cold(reply_hash::<F>(arrival, backend)) {
        None => true,
        Some(entry) => {
            let val = entry.val();
            if val.backend == id {
                return true;
            }
            let gone =
                BACKENDS.get(val.backend).is_none_or(|backend| backend.flags & backend_flag::VALID == 0);
            if gone || state::reusable(val.state) {
                entry.remove();
                return true;
            }
            false
        }
    }
}

/// Refreshes the reply's entry: same state and time as the client's, and the way back. Returns whether it is in; None where
/// there is none, and [`file_reply`] is to be called. (Not from here: the stack would hold both.)
#[inline(never)]
pub fn note_reply<F: Family>(arrival: &Arrival<F>, hash: u64) -> Option<bool> {
    let arrival = crate::opaque(arrival);
    let Some(hop) = way_back(arrival.frame()) else { return Some(false) };
    let entry = flow::find_cold(hash)?;
    if entry.val().backend != arrival.backend {
        return Some(false); // it was over, and another flow has the tuple by now
    }
    entry.note(arrival.state, arrival.now);
    if let Some(cold) = entry.cold() {
        cold.set_hop(hop);
    }
    Some(true)
}

/// Files a reply's entry. Returns whether it is in.
#[inline(never)]
pub fn file_reply<F: Family>(arrival: &Arrival<F>, backend: &Backend, hash: u64) -> bool {
    let (arrival, backend) = (crate::opaque(arrival), crate::opaque(backend));
    let Some(hop) = way_back(arrival.frame()) else { return false };
    let src = F::wide(&F::unmapped(&backend.addr));
    let dst = F::wide(&arrival.tuple.src);
    let kind = ColdKind { proto: arrival.protocol, kind: kind::REPLY, service: backend.service };
    let cold = FlowCold::words(src, dst, reply_ports::<F>(arrival, backend), kind, arrival.now, hop);
    flow::insert(hash, arrival.val(kind::REPLY, arrival.state), &cold)
}

/// How a frame gets back to where this one came from: to its source MAC, by its interface. From that one's own MAC, also if this
/// one was sent to a virtual one: the entry may outlast our hold on that, and switches would learn it here again.
#[inline(always)]
fn way_back(frame: Frame) -> Option<Hop> {
    let (peer_start, peer_end): (u16, u32) = (frame.load(6)?, frame.load(8)?);
    let (own, peer) = (own_mac(), u64::from(peer_start) | u64::from(peer_end) << 16);
    Some([peer | own << 48, own >> 16 | u64::from(ifindex()) << 32])
}

/// Tells the client's entry what its real server said.
#[inline(never)]
fn note_client<F: Family>(arrival: &Arrival<F>, backend: &Backend) {
    let (arrival, backend) = (crate::opaque(arrival), crate::opaque(backend));
    let rport = arrival.tuple.ports & 0xffff;
    let vport = if backend.port_be == 0 { rport } else { u32::from(backend.vport_be) };
    let tuple = Tuple {
        src: arrival.tuple.dst,
        dst: F::unmapped(&backend.vip),
        ports: arrival.tuple.ports >> 16 | vport << 16,
        proto: u32::from(arrival.protocol),
    };
    if let Some(entry) = flow::find_cold(hash::flow(&HashKey, &tuple))
        && entry.val().kind == kind::CLIENT
        && entry.val().backend == arrival.backend
    {
        entry.note(after::<F>(arrival, entry.val().state), arrival.now);
    }
}

/// One hop less to live.
#[inline(always)]
pub fn hop<F: Family>(frame: Frame) -> Result<(), Reason> {
    let ttl: u8 = frame.load(F::TTL).ok_or(Reason::DropTruncated)?;
    if ttl <= 1 {
        return Err(Reason::DropTtl);
    }
    frame.store(F::TTL, ttl - 1);
    if F::IS_V4 {
        let check: u16 = frame.load(ETHERNET + 10).ok_or(Reason::DropTruncated)?;
        frame.store(ETHERNET + 10, checksum::update(check, checksum::TTL_STEP));
    }
    Ok(())
}

/// One end of a packet gets another address and, unless 0, another port.
struct Change<A> {
    at: usize,
    addr: A,
    port_at: usize,
    port_be: u16,
}

#[inline(always)]
fn rewrite<F: Family>(
    headers: &Headers,
    change: &Change<F::A>,
    addr_delta: u16,
    l4_delta: u16,
) -> Result<(), Reason> {
    let frame = headers.frame;
    frame.store(change.at, change.addr);
    if F::IS_V4 {
        let check: u16 = frame.load(ETHERNET + 10).ok_or(Reason::DropTruncated)?;
        frame.store(ETHERNET + 10, checksum::update(check, u32::from(addr_delta)));
    }
    if headers.fragment == Fragment::Later {
        return Ok(());
    }
    if change.port_be != 0 {
        headers.l4.store(change.port_at, change.port_be);
    }
    let tcp = headers.protocol == proto::TCP;
    let at = if tcp { 16 } else { 6 };
    let check: u16 = headers.l4.load(at).ok_or(Reason::DropTruncated)?;
    if !tcp && check == 0 {
        return Ok(()); // no checksum (RFC 768); under IPv6 only tunnels may do that (RFC 6935)
    }
    let new = checksum::update(check, u32::from(l4_delta));
    headers.l4.store(at, if !tcp && new == 0 { 0xffff } else { new });
    Ok(())
}
