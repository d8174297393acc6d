//! `cargo xtask bench probes`: many health checks on one core: are they on time, and what do they cost?

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tests::lab::Lab;
use anyhow::{Context, Result, ensure};
use healthcheck::runner::Runner;
use healthcheck::schedule::Rhythm;
use healthcheck::spec::{Http, Tcp};
use healthcheck::{Check, Probe, Target};
use rustix::thread::CpuSet;
use serde_json::json;

use super::report::{self, Table};
use crate::setup;

/// What `bench probes` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench probes
  cargo xtask bench probes --probes 10000 --seconds 30")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/probes.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Probes, each of a real server of its own
    #[arg(long, default_value_t = 5_000)]
    probes: u32,
    /// Seconds that are measured, after one interval to begin with
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The most probes at a time
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

const INTERVAL: Duration = Duration::from_secs(2);
const PORT: u16 = 80;

/// What was seen of one kind of probe.
struct Seen {
    late: Vec<Duration>,
    failed: usize,
    cpu: f64,
    memory: f64,
}

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("probes")?;
    if !arguments.no_setup {
        setup::ensure(setup::Scope::Lab)?;
    }
    let lab = super::lab::build(Lab::builder().reals(1))?;
    let _nginx = lab.nginx("real1")?;
    let mut table = Table::new(&[
        "",
        "probes/s",
        "late p50",
        "late p99",
        "late max",
        "failed",
        "CPU of one core",
        "memory",
    ]);
    let mut report = Vec::new();
    for (name, check) in kinds() {
        // nginx has the other core; where there is only one, it shares.
        let seen = lab.host("real1").within(|| measure(&check, arguments))?;
        let at = |share: f64| seen.late[((seen.late.len() - 1) as f64 * share) as usize];
        let rate = seen.late.len() as f64 / arguments.seconds as f64;
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        table.row(vec![
            name.to_owned(),
            format!("{rate:.0}"),
            format!("{:.2} ms", p50.as_secs_f64() * 1e3),
            format!("{:.2} ms", p99.as_secs_f64() * 1e3),
            format!("{:.2} ms", max.as_secs_f64() * 1e3),
            seen.failed.to_string(),
            format!("{:.0} %", seen.cpu * 100.0),
            format!("{:.1} MB", seen.memory / 1e6),
        ]);
        report.push(json!({
            "check": name, "probes": arguments.probes, "per_second": rate, "failed": seen.failed,
            "late_seconds": { "p50": p50.as_secs_f64(), "p99": p99.as_secs_f64(), "max": max.as_secs_f64() },
            "cpu": seen.cpu, "memory_bytes": seen.memory,
        }));
    }
    println!(
        "\n{} probes every {} s on one core, {} s:\n",
        arguments.probes,
        INTERVAL.as_secs(),
        arguments.seconds
    );
    print!("{table}");
    report::write("probes", arguments.json.as_deref(), &json!({ "bench": "probes", "lines": report }))
}

fn kinds() -> [(&'static str, Check); 2] {
    let http = Http {
        tls: None,
        http2: false,
        method: "GET".into(),
        path: "/health".into(),
        host: None,
        headers: Vec::new(),
        statuses: vec![(200, 299)],
        receive: None,
        redirects: 0,
        weight: None,
    };
    [("tcp", Check::Tcp(Tcp::default())), ("http", Check::Http(Box::new(http)))]
}

/// On the current thread's network namespace, pinned to the first core.
fn measure(check: &Check, arguments: &Arguments) -> Result<Seen> {
    let mut first = CpuSet::new();
    first.set(0);
    rustix::thread::sched_setaffinity(None, &first).context("cannot stay on one core")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watches: Vec<(Arc<Probe>, Rhythm)> =
        (0..arguments.probes).map(|number| watch(check, number)).collect();
    runtime.block_on(async {
        let before = resident()?;
        let mut runner = Runner::new(arguments.in_flight);
        runner.follow(&watches, arguments.in_flight);
        let begun = Instant::now();
        let (warm, end) = (begun + INTERVAL, begun + INTERVAL + Duration::from_secs(arguments.seconds));
        let (mut late, mut failed, mut cpu_before) = (Vec::new(), 0, None);
        while Instant::now() < end {
            let ran = runner.next().await;
            runner.again(&ran.probe, false);
            if Instant::now() < warm {
                continue;
            }
            cpu_before.get_or_insert_with(cpu);
            late.push(ran.late);
            failed += usize::from(ran.outcome.result.is_err());
        }
        let used = cpu() - cpu_before.unwrap_or_default();
        ensure!(!late.is_empty(), "no probe ran");
        late.sort_unstable();
        let memory = resident()? - before;
        Ok(Seen { late, failed, cpu: used.as_secs_f64() / arguments.seconds as f64, memory })
    })
}

/// Real servers are addresses of the loopback network: one nginx answers for all.
fn watch(check: &Check, number: u32) -> (Arc<Probe>, Rhythm) {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
    let real = SocketAddr::new(IpAddr::V4(address), PORT);
    let target = Target { real, virtual_: real, mark: 0, source: Some(Ipv4Addr::LOCALHOST.into()) };
    let probe = Probe { target, check: check.clone(), timeout: Duration::from_secs(1) };
    (Arc::new(probe), Rhythm { interval: INTERVAL, fast: INTERVAL })
}

/// CPU time of this thread, and so of all probes.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident bytes of this process (proc(5)).
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
