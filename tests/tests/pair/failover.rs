//! Directors that die in every way there is: what moves, and what it costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::Probes;
use tests::lab::{DIRECT_VIPS, NAT_VIPS};
use tests::pair::{DEFAULT, Pair};
use tests::wait;

/// A loaded machine may hold things up by so much beside what the design costs; figures come from the bench.
const SLACK: Duration = Duration::from_millis(400);
/// Under NAT, a reply that is under way when its gateway's address moves comes to a director that does not know the request. On a
/// machine that is busy a reply may take some milliseconds.
const UNDER_WAY: Duration = Duration::from_millis(25);
const DEAD_AFTER: Duration = Duration::from_millis(350);

fn pair() -> Result<Pair> {
    Pair::start(2, |cluster| cluster, |config| config)
}

/// What probes of all VIPs see while something happens.
fn watched(
    pair: &mut Pair,
    act: impl FnOnce(&mut Pair) -> Result<()>,
) -> Result<Vec<(&'static str, Probes)>> {
    let vips = DIRECT_VIPS.into_iter().chain(NAT_VIPS);
    let probers = vips.map(|vip| Ok((vip, pair.probe(vip)?))).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_millis(100));
    act(pair)?;
    // What follows a takeover (bursts, late losers) belongs to it.
    std::thread::sleep(Duration::from_millis(500));
    probers.into_iter().map(|(vip, prober)| Ok((vip, prober.stop()?))).collect()
}

fn cost_at_most(pair: &Pair, seen: &[(&str, Probes)], most: Duration) -> Result<()> {
    for (vip, probes) in seen {
        ensure!(probes.longest_gap() <= most, "{vip}: {probes}, more than {most:?}\n{}", pair.story());
    }
    Ok(())
}

/// Fails if anything was lost but what NAT cannot help.
pub fn cost_nothing(pair: &Pair, seen: &[(&str, Probes)]) -> Result<()> {
    for (vip, probes) in seen {
        let was_under_way = NAT_VIPS.contains(vip) && probes.longest_gap() <= UNDER_WAY;
        ensure!(probes.lost() == 0 || was_under_way, "{vip}: {probes}\n{}", pair.story());
    }
    Ok(())
}

#[test]
fn a_cold_start_of_both_has_the_one_of_higher_priority_hold_the_vips() -> Result<()> {
    let pair = pair()?;
    pair.await_owner(1, DEFAULT)?;
    let mac = pair.lab().host("director1").mac("eth0")?;
    for vip in DIRECT_VIPS {
        pair.lab().client().run(&["ping", "-c1", "-W1", vip])?;
        ensure!(pair.lab().client().neighbour(vip.parse()?)?.as_deref() == Some(&mac), "{vip} is not at lb1");
    }
    Ok(())
}

#[test]
fn a_machine_that_dies_costs_its_dead_time() -> Result<()> {
    let mut pair = pair()?;
    pair.await_owner(1, DEFAULT)?;
    let mut fault = None;
    let seen = watched(&mut pair, |pair| {
        fault = Some(pair.lab().freeze_host("director1")?);
        wait_for_role(pair, 2, "active")
    })?;
    cost_at_most(&pair, &seen, DEAD_AFTER + SLACK)?;
    ensure!(seen.iter().all(|(_, probes)| probes.lost() > 0), "nothing died");
    // It wakes: it must let go before anything else, and nobody may notice.
    let seen = watched(&mut pair, |pair| {
        fault.take().context("no fault")?.heal()?;
        pair.await_owner(2, DEFAULT)
    })?;
    cost_nothing(&pair, &seen)
}

#[test]
fn a_pulled_cable_costs_the_dead_time_and_without_failback_nothing_when_it_is_plugged_in_again() -> Result<()>
{
    let mut pair = pair()?;
    let mut fault = None;
    let seen = watched(&mut pair, |pair| {
        fault = Some(pair.lab().cut_cable("director1")?);
        wait_for_role(pair, 2, "active")
    })?;
    cost_at_most(&pair, &seen, DEAD_AFTER + SLACK)?;
    let seen = watched(&mut pair, |pair| {
        fault.take().context("no fault")?.heal()?;
        pair.await_steady()?;
        pair.await_owner(2, DEFAULT)
    })?;
    cost_nothing(&pair, &seen)
}

