//! Operations on maps that failed, counted. What is mapped into memory cannot fail, so those maps are not among them.

use std::sync::atomic::{AtomicU64, Ordering};

use director_ebpf::abi::maps;

/// Reading an entry.
pub(super) const READ: &str = "read";
/// Adding or changing one.
pub(super) const WRITE: &str = "write";
/// Removing one.
pub(super) const DELETE: &str = "delete";

/// What is done with maps by system calls.
const DONE: [(&str, &str); 19] = [
    (maps::ADDR_FILTER, READ),
    (maps::ADDR_FILTER, WRITE),
    (maps::BACKEND_STATS, READ),
    (maps::BACKEND_STATS, WRITE),
    (maps::DEVICES, READ),
    (maps::DEVICES, WRITE),
    (maps::DEVICES, DELETE),
    (maps::GUARD, READ),
    (maps::GUARD, WRITE),
    (maps::GUARD, DELETE),
    (maps::REASONS, READ),
    (maps::SERVICE_KEYS, READ),
    (maps::SERVICE_KEYS, WRITE),
    (maps::SERVICE_KEYS, DELETE),
    (maps::SERVICE_STATS, READ),
    (maps::SERVICE_STATS, WRITE),
    (maps::VMACS, READ),
    (maps::VMACS, WRITE),
    (maps::VMACS, DELETE),
];

/// How often each operation on each map failed in this process.
#[derive(Debug, Default)]
pub struct MapErrors([AtomicU64; DONE.len()]);

impl MapErrors {
    /// Counts a result that is an error, and hands it on.
    pub(super) fn note<T, E>(
        &self,
        map: &str,
        operation: &'static str,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if result.is_err() {
            let place = DONE.iter().position(|done| *done == (map, operation));
            debug_assert!(place.is_some(), "{operation} of {map} is not in the list");
            if let Some(place) = place {
                self.0[place].fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    /// Map, operation, how often it failed. Those that never did are among them.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = DONE.iter().zip(&self.0);
        counts.map(|((map, operation), count)| (*map, *operation, count.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_is_counted_each_by_itself() {
        let errors = MapErrors::default();
        assert_eq!(errors.note(maps::GUARD, WRITE, Ok::<_, ()>(7)), Ok(7));
        for _ in 0..2 {
            assert_eq!(errors.note(maps::DEVICES, DELETE, Err::<(), _>("no")), Err("no"));
        }
        let counts = errors.counts();
        assert!(counts.contains(&(maps::GUARD, WRITE, 0)) && counts.contains(&(maps::DEVICES, DELETE, 2)));
        assert_eq!(counts.iter().map(|(_, _, count)| count).sum::<u64>(), 2);
    }
}
