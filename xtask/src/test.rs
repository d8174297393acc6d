//! `cargo xtask test`: everything that has to hold, from fast to real, with a summary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{project, setup, tidy};

/// What `test` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test              everything
  cargo xtask test unit         formatting, lints, house rules, unit tests and simulated clusters: needs no root
  cargo xtask test checks       health checks of real servers of every kind
  cargo xtask test e2e          real clients and servers in network namespaces
  cargo xtask test bpf          packets through the BPF program
  cargo xtask test vm           the data plane on other kernels, under QEMU
  cargo xtask test cluster      a hundred thousand simulated clusters, by a release build: needs no root
  cargo xtask test --no-setup   with what is installed")]
pub struct Arguments {
    /// Which tests
    #[arg(value_enum, default_value = "all")]
    which: Which,
    /// Install nothing
    #[arg(long)]
    no_setup: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Unit,
    Bpf,
    Checks,
    E2e,
    Vm,
    Cluster,
    All,
}

/// One line of the summary.
struct Outcome {
    stage: &'static str,
    passed: u64,
    failed: u64,
    took: Duration,
    error: Option<anyhow::Error>,
}

/// Counts of the tests that one `cargo test` ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Tests that need root: the package they are in, and their name there.
type Rooted = [(&'static str, &'static str)];

/// How much the simulator of a cluster tries among all other tests: a minute or two, unoptimized.
const SOME_TRIALS: [(&str, &str); 1] = [("CLUSTER_SEEDS", "2000")];
/// How much it tries when it is asked for: some minutes, and a release build before.
const ALL_TRIALS: [(&str, &str); 2] = [("CLUSTER_SEEDS", "100000"), ("CLUSTER_CHANGES", "3")];
/// Tests that need no root, in a stage of their own.
#[cfg(test)]
const UNIT: &Rooted = &[("director", "cluster")];
/// Packets through the BPF program, without a network.
const BPF: &Rooted = &[("director", "program")];
/// Probes of real servers of every kind.
const CHECKS: &Rooted = &[
    ("healthcheck", "basic"),
    ("healthcheck", "web"),
    ("healthcheck", "conversations"),
    ("healthcheck", "services"),
];
/// Real clients and servers.
const E2E: &Rooted = &[
    ("director", "neighbours"),
    ("director", "links"),
    ("director", "dns"),
    ("director", "takeover"),
    ("tests", "lab"),
    ("tests", "e2e"),
    ("tests", "pair"),
    ("tests", "operate"),
];
/// Other kernels.
const VM: &Rooted = &[("tests", "vm")];

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    let which = arguments.which;
    let wants = |stage| which == stage || which == Which::All;
    let needs_root = !matches!(which, Which::Unit | Which::Cluster);
    ensure!(
        !needs_root || project::is_root(),
        "these tests make network namespaces and load BPF programs, which need root. Run\n  {}\nor, without root, \
         `cargo xtask test unit`",
        project::as_root("test")
    );
    if !arguments.no_setup {
        setup::ensure(match which {
            Which::Unit | Which::Cluster => setup::Scope::Build,
            _ if wants(Which::Vm) => setup::Scope::Vm,
            Which::Checks | Which::E2e => setup::Scope::Servers,
            _ => setup::Scope::Lab,
        })?;
    }
    let mut outcomes = Vec::new();
    if wants(Which::Unit) {
        outcomes.extend(unit_stages(!arguments.no_setup));
    }
    if which == Which::Cluster {
        outcomes.push(Outcome::of("cluster", || cluster(&["--release"], &ALL_TRIALS)));
    }
    outcomes.extend(kernel_stages(wants(Which::Bpf), wants(Which::Vm)));
    for (stage, name, tests) in [(Which::Checks, "checks", CHECKS), (Which::E2e, "end to end", E2E)] {
        if wants(stage) {
            outcomes.push(Outcome::of(name, || rooted_tests(tests, &mut std::io::stdout())));
        }
    }
    summarize(&outcomes)
}

/// Packets through the program on this kernel, and on others: each takes one CPU, minutes long, and waits for nobody, so both are run at the
/// same time. What the second prints comes when both are done.
fn kernel_stages(bpf: bool, vm: bool) -> Vec<Outcome> {
    let on_this = || Outcome::of("bpf", || rooted_tests(BPF, &mut std::io::stdout()));
    match (bpf, vm) {
        (false, false) => Vec::new(),
        (true, false) => vec![on_this()],
        (false, true) => vec![Outcome::of("vm", || rooted_tests(VM, &mut std::io::stdout()))],
        (true, true) => {
            let mut printed = Vec::new();
            let outcomes = thread::scope(|scope| {
                let others = scope.spawn(|| Outcome::timed("vm", || rooted_tests(VM, &mut printed)));
                let this = on_this();
                let others = others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                vec![this, others]
            });
            println!("\n== vm\n{}", String::from_utf8_lossy(&printed));
            outcomes
        }
    }
}

