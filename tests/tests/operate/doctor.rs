//! `director doctor`: it finds nothing bad where all is well, and each fault where it is, with what to do about it.

mod cluster;
mod machine;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::lab::{Config, DIRECT_VIPS, Daemon, Host, Lab, NAT_VIPS, Service, director_binary};
use tests::wait;

/// What a doctor said.
struct Said {
    code: Option<i32>,
    findings: Vec<serde_json::Value>,
}

/// Runs it on a host with a file and these arguments.
fn doctor(host: &Host, file: &Path, arguments: &[&Path]) -> Result<Said> {
    doctor_under(&[], host, file, arguments)
}

/// The same, by a program that takes these words and then a command line.
fn doctor_under(by: &[&str], host: &Host, file: &Path, arguments: &[&Path]) -> Result<Said> {
    let binary = director_binary()?;
    let mut words = by.iter().map(Path::new).chain([binary.as_path()]);
    let mut command = host.command(words.next().unwrap_or(&binary));
    command.args(words);
    command.args(["doctor", "--json", "--config"]).arg(file).args(arguments);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let findings = said["findings"].as_array().context("no findings")?.clone();
    Ok(Said { code: output.status.code(), findings })
}

impl Said {
    /// What is worse than a note, but for this machine's clock: nobody can set that here.
    fn bad(&self) -> Vec<&serde_json::Value> {
        let bad = |finding: &&serde_json::Value| {
            ["warning", "error"].contains(&finding["severity"].as_str().unwrap_or("error"))
                && (&finding["topic"], &finding["at"]) != (&"clock".into(), &"".into())
        };
        self.findings.iter().filter(bad).collect()
    }

    fn ensure_well(&self) -> Result<()> {
        ensure!(self.bad().is_empty(), "{:#?}", self.bad());
        ensure!([Some(0), Some(3)].contains(&self.code), "{:?}", self.code);
        Ok(())
    }

    /// Whether there is this: severity, topic, where, part of the message, part of the help.
    fn has(&self, [severity, topic, at, message, help]: [&str; 5]) -> bool {
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        self.of(topic).into_iter().any(|finding| {
            finding["severity"] == severity
                && finding["at"] == at
                && text(finding, "message").contains(message)
                && text(finding, "help").contains(help)
        })
    }

    /// What is said of a topic.
    fn of(&self, topic: &str) -> Vec<&serde_json::Value> {
        self.findings.iter().filter(|finding| finding["topic"] == topic).collect()
    }

    /// That these notes are there: topic, where, part of the message.
    fn ensure_notes(&self, expected: &[[&str; 3]]) -> Result<()> {
        for [topic, at, message] in expected {
            let found = self.has(["note", topic, at, message, ""]);
            ensure!(found, "no note [{topic}] {at}: {message} in {:#?}", self.of(topic));
        }
        Ok(())
    }

    /// That exactly these are bad, each as [`Said::has`] takes it.
    fn ensure_bad(&self, expected: &[[&str; 5]]) -> Result<()> {
        for one in expected {
            ensure!(self.has(*one), "no {one:?} in {:#?}", self.bad());
        }
        ensure!(self.bad().len() == expected.len(), "more than expected: {:#?}", self.bad());
        let errors = self.bad().iter().any(|finding| finding["severity"] == "error");
        ensure!(self.code == Some(if errors { 1 } else { 3 }), "{:?}", self.code);
        Ok(())
    }
}

fn config() -> Config {
    let [v4, v6] = DIRECT_VIPS;
    let shop = Service::tcp("shop", NAT_VIPS[0], 80).nat();
    Config::new()
        .interface("eth1")
        .service(Service::tcp("web", v4, 80).real("192.0.2.21", 1).real("192.0.2.22", 1))
        .service(Service::tcp("web6", v6, 80).real("2001:db8::21", 1).real("2001:db8::22", 1))
        // Nobody listens there: a refusal says as much.
        .service(Service::udp("dns", v4, 53).real("192.0.2.21", 1))
        .service(shop.real("192.0.2.21", 1).real("203.0.113.21", 1))
}

fn ip(host: &Host, words: &str) -> Result<()> {
    host.run(&["ip"].into_iter().chain(words.split(' ')).collect::<Vec<_>>()).map(drop)
}

