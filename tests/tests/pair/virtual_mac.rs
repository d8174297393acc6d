//! VIPs with a virtual MAC: no client ever learns another one, whatever becomes of directors.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::{ArpWatch, Session};
use tests::lab::{Cluster, Config, DIRECT_VIPS, Service, TcpEcho};
use tests::pair::{DEFAULT, Pair};
use tests::wait;

/// A loaded machine may hold things up by so much.
const SLACK: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(10);
/// The port of a service for long connections.
const LINES: u16 = 9;
const MAC: &str = "02:00:5e:00:00:01";

fn with_mac(cluster: Cluster) -> Cluster {
    cluster.dead_after("1s").line(&format!("groups:\n  - {{ name: default, virtual_mac: \"{MAC}\" }}"))
}

/// A service for long connections.
fn with_lines(config: Config) -> Config {
    let lines = Service::tcp("lines", DIRECT_VIPS[0], LINES).scheduler("mh");
    config.service((21..=23).fold(lines, |lines, last| lines.real(&format!("192.0.2.{last}"), 1)))
}

fn echoes(pair: &Pair) -> Result<Vec<TcpEcho>> {
    pair.lab().reals().map(|real| pair.lab().tcp_echo(real.name(), LINES)).collect()
}

fn session(pair: &Pair) -> Result<Session> {
    Session::start(pair.lab().client(), SocketAddr::new(DIRECT_VIPS[0].parse()?, LINES))
}

fn wait_until_active(pair: &Pair, number: u8) -> Result<()> {
    let waited = wait::until(&format!("lb{number} to be active"), PATIENCE, || {
        Ok((pair.role(number, DEFAULT).as_deref() == Some("active")).then_some(()))
    });
    waited.with_context(|| pair.story())
}

fn start() -> Result<Pair> {
    let pair = Pair::start(2, with_mac, with_lines)?;
    pair.await_owner(1, DEFAULT)?;
    Ok(pair)
}

/// The macvlans on a director's machine.
fn macvlans(pair: &Pair, number: u8) -> Result<String> {
    pair.lab().host(&Pair::host(number)).run(&["ip", "-o", "link", "show", "type", "macvlan"])
}

/// The longest time that a VIP is out while something happens, and a while after it.
fn probed(pair: &mut Pair, act: impl FnOnce(&mut Pair) -> Result<()>) -> Result<Duration> {
    let probers = DIRECT_VIPS.map(|vip| pair.probe(vip));
    act(pair)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut longest = Duration::ZERO;
    for prober in probers {
        let probes = prober?.stop()?;
        if probes.lost() > 0 {
            longest = longest.max(probes.longest_gap());
        }
    }
    Ok(longest)
}

/// How often this director's program counted this.
fn counted(pair: &Pair, number: u8, reason: &str) -> Result<u64> {
    let status = pair.status(number).context("no status")?;
    let reasons = status["reasons"].as_array().context("no reasons")?.clone();
    let found = reasons.iter().find(|one| one["name"] == reason);
    Ok(found.and_then(|one| one["count"].as_u64()).unwrap_or(0))
}

