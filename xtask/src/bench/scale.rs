//! `cargo xtask bench scale`: a large configuration: how long until it is in force, and one change to it, what it takes, and how long its
//! metrics take.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use ::tests::lab::{Config, DIRECT_VIPS, Daemon, Lab};
use anyhow::{Context, Result, ensure};
use director::dataplane::{Dataplane, Options};
use director::pool::{self, Health, NextHop, NextHops, Overrides};
use director::reconcile;
use serde_json::{Value, json};

use super::packet::Pins;
use super::report::{self, Aim, Series};
use crate::{project, setup};

/// What `bench scale` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench scale
  cargo xtask bench scale --services 4000")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/scale.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Services, each of ten real servers
    #[arg(long, default_value_t = 1_000)]
    services: u16,
    /// Starts and changes; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

/// Real servers of each service.
const REALS: u8 = 10;
/// The services' first port.
const FIRST_PORT: u16 = 10_000;
/// Where the daemon serves its metrics.
const METRICS: &str = "127.0.0.1:9694";
/// The aims, in seconds, for 1,000 services.
const START: f64 = 2.0;
const RELOAD: f64 = 0.1;
const SCRAPE: f64 = 0.2;

/// Seconds, and bytes.
#[derive(Default)]
struct Figures {
    /// In this process: text to maps.
    start: Series,
    /// In this process: text with one change to maps.
    change: Series,
    /// The daemon: from its start until it answers.
    daemon_start: Series,
    /// `director reload` by the clock on the wall.
    daemon_reload: Series,
    /// A scrape of the daemon's metrics, and the bytes that it got.
    scrape: Series,
    scraped: Series,
    /// The daemon's resident memory, whole and without what is mapped from files and the kernel.
    resident: Series,
    anonymous: Series,
    /// The flow table's bytes for each flow that it is made for, and for each place.
    per_flow: f64,
    per_place: f64,
}

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("scale")?;
    if !arguments.no_setup {
        setup::ensure(setup::Scope::Lab)?;
    }
    let director = project::build_director()?;
    let mut figures = Figures::default();
    for round in 1..=arguments.rounds {
        println!("round {round} of {}", arguments.rounds);
        in_process(arguments.services, &mut figures)?;
        with_daemon(arguments.services, &director, &mut figures)?;
    }
    print(arguments, &figures);
    report::write("scale", arguments.json.as_deref(), &json(arguments, &figures))
}

/// The way of a configuration from text to maps, without a daemon.
fn in_process(services: u16, figures: &mut Figures) -> Result<()> {
    let (before, after) = (text(services, 1), text(services, 2));
    let pins = Pins::new();
    let start = Instant::now();
    let config = parse(&before)?;
    let mut dataplane = Dataplane::open(&Options { pins: pins.path().into(), limits: config.limits })?;
    apply(&mut dataplane, &config)?;
    figures.start.push(start.elapsed().as_secs_f64());
    let change = Instant::now();
    let changes = apply(&mut dataplane, &parse(&after)?)?;
    figures.change.push(change.elapsed().as_secs_f64());
    ensure!((1..20).contains(&changes), "one change became {changes} operations");
    let flows = dataplane.flows();
    figures.per_flow = flows.bytes() as f64 / f64::from(dataplane.units().limits.flows);
    figures.per_place = flows.bytes() as f64 / flows.places() as f64;
    Ok(())
}

fn parse(text: &str) -> Result<director::model::Config> {
    let loaded = director::config::parse(text).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(loaded.config)
}

/// Brings a configuration into force; says how many operations that took.
fn apply(dataplane: &mut Dataplane, config: &director::model::Config) -> Result<usize> {
    let hop = NextHop { mac: [2, 0, 0, 0, 0, 9], source_mac: [2, 0, 0, 0, 0, 1], ifindex: 1 };
    let reals = config.services.iter().flat_map(|service| &service.reals);
    let hops: NextHops = reals.map(|real| (real.address, hop)).collect();
    let desired = pool::desired(config, &Overrides::default(), Health::unknown(Instant::now()), &hops);
    let plan = reconcile::diff(&dataplane.observe()?, &desired, &dataplane.units());
    ensure!(plan.problems.is_empty(), "{:?}", plan.problems);
    dataplane.apply(&plan.ops)?;
    Ok(plan.ops.len())
}

