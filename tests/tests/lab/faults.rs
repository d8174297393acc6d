//! Faults do what they say and no more, and are gone when they are healed.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tests::clients::{ArpWatch, Curl, Kind, Prober};
use tests::lab::{Host, Lab, Way};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_pulled_cable_is_noticed_at_both_ends() -> Result<()> {
    let lab = Lab::builder().reals(2).build()?;
    let real = lab.host("real1");
    ensure_reach(lab.client(), real, true)?;
    let fault = lab.cut_cable("real1")?;
    assert!(!has_carrier(real)?);
    ensure_reach(lab.client(), real, false)?;
    ensure_reach(lab.client(), lab.host("real2"), true)?;
    fault.heal()?;
    wait::until("the carrier", PATIENCE, || Ok(has_carrier(real)?.then_some(())))?;
    ensure_reach(lab.client(), real, true)
}

#[test]
fn a_silent_cut_leaves_the_carrier_and_heals_when_it_is_dropped() -> Result<()> {
    let lab = Lab::builder().reals(2).build()?;
    let real = lab.host("real1");
    ensure_reach(lab.client(), real, true)?;
    let fault = lab.cut_silent("real1", Way::Both)?;
    assert!(has_carrier(real)?);
    ensure_reach(lab.client(), real, false)?;
    ensure_reach(real, lab.client(), false)?;
    ensure_reach(lab.client(), lab.host("real2"), true)?;
    drop(fault);
    ensure_reach(lab.client(), real, true)
}

#[test]
fn who_is_cut_off_draws_no_traffic_to_its_port() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let (real, switch) = (lab.host("real1"), lab.host("switch"));
    let mac = real.mac("eth0")?;
    let learnt = || Ok::<_, anyhow::Error>(switch.run(&["bridge", "fdb", "show", "dynamic"])?.contains(&mac));
    for way in [Way::Both, Way::Out] {
        ensure_reach(real, lab.client(), true)?;
        assert!(learnt()?);
        let _fault = lab.cut_silent("real1", way)?;
        switch.run(&["bridge", "fdb", "del", &mac, "dev", "real1", "master"])?;
        ensure_reach(real, lab.client(), false)?;
        assert!(!learnt()?, "the bridge learnt from a cut link");
    }
    Ok(())
}

#[test]
fn one_way_is_the_other_way_open() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let (client, real) = (lab.client(), lab.host("real1"));
    for (way, real_hears) in [(Way::In, false), (Way::Out, true)] {
        let fault = lab.cut_silent("real1", way)?;
        ensure_one_way(if real_hears { (client, real) } else { (real, client) })?;
        fault.heal()?;
        ensure_reach(client, real, true)?;
    }
    Ok(())
}

#[test]
fn a_fault_of_one_link_leaves_the_other() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).build()?;
    let (one, heartbeat) = (lab.host("director1"), "10.255.0.12");
    for fault in
        [lab.cut_silent(("director1", "hbswitch"), Way::Both)?, lab.cut_cable(("director1", "hbswitch"))?]
    {
        ensure_reach(one, lab.host("director2"), true)?;
        assert!(ping(one, heartbeat).is_err());
        drop(fault);
    }
    wait::until("heartbeats", PATIENCE, || Ok(ping(one, heartbeat).ok()))
}

#[test]
fn a_partition_is_between_its_sides_alone() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(3).build()?;
    let [one, two, three] = ["director1", "director2", "director3"].map(|name| lab.host(name));
    let fault = lab.partition(&["director1"], &["director2", "director3"], Way::Both)?;
    let heard = [ArpWatch::start(two)?, ArpWatch::start(three)?];
    for other in ["192.0.2.12", "10.255.0.12", "2001:db8:255::12", "192.0.2.13", "10.255.0.13"] {
        assert!(ping(one, other).is_err(), "{other} answered");
    }
    for own in [one.mac("eth0")?, one.mac("eth1")?] {
        assert!(heard.iter().all(|watch| watch.seen().iter().all(|sighting| sighting.mac != own)));
    }
    ping(two, "10.255.0.13")?;
    for director in [one, two, three] {
        ensure_reach(lab.client(), director, true)?;
    }
    fault.heal()?;
    wait::until("heartbeats", PATIENCE, || Ok(ping(one, "10.255.0.12").ok()))?;
    ensure_reach(one, three, true)
}

