//! What the bench's harness program is told, and how it turns the number of a run into a packet: shared by that program, which
//! is in the lab's object, and the bench, which must know what it will see.

/// Bytes of the frames that the harness makes.
pub const FRAME_BYTES: usize = 96;

/// What the harness makes of each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The frame, but for what [`Setup::ends`] says.
    pub frame: [u8; FRAME_BYTES],
    /// Number of flows less one (a power of two, less one); all ones makes every packet a new flow's.
    pub mask: u32,
    /// Half the bits of `mask`.
    pub shift: u32,
    /// Odd: the order in which flows come. Another one than they were made in, since a table that is walked as it was filled
    /// looks faster than it is.
    pub multiplier: u32,
    /// The first client's address: its last four bytes, in host byte order.
    pub client: u32,
    /// The first service's VIP (of replies: the first real server's address), likewise.
    pub service: u32,
    /// How many services there are; flow j is always one of the same service.
    pub services: u32,
    /// Not 0: packets go to the client.
    pub reply: u32,
    /// The service's port, in network byte order.
    pub port_be: u32,
}

/// The ends of one packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The client's address: its last four bytes, in host byte order.
    pub client: u32,
    /// The service's address, likewise.
    pub service: u32,
    /// The client's port.
    pub port: u16,
}

/// Ports that each client address uses, as a power of two.
const PORT_BITS: u32 = 14;

impl Setup {
    /// The ends of the flow that run `i` is about.
    #[inline(always)]
    pub const fn ends(&self, i: u32) -> Ends {
        let flow = self.flow(i);
        let service = (flow.wrapping_mul(0x85eb_ca6b) as u64 * self.services as u64) >> 32;
        Ends {
            client: self.client.wrapping_add(flow >> PORT_BITS),
            service: self.service.wrapping_add(service as u32),
            port: 1024 + (flow & ((1 << PORT_BITS) - 1)) as u16,
        }
    }

    /// The flow that run `i` is about: each of them once in as many runs as there are flows.
    #[inline(always)]
    const fn flow(&self, i: u32) -> u32 {
        let mut x = i.wrapping_mul(self.multiplier) & self.mask;
        x ^= x >> self.shift;
        x.wrapping_mul(self.multiplier ^ 0x5bd1_e994) & self.mask
    }
}

const _: () = assert!(core::mem::size_of::<Setup>() == FRAME_BYTES + 8 * 4);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    fn setup(bits: u32, multiplier: u32) -> Setup {
        let mask = 1u32.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
        Setup {
            frame: [0; FRAME_BYTES],
            mask,
            shift: bits.div_ceil(2).max(1),
            multiplier,
            client: 0x0a00_0000,
            service: 0x0a80_0000,
            services: 1000,
            reply: 0,
            port_be: 0,
        }
    }

    #[test]
    fn every_flow_comes_once_a_round() {
        for bits in [0, 1, 2, 10, 16] {
            for multiplier in [0x9e37_79b1, 0x2545_f491] {
                let setup = setup(bits, multiplier);
                let round: HashSet<Ends> = (0..1 << bits).map(|i| setup.ends(i)).collect();
                assert_eq!(round.len(), 1 << bits);
                assert_eq!(setup.ends(3), setup.ends(3 + (1 << bits)));
            }
        }
        let fresh = setup(32, 0x9e37_79b1);
        let some: HashSet<Ends> = (0..100_000).map(|i| fresh.ends(i)).collect();
        assert_eq!(some.len(), 100_000);
    }

    #[test]
    fn another_multiplier_is_another_order_of_the_same_flows() {
        let orders: Vec<Vec<Ends>> = [0x9e37_79b1, 0x2545_f491]
            .map(|multiplier| (0..1 << 10).map(|i| setup(10, multiplier).ends(i)).collect())
            .into();
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[0].iter().collect::<HashSet<_>>(), orders[1].iter().collect());
    }

    #[test]
    fn services_share_the_flows_evenly() {
        let setup = setup(16, 0x9e37_79b1);
        let mut counts = std::vec![0; 1000];
        (0..1 << 16).for_each(|i| counts[(setup.ends(i).service - setup.service) as usize] += 1);
        assert!(counts.iter().all(|count| (30..110).contains(count)), "{counts:?}");
    }
}
