//! `cargo xtask bench heartbeat`: is the heartbeat on time, whatever else the director has to do?

mod gaps;
mod loads;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ::tests::lab::Lab;
use ::tests::pair::{DEFAULT, Pair, Peace};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::report::{self, Aim, Table};
use crate::{project, setup};
use gaps::Gaps;
use loads::Load;

/// What `bench heartbeat` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench heartbeat
  cargo xtask bench heartbeat --seconds 60")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/heartbeat.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seconds that each load lasts
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

const INTERVAL: &str = "10ms";
const DEAD_AFTER: &str = "35ms";
/// The first director on the network that is for heartbeats alone.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 11);
/// The aim, in milliseconds: how late the latest may be, under whatever load.
const LATEST: f64 = 5.0;

/// How it went under a load.
struct Seen {
    load: Load,
    done: String,
    /// By the director's own measure, since it started, in microseconds.
    late: Value,
    /// As they came to the other one, the shortest first.
    gaps: Vec<Duration>,
    /// Why a role changed, or who was taken for dead.
    broken: Option<String>,
}

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("heartbeat")?;
    if !arguments.no_setup {
        setup::ensure(setup::Scope::Lab)?;
    }
    project::build_director()?;
    let lab = super::lab::build(Lab::builder().directors(2).reals(loads::REALS))?;
    let cluster = |cluster: ::tests::lab::Cluster| cluster.interval(INTERVAL).dead_after(DEAD_AFTER);
    let mut pair = Pair::within(lab, cluster, |config| config)?.started()?;
    let lasts = Duration::from_secs(arguments.seconds);
    let mut all = Vec::new();
    for load in Load::ALL {
        println!("{}", load.name());
        all.push(under(load, &mut pair, lasts).with_context(|| pair.story())?);
    }
    print(arguments, &all);
    report::write("heartbeat", arguments.json.as_deref(), &json(arguments, &all))?;
    let broken: Vec<String> = all.iter().filter_map(|seen| seen.broken.clone()).collect();
    if !broken.is_empty() {
        bail!("not at peace: {}", broken.join("; "));
    }
    Ok(())
}

fn under(load: Load, pair: &mut Pair, lasts: Duration) -> Result<Seen> {
    let mut props = load.prepare(pair)?;
    let peace = Peace::begin(pair)?;
    let gaps = Gaps::watch(pair.lab().host("director2"), FIRST)?;
    let done = load.run(pair, &mut props, lasts);
    let gaps = gaps.stop()?;
    let done = done?;
    let broken = peace.ensure_kept(pair).err().map(|error| format!("{}: {error:#}", load.name()));
    let status = pair.status(1).context("the first director does not answer")?;
    let late = status["pair"]["cluster"]["late"].clone();
    Load::relieve(pair, &mut props)?;
    if broken.is_some() {
        pair.await_steady()?;
        pair.owner(DEFAULT)?;
    }
    Ok(Seen { load, done, late, gaps, broken })
}

impl Seen {
    fn late(&self, what: &str) -> f64 {
        self.late[what].as_f64().unwrap_or(f64::NAN) / 1e3
    }

    fn gap(&self, share: f64) -> f64 {
        let last = self.gaps.len().saturating_sub(1);
        self.gaps.get((last as f64 * share) as usize).map_or(f64::NAN, |gap| gap.as_secs_f64() * 1e3)
    }
}

fn aims(all: &[Seen]) -> Vec<Aim> {
    let latest = all.iter().map(|seen| Aim {
        what: format!("99.9 % of the messages, at most so late, ms: {}", seen.load.name()),
        at_most: LATEST,
        reached: seen.late("p999"),
    });
    let broken = all.iter().filter(|seen| seen.broken.is_some()).count();
    let calm = Aim { what: "loads under which a role changed".into(), at_most: 0.0, reached: broken as f64 };
    latest.chain([calm]).collect()
}

fn print(arguments: &Arguments, all: &[Seen]) {
    let mut table = Table::new(&[
        "milliseconds",
        "messages",
        "late p50",
        "p99",
        "p99.9",
        "max",
        "gap p50",
        "p99.9",
        "max",
        "role changes",
    ]);
    for seen in all {
        let figures = [seen.late("p50"), seen.late("p99"), seen.late("p999"), seen.late("max")];
        let gaps = [seen.gap(0.5), seen.gap(0.999), seen.gap(1.0)];
        let done = if seen.done.is_empty() { String::new() } else { format!(" ({})", seen.done) };
        let mut row = vec![format!("{}{done}", seen.load.name()), seen.late["count"].to_string()];
        row.extend(figures.iter().chain(&gaps).map(|figure| format!("{figure:.2}")));
        row.push(if seen.broken.is_some() { "SOME" } else { "none" }.to_owned());
        table.row(row);
    }
    println!(
        "\nheartbeats every {INTERVAL}, dead after {DEAD_AFTER}, {} s a load; lateness since the director's start, gaps as they come to the other one:\n",
        arguments.seconds
    );
    print!("{table}");
    println!();
    aims(all).iter().for_each(|aim| println!("{}", aim.line()));
}

fn json(arguments: &Arguments, all: &[Seen]) -> Value {
    let line = |seen: &Seen| {
        json!({
            "load": seen.load.name(), "done": seen.done, "late_microseconds": seen.late, "broken": seen.broken,
            "gap_milliseconds": { "count": seen.gaps.len(), "p50": seen.gap(0.5), "p99": seen.gap(0.99), "p999": seen.gap(0.999), "max": seen.gap(1.0) },
        })
    };
    json!({
        "bench": "heartbeat", "machine": report::machine(), "interval": INTERVAL, "dead_after": DEAD_AFTER,
        "seconds": arguments.seconds, "lines": all.iter().map(line).collect::<Vec<_>>(),
        "aims": aims(all).iter().map(Aim::json).collect::<Vec<_>>(),
    })
}
