//! Real checks of real nginx decide who serves, with traffic running.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::clients::{Curl, Load, Session};
use tests::lab::{Config, Daemon, Lab, Process, Service};
use tests::wait;

use crate::farm::{self, WAYS, real, url, web, with_reals};

const CHECK: &str = r#"{ type: http, request: /health, receive: "^OK", interval: 200ms, fast_interval: 100ms,
      timeout: 300ms, rise: 2, fall: 2 }"#;
/// Long after a verdict must have changed.
const PATIENCE: Duration = Duration::from_secs(20);

fn watched(name: &str, vip: &str, nat: bool, weights: &[u16]) -> Service {
    web(name, vip, nat, weights).set("check", CHECK)
}

fn watched_everywhere() -> Config {
    WAYS.into_iter()
        .fold(Config::new(), |config, (name, vip, nat)| config.service(watched(name, vip, nat, &[1, 1, 1])))
}

/// State and reason of a service's real server.
fn health(status: &Value, service: &str, number: usize) -> Result<(String, String)> {
    let services = status["services"].as_array().context("no services")?;
    let service = services.iter().find(|found| found["name"] == service).context("no such service")?;
    let health = &service["reals"][number - 1]["health"];
    let text = |key: &str| health[key].as_str().map(str::to_owned).context("no health in the status");
    Ok((text("state")?, text("reason")?))
}

/// Waits until the first real servers of all services are in these states.
fn await_states(director: &Daemon, states: &[&str]) -> Result<()> {
    let all = || {
        let status = director.status()?;
        for service in status["services"].as_array().context("no services")? {
            let name = service["name"].as_str().unwrap_or_default();
            for (i, state) in states.iter().enumerate() {
                if health(&status, name, i + 1)?.0 != *state {
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    };
    let waited = wait::until(&format!("real servers to be {states:?}"), PATIENCE, all);
    waited.with_context(|| format!("events:\n{}", director.cli_ok(&["events"]).unwrap_or_default()))
}

fn events(director: &Daemon) -> Result<Vec<Value>> {
    let text = director.cli_ok(&["events", "--json"])?;
    text.lines().map(|line| serde_json::from_str(line).context("an event")).collect()
}

#[test]
fn a_dead_real_server_is_taken_out_and_comes_back() -> Result<()> {
    let lab = Lab::builder().build()?;
    let mut nginx = lab.nginx_everywhere()?;
    let director = lab.director(watched_everywhere())?;
    await_states(&director, &["up", "up", "up"])?;
    let mut loads = Vec::new();
    for (name, vip, _) in WAYS {
        let load = Load::new(&url(vip, 80), Duration::from_secs(4)).connections(4).threads(1).close();
        loads.push((name, load.start(lab.client())?));
    }
    // wrk gives up where its very first connection fails.
    wait::until("the loads to be under way", PATIENCE, || {
        let status = director.status()?;
        let services = status["services"].as_array().context("no services")?;
        let begun = |service: &Value| service["traffic"]["new_flows"].as_u64().unwrap_or(0) > 50;
        Ok(services.iter().all(begun).then_some(()))
    })?;
    let killed = Instant::now();
    drop(nginx.remove(0));
    await_states(&director, &["down", "up", "up"])?;
    println!("a dead port was taken out {:?} after it died", killed.elapsed());
    for (name, load) in loads {
        let report = load.finish()?;
        println!("{name}: {} of {} requests failed meanwhile", report.errors(), report.requests);
        ensure!(report.requests > 0, "{name}: nothing went on");
    }
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 12).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real1") == 0, "{name}: {answers}");
    }
    let _back = lab.nginx("real1")?;
    await_states(&director, &["up", "up", "up"])?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 12).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real1") > 0, "{name}: {answers}");
    }
    let told = events(&director)?;
    for (name, ..) in WAYS {
        let reasons: Vec<&str> = told
            .iter()
            .filter(|event| event["service"] == name && event["to"] == "down")
            .filter_map(|event| event["reason"].as_str())
            .collect();
        ensure!(reasons == ["connection refused"], "{name}: {reasons:?}");
    }
    Ok(())
}

