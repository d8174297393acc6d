//! The slow path, for both families: packets without an entry, and those whose entry changes.
//!
//! It goes in steps, each of which ends with a verdict or leaves what it found in the [`Arrival`] for the next. The steps are
//! not inlined: BPF has 512 bytes of stack for a whole chain of calls, and steps use the same bytes one after the other.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use director_ebpf::abi::{
    Backend, ColdKind, ColdWords, FlowCold, Hop, Reason, Service, backend_flag, forward, proto, service_flag,
};
use director_ebpf::flowword::{Val, kind};
use director_ebpf::hash::{self, Tuple};
use director_ebpf::packet::{Broken, Fragment, Frame};
use director_ebpf::state;

use crate::account::{self, count, drop, pass};
use crate::family::Family;
use crate::fast::tcp_flags;
use crate::flow;
use crate::forward::{Headers, nat, to_real};
use crate::maps::{BACKENDS, HashKey, SERVICES};
use crate::schedule;
use crate::{NO_VERDICT, Verdict};
use crate::{icmp, reject, service};

/// A packet, as far as it is known.
pub struct Arrival<F: Family> {
    /// XDP's context.
    pub ctx: *mut xdp_md,
    /// What names its flow.
    pub tuple: Tuple<F::A>,
    /// The hash of that.
    pub hash: u64,
    /// Where its L4 header lies.
    pub offset: usize,
    /// The tick now.
    pub now: u32,
    /// What names a fragment's datagram.
    pub fragment_id: u32,
    /// The service's id, once it is known.
    pub service: u32,
    /// The backend's id, once it is known; 0 before.
    pub backend: u32,
    /// Its L4 protocol.
    pub protocol: u8,
    /// TCP's flags.
    pub flags: u8,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// Its flow's state after it.
    pub state: u8,
    /// Whether its flow begins with it.
    pub new: bool,
    /// Whether its flow's state changed, or its tick.
    pub changed: bool,
}

impl<F: Family> Arrival<F> {
    /// The frame it came in.
    #[inline(always)]
    pub fn frame(&self) -> Frame {
        // SAFETY: the kernel's context; whoever changes the frame's bounds looks at no older view.
        unsafe { crate::view(self.ctx) }
    }

    /// The frame from its L4 header on.
    #[inline(always)]
    pub fn l4(&self) -> Frame {
        self.frame().from(self.offset)
    }

    /// What forwarding needs of it.
    #[inline(always)]
    pub fn headers(&self) -> Headers {
        Headers { frame: self.frame(), l4: self.l4(), protocol: self.protocol, fragment: self.fragment }
    }

    /// An entry's value for it.
    #[inline(always)]
    pub fn val(&self, kind: u8, state: u8) -> Val {
        Val { backend: self.backend, last_seen: self.now as u16, check: 0, kind, state }
    }
}

/// An IP packet that the fast path left. `unknown`: because its flow has no entry.
#[inline(always)]
pub fn packet<F: Family>(ctx: *mut xdp_md, unknown: bool) -> Verdict {
    let mut arrival = Arrival::<F> {
        ctx,
        tuple: Tuple { src: F::NOWHERE, dst: F::NOWHERE, ports: 0, proto: 0 },
        hash: 0,
        offset: 0,
        now: flow::now(),
        fragment_id: 0,
        service: 0,
        backend: 0,
        protocol: 0,
        flags: 0,
        fragment: Fragment::Whole,
        state: state::EMBRYONIC,
        new: false,
        changed: false,
    };
    let verdict = parse::<F>(&mut arrival);
    if verdict != NO_VERDICT {
        return verdict;
    }
    if arrival.protocol == F::ICMP {
        return icmp::packet::<F>(&mut arrival);
    }
    if arrival.fragment == Fragment::Later {
        return later_fragment::<F>(&arrival);
    }
    if !unknown {
        let verdict = recognize::<F>(&mut arrival);
        if verdict != NO_VERDICT {
            return verdict;
        }
    }
    if arrival.backend == 0 {
        let verdict = admit::<F>(&mut arrival);
        if verdict != NO_VERDICT {
            return verdict;
        }
    }
    if arrival.changed {
        let verdict = file::<F>(&mut arrival);
        if verdict != NO_VERDICT {
            return verdict;
        }
    }
    if arrival.fragment == Fragment::First {
        remember_fragments::<F>(&arrival, flow::NOWHERE);
    }
    send::<F>(&arrival)
}

