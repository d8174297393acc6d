//! Headers as views of bytes. Every access goes through [`Frame::at`] or [`Frame::load`], which check that it lies inside: the
//! BPF verifier and the host's tests hold the same code to the same bounds.

use crate::abi::proto;

/// Bytes of an Ethernet header (IEEE 802.3, without tags).
pub const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options (RFC 791).
pub const IPV4: usize = 20;
/// Bytes of an IPv6 header (RFC 8200).
pub const IPV6: usize = 40;

/// EtherTypes, in network byte order as they stand in a frame.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800u16.to_be();
    /// ARP.
    pub const ARP: u16 = 0x0806u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86ddu16.to_be();
    /// 802.1Q.
    pub const VLAN: u16 = 0x8100u16.to_be();
    /// 802.1ad.
    pub const QINQ: u16 = 0x88a8u16.to_be();
}

/// A frame between two addresses, as XDP has it (`data`, `data_end`).
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame from `start` up to, not including, `end`.
    ///
    /// # Safety
    /// The bytes between are readable and writable, and nothing else holds them, for as long as the frame is used.
    #[inline(always)]
    pub const unsafe fn new(start: usize, end: usize) -> Frame {
        Frame { start, end }
    }

    /// Its length in bytes (of its first buffer, where the driver splits frames).
    #[inline(always)]
    pub const fn len(self) -> usize {
        self.end - self.start
    }

    /// The same frame seen from `offset` on; empty if it ends before. The compiler learns nothing of how the two are related:
    /// the verifier forgets what it proved of one address when it meets the same one computed again, so what is read here is
    /// checked against this start.
    #[inline(always)]
    pub fn from(self, offset: usize) -> Frame {
        Frame { start: core::hint::black_box(self.start + offset), end: self.end }
    }

    /// Whether there is nothing in it.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// Where `T` stands at `offset`, if all of it lies inside.
    #[inline(always)]
    pub fn at<T>(self, offset: usize) -> Option<*mut T> {
        let place = self.start + offset;
        if place + size_of::<T>() > self.end { None } else { Some(place as *mut T) }
    }

    /// The `T` at `offset`, as it stands there, aligned or not.
    #[inline(always)]
    pub fn load<T: Copy>(self, offset: usize) -> Option<T> {
        // SAFETY: `at` found all of it inside the frame, and the frame is readable by `new`'s contract. The integers and
        // byte arrays asked for here have no invalid values.
        self.at::<T>(offset).map(|place| unsafe { read(place) })
    }

    /// Writes a `T` at `offset`; false if it would not lie inside.
    #[inline(always)]
    pub fn store<T: Copy>(self, offset: usize, value: T) -> bool {
        match self.at::<T>(offset) {
            Some(place) => {
                // SAFETY: as in `load`, and the frame is writable.
                unsafe { write(place, value) };
                true
            }
            None => false,
        }
    }
}

/// # Safety
/// As for `read_unaligned`.
#[inline(always)]
#[cfg(not(target_arch = "bpf"))]
unsafe fn read<T: Copy>(place: *const T) -> T {
    // SAFETY: by this function's contract.
    unsafe { place.read_unaligned() }
}

/// # Safety
/// As for `write_unaligned`.
#[inline(always)]
#[cfg(not(target_arch = "bpf"))]
unsafe fn write<T: Copy>(place: *mut T, value: T) {
    // SAFETY: by this function's contract.
    unsafe { place.write_unaligned(value) }
}

/// For BPF the compiler would split an unaligned access into bytes, four times the instructions. The machines we run on load
/// any word of a packet at once, and the verifier, which knows, refuses the program on one that does not.
///
/// # Safety
/// As for `read_unaligned`.
#[inline(always)]
#[cfg(target_arch = "bpf")]
unsafe fn read<T: Copy>(place: *const T) -> T {
    // SAFETY: by this function's contract; see above for the alignment.
    unsafe { place.read() }
}

/// See [`read`].
///
/// # Safety
/// As for `write_unaligned`.
#[inline(always)]
#[cfg(target_arch = "bpf")]
unsafe fn write<T: Copy>(place: *mut T, value: T) {
    // SAFETY: by this function's contract; see above for the alignment.
    unsafe { place.write(value) }
}

/// What a fragment's place in its datagram is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first: it has the L4 header.
    First,
    /// A later one.
    Later,
}

/// Where the L4 header of an IP packet lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Its offset in the frame.
    pub offset: usize,
    /// Its protocol: [`crate::abi::proto`].
    pub protocol: u8,
    /// Whether this is a fragment.
    pub fragment: Fragment,
    /// What names the datagram of a fragment, besides its addresses.
    pub fragment_id: u32,
}

