//! What users of keepalived suffer from in a pair, as far as no other file shows it: see the table in `main.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::Session;
use tests::lab::{Cluster, Config, DIRECT_VIPS, Service};
use tests::pair::{DEFAULT, Pair, group_of};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(10);
/// The port of a service for long connections.
const LINES: u16 = 9;

/// Nothing here depends on how fast a death is found out: a loaded machine must not be taken for a dead one.
fn calm(cluster: Cluster) -> Cluster {
    cluster.dead_after("1s")
}

fn with_lines(config: Config) -> Config {
    let lines = Service::tcp("lines", DIRECT_VIPS[0], LINES).scheduler("mh").set("sloppy", "true");
    config.service((21..=23).fold(lines, |lines, last| lines.real(&format!("192.0.2.{last}"), 1)))
}

fn await_active(pair: &Pair, number: u8) -> Result<()> {
    let waited = wait::until(&format!("lb{number} to be active"), PATIENCE, || {
        Ok((pair.role(number, DEFAULT).as_deref() == Some("active")).then_some(()))
    });
    waited.with_context(|| pair.story())
}

fn term(pair: &Pair, number: u8) -> Result<String> {
    let status = pair.status(number).context("no status")?;
    Ok(group_of(&status, DEFAULT).context("no group")?["term"].to_string())
}

/// A director that returns has none of the flows that began meanwhile; connections must not notice.
#[test]
fn connections_outlive_their_director_and_its_return() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| calm(cluster).line("failback: 1s"), with_lines)?;
    let _echoes =
        pair.lab().reals().map(|real| pair.lab().tcp_echo(real.name(), LINES)).collect::<Result<Vec<_>>>()?;
    let server = SocketAddr::new(DIRECT_VIPS[0].parse()?, LINES);
    let connect = |pair: &Pair| Session::start(pair.lab().client(), server);
    pair.await_owner(1, DEFAULT)?;
    let before = connect(&pair)?;
    pair.director(1).kill9();
    await_active(&pair, 2)?;
    let meanwhile = connect(&pair)?;
    pair.director(1).run()?;
    pair.await_owner(1, DEFAULT)?;
    std::thread::sleep(Duration::from_millis(500));
    for session in [before, meanwhile] {
        session.finish()?.ensure_whole().with_context(|| pair.story())?;
    }
    Ok(())
}

/// A standby that is paused (a snapshot, a starved machine) has heard nobody for long. When it goes on, that is no reason to take.
#[test]
fn a_standby_that_did_not_run_for_long_takes_nothing() -> Result<()> {
    let mut pair = Pair::start(2, calm, |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let (before, probes) = (term(&pair, 1)?, pair.probe(DIRECT_VIPS[0])?);
    for _ in 0..3 {
        pair.director(2).freeze()?;
        wait::until("lb2 to count as dead", PATIENCE, || {
            let status = pair.status(1).context("no status")?;
            Ok((status["pair"]["cluster"]["peers"][0]["alive"] == false).then_some(()))
        })?;
        pair.director(2).thaw()?;
        pair.await_steady()?;
    }
    pair.await_owner(1, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0 && term(&pair, 1)? == before, "{probes}\n{}", pair.story());
    let log = pair.log(2);
    ensure!(!log.contains("to=\"active\""), "lb2 was active in between\n{log}");
    Ok(())
}

/// Without `failback`, whoever has the VIPs keeps them, whatever the priorities say and in whatever order directors come: also the first
/// time, and with nothing more to be configured.
#[test]
fn a_director_of_higher_priority_that_comes_later_takes_nothing() -> Result<()> {
    let prefers_two = "groups:\n  - { name: default, prefer: [lb2] }";
    let mut pair = Pair::prepare(2, |cluster| calm(cluster).line(prefers_two), |config| config)?;
    pair.start_one(1)?;
    pair.await_owner(1, DEFAULT)?;
    let probes = pair.probe(DIRECT_VIPS[0])?;
    pair.start_one(2)?;
    pair.await_steady()?;
    // It could say so, if it wanted them.
    std::thread::sleep(Duration::from_secs(3));
    pair.await_owner(1, DEFAULT)?;
    ensure!(pair.director(2).terminate()?.success(), "{}", pair.story());
    pair.director(2).run()?;
    pair.await_steady()?;
    pair.await_owner(1, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}\n{}", pair.story());
    Ok(())
}
