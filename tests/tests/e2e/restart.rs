//! The daemon's end, however it comes, ends no connection, and its successor takes everything over.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tests::clients::{ArpWatch, Curl, Kind, Load, Session, Sighting};
use tests::lab::{Config, Daemon, Lab, Service};
use tests::wait;

use crate::farm::{self, LOAD, WAYS, real, url, web, with_reals};

fn config() -> Config {
    WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let echo = with_reals(Service::tcp(&format!("{name}-echo"), vip, 7), vip, nat, &[1, 1, 1]);
        config.service(web(name, vip, nat, &[1, 1, 1])).service(echo)
    })
}

#[test]
fn kills_and_restarts_under_load_cost_nothing() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let mut director = lab.director(config())?;
    let mut sessions = Vec::new();
    for (_, vip, _) in WAYS {
        for _ in 0..3 {
            sessions.push(Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?);
        }
    }
    let mut loads = Vec::new();
    for (name, vip, _) in WAYS {
        let load = Load::new(&url(vip, 80), LOAD + LOAD).connections(6).threads(1);
        loads.push((name, load.close().start(lab.client())?));
    }
    // wrk does not time how long connecting takes; these do.
    let over = AtomicBool::new(false);
    let connected = thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_until(&over, &lab, &WAYS));
        let restarted = restart_often(&mut director);
        over.store(true, Ordering::Relaxed);
        let connected = connecting.join().map_err(|_| anyhow!("the connecting thread panicked"));
        restarted.and(connected?)
    })?;
    ensure!(connected > 20, "only {connected} connections were made meanwhile");
    for (name, load) in loads {
        let clean = load.finish()?.ensure_clean();
        clean.with_context(|| format!("{name}; the director counted {:#}", counted(&director)))?;
    }
    for session in sessions {
        session.finish()?.ensure_whole()?;
    }
    Ok(())
}

/// What the director says it passed and dropped, for whoever reads why a test failed.
fn counted(director: &Daemon) -> serde_json::Value {
    director.status().map_or_else(|error| format!("{error:#}").into(), |status| status["reasons"].clone())
}

fn restart_often(director: &mut Daemon) -> Result<()> {
    for round in 0..4 {
        if round % 2 == 0 {
            director.kill9();
        } else {
            ensure!(director.terminate()?.success(), "SIGTERM: {}", director.log());
        }
        director.run()?;
        director.await_reachable()?;
        let replaced = director.status()?["interfaces"][0]["replaced"] == true;
        ensure!(replaced, "the successor attached anew");
    }
    Ok(())
}

/// Makes one connection after the other, each of which has to be answered in time, and counts them.
fn connect_until(over: &AtomicBool, lab: &Lab, ways: &[(&str, &str, bool)]) -> Result<u32> {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        for (name, vip, _) in ways {
            let session = Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?;
            session.finish()?.ensure_whole().with_context(|| format!("new connection {count} to {name}"))?;
            count += 1;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(count)
}

#[test]
fn a_successor_with_another_layout_of_maps_replaces_the_program_in_place() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    // Without its flows, only what a client's address tells finds the real server again.
    let direct = &WAYS[..2];
    let config = |check: &str| {
        direct.iter().fold(Config::new(), |config, (name, vip, nat)| {
            let check = if *name == "direct6" { check } else { "{ type: tcp, interval: 5s }" };
            let echo = Service::tcp(name, vip, 7).scheduler("mh").set("check", check);
            config.service(with_reals(echo, vip, *nat, &[1, 1, 1]))
        })
    };
    let mut director = lab.director(config("{ type: tcp, interval: 5s }"))?;
    wait::until("every real server to be up", Duration::from_secs(10), || {
        let status = director.status()?;
        let services = status["services"].as_array().context("no services")?;
        let mut reals = services.iter().filter_map(|service| service["reals"].as_array()).flatten();
        Ok(reals.all(|real| real["health"]["state"] == "up").then_some(()))
    })?;
    // Who is up is known a moment before it has its part of the traffic; after a reload it has.
    director.cli_ok(&["reload"])?;
    // From the next start on, one of two services has no verdict as long as this takes.
    let slow = lab.directory().join("slow");
    fs::write(&slow, "#!/bin/sh\nexec sleep 60\n")?;
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755))?;
    let slow = format!("{{ type: external, command: {}, interval: 61s, timeout: 61s }}", slow.display());
    director.write_config(config(&slow))?;
    let start =
        |(_, vip, _): &(&str, &str, bool)| Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7));
    let sessions: Vec<Session> = direct.iter().cycle().take(6).map(start).collect::<Result<_>>()?;
    let over = AtomicBool::new(false);
    let connected = thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_until(&over, &lab, direct));
        let succeeded = make_layout_another(&mut director).and_then(|()| director.run());
        let succeeded = succeeded.and_then(|()| director.await_reachable());
        over.store(true, Ordering::Relaxed);
        let connected = connecting.join().map_err(|_| anyhow!("the connecting thread panicked"));
        succeeded.and(connected?)
    });
    let connected = connected.with_context(|| director.log())?;
    ensure!(connected > 5, "only {connected} connections were made meanwhile");
    for session in sessions {
        session.finish()?.ensure_whole().with_context(|| director.log())?;
    }
    let status = director.status()?;
    ensure!(status["interfaces"][0]["replaced"] == true, "attached anew: {status}");
    ensure!(layouts(&director)?.len() == 1, "{:?}", layouts(&director)?);

    // Nor does the end leave anything of the other one.
    make_layout_another(&mut director)?;
    director.cli_ok(&[
        "stop".as_ref(),
        "--detach".as_ref(),
        "--pins".as_ref(),
        director.pins().as_os_str(),
    ])?;
    ensure!(!director.pins().exists(), "{:?}", layouts(&director)?);
    ensure!(
        !lab.host("director").run(&["ip", "link", "show", "eth0"])?.contains("xdp"),
        "it is still attached"
    );
    Ok(())
}