/// The same by a daemon, with real next hops to find.
fn with_daemon(services: u16, director: &std::path::Path, figures: &mut Figures) -> Result<()> {
    let lab = super::lab::build(Lab::builder().reals(REALS))?;
    let start = Instant::now();
    let daemon = lab.director_from(director, text(services, 1))?;
    figures.daemon_start.push(start.elapsed().as_secs_f64());
    daemon.await_reachable()?;
    for weight in [2, 3, 2] {
        daemon.write_config(text(services, weight))?;
        let reload = Instant::now();
        let said = daemon.cli_ok(&["reload"])?;
        figures.daemon_reload.push(reload.elapsed().as_secs_f64());
        ensure!(said.contains("Reloaded"), "the change was none: {said}");
    }
    for _ in 0..3 {
        let url = format!("http://{METRICS}/metrics");
        let format = "%{time_total} %{size_download}";
        let said = daemon.host().run(&["curl", "-sSf", "-o", "/dev/null", "-w", format, &url])?;
        let (seconds, bytes) = said.trim().split_once(' ').context("curl says how long and how much")?;
        figures.scrape.push(seconds.parse()?);
        figures.scraped.push(bytes.parse()?);
    }
    let (resident, anonymous) = memory(&daemon)?;
    figures.resident.push(resident);
    figures.anonymous.push(anonymous);
    Ok(())
}

/// Resident bytes of the daemon, and those of them that are its own (proc(5), `VmRSS` and `RssAnon`).
fn memory(daemon: &Daemon) -> Result<(f64, f64)> {
    let pid = daemon.pid().context("the daemon has ended")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        let kilobytes: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0)
    };
    Ok((field("VmRSS")?, field("RssAnon")?))
}

/// A configuration of so many services, each of ten real servers; one of those, in the middle, has this weight, all others 1.
fn text(services: u16, weight: u16) -> String {
    let mut yaml = Config::new().line(&format!("http: {{ listen: \"{METRICS}\" }}")).yaml();
    let changed = services / 2;
    for i in 0..services {
        let port = FIRST_PORT + i;
        write!(
            yaml,
            "  - name: s{i}\n    address: {}\n    port: {port}\n    forward: direct\n    scheduler: mh\n    reals:\n",
            DIRECT_VIPS[0]
        )
        .expect("a String takes whatever is written");
        for real in 0..REALS {
            let weight = if i == changed && real == 0 { weight } else { 1 };
            writeln!(yaml, "      - {{ address: 192.0.2.{}, weight: {weight} }}", 21 + real)
                .expect("a String takes whatever is written");
        }
    }
    yaml
}

fn aims(figures: &Figures) -> Vec<Aim> {
    let aim =
        |what: &str, at_most, series: &Series| Aim { what: what.into(), at_most, reached: series.median() };
    vec![
        aim("start in this process: text, tables, first apply, s", START, &figures.start),
        aim("start of the daemon until it answers, s", START, &figures.daemon_start),
        aim("one change in this process: text to maps, s", RELOAD, &figures.change),
        aim("one change by `director reload`, its own start included, s", RELOAD, &figures.daemon_reload),
        aim("a scrape of its metrics, s", SCRAPE, &figures.scrape),
    ]
}

fn print(arguments: &Arguments, figures: &Figures) {
    println!("\n{} services of {REALS} real servers, medians:\n", arguments.services);
    aims(figures).iter().for_each(|aim| println!("{}", aim.line()));
    let megabytes = |series: &Series| series.median() / 1e6;
    println!(
        "\nmemory of the flow table: {:.0} bytes for each flow that it is made for, {:.0} for each place\n\
         memory of the daemon: {:.0} MB resident, of which {:.0} MB are its own (the rest is maps and program)\n\
         metrics: {:.1} MB",
        figures.per_flow,
        figures.per_place,
        megabytes(&figures.resident),
        megabytes(&figures.anonymous),
        megabytes(&figures.scraped)
    );
}

fn json(arguments: &Arguments, figures: &Figures) -> Value {
    json!({
        "bench": "scale", "machine": report::machine(), "services": arguments.services, "reals": REALS,
        "seconds": {
            "start": figures.start.json(), "change": figures.change.json(),
            "daemon_start": figures.daemon_start.json(), "daemon_reload": figures.daemon_reload.json(),
            "scrape": figures.scrape.json(),
        },
        "bytes": {
            "per_flow": figures.per_flow, "per_place": figures.per_place,
            "resident": figures.resident.json(), "anonymous": figures.anonymous.json(), "metrics": figures.scraped.json(),
        },
        "aims": aims(figures).iter().map(Aim::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_sound_and_one_weight_changes() {
        let (before, after) = (parse(&text(20, 1)).unwrap(), parse(&text(20, 2)).unwrap());
        assert_eq!(before.services.len(), 20);
        let differ = before.services.iter().zip(&after.services).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 1);
    }
}
