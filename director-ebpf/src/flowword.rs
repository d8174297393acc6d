//! The two words of a flow entry's hot half, packed and unpacked. The concurrency protocol that uses them is in the program's
//! `flow` module and the daemon's `dataplane::flows`.

/// A tag that marks a free way.
pub const FREE: u64 = 0;
/// A tag that marks a way being written: its value means nothing yet.
pub const BUSY: u64 = 1;

/// The tag of a flow whose hash is `hash`: never [`FREE`] or [`BUSY`].
#[inline(always)]
pub const fn tag(hash: u64) -> u64 {
    hash | 1 << 63
}

/// The first set a hash may live in (before masking): its low bits.
#[inline(always)]
pub const fn first_set(hash: u64) -> u32 {
    hash as u32
}

/// The second set it may live in (before masking): bits that the first one does not use, up to 2^31 sets.
#[inline(always)]
pub const fn second_set(hash: u64) -> u32 {
    (hash >> 32) as u32 & 0x7fff_ffff
}

/// What an entry stands for.
pub mod kind {
    /// A client's flow to a VIP.
    pub const CLIENT: u8 = 0;
    /// A real server's replies to a client, under NAT.
    pub const REPLY: u8 = 1;
    /// A persistence template: a client (network) and its real server.
    pub const TEMPLATE: u8 = 2;
    /// Later fragments of one datagram.
    pub const FRAGMENT: u8 = 3;
}

/// A flow's entry value, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Val {
    /// The backend's id.
    pub backend: u32,
    /// The tick of the last packet, modulo 2^16.
    pub last_seen: u16,
    /// Twelve bits of the flow's hash, so that a reader can tell another flow's value under its own tag.
    pub check: u16,
    /// [`kind`].
    pub kind: u8,
    /// [`crate::state`] numbers: embryonic, established, closing, closed.
    pub state: u8,
}

/// The check bits of a hash.
#[inline(always)]
pub const fn check(hash: u64) -> u16 {
    (hash >> 20) as u16 & 0xfff
}

impl Val {
    /// The word: backend 32 | last seen 16 | check 12 | kind 2 | state 2.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.backend as u64) << 32
            | (self.last_seen as u64) << 16
            | ((self.check & 0xfff) as u64) << 4
            | ((self.kind & 3) as u64) << 2
            | (self.state & 3) as u64
    }

    /// The word's parts.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Val {
        Val {
            backend: (word >> 32) as u32,
            last_seen: (word >> 16) as u16,
            check: (word >> 4) as u16 & 0xfff,
            kind: (word >> 2) as u8 & 3,
            state: word as u8 & 3,
        }
    }

    /// Ticks since the last packet, `now` being modulo 2^16. Another CPU may have read the clock after us: what looks like the
    /// far past, but for the last few ticks of the 18 hours that 16 bits hold, is the near future.
    #[inline(always)]
    pub const fn idle(self, now: u16) -> u16 {
        let ticks = now.wrapping_sub(self.last_seen);
        if ticks >= 0xfff0 { 0 } else { ticks }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_value_survives_packing() {
        for (backend, last_seen, check, kind, state) in
            [(0, 0, 0, 0, 0), (u32::MAX, u16::MAX, 0xfff, 3, 3), (0x0102_0304, 0x0506, 0x789, 2, 1)]
        {
            let val = Val { backend, last_seen, check, kind, state };
            assert_eq!(Val::unpack(val.pack()), val);
        }
    }

    #[test]
    fn idle_time_crosses_the_wrap() {
        let val = Val { backend: 1, last_seen: 0xfff0, check: 0, kind: 0, state: 1 };
        assert_eq!(val.idle(0x0010), 0x20);
        assert_eq!(val.idle(0xffef), 0, "a clock read a moment earlier on another CPU");
    }

    #[test]
    fn no_hash_makes_a_reserved_tag() {
        assert!(tag(0) > BUSY && tag(1) > BUSY && FREE < BUSY);
    }
}
