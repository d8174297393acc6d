//! `cargo xtask bench`: how fast it is, beside what it could be.

mod packet;
mod report;

use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::project;

/// What `bench` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench packet")]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per packet, beside programs that do less
    Packet(packet::Arguments),
}

/// Runs a bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        // What is measured in this process must be what users run.
        let words = std::env::args_os().skip(1);
        let mut cargo = project::cargo();
        cargo.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(words);
        return Err(cargo.exec().into());
    }
    match &arguments.bench {
        Bench::Packet(arguments) => packet::run(arguments),
    }
}

/// Fails, with what to do, unless this is root.
fn need_root(bench: &str) -> Result<()> {
    ensure!(
        project::is_root(),
        "loading BPF programs needs root. Run\n  {}",
        project::as_root(&format!("bench {bench}"))
    );
    Ok(())
}