/// Reads a packet's headers. A verdict, where they are not for us or not sound, or [`NO_VERDICT`].
#[inline(never)]
fn parse<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    let arrival = core::hint::black_box(arrival);
    let frame = arrival.frame();
    let source: Option<F::A> = frame.load(F::SOURCE);
    let destination: Option<F::A> = frame.load(F::SOURCE + size_of::<F::A>());
    let (Some(src), Some(dst)) = (source, destination) else { return drop(Reason::DropTruncated) };
    let upper = match F::upper(arrival.ctx, frame) {
        Ok(upper) => upper,
        Err(Broken::Truncated) => return drop(Reason::DropTruncated),
        Err(Broken::Malformed) => return drop(Reason::DropMalformed),
    };
    arrival.tuple = Tuple { src, dst, ports: 0, proto: u32::from(upper.protocol) };
    arrival.offset = upper.offset;
    arrival.protocol = upper.protocol;
    arrival.fragment = upper.fragment;
    arrival.fragment_id = upper.fragment_id;
    let tcp = upper.protocol == proto::TCP;
    if upper.protocol == F::ICMP {
        return NO_VERDICT;
    }
    if !tcp && upper.protocol != proto::UDP {
        return pass(Reason::PassOtherProtocol);
    }
    let l4 = frame.from(upper.offset);
    if upper.fragment == Fragment::Later {
        // It has no header; but all headers before it, and something behind them.
        return if l4.load::<u8>(0).is_some() { NO_VERDICT } else { drop(Reason::DropTruncated) };
    }
    if tcp {
        let Some(flags) = tcp_flags(l4) else { return drop(Reason::DropTruncated) };
        arrival.flags = flags;
    }
    let (Some(ports), Some(_)) = (l4.load::<u32>(0), l4.load::<u64>(0)) else {
        return drop(Reason::DropTruncated);
    };
    arrival.tuple.ports = ports;
    arrival.hash = hash::flow(&HashKey, &arrival.tuple);
    NO_VERDICT
}

/// Finds a packet's entry. A reply is sent off at once; of a client's packet, the backend is known afterwards, and the entry
/// and the client's persistence are up to date. An entry that is not for this packet any more is removed.
#[inline(never)]
fn recognize<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    let arrival = core::hint::black_box(arrival);
    let Some(entry) = flow::find_cold(arrival.hash) else { return NO_VERDICT };
    let val = entry.val();
    let Some(backend) = BACKENDS.get(val.backend) else { return NO_VERDICT };
    let valid = backend.flags & backend_flag::VALID != 0;
    arrival.backend = val.backend;
    if valid && val.kind == kind::REPLY && nat::is_from::<F>(&arrival.tuple, backend) {
        if arrival.fragment == Fragment::First {
            remember_fragments::<F>(arrival, entry.index());
        }
        return nat::reply::<F>(arrival, &entry, backend);
    }
    let tcp = arrival.protocol == proto::TCP;
    let ours = valid && val.kind == kind::CLIENT && F::unmapped(&backend.vip) == arrival.tuple.dst;
    // Whoever can start over elsewhere is not left with a real server that cannot be reached.
    let fresh = !tcp || state::opens(arrival.flags) && val.state == state::EMBRYONIC;
    let lost = fresh && backend.flags & backend_flag::REACHABLE == 0;
    if !ours || lost || tcp && state::opens(arrival.flags) && state::reusable(val.state) {
        entry.remove();
        arrival.backend = 0;
        return NO_VERDICT;
    }
    arrival.service = backend.service;
    arrival.state = if tcp { state::after_client(val.state, arrival.flags) } else { state::ESTABLISHED };
    arrival.changed = arrival.state != val.state || entry.is_stale(arrival.now);
    if arrival.changed {
        entry.note(arrival.state, arrival.now);
        if arrival.state == state::ESTABLISHED {
            note_template::<F>(arrival);
        }
    }
    NO_VERDICT
}

