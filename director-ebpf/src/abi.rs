//! The layout of every map, once, for both sides. Change anything here and raise [`ABI_VERSION`]: it is part of the pins'
//! path, so that a new layout never meets old maps.
//!
//! Addresses are 16 bytes, IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2). Ports inside records are in network byte order, as
//! they stand in packets, and their fields end in `_be`. No record has padding (proven at compile time below).

use crate::checksum;

/// The version of everything in this module; pins live under `…/director/v<ABI_VERSION>/`.
pub const ABI_VERSION: u32 = 2;

/// An IPv6 address, or an IPv4 one mapped into `::ffff:0:0/96`, in network byte order.
pub type Addr = [u8; 16];

/// IP protocol numbers (IANA "Protocol Numbers").
pub mod proto {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
}

/// Names of the maps, as the program's object has them and as the pins are called. The kernel cuts names at 15 bytes.
pub mod maps {
    /// `ARRAY` of one [`super::Meta`].
    pub const META: &str = "META";
    /// `HASH`: [`super::ServiceKey`] → service id (`u32`, an index into [`SERVICES`]).
    pub const SERVICE_KEYS: &str = "SERVICE_KEYS";
    /// `ARRAY`, memory-mapped: [`super::Service`] by service id; id 0 is never used.
    pub const SERVICES: &str = "SERVICES";
    /// `ARRAY`, memory-mapped: [`super::Backend`] by backend id; id 0 is never used.
    pub const BACKENDS: &str = "BACKENDS";
    /// `ARRAY`, memory-mapped: [`super::SlotLine`]; all services' slot tables one behind the other.
    pub const SLOTS: &str = "SLOTS";
    /// `ARRAY`, memory-mapped: one [`super::FlowSet`] (a cache line) per set.
    pub const FLOWS: &str = "FLOWS";
    /// `ARRAY`, memory-mapped: one [`super::FlowCold`] per way, index = set × [`super::WAYS`] + way.
    pub const FLOWS_COLD: &str = "FLOWS_COLD";
    /// `ARRAY` of one [`super::AddrFilter`].
    pub const ADDR_FILTER: &str = "ADDR_FILTER";
    /// `PERCPU_ARRAY`: [`super::BackendStats`] by backend id.
    pub const BACKEND_STATS: &str = "BACKEND_STATS";
    /// `PERCPU_ARRAY`: [`super::ServiceStats`] by service id.
    pub const SERVICE_STATS: &str = "SERVICE_STATS";
    /// `PERCPU_ARRAY` of `u64` by [`super::Reason`].
    pub const REASONS: &str = "REASONS";
    /// `DEVMAP_HASH`: interface index → itself, the interfaces packets may be redirected to.
    pub const DEVICES: &str = "DEVICES";
    /// `HASH` of at most [`super::MAX_GUARDED`]: an address ([`super::Addr`]) that is answered for under a lease only → its
    /// group (`u32`, an index into [`LEASES`]).
    pub const GUARD: &str = "GUARD";
    /// `ARRAY`, memory-mapped, of [`super::MAX_GROUPS`]: a group's lease (`u64`), the last nanosecond of CLOCK_BOOTTIME in
    /// which its addresses are answered for. 0: never; `u64::MAX`: for ever.
    pub const LEASES: &str = "LEASES";
    /// `HASH` of at most [`super::MAX_GROUPS`]: a virtual MAC ([`super::mac_word`]) → the group that it moves with (`u32`).
    pub const VMACS: &str = "VMACS";

    /// Every map, in the order they are created and pinned.
    pub const ALL: [&str; 15] = [
        META,
        SERVICE_KEYS,
        SERVICES,
        BACKENDS,
        SLOTS,
        FLOWS,
        FLOWS_COLD,
        ADDR_FILTER,
        BACKEND_STATS,
        SERVICE_STATS,
        REASONS,
        DEVICES,
        GUARD,
        LEASES,
        VMACS,
    ];
}

/// The most addresses in [`maps::GUARD`].
pub const MAX_GUARDED: u32 = 4096;
/// The most groups of VIPs that have leases; each has one virtual MAC at most.
pub const MAX_GROUPS: u32 = 64;

