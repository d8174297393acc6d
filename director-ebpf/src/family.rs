//! What differs between IPv4 and IPv6, so that everything else is written once and compiled twice.

use aya_ebpf::bindings::xdp_md;
use director_ebpf::abi::{Addr, proto};
use director_ebpf::hash::Words;
use director_ebpf::packet::{Broken, ETHERNET, Fragment, Frame, IPV4, IPV6, Upper, ipv4_upper, ipv6_upper};

/// An address family.
pub trait Family {
    /// An address as 32-bit words of the packet.
    type A: Words + PartialEq;
    /// Bytes of the IP header without options or extensions.
    const HEADER: usize;
    /// Offset of the source address in the frame; the destination follows it.
    const SOURCE: usize;
    /// Offset of the TTL or hop limit in the frame.
    const TTL: usize;
    /// Its ICMP.
    const ICMP: u8;
    /// Whether this is IPv4.
    const IS_V4: bool;
    /// The unspecified address.
    const NOWHERE: Self::A;

    /// Reads what stands behind the IP header, if that is simple: no fragment, no extension header, no contradiction.
    fn plain_upper(frame: Frame) -> Option<Upper>;
    /// Reads what stands behind the IP header, whatever it is.
    fn upper(ctx: *mut xdp_md, frame: Frame) -> Result<Upper, Broken>;
    /// Bytes of the whole frame, as the IP header says (a driver may hold only the first part in the first buffer).
    fn frame_bytes(frame: Frame) -> u64;
    /// An address in the maps' form, as words.
    fn wide(addr: &Self::A) -> [u32; 4];
    /// An address out of the maps' form. It lies in a record, aligned to four.
    fn unmapped(addr: &Addr) -> Self::A;
    /// Whether an address is one that a single host sends from: not unspecified, loopback, multicast or broadcast.
    fn is_someone(addr: &Self::A) -> bool;
    /// The leading bits of an address, `prefix` of 128 in the maps' form; the rest 0.
    fn masked(addr: &Self::A, prefix: u8) -> Self::A;
}

/// IPv4.
pub struct V4;
/// IPv6.
pub struct V6;

impl Family for V4 {
    type A = u32;
    const HEADER: usize = IPV4;
    const SOURCE: usize = ETHERNET + 12;
    const TTL: usize = ETHERNET + 8;
    const ICMP: u8 = proto::ICMP;
    const IS_V4: bool = true;
    const NOWHERE: u32 = 0;

    #[inline(always)]
    fn plain_upper(frame: Frame) -> Option<Upper> {
        ipv4_upper(frame, ETHERNET).ok().filter(|upper| upper.fragment == Fragment::Whole)
    }

    #[inline(always)]
    fn upper(_: *mut xdp_md, frame: Frame) -> Result<Upper, Broken> {
        ipv4_upper(frame, ETHERNET)
    }

    #[inline(always)]
    fn frame_bytes(frame: Frame) -> u64 {
        let total = frame.load::<u16>(ETHERNET + 2).unwrap_or(0);
        u64::from(u16::from_be(total)) + ETHERNET as u64
    }

    #[inline(always)]
    fn wide(addr: &u32) -> [u32; 4] {
        [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), *addr]
    }

    #[inline(always)]
    fn unmapped(addr: &Addr) -> u32 {
        word(addr, 3)
    }

    #[inline(always)]
    fn is_someone(addr: &u32) -> bool {
        let first = *addr as u8;
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn masked(addr: &u32, prefix: u8) -> u32 {
        mask_word(*addr, prefix.saturating_sub(96))
    }
}

impl Family for V6 {
    type A = [u32; 4];
    const HEADER: usize = IPV6;
    const SOURCE: usize = ETHERNET + 8;
    const TTL: usize = ETHERNET + 7;
    const ICMP: u8 = proto::ICMPV6;
    const IS_V4: bool = false;
    const NOWHERE: [u32; 4] = [0; 4];

    #[inline(always)]
    fn plain_upper(frame: Frame) -> Option<Upper> {
        let (first, protocol): (u8, u8) = (frame.load(ETHERNET)?, frame.load(ETHERNET + 6)?);
        let plain = protocol == proto::TCP || protocol == proto::UDP || protocol == proto::ICMPV6;
        let offset = ETHERNET + IPV6;
        (first >> 4 == 6 && plain).then_some(Upper {
            offset,
            protocol,
            fragment: Fragment::Whole,
            fragment_id: 0,
        })
    }

    #[inline(always)]
    fn upper(ctx: *mut xdp_md, frame: Frame) -> Result<Upper, Broken> {
        match Self::plain_upper(frame) {
            Some(upper) => Ok(upper),
            None => unpack(walk_extensions(ctx)),
        }
    }

    #[inline(always)]
    fn frame_bytes(frame: Frame) -> u64 {
        let payload = frame.load::<u16>(ETHERNET + 4).unwrap_or(0);
        u64::from(u16::from_be(payload)) + (ETHERNET + IPV6) as u64
    }

    #[inline(always)]
    fn wide(addr: &[u32; 4]) -> [u32; 4] {
        *addr
    }

    #[inline(always)]
    fn unmapped(addr: &Addr) -> [u32; 4] {
        [word(addr, 0), word(addr, 1), word(addr, 2), word(addr, 3)]
    }

    #[inline(always)]
    fn is_someone(addr: &[u32; 4]) -> bool {
        addr[0] as u8 != 0xff && (addr[0] | addr[1] | addr[2] | addr[3] & !1u32.to_be()) != 0
    }

    #[inline(always)]
    fn masked(addr: &[u32; 4], prefix: u8) -> [u32; 4] {
        [
            mask_word(addr[0], prefix),
            mask_word(addr[1], prefix.saturating_sub(32)),
            mask_word(addr[2], prefix.saturating_sub(64)),
            mask_word(addr[3], prefix.saturating_sub(96)),
        ]
    }
}

/// What stands behind extension headers, in one word: fragment's id 32 | offset 16 | protocol 8 | how 8. The walk has hundreds of
/// outcomes; a global function, for the verifier would follow each of them through all the rest of the program.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_extensions(ctx: *mut xdp_md) -> u64 {
    // SAFETY: the kernel's context; the caller has not changed the frame.
    match ipv6_upper(unsafe { crate::view(ctx) }, ETHERNET) {
        Ok(upper) => {
            u64::from(upper.fragment_id) << 32
                | (upper.offset as u64) << 16
                | u64::from(upper.protocol) << 8
                | upper.fragment as u64
        }
        Err(Broken::Truncated) => 3,
        Err(Broken::Malformed) => 4,
    }
}

/// The reverse of what [`walk_extensions`] packs.
#[inline(always)]
fn unpack(word: u64) -> Result<Upper, Broken> {
    let fragment = match word as u8 {
        0 => Fragment::Whole,
        1 => Fragment::First,
        2 => Fragment::Later,
        3 => return Err(Broken::Truncated),
        _ => return Err(Broken::Malformed),
    };
    let offset = (word >> 16) as usize & 0x3fff;
    Ok(Upper { offset, protocol: (word >> 8) as u8, fragment, fragment_id: (word >> 32) as u32 })
}

/// The leading `bits` (at most 32 count) of a word in network byte order.
#[inline(always)]
fn mask_word(word: u32, bits: u8) -> u32 {
    if bits >= 32 { word } else { word & (!(u32::MAX >> bits)).to_be() }
}

#[inline(always)]
fn word(addr: &Addr, i: usize) -> u32 {
    // SAFETY: inside the address, which stands in a record at a multiple of four.
    unsafe { core::ptr::from_ref(addr).cast::<u32>().add(i).read() }
}