/// A client whose flow is established keeps its real server: its persistence template is established too.
#[inline(never)]
fn note_template<F: Family>(arrival: &Arrival<F>) {
    let arrival = crate::opaque(arrival);
    if let Some(service) = SERVICES.get(arrival.service)
        && service.flags & service_flag::PERSISTENT != 0
        && let Some(template) = flow::find_cold(template_hash::<F>(arrival, service))
        && template.val().backend == arrival.backend
    {
        template.note(state::ESTABLISHED, arrival.now);
    }
}

/// A packet without an entry: finds its service and, for a new flow, its backend.
#[inline(never)]
fn admit<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    let arrival = core::hint::black_box(arrival);
    let port_be = (arrival.tuple.ports >> 16) as u16;
    let Some((id, service)) = service::find::<F>(&arrival.tuple.dst, port_be, arrival.protocol) else {
        return pass(Reason::PassNoService);
    };
    arrival.service = id;
    let opens = arrival.protocol == proto::UDP || state::opens(arrival.flags);
    let sloppy = service.flags & service_flag::SLOPPY != 0 && arrival.flags & state::flag::RST == 0;
    if !opens && !sloppy {
        return orphan::<F>(arrival, service);
    }
    let why_not = choose::<F>(arrival, service);
    if arrival.backend == 0 {
        return unserved::<F>(arrival, service, why_not);
    }
    (arrival.new, arrival.changed) = (true, true);
    NO_VERDICT
}

/// How many slots in a row are tried: the first one is good unless its backend just went, or its reply tuple is taken. Two real
/// servers' slots in a hash table are like a coin's sides: sixteen times the same one is rare enough.
const CANDIDATES: u32 = 16;

/// A backend for a new flow: the client's own where the service is persistent, else the slot table's. Says why there is none.
#[inline(always)]
fn choose<F: Family>(arrival: &mut Arrival<F>, service: &Service) -> Reason {
    let mut why_not = Reason::DropNoReal;
    if service.flags & service_flag::PERSISTENT != 0 {
        let id = persistent::<F>(arrival, service);
        if id != 0 {
            if suits::<F>(arrival, id) {
                arrival.backend = id;
                return why_not;
            }
            why_not = Reason::DropTupleBusy;
        }
    }
    let index = if schedule::is_hash(service) {
        schedule::by_hash::<F>(service, &arrival.tuple)
    } else {
        schedule::next_in_turn(arrival.service)
    };
    let mut i = 0;
    while i < CANDIDATES {
        if let Some(id) = schedule::slot(arrival.service, service, index + i) {
            if suits::<F>(arrival, id) {
                arrival.backend = id;
                return why_not;
            }
            why_not = Reason::DropTupleBusy;
        }
        i += 1;
    }
    why_not
}

/// Whether a backend can tell this flow's replies from other flows'.
#[inline(always)]
fn suits<F: Family>(arrival: &Arrival<F>, id: u32) -> bool {
    let Some(backend) = BACKENDS.get(id) else { return false };
    backend.forward != forward::NAT || nat::reply_is_free::<F>(arrival, id, backend)
}

/// Files a flow: the reply's entry first where there is one, then its own if it is new. A flow without a place goes by hash,
/// so that its next packets find the same way; under NAT it cannot, for its replies would not be known.
#[inline(always)]
fn file<F: Family>(arrival: &mut Arrival<F>) -> Verdict {
    let Some(backend) = BACKENDS.get(arrival.backend) else { return drop(Reason::DropInternal) };
    let nat = backend.forward == forward::NAT;
    let replies = !nat || file_reply::<F>(arrival, backend);
    if !arrival.new {
        return NO_VERDICT;
    }
    if !replies || !file_client::<F>(arrival) {
        account::service(arrival.service, |stats| {
            stats.unplaced += 1;
            stats.last_unplaced = u64::from(arrival.now) + 1;
        });
        if nat {
            return drop(Reason::FlowUnplaced);
        }
        count(Reason::FlowUnplaced);
        go_by_hash::<F>(arrival);
    }
    account::new_flow(arrival.backend);
    if let Some(service) = SERVICES.get(arrival.service)
        && service.flags & service_flag::PERSISTENT != 0
    {
        remember_client::<F>(arrival, service);
    }
    NO_VERDICT
}

