//! The Debian package and its service: what it may do and still does all, what it tells systemd, and how it comes and goes.

mod machine;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::CapabilitySet;
use tests::clients::{Curl, Load};
use tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Service};
use tests::wait;

use machine::Machine;

const PATIENCE: Duration = Duration::from_secs(20);
const VIPS: [&str; 2] = [DIRECT_VIPS[0], NAT_VIPS[0]];
/// Where the external check leaves what it may do.
const SEEN: &str = "/run/seen";

/// What the package has besides the program and the service.
const CONTENTS: [&str; 12] = [
    "/usr/share/man/man8/director-run.8.gz",
    "/usr/share/doc/director/THIRD-PARTY.md",
    "/usr/share/bash-completion/completions/director",
    "/usr/share/zsh/vendor-completions/_director",
    "/usr/share/fish/vendor_completions.d/director.fish",
    "/usr/share/director/director.schema.json",
    "/usr/share/director/prometheus/director.alerts.yml",
    "/usr/share/director/grafana/director.json",
    "/usr/share/director/real-server/director-real-server",
    "/etc/director/director.yaml",
    "/etc/default/director",
    "/usr/sbin/director",
];

/// By both ways of forwarding; with a check that is a command, and a port that not everybody may have.
fn config() -> String {
    let check = "{ type: external, command: /etc/director/check, interval: 200ms }";
    let direct = Service::tcp("direct", VIPS[0], 80).set("check", check);
    let nat = Service::tcp("nat", VIPS[1], 80).nat().set("check", "{ type: ping, interval: 200ms }");
    let with_reals = |service: Service| {
        ["192.0.2.21", "192.0.2.22", "192.0.2.23"].iter().fold(service, |service, real| service.real(real, 1))
    };
    let config = Config::new().service(with_reals(direct)).service(with_reals(nat));
    config.line("http: { listen: \"127.0.0.1:94\" }").yaml()
}

/// It is the only one of its cluster that runs, so that it has a heartbeat.
const HEARTBEAT: &str = "heartbeat:
  key_file: /etc/director/heartbeat.key
  directors:
    - { name: lb1, links: [{ udp: 192.0.2.11 }] }
    - { name: lb2, links: [{ udp: 192.0.2.12 }] }
";

/// Writes the configuration and its check.
fn configure(machine: &Machine) -> Result<()> {
    machine.write("/etc/director/check", &format!("#!/bin/sh\ncat /proc/self/status > {SEEN}\n"))?;
    machine.run(&["chmod", "755", "/etc/director/check"])?;
    machine.write("/etc/director/director.yaml", &config())
}

fn serves(lab: &Lab, when: &str) -> Result<()> {
    for vip in VIPS {
        let answers = Curl::new(&format!("http://{vip}/"), 6).run(lab.client())?;
        ensure!(answers.failed == 0 && answers.by_real.len() == 3, "{vip} {when}: {answers}");
    }
    Ok(())
}

/// What a line of /proc/PID/status says of capabilities.
fn capabilities(status: &str, line: &str) -> Result<u64> {
    let found = status.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(':'));
    Ok(u64::from_str_radix(found.with_context(|| format!("no {line} in {status}"))?.trim(), 16)?)
}

/// Begins to use the package as the guide says.
fn install(machine: &Machine) -> Result<()> {
    let said = machine.dpkg(&["--install", &machine.package("1.0")?])?;
    ensure!(said.contains("systemctl enable --now director"), "{said}");
    let (good, said) = machine.try_run(&["director", "check"])?;
    ensure!(!good && said.contains("the configuration is empty"), "{said}");
    // Started too early, it says so once.
    let (good, _) = machine.try_run(&["systemctl", "enable", "--now", "director"])?;
    ensure!(!good && machine.property("ExecMainStatus")? == "2", "{}", machine.log());
    ensure!(machine.property("NRestarts")? == "0" && machine.log().contains("the configuration is empty"));
    configure(machine)
}