#[test]
fn each_fault_of_a_farm_is_found_and_named() -> Result<()> {
    let lab = Lab::builder().reals(2).with_back().build()?;
    let _servers = lab.nginx_everywhere()?;
    let host = lab.host("director");
    let file = lab.directory().join("director.yaml");
    let options = [Path::new("--pins"), &lab.pins()];

    // Before there is a director, and with one.
    fs::write(
        &file,
        format!("socket: {}\n{}", lab.directory().join("director.sock").display(), config().yaml()),
    )?;
    let alone = doctor(host, &file, &options)?;
    alone.ensure_well()?;
    ensure!(
        alone.findings.iter().any(|finding| finding["topic"] == "director" && finding["severity"] == "note")
    );
    let director = lab.director(config())?;
    let see = || doctor(host, director.config_file(), &options);
    see()?.ensure_well()?;

    farm(&lab, see)?;
    see().context("after the farm's faults")?.ensure_well()?;
    machine(&lab, see)?;
    see().context("after the machine's faults")?.ensure_well()?;
    files(&lab, &director)
}

/// Real servers and strangers.
fn farm(lab: &Lab, see: impl Fn() -> Result<Said>) -> Result<()> {
    let [real1, real2, client] = ["real1", "real2", "client"].map(|name| lab.host(name));
    real1.sysctl("net/ipv4/conf/all/arp_ignore", "0")?;
    ip(real2, "addr del 192.0.2.10/32 dev lo")?;
    ip(real2, "addr del 2001:db8::10/128 dev lo")?;
    ip(real2, "addr add 2001:db8::10/128 dev eth0 nodad")?;
    ip(client, "addr add 192.0.2.11/32 dev lo")?;
    ip(client, "addr add 198.51.100.10/32 dev lo")?;
    let mac = client.mac("eth0")?;
    see()?.ensure_bad(&[
        [
            "error",
            "arp",
            "192.0.2.10",
            "the real server 192.0.2.21",
            "on 192.0.2.21: director-real-server up 192.0.2.10",
        ],
        ["error", "arp", "2001:db8::10", "the real server 2001:db8::22", "on lo only"],
        [
            "error",
            "real",
            "192.0.2.22",
            "not to the VIP 192.0.2.10",
            "on 192.0.2.22: director-real-server up 192.0.2.10",
        ],
        ["error", "duplicate", "192.0.2.11", &mac, "switch"],
        ["error", "arp", "198.51.100.10", &format!("this machine holds it, but {mac}"), "switch"],
    ])?;
    // By the advice that was given, and what else undoes it.
    ip(client, "addr del 192.0.2.11/32 dev lo")?;
    ip(client, "addr del 198.51.100.10/32 dev lo")?;
    ip(real2, "addr del 2001:db8::10/128 dev eth0")?;
    for (real, vip) in [("real1", DIRECT_VIPS[0]), ("real2", DIRECT_VIPS[0]), ("real2", DIRECT_VIPS[1])] {
        let output = lab.real_server(real, &["up", vip])?;
        ensure!(output.status.success(), "{output:?}");
    }
    // One that is off.
    let cut = lab.cut_silent("real2", tests::lab::Way::Both)?;
    see()?.ensure_bad(&[
        ["error", "real", "192.0.2.22", "does not answer ARP", "ping 192.0.2.22"],
        ["error", "real", "2001:db8::22", "does not answer", "ping 2001:db8::22"],
    ])?;
    cut.heal()
}