/// Files the reply's entry, or refreshes it. Returns whether it is in.
#[inline(always)]
fn file_reply<F: Family>(arrival: &Arrival<F>, backend: &Backend) -> bool {
    let hash = nat::reply_hash::<F>(arrival, backend);
    nat::note_reply::<F>(arrival, hash).unwrap_or_else(|| nat::file_reply::<F>(arrival, backend, hash))
}

/// Files a client's entry. Returns whether there was a place.
#[inline(never)]
fn file_client<F: Family>(arrival: &Arrival<F>) -> bool {
    let arrival = crate::opaque(arrival);
    let cold = cold::<F>(arrival, kind::CLIENT, [0; 2]);
    flow::insert(arrival.hash, arrival.val(kind::CLIENT, state::EMBRYONIC), &cold)
}

/// Gives a flow without an entry the backend that its hash says, whatever the service's rule.
#[inline(never)]
fn go_by_hash<F: Family>(arrival: &mut Arrival<F>) {
    let arrival = core::hint::black_box(arrival);
    if let Some(id) = by_hash::<F>(arrival) {
        arrival.backend = id;
    }
}

#[inline(always)]
fn by_hash<F: Family>(arrival: &Arrival<F>) -> Option<u32> {
    let service = SERVICES.get(arrival.service)?;
    schedule::slot(arrival.service, service, schedule::by_hash::<F>(service, &arrival.tuple))
}

/// Sends a client's packet to its real server. One copy for the whole slow path.
#[inline(never)]
pub fn send<F: Family>(arrival: &Arrival<F>) -> Verdict {
    let arrival = crate::opaque(arrival);
    let Some(backend) = BACKENDS.get(arrival.backend) else { return drop(Reason::DropInternal) };
    to_real::<F>(&arrival.headers(), arrival.backend, backend)
}

/// A TCP segment in the middle of a connection that has no entry. Nothing is filed for it. A service that hashes can still
/// tell where it goes, and so can a client's persistence; so can the hash a flow without a place went by, while
/// there are such flows. Everything else is refused, so that the client starts over instead of waiting.
#[inline(always)]
fn orphan<F: Family>(arrival: &mut Arrival<F>, service: &Service) -> Verdict {
    if service.flags & service_flag::PERSISTENT != 0 {
        arrival.backend = persistent::<F>(arrival, service);
    }
    let hash = schedule::is_hash(service)
        || turned_away_lately(arrival.service, service, arrival.now)
        || !flow::has_room(arrival.hash, arrival.now);
    if arrival.backend == 0 && hash {
        go_by_hash::<F>(arrival);
    }
    if let Some(backend) = BACKENDS.get(arrival.backend)
        && arrival.backend != 0
        && backend.forward != forward::NAT
    {
        count(Reason::FlowOrphanRouted);
        return NO_VERDICT;
    }
    account::service(arrival.service, |stats| stats.no_flow += 1);
    let refuses = service.flags & (service_flag::REJECT | service_flag::RESET) != 0;
    if refuses && arrival.flags & state::flag::RST == 0 {
        return reject::packet::<F>(arrival, Reason::DropNoFlow);
    }
    drop(Reason::DropNoFlow)
}

/// Whether this CPU forwarded a flow of the service without a place within the time that such a flow may last.
#[inline(always)]
fn turned_away_lately(id: u32, service: &Service, now: u32) -> bool {
    let last = account::service(id, |stats| stats.last_unplaced).unwrap_or(0);
    last != 0 && u64::from(now) + 1 - last <= u64::from(service.established_ticks)
}

/// A packet that would start a flow, and no real server to take it.
#[inline(always)]
fn unserved<F: Family>(arrival: &Arrival<F>, service: &Service, why: Reason) -> Verdict {
    let reject = service.flags & service_flag::REJECT != 0;
    let verdict = if reject { reject::packet::<F>(arrival, why) } else { drop(why) };
    account::service(arrival.service, |stats| match verdict {
        xdp_action::XDP_TX => stats.no_real_rejected += 1,
        _ => stats.no_real_dropped += 1,
    });
    verdict
}

/// The hash of a persistence template: the client's network, the VIP, the service.
#[inline(always)]
fn template_hash<F: Family>(arrival: &Arrival<F>, service: &Service) -> u64 {
    let src = F::masked(&arrival.tuple.src, service.persist_prefix);
    let proto = u32::from(kind::TEMPLATE) << 8 | u32::from(arrival.protocol);
    hash::flow(&HashKey, &Tuple { src, dst: arrival.tuple.dst, ports: arrival.service, proto })
}