#[test]
fn the_service_does_all_it_should_with_the_rights_that_its_unit_gives_it() -> Result<()> {
    let lab = Lab::builder().without_vips().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let machine = Machine::start(&lab)?;
    install(&machine)?;
    machine.write("/etc/director/heartbeat.key", &format!("1 {}\n", "0123456789abcdef".repeat(4)))?;
    machine.run(&["chmod", "600", "/etc/director/heartbeat.key"])?;
    machine.write("/etc/director/director.yaml", &(config() + HEARTBEAT))?;
    machine.write("/etc/default/director", "DIRECTOR_OPTIONS=\"--node lb1\"\n")?;
    machine.run(&["systemctl", "start", "director"])?;
    machine.await_service()?;
    // It listens first.
    wait::until("the VIPs", PATIENCE, || Ok(serves(&lab, "with the unit's rights").ok()))?;
    confined(&machine)?;

    // A configuration that is wrong fails a reload, and nothing else.
    machine.run(&["systemctl", "reload", "director"])?;
    machine.write("/etc/director/director.yaml", "interfaces: []\n")?;
    ensure!(!machine.try_run(&["systemctl", "reload", "director"])?.0, "a wrong configuration was taken");
    machine.write("/etc/director/director.yaml", &(config() + HEARTBEAT))?;
    ensure!(machine.property("ActiveState")? == "active" && machine.property("NRestarts")? == "0");
    watched(&machine, &lab)?;

    machine.run(&["systemctl", "stop", "director"])?;
    ensure!(machine.property("Result")? == "success", "{}", machine.log());
    serves(&lab, "without the daemon")
}

/// What it has of rights, as systemd gave them; and what it tells systemd.
fn confined(machine: &Machine) -> Result<()> {
    let given = machine.property("CapabilityBoundingSet")?.to_uppercase();
    let given = given.split_whitespace().try_fold(CapabilitySet::empty(), |all, word| {
        let one = word.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
        Some(all | one?)
    });
    let given = given.context("systemd names capabilities that are none")?.bits();
    ensure!(given.count_ones() == 5, "{given:x}");
    let process = format!("/proc/{}", machine.property("MainPID")?);
    for thread in fs::read_dir(machine.path(&format!("{process}/task")))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        for (line, expected) in
            [("CapPrm", given), ("CapEff", given), ("CapBnd", given), ("CapInh", 0), ("CapAmb", 0)]
        {
            ensure!(capabilities(&status, line)? == expected, "{line} is not {expected:x}: {status}");
        }
        // No new privileges, and a filter of system calls.
        ensure!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    }
    ensure!(capabilities(&machine.read(SEEN), "CapEff")? == given, "a check has other rights");
    let limits = machine.read(&format!("{process}/limits"));
    let raised = |name: &str, to: &str| {
        limits
            .lines()
            .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(to)))
    };
    // Not every machine that runs tests may raise limits.
    if rustix::thread::capabilities(None)?.permitted.contains(CapabilitySet::SYS_RESOURCE) {
        ensure!(
            raised("Max locked memory", "unlimited") && raised("Max realtime priority", "40"),
            "{limits}"
        );
        ensure!(raised("Max open files", "524288"), "{limits}");
        ensure!(!machine.log().contains("the heartbeat cannot"), "{}", machine.log());
    }
    let told = "2 services, 6 of 6 real servers up";
    wait::until("the service's state", PATIENCE, || {
        Ok(machine.property("StatusText")?.starts_with(told).then_some(()))
    })
}

/// The core waits for a configuration that does not come: then systemd starts the daemon anew.
fn watched(machine: &Machine, lab: &Lab) -> Result<()> {
    machine.write("/run/systemd/system/director.service.d/watchdog.conf", "[Service]\nWatchdogSec=3\n")?;
    machine.run(&["systemctl", "daemon-reload"])?;
    machine.run(&["systemctl", "restart", "director"])?;
    machine.await_service()?;
    ensure!(!machine.log().contains("Watchdog timeout"), "it was taken for dead before it hung");
    machine.run(&["sh", "-c", "cd /etc/director && mv director.yaml kept && mkfifo director.yaml"])?;
    machine.run(&["systemctl", "kill", "--signal=HUP", "--kill-who=main", "director"])?;
    wait::until("the watchdog", PATIENCE, || {
        serves(lab, "while the daemon hangs")?;
        Ok(machine.log().contains("Watchdog timeout").then_some(()))
    })?;
    machine.run(&["sh", "-c", "cd /etc/director && mv kept director.yaml"])?;
    wait::until("the next daemon", PATIENCE, || {
        Ok((machine.property("ActiveState")? == "active").then_some(()))
    })?;
    ensure!(machine.property("NRestarts")? != "0", "{}", machine.log());
    machine.await_service()
}

