//! Refusals: a TCP RST (RFC 9293, 3.10.7.1) or an ICMP port unreachable (RFC 792, RFC 4443), made out of the packet itself and
//! sent back the way it came. Never an answer to a RST, to a fragment, to a packet with IP options, or to a source that is no single
//! host (RFC 1122, 3.2.2; RFC 4443, 2.4 e).

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use director_ebpf::abi::{Reason, proto};
use director_ebpf::checksum::fold;
use director_ebpf::hash::Words;
use director_ebpf::packet::{ETHERNET, Fragment, Frame, ethertype};
use director_ebpf::state::flag;

use crate::Verdict;
use crate::account::{self, count, drop};
use crate::balance::Arrival;
use crate::family::Family;
use crate::maps::own_mac;

/// Hop limit of what we send ourselves.
const TTL: u8 = 64;
/// Bytes of a TCP header without options.
const TCP: usize = 20;
/// Bytes of an ICMP error's own header.
const ICMP: usize = 8;
/// Bytes of the refused packet's L4 header that an ICMP error quotes: the ports, and UDP's length and checksum.
const QUOTED: usize = 8;
/// ICMP errors per service, CPU and tick: errors must be limited (RFC 1812, 4.3.2.8; RFC 4443, 2.4 f).
const ICMP_PER_TICK: u64 = 256;

/// Refuses a packet, or drops it for this reason.
#[inline(never)]
pub fn packet<F: Family>(arrival: &Arrival<F>, otherwise: Reason) -> Verdict {
    let arrival = crate::opaque(arrival);
    let plain = arrival.offset == ETHERNET + F::HEADER && arrival.fragment == Fragment::Whole;
    if !plain || arrival.flags & flag::RST != 0 || !F::is_someone(&arrival.tuple.src) {
        return drop(otherwise);
    }
    let (sent, reason) = if arrival.protocol == proto::TCP {
        (reset::<F>(arrival), Reason::RejectRst)
    } else if within_budget(arrival.service, arrival.now) {
        (unreachable::<F>(arrival), Reason::RejectIcmp)
    } else {
        (None, otherwise)
    };
    match sent {
        Some(()) => {
            count(reason);
            xdp_action::XDP_TX
        }
        None => drop(otherwise),
    }
}

#[inline(always)]
fn within_budget(service: u32, now: u32) -> bool {
    account::service(service, |stats| {
        if stats.icmp_budget >> 32 != u64::from(now) {
            stats.icmp_budget = u64::from(now) << 32;
        }
        stats.icmp_budget += 1;
        stats.icmp_budget & 0xffff_ffff <= ICMP_PER_TICK
    })
    .unwrap_or(false)
}

/// Turns a segment into the RST that answers it.
#[inline(always)]
fn reset<F: Family>(arrival: &Arrival<F>) -> Option<()> {
    let (frame, at) = (arrival.frame(), ETHERNET + F::HEADER);
    let seq: u32 = frame.load(at + 4)?;
    let ack: u32 = frame.load(at + 8)?;
    let header = usize::from(frame.load::<u8>(at + 12)? >> 4) * 4;
    let payload = (F::frame_bytes(frame) as usize).checked_sub(at + header)?;
    let ends = u32::from(arrival.flags & flag::SYN != 0) + u32::from(arrival.flags & flag::FIN != 0);
    let (seq, ack, flags) = if arrival.flags & flag::ACK != 0 {
        (ack, 0, flag::RST)
    } else {
        (0, (u32::from_be(seq).wrapping_add(payload as u32 + ends)).to_be(), flag::RST | flag::ACK)
    };
    turn_round::<F>(frame, arrival, proto::TCP, TCP as u16)?;
    frame.store(at, arrival.tuple.ports.rotate_left(16));
    frame.store(at + 4, seq);
    frame.store(at + 8, ack);
    frame.store(at + 12, [0x50u8, flags]);
    frame.store(at + 14, [0u8; 6]); // window, checksum, urgent pointer
    let pseudo = pseudo_sum::<F>(arrival, proto::TCP, TCP as u16);
    let sum = sum_words::<{ TCP / 2 }>(frame, at)?;
    frame.store(at + 16, !fold(fold(sum) as u32 + fold(pseudo) as u32));
    cut(arrival.ctx, at + TCP)
}

