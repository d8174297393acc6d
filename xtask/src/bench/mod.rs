//! `cargo xtask bench`: how fast it is, beside what it could be.

mod failover;
mod lab;
mod packet;
mod path;
mod probes;
mod report;
mod scale;

use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::project;

/// What `bench` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench packet
  cargo xtask bench path
  cargo xtask bench scale
  cargo xtask bench probes
  cargo xtask bench failover")]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per packet, beside programs that do less
    Packet(packet::Arguments),
    /// Requests, connections and bulk data through the director, beside none
    Path(path::Arguments),
    /// A large configuration: its start, one change to it, its memory
    Scale(scale::Arguments),
    /// Many health checks on one core: lateness, CPU, memory
    Probes(probes::Arguments),
    /// What clients lose when VIPs move from one director to another
    Failover(failover::Arguments),
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
        Bench::Path(arguments) => path::run(arguments),
        Bench::Scale(arguments) => scale::run(arguments),
        Bench::Probes(arguments) => probes::run(arguments),
        Bench::Failover(arguments) => failover::run(arguments),
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
