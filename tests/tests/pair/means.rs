//! What decides who is fit (tracked commands, live services), and what follows roles beside addresses: resources, commands, DNS.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::lab::{Cluster, Config, DIRECT_VIPS, Host, Way};
use tests::pair::{DEFAULT, Pair, group_of};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(1);

/// Nothing here depends on how fast a death is found out: a loaded machine must not be taken for a dead one.
fn calm(cluster: Cluster) -> Cluster {
    cluster.dead_after("1s")
}

/// A tracked command that succeeds where there is an interface `fit`: directors of the lab share the file system.
fn tracking(weight: &str, settle: &str) -> String {
    format!(
        "settle: {settle}\ntrack:\n  - {{ name: fit, command: [/usr/bin/test, -e, /proc/sys/net/ipv4/conf/fit], \
         interval: 100ms{weight} }}"
    )
}

fn make_fit(host: &Host) -> Result<()> {
    host.run(&["ip", "link", "add", "fit", "type", "veth", "peer", "name", "fitpeer"]).map(drop)
}

fn make_unfit(host: &Host) -> Result<()> {
    host.run(&["ip", "link", "delete", "fit"]).map(drop)
}

/// Two directors that are both fit.
fn tracked(weight: &str, settle: &str) -> Result<Pair> {
    let mut pair =
        Pair::prepare(2, |cluster| calm(cluster).line(&tracking(weight, settle)), |config| config)?;
    for number in [1, 2] {
        make_fit(pair.lab().host(&Pair::host(number)))?;
        pair.start_one(number)?;
    }
    pair.await_owner(1, DEFAULT)?;
    pair.await_steady()?;
    Ok(pair)
}

fn why(pair: &Pair, number: u8) -> Result<String> {
    let status = pair.status(number).context("no status")?;
    Ok(group_of(&status, DEFAULT).context("no group")?["why"].to_string())
}

#[test]
fn where_a_tracked_command_without_a_weight_fails_the_vips_leave_at_once() -> Result<()> {
    let pair = tracked("", "1h")?;
    let probes = pair.probe(DIRECT_VIPS[0])?;
    make_unfit(pair.lab().host("director1"))?;
    pair.await_owner(2, DEFAULT)?;
    let status = pair.status(1).context("no status")?;
    let unable = group_of(&status, DEFAULT).context("no group")?["unable"].to_string();
    ensure!(unable.contains("fit fails: /usr/bin/test: exit status: 1"), "{unable}");
    let said = pair.cli_fails(2, &["handover"])?;
    ensure!(said.contains("no other director can take"), "{said}");
    // Fit again, it takes nothing back.
    make_fit(pair.lab().host("director1"))?;
    wait::until("lb1 to be fit again", PATIENCE, || {
        let status = pair.status(1).context("no status")?;
        Ok(group_of(&status, DEFAULT).context("no group")?["unable"].is_null().then_some(()))
    })?;
    pair.await_owner(2, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}\n{}", pair.story());
    Ok(())
}

#[test]
fn a_lower_score_moves_the_vips_after_it_has_lasted() -> Result<()> {
    let pair = tracked(", weight: -50", "1s")?;
    let (director1, probes) = (pair.lab().host("director1"), pair.probe(DIRECT_VIPS[0])?);
    let score = |wanted: i64| {
        wait::until(&format!("lb1's score to be {wanted}"), PATIENCE, || {
            let status = pair.status(2).context("no status")?;
            let directors = group_of(&status, DEFAULT).context("no group")?["directors"].clone();
            let lb1 = directors
                .as_array()
                .context("no directors")?
                .iter()
                .find(|one| one["director"] == "lb1")
                .cloned();
            Ok((lb1.context("no lb1")?["score"] == wanted).then_some(()))
        })
    };
    // What does not last moves nothing.
    make_unfit(director1)?;
    score(-50)?;
    make_fit(director1)?;
    score(0)?;
    std::thread::sleep(SETTLE + Duration::from_millis(300));
    pair.await_owner(1, DEFAULT)?;
    let begun = Instant::now();
    make_unfit(director1)?;
    pair.await_owner(2, DEFAULT)?;
    ensure!(begun.elapsed() >= SETTLE, "it moved after {:?}", begun.elapsed());
    ensure!(pair.log(1).contains("lb2 is better off"), "{}", pair.story());
    ensure!(why(&pair, 2)?.contains("lb1 gave it to us"), "{}", pair.story());
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}\n{}", pair.story());
    Ok(())
}

#[test]
fn who_reaches_more_live_services_gets_the_vips() -> Result<()> {
    let check =
        "defaults:\n  check: { type: tcp, port: 80, interval: 200ms, fast_interval: 200ms, timeout: 150ms }";
    let settle = |cluster| calm(cluster).line("settle: 1s");
    let pair = Pair::start(2, settle, |config| config.line(check))?;
    pair.await_owner(1, DEFAULT)?;
    wait::until("all services to live here and there", PATIENCE, || {
        let status = pair.status(1).context("no status")?;
        let directors = group_of(&status, DEFAULT).context("no group")?["directors"].clone();
        let directors = directors.as_array().context("no directors")?.clone();
        Ok((directors.len() == 2 && directors.iter().all(|one| one["services"] == 8)).then_some(()))
    })?;
    let begun = Instant::now();
    let fault = pair.lab().partition(&["director1"], &["real1", "real2", "real3"], Way::Both)?;
    pair.await_owner(2, DEFAULT)?;
    ensure!(begun.elapsed() >= SETTLE, "it moved after {:?}", begun.elapsed());
    ensure!(pair.log(1).contains("lb2 is better off"), "{}", pair.story());
    let probes = pair.probe(DIRECT_VIPS[0])?;
    fault.heal()?;
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}\n{}", pair.story());
    Ok(())
}