#[test]
fn a_partition_can_be_one_way() -> Result<()> {
    let lab = Lab::builder().reals(1).directors(2).with_router().build()?;
    let [one, two] = ["director1", "director2"].map(|name| lab.host(name));
    for (way, from, to) in [(Way::In, one, two), (Way::Out, two, one)] {
        let _fault = lab.partition(&["director1"], &["director2"], way)?;
        ensure_one_way((from, to))?;
    }
    let error = format!("{:#}", lab.partition(&["client"], &["far1"], Way::Both).unwrap_err());
    assert!(error.contains("share no switch"), "{error}");
    Ok(())
}

#[test]
fn a_lossy_link_loses_about_its_share() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _echo = lab.udp_echo("real1", 5353)?;
    let server = SocketAddr::new(lab.host("real1").v4(), 5353);
    // Beforehand, so that no ARP is lost.
    ping(lab.client(), "192.0.2.21")?;
    for (percent, bounds) in [(0, 0..=0), (30, 15..=45), (100, 100..=100)] {
        let _fault = lab.loss("real1", Way::In, percent)?;
        let prober = Prober::start(lab.client(), server, Duration::from_millis(1))?;
        std::thread::sleep(Duration::from_millis(500));
        let seen = prober.stop()?;
        let lost = seen.lost() * 100 / seen.sent();
        assert!(seen.sent() > 100 && bounds.contains(&lost), "{percent} %: {seen}");
    }
    assert!(lab.loss("real1", Way::In, 101).is_err());
    Ok(())
}

#[test]
fn a_frozen_machine_is_dead_and_goes_on_as_it_was() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let real = lab.host("real1");
    let _nginx = lab.nginx("real1")?;
    let alone = real.spawn(&["sleep", "1000"])?;
    ensure_reach(lab.client(), real, true)?;
    let fault = lab.freeze_host("real1")?;
    ensure_reach(lab.client(), real, false)?;
    assert!(has_carrier(real)?);
    let state = || fs::read_to_string(format!("/proc/{}/stat", alone.pid()));
    assert!(state()?.contains(") T "));
    // Within the machine: it is not the cut alone.
    assert!(real.run(&["curl", "-s", "--max-time", "1", "http://127.0.0.1/"]).is_err());
    fault.heal()?;
    wait::until("it to go on", PATIENCE, || Ok((!state()?.contains(") T ")).then_some(())))?;
    let answers = Curl::new("http://192.0.2.21/", 3).run(lab.client())?;
    assert_eq!(answers.of("real1"), 3, "{answers}");
    Ok(())
}

/// Fails unless ARP requests of the one arrive at the other, and answers do not come back; and nothing the other way.
fn ensure_one_way((from, to): (&Host, &Host)) -> Result<()> {
    for (host, other) in [(from, to), (to, from)] {
        host.run(&["ip", "neighbour", "flush", "dev", "eth0"])?;
        let [at_host, at_other] = [ArpWatch::start(host)?, ArpWatch::start(other)?];
        assert!(ping(host, &other.v4().to_string()).is_err(), "{} reached {}", host.name(), other.name());
        let asked = at_other.of(host.v4()).iter().any(|sighting| sighting.kind == Kind::Request);
        assert_eq!(asked, host.name() == from.name(), "{} heard of {}", other.name(), host.name());
        assert!(at_host.of(other.v4()).iter().all(|sighting| sighting.kind != Kind::Reply));
    }
    Ok(())
}

fn ensure_reach(from: &Host, to: &Host, reached: bool) -> Result<()> {
    for address in [to.v4(), to.v6()] {
        let address = address.to_string();
        if reached {
            // A neighbour that did not answer is asked again after a second.
            let what = format!("{} to reach {address}", from.name());
            wait::until(&what, PATIENCE, || Ok(ping(from, &address).ok()))?;
        } else {
            assert!(ping(from, &address).is_err(), "{} reached {address}", from.name());
        }
    }
    Ok(())
}

fn has_carrier(host: &Host) -> Result<bool> {
    Ok(!host.run(&["ip", "-o", "link", "show", "eth0"])?.contains("NO-CARRIER"))
}

fn ping(host: &Host, address: &str) -> Result<()> {
    host.run(&["ping", "-n", "-c", "1", "-W", "1", address]).map(drop)
}