#[test]
fn only_the_vips_cable_is_pulled_and_the_heartbeat_goes_on_by_the_other_link() -> Result<()> {
    let mut pair = pair()?;
    let mut fault = None;
    let seen = watched(&mut pair, |pair| {
        fault = Some(pair.lab().cut_cable(("director1", "switch"))?);
        pair.await_owner(2, DEFAULT)
    })?;
    // It says itself that it cannot hold them: nobody waits for silence.
    cost_at_most(&pair, &seen, SLACK)?;
    let unable = pair.status(1).context("no status")?;
    let why = tests::pair::group_of(&unable, DEFAULT).context("no group")?["unable"].to_string();
    ensure!(why.contains("the link eth0 is down"), "{why}");
    drop(fault);
    pair.await_steady()
}

#[test]
fn a_killed_daemon_costs_nothing_and_its_vips_move() -> Result<()> {
    let mut pair = pair()?;
    let seen = watched(&mut pair, |pair| {
        pair.director(1).kill9();
        wait_for_role(pair, 2, "active")
    })?;
    cost_nothing(&pair, &seen)?;
    let client = pair.lab().client();
    let mac = pair.lab().host("director2").mac("eth0")?;
    // The dead one's kernel still has the addresses; it must not answer for them, to anybody who asks anew.
    let left = pair.lab().host("director1").run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(left.contains(DIRECT_VIPS[0]), "the addresses are not there: the test shows nothing: {left}");
    for _ in 0..5 {
        for vip in DIRECT_VIPS {
            client.run(&["ip", "neigh", "flush", "to", vip])?;
            client.run(&["ping", "-c1", "-W1", vip])?;
            let found = client.neighbour(vip.parse()?)?;
            ensure!(found.as_deref() == Some(&mac), "{vip} is at {found:?}, not at lb2 ({mac})");
        }
    }
    // It comes back: what it left is removed, and it stays standby.
    pair.director(1).run()?;
    pair.await_steady()?;
    pair.await_owner(2, DEFAULT)?;
    let left = pair.lab().host("director1").run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(!left.contains("192.0.2.10/"), "{left}");
    Ok(())
}