/// A MAC as the first word of a frame to it has it, less what follows.
pub const fn mac_word(mac: [u8; 6]) -> u64 {
    u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// What the whole table was made with; written once by the loader that created the maps, read by its successors.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The keys of the flow table's hash: random per start of an empty table, never shown.
    pub hash_key: [u64; crate::hash::KEY_WORDS],
    /// [`ABI_VERSION`] of the creator, as a second look behind the pins' path.
    pub abi_version: u32,
    /// `jiffies >> tick_shift` is a tick, about a second whatever the kernel's HZ.
    pub tick_shift: u32,
    /// The kernel's HZ (jiffies a second), as measured by the creator.
    pub hz: u32,
    /// Number of sets in [`maps::FLOWS`], less one (a power of two, less one).
    pub set_mask: u32,
}

/// What a packet must carry to be for a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The VIP.
    pub addr: Addr,
    /// The port in network byte order; 0 stands for any port and is asked second.
    pub port_be: u16,
    /// [`proto::TCP`] or [`proto::UDP`].
    pub proto: u8,
    /// Always 0.
    pub zero: u8,
}

/// The rule that turns a new flow into an index of the slot table.
pub mod index_rule {
    /// The next slot, by a counter of each CPU's own (`rr`, `wrr`, `fo`).
    pub const COUNTER: u8 = 0;
    /// By a hash of the client's address and port, the VIP and its port (`mh`).
    pub const FLOW_HASH: u8 = 1;
    /// By a hash of the client's address (`sh`).
    pub const SOURCE_HASH: u8 = 2;
    /// By a hash of the VIP (`dh`).
    pub const DEST_HASH: u8 = 3;
}

/// Bits of [`Service::flags`].
pub mod service_flag {
    /// The record is in use.
    pub const VALID: u8 = 1;
    /// A packet without a usable real server is refused (RST, ICMP port unreachable) instead of dropped.
    pub const REJECT: u8 = 2;
    /// A TCP segment without a flow may start one even if it is no SYN.
    pub const SLOPPY: u8 = 4;
    /// New flows follow [`Service::persist_prefix`].
    pub const PERSISTENT: u8 = 8;
    /// A TCP segment without a flow is refused, also where [`REJECT`] is not set: its real server may be down.
    pub const RESET: u8 = 16;
}

/// A service's record: 64 bytes, one cache line.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The VIP.
    pub vip: Addr,
    /// Where its slot table lies: first slot in the low 32 bits (a multiple of [`SLOTS_PER_LINE`]), number of slots in the high
    /// ones. One word, so that a new table takes over in one write. No slots: no usable real server.
    pub table: u64,
    /// How to choose a slot: [`index_rule`].
    pub rule: u8,
    /// [`service_flag`].
    pub flags: u8,
    /// Persistence: leading bits of the 128-bit client address that are kept (an IPv4 /24 is 120).
    pub persist_prefix: u8,
    /// [`proto`].
    pub proto: u8,
    /// Persistence: a template's idle timeout in ticks.
    pub persist_ticks: u16,
    /// Idle timeout in ticks of TCP flows that sent only SYNs.
    pub syn_ticks: u16,
    /// Idle timeout in ticks of established TCP flows.
    pub established_ticks: u16,
    /// Idle timeout in ticks of TCP flows whose client sent a FIN.
    pub fin_ticks: u16,
    /// Idle timeout in ticks of TCP flows that saw a RST.
    pub close_ticks: u16,
    /// Idle timeout in ticks of UDP flows.
    pub udp_ticks: u16,
    /// Fingerprint of what the slot table was built from (scheduler, size, reals and weights): equal means nothing to rebuild.
    pub table_sig: u64,
    /// FNV-1a of the service's name, so that a successor knows which is which.
    pub name_hash: u64,
    /// Always 0.
    pub zero: [u64; 1],
}

