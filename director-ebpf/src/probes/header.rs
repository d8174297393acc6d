//! IP headers as the probes' programs need them. All access is by the kernel's helpers: these packets are few, and the helpers
//! know what a socket buffer shares with others and where it is not in one piece.

use aya_ebpf::programs::TcContext;
use director_ebpf::packet::{IPV4, IPV6};
use director_ebpf::probe::Words;

/// Where IPv4 has its checksum.
pub const V4_CHECKSUM: usize = 10;

/// An IP header with no fragment and no extension header behind it.
pub struct Header {
    /// The source.
    pub src: Words,
    /// The destination.
    pub dst: Words,
    /// Where the L4 header begins.
    pub l4: usize,
    /// Its protocol.
    pub protocol: u8,
}

/// What differs between IPv4 and IPv6.
pub trait Version {
    /// Whether this is IPv4.
    const IS_V4: bool;
    /// Where the source stands in the header.
    const SOURCE: usize;
    /// Where the destination stands in the header.
    const DESTINATION: usize;
    /// The number of its ICMP.
    const ICMP: u8;
    /// The type of an echo request.
    const ECHO: u8;
    /// The type of its answer.
    const ECHO_REPLY: u8;

    /// Reads the header at `at`.
    fn header(ctx: &TcContext, at: usize) -> Option<Header>;
    /// Writes an address.
    fn store(ctx: &TcContext, at: usize, address: Words, flags: u64) -> Option<()>;
    /// Writes TTL or hop limit of the header at `at`.
    fn store_ttl(ctx: &TcContext, at: usize, ttl: u8) -> Option<()>;
    /// Whether an ICMP message of this type is an error.
    fn is_error(kind: u8) -> bool;
}

/// IPv4 (RFC 791).
pub struct V4;
/// IPv6 (RFC 8200).
pub struct V6;

impl Version for V4 {
    const IS_V4: bool = true;
    const SOURCE: usize = 12;
    const DESTINATION: usize = 16;
    const ICMP: u8 = director_ebpf::abi::proto::ICMP;
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn header(ctx: &TcContext, at: usize) -> Option<Header> {
        let words: [u32; IPV4 / 4] = ctx.load(at).ok()?;
        let first = words[0].to_ne_bytes()[0];
        let length = usize::from(first & 0x0f) * 4;
        let place = words[1].to_ne_bytes();
        let fragment = u16::from_be_bytes([place[2], place[3]]) & 0x3fff != 0;
        if first >> 4 != 4 || length < IPV4 || fragment {
            return None;
        }
        let mapped = |word| [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), word];
        let protocol = words[2].to_ne_bytes()[1];
        Some(Header { src: mapped(words[3]), dst: mapped(words[4]), l4: at + length, protocol })
    }

    #[inline(always)]
    fn store(ctx: &TcContext, at: usize, address: Words, flags: u64) -> Option<()> {
        ctx.skb.store(at, &address[3], flags).ok()
    }

    #[inline(always)]
    fn store_ttl(ctx: &TcContext, at: usize, ttl: u8) -> Option<()> {
        let old: u16 = ctx.load(at + 8).ok()?;
        let new = u16::from_ne_bytes([ttl, old.to_ne_bytes()[1]]);
        ctx.skb.store(at + 8, &new, 0).ok()?;
        ctx.skb.l3_csum_replace(at + V4_CHECKSUM, u64::from(old), u64::from(new), 2).ok()
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }
}

impl Version for V6 {
    const IS_V4: bool = false;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;
    const ICMP: u8 = director_ebpf::abi::proto::ICMPV6;
    const ECHO: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn header(ctx: &TcContext, at: usize) -> Option<Header> {
        let words: [u32; IPV6 / 4] = ctx.load(at).ok()?;
        if words[0].to_ne_bytes()[0] >> 4 != 6 {
            return None;
        }
        let protocol = words[1].to_ne_bytes()[2];
        let src = [words[2], words[3], words[4], words[5]];
        let dst = [words[6], words[7], words[8], words[9]];
        Some(Header { src, dst, l4: at + IPV6, protocol })
    }

    #[inline(always)]
    fn store(ctx: &TcContext, at: usize, address: Words, flags: u64) -> Option<()> {
        ctx.skb.store(at, &address, flags).ok()
    }

    #[inline(always)]
    fn store_ttl(ctx: &TcContext, at: usize, ttl: u8) -> Option<()> {
        ctx.skb.store(at + 7, &ttl, 0).ok()
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }
}