#[test]
fn a_director_started_by_root_gives_up_what_it_does_not_use() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let director =
        lab.director(Config::new().service(Service::tcp("web", VIPS[0], 80).real("192.0.2.21", 1)))?;
    let pid = director.pid().context("it runs")?;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let permitted = capabilities(&status, "CapPrm")?;
        let admin = rustix::thread::CapabilitySet::SYS_ADMIN.bits();
        ensure!(permitted != 0 && permitted & admin == 0, "{status}");
        for line in ["CapEff", "CapBnd"] {
            ensure!(capabilities(&status, line)? == permitted, "{line}: {status}");
        }
    }
    Ok(())
}

#[test]
fn a_package_is_installed_upgraded_under_load_removed_and_purged() -> Result<()> {
    let lab = Lab::builder().without_vips().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let machine = Machine::start(&lab)?;
    install(&machine)?;
    for file in CONTENTS {
        ensure!(machine.path(file).is_file(), "{file} is missing");
    }
    machine.run(&["bash", "-n", "/usr/share/bash-completion/completions/director"])?;
    machine.run(&["systemctl", "start", "director"])?;
    machine.await_service()?;
    let (before, second) = (machine.property("MainPID")?, machine.package("1.1")?);
    let load = Load::new(&format!("http://{}/", VIPS[0]), Duration::from_secs(10)).connections(6).threads(1);
    let mut load = load.close().start(lab.client())?;
    machine.dpkg(&["--install", &second])?;
    ensure!(machine.property("MainPID")? != before, "the daemon was not restarted");
    machine.await_service()?;
    ensure!(load.is_running(), "the upgrade outlasted the load");
    load.finish()?.ensure_clean()?;
    let status: serde_json::Value = serde_json::from_str(&machine.run(&["director", "status", "--json"])?)?;
    ensure!(status["interfaces"][0]["replaced"] == true, "the data plane was attached anew: {status}");

    // A configuration that the new version refuses does not cost the daemon that runs, nor does one in a file that the options name.
    let upgraded = machine.property("MainPID")?;
    machine.write("/etc/director/director.yaml", "interfaces: []\n")?;
    let said = machine.dpkg(&["--install", &second])?;
    ensure!(said.contains("NOT restarted"), "{said}");
    machine.run(&["mv", "/etc/director/director.yaml", "/etc/director/other.yaml"])?;
    configure(&machine)?;
    let options = "DIRECTOR_OPTIONS=\"--log debug --config /etc/director/other.yaml\"\n";
    machine.write("/etc/default/director", options)?;
    let said = machine.dpkg(&["--install", &second])?;
    ensure!(said.contains("other.yaml") && said.contains("NOT restarted"), "{said}");
    ensure!(machine.property("MainPID")? == upgraded && machine.property("ActiveState")? == "active");

    let said = machine.dpkg(&["--remove", "director"])?;
    let link = lab.host("director").run(&["ip", "address", "show", "eth0"])?;
    ensure!(!link.contains("xdp") && !link.contains(VIPS[0]), "{said}\n{link}");
    ensure!(machine.path("/etc/director/director.yaml").exists(), "a removal took the configuration");
    machine.dpkg(&["--purge", "director"])?;
    for gone in ["/etc/director", "/run/director", "/sys/fs/bpf/director", "/usr/sbin/director"] {
        ensure!(!machine.path(gone).exists(), "{gone} is still there");
    }
    Ok(())
}