/// How packets reach a real server: [`Backend::forward`].
pub mod forward {
    /// The destination MAC is rewritten, nothing else (LVS-DR).
    pub const DIRECT: u8 = 0;
    /// Destination address and port are rewritten, and back in the reply (LVS-NAT).
    pub const NAT: u8 = 1;
}

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// The record is in use: its flows go on.
    pub const VALID: u8 = 1;
    /// Its next hop's MAC is known.
    pub const REACHABLE: u8 = 2;
    /// It takes new flows (a weight above 0, and up).
    pub const OPEN: u8 = 4;
    /// A packet of one of its flows owes nothing but the note that the flow goes on: forwarding is direct, so there is no
    /// reply's entry, and the service is not persistent, so there is no template.
    pub const PLAIN: u8 = 8;
}

/// Destination MAC 6 bytes, source MAC 6, interface index 4, as two words: how a frame leaves.
pub type Hop = [u64; 2];

/// A real server in one service: 64 bytes, one cache line.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The next hop's MAC. This field and the next two are a [`Hop`]: the frame's first twelve bytes as they will be sent.
    pub mac: [u8; 6],
    /// The MAC of the interface it is reached by.
    pub source_mac: [u8; 6],
    /// The interface it is reached by.
    pub ifindex: u32,
    /// The service it belongs to.
    pub service: u32,
    /// The weight in force, for status only; the slot table is what counts.
    pub weight: u16,
    /// [`forward`].
    pub forward: u8,
    /// [`backend_flag`].
    pub flags: u8,
    /// The VIP of that service.
    pub vip: Addr,
    /// The real server's own address.
    pub addr: Addr,
    /// The real server's port; 0: as the client sent it.
    pub port_be: u16,
    /// The VIP's port, where [`Backend::port_be`] is not 0; else 0.
    pub vport_be: u16,
    /// What NAT adds to a checksum over the addresses alone (IPv4's header): see [`Backend::sealed`].
    pub addr_delta: u16,
    /// What NAT adds to a checksum over addresses and ports (TCP, UDP).
    pub l4_delta: u16,
}

impl Backend {
    /// How frames for it leave.
    #[inline(always)]
    pub fn hop(&self) -> Hop {
        // SAFETY: the record's first sixteen bytes, aligned to eight, any bits are a value.
        unsafe { *core::ptr::from_ref(self).cast::<Hop>() }
    }

    /// The record with its checksum deltas filled in: rewriting VIP and VIP port to the real server's changes a checksum by
    /// the same amount for every packet, so it is worked out once, when the record is written (RFC 1624).
    pub fn sealed(mut self) -> Backend {
        self.addr_delta =
            checksum::fold(checksum::difference(checksum::bytes(&self.vip), checksum::bytes(&self.addr)));
        let ports = checksum::difference(u32::from(self.vport_be), u32::from(self.port_be));
        self.l4_delta = checksum::fold(u32::from(self.addr_delta) + ports);
        self
    }

    /// The record as userspace compares it: without its deltas.
    pub fn unsealed(mut self) -> Backend {
        self.addr_delta = 0;
        self.l4_delta = 0;
        self
    }
}

/// Slots in one [`SlotLine`].
pub const SLOTS_PER_LINE: u32 = 16;

/// A line of slots, each a backend id.
pub type SlotLine = [u32; SLOTS_PER_LINE as usize];

/// Ways (entries) of a flow set.
pub const WAYS: u32 = 4;

/// One entry's hot half: see [`crate::flowword`] for both words.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowWay {
    /// 0 free, 1 busy, else the flow's hash with the top bit set.
    pub tag: u64,
    /// Backend, last seen, check bits, kind and state.
    pub val: u64,
}

/// One set: a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSet {
    /// The set's entries.
    pub ways: [FlowWay; WAYS as usize],
}

/// One entry's cold half: what listing, sweeping and NAT's replies need.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCold {
    /// Source of the packets this entry matches: the client (or, of a reply entry, the real server).
    pub src: Addr,
    /// Their destination: the VIP (or the client).
    pub dst: Addr,
    /// Their source port.
    pub sport_be: u16,
    /// Their destination port.
    pub dport_be: u16,
    /// [`proto`].
    pub proto: u8,
    /// [`crate::flowword::kind`].
    pub kind: u8,
    /// Always 0.
    pub zero: u16,
    /// The service's id.
    pub service: u32,
    /// When it was made, in ticks.
    pub created: u32,
    /// Reply entries: the next hop's MAC towards the client. This field and the next two are a [`Hop`].
    pub hop_mac: [u8; 6],
    /// Reply entries: the MAC of the interface towards the client.
    pub hop_source_mac: [u8; 6],
    /// Reply entries: the interface towards the client.
    pub hop_ifindex: u32,
}

