//! The director on other kernels: it loads, attaches natively and forwards on Debian's, under QEMU.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::lab::director_binary;
use tests::vm::kernel::{DEBIAN_6_1, DEBIAN_6_12, Kernel, Series};
use tests::vm::machine;

/// What the guest checks, in its order.
const CHECKS: [&str; 9] =
    ["load", "attached native", "direct v4", "direct v6", "nat v4", "nat v6", "probes", "restart", "detach"];

/// A machine takes seconds where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn debians_6_1_forwards() -> Result<()> {
    forwards_on(DEBIAN_6_1)
}

#[test]
fn debians_6_12_forwards() -> Result<()> {
    forwards_on(DEBIAN_6_12)
}

fn forwards_on(series: Series) -> Result<()> {
    let kernel = Kernel::obtain(series, &cache()?)?;
    let guest = Path::new(env!("CARGO_BIN_EXE_vm-guest"));
    let start = Instant::now();
    let report = machine::run(&kernel, guest, &director_binary()?, PATIENCE)?;
    println!("{}: {} checks in {:?}", report.kernel, report.held.len(), start.elapsed());
    report.ensure(series.name, &CHECKS)
}

/// `target/vm`, which keeps the kernels from one run to the next.
fn cache() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target directory")?;
    Ok(target.join("vm"))
}