/// Why a packet is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It ends before its headers do.
    Truncated,
    /// It contradicts itself.
    Malformed,
}

/// Reads what stands behind an IPv4 header at `at` (options are stepped over).
#[inline(always)]
pub fn ipv4_upper(frame: Frame, at: usize) -> Result<Upper, Broken> {
    let head: u8 = frame.load(at).ok_or(Broken::Truncated)?;
    let length = usize::from(head & 0x0f) * 4;
    if head >> 4 != 4 || length < IPV4 {
        return Err(Broken::Malformed);
    }
    let total = usize::from(u16::from_be(frame.load(at + 2).ok_or(Broken::Truncated)?));
    if total < length {
        return Err(Broken::Malformed);
    }
    let fragment = u16::from_be(frame.load(at + 6).ok_or(Broken::Truncated)?);
    let id: u16 = frame.load(at + 4).ok_or(Broken::Truncated)?;
    let protocol: u8 = frame.load(at + 9).ok_or(Broken::Truncated)?;
    let fragment = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    Ok(Upper { offset: at + length, protocol, fragment, fragment_id: u32::from(id) })
}

/// How many IPv6 extension headers are stepped over; more are not understood (RFC 8200 asks senders for at most six kinds).
const MAX_EXTENSIONS: usize = 6;

