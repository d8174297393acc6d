//! Two hashes. [`flow`] keys the flow table: secret, so that a client cannot aim at a set. [`slot`] chooses a slot: the same on
//! every director, so that two of them agree without talking.

/// Key words of one half of [`flow`]: a start word, and one for each of ten message words.
const HALF: usize = 1 + 10;
/// Key words that [`flow`] wants: its two halves' keys are independent.
pub const KEY_WORDS: usize = 2 * HALF;

/// Where [`flow`]'s keys come from: memory on the host, a frozen constant in the BPF program.
pub trait Key {
    /// The `i`th word.
    fn word(&self, i: usize) -> u64;
}

impl Key for [u64; KEY_WORDS] {
    #[inline(always)]
    fn word(&self, i: usize) -> u64 {
        self[i]
    }
}

/// The parts of a packet (or of what stands for one) that name its flow. Every field as it stands in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port in the low half, destination port in the high half, each in network byte order.
    pub ports: u32,
    /// IP protocol in the low byte, [`crate::flowword::kind`] domain in the next (replies count as clients: they are looked up
    /// by what stands in the packet).
    pub proto: u32,
}

/// An address as 32-bit words, as they stand in the packet: one word (IPv4) or four (IPv6).
pub trait Words: Copy + PartialEq {
    /// How many.
    const COUNT: usize;
    /// The `i`th word.
    fn word(&self, i: usize) -> u32;
}

impl Words for u32 {
    const COUNT: usize = 1;
    #[inline(always)]
    fn word(&self, _: usize) -> u32 {
        *self
    }
}

impl Words for [u32; 4] {
    const COUNT: usize = 4;
    #[inline(always)]
    fn word(&self, i: usize) -> u32 {
        self[i]
    }
}

/// One half of the flow hash: multilinear-HM (Lemire and Kaser, "Strongly universal string hashing is fast", 2014), the high
/// word of Σ (k₂ᵢ + w₂ᵢ)(k₂ᵢ₊₁ + w₂ᵢ₊₁) over pairs of 32-bit words with 64-bit keys.
#[inline(always)]
fn half<A: Words>(key: &impl Key, from: usize, t: &Tuple<A>) -> u64 {
    let mut sum = key.word(from);
    let mut i = 0;
    if A::COUNT == 1 {
        sum = sum.wrapping_add(pair(key, from, t.src.word(0), t.dst.word(0)));
    } else {
        while i < A::COUNT {
            sum = sum.wrapping_add(pair(key, from + i, t.src.word(i), t.src.word(i + 1)));
            sum = sum.wrapping_add(pair(key, from + 4 + i, t.dst.word(i), t.dst.word(i + 1)));
            i += 2;
        }
    }
    sum.wrapping_add(pair(key, from + 8, t.ports, t.proto)) >> 32
}

#[inline(always)]
fn pair(key: &impl Key, at: usize, a: u32, b: u32) -> u64 {
    key.word(at + 1).wrapping_add(a as u64).wrapping_mul(key.word(at + 2).wrapping_add(b as u64))
}

/// The flow table's hash of a tuple: 64 bits, two halves under independent keys, then a bijective finalizer (Stafford's mix 13)
/// so that every bit may serve as an index.
#[inline(always)]
pub fn flow<A: Words>(key: &impl Key, t: &Tuple<A>) -> u64 {
    let mut h = half(key, 0, t) << 32 | half(key, HALF, t);
    h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 31
}

/// Mixes one more word into a running slot hash.
#[inline(always)]
pub const fn slot_mix(h: u32, word: u32) -> u32 {
    // The round of MurmurHash3 (x86, 32 bits), public domain.
    let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Ends a slot hash: MurmurHash3's avalanche.
#[inline(always)]
pub const fn slot_end(mut h: u32) -> u32 {
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Mixes an address into a running slot hash.
#[inline(always)]
pub fn slot_addr<A: Words>(mut h: u32, addr: &A) -> u32 {
    let mut i = 0;
    while i < A::COUNT {
        h = slot_mix(h, addr.word(i));
        i += 1;
    }
    h
}

/// The place of a hash among `len` slots, without a division.
#[inline(always)]
pub const fn reduce(h: u32, len: u32) -> u32 {
    ((h as u64 * len as u64) >> 32) as u32
}

/// The bit of [`crate::abi::AddrFilter`] that stands for an address: word index and mask. Not secret: a false positive costs a
/// look-up, nothing more.
#[inline(always)]
pub fn filter_bit<A: Words>(addr: &A) -> (usize, u64) {
    let mut x = addr.word(0);
    let mut i = 1;
    while i < A::COUNT {
        x = x.rotate_left(7) ^ addr.word(i);
        i += 1;
    }
    let h = x.wrapping_mul(0x9e37_79b1) >> 16;
    ((h >> 6) as usize & (crate::abi::FILTER_WORDS - 1), 1 << (h & 63))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;

    fn key() -> [u64; KEY_WORDS] {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        core::array::from_fn(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        })
    }

    #[test]
    fn every_part_of_a_tuple_counts() {
        let t = Tuple { src: [1u32, 2, 3, 4], dst: [5u32, 6, 7, 8], ports: 9, proto: 6 };
        let mut seen = HashSet::from([flow(&key(), &t)]);
        for i in 0..4 {
            let (mut a, mut b) = (t, t);
            a.src[i] ^= 1;
            b.dst[i] ^= 1;
            assert!(seen.insert(flow(&key(), &a)) && seen.insert(flow(&key(), &b)));
        }
        assert!(seen.insert(flow(&key(), &Tuple { ports: 8, ..t })));
        assert!(seen.insert(flow(&key(), &Tuple { proto: 17, ..t })));
        let back = Tuple { src: t.dst, dst: t.src, ..t };
        assert!(seen.insert(flow(&key(), &back)));
    }

    #[test]
    fn sets_fill_evenly() {
        // A million like clients: sequential addresses and ports, the worst that ordinary traffic offers.
        let key = key();
        let mut sets = std::vec![0u32; 1 << 14];
        for i in 0..1u32 << 18 {
            let t =
                Tuple { src: 0x0a00_0000 + (i >> 6), dst: 0xc000_020a, ports: i & 63 | 80 << 16, proto: 6 };
            sets[(flow(&key, &t) & 0x3fff) as usize] += 1;
        }
        let fullest = sets.iter().max().unwrap();
        assert!(*fullest < 48, "a set meant for 16 got {fullest}");
    }

    #[test]
    fn a_place_is_always_within() {
        for len in [1, 2, 3, 65_537] {
            assert!(reduce(0, len) == 0 && reduce(u32::MAX, len) == len - 1);
        }
    }
}
