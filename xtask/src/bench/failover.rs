//! `cargo xtask bench failover`: what clients lose when VIPs move, in every way in which that happens.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ::tests::clients::Probes;
use ::tests::lab::{Cluster, DIRECT_VIPS, Way};
use ::tests::pair::{DEFAULT, Pair};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::report::{self, Aim, Series, Table};
use crate::setup;

/// What `bench failover` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench failover
  cargo xtask bench failover --rounds 3 --heartbeat 10ms")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/failover.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each thing happens
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Only with heartbeats of this interval: 1s, 100ms, 10ms
    #[arg(long, value_name = "INTERVAL")]
    heartbeat: Option<String>,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

/// Intervals, and dead times beside them.
const HEARTBEATS: [(&str, &str, Duration); 3] = [
    ("1s", "3s", Duration::from_secs(3)),
    ("100ms", "300ms", Duration::from_millis(300)),
    ("10ms", "25ms", Duration::from_millis(25)),
];
/// How much later than the dead time the new owner may serve, by the aim.
const AFTER_DEATH: Duration = Duration::from_millis(10);
/// How long before and after it is watched.
const AROUND: Duration = Duration::from_millis(300);

/// What happens. Each is undone afterwards; the VIPs stay where they went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Happens {
    CablesCut,
    SwitchDies,
    MachineDies,
    DaemonKilled,
    DaemonTerminated,
    HandedOver,
    DaemonFrozen,
}

impl Happens {
    const ALL: [Happens; 7] = [
        Happens::CablesCut,
        Happens::SwitchDies,
        Happens::MachineDies,
        Happens::DaemonKilled,
        Happens::DaemonTerminated,
        Happens::HandedOver,
        Happens::DaemonFrozen,
    ];

    fn name(self) -> &'static str {
        match self {
            Happens::CablesCut => "all cables of the active director are pulled",
            Happens::SwitchDies => "the active director is cut off, its links stay up",
            Happens::MachineDies => "the active director's machine dies",
            Happens::DaemonKilled => "its daemon is killed (SIGKILL)",
            Happens::DaemonTerminated => "its daemon is ended (SIGTERM)",
            Happens::HandedOver => "director handover",
            Happens::DaemonFrozen => "its daemon is frozen, and wakes again",
        }
    }

    /// Whether the VIPs can only be had after the dead time.
    fn is_death(self) -> bool {
        matches!(self, Happens::SwitchDies | Happens::MachineDies)
    }
}

/// What was lost, round by round.
#[derive(Default)]
struct Lost {
    gap: Series,
    probes: Series,
    /// The prober's own worst stall: shorter gaps than that may be its own.
    stall: Series,
}

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("failover")?;
    if !arguments.no_setup {
        setup::ensure(setup::Scope::Lab)?;
    }
    let wanted = |interval: &str| arguments.heartbeat.as_deref().is_none_or(|only| only == interval);
    let mut table = Table::new(&[
        "",
        "heartbeat",
        "gap, median",
        "gap, max",
        "probes lost, median",
        "max",
        "own stall, max",
    ]);
    let (mut lines, mut aims) = (Vec::new(), Vec::new());
    for (interval, dead, dead_after) in HEARTBEATS.into_iter().filter(|(interval, ..)| wanted(interval)) {
        println!("Heartbeats every {interval}, dead after {dead}:");
        let cluster = |cluster: Cluster| {
            // As short as it may be: a round waits for it several times.
            cluster.interval(interval).dead_after(dead).line(&format!("initial_wait: {dead}"))
        };
        let mut pair = Pair::start(2, cluster, |config| config)?;
        let mut lost: Vec<Lost> = Happens::ALL.iter().map(|_| Lost::default()).collect();
        for round in 1..=arguments.rounds {
            for (happens, lost) in Happens::ALL.into_iter().zip(&mut lost) {
                let probes = once(&mut pair, happens, dead_after)
                    .with_context(|| format!("round {round}, {}", happens.name()))?;
                lost.gap.push(probes.longest_gap().as_secs_f64() * 1e3);
                lost.probes.push(probes.lost() as f64);
                lost.stall.push(probes.longest_stall().as_secs_f64() * 1e3);
            }
            println!("  round {round} of {}", arguments.rounds);
        }
        for (happens, lost) in Happens::ALL.into_iter().zip(&lost) {
            table.row(row(happens, interval, lost));
            lines.push(line(happens, interval, lost));
            aims.extend(aim(happens, interval, dead_after, lost));
        }
    }
    println!("\nProbes of a VIP every millisecond, by UDP; {} rounds:\n", arguments.rounds);
    print!("{table}");
    println!("\nAims:");
    aims.iter().for_each(|aim| println!("  {}", aim.line()));
    let aims: Vec<Value> = aims.iter().map(Aim::json).collect();
    let report = json!({ "bench": "failover", "machine": report::machine(), "lines": lines, "aims": aims });
    report::write("failover", arguments.json.as_deref(), &report)
}

