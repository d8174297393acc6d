//! `cargo xtask bench packet`: nanoseconds per packet, under BPF_PROG_TEST_RUN.
//!
//! Every program runs behind the same harness, which makes each packet anew (the lab object's `harness` module). What is compared
//! takes turns, round by round, on one CPU: a machine that is busy elsewhere then slows all of them alike. Ratios are of
//! whole packets, harness included; the net times beside them are less what the harness takes with a program that only passes.

mod harness;
mod kind;
mod outcome;
mod proof;
mod scene;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use director_ebpf::harness::Setup;

use self::harness::{Floor, Harness, Shape, verdict};
use self::kind::Kind;
use self::outcome::Outcome;
use self::scene::{OWN_MAC, Scene};
use super::report::Series;

pub use self::scene::Pins;

/// What `bench packet` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench packet
  cargo xtask bench packet --kinds tcp4,fresh-full --services 1 --flows 1,65536
  cargo xtask bench packet --quick      to see that it works; its figures mean nothing")]
pub struct Arguments {
    /// Where the report goes as JSON (target/bench/packet.json)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Few packets and few combinations
    #[arg(long)]
    quick: bool,
    /// Rounds in which the programs take turns
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Packets of each program in a round
    #[arg(long, default_value_t = 500_000)]
    packets: u32,
    /// Numbers of services
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 10_000])]
    services: Vec<u32>,
    /// Numbers of live flows, powers of two
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1 << 16, 1 << 20])]
    flows: Vec<u32>,
    /// Flows that the table is made for
    #[arg(long, default_value_t = 1 << 20)]
    capacity: u32,
    /// Kinds of packet: tcp4, tcp6, udp4, nat-in, nat-out, fresh, fresh-full, not-ours
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: u32,
    packets: u32,
    capacity: u32,
}

/// One line of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combination {
    kind: Kind,
    services: u32,
    flows: u32,
}

/// What takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contender {
    /// A floor program, behind the harness.
    Floor(Floor),
    /// The director, behind the harness.
    Director,
    /// A program that only passes, by itself.
    BarePass,
    /// The director by itself.
    BareDirector,
}

/// Measurements of everything that took turns.
pub type Turns = BTreeMap<Contender, Series>;

/// Runs the bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    super::need_root("packet")?;
    let effort = effort(arguments);
    let combinations = combinations(arguments)?;
    let cpu = harness::pin()?;
    println!("On CPU {cpu}: {} combinations, {effort:?}.", combinations.len());
    let mut outcome = Outcome::new(effort, arguments.quick);
    for combination in combinations {
        let (turns, astray) = measure(combination, effort).with_context(|| format!("{combination:?}"))?;
        outcome.add(combination, turns, astray);
    }
    outcome.print();
    super::report::write("packet", arguments.json.as_deref(), &outcome.json())
}

fn effort(arguments: &Arguments) -> Effort {
    let &Arguments { rounds, packets, capacity, quick, .. } = arguments;
    if quick {
        Effort { rounds: 3, packets: 2_000, capacity: 1 << 12 }
    } else {
        Effort { rounds, packets, capacity }
    }
}

fn combinations(arguments: &Arguments) -> Result<Vec<Combination>> {
    let known = Kind::ALL.map(Kind::key);
    for key in &arguments.kinds {
        ensure!(known.contains(&key.as_str()), "no kind {key:?}; there are {}", known.join(", "));
    }
    let wanted =
        |kind: &Kind| arguments.kinds.is_empty() || arguments.kinds.iter().any(|key| key == kind.key());
    let (services, flows): (&[u32], &[u32]) =
        if arguments.quick { (&[1, 100], &[1, 1 << 10]) } else { (&arguments.services, &arguments.flows) };
    ensure!(flows.iter().all(|flows| flows.is_power_of_two()), "numbers of flows must be powers of two");
    let mut combinations = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        for &services in services {
            for &flows in if kind.has_flows() { flows } else { &flows[..1] } {
                combinations.push(Combination { kind, services, flows });
            }
        }
    }
    Ok(combinations)
}

/// A program's place in line: which packets it gets next.
struct Turn {
    setup: Setup,
    shape: Shape,
    next: u32,
}

impl Turn {
    fn run(
        &mut self,
        harness: &mut Harness,
        program: &aya::programs::ProgramFd,
        packets: u32,
        verdict: Option<u32>,
    ) -> Result<f64> {
        harness.prepare(program, &self.setup, self.next)?;
        self.next = self.next.wrapping_add(packets);
        harness.run(self.shape, packets, verdict)
    }
}