/// The backend that a client's earlier flows went to, if it takes new ones; else 0.
#[inline(never)]
fn persistent<F: Family>(arrival: &Arrival<F>, service: &Service) -> u32 {
    let (arrival, service) = (crate::opaque(arrival), crate::opaque(service));
    let Some(template) = flow::find_cold(template_hash::<F>(arrival, service)) else { return 0 };
    let val = template.val();
    if schedule::open(arrival.service, val.backend).is_none()
        || val.idle(arrival.now as u16) > service.persist_ticks
    {
        template.remove();
        return 0;
    }
    template.note(val.state, arrival.now);
    val.backend
}

/// Files a client's persistence template, unless there is one. Embryonic until a flow of the client's is established: a flood
/// leaves nothing lasting.
#[inline(never)]
fn remember_client<F: Family>(arrival: &Arrival<F>, service: &Service) {
    let (arrival, service) = (crate::opaque(arrival), crate::opaque(service));
    let hash = template_hash::<F>(arrival, service);
    if flow::find_cold(hash).is_some() {
        return;
    }
    let src = F::wide(&F::masked(&arrival.tuple.src, service.persist_prefix));
    let kind = ColdKind { proto: arrival.protocol, kind: kind::TEMPLATE, service: arrival.service };
    let cold = FlowCold::words(src, F::wide(&arrival.tuple.dst), 0, kind, arrival.now, [0; 2]);
    flow::insert(hash, arrival.val(kind::TEMPLATE, state::EMBRYONIC), &cold);
}

#[inline(always)]
fn cold<F: Family>(arrival: &Arrival<F>, kind: u8, hop: Hop) -> ColdWords {
    let Tuple { src, dst, ports, .. } = &arrival.tuple;
    let kind = ColdKind { proto: arrival.protocol, kind, service: arrival.service };
    FlowCold::words(F::wide(src), F::wide(dst), *ports, kind, arrival.now, hop)
}

/// The hash of what the fragments of one datagram have in common. Not inlined, for the stack's sake.
#[inline(never)]
fn fragments_hash<F: Family>(arrival: &Arrival<F>) -> u64 {
    let arrival = crate::opaque(arrival);
    let proto = u32::from(kind::FRAGMENT) << 8 | u32::from(arrival.protocol);
    let Tuple { src, dst, .. } = arrival.tuple;
    hash::flow(&HashKey, &Tuple { src, dst, ports: arrival.fragment_id, proto })
}

/// Files where the later fragments of this datagram go. `way_back`: the place of a reply's entry, which knows where the
/// client's frames come from; else [`flow::NOWHERE`].
#[inline(never)]
fn remember_fragments<F: Family>(arrival: &Arrival<F>, way_back: u32) {
    let arrival = crate::opaque(arrival);
    let hop = flow::cold_at(way_back).map_or([0; 2], |cold| cold.hop());
    let cold = cold::<F>(arrival, kind::FRAGMENT, hop);
    let hash = fragments_hash::<F>(arrival);
    // An id comes round again, for another flow's datagram.
    if let Some(earlier) = flow::find_cold(hash) {
        earlier.remove();
    }
    flow::insert(hash, arrival.val(kind::FRAGMENT, state::EMBRYONIC), &cold);
}

/// A fragment without ports goes where the first one went.
#[inline(never)]
fn later_fragment<F: Family>(arrival: &Arrival<F>) -> Verdict {
    let arrival = crate::opaque(arrival);
    let Some(entry) = flow::find_cold(fragments_hash::<F>(arrival)) else {
        return pass(Reason::PassFragment);
    };
    let id = entry.val().backend;
    let Some(backend) = BACKENDS.get(id) else { return drop(Reason::DropInternal) };
    if backend.flags & backend_flag::VALID == 0 {
        return pass(Reason::PassFragment);
    }
    if F::unmapped(&backend.vip) == arrival.tuple.dst {
        return to_real::<F>(&arrival.headers(), id, backend);
    }
    nat::send_reply::<F>(&arrival.headers(), &entry, backend)
}
