//! What the operator does and sees: check, status, flows, a bad reload, and a data plane that someone else damaged.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::clients::{Curl, Session};
use tests::lab::{Config, Daemon, Lab, Service};
use tests::wait;

use crate::farm::{self, WAYS, everywhere, url, web, with_reals};

#[test]
fn check_names_every_error_with_its_place() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let file = lab.directory().join("bad.yaml");
    std::fs::write(
        &file,
        "interfaces: [eth0]\nvips: [{ address: 192.0.2.10/24, interface: eth0 }]\nservices:\n  - name: web\n    address: 192.0.2.11\n    port: 80\n    forward: direkt\n    reals:\n      - { address: 192.0.2.21, wieght: 3 }\n",
    )?;
    let binary = tests::lab::director_binary()?;
    let output = lab.host("director").command(&binary).arg("check").arg(&file).output()?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    let text = String::from_utf8(output.stderr)? + &String::from_utf8(output.stdout)?;
    for (place, word) in [(":5:", "192.0.2.11"), (":7:", "direct"), (":9:", "weight")] {
        ensure!(text.contains(place) && text.contains(word), "no {place} {word} in\n{text}");
    }
    Ok(())
}

#[test]
fn a_bad_file_changes_nothing() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(everywhere())?;
    let before = in_force(&director)?;
    let output = director.reload("interfaces: [eth0]\nservices: [{ name: web, adress: 192.0.2.10 }]\n")?;
    ensure!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.contains("address") && text.contains(":"), "the answer does not say why:\n{text}");
    // The command has had its refusal logged already: the signal's is one more.
    let refusals = || director.log().matches("adress").count();
    let logged = refusals();
    director.hangup()?;
    wait::until("a further refusal in the log", Duration::from_secs(5), || {
        Ok((refusals() > logged).then_some(()))
    })
    .map_err(|error| error.context(director.log()))?;
    ensure!(in_force(&director)? == before, "the bad file changed something");
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 9).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{name}: {answers}");
    }
    // The signal that refuses a bad file takes a good one.
    director
        .write_config(WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
            config.service(web(name, vip, nat, &[1, 1, 5]))
        }))?;
    director.hangup()?;
    wait::until("real3's new weight", Duration::from_secs(5), || {
        let weights = in_force(&director)?.into_iter().filter(|real| real.weight == 5).count();
        Ok((weights == WAYS.len()).then_some(()))
    })
    .map_err(|error| error.context(director.log()))
}

/// What the data plane has of a real server, as `status` tells it.
#[derive(Debug, PartialEq, Eq)]
struct InForce {
    service: String,
    service_id: u64,
    real: String,
    real_id: u64,
    weight: u64,
}

fn in_force(director: &Daemon) -> Result<Vec<InForce>> {
    let status = director.status()?;
    let services = status["services"].as_array().context("no services in the status")?;
    let mut all = Vec::new();
    for service in services {
        for real in service["reals"].as_array().context("no real servers in the status")? {
            all.push(InForce {
                service: service["name"].as_str().context("no name")?.into(),
                service_id: service["id"].as_u64().context("no service id")?,
                real: real["address"].as_str().context("no address")?.into(),
                real_id: real["id"].as_u64().context("no real server's id")?,
                weight: real["weight"].as_u64().context("no weight")?,
            });
        }
    }
    Ok(all)
}

#[test]
fn status_and_flows_tell_what_is() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _echoes = farm::tcp_echoes(&lab, 7)?;
    let config = WAYS.into_iter().fold(Config::new(), |config, (name, vip, nat)| {
        config.service(with_reals(Service::tcp(name, vip, 7), vip, nat, &[1, 1, 1]))
    });
    let director = lab.director(config)?;
    let mut sessions = Vec::new();
    for (_, vip, _) in WAYS {
        for _ in 0..3 {
            sessions.push(Session::start(lab.client(), SocketAddr::new(vip.parse()?, 7))?);
        }
    }
    wait::until("three active flows everywhere", Duration::from_secs(5), || {
        let status = director.status()?;
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok((services.len() == 4 && services.iter().all(|service| service["active"] == 3)).then_some(()))
    })?;
    let text = director.cli_ok(&["status"])?;
    for word in ["direct4", "nat6", "192.0.2.21", "native", "eth0"] {
        ensure!(text.contains(word), "no {word} in\n{text}");
    }
    let flows = director.cli_ok(&["flows", "--service", "nat4", "--state", "established", "--json"])?;
    let clients = flows.lines().filter(|line| line.contains("198.51.100.100")).count();
    ensure!(clients >= 3, "{flows}");
    let one = director.cli_ok(&["flows", "--service", "direct4", "--real", "192.0.2.21", "--json"])?;
    ensure!(one.lines().count() <= 2 && one.contains("192.0.2.21"), "{one}");
    for session in sessions {
        session.finish()?.ensure_whole()?;
    }
    Ok(())
}

