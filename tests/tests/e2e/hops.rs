//! Next hops: found, followed, through a router, out of another interface.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::clients::Curl;
use tests::lab::{Config, Lab, Service};
use tests::wait;

use crate::farm::{WAYS, url, web};

/// The promise is a second; as much again as half of it is for `status` to be started, and to be a moment old.
const FOLLOWED: Duration = Duration::from_millis(1500);

#[test]
fn a_real_server_that_changes_its_mac_is_followed() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = WAYS
        .into_iter()
        .fold(Config::new(), |config, (name, vip, nat)| config.service(web(name, vip, nat, &[1])));
    let director = lab.director(config)?;
    let real = lab.host("real1");
    // Silently: Linux announces nothing, and the real server has no reason to speak.
    real.run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:be:ef"])?;
    let changed = Instant::now();
    wait::until("the new MAC", Duration::from_secs(5), || {
        let status = director.status()?;
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = services.iter().all(|service| service["reals"][0]["mac"] == "02:00:00:00:be:ef");
        Ok(all.then_some(()))
    })?;
    let took = changed.elapsed();
    println!("followed after {took:?}");
    ensure!(took < FOLLOWED, "followed only after {took:?}");
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 5).run(lab.client())?;
        ensure!(answers.of("real1") == 5, "{name}: {answers}");
    }
    Ok(())
}

#[test]
fn a_real_server_on_another_interface_is_reached_by_redirect() -> Result<()> {
    let lab = Lab::builder().reals(1).with_back().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = Config::new()
        .interface("eth1")
        .service(Service::tcp("back4", "198.51.100.10", 80).nat().real("203.0.113.21", 1))
        .service(Service::tcp("back6", "2001:db8:100::10", 80).nat().real("2001:db8:113::21", 1));
    let _director = lab.director(config)?;
    for vip in ["198.51.100.10", "2001:db8:100::10"] {
        let answers = Curl::new(&url(vip, 80), 10).run(lab.client())?;
        ensure!(answers.of("back1") == 10, "{vip}: {answers}");
    }
    Ok(())
}

#[test]
fn a_real_server_behind_a_router_is_reached_through_it() -> Result<()> {
    let lab = Lab::builder().reals(1).with_router().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = Config::new()
        .service(Service::tcp("far4", "198.51.100.10", 80).nat().real("198.18.0.21", 1))
        .service(Service::tcp("far6", "2001:db8:100::10", 80).nat().real("2001:db8:18::21", 1));
    let director = lab.director(config)?;
    let router = lab.host("router").mac("eth0")?;
    ensure!(director.status()?["services"][0]["reals"][0]["mac"] == router.as_str(), "not the router's MAC");
    for vip in ["198.51.100.10", "2001:db8:100::10"] {
        let answers = Curl::new(&url(vip, 80), 10).run(lab.client())?;
        ensure!(answers.of("far1") == 10, "{vip}: {answers}");
    }
    Ok(())
}

#[test]
fn a_real_server_without_a_next_hop_gets_nothing_until_it_has_one() -> Result<()> {
    let lab = Lab::builder().reals(2).build()?;
    let _nginx = lab.nginx_everywhere()?;
    lab.host("real2").run(&["ip", "link", "set", "eth0", "down"])?;
    let config = WAYS
        .into_iter()
        .fold(Config::new(), |config, (name, vip, nat)| config.service(web(name, vip, nat, &[1, 1])));
    let binary = tests::lab::director_binary()?;
    let director = lab.director_from(&binary, config)?;
    wait::until("real1's next hop", Duration::from_secs(10), || {
        let status = director.status()?;
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(services.iter().all(|service| service["reals"][0]["reachable"] == true).then_some(()))
    })?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 6).run(lab.client())?;
        ensure!(answers.of("real1") == 6, "{name}: {answers}");
    }
    lab.host("real2").run(&["ip", "link", "set", "eth0", "up"])?;
    // IPv6 addresses and routes went with the link.
    lab.host("real2").run(&["ip", "-6", "address", "replace", "2001:db8::22/64", "dev", "eth0", "nodad"])?;
    lab.host("real2").run(&["ip", "-6", "route", "replace", "default", "via", "2001:db8::11"])?;
    lab.host("real2").run(&["ip", "-4", "route", "replace", "default", "via", "192.0.2.11"])?;
    director.await_reachable()?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 10).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real2") >= 3, "{name}: {answers}");
    }
    Ok(())
}