/// How many TCP resets a machine's kernel has sent.
fn resets(pair: &Pair, number: u8) -> Result<u64> {
    let text = pair
        .lab()
        .host(&Pair::host(number))
        .within(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let mut both = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = both.find(|(name, _)| *name == "OutRsts").context("no OutRsts")?;
    Ok(value.parse()?)
}

#[test]
fn clients_know_one_mac_through_handover_crash_and_death() -> Result<()> {
    let mut pair = start()?;
    let client = pair.lab().client().clone();
    for vip in DIRECT_VIPS {
        client.run(&["ping", "-c1", "-W1", vip])?;
    }
    let watch = ArpWatch::start(&client)?;
    let lost = probed(&mut pair, |pair| {
        pair.cli(1, &["handover"])?;
        pair.await_owner(2, DEFAULT)
    })?;
    // The old owner lets go of the MAC when it hears that there is a new one, which has yet to make its macvlan.
    ensure!(lost <= SLACK / 4, "a handover cost {lost:?}\n{}", pair.story());
    let lost = probed(&mut pair, |pair| {
        pair.director(2).kill9();
        wait_until_active(pair, 1)
    })?;
    // Its lease ends when it would be found dead, and what comes for the MAC is dropped until somebody else has it.
    ensure!(lost <= SLACK, "a crash cost {lost:?}\n{}", pair.story());
    ensure!(macvlans(&pair, 2)?.contains(MAC), "a crash leaves nothing: the test shows nothing");
    pair.director(2).run()?;
    pair.await_steady()?;
    let left = macvlans(&pair, 2)?;
    ensure!(left.is_empty(), "{left}");
    let fault = pair.lab().freeze_host("director1")?;
    wait_until_active(&pair, 2)?;
    for vip in DIRECT_VIPS {
        client.run(&["ping", "-c1", "-W1", vip])?;
    }
    fault.heal()?;
    pair.await_owner(2, DEFAULT)?;
    for vip in DIRECT_VIPS {
        let vip = vip.parse()?;
        let said = watch.of(vip);
        ensure!(!said.is_empty(), "nothing was said of {vip}");
        ensure!(said.iter().all(|one| one.mac == MAC), "{vip}: {said:?}");
        ensure!(client.neighbour(vip)?.as_deref() == Some(MAC), "{vip}: {:?}", client.neighbour(vip)?);
    }
    Ok(())
}

#[test]
fn the_interface_keeps_its_own_mac_for_its_own_address() -> Result<()> {
    let pair = start()?;
    let client = pair.lab().client();
    let own = pair.lab().host("director1").mac("eth0")?;
    ensure!(own != MAC, "the test shows nothing");
    for _ in 0..5 {
        for address in ["192.0.2.11", "2001:db8::11"] {
            client.run(&["ip", "neigh", "flush", "to", address])?;
            client.run(&["ping", "-c1", "-W1", address])?;
            let found = client.neighbour(address.parse()?)?;
            ensure!(found.as_deref() == Some(&own), "{address} is at {found:?}, not at {own}");
        }
    }
    let there = macvlans(&pair, 1)?;
    ensure!(there.contains(MAC) && macvlans(&pair, 2)?.is_empty(), "{there}");
    Ok(())
}

#[test]
fn a_reload_with_a_virtual_mac_costs_nothing() -> Result<()> {
    let pair = start()?;
    let _echoes = echoes(&pair)?;
    let session = session(&pair)?;
    let (probes, before) = (pair.probe(DIRECT_VIPS[0])?, resets(&pair, 1)?);
    for _ in 0..5 {
        pair.reload_all(pair.config())?;
    }
    let probes = probes.stop()?;
    session.finish()?.ensure_whole()?;
    ensure!(probes.lost() == 0, "{probes}\n{}", pair.story());
    ensure!(resets(&pair, 1)? == before, "the kernel refused somebody");
    Ok(())
}

/// Its kernel still has the MAC and the VIPs, and knows none of the connections.
#[test]
fn an_owner_that_froze_refuses_no_connection_of_the_new_ones() -> Result<()> {
    let mut pair = start()?;
    let _echoes = echoes(&pair)?;
    let session = session(&pair)?;
    let (before, dropped) = (resets(&pair, 1)?, counted(&pair, 1, "drop_no_lease")?);
    pair.director(1).freeze()?;
    wait_until_active(&pair, 2)?;
    ensure!(macvlans(&pair, 1)?.contains(MAC), "it let go: the test shows nothing");
    // A switch that forgets where a MAC is sends its frames to everybody.
    let switch = pair.lab().host("switch");
    for _ in 0..20 {
        switch.run(&["bridge", "fdb", "replace", MAC, "dev", "director1", "master", "dynamic"])?;
        std::thread::sleep(Duration::from_millis(20));
        switch.run(&["bridge", "fdb", "replace", MAC, "dev", "director2", "master", "dynamic"])?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let report = session.finish()?;
    ensure!(resets(&pair, 1)? == before, "the frozen owner's kernel refused connections");
    report.ensure_unbroken()?;
    pair.director(1).thaw()?;
    pair.await_owner(2, DEFAULT)?;
    ensure!(counted(&pair, 1, "drop_no_lease")? > dropped, "no frame came to it: the test shows nothing");
    Ok(())
}
