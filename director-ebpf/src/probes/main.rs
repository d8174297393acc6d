//! The probes' programs: they stand behind the network stack on the way out and before it on the way in (TC). See
//! `director_ebpf::probe`.
//!
//! A marked packet reaches the VIP or nobody: what cannot be rewritten is dropped, for the real server's own address would
//! answer well where the VIP does not. What carries no mark of ours and answers no probe is left as it is.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "what the macros make of a program has none")]

mod header;

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_NO_PREALLOC, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::TcContext;
use director_ebpf::abi::proto;
use director_ebpf::packet::{ETHERNET, ethertype};
use director_ebpf::probe::{Count, MARKS, MARKS_MASK, MAX_PROBES, MAX_VIPS, ProbeKey, Words};

use crate::header::{Header, V4, V6, Version};

#[map]
static PROBE_VIPS: HashMap<u32, Words> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
#[map]
static PROBES: LruHashMap<ProbeKey, Words> = LruHashMap::with_max_entries(MAX_PROBES, 0);
#[map]
static PROBE_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Count::COUNT as u32, 0);

/// The next program has its turn (`TCX_NEXT`, `TC_ACT_UNSPEC`).
const NEXT: i32 = -1;
/// The packet is dropped (`TCX_DROP`, `TC_ACT_SHOT`).
const DROP: i32 = 2;
/// A probe's TTL. A real server takes what is for an address of its own whatever the TTL. One that has lost the VIP but
/// forwards packets would send the probe on to whoever has it, us, and another real server would answer for it.
const TTL: u8 = 1;
/// The longest part of an ICMP header that stands before what it quotes.
const ICMP: usize = 8;

/// What is sent.
#[classifier]
pub fn director_vip_out(ctx: TcContext) -> i32 {
    // SAFETY: the kernel's context.
    let mark = unsafe { (*ctx.skb.skb).mark };
    if mark & MARKS_MASK != MARKS {
        return NEXT;
    }
    let sent = match ctx.load::<u16>(ETHERNET - 2) {
        Ok(ethertype::IPV4) => outgoing::<V4>(&ctx, mark),
        Ok(ethertype::IPV6) => outgoing::<V6>(&ctx, mark),
        _ => None,
    };
    match sent {
        Some(()) => {
            // Lower interfaces, where there are any, have nothing to rewrite any more.
            ctx.set_mark(0);
            count(Count::Sent);
            NEXT
        }
        None => {
            count(Count::Refused);
            DROP
        }
    }
}

/// What is received.
#[classifier]
pub fn director_vip_in(ctx: TcContext) -> i32 {
    let counted = match ctx.load::<u16>(ETHERNET - 2) {
        Ok(ethertype::IPV4) => incoming::<V4>(&ctx),
        Ok(ethertype::IPV6) => incoming::<V6>(&ctx),
        _ => None,
    };
    if let Some(what) = counted {
        count(what);
    }
    NEXT
}

/// Puts the VIP in the place of the real server's address.
#[inline(always)]
fn outgoing<V: Version>(ctx: &TcContext, mark: u32) -> Option<()> {
    // SAFETY: the value is copied at once.
    let vip = *unsafe { PROBE_VIPS.get(mark) }?;
    let header = V::header(ctx, ETHERNET)?;
    let of_this_version = vip[..3] == [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff])];
    if of_this_version != V::IS_V4 {
        return None;
    }
    let key = request::<V>(ctx, &header, vip)?;
    PROBES.insert(key, header.dst, 0).ok()?;
    V::store_ttl(ctx, ETHERNET, TTL)?;
    rewrite::<V>(ctx, &header, V::DESTINATION, header.dst, vip)
}

/// Puts the real server's address in the place of the VIP, if the packet answers a probe.
#[inline(always)]
fn incoming<V: Version>(ctx: &TcContext) -> Option<Count> {
    let header = V::header(ctx, ETHERNET)?;
    if header.protocol == V::ICMP && V::is_error(ctx.load(header.l4).ok()?) {
        return error::<V>(ctx, &header);
    }
    // SAFETY: the value is copied at once.
    let real = *unsafe { PROBES.get(answer::<V>(ctx, &header)?) }?;
    rewrite::<V>(ctx, &header, V::SOURCE, header.src, real)?;
    Some(Count::Answered)
}