/// Measures one line; also the share of packets that went another way than the rest.
fn measure(combination: Combination, effort: Effort) -> Result<(Turns, f64)> {
    let Combination { kind, services, flows } = combination;
    let capacity = (flows * kind.entries()).max(effort.capacity);
    let scene = Scene::open(kind, services, capacity)?;
    let mut harness = Harness::load(scene.places())?;
    let mut turns = Lines::new(combination);
    turns.make_flows(&scene, &mut harness)?;
    let (counted, floor) = (scene.counters()?, harness.floor_stats()?);
    let packets = if kind == Kind::Fresh {
        // All of them together fill a tenth of the table.
        effort.packets.min(scene.places() / 10 / effort.rounds)
    } else {
        effort.packets
    };
    let mut measured = Turns::new();
    for _ in 0..effort.rounds {
        for contender in contenders(kind) {
            let nanoseconds = turns.run(contender, &scene, &mut harness, packets)?;
            measured.entry(contender).or_default().push(nanoseconds);
        }
    }
    let mut sent = u64::from(packets) * u64::from(effort.rounds);
    if contenders(kind).contains(&Contender::Floor(Floor::Lru)) {
        proof::floor(kind.is_fresh(), sent, floor, harness.floor_stats()?)?;
    }
    if contenders(kind).contains(&Contender::BareDirector) {
        sent *= 2;
    }
    let astray = proof::director(kind, sent, &counted, &scene.counters()?)?;
    Ok((measured, astray))
}

/// Who takes turns. For a packet that is not ours there is nothing to look up.
fn contenders(kind: Kind) -> Vec<Contender> {
    use Contender::{BareDirector, BarePass, Director, Floor as Of};
    match kind {
        Kind::NotOurs => vec![Of(Floor::Pass), Director, BarePass, BareDirector],
        Kind::Fresh | Kind::FreshFull => vec![Of(Floor::Pass), Of(Floor::Swap), Of(Floor::Lru), Director],
        _ => vec![Of(Floor::Pass), Of(Floor::Swap), Of(Floor::Look), Of(Floor::Lru), Director],
    }
}

/// The places in line of the floors and of the director.
struct Lines {
    combination: Combination,
    floor: Turn,
    /// The floor that only looks has a walk of its own.
    look: Turn,
    director: Turn,
    floor_kind: Kind,
}

impl Lines {
    fn new(combination: Combination) -> Lines {
        let Combination { kind, services, flows } = combination;
        // The floors know no services and but one family; their flows are as many.
        let floor_kind = if kind.is_fresh() { kind } else { Kind::Tcp4 };
        let (mask, services) = if kind == Kind::NotOurs { (0xffff, 4096) } else { (flows - 1, services) };
        let line = |kind: Kind| Turn { setup: kind.measured(mask, services), shape: kind.shape(), next: 0 };
        Lines {
            combination,
            floor: line(floor_kind),
            look: line(floor_kind),
            director: line(kind),
            floor_kind,
        }
    }

    /// Makes the flows that packets will belong to, and fills what shall be full.
    fn make_flows(&mut self, scene: &Scene, harness: &mut Harness) -> Result<()> {
        let Combination { kind, services, flows } = self.combination;
        let lru = harness.floor(Floor::Lru)?;
        if kind.has_flows() {
            // The way in makes a flow also where the way out is what is measured.
            for setup in kind.making(flows - 1, services) {
                let mut turn = Turn { setup, shape: kind.shape(), next: 0 };
                turn.run(harness, scene.program()?, flows, None)?;
            }
            let [setup, _] = self.floor_kind.making(flows - 1, services);
            Turn { setup, shape: Shape::V4, next: 0 }.run(harness, &lru, flows, Some(verdict::TX))?;
        }
        if kind == Kind::FreshFull {
            // With four times as many, hardly a place is left.
            let most = scene.places().saturating_mul(4);
            self.director.run(harness, scene.program()?, most, None)?;
            self.floor.run(harness, &lru, most, Some(verdict::TX))?;
        }
        Ok(())
    }

    fn run(&mut self, who: Contender, scene: &Scene, harness: &mut Harness, packets: u32) -> Result<f64> {
        match who {
            Contender::Floor(floor) => {
                let program = harness.floor(floor)?;
                let turn = if floor == Floor::Look { &mut self.look } else { &mut self.floor };
                let verdict = if floor == Floor::Pass { verdict::PASS } else { verdict::TX };
                let next = turn.next;
                let took = turn.run(harness, &program, packets, Some(verdict))?;
                if matches!(floor, Floor::Pass | Floor::Swap) {
                    turn.next = next; // they do not care whose packet it is
                }
                Ok(took)
            }
            // What it says of the last one is no proof; its counters are.
            Contender::Director => self.director.run(harness, scene.program()?, packets, None),
            Contender::BarePass => harness.run_bare(Floor::Pass, packets, verdict::PASS),
            Contender::BareDirector => {
                let mut frame = self.director.setup.frame[..Shape::V4.bytes()].to_vec();
                frame[..6].copy_from_slice(&OWN_MAC);
                frame[26..34].copy_from_slice(&[10, 0, 0, 0, 203, 0, 113, 1]);
                harness::timed(packets, harness.start_cost(), || {
                    let outcome = scene.trial().run(&frame, packets)?;
                    ensure!(outcome.verdict == director::dataplane::Verdict::Pass, "{:?}", outcome.verdict);
                    Ok(())
                })
            }
        }
    }
}