fn unit_stages(may_install: bool) -> Vec<Outcome> {
    vec![
        Outcome::of("formatting", || {
            setup::ensure_cargo_tool("fmt", may_install)?;
            project::run_cargo(&["fmt", "--all", "--check"]).map(|()| Counts::default())
        }),
        Outcome::of("lints", || {
            setup::ensure_cargo_tool("clippy", may_install)?;
            let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            project::run(cargo().args(arguments)).map(|()| Counts::default())
        }),
        Outcome::of("house rules", || tidy::check_project().map(|()| Counts::default())),
        // What needs root is in files of its own, and has its own stages.
        Outcome::of("unit", || {
            let arguments = ["test", "--no-fail-fast", "--workspace", "--lib", "--bins"];
            count(cargo().args(arguments), &mut std::io::stdout())
        }),
        Outcome::of("cluster", || cluster(&[], &SOME_TRIALS)),
    ]
}

/// Simulated clusters: so many as `trials` says.
fn cluster(build: &[&str], trials: &[(&str, &str)]) -> Result<Counts> {
    let mut command = cargo();
    command.envs(trials.iter().copied());
    command.arg("test").args(build).args(["--no-fail-fast", "--workspace", "--test", "cluster"]);
    count(&mut command, &mut std::io::stdout())
}

/// A cargo that takes no warning about the BPF program either: the director's build script, which builds it, reads
/// this. All the stages say the same, since it builds afresh where that changes.
fn cargo() -> Command {
    let mut command = project::cargo();
    command.env("DIRECTOR_DENY_WARNINGS", "1");
    command
}

fn rooted_tests(tests: &Rooted, out: &mut dyn Write) -> Result<Counts> {
    let director = project::build_tested_director(cargo())?;
    let mut sum = Counts::default();
    for (_, name) in tests {
        let mut command = cargo();
        command.env("DIRECTOR_BIN", &director);
        // Of the whole workspace: with a package alone, what it depends on would have other features, and be built anew.
        command.args(["test", "--no-fail-fast", "--workspace", "--test", name]);
        // One lab at a time: their loads would disturb each other.
        let Counts { passed, failed } = count(command.args(["--", "--test-threads=1"]), out)?;
        sum = Counts { passed: sum.passed + passed, failed: sum.failed + failed };
    }
    Ok(sum)
}

/// Runs `cargo test`, passes on what it prints to `out`, and counts.
fn count(command: &mut Command, out: &mut dyn Write) -> Result<Counts> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no pipe from cargo")?).lines() {
        let line = line?;
        counts.add(&line);
        writeln!(out, "{line}")?;
    }
    let status = child.wait()?;
    ensure!(status.success() || counts.failed > 0, "cargo test: {status}");
    Ok(counts)
}

impl Counts {
    /// `test result: ok. 14 passed; 0 failed; 0 ignored; …`
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed;" => self.passed += number,
                "failed;" => self.failed += number,
                _ => {}
            }
        }
    }
}

impl Outcome {
    fn of(stage: &'static str, work: impl FnOnce() -> Result<Counts>) -> Outcome {
        println!("\n== {stage}");
        Outcome::timed(stage, work)
    }

    /// The same, without a headline.
    fn timed(stage: &'static str, work: impl FnOnce() -> Result<Counts>) -> Outcome {
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        match result {
            Ok(Counts { passed, failed }) => Outcome { stage, passed, failed, took, error: None },
            Err(error) => {
                eprintln!("{error:#}");
                Outcome { stage, passed: 0, failed: 0, took, error: Some(error) }
            }
        }
    }

    fn is_good(&self) -> bool {
        self.failed == 0 && self.error.is_none()
    }
}

fn summarize(outcomes: &[Outcome]) -> Result<()> {
    println!("\n== summary");
    for outcome in outcomes {
        let verdict = if outcome.is_good() { "ok" } else { "FAILED" };
        let detail = match (outcome.passed, outcome.failed) {
            (0, 0) => String::new(),
            (passed, 0) => format!("{passed} tests passed"),
            (passed, failed) => format!("{passed} tests passed, {failed} failed"),
        };
        println!("{:<12} {verdict:<7} {:>6.1} s  {detail}", outcome.stage, outcome.took.as_secs_f64());
    }
    match outcomes.iter().filter(|outcome| !outcome.is_good()).count() {
        0 => Ok(()),
        bad => bail!("{bad} of {} stages failed", outcomes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 14 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.add("test nothing ... ok");
        assert_eq!(counts, Counts { passed: 17, failed: 2 });
    }

    #[test]
    fn every_test_is_in_a_stage() {
        for (package, directory) in [("director", "director/tests"), ("tests", "tests/tests")] {
            for entry in std::fs::read_dir(project::root().join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                let staged = [UNIT, BPF, E2E, VM].concat().contains(&(package, name.as_str()));
                assert!(staged, "{} is in no stage", path.display());
            }
        }
    }
}
