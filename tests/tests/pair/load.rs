//! What a director does beside its heartbeat must not hold that up: under no load a role changes, or somebody is taken for dead.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::lab::{DIRECT_VIPS, Pipe, SmallDisk};
use tests::pair::{DEFAULT, Pair, Peace};
use tests::wait;

/// How long each load lasts.
const LASTS: Duration = Duration::from_secs(5);

fn pair() -> Result<Pair> {
    let pair = Pair::start(2, |cluster| cluster.interval("50ms").dead_after("250ms"), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    Ok(pair)
}

/// Starts the owner anew in another way; its VIPs are with the other one meanwhile.
fn restarted(pair: &mut Pair, start: impl FnOnce(&mut tests::lab::Daemon) -> Result<()>) -> Result<()> {
    ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
    start(pair.director(1))?;
    pair.await_steady()?;
    pair.cli(2, &["handover"])?;
    pair.await_owner(1, DEFAULT)?;
    pair.await_steady()
}

/// The configuration with a thousand more services, of which one has this weight.
fn large(pair: &Pair, weight: usize) -> String {
    let mut text = pair.config().to_owned();
    for i in 0..1000 {
        let weight = if i == 500 { weight } else { 1 };
        let vip = DIRECT_VIPS[0];
        writeln!(text, "  - name: s{i}\n    address: {vip}\n    port: {}\n    forward: direct", 10_000 + i)
            .expect("a String takes whatever is written");
        writeln!(text, "    reals:\n      - {{ address: 192.0.2.21, weight: {weight} }}")
            .expect("a String takes whatever is written");
        text += "      - { address: 192.0.2.22 }\n      - { address: 192.0.2.23 }\n";
    }
    text
}

/// Whether the first director says that its log cannot be written.
fn loses_lines(pair: &Pair) -> Result<bool> {
    let status = pair.status(1).context("no status")?;
    Ok(status["problems"].to_string().contains("lines of the log are lost"))
}

#[test]
fn reloads_of_a_large_configuration_hold_up_no_heartbeat() -> Result<()> {
    let mut pair = pair()?;
    let peace = Peace::begin(&pair)?;
    let (begun, mut reloads) = (Instant::now(), 0);
    while begun.elapsed() < LASTS {
        reloads += 1;
        let text = large(&pair, 1 + reloads % 2);
        let output = pair.director(1).reload(text)?;
        ensure!(output.status.success(), "{output:?}");
    }
    ensure!(reloads > 3, "only {reloads} reloads: that is no storm");
    peace.ensure_kept(&pair).with_context(|| pair.story())
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() -> Result<()> {
    let mut pair = pair()?;
    let mut pipe = Pipe::new()?;
    let writer = pipe.writer()?;
    restarted(&mut pair, |director| director.run_with(writer, &["--log", "trace"]))?;
    let peace = Peace::begin(&pair)?;
    pipe.fill()?;
    let (begun, mut weight) = (Instant::now(), 1);
    while begun.elapsed() < LASTS {
        // Each of these is logged, and answered nevertheless.
        weight = 3 - weight;
        pair.cli(1, &["weight", "web0", "192.0.2.21", &weight.to_string()])?;
        let text = large(&pair, weight);
        let output = pair.director(1).reload(text)?;
        ensure!(output.status.success(), "{output:?}");
    }
    peace.ensure_kept(&pair)?;
    // What waited is there as soon as somebody reads, and the end is as it should be.
    wait::until("the log", Duration::from_secs(10), || {
        Ok(pipe.drain()?.contains("weight set by the operator").then_some(()))
    })?;
    pipe.fill()?;
    pair.cli(1, &["handover"])?;
    pair.await_owner(2, DEFAULT)
}

#[test]
fn a_full_disk_holds_up_no_heartbeat_and_weights_fail_with_a_reason() -> Result<()> {
    let mut pair = pair()?;
    let disk = SmallDisk::mount(&pair.lab().directory().join("small"))?;
    restarted(&mut pair, |director| {
        director.move_to(disk.path())?;
        director.run()
    })?;
    pair.cli(1, &["weight", "web0", "192.0.2.21", "2"])?;
    let peace = Peace::begin(&pair)?;
    disk.fill()?;
    let begun = Instant::now();
    // The log's last page has room for some lines: it goes on until they are lost.
    while begun.elapsed() < LASTS || !loses_lines(&pair)? {
        ensure!(begun.elapsed() < LASTS * 12, "the log lost nothing on a full disk: {}", pair.story());
        let output = pair.director(1).cli(&["weight", "web0", "192.0.2.21", "3"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains("No space left on device"), "{said}");
        // A reload writes nothing but the log.
        let text = large(&pair, 1);
        let output = pair.director(1).reload(text)?;
        ensure!(output.status.success(), "{output:?}");
    }
    peace.ensure_kept(&pair)?;
    disk.empty()?;
    pair.cli(1, &["weight", "web0", "192.0.2.21", "3"])?;
    wait::until("the log to say what it lost", Duration::from_secs(10), || {
        Ok(pair.director(1).log().contains("lines of the log were lost").then_some(()))
    })?;
    // The disk goes before the lab does: nothing of the director's may be open there.
    ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
    drop(disk);
    Ok(())
}
