//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624), in whatever byte order the packet was read: one's
//! complement sums do not mind, as long as both sides of an update were read alike.

/// A partial sum folded to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The partial sum of a few bytes (an even number of them), as 16-bit words in native order.
pub const fn bytes(data: &[u8]) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i + 1 < data.len() {
        sum += u16::from_ne_bytes([data[i], data[i + 1]]) as u32;
        i += 2;
    }
    sum
}

/// What replacing words that sum to `old` by words that sum to `new` adds to a sum: at most 17 bits.
#[inline(always)]
pub const fn difference(old: u32, new: u32) -> u32 {
    (!fold(old) as u32 & 0xffff) + fold(new) as u32
}

/// A checksum field after its data changed by `delta` (at most 24 bits): RFC 1624, equation 3.
#[inline(always)]
pub const fn update(check: u16, delta: u32) -> u16 {
    !fold((!check) as u32 + delta)
}

/// The delta of one step down of a TTL: `ttl` is the first byte of its 16-bit word, so in native order the word falls by one on
/// a little-endian machine.
#[cfg(target_endian = "little")]
pub const TTL_STEP: u32 = 0xfffe;

/// The inverse of a delta: what takes the change back.
#[inline(always)]
pub const fn inverse(delta: u16) -> u16 {
    !delta
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn whole(data: &[u8]) -> u16 {
        !fold(bytes(data))
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285 gives 0x0000.
        assert_eq!(update(0xdd2f, difference(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn an_update_equals_a_new_sum() {
        let mut data: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(37).wrapping_add(11)).collect();
        for round in 0..200u8 {
            let before = whole(&data);
            let at = usize::from(round % 10) * 4;
            let old = bytes(&data[at..at + 4]);
            data[at..at + 4].copy_from_slice(&[round, 255 - round, round ^ 0x5a, 7]);
            assert_eq!(update(before, difference(old, bytes(&data[at..at + 4]))), whole(&data));
        }
    }

    #[test]
    fn a_ttl_step_and_its_delta_agree() {
        let mut data: Vec<u8> = (1..21u8).collect();
        let before = whole(&data);
        data[8] -= 1;
        assert_eq!(update(before, TTL_STEP), whole(&data));
    }

    #[test]
    fn an_inverse_takes_the_change_back() {
        let delta = fold(difference(0x1234_5678, 0x9abc_def0));
        let there = update(0xbeef, u32::from(delta));
        assert_eq!(update(there, u32::from(inverse(delta))), 0xbeef);
    }
}