/// Puts an ICMP error in front of a packet and cuts it off behind its quotation.
#[inline(always)]
fn unreachable<F: Family>(arrival: &Arrival<F>) -> Option<()> {
    let peer: [u8; 6] = arrival.frame().load(6)?;
    let more = F::HEADER + ICMP;
    // SAFETY: the context is the kernel's own. All views of the frame are taken anew afterwards.
    if unsafe { bpf_xdp_adjust_head(arrival.ctx, -(more as i32)) } != 0 {
        return None;
    }
    // SAFETY: as for the first view; that one is used no more.
    let frame = unsafe { crate::view(arrival.ctx) };
    frame.store(6, peer);
    frame.store(12, if F::IS_V4 { ethertype::IPV4 } else { ethertype::IPV6 });
    let at = ETHERNET + F::HEADER;
    let length = (ICMP + F::HEADER + QUOTED) as u16;
    turn_round::<F>(frame, arrival, F::ICMP, length)?;
    frame.store(at, if F::IS_V4 { [3u8, 3] } else { [1, 4] });
    frame.store(at + 2, [0u8; 6]);
    let quoted = sum_words::<{ ICMP / 2 + QUOTED / 2 }>(frame, at)?;
    let (mut sum, rest) = (u32::from(fold(quoted)), at + ICMP + QUOTED);
    sum += if F::IS_V4 {
        sum_words::<10>(frame, rest)?
    } else {
        sum_words::<20>(frame, rest)? + u32::from(fold(pseudo_sum::<F>(arrival, F::ICMP, length)))
    };
    frame.store(at + 2, !fold(sum));
    cut(arrival.ctx, at + ICMP + F::HEADER + QUOTED)
}

/// Writes Ethernet and IP headers for an answer of `length` bytes behind them: both ends change places, but that the interface's
/// own MAC stands also for a virtual one.
#[inline(always)]
fn turn_round<F: Family>(frame: Frame, arrival: &Arrival<F>, protocol: u8, length: u16) -> Option<()> {
    let (peer, own): ([u8; 6], u64) = (frame.load(6)?, own_mac());
    frame.store(0, peer);
    frame.store(6, own as u32);
    frame.store(10, (own >> 32) as u16);
    if F::IS_V4 {
        frame.store(ETHERNET, [0x45u8, 0]);
        frame.store(ETHERNET + 2, (length + F::HEADER as u16).to_be());
        frame.store(ETHERNET + 4, [0u8, 0, 0x40, 0]); // don't fragment
        frame.store(ETHERNET + 8, [TTL, protocol, 0, 0]);
    } else {
        frame.store(ETHERNET, [0x60u8, 0, 0, 0]);
        frame.store(ETHERNET + 4, length.to_be());
        frame.store(ETHERNET + 6, [protocol, TTL]);
    }
    frame.store(F::SOURCE, arrival.tuple.dst);
    frame.store(F::SOURCE + size_of::<F::A>(), arrival.tuple.src);
    if F::IS_V4 {
        let sum = sum_words::<10>(frame, ETHERNET)?;
        frame.store(ETHERNET + 10, !fold(sum));
    }
    Some(())
}

/// The pseudo-header's sum (RFC 9293, 3.1; RFC 8200, 8.1).
#[inline(always)]
fn pseudo_sum<F: Family>(arrival: &Arrival<F>, protocol: u8, length: u16) -> u32 {
    let mut sum = u32::from(u16::from(protocol).to_be()) + u32::from(length.to_be());
    let mut i = 0;
    while i < <F::A as Words>::COUNT {
        let (a, b) = (arrival.tuple.src.word(i), arrival.tuple.dst.word(i));
        sum += (a >> 16) + (a & 0xffff) + (b >> 16) + (b & 0xffff);
        i += 1;
    }
    sum
}

/// The sum of `N` 16-bit words of the frame.
#[inline(always)]
fn sum_words<const N: usize>(frame: Frame, at: usize) -> Option<u32> {
    let words: [u16; N] = frame.load(at)?;
    let mut sum = 0;
    let mut i = 0;
    while i < N {
        sum += u32::from(words[i]);
        i += 1;
    }
    Some(sum)
}

/// Cuts the frame off at `length`, all its buffers considered.
#[inline(always)]
fn cut(ctx: *mut xdp_md, length: usize) -> Option<()> {
    // SAFETY: the context is the kernel's own.
    let less = length as i32 - unsafe { bpf_xdp_get_buff_len(ctx) } as i32;
    // SAFETY: as above; the frame is not looked at any more.
    (less >= 0 || unsafe { bpf_xdp_adjust_tail(ctx, less) } == 0).then_some(())
}