/// [`FlowCold`] as words.
pub type ColdWords = [u64; 8];
/// Index of the first of the two words that are a reply entry's [`Hop`].
pub const COLD_HOP: usize = 6;

impl FlowCold {
    /// The record made of what a packet has, as words: the BPF target copies those one by one, but bytes in loops.
    #[inline(always)]
    pub fn words(
        src: [u32; 4],
        dst: [u32; 4],
        ports: u32,
        kind: ColdKind,
        created: u32,
        hop: Hop,
    ) -> ColdWords {
        let two = |low: u32, high: u32| low as u64 | (high as u64) << 32;
        let ColdKind { proto, kind, service } = kind;
        [
            two(src[0], src[1]),
            two(src[2], src[3]),
            two(dst[0], dst[1]),
            two(dst[2], dst[3]),
            two(ports, u32::from(proto) | u32::from(kind) << 8),
            two(service, created),
            hop[0],
            hop[1],
        ]
    }
}

/// What a [`FlowCold`] is about.
#[derive(Clone, Copy, Debug)]
pub struct ColdKind {
    /// [`proto`].
    pub proto: u8,
    /// [`crate::flowword::kind`].
    pub kind: u8,
    /// The service's id.
    pub service: u32,
}

/// Words of [`AddrFilter`].
pub const FILTER_WORDS: usize = 1024;

/// A Bloom filter of one hash over the addresses that may concern us: VIPs, and real servers behind NAT (whose replies pass
/// here). A packet with neither address in it costs no further look.
pub type AddrFilter = [u64; FILTER_WORDS];

/// What passed for one backend. Bytes are whole frames, as received.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Packets to clients (only where replies pass here: NAT).
    pub packets_out: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Flows that began.
    pub new_flows: u64,
}

