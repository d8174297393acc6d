//! Directors that do not hear each other: who holds the VIPs meanwhile, and how it ends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::{ArpWatch, Kind};
use tests::lab::{DIRECT_VIPS, Way};
use tests::pair::{DEFAULT, Pair, group_of};
use tests::wait;

fn role(pair: &Pair, number: u8) -> Option<String> {
    pair.role(number, DEFAULT)
}

fn both_hold(pair: &Pair) -> Result<()> {
    wait::until("both to hold the VIPs", Duration::from_secs(10), || {
        Ok([1, 2].iter().all(|number| role(pair, *number).as_deref() == Some("active")).then_some(()))
    })
}

/// Two directors cannot tell a dead peer from a broken network: both hold the VIPs. When they hear each other again, one lets go,
/// and the other one announces once more, so that clients' caches end right.
#[test]
fn after_a_partition_one_lets_go_and_the_other_announces_again() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let fault = pair.lab().partition(&["director1"], &["director2"], Way::Both)?;
    both_hold(&pair)?;
    for vip in DIRECT_VIPS {
        pair.lab().client().run(&["ping", "-c1", "-W1", vip])?;
    }
    let watch = ArpWatch::start(pair.lab().client())?;
    let probes = pair.probe(DIRECT_VIPS[0])?;
    let healed = std::time::Instant::now();
    fault.heal()?;
    pair.await_owner(1, DEFAULT)?;
    let mac = pair.lab().host("director1").mac("eth0")?;
    for vip in DIRECT_VIPS {
        let vip = vip.parse()?;
        wait::until("the survivor to announce again", Duration::from_secs(5), || {
            let said = watch.of(vip);
            let again =
                said.iter().any(|one| one.at > healed && one.mac == mac && one.kind == Kind::Gratuitous);
            Ok(again.then_some(()))
        })?;
        // After it, nobody else says anything of it.
        std::thread::sleep(Duration::from_millis(300));
        let said = watch.of(vip);
        ensure!(said.last().is_some_and(|last| last.mac == mac), "the last word on {vip}: {:?}", said.last());
        ensure!(pair.lab().client().neighbour(vip)?.as_deref() == Some(&mac), "{vip}: a stale cache");
    }
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}");
    let story = pair.status(2).context("no status")?;
    let why = group_of(&story, DEFAULT).context("no group")?["why"].to_string();
    ensure!(why.contains("lb1 holds it too, and comes first"), "{why}");
    Ok(())
}

/// Whom nobody can tell that it is not alone, stays: the other one gives in, though it comes first by configuration.
#[test]
fn when_only_one_hears_the_other_the_one_that_hears_gives_in() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    // lb2 hears nothing of lb1, and takes the VIPs; lb1 hears that.
    let fault = pair.lab().partition(&["director2"], &["director1"], Way::In)?;
    pair.await_owner(2, DEFAULT)?;
    let status = pair.status(1).context("no status")?;
    let peer = &status["pair"]["cluster"]["peers"][0];
    ensure!(peer["alive"] == true && peer["hears_us"] == false, "{peer:#}");
    fault.heal()?;
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)
}

/// As long as one link is left, nothing happens at all.
#[test]
fn a_dead_link_beside_a_living_one_moves_nothing() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let term = |pair: &Pair| -> Result<String> {
        let status = pair.status(2).context("no status")?;
        Ok(group_of(&status, DEFAULT).context("no group")?["term"].to_string())
    };
    let before = term(&pair)?;
    let fault = pair.lab().cut_silent(("director2", "hbswitch"), Way::Both)?;
    wait::until("the silent link to be seen", Duration::from_secs(10), || {
        let status = pair.status(1).context("no status")?;
        let links = &status["pair"]["cluster"]["peers"][0]["links"];
        Ok((links[1]["heard"] == false && links[0]["heard"] == true).then_some(()))
    })?;
    pair.await_owner(1, DEFAULT)?;
    drop(fault);
    pair.await_steady()?;
    ensure!(term(&pair)? == before, "the role moved");
    Ok(())
}

/// With a quorum, the smaller part lets go before the larger one takes.
#[test]
fn of_three_the_one_that_is_cut_off_lets_go() -> Result<()> {
    let pair = Pair::start(3, |cluster| cluster.line("quorum: majority"), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let fault = pair.lab().partition(&["director1"], &["director2", "director3"], Way::Both)?;
    pair.await_owner(2, DEFAULT)?;
    ensure!(role(&pair, 1).as_deref() != Some("active"), "lb1 holds on without a quorum");
    let left = pair.lab().host("director1").run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(!left.contains("192.0.2.10/"), "{left}");
    fault.heal()?;
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)
}

/// Two that are cut from each other, but only one from the witness as well: that one lets go, as Heartbeat's ipfail has it.
#[test]
fn who_reaches_no_witness_and_no_director_lets_go() -> Result<()> {
    let witness = "ping: [192.0.2.100]\nping_interval: 200ms\nsettle: 500ms";
    let pair = Pair::start(2, |cluster| cluster.line(witness), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let fault = pair.lab().cut_silent("director1", Way::Both)?;
    pair.await_owner(2, DEFAULT)?;
    let status = pair.status(1).context("no status")?;
    let why = group_of(&status, DEFAULT).context("no group")?["unable"].to_string();
    ensure!(why.contains("this director reaches no witness"), "{why}");
    drop(fault);
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)
}

/// Both are heard, but only one reaches the witness: it gets the VIPs though nobody is dead.
#[test]
fn who_reaches_more_witnesses_gets_the_vips() -> Result<()> {
    let witness = "ping: [192.0.2.100]\nping_interval: 200ms\nsettle: 500ms";
    let pair = Pair::start(2, |cluster| cluster.line(witness), |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let fault = pair.lab().partition(&["director1"], &["client"], Way::Both)?;
    pair.await_owner(2, DEFAULT)?;
    let story = pair.status(1).context("no status")?;
    let why = group_of(&story, DEFAULT).context("no group")?["why"].to_string();
    ensure!(why.contains("lb2 has taken it"), "{why}");
    drop(fault);
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)
}