#[test]
fn each_ailment_is_noticed_and_named() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let director = lab.director(watched_everywhere())?;
    await_states(&director, &["up", "up", "up"])?;
    let cut = |up: bool| {
        let state = if up { "up" } else { "down" };
        lab.host("real1").run(&["ip", "link", "set", "eth0", state]).map(drop)
    };
    type Make<'m> = &'m dyn Fn(bool) -> Result<()>;
    let ailments: [(&str, Make, &[&str]); 4] = [
        ("sick", &|ill| nginx[0].set_sick(ill), &["status 503"]),
        ("slow", &|ill| nginx[0].set_slow(ill), &["in 300ms"]),
        ("frozen", &|ill| nginx[0].set_frozen(ill), &["in 300ms"]),
        ("cut off", &|ill| cut(!ill), &["in 300ms", "no route to host"]),
    ];
    for (name, make, reasons) in ailments {
        let begun = Instant::now();
        make(true)?;
        await_states(&director, &["down", "up", "up"])?;
        println!("{name}: noticed after {:?}", begun.elapsed());
        let (_, reason) = health(&director.status()?, "direct4", 1)?;
        ensure!(reasons.iter().any(|expected| reason.contains(expected)), "{name}: {reason}");
        let answers = Curl::new(&url("192.0.2.10", 80), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real1") == 0, "{name}: {answers}");
        make(false)?;
        if name == "cut off" {
            // An interface that was down has lost its IPv6 addresses.
            lab.host("real1").run(&[
                "ip",
                "-6",
                "address",
                "replace",
                &format!("{}/64", lab.host("real1").v6()),
                "dev",
                "eth0",
                "nodad",
            ])?;
            break;
        }
        await_states(&director, &["up", "up", "up"])?;
    }
    Ok(())
}

#[test]
fn all_down_falls_back_and_returns() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let fallback = format!("{{ address: \"{}\" }}", real(3, vip));
        config.service(watched(name, vip, nat, &[1, 1]).set("fallback", &fallback))
    });
    let mut director = lab.director(config)?;
    await_states(&director, &["up", "up"])?;
    nginx[0].set_sick(true)?;
    nginx[1].set_sick(true)?;
    await_states(&director, &["down", "down"])?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real3") == 6, "{name}: {answers}");
    }
    // A restart does not give up the fallback for real servers of whom nothing is known.
    director.kill9();
    director.run()?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real3") == 6, "{name}, after a restart: {answers}");
    }
    await_states(&director, &["down", "down"])?;
    nginx[1].set_sick(false)?;
    await_states(&director, &["down", "up"])?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real2") == 6, "{name}: {answers}");
    }
    let told = events(&director)?;
    ensure!(told.iter().any(|event| event["from"] == "fallback" && event["service"] == "nat6"), "{told:?}");
    Ok(())
}

#[test]
fn flows_of_a_dead_real_server_end_at_once() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let check = "{ type: tcp, interval: 200ms, timeout: 300ms, rise: 1, fall: 2 }";
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let echo = with_reals(Service::tcp(name, vip, 7), vip, nat, &[1]);
        config.service(echo.set("check", check))
    });
    let director = lab.director(config)?;
    await_states(&director, &["up"])?;
    let mut sessions = Vec::new();
    for (name, vip, _) in WAYS {
        sessions.push((name, Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?));
    }
    // Nothing of it says a word any more: without the director's RSTs, clients would retransmit for minutes.
    lab.host("real1").run(&["ip", "link", "set", "eth0", "down"])?;
    await_states(&director, &["down"])?;
    for (name, session) in sessions {
        let ended = session.finish()?.ensure_whole();
        ensure!(ended.is_err(), "{name}: the connection went on without its real server");
    }
    Ok(())
}