/// What befell one service's packets besides forwarding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Dropped: no usable real server.
    pub no_real_dropped: u64,
    /// Refused with a RST or an ICMP error: no usable real server.
    pub no_real_rejected: u64,
    /// TCP segments that belong to no flow and could not be placed.
    pub no_flow: u64,
    /// New flows forwarded without an entry: their sets were full of live flows.
    pub unplaced: u64,
    /// The round-robin counter (a state, not a statistic).
    pub rr: u64,
    /// One more than the tick of the last flow that got no place, or 0 (a state).
    pub last_unplaced: u64,
    /// ICMP errors sent in a tick (a state): the tick in the high half, their number in the low one.
    pub icmp_budget: u64,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet was passed to the kernel, dropped, answered or could not be placed: an index into `REASONS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in index order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// Its name in status and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Passed: neither IPv4 nor IPv6 (ARP, LLDP, …).
    PassNotIp = "pass_not_ip",
    /// Passed: the frame is for another host, a multicast group or everyone.
    PassOtherHost = "pass_other_host",
    /// Passed: neither end is a VIP or a real server of ours.
    PassNotOurs = "pass_not_ours",
    /// Passed: to a VIP, but neither TCP, UDP nor ICMP.
    PassOtherProtocol = "pass_other_protocol",
    /// Passed: to a VIP or from a real server, but of no service and no flow.
    PassNoService = "pass_no_service",
    /// Passed: a later fragment whose first one went to no real server (or has not come yet).
    PassFragment = "pass_fragment",
    /// Passed: a VLAN-tagged frame.
    PassVlan = "pass_vlan",
    /// Passed: an ICMP error or query that concerns no flow of ours.
    PassIcmp = "pass_icmp",
    /// Dropped: shorter than its headers say.
    DropTruncated = "drop_truncated",
    /// Dropped: headers that contradict themselves.
    DropMalformed = "drop_malformed",
    /// Dropped: no usable real server.
    DropNoReal = "drop_no_real",
    /// Dropped: a TCP segment of no flow, where the service drops what it cannot serve.
    DropNoFlow = "drop_no_flow",
    /// Dropped: TTL or hop limit used up at a NAT hop.
    DropTtl = "drop_ttl",
    /// Dropped: the MAC of the flow's real server (or of its gateway) is not known.
    DropNoNextHop = "drop_no_next_hop",
    /// Dropped: every candidate's reply tuple already belongs to another flow of this client.
    DropTupleBusy = "drop_tuple_busy",
    /// Dropped: our own tables contradict themselves (a bug, or someone else's hand).
    DropInternal = "drop_internal",
    /// Dropped: ARP or neighbour discovery asks for a VIP that this director may not answer for now, or a packet is for a virtual
    /// MAC that it does not hold.
    DropNoLease = "drop_no_lease",
    /// Answered with a TCP RST.
    RejectRst = "reject_rst",
    /// Answered with an ICMP port unreachable.
    RejectIcmp = "reject_icmp",
    /// Forwarded without an entry: a TCP segment of an unknown flow, by hash or by persistence.
    FlowOrphanRouted = "flow_orphan_routed",
    /// Forwarded (under NAT: dropped) without an entry: its sets were full of live flows.
    FlowUnplaced = "flow_unplaced",
    /// An embryonic entry gave way to a newcomer.
    FlowEvictedEmbryonic = "flow_evicted_embryonic",
    /// An entry past its timeout, or of a connection that had ended, gave way to a newcomer before the sweep came by.
    FlowEvictedExpired = "flow_evicted_expired",
}

macro_rules! prove_no_padding {
    ($($ty:ty = $size:expr;)*) => { $(const _: () = assert!(core::mem::size_of::<$ty>() == $size);)* };
}

prove_no_padding! {
    Meta = 8 * crate::hash::KEY_WORDS + 4 * 4;
    ServiceKey = 16 + 2 + 1 + 1;
    Service = 16 + 8 + 4 + 6 * 2 + 8 + 8 + 8;
    Backend = 6 + 1 + 1 + 6 + 2 + 4 + 4 + 16 + 16 + 2 + 2 + 4;
    FlowWay = 16;
    FlowSet = 64;
    FlowCold = 16 + 16 + 2 + 2 + 1 + 1 + 2 + 4 + 4 + 6 + 6 + 4;
    BackendStats = 5 * 8;
    ServiceStats = 7 * 8;
}
const _: () = assert!(core::mem::size_of::<Service>() == 64 && core::mem::size_of::<Backend>() == 64);
const _: () = assert!(core::mem::size_of::<FlowCold>() == 64);
const _: () = assert!(core::mem::offset_of!(FlowCold, hop_mac) == COLD_HOP * 8);
const _: () =
    assert!(core::mem::offset_of!(Backend, ifindex) == 12 && core::mem::offset_of!(Backend, mac) == 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_fields_of_a_cold_half_agree() {
        let src = [1u32, 2, 3, 4];
        let dst = [5u32, 6, 7, 8];
        let kind = ColdKind { proto: 6, kind: 1, service: 99 };
        let words =
            FlowCold::words(src, dst, 0x1122_3344, kind, 77, [0x0807_0605_0403_0201, 0x0a0b_0c0d_0e0f_1011]);
        // SAFETY: the same size, and any bits are a value of either.
        let cold: FlowCold = unsafe { core::mem::transmute(words) };
        assert_eq!((cold.sport_be, cold.dport_be), (0x3344, 0x1122));
        assert_eq!((cold.proto, cold.kind, cold.zero, cold.service, cold.created), (6, 1, 0, 99, 77));
        assert_eq!(cold.hop_mac, [1, 2, 3, 4, 5, 6]);
        assert_eq!(cold.hop_source_mac, [7, 8, 0x11, 0x10, 0x0f, 0x0e]);
        assert_eq!(cold.hop_ifindex, 0x0a0b_0c0d);
        assert_eq!(cold.src[..4], 1u32.to_ne_bytes());
        assert_eq!(cold.dst[12..], 8u32.to_ne_bytes());
    }
}
