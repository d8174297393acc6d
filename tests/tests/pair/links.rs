//! The kinds of links between directors: multicast, a serial line, and several side by side.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::lab::{Cluster, DIRECT_VIPS, SerialLine, Way};
use tests::pair::{DEFAULT, Pair, group_of};
use tests::wait;

const UDP: [&str; 2] = ["udp: \"192.0.2.{}:694\"", "udp: \"10.255.0.{}:694\""];

/// Nothing here depends on how fast a death is found out: a loaded machine must not be taken for a dead one.
fn calm(cluster: Cluster) -> Cluster {
    cluster.dead_after("1s")
}

/// A line between the first two directors, and the link that it is.
fn serial_line() -> Result<(TempDir, SerialLine, String)> {
    let place = TempDir::new()?;
    let end = |number: u8| -> PathBuf { place.path().join(format!("tty{number}")) };
    let line = SerialLine::new([&end(11), &end(12)])?;
    let link = format!("serial: {}/tty{{}}", place.path().display());
    Ok((place, line, link))
}

/// Which of its links a director hears the other one by.
fn heard(pair: &Pair, number: u8) -> Result<Vec<bool>> {
    let status = pair.status(number).context("no status")?;
    let links = status["pair"]["cluster"]["peers"][0]["links"].as_array().context("no links")?.clone();
    Ok(links.iter().map(|link| link["heard"] == true).collect())
}

fn await_heard(pair: &Pair, wanted: &[bool]) -> Result<()> {
    let waited = wait::until(&format!("links to be heard as {wanted:?}"), Duration::from_secs(10), || {
        Ok((heard(pair, 1)? == wanted && heard(pair, 2)? == wanted).then_some(()))
    });
    waited.with_context(|| pair.story())
}

fn links(pair: &Pair) -> Result<Value> {
    Ok(pair.status(1).context("no status")?["pair"]["cluster"]["links"].clone())
}

fn term(pair: &Pair) -> Result<String> {
    let status = pair.status(2).context("no status")?;
    Ok(group_of(&status, DEFAULT).context("no group")?["term"].to_string())
}

/// Whatever the link is: roles are agreed upon, a death is noticed, and who returns stays standby.
fn a_cluster_lives_by(link: &str, name: &str) -> Result<()> {
    let pair = Pair::start(2, |cluster| calm(cluster).links(&[link]), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let links = links(&pair)?;
    ensure!(links[0]["name"] == name && links[0]["send_errors"] == 0, "{links:#}");
    let fault = pair.lab().freeze_host("director1")?;
    wait::until("lb2 to take over", Duration::from_secs(10), || {
        Ok((pair.role(2, DEFAULT).as_deref() == Some("active")).then_some(()))
    })?;
    pair.lab().client().run(&["ping", "-c1", "-W1", DIRECT_VIPS[0]])?;
    fault.heal()?;
    pair.await_owner(2, DEFAULT)?;
    pair.await_steady()
}

#[test]
fn a_cluster_lives_by_multicast_over_ipv4() -> Result<()> {
    a_cluster_lives_by("multicast: \"239.255.0.1:694\", interface: eth1", "multicast 239.255.0.1:694 on eth1")
}

#[test]
fn a_cluster_lives_by_multicast_over_ipv6() -> Result<()> {
    a_cluster_lives_by("multicast: \"[ff02::694]:694\", interface: eth1", "multicast [ff02::694]:694 on eth1")
}

#[test]
fn a_cluster_lives_by_a_serial_line_alone() -> Result<()> {
    let (_place, line, link) = serial_line()?;
    let pair = Pair::start(2, |cluster| calm(cluster).links(&[&link]), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    // No network between them is needed.
    let fault = pair.lab().partition(&["director1"], &["director2"], Way::Both)?;
    let before = term(&pair)?;
    let said = pair.cli(1, &["handover"])?;
    ensure!(said.contains("is held by lb2 now"), "{said}");
    pair.await_owner(2, DEFAULT)?;
    ensure!(term(&pair)? != before, "the term says nothing");
    fault.heal()?;
    // The line is all that they have: without it, each is alone. With it again, one lets go.
    line.cut();
    wait::until("both to hold the VIPs", Duration::from_secs(10), || {
        let holds = |number: u8| pair.role(number, DEFAULT).as_deref() == Some("active");
        Ok((holds(1) && holds(2)).then_some(()))
    })?;
    line.mend();
    pair.owner(DEFAULT)?;
    pair.await_steady()?;
    let text = pair.cli(1, &["status"])?;
    ensure!(text.contains("serial "), "{text}");
    Ok(())
}

#[test]
fn a_director_is_dead_only_when_all_its_links_are_silent() -> Result<()> {
    let (_place, line, serial) = serial_line()?;
    let pair = Pair::start(2, |cluster| calm(cluster).links(&[UDP[0], UDP[1], &serial]), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    await_heard(&pair, &[true, true, true])?;
    let (before, probes) = (term(&pair)?, pair.probe(DIRECT_VIPS[0])?);
    let fault = pair.lab().partition(&["director1"], &["director2"], Way::Both)?;
    await_heard(&pair, &[false, false, true])?;
    let text = pair.cli(1, &["status"])?;
    ensure!(text.matches("SILENT").count() == 2, "{text}");
    // The line alone carries the pair through what else there is to be done.
    std::thread::sleep(Duration::from_secs(1));
    pair.await_owner(1, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0 && term(&pair)? == before, "something moved: {probes}");
    line.cut();
    wait::until("lb2 to find lb1 dead", Duration::from_secs(10), || {
        Ok((pair.role(2, DEFAULT).as_deref() == Some("active")).then_some(()))
    })?;
    line.mend();
    // By the line alone they hear of each other, and one lets go: whichever hears first that the other does not hear it.
    pair.owner(DEFAULT)?;
    await_heard(&pair, &[false, false, true])?;
    fault.heal()?;
    pair.await_steady()
}