/// An ICMP error that quotes a probe is told of the packet as our socket sent it. The quoted L4 checksum is left: it is not
/// looked at.
#[inline(always)]
fn error<V: Version>(ctx: &TcContext, header: &Header) -> Option<Count> {
    let at = header.l4 + ICMP;
    let quoted = V::header(ctx, at)?;
    let vip = quoted.dst;
    // SAFETY: the value is copied at once.
    let real = *unsafe { PROBES.get(request::<V>(ctx, &quoted, vip)?) }?;
    let change = difference(vip, real);
    V::store(ctx, at + V::DESTINATION, real, 0)?;
    // What the address adds to ICMP's checksum, IPv4's header checksum takes away.
    let checksum = if V::IS_V4 { at + header::V4_CHECKSUM } else { header.l4 + 2 };
    if V::IS_V4 {
        ctx.skb.l3_csum_replace(checksum, 0, change, 0).ok()?;
    } else {
        ctx.skb.l4_csum_replace(checksum, 0, change, 0).ok()?;
    }
    // A router's own address, or the real server's, is as good as any.
    if header.src == vip {
        rewrite::<V>(ctx, header, V::SOURCE, vip, real)?;
    }
    Some(Count::Errors)
}

/// The key of a packet from us, once it is for the VIP.
#[inline(always)]
fn request<V: Version>(ctx: &TcContext, header: &Header, vip: Words) -> Option<ProbeKey> {
    let (local_port_be, port_be) = ends::<V>(ctx, header, V::ECHO)?;
    let proto = u32::from(header.protocol);
    Some(ProbeKey { vip, local: header.src, local_port_be, port_be, proto })
}

/// The key of a packet to us.
#[inline(always)]
fn answer<V: Version>(ctx: &TcContext, header: &Header) -> Option<ProbeKey> {
    let (first, second) = ends::<V>(ctx, header, V::ECHO_REPLY)?;
    let echo = header.protocol == V::ICMP;
    let (local_port_be, port_be) = if echo { (first, second) } else { (second, first) };
    let proto = u32::from(header.protocol);
    Some(ProbeKey { vip: header.src, local: header.dst, local_port_be, port_be, proto })
}

/// Source and destination port; the identifier and 0 of an ICMP message of one kind.
#[inline(always)]
fn ends<V: Version>(ctx: &TcContext, header: &Header, echo: u8) -> Option<(u16, u16)> {
    if header.protocol == V::ICMP {
        let kind: u8 = ctx.load(header.l4).ok()?;
        return if kind == echo { Some((ctx.load(header.l4 + 4).ok()?, 0)) } else { None };
    }
    if header.protocol != proto::TCP && header.protocol != proto::UDP {
        return None;
    }
    let ports: u32 = ctx.load(header.l4).ok()?;
    Some((ports as u16, (ports >> 16) as u16))
}

/// Replaces one address of the outer header, with every checksum that covers it.
#[inline(always)]
fn rewrite<V: Version>(ctx: &TcContext, header: &Header, field: usize, old: Words, new: Words) -> Option<()> {
    let change = difference(old, new);
    let pseudo = u64::from(BPF_F_PSEUDO_HDR);
    match header.protocol {
        proto::TCP => ctx.skb.l4_csum_replace(header.l4 + 16, 0, change, pseudo).ok()?,
        // UDP's 0 stands for no checksum and stays (RFC 768).
        proto::UDP => ctx
            .skb
            .l4_csum_replace(header.l4 + 6, 0, change, pseudo | u64::from(BPF_F_MARK_MANGLED_0))
            .ok()?,
        proto::ICMPV6 => ctx.skb.l4_csum_replace(header.l4 + 2, 0, change, pseudo).ok()?,
        _ => (),
    }
    if V::IS_V4 {
        ctx.skb.l3_csum_replace(ETHERNET + header::V4_CHECKSUM, 0, change, 0).ok()?;
    }
    // The kernel may hold a sum over the whole packet. It takes a changed pseudo-header for IPv4's, where a second checksum
    // makes up for the address; IPv6 has none, so the address itself must count.
    V::store(ctx, ETHERNET + field, new, if V::IS_V4 { 0 } else { u64::from(BPF_F_RECOMPUTE_CSUM) })
}

/// What replacing one address by another adds to a checksum, for the kernel's helpers. IPv4's prefix is the same on both
/// sides and adds nothing.
#[inline(always)]
fn difference(mut old: Words, mut new: Words) -> u64 {
    // SAFETY: both arrays have sixteen bytes; the helper reads them only.
    let sum = unsafe { bpf_csum_diff(old.as_mut_ptr(), 16, new.as_mut_ptr(), 16, 0) };
    u64::from(sum as u32)
}

#[inline(always)]
fn count(what: Count) {
    if let Some(counter) = PROBE_COUNTS.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's own value.
        unsafe { *counter += 1 };
    }
}

/// The kernel's licence check.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: no path leads here: overflow checks are off and indices are constants.
    unsafe { core::hint::unreachable_unchecked() }
}