/// A command line that adds what it is and who runs it to a file.
fn note(file: &Path, what: &str) -> String {
    format!("[/bin/sh, -c, 'echo $DIRECTOR_NODE {what} $* >> {}', sh]", file.display())
}

/// What one director has noted.
fn noted(file: &Path, node: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.strip_prefix(node)?.strip_prefix(' '));
    own.map(|line| line.trim_end().to_owned()).collect()
}

fn await_noted(file: &Path, node: &str, wanted: &[&str]) -> Result<()> {
    wait::until(&format!("{node} to have done {wanted:?}"), PATIENCE, || {
        Ok((noted(file, node) == wanted).then_some(()))
    })
    .with_context(|| fs::read_to_string(file).unwrap_or_default())
}

#[test]
fn resources_start_in_order_where_the_vips_are_and_stop_in_the_opposite_one() -> Result<()> {
    let place = TempDir::new()?;
    let file = place.path().join("resources");
    let resource = |name: &str| {
        let [start, stop] = ["start", "stop"].map(|verb| note(&file, &format!("{verb} {name}")));
        format!("\n      - {{ name: {name}, start: {start}, stop: {stop} }}")
    };
    let lines = format!("groups:\n  - name: default\n    resources:{}{}", resource("a"), resource("b"));
    let mut pair = Pair::start(2, |cluster| calm(cluster).line(&lines), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    // Whatever an earlier run has left is stopped first.
    await_noted(&file, "lb1", &["stop b", "stop a", "start a", "start b"])?;
    await_noted(&file, "lb2", &["stop b", "stop a"])?;
    fs::remove_file(&file)?;
    pair.cli(1, &["handover"])?;
    await_noted(&file, "lb1", &["stop b", "stop a"])?;
    await_noted(&file, "lb2", &["start a", "start b"])?;
    fs::remove_file(&file)?;
    pair.director(2).kill9();
    await_noted(&file, "lb1", &["start a", "start b"])?;
    ensure!(noted(&file, "lb2").is_empty(), "who is dead does nothing");
    pair.director(2).run()?;
    await_noted(&file, "lb2", &["stop b", "stop a"])?;
    pair.await_steady()?;
    fs::remove_file(&file)?;
    ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
    ensure!(noted(&file, "lb1") == ["stop b", "stop a"], "it ended before: {:?}", noted(&file, "lb1"));
    await_noted(&file, "lb2", &["start a", "start b"])
}

#[test]
fn what_a_reload_takes_away_is_stopped_and_what_it_adds_is_started() -> Result<()> {
    let place = TempDir::new()?;
    let file = place.path().join("resources");
    let resource = |name: &str| {
        let [start, stop] = ["start", "stop"].map(|verb| note(&file, &format!("{verb} {name}")));
        format!("- {{ name: {name}, start: {start}, stop: {stop} }}")
    };
    let lines = format!("groups:\n  - name: default\n    resources:\n      {}", resource("a"));
    let pair = Pair::start(2, |cluster| calm(cluster).line(&lines), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    await_noted(&file, "lb1", &["stop a", "start a"])?;
    fs::remove_file(&file)?;
    let changed = pair.config().replace(&resource("a"), &resource("c"));
    pair.reload_all(&changed)?;
    await_noted(&file, "lb1", &["stop a", "start c"])?;
    // The standby has stopped `a` long ago.
    await_noted(&file, "lb2", &["stop c"])?;
    fs::remove_file(&file)?;
    let none = changed.replace(&format!("      resources:\n        {}\n", resource("c")), "");
    ensure!(none != changed, "nothing was taken away");
    pair.reload_all(&none)?;
    await_noted(&file, "lb1", &["stop c"])?;
    pair.await_owner(1, DEFAULT)
}

#[test]
fn a_takeover_command_is_told_the_group_the_role_and_the_addresses() -> Result<()> {
    let place = TempDir::new()?;
    let file = place.path().join("roles");
    let command = note(&file, "takes");
    let lines = format!("groups:\n  - name: cloud\n    takeover: {{ command: {command}, retry: 100ms }}");
    let cloud = |config: Config| DIRECT_VIPS.iter().fold(config, |config, vip| config.group(vip, "cloud"));
    let mut pair = Pair::start(2, |cluster| calm(cluster).line(&lines), cloud)?;
    let [active, standby] =
        ["active", "standby"].map(|role| format!("takes cloud {role} {} {}", DIRECT_VIPS[0], DIRECT_VIPS[1]));
    pair.await_owner(1, "cloud")?;
    await_noted(&file, "lb1", &[&standby, &active])?;
    await_noted(&file, "lb2", &[&standby])?;
    // The command's business, not ours: nobody has the addresses.
    let there = pair.lab().host("director1").run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(!there.contains("192.0.2.10/"), "{there}");
    pair.cli(1, &["handover", "cloud"])?;
    await_noted(&file, "lb1", &[&standby, &active, &standby])?;
    await_noted(&file, "lb2", &[&standby, &active])?;
    pair.director(2).kill9();
    await_noted(&file, "lb1", &[&standby, &active, &standby, &active])?;
    pair.director(2).run()?;
    await_noted(&file, "lb2", &[&standby, &active, &standby])?;
    pair.await_owner(1, "cloud")
}