/// The director's own machine.
fn machine(lab: &Lab, see: impl Fn() -> Result<Said>) -> Result<()> {
    let host = lab.host("director");
    let changes = [
        ("route add default via 203.0.113.21 dev eth1", "route del default via 203.0.113.21 dev eth1"),
        ("route add 192.0.2.22/32 via 192.0.2.21", "route del 192.0.2.22/32 via 192.0.2.21"),
        ("route add unreachable 2001:db8::22/128", "route del unreachable 2001:db8::22/128"),
        ("link set eth1 mtu 1400", "link set eth1 mtu 1500"),
    ];
    host.sysctl("net/ipv4/conf/eth0/rp_filter", "1")?;
    changes.iter().try_for_each(|(change, _)| ip(host, change))?;
    see()?.ensure_bad(&[
        ["warning", "rp_filter", "eth0", "leads out by eth1", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"],
        ["error", "routes", "192.0.2.22", "behind the router 192.0.2.21", "forward: nat"],
        ["error", "routes", "2001:db8::22", "no route", "ip route get 2001:db8::22"],
        ["warning", "mtu", "eth1", "that of eth0 is 1500", "ip link set dev eth1 mtu 1500"],
    ])?;
    host.sysctl("net/ipv4/conf/eth0/rp_filter", "2")?;
    changes.iter().try_for_each(|(_, undo)| ip(host, undo))
}

/// Configurations that do not fit, without their director.
fn files(lab: &Lab, director: &Daemon) -> Result<()> {
    let file = lab.directory().join("other.yaml");
    let elsewhere = lab.directory().join("elsewhere");
    let options = [Path::new("--pins"), &elsewhere, Path::new("--socket"), &elsewhere];
    fs::write(&file, config().yaml().replace("interfaces: [eth0, eth1]", "interfaces: [eth0, eth9]"))?;
    doctor(director.host(), &file, &options)?.ensure_bad(&[
        ["error", "interface", "eth9", "no such interface; `interfaces`", "eth0, eth1"],
        ["error", "routes", "eth1", "203.0.113.21 under `nat`", "add eth1 to `interfaces`"],
        ["error", "xdp", "eth0", "another XDP program", "ip link set dev eth0 xdp off"],
    ])?;
    fs::write(&file, "interfaces: [eth0]\nservices: 5\n")?;
    let broken = doctor(director.host(), &file, &options)?;
    broken.ensure_bad(&[["error", "configuration", &file.display().to_string(), "errors", "director check"]])
}

#[test]
fn each_fault_of_a_pair_is_found_and_named() -> Result<()> {
    let lab = Lab::builder().directors(2).reals(1).build()?;
    let _server = lab.nginx("real1")?;
    let web = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.21", 1);
    let config = Config::new().cluster(lab.cluster()?).service(web);
    let mut directors = lab.director_all(&config)?;
    let holds = |director: &Daemon| -> Result<bool> { Ok(director.status()?["vips"][0]["held"] == true) };
    wait::until("somebody to hold the VIPs", Duration::from_secs(10), || {
        Ok((holds(&directors[0])? || holds(&directors[1])?).then_some(()))
    })?;
    directors.iter().try_for_each(Daemon::await_reachable)?;
    let see = |director: &Daemon, node: &str| {
        let arguments = [
            "--node".as_ref(),
            Path::new(node),
            "--socket".as_ref(),
            director.socket(),
            "--pins".as_ref(),
            director.pins(),
        ];
        doctor(director.host(), director.config_file(), &arguments)
    };
    // The one that holds the VIPs answers the other one for them, as it should.
    see(&directors[0], "lb1")?.ensure_well()?;
    see(&directors[1], "lb2")?.ensure_well()?;
    see(&directors[1], "lb9")?.ensure_bad(&[["error", "node", "", "lb9", "--node NAME"]])?;

    let key = lab.directory().join("heartbeat.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let other = config.clone().line("limits: { flows: 1048576 }").yaml();
    directors[1].write_config(other)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    directors[1].cli_ok(&["reload"])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    wait::until("the difference to be known", Duration::from_secs(5), || {
        let status = directors[0].status()?;
        Ok((status["pair"]["cluster"]["peers"][0]["same_config"] == false).then_some(()))
    })?;
    see(&directors[0], "lb1")?.ensure_bad(&[
        ["error", "key", "", "its mode is 0644", ""],
        ["error", "peer", "lb2", "configuration is another one", "director reload"],
    ])?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    directors[1].kill9();
    wait::until("the death to be seen", Duration::from_secs(5), || {
        let status = directors[0].status()?;
        Ok((status["pair"]["cluster"]["peers"][0]["alive"] == false).then_some(()))
    })?;
    see(&directors[0], "lb1")?.ensure_bad(&[[
        "error",
        "peer",
        "",
        "no other director is alive (lb2)",
        "director status",
    ]])?;

    drop(directors.pop());
    directors.push(lab.director_n_from(&in_an_hour(&lab)?, 2, &config)?);
    clocks_differ(&directors, see)
}

/// The second one's clock is an hour ahead.
fn clocks_differ(directors: &[Daemon], see: impl Fn(&Daemon, &str) -> Result<Said>) -> Result<()> {
    directors.iter().try_for_each(Daemon::await_reachable)?;
    wait::until("the directors to hear each other", Duration::from_secs(20), || {
        let mut all = directors.iter().map(Daemon::status).collect::<Result<Vec<_>>>()?.into_iter();
        Ok(all.all(|status| status["pair"]["cluster"]["peers"][0]["hears_us"] == true).then_some(()))
    })?;
    let ahead = &directors[0].status()?["pair"]["cluster"]["peers"][0]["clock_ahead_seconds"];
    ensure!(ahead.as_f64().is_some_and(|ahead| (3599.0..3601.0).contains(&ahead)), "{ahead}");
    see(&directors[0], "lb1")?.ensure_bad(&[[
        "warning",
        "clock",
        "lb2",
        "s ahead of this director's",
        "timedatectl",
    ]])?;
    see(&directors[1], "lb2")?.ensure_bad(&[[
        "warning",
        "clock",
        "lb1",
        "s behind this director's",
        "timedatectl",
    ]])
}

/// A director whose wall clock, and no other one, is an hour ahead.
fn in_an_hour(lab: &Lab) -> Result<PathBuf> {
    let path = lab.directory().join("director-in-an-hour");
    let script = format!(
        "#!/bin/sh\nLD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME=+3600s \\\n\
         FAKETIME_DONT_FAKE_MONOTONIC=1 exec '{}' \"$@\"\n",
        director_binary()?.display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
