//! What an operator does with a pair: handing over, holding, reloading, looking.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::clients::Load;
use tests::lab::DIRECT_VIPS;
use tests::pair::{DEFAULT, Pair, group_of};
use tests::wait;

#[test]
fn a_handover_there_and_back_costs_no_packet_and_no_request() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    pair.await_owner(1, DEFAULT)?;
    let load = Load::new(&format!("http://{}/", DIRECT_VIPS[0]), Duration::from_secs(4)).connections(8);
    let load = load.start(pair.lab().client())?;
    let probes = pair.probe(DIRECT_VIPS[0])?;
    for (from, to) in [(1, 2), (2, 1), (1, 2)] {
        let said = pair.cli(from, &["handover"])?;
        ensure!(said.contains(&format!("{DEFAULT} is held by lb{to} now")), "{said}");
        pair.await_owner(to, DEFAULT)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}");
    load.finish()?.ensure_clean()?;
    let status = pair.status(2).context("no status")?;
    let why = group_of(&status, DEFAULT).context("no group")?["why"].to_string();
    ensure!(why.contains("lb1 gave it to us"), "{why}");
    Ok(())
}

#[test]
fn a_held_director_stays_standby_over_a_restart_and_says_so() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let said = pair.cli(1, &["hold"])?;
    ensure!(said.contains("gave away default"), "{said}");
    pair.await_owner(2, DEFAULT)?;
    let refused = pair.director(2).cli(&["handover"])?;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && stderr.contains("lb1 is held by an operator"), "{stderr}");
    ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
    pair.director(1).run()?;
    pair.await_steady()?;
    let status = pair.status(1).context("no status")?;
    ensure!(status["pair"]["cluster"]["held"] == true, "{status:#}");
    pair.cli(1, &["hold", "--off"])?;
    pair.cli(2, &["handover"])?;
    pair.await_owner(1, DEFAULT)
}

#[test]
fn what_cannot_be_handed_over_stays_and_the_reason_is_told() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let told = |pair: &mut Pair, number: u8, arguments: &[&str]| -> Result<String> {
        let output = pair.director(number).cli(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let said = told(&mut pair, 1, &["handover", "blue"])?;
    ensure!(said.contains("there is no group `blue`; there are: default"), "{said}");
    let said = told(&mut pair, 2, &["handover", DEFAULT])?;
    ensure!(said.contains("this director does not hold `default`: lb1 does"), "{said}");
    let said = told(&mut pair, 1, &["handover", "--to", "lb9"])?;
    ensure!(said.contains("there is no director `lb9`"), "{said}");
    pair.director(2).kill9();
    wait::until("lb2 to be dead", Duration::from_secs(10), || {
        let status = pair.status(1).context("no status")?;
        Ok((status["pair"]["cluster"]["peers"][0]["alive"] == false).then_some(()))
    })?;
    let said = told(&mut pair, 1, &["handover"])?;
    ensure!(said.contains("no other director can take `default`: lb2 is not heard"), "{said}");
    let said = told(&mut pair, 1, &["hold"])?;
    ensure!(said.contains("lb2 is not heard"), "{said}");
    pair.await_owner(1, DEFAULT)
}

#[test]
fn a_reload_keeps_roles_and_a_different_file_is_a_warning_until_both_have_it() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let term = |pair: &Pair| -> Result<String> {
        let status = pair.status(1).context("no status")?;
        Ok(group_of(&status, DEFAULT).context("no group")?["term"].to_string())
    };
    let before = term(&pair)?;
    let probes = pair.probe(DIRECT_VIPS[0])?;
    let changed = pair.config().replace("interval: 100ms", "interval: 50ms");
    let output = pair.director(1).reload(changed.clone())?;
    ensure!(output.status.success(), "{output:?}");
    let differs = |pair: &Pair, number: u8, wanted: bool| {
        wait::until("the configurations to be compared", Duration::from_secs(10), || {
            let status = pair.status(number).context("no status")?;
            let problems = status["problems"].to_string();
            Ok((problems.contains("has another configuration") == wanted).then_some(()))
        })
    };
    differs(&pair, 1, true)?;
    differs(&pair, 2, true)?;
    let output = pair.director(2).reload(changed)?;
    ensure!(output.status.success(), "{output:?}");
    differs(&pair, 1, false)?;
    differs(&pair, 2, false)?;
    pair.await_owner(1, DEFAULT)?;
    let probes = probes.stop()?;
    ensure!(probes.lost() == 0, "{probes}");
    ensure!(term(&pair)? == before, "the reload moved the role");
    // What cannot be used changes nothing.
    let wrong = pair.config().replace("lb1", "other");
    let output = pair.director(1).reload(wrong)?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && stderr.contains("--node"), "{stderr}");
    pair.await_owner(1, DEFAULT)
}

#[test]
fn the_status_of_either_shows_the_whole_cluster() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    for (number, other) in [(1, "lb2"), (2, "lb1")] {
        wait::until("figures of both links", Duration::from_secs(10), || {
            let status = pair.status(number).context("no status")?;
            let peer = &status["pair"]["cluster"]["peers"][0];
            let links = peer["links"].as_array().context("no links")?;
            let measured = links.len() == 2 && links.iter().all(|link| link["delay_milliseconds"].is_f64());
            Ok((measured && peer["name"] == other && peer["same_config"] == true).then_some(()))
        })?;
        let text = pair.cli(number, &["status"])?;
        for part in [format!("this is lb{number}"), "default  lb1".to_owned(), "10.255.0.1".to_owned()] {
            ensure!(text.contains(&part), "no {part:?} in\n{text}");
        }
    }
    Ok(())
}

#[test]
fn a_vip_that_somebody_deletes_comes_back_and_one_that_somebody_adds_goes() -> Result<()> {
    let pair = Pair::start(2, |cluster| cluster, |config| config)?;
    let [active, standby] = ["director1", "director2"].map(|host| pair.lab().host(host));
    let has = |host: &tests::lab::Host| -> Result<bool> {
        Ok(host.run(&["ip", "-o", "address", "show", "dev", "eth0"])?.contains("192.0.2.10/"))
    };
    active.run(&["ip", "address", "del", "192.0.2.10/32", "dev", "eth0"])?;
    wait::until("the VIP to come back", Duration::from_secs(3), || Ok(has(active)?.then_some(())))?;
    standby.run(&["ip", "address", "add", "192.0.2.10/32", "dev", "eth0"])?;
    wait::until("the VIP to go", Duration::from_secs(3), || Ok((!has(standby)?).then_some(())))
}