/// Reads what stands behind an IPv6 header at `at`, and behind its extension headers: hop-by-hop, routing, destination options,
/// fragment, authentication (RFC 8200, 4; RFC 4302).
#[inline(always)]
pub fn ipv6_upper(frame: Frame, at: usize) -> Result<Upper, Broken> {
    let head: u8 = frame.load(at).ok_or(Broken::Truncated)?;
    if head >> 4 != 6 {
        return Err(Broken::Malformed);
    }
    let mut next: u8 = frame.load(at + 6).ok_or(Broken::Truncated)?;
    let mut upper = Upper { offset: at + IPV6, protocol: next, fragment: Fragment::Whole, fragment_id: 0 };
    for _ in 0..=MAX_EXTENSIONS {
        let header = frame.from(upper.offset);
        let length = match next {
            0 | 43 | 60 => (usize::from(second_byte(header)?) + 1) * 8,
            51 => (usize::from(second_byte(header)?) + 2) * 4,
            44 => {
                let place: u16 = header.load(2).ok_or(Broken::Truncated)?;
                upper.fragment_id = header.load(4).ok_or(Broken::Truncated)?;
                upper.fragment = match (u16::from_be(place) & 0xfff8, u16::from_be(place) & 1) {
                    (0, 0) => Fragment::Whole, // an atomic fragment (RFC 6946)
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            _ => return Ok(upper),
        };
        next = header.load(0).ok_or(Broken::Truncated)?;
        upper.offset += length;
        upper.protocol = next;
        if upper.fragment == Fragment::Later {
            return Ok(upper);
        }
    }
    Err(Broken::Malformed)
}

/// The IPv4 address, as it stands there, that an ARP request asks for or a reply is sent to (RFC 826). None of an
/// announcement, whose sender speaks of its own address (RFC 5227, 3), and of what is no such message. The hardware's type is not
/// looked at: the kernel answers to more than one (net/ipv4/arp.c, `arp_process`).
#[inline(always)]
pub fn arp_target(frame: Frame) -> Option<u32> {
    let message = frame.from(ETHERNET);
    let (kind, operation): ([u16; 2], u16) = (message.load(2)?, message.load(6)?);
    let (sender, target): (u32, u32) = (message.load(14)?, message.load(24)?);
    let ours = kind == [ethertype::IPV4, u16::from_be_bytes([6, 4]).to_be()];
    let asks = operation == 1u16.to_be() || operation == 2u16.to_be();
    (ours && asks && sender != target).then_some(target)
}

/// ICMPv6's neighbour solicitation (RFC 4861, 4.3).
pub const SOLICITATION: u8 = 135;

/// The IPv6 address that a neighbour solicitation asks for; None of what is no solicitation, or has extension headers, which
/// no solicitation needs.
#[inline(always)]
pub fn solicited(frame: Frame) -> Option<[u32; 4]> {
    let (next, kind): (u8, u8) = (frame.load(ETHERNET + 6)?, frame.load(ETHERNET + IPV6)?);
    if next != proto::ICMPV6 || kind != SOLICITATION {
        return None;
    }
    frame.load(ETHERNET + IPV6 + 8)
}

#[inline(always)]
fn second_byte(header: Frame) -> Result<u8, Broken> {
    header.load(1).ok_or(Broken::Truncated)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn frame(bytes: &mut [u8]) -> Frame {
        let range = bytes.as_mut_ptr_range();
        // SAFETY: the slice outlives every use in these tests, and is not touched meanwhile.
        unsafe { Frame::new(range.start as usize, range.end as usize) }
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; IPV6];
        bytes[0] = 0x60;
        bytes[6] = next;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let mut bytes = vec![0u8; 40];
        bytes[0] = 0x47;
        bytes[3] = 40;
        bytes[9] = 6;
        let upper = ipv4_upper(frame(&mut bytes), 0).unwrap();
        assert_eq!((upper.offset, upper.protocol, upper.fragment), (28, 6, Fragment::Whole));
    }

    #[test]
    fn ipv4_nonsense_is_told_apart() {
        let mut short = vec![0x45u8, 0, 0, 40];
        assert_eq!(ipv4_upper(frame(&mut short), 0), Err(Broken::Truncated));
        for (first, total) in [(0x44u8, 40u8), (0x55, 40), (0x46, 20)] {
            let mut bytes = vec![0u8; 40];
            bytes[0] = first;
            bytes[3] = total;
            assert_eq!(ipv4_upper(frame(&mut bytes), 0), Err(Broken::Malformed), "{first:#x} {total}");
        }
    }

    #[test]
    fn ipv4_fragments_are_told_apart() {
        for (bits, want) in [
            (0x4000u16, Fragment::Whole),
            (0x2000, Fragment::First),
            (0x2001, Fragment::Later),
            (0x00b9, Fragment::Later),
        ] {
            let mut bytes = vec![0u8; 40];
            bytes[0] = 0x45;
            bytes[3] = 40;
            bytes[6..8].copy_from_slice(&bits.to_be_bytes());
            assert_eq!(ipv4_upper(frame(&mut bytes), 0).unwrap().fragment, want);
        }
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        let mut chain = vec![60u8, 0, 0, 0, 0, 0, 0, 0]; // hop-by-hop, 8 bytes
        chain.extend([44u8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // destination options, 16 bytes
        chain.extend([17u8, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef]); // first fragment
        chain.extend([0u8; 8]);
        let mut bytes = ipv6(0, &chain);
        let upper = ipv6_upper(frame(&mut bytes), 0).unwrap();
        assert_eq!((upper.offset, upper.protocol, upper.fragment), (72, 17, Fragment::First));
        assert_eq!(upper.fragment_id.to_ne_bytes(), [0xde, 0xad, 0xbe, 0xef]);
    }

    #[test]
    fn an_endless_chain_ends() {
        let mut bytes = ipv6(0, &[0u8; 256]);
        assert_eq!(ipv6_upper(frame(&mut bytes), 0), Err(Broken::Malformed));
        let mut cut = ipv6(0, &[6u8]);
        assert_eq!(ipv6_upper(frame(&mut cut), 0), Err(Broken::Truncated));
    }

    #[test]
    fn arp_asks_for_its_target() {
        let mut bytes = vec![0u8; 42];
        bytes[16..22].copy_from_slice(&[8, 0, 6, 4, 0, 1]);
        bytes[28..32].copy_from_slice(&[192, 0, 2, 254]);
        bytes[38..42].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(arp_target(frame(&mut bytes)).map(u32::to_ne_bytes), Some([192, 0, 2, 1]));
        assert_eq!(arp_target(frame(&mut bytes[..41])), None);
        let mut announces = bytes.clone();
        announces[31] = 1;
        assert_eq!(arp_target(frame(&mut announces)), None);
        for at in 16..22 {
            let mut other = bytes.clone();
            other[at] ^= 0x80;
            assert_eq!(arp_target(frame(&mut other)), None, "byte {at}");
        }
    }

    #[test]
    fn a_solicitation_asks_for_its_target() {
        let mut bytes =
            [&[0u8; ETHERNET][..], &ipv6(58, &[SOLICITATION, 0, 0, 0, 0, 0, 0, 0]), &[7; 16]].concat();
        assert_eq!(solicited(frame(&mut bytes)), Some([0x0707_0707; 4]));
        assert_eq!(solicited(frame(&mut bytes[..77])), None);
        for (at, value) in [(20, 60), (54, 136)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(solicited(frame(&mut other)), None, "byte {at}");
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        let mut bytes = vec![1u8; 16];
        let frame = frame(&mut bytes);
        assert!(frame.load::<u32>(12).is_some() && frame.load::<u32>(13).is_none());
        assert!(frame.store(12, 7u32) && !frame.store(13, 7u32));
    }
}
