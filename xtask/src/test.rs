//! `cargo xtask test`: everything that has to hold, from fast to real, with a summary.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{project, setup, tidy};

/// What `test` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test              everything
  cargo xtask test unit         formatting, lints, house rules and unit tests: needs no root
  cargo xtask test e2e          real clients and servers in network namespaces
  cargo xtask test bpf          packets through the BPF program
  cargo xtask test vm           the data plane on other kernels, under QEMU
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
    E2e,
    Vm,
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

/// The end-to-end tests, by the stage that runs them: the file's name says which it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    bpf: Vec<String>,
    e2e: Vec<String>,
    vm: Vec<String>,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    let which = arguments.which;
    let wants = |stage| which == stage || which == Which::All;
    let targets = Targets::find(&project::root().join("tests/tests"))?;
    if which == Which::Vm {
        ensure!(!targets.vm.is_empty(), "there is no test in tests/tests/vm*.rs");
    }
    let needs_root = which != Which::Unit;
    ensure!(
        !needs_root || project::is_root(),
        "these tests make network namespaces and load BPF programs, which need root. Run\n  {}\nor, without root, \
         `cargo xtask test unit`",
        project::as_root("test")
    );
    if !arguments.no_setup {
        setup::ensure(match which {
            Which::Unit => setup::Scope::Build,
            _ if wants(Which::Vm) && !targets.vm.is_empty() => setup::Scope::Vm,
            _ => setup::Scope::Lab,
        })?;
    }
    let mut outcomes = Vec::new();
    if wants(Which::Unit) {
        outcomes.extend(unit_stages());
    }
    for (stage, name, tests) in [
        (Which::Bpf, "bpf", &targets.bpf),
        (Which::E2e, "end to end", &targets.e2e),
        (Which::Vm, "vm", &targets.vm),
    ] {
        if wants(stage) && !tests.is_empty() {
            outcomes.push(Outcome::of(name, || rooted_tests(tests)));
        }
    }
    summarize(&outcomes)
}

fn unit_stages() -> Vec<Outcome> {
    vec![
        Outcome::of("formatting", || {
            setup::ensure_cargo_tool("fmt")?;
            project::run_cargo(&["fmt", "--all", "--check"]).map(|()| Counts::default())
        }),
        Outcome::of("lints", || {
            setup::ensure_cargo_tool("clippy")?;
            let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            project::run_cargo(&arguments).map(|()| Counts::default())
        }),
        Outcome::of("house rules", || tidy::check_project().map(|()| Counts::default())),
        // What is in tests/tests needs root, and has its own stages.
        Outcome::of("unit", || {
            let all = cargo_test(&["--workspace", "--exclude", "tests"])?;
            let lab = cargo_test(&["--package", "tests", "--lib"])?;
            Ok(Counts { passed: all.passed + lab.passed, failed: all.failed + lab.failed })
        }),
    ]
}

fn rooted_tests(targets: &[String]) -> Result<Counts> {
    let director = project::build_director()?;
    let mut command = project::cargo();
    command.env("DIRECTOR_BIN", director).args(["test", "--no-fail-fast", "--package", "tests"]);
    for target in targets {
        command.args(["--test", target]);
    }
    // One lab at a time: their loads would disturb each other.
    count(command.args(["--", "--test-threads=1"]))
}

fn cargo_test(arguments: &[&str]) -> Result<Counts> {
    count(project::cargo().args(["test", "--no-fail-fast"]).args(arguments))
}

/// Runs `cargo test`, passes on what it prints, and counts.
fn count(command: &mut Command) -> Result<Counts> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut counts = Counts::default();
    let mut out = std::io::stdout().lock();
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

impl Targets {
    fn find(directory: &Path) -> Result<Targets> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
            let path = entry?.path();
            // Like cargo: a file, or a directory with a main.rs.
            let is_target = path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").is_file();
            if let (true, Some(stem)) = (is_target, path.file_stem()) {
                names.push(stem.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(Targets::sort(names))
    }

    fn sort(names: Vec<String>) -> Targets {
        let mut targets = Targets::default();
        for name in names {
            match name.split('_').next() {
                Some("bpf") => targets.bpf.push(name),
                Some("vm") => targets.vm.push(name),
                _ => targets.e2e.push(name),
            }
        }
        targets
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
    fn a_files_name_says_its_stage() {
        let names = ["bpf_tables", "direct", "vm", "bpf", "vmx"].map(str::to_owned).to_vec();
        let targets = Targets::sort(names);
        assert_eq!(targets.bpf, ["bpf_tables", "bpf"]);
        assert_eq!(targets.e2e, ["direct", "vmx"]);
        assert_eq!(targets.vm, ["vm"]);
    }
}