#[test]
fn flows_may_be_kept_and_the_directors_own_server_may_step_in() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let _own = lab.nginx("director")?;
    let down = lab.directory().join("down");
    let check = format!("{{ type: file, path: {}, interval: 200ms, fast_interval: 100ms }}", down.display());
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        let echo = with_reals(Service::tcp(&format!("{name}-echo"), vip, 7), vip, nat, &[1]);
        let echo = echo.set("check", &check).set("on_down", "keep");
        let web = web(name, vip, nat, &[1]).set("check", &check).set("fallback", "local");
        config.service(echo).service(web)
    });
    let director = lab.director(config)?;
    await_states(&director, &["up"])?;
    let mut sessions = Vec::new();
    for (name, vip, _) in WAYS {
        sessions.push((name, Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?));
    }
    fs::write(&down, "")?;
    await_states(&director, &["down"])?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 4).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("director") == 4, "{name}: {answers}");
    }
    for (name, session) in sessions {
        session.finish()?.ensure_whole().context(name)?;
    }
    Ok(())
}

#[test]
fn nothing_flaps_and_no_restart_takes_anybody_out() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let mut director = lab.director(watched_everywhere())?;
    await_states(&director, &["up", "up", "up"])?;
    let mut loads = Vec::new();
    for (_, vip, _) in WAYS {
        let load = Load::new(&url(vip, 80), Duration::from_secs(6)).connections(4).threads(1);
        loads.push(load.close().start(lab.client())?);
    }
    director.kill9();
    director.run()?;
    director.await_reachable()?;
    await_states(&director, &["up", "up", "up"])?;
    director.cli_ok(&["reload"])?;
    for load in loads {
        load.finish()?.ensure_clean()?;
    }
    let told = events(&director)?;
    ensure!(told.iter().all(|event| event["to"] == "up"), "something flapped: {told:?}");
    Ok(())
}

#[test]
fn maintenance_drains_and_probes() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let directory = lab.directory().join("maintenance");
    fs::create_dir(&directory)?;
    let notified = lab.directory().join("notified");
    let command = lab.directory().join("notify");
    fs::write(&command, format!("#!/bin/sh\ncat >> {}\n", notified.display()))?;
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755))?;
    let config = watched_everywhere()
        .line(&format!("maintenance_dir: {}", directory.display()))
        .line(&format!("notify: {{ command: {}, at_most_every: 1s }}", command.display()));
    let director = lab.director(config)?;
    await_states(&director, &["up", "up", "up"])?;

    // A drain is not undone by checks that pass, nor by maintenance that comes and goes.
    director.cli_ok(&["drain", "direct4", "192.0.2.21"])?;
    let v4 = lab.host("real1").v4();
    fs::write(directory.join(format!("{v4}:80")), "")?;
    fs::write(directory.join(lab.host("real1").v6().to_string()), "")?;
    await_states(&director, &["down", "up", "up"])?;
    let (_, reason) = health(&director.status()?, "direct4", 1)?;
    ensure!(reason.contains("in maintenance"), "{reason}");
    fs::remove_dir_all(&directory)?;
    await_states(&director, &["up", "up", "up"])?;
    let answers = Curl::new(&url("192.0.2.10", 80), 9).run(lab.client())?;
    ensure!(answers.failed == 0 && answers.of("real1") == 0, "a check undid the drain: {answers}");

    let probed = director.cli_ok(&["probe", "direct4", "192.0.2.22"])?;
    ensure!(probed.contains("connected") && probed.contains("passed"), "{probed}");
    nginx[1].set_sick(true)?;
    let refused = director.cli(&["probe", "nat6", "--json"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("1 of 3 did not pass"), "{said}");
    wait::until("the notification", PATIENCE, || {
        let text = fs::read_to_string(&notified).unwrap_or_default();
        Ok((text.contains("in maintenance") && text.contains("status 503")).then_some(()))
    })
}

