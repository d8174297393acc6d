//! `cargo xtask bench path`: a client and a real server, with the director between and without.
//!
//! Every contender gets a fresh lab each round: a client that has just used a real server another way meets its own old
//! connections in TIME_WAIT (RFC 7323, PAWS) and waits. One real server, so that all contenders have the same at the far end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ::tests::clients::Load;
use ::tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Process, Service};
use ::tests::wait;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::report::{self, Series, Table};
use crate::{project, setup};

/// What `bench path` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench path
  cargo xtask bench path --rounds 5 --seconds 10
  cargo xtask bench path --quick        to see that it works; its figures mean nothing")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/path.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One short round
    #[arg(long)]
    quick: bool,
    /// Rounds in which the contenders take turns
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

/// iperf3's port.
const BULK_PORT: u16 = 5201;

/// The way from the client to the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// No director.
    Without,
    /// Direct routing.
    Direct,
    /// NAT.
    Nat,
}

impl Way {
    const ALL: [Way; 3] = [Way::Without, Way::Direct, Way::Nat];

    fn name(self) -> &'static str {
        match self {
            Way::Without => "no director",
            Way::Direct => "direct",
            Way::Nat => "nat",
        }
    }

    /// Where the client asks.
    fn address(self, lab: &Lab) -> String {
        match self {
            Way::Without => lab.host("real1").v4().to_string(),
            Way::Direct => DIRECT_VIPS[0].into(),
            Way::Nat => NAT_VIPS[0].into(),
        }
    }
}

/// What is measured, with its unit, and whether more is better.
const FIGURES: [(&str, &str); 8] = [
    ("requests", "requests/s"),
    ("p50", "latency p50, µs"),
    ("p99", "latency p99, µs"),
    ("connections", "connections/s"),
    ("connections_p50", "connection p50, µs"),
    ("connections_p99", "connection p99, µs"),
    ("to_server", "to server, Gbit/s"),
    ("to_client", "to client, Gbit/s"),
];

type Figures = BTreeMap<(Way, &'static str), Series>;

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("path")?;
    if !arguments.no_setup {
        setup::ensure(setup::Scope::Lab)?;
    }
    let director = project::build_director()?;
    let (rounds, seconds) = if arguments.quick { (1, 1) } else { (arguments.rounds, arguments.seconds) };
    let mut figures = Figures::new();
    for round in 1..=rounds {
        for way in Way::ALL {
            println!("round {round} of {rounds}: {}", way.name());
            measure(way, &director, Duration::from_secs(seconds), &mut figures)
                .with_context(|| format!("{}, round {round}", way.name()))?;
        }
    }
    print(&figures, rounds, arguments.quick);
    report::write("path", arguments.json.as_deref(), &json(&figures, arguments.quick, seconds))
}

fn measure(way: Way, director: &std::path::Path, load: Duration, figures: &mut Figures) -> Result<()> {
    let lab = super::lab::build(Lab::builder().reals(1))?;
    let _nginx = lab.nginx("real1")?;
    let _iperf = Process::start(lab.host("real1").command("iperf3").arg("--server").stdout(Stdio::null()))?;
    let daemon =
        if way == Way::Without { None } else { Some(lab.director_from(director, config(&lab, way))?) };
    if let Some(daemon) = &daemon {
        daemon.await_reachable()?;
    }
    let address = way.address(&lab);
    let url = format!("http://{address}/");
    let mut note = |figure, value| figures.entry((way, figure)).or_default().push(value);
    for (close, names) in
        [(false, ["requests", "p50", "p99"]), (true, ["connections", "connections_p50", "connections_p99"])]
    {
        let wrk = Load::new(&url, load).threads(1);
        let report = if close { wrk.close() } else { wrk }.run(lab.client())?;
        report.ensure_clean()?;
        note(names[0], report.per_second);
        for (name, percentile) in [(names[1], 50), (names[2], 99)] {
            let found = report.latency.iter().find(|(of, _)| *of == percentile);
            let (_, latency) = found.with_context(|| format!("wrk reports no {percentile}th percentile"))?;
            note(name, latency.as_secs_f64() * 1e6);
        }
    }
    note("to_server", bulk(&lab, &address, load, false)?);
    note("to_client", bulk(&lab, &address, load, true)?);
    Ok(())
}

/// HTTP and iperf3, each a service with the one real server.
fn config(lab: &Lab, way: Way) -> Config {
    let real = lab.host("real1").v4().to_string();
    let service = |name, port| {
        let service = Service::tcp(name, if way == Way::Nat { NAT_VIPS[0] } else { DIRECT_VIPS[0] }, port);
        if way == Way::Nat { service.nat() } else { service }.real(&real, 1)
    };
    Config::new().service(service("web", 80)).service(service("bulk", BULK_PORT))
}

/// iperf3's throughput in Gbit/s, as the receiver saw it.
fn bulk(lab: &Lab, address: &str, load: Duration, to_client: bool) -> Result<f64> {
    let seconds = load.as_secs().max(1).to_string();
    let mut words = vec!["iperf3", "--client", address, "--time", &seconds, "--json"];
    if to_client {
        words.push("--reverse");
    }
    // Its server takes one client at a time, and needs a moment after each.
    let text = wait::until("iperf3's server", Duration::from_secs(10), || {
        let output = lab.client().command(words[0]).args(&words[1..]).output()?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    })?;
    let report: Value = serde_json::from_str(&text).context("iperf3 printed no JSON")?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 reports no rate")?;
    ensure!(rate > 0.0, "nothing came through");
    Ok(rate / 1e9)
}

fn print(figures: &Figures, rounds: u32, quick: bool) {
    let mut table = Table::new(&["", "no director", "direct", "of it", "nat", "of it"]);
    for (key, heading) in FIGURES {
        let median = |way| figures.get(&(way, key)).map_or(f64::NAN, Series::median);
        let without = median(Way::Without);
        let cell = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        let ratio = |way| format!("{:.2}", median(way) / without);
        let (direct, nat) = (cell(median(Way::Direct)), cell(median(Way::Nat)));
        table.row(vec![heading.into(), cell(without), direct, ratio(Way::Direct), nat, ratio(Way::Nat)]);
    }
    println!("\nMedians of {rounds} rounds, 32 connections, one real server, all on one machine:\n\n{table}");
    println!(
        "The last two lines compare little: native XDP on a virtual Ethernet link ends segmentation offload towards\n\
         it, so that bulk data comes to the director in frames of the MTU and without it in pieces of 64 KB. Under\n\
         direct routing the answers do not pass the director at all."
    );
    if quick {
        println!("\nOne short round shows that it works; the figures mean nothing.");
    }
}

fn json(figures: &Figures, quick: bool, seconds: u64) -> Value {
    let of = |way: Way| -> Value {
        FIGURES
            .iter()
            .filter_map(|(key, _)| Some(((*key).to_owned(), figures.get(&(way, *key))?.json())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "bench": "path", "machine": report::machine(), "quick": quick, "seconds": seconds,
        "note": "native XDP on veth ends TSO towards it: compare packets and requests, not bulk",
        "no_director": of(Way::Without), "direct": of(Way::Direct), "nat": of(Way::Nat),
    })
}
