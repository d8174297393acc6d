//! The contract of the probes' programs, which let a socket of the daemon's reach a VIP at one given real server: the socket
//! is connected to the real server's own address and carries a mark; on the way out the programs put the VIP in that
//! address's place, and the other way round in the answers.
//!
//! Their maps are never pinned, so nothing here is part of the ABI's version.

use crate::abi::Addr;

/// The upper half of every mark that stands for a VIP; the lower half is a number from 1 on.
pub const MARKS: u32 = 0x0d1e_0000;
/// The bits by which such a mark is told from others.
pub const MARKS_MASK: u32 = 0xffff_0000;
/// VIPs that can have a mark at once.
pub const MAX_VIPS: u32 = 0xffff;
/// Probes whose answers are recognized. Of more than these, the ones longest without a packet are forgotten.
pub const MAX_PROBES: u32 = 16_384;

/// Names of the maps and of the programs, as the object has them.
pub mod names {
    /// `HASH`: a mark → its VIP ([`super::Words`]). A hash, since its values change as a whole.
    pub const VIPS: &str = "PROBE_VIPS";
    /// `LRU_HASH`: [`super::ProbeKey`] → the real server's own address ([`super::Words`]).
    pub const PROBES: &str = "PROBES";
    /// `PERCPU_ARRAY` of `u64` by [`super::Count`].
    pub const COUNTS: &str = "PROBE_COUNTS";
    /// The program for what is sent.
    pub const OUT: &str = "director_vip_out";
    /// The program for what is received.
    pub const IN: &str = "director_vip_in";
}

/// An [`Addr`] as four words, as it stands in memory: the BPF target copies words one by one, but bytes in loops.
pub type Words = [u32; 4];

/// An address as words.
pub fn words(addr: Addr) -> Words {
    let mut words = [0; 4];
    let mut bytes = addr.chunks_exact(4);
    words.fill_with(|| bytes.next().map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
    words
}

/// What names a probe, in its packets as the real server sees them and in the answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeKey {
    /// The VIP.
    pub vip: Words,
    /// Our own address.
    pub local: Words,
    /// Our port, or the ICMP echo's identifier, in network byte order.
    pub local_port_be: u16,
    /// The service's port in network byte order; 0 for ICMP.
    pub port_be: u16,
    /// [`crate::abi::proto`].
    pub proto: u32,
}

const _: () = assert!(size_of::<ProbeKey>() == 16 + 16 + 2 + 2 + 4);

/// What the programs count.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Packets of probes sent to a VIP.
    Sent,
    /// Answers that were given the real server's address again.
    Answered,
    /// ICMP errors about probes.
    Errors,
    /// Marked packets that could not be sent to a VIP, and were dropped: its mark is not known, the address is of the other
    /// family, a fragment, an extension header, or neither TCP, UDP nor an ICMP echo.
    Refused,
}

impl Count {
    /// How many there are.
    pub const COUNT: usize = Count::Refused as usize + 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_address_as_it_stands() {
        let addr: Addr = core::array::from_fn(|i| i as u8);
        for (i, word) in words(addr).into_iter().enumerate() {
            assert_eq!(word.to_ne_bytes(), addr[i * 4..i * 4 + 4]);
        }
    }
}