#[test]
fn what_someone_else_removes_comes_back() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(everywhere())?;
    // An address; the link's pin, without which the program would end with the daemon; a service's key.
    lab.host("director").run(&["ip", "address", "del", "198.51.100.10/32", "dev", "eth0"])?;
    let maps = director.pins().join("v2");
    let link = maps.join("link-eth0-native");
    std::fs::remove_file(&link)?;
    let keys = maps.join("SERVICE_KEYS").display().to_string();
    let dump = std::process::Command::new("bpftool").args(["-j", "map", "dump", "pinned", &keys]).output()?;
    let dump: serde_json::Value = serde_json::from_slice(&dump.stdout)?;
    let key = dump[0]["key"].as_array().map(Vec::as_slice).unwrap_or_default();
    let key: Vec<&str> = key.iter().filter_map(serde_json::Value::as_str).collect();
    let deleted = std::process::Command::new("bpftool")
        .args(["map", "delete", "pinned", &keys, "key", "hex"])
        .args(key.iter().map(|byte| byte.trim_start_matches("0x")))
        .status()?;
    ensure!(deleted.success() && key.len() == 20, "bpftool did not delete a key: {dump}");
    wait::until("the address, the pin and the key", Duration::from_secs(15), || {
        let addresses = lab.host("director").run(&["ip", "address", "show", "dev", "eth0"])?;
        let dump =
            std::process::Command::new("bpftool").args(["-j", "map", "dump", "pinned", &keys]).output()?;
        let dump: serde_json::Value = serde_json::from_slice(&dump.stdout)?;
        let whole = dump.as_array().is_some_and(|entries| entries.len() == WAYS.len());
        Ok((addresses.contains("198.51.100.10") && link.exists() && whole).then_some(()))
    })?;
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 9).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{name}: {answers}");
    }
    Ok(())
}

#[test]
fn a_link_that_someone_cuts_is_made_again() -> Result<()> {
    let lab = Lab::builder().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let director = lab.director(everywhere())?;
    let link = director.pins().join("v2").join("link-eth0-native");
    let cut = std::process::Command::new("bpftool").args(["link", "detach", "pinned"]).arg(&link).status()?;
    ensure!(cut.success(), "bpftool: {cut}");
    wait::until("another link", Duration::from_secs(15), || {
        Ok((director.log().contains("attaching anew") && link.exists()).then_some(()))
    })?;
    ensure!(director.status()?["interfaces"][0]["mode"] == "native", "{}", director.log());
    for (name, vip, _) in WAYS {
        let answers = Curl::new(&url(vip, 80), 9).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{name}: {answers}");
    }
    Ok(())
}

#[test]
fn a_second_daemon_refuses_to_start() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let _nginx = lab.nginx_everywhere()?;
    let config = Config::new().service(web("web", "192.0.2.10", false, &[1]));
    let director = lab.director(config)?;
    let mut second = lab.host("director").command(director.binary());
    second.arg("run").arg("--config").arg(director.config_file()).arg("--pins").arg(director.pins());
    let output = second.output()?;
    ensure!(!output.status.success(), "two daemons on one data plane");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.contains("running") || text.contains("runs"), "no reason given:\n{text}");
    let answers = Curl::new("http://192.0.2.10/", 3).run(lab.client())?;
    ensure!(answers.of("real1") == 3, "{answers}");
    Ok(())
}