/// Lets it happen to the director that is active, and sees what a client loses.
fn once(pair: &mut Pair, happens: Happens, dead_after: Duration) -> Result<Probes> {
    let from = pair.owner(DEFAULT)?;
    let to = 3 - from;
    // As after a while of normal traffic: the client knows where the VIP is.
    pair.lab().client().run(&["ping", "-c1", "-W1", DIRECT_VIPS[0]])?;
    let host = Pair::host(from);
    let prober = pair.probe(DIRECT_VIPS[0])?;
    std::thread::sleep(AROUND);
    let mut fault = None;
    match happens {
        Happens::CablesCut => fault = Some(pair.lab().cut_cable(host.as_str())?),
        Happens::SwitchDies => fault = Some(pair.lab().cut_silent(host.as_str(), Way::Both)?),
        Happens::MachineDies => fault = Some(pair.lab().freeze_host(&host)?),
        Happens::DaemonKilled => pair.director(from).kill9(),
        Happens::DaemonTerminated => {
            ensure!(pair.director(from).terminate()?.success(), "it did not end well: {}", pair.story());
        }
        Happens::HandedOver => drop(pair.cli(from, &["handover"])?),
        Happens::DaemonFrozen => pair.director(from).freeze()?,
    }
    await_active(pair, to, dead_after)?;
    if happens == Happens::DaemonFrozen {
        std::thread::sleep(AROUND);
        pair.director(from).thaw()?;
        pair.await_steady()?;
    }
    std::thread::sleep(AROUND);
    let probes = prober.stop()?;
    drop(fault);
    if matches!(happens, Happens::DaemonKilled | Happens::DaemonTerminated) {
        pair.director(from).run()?;
    }
    pair.await_steady()?;
    Ok(probes)
}

/// Waits without asking the one that may be dead, or is being measured.
fn await_active(pair: &Pair, number: u8, dead_after: Duration) -> Result<()> {
    let patience = dead_after * 4 + Duration::from_secs(20);
    let begun = Instant::now();
    while pair.role(number, DEFAULT).as_deref() != Some("active") {
        ensure!(begun.elapsed() < patience, "lb{number} did not take over:\n{}", pair.story());
        // Asking costs CPU, of which the directors shall have enough.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn row(happens: Happens, interval: &str, lost: &Lost) -> Vec<String> {
    let ms = |value: f64| format!("{value:.1} ms");
    vec![
        happens.name().to_owned(),
        interval.to_owned(),
        ms(lost.gap.median()),
        ms(lost.gap.max()),
        format!("{:.0}", lost.probes.median()),
        format!("{:.0}", lost.probes.max()),
        ms(lost.stall.max()),
    ]
}

fn line(happens: Happens, interval: &str, lost: &Lost) -> Value {
    json!({
        "what": happens.name(), "heartbeat": interval,
        "gap_ms": lost.gap.json(), "probes_lost": lost.probes.json(), "stall_ms": lost.stall.json(),
    })
}

fn aim(happens: Happens, interval: &str, dead_after: Duration, lost: &Lost) -> Option<Aim> {
    let of = |what: &str, at_most: f64, reached: f64| {
        Some(Aim { what: format!("{what}: {}, heartbeats of {interval}", happens.name()), at_most, reached })
    };
    let death = (dead_after + AFTER_DEATH).as_secs_f64() * 1e3;
    match happens {
        _ if happens.is_death() => of("gap in ms, max", death, lost.gap.max()),
        Happens::CablesCut => of("gap in ms, max", death, lost.gap.max()),
        _ => of("probes lost, max", 0.0, lost.probes.max()),
    }
}