#[test]
fn sigterm_hands_over_first_and_costs_nothing() -> Result<()> {
    let mut pair = pair()?;
    let seen = watched(&mut pair, |pair| {
        ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
        wait_for_role(pair, 2, "active")
    })?;
    cost_nothing(&pair, &seen)?;
    let left = pair.lab().host("director1").run(&["ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(!left.contains("192.0.2.10/") && !left.contains("2001:db8::10/"), "{left}");
    // A standby that restarts is noticed by nobody.
    let seen = watched(&mut pair, |pair| {
        pair.director(1).run()?;
        pair.await_steady()
    })?;
    cost_nothing(&pair, &seen)?;
    pair.await_owner(2, DEFAULT)
}

#[test]
fn without_a_peer_sigterm_leaves_the_data_plane_and_the_vips() -> Result<()> {
    let mut pair = pair()?;
    ensure!(pair.director(2).terminate()?.success(), "{}", pair.story());
    pair.await_owner(1, DEFAULT)?;
    let seen = watched(&mut pair, |pair| {
        ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
        pair.lab().client().run(&["ip", "neigh", "flush", "all"])?;
        Ok(())
    })?;
    cost_at_most(&pair, &seen, SLACK)?;
    for vip in DIRECT_VIPS {
        pair.lab().client().run(&["ping", "-c1", "-W1", vip])?;
    }
    Ok(())
}

#[test]
fn an_owner_that_did_not_run_for_long_lets_go_before_it_does_anything() -> Result<()> {
    let mut pair = pair()?;
    let [lb1, lb2] = ["director1", "director2"].map(|host| pair.lab().host(host).mac("eth0"));
    let (lb1, lb2) = (lb1?, lb2?);
    let watch = tests::clients::ArpWatch::start(pair.lab().client())?;
    let mut taken = None;
    let seen = watched(&mut pair, |pair| {
        pair.director(1).freeze()?;
        wait_for_role(pair, 2, "active")?;
        std::thread::sleep(Duration::from_secs(1));
        taken = Some(std::time::Instant::now());
        // Asked anew all the time: whoever answers is heard.
        let client = pair.lab().client().clone();
        pair.director(1).thaw()?;
        for _ in 0..20 {
            for vip in DIRECT_VIPS {
                client.run(&["ip", "neigh", "flush", "to", vip])?;
                client.run(&["ping", "-c1", "-W1", vip])?;
            }
        }
        pair.await_owner(2, DEFAULT)
    })?;
    // Flushing caches loses probes that are under way; the services by NAT are not flushed.
    cost_nothing(&pair, &seen[2..])?;
    let taken = taken.context("never taken")?;
    for vip in DIRECT_VIPS {
        let said = watch.of(vip.parse()?);
        let late: Vec<_> = said.iter().filter(|one| one.at > taken).collect();
        ensure!(late.iter().any(|one| one.mac == lb2), "nobody was asked: the test shows nothing");
        ensure!(late.iter().all(|one| one.mac != lb1), "lb1 answered for {vip}: {late:?}");
    }
    let why = pair.director(1).log();
    ensure!(why.contains("this director did not run for"), "{why}");
    Ok(())
}

#[test]
fn failback_takes_the_vips_back_after_its_delay_and_costs_nothing() -> Result<()> {
    let mut pair = Pair::start(2, |cluster| cluster.line("failback: 1s"), |config| config)?;
    pair.director(1).kill9();
    wait_for_role(&pair, 2, "active")?;
    let seen = watched(&mut pair, |pair| {
        pair.director(1).run()?;
        pair.await_owner(1, DEFAULT)
    })?;
    cost_nothing(&pair, &seen)?;
    let story = pair.director(2).log();
    ensure!(story.contains("lb1 is preferred"), "{story}");
    Ok(())
}

#[test]
fn three_directors_share_two_groups_and_the_dead_ones_goes_to_another() -> Result<()> {
    let groups = |config: tests::lab::Config| {
        let config = config.group(DIRECT_VIPS[0], "blue").group(DIRECT_VIPS[1], "blue");
        config
            .group(NAT_VIPS[0], "red")
            .group(NAT_VIPS[1], "red")
            .group("192.0.2.9", "red")
            .group("2001:db8::9", "red")
    };
    let lines = "quorum: majority\ninitial_wait: 5s\ngroups:\n  - { name: blue, prefer: [lb1] }\n  - { name: red, prefer: [lb2] }";
    let mut pair = Pair::start(3, |cluster| cluster.line(lines), groups)?;
    pair.await_owner(1, "blue")?;
    pair.await_owner(2, "red")?;
    let seen = watched(&mut pair, |pair| {
        pair.director(1).kill9();
        let waited = wait::until("another owner", Duration::from_secs(10), || {
            let roles = [2, 3].map(|number| pair.role(number, "blue"));
            Ok(roles.iter().any(|role| role.as_deref() == Some("active")).then_some(()))
        });
        waited.with_context(|| pair.story())
    })?;
    cost_nothing(&pair, &seen)?;
    pair.await_owner(2, "red")
}

/// Waits until the director of this number has this role for the default group; the others may not answer at all.
fn wait_for_role(pair: &Pair, number: u8, role: &str) -> Result<()> {
    let waited = wait::until(&format!("lb{number} to be {role}"), Duration::from_secs(20), || {
        Ok((pair.role(number, DEFAULT).as_deref() == Some(role)).then_some(()))
    });
    waited.with_context(|| pair.story())
}