#[test]
fn a_real_server_without_its_loopback_vip_is_found_out() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(watched_everywhere())?;
    await_states(&director, &["up", "up", "up"])?;
    let probed = director.cli_ok(&["probe", "direct6", &lab.host("real1").v6().to_string()])?;
    ensure!(probed.contains("the VIP at"), "{probed}");
    for (name, vip, prefix) in [("direct4", "192.0.2.10", 32), ("direct6", "2001:db8::10", 128)] {
        let address = format!("{vip}/{prefix}");
        lab.host("real1").run(&["ip", "address", "del", &address, "dev", "lo"])?;
        wait::until("the real server to go down", PATIENCE, || {
            Ok((health(&director.status()?, name, 1)?.0 == "down").then_some(()))
        })?;
        let answers = Curl::new(&url(vip, 80), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.of("real1") == 0, "{name}: {answers}");
        lab.host("real1").run(&["ip", "address", "add", &address, "dev", "lo", "nodad"])?;
        await_states(&director, &["up", "up", "up"])?;
    }
    // Its nginx was well all the time, and so was the way that has no need of the VIP.
    let told = events(&director)?;
    let down: Vec<_> =
        told.iter().filter(|event| event["to"] == "down").map(|event| &event["service"]).collect();
    ensure!(down == ["direct4", "direct6"], "{down:?}");
    Ok(())
}

/// A mail server on the director's own host that puts all mail into the file `mail` of a directory. It works as users of its
/// own, who may not look into the lab's directory.
fn mail_server(lab: &Lab) -> Result<(Process, TempDir)> {
    let directory = TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    let config = directory.path().join("exim.conf");
    let place = directory.path().display();
    let text = format!(
        "primary_hostname = mx.example\nspool_directory = {place}/spool\nlog_file_path = {place}/%slog\n\
         local_interfaces = 127.0.0.1\ndaemon_smtp_ports = 2525\nacl_smtp_rcpt = accept\nhost_lookup =\n\
         rfc1413_query_timeout = 0s\nkeep_environment =\n\
         begin routers\nall:\n  driver = accept\n  transport = file\n\
         begin transports\nfile:\n  driver = appendfile\n  file = {place}/mail\n  user = Debian-exim\n"
    );
    fs::write(&config, text)?;
    let mut command = lab.host("director").command("/usr/sbin/exim4");
    let process = Process::start(command.arg("-C").arg(&config).arg("-bdf"))?;
    let listens = || Ok(TcpStream::connect(("127.0.0.1", 2525)).ok().map(drop));
    lab.host("director").within(|| wait::until("exim to listen", PATIENCE, listens))?;
    Ok((process, directory))
}

#[test]
fn mail_tells_of_changes_once() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let (_exim, directory) = mail_server(&lab)?;
    let mail = directory.path().join("mail");
    let notify = "notify: { mail: { to: ops@example.org, from: director@example.org, port: 2525 }, at_most_every: 1s }";
    let director = lab.director(watched_everywhere().line(notify))?;
    await_states(&director, &["up", "up", "up"])?;
    nginx[0].set_sick(true)?;
    await_states(&director, &["down", "up", "up"])?;
    let text = || fs::read_to_string(&mail).unwrap_or_default();
    wait::until("the mail", PATIENCE, || {
        // Encoded lines are joined.
        let text = text().replace("=\n", "");
        let all = WAYS.iter().all(|(name, ..)| text.matches(&format!("{name} ")).count() >= 4);
        Ok((all && text.contains("status 503") && text.contains("To: ops@example.org")).then_some(()))
    })
    .with_context(|| format!("the mail:\n{}\nthe log:\n{}", text(), director.log()))?;
    let before = text().len();
    director.cli_ok(&["reload"])?;
    await_states(&director, &["down", "up", "up"])?;
    ensure!(text().len() == before, "a mail without news");
    Ok(())
}

