//! Probers measure what an outage lasts.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::clients::{Connects, Prober, Probes};
use tests::lab::{Lab, Way};
use tests::wait;

const MS: Duration = Duration::from_millis(1);

const PATIENCE: Duration = Duration::from_secs(5);

/// For how long something is looked at, or out.
const WHILE: Duration = Duration::from_millis(400);

/// What the machine may add to what is measured: both CPUs may be busy with other things.
const SLACK: Duration = Duration::from_millis(100);

#[test]
fn without_an_outage_no_datagram_is_lost() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _echo = lab.udp_echo("real1", 5353)?;
    for address in [lab.host("real1").v4(), lab.host("real1").v6()] {
        reach(&lab, address)?;
        let prober = Prober::start(lab.client(), SocketAddr::new(address, 5353), MS)?;
        thread::sleep(WHILE);
        let seen = prober.stop()?;
        println!("{seen}, real time: {}", seen.realtime);
        assert_eq!((seen.lost(), seen.duplicates), (0, 0), "{seen}");
        assert_eq!(seen.by_real().get("real1"), Some(&seen.sent()));
        assert!(seen.sent() > 100 && seen.longest_gap() == seen.longest_stall(), "{seen}");
    }
    Ok(())
}

#[test]
fn an_outage_is_measured_by_datagrams() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _echo = lab.udp_echo("real1", 5353)?;
    let server = SocketAddr::new(lab.host("real1").v6(), 5353);
    reach(&lab, server.ip())?;
    let prober = Prober::start(lab.client(), server, MS)?;
    let outage = cut_for_a_while(&lab)?;
    let seen = prober.stop()?;
    println!("{seen}");
    ensure_one_gap(&seen, &outage);
    assert!(seen.longest_silence() >= seen.longest_gap() - SLACK);
    Ok(())
}

#[test]
fn an_outage_is_measured_by_connections() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _echo = lab.tcp_echo("real1", 7)?;
    let server = SocketAddr::new(lab.host("real1").v4(), 7);
    let every = MS * 10;
    reach(&lab, server.ip())?;
    let connects = Connects::start(lab.client(), server, every, MS * 200)?;
    thread::sleep(WHILE);
    let seen = connects.stop()?;
    println!("{seen}");
    assert!(seen.sent() > 10 && seen.lost() == 0, "{seen}");
    let connects = Connects::start(lab.client(), server, every, MS * 200)?;
    let outage = cut_for_a_while(&lab)?;
    let seen = connects.stop()?;
    println!("{seen}");
    ensure_one_gap(&seen, &outage);
    Ok(())
}

#[test]
fn a_port_that_nobody_listens_at_is_no_answer() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let server = SocketAddr::new(lab.host("real1").v4(), 9);
    let (prober, connects) =
        (Prober::start(lab.client(), server, MS)?, Connects::start(lab.client(), server, MS * 10, MS * 100)?);
    thread::sleep(MS * 100);
    for seen in [prober.stop()?, connects.stop()?] {
        assert!(seen.sent() > 1 && seen.lost() == seen.sent(), "{seen}");
        assert!(seen.longest_gap() >= MS * 50, "{seen}");
    }
    Ok(())
}

/// Waits until the client knows where an address is: see [`Prober::start`].
fn reach(lab: &Lab, address: IpAddr) -> Result<()> {
    let ping = ["ping", "-n", "-c", "1", "-W", "1", &address.to_string()];
    wait::until("the real server to answer", PATIENCE, || Ok(lab.client().run(&ping).ok())).map(drop)
}

/// Cuts the real server off between two whiles without a fault; gives the shortest and the longest that it was out.
fn cut_for_a_while(lab: &Lab) -> Result<RangeInclusive<Duration>> {
    thread::sleep(WHILE);
    let before = Instant::now();
    let fault = lab.cut_silent("real1", Way::Both)?;
    let cut = Instant::now();
    thread::sleep(WHILE);
    let shortest = cut.elapsed();
    fault.heal()?;
    let longest = before.elapsed();
    thread::sleep(WHILE);
    Ok(shortest..=longest)
}

fn ensure_one_gap(seen: &Probes, outage: &RangeInclusive<Duration>) {
    let bounds = *outage.start() - SLACK.min(*outage.start())..=*outage.end() + SLACK;
    assert!(bounds.contains(&seen.longest_gap()), "{seen}, but {outage:?}");
    let lossy: Vec<_> = seen.gaps_over(SLACK).into_iter().filter(|gap| gap.lost > 0).collect();
    assert_eq!(lossy.len(), 1, "{lossy:?}");
    assert_eq!(lossy[0].lost, seen.lost(), "something else was lost: {seen}");
}
