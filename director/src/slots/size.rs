//! How many slots each service's table may have, so that all fit.

use director_ebpf::abi::SLOTS_PER_LINE;

use super::wrr;
use crate::model::Scheduler;

/// Sizes of Maglev tables: those of IPVS (`IP_VS_MH_TAB_INDEX` 8 to 17), with the paper's 65,537 for its
/// 65,521.
const PRIMES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_537, 131_071];

/// `mh`: the paper's size; shares within 1 % of each other up to 655 real servers, above that the next prime.
const MAGLEV: u32 = 65_537;
/// The paper asks for so many slots a real server.
const SLOTS_PER_REAL: u32 = 100;
/// `sh`: finer than IPVS's 256 buckets, but clients are fewer than flows.
const SOURCE_HASH: u32 = 4093;
/// `dh`: a service has one VIP, so only one slot of the table is ever asked.
const DEST_HASH: u32 = 251;
/// `wrr`: room that even short periods have, for the operator's other weights.
const WRR_LEAST: u32 = 1024;
/// `wrr`: longer periods are scaled down; 65,535 to 1 just fits.
const WRR_MOST: u32 = 65_536;

/// What the size of a service's table depends on. It is what the configuration says, and never the weights or
/// the health of the moment: a Maglev table of another size is another table altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    scheduler: Scheduler,
    reals: u32,
    period: u64,
}

impl Demand {
    /// The demand of a service whose real servers have these weights; those of weight 0 count, since they may
    /// come back.
    pub fn new(scheduler: Scheduler, weights: impl Iterator<Item = u16> + Clone) -> Demand {
        let reals = u32::try_from(weights.clone().count()).unwrap_or(u32::MAX);
        Demand { scheduler, reals, period: wrr::period(weights) }
    }

    /// The size of the table where larger ones than `cap` should not be: `cap` gives way to one slot a real
    /// server.
    fn size(&self, cap: u32) -> u32 {
        let plenty = self.reals.saturating_mul(SLOTS_PER_REAL);
        let prime = |wanted: u32| prime_at_least(wanted.min(cap).max(self.reals));
        match self.scheduler {
            Scheduler::Rr => self.reals.max(1),
            Scheduler::Wrr => {
                let wanted = self.period.clamp(WRR_LEAST.into(), WRR_MOST.into()) as u32;
                wanted.min(cap).max(self.reals)
            }
            Scheduler::Mh => prime(plenty.max(MAGLEV)),
            Scheduler::Sh => prime(plenty.max(SOURCE_HASH)),
            Scheduler::Dh => prime(DEST_HASH),
            Scheduler::Fo => 1,
        }
    }
}

/// The sizes of all services' tables, in their order, where the array has `slots` slots: for Maglev the exact
/// size, a prime; for the others the most they may take.
///
/// All tables together, each in whole lines, take at most half of the array: a new table is written beside
/// the old one before it takes over, and so even a change of all of them finds room. Where they would take
/// more, the largest are cut first, to the same size all of them, down to 251 slots (or one a real server).
/// If even that is too much, that is what comes out; whatever the default limits admit (4,096 services,
/// 65,536 real servers, 4,194,304 slots) stays clear of it.
pub fn table_sizes(demands: &[Demand], slots: u32) -> Vec<u32> {
    let sizes = |cap: u32| demands.iter().map(move |demand| demand.size(cap));
    let fits = |cap: &u32| sizes(*cap).map(lines).sum::<u64>() <= u64::from(slots / SLOTS_PER_LINE / 2);
    let cap = PRIMES.iter().rev().copied().find(fits).unwrap_or(PRIMES[0]);
    sizes(cap).collect()
}

/// Whole lines that a table of `size` slots takes.
fn lines(size: u32) -> u64 {
    size.div_ceil(SLOTS_PER_LINE).into()
}

fn prime_at_least(size: u32) -> u32 {
    PRIMES.into_iter().find(|&prime| prime >= size).unwrap_or(PRIMES[PRIMES.len() - 1])
}