/// Ends the daemon, and makes its pins look like those of another release: a successor reads nothing of what they hold.
fn make_layout_another(director: &mut Daemon) -> Result<()> {
    ensure!(director.terminate()?.success(), "{}", director.log());
    let layouts = layouts(director)?;
    ensure!(layouts.len() == 1, "{layouts:?}");
    Ok(fs::rename(&layouts[0], director.pins().join("v4294967295"))?)
}

/// The directories of pins.
fn layouts(director: &Daemon) -> Result<Vec<PathBuf>> {
    fs::read_dir(director.pins())?.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn without_its_daemon_the_data_plane_serves_new_connections() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let mut director = lab.director(config())?;
    director.kill9();
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 12).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{name}: {answers}");
    }
    Ok(())
}

#[test]
fn a_director_that_is_alone_announces_the_vips_that_it_adds() -> Result<()> {
    let lab = Lab::builder().without_vips().build()?;
    let watch = ArpWatch::start(lab.client())?;
    let _director = lab.director(config())?;
    let mac = lab.host("director").mac("eth0")?;
    for (_, vip, _) in WAYS {
        let announced = |one: &Sighting| one.kind == Kind::Gratuitous && one.mac == mac;
        wait::until(&format!("{vip} to be announced"), Duration::from_secs(5), || {
            Ok(watch.of(vip.parse()?).iter().any(announced).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn what_changed_while_no_daemon_ran_is_in_force_afterwards() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let mut director = lab.director(config())?;
    director.cli_ok(&["drain", "direct4", "192.0.2.22"])?;
    director.kill9();
    let changed = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        config.service(web(&format!("renamed-{name}"), vip, nat, &[1, 1]))
    });
    director.write_config(changed)?;
    director.run()?;
    director.await_reachable()?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 12).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real3") == 0, "{name}: {answers}");
        ensure!(answers.of("real1") > 0 && answers.of("real2") > 0, "{name}: {answers}");
    }
    Ok(())
}

#[test]
fn what_an_operator_set_outlives_the_daemon() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let mut director = lab.director(config())?;
    for (name, vip, _) in WAYS {
        director.cli_ok(&["drain", name, &real(2, vip)])?;
    }
    director.kill9();
    drained(&lab, "without a daemon")?;
    director.run()?;
    director.await_reachable()?;
    let status = director.status()?;
    for (name, _, _) in WAYS {
        let services = status["services"].as_array().context("no services in the status")?;
        let service = services.iter().find(|service| service["name"] == name);
        let reals = &service.with_context(|| format!("no {name} in {services:?}"))?["reals"];
        let weights = [0, 1, 2].map(|index| (&reals[index]["weight"], &reals[index]["overridden"]));
        let kept =
            weights.iter().zip([1, 0, 1]).all(|(set, weight)| *set.0 == weight && *set.1 == (weight == 0));
        ensure!(kept, "{name}: weights in force and whether set by an operator: {weights:?}");
    }
    drained(&lab, "after the restart")
}

/// Fails unless real1 and real3 serve every way by themselves.
fn drained(lab: &Lab, when: &str) -> Result<()> {
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 12).run(lab.client())?;
        let spread = answers.of("real1") > 0 && answers.of("real2") == 0 && answers.of("real3") > 0;
        ensure!(answers.failed == 0 && spread, "{name} {when}: {answers}");
    }
    Ok(())
}

#[test]
fn stop_with_detach_takes_everything_down() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(config())?;
    let before = lab.host("director").run(&["ip", "link", "show", "eth0"])?;
    ensure!(before.contains("xdp"), "{before}");
    let pins = director.pins().display().to_string();
    director.cli_ok(&["stop", "--detach", "--pins", &pins])?;
    tests::wait::until("the program to go", std::time::Duration::from_secs(5), || {
        let after = lab.host("director").run(&["ip", "link", "show", "eth0"])?;
        Ok((!after.contains("xdp") && !director.pins().exists()).then_some(()))
    })
}
