//! Clusters of directors in a simulator: many machines with clocks of their own, a network that loses, delays, doubles and repeats
//! messages, machines that pause and die, and operators. Everything comes from one number, so that what failed can be repeated:
//!
//!     CLUSTER_SEED=123 cargo test -p director --test cluster trials -- --nocapture
//!
//! `CLUSTER_SEEDS=100000` makes so many trials, from `CLUSTER_FIRST` on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

mod check;
mod explore;
mod host;
mod plan;
mod random;
mod trial;
mod world;

/// Trials that are made if nothing else is said.
const TRIALS: u64 = 300;
/// Failures that are shown.
const MOST_SHOWN: usize = 3;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn trials() {
    let one = number("CLUSTER_SEED");
    let first = one.or_else(|| number("CLUSTER_FIRST")).unwrap_or(0);
    let count = if one.is_some() { 1 } else { number("CLUSTER_SEEDS").unwrap_or(TRIALS) };
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    if let Err(what) = trial::run(seed, one.is_some()) {
                        failed.lock().unwrap().push((seed, what));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, what) in failed.iter().take(MOST_SHOWN) {
        let story =
            if one.is_some() { what.clone() } else { trial::run(*seed, true).expect_err("it failed before") };
        println!(
            "{story}\nrepeat it: CLUSTER_SEED={seed} cargo test -p director --test cluster trials -- --nocapture\n"
        );
    }
    assert!(failed.is_empty(), "{} of {count} trials failed:\n{}", failed.len(), summary(&failed));
}

/// The first lines of what failed.
fn summary(failed: &[(u64, String)]) -> String {
    failed.iter().take(20).filter_map(|(_, what)| what.lines().next()).collect::<Vec<_>>().join("\n")
}