#[test]
fn nobody_is_taken_out_where_all_checks_fail_together() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        config.service(watched(name, vip, nat, &[1, 1, 1]).set("panic_threshold", "60"))
    });
    let director = lab.director(config)?;
    await_states(&director, &["up", "up", "up"])?;
    let mut loads = Vec::new();
    for (name, vip, _) in WAYS {
        let load = Load::new(&url(vip, 80), Duration::from_secs(4)).connections(4).threads(1);
        loads.push((name, load.start(lab.client())?));
    }
    // The check is at fault: everything else is served as before.
    nginx.iter().try_for_each(|nginx| nginx.set_sick(true))?;
    await_states(&director, &["down", "down", "down"])?;
    for (name, load) in loads {
        load.finish()?.ensure_clean().context(name)?;
    }
    let told = events(&director)?;
    ensure!(told.iter().any(|event| event["to"] == "panic"), "{told:?}");
    // When one is left that is surely dead, it goes.
    nginx[1..].iter().try_for_each(|nginx| nginx.set_sick(false))?;
    await_states(&director, &["down", "up", "up"])?;
    let answers = Curl::new(&url("192.0.2.10", 80), 9).run(lab.client())?;
    ensure!(answers.failed == 0 && answers.of("real1") == 0, "{answers}");
    Ok(())
}

#[test]
fn a_command_gives_the_weight() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let command = lab.directory().join("weigh");
    // real1 weighs 1, the others 4; keepalived's way to say so is an exit status that is greater by two.
    let script = "#!/bin/sh\n[ \"$VIP:$VPORT\" = 192.0.2.10:80 ] || exit 1\ncase $3 in *.21) exit 3;; *) exit 6;; esac\n";
    fs::write(&command, script)?;
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755))?;
    let check = format!(
        "{{ type: external, command: {}, dynamic: true, interval: 300ms, fast_interval: 100ms }}",
        command.display()
    );
    let service = web("web", "192.0.2.10", false, &[9, 9, 9]).scheduler("wrr").set("check", &check);
    let director = lab.director(Config::new().service(service))?;
    await_states(&director, &["up", "up", "up"])?;
    wait::until("the weights", PATIENCE, || {
        let answers = Curl::new(&url("192.0.2.10", 80), 36).run(lab.client())?;
        Ok((answers.failed == 0 && (2..=8).contains(&answers.of("real1"))).then_some(()))
    })?;
    // The operator's word stays on top.
    director.cli_ok(&["weight", "web", "192.0.2.21", "4"])?;
    let answers = Curl::new(&url("192.0.2.10", 80), 36).run(lab.client())?;
    ensure!(answers.failed == 0 && answers.of("real1") >= 10, "{answers}");
    Ok(())
}

#[test]
fn a_slow_start_begins_with_little() -> Result<()> {
    let lab = Lab::builder().build()?;
    let nginx = lab.nginx_everywhere()?;
    let service = watched("web", "192.0.2.10", false, &[1, 1, 1]).scheduler("wrr").set("slow_start", "8s");
    let director = lab.director(Config::new().service(service))?;
    await_states(&director, &["up", "up", "up"])?;
    nginx[0].set_sick(true)?;
    await_states(&director, &["down", "up", "up"])?;
    nginx[0].set_sick(false)?;
    await_states(&director, &["up", "up", "up"])?;
    let answers = Curl::new(&url("192.0.2.10", 80), 63).run(lab.client())?;
    ensure!(answers.failed == 0 && (1..16).contains(&answers.of("real1")), "{answers}");
    wait::until("its whole share", PATIENCE, || {
        let answers = Curl::new(&url("192.0.2.10", 80), 30).run(lab.client())?;
        Ok((answers.failed == 0 && answers.of("real1") >= 8).then_some(()))
    })
}
