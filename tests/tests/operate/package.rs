//! The Debian package and its service: what it may do and still does all, what it tells systemd, and how it comes and goes.

pub mod machine;
mod notices;
mod unit;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::clients::{Curl, Load};
use tests::lab::{Config, DIRECT_VIPS, Lab, NAT_VIPS, Process, Service};
use tests::wait;

use machine::Machine;
use notices::Notices;
use unit::Unit;

const PATIENCE: Duration = Duration::from_secs(20);
const VIPS: [&str; 2] = [DIRECT_VIPS[0], NAT_VIPS[0]];
/// Where the external check leaves what it may do.
const SEEN: &str = "/run/seen";

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

#[test]
fn the_service_does_all_it_should_with_the_rights_that_its_unit_gives_it() -> Result<()> {
    let lab = Lab::builder().without_vips().build()?;
    let _nginx = lab.nginx_everywhere()?;
    let machine = Machine::start(&lab)?;
    machine.run(&["dpkg-deb", "--extract", &machine.package("1.0")?, "/"])?;
    configure(&machine)?;
    let notices = Notices::listen(&machine, "/run/notify")?;
    let mut service =
        machine.start_service(&[("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", "600000")])?;
    notices.await_one("READY=1").with_context(|| machine.read("/run/log"))?;
    machine.await_service()?;
    serves(&lab, "with the unit's rights")?;
    let unit = Unit::read(&machine.read("/usr/lib/systemd/system/director.service"));
    let allowed = unit.capabilities()?.bits();
    for thread in fs::read_dir(format!("/proc/{}/task", service.pid()))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        for (line, expected) in
            [("CapPrm", allowed), ("CapEff", allowed), ("CapBnd", allowed), ("CapInh", 0), ("CapAmb", 0)]
        {
            ensure!(capabilities(&status, line)? == expected, "{line} is not {expected:x}: {status}");
        }
    }
    ensure!(capabilities(&machine.read(SEEN), "CapEff")? == allowed, "a check has other rights");

    // The core waits for a configuration that does not come: then nobody may say that it is alive.
    notices.await_one("STATUS=2 services, 6 of 6 real servers up")?;
    notices.await_one("WATCHDOG=1")?;
    machine.run(&["sh", "-c", "cd /etc/director && mv director.yaml kept && mkfifo director.yaml"])?;
    service.signal(Signal::HUP)?;
    notices.await_one("RELOADING=1")?;
    let words = notices.within(Duration::from_millis(1500))?;
    let late = words.iter().filter(|word| *word == "WATCHDOG=1").count();
    ensure!(late <= 1, "it is said to be alive {late} times while the core waits: {words:?}");
    machine.run(&["sh", "-c", "cat /etc/director/kept > /etc/director/director.yaml"])?;
    notices.await_one("READY=1")?;
    notices.await_one("WATCHDOG=1")?;
    machine.run(&["sh", "-c", "cd /etc/director && mv kept director.yaml"])?;
    machine.run(&unit.words("ExecReload"))?;
    notices.await_one("RELOADING=1")?;

    service.signal(Signal::TERM)?;
    notices.await_one("STOPPING=1")?;
    ensure!(service.wait(PATIENCE)?.success(), "{}", machine.read("/run/log"));
    serves(&lab, "without the daemon")
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
    let (first, second) = (machine.package("1.0")?, machine.package("1.1")?);
    let said = machine.finish(machine.dpkg(&["--install", &first])?, |_| Ok(()))?;
    ensure!(said.contains("systemctl enable --now director"), "{said}");
    ensure!(machine.read("/run/systemctl") == "daemon-reload\n", "{}", machine.read("/run/systemctl"));
    let (good, said) = machine.try_run(&["director", "check"])?;
    ensure!(!good && said.contains("the configuration is empty"), "{said}");
    for file in ["/usr/share/man/man8/director-run.8.gz", "/usr/share/doc/director/THIRD-PARTY.md"] {
        ensure!(machine.path(file).is_file(), "{file} is missing");
    }

    configure(&machine)?;
    let mut service = machine.start_service(&[])?;
    machine.await_service()?;
    let load = Load::new(&format!("http://{}/", VIPS[0]), Duration::from_secs(4)).connections(6).threads(1);
    let load = load.close().start(lab.client())?;
    let before = service.pid();
    machine.finish(machine.dpkg(&["--install", &second])?, |asked| {
        ensure!(asked == "restart director.service", "{asked}");
        end(&mut service)?;
        service = machine.start_service(&[])?;
        machine.await_service()
    })?;
    ensure!(service.pid() != before, "the daemon was not restarted");
    load.finish()?.ensure_clean()?;
    let status: serde_json::Value = serde_json::from_str(&machine.run(&["director", "status", "--json"])?)?;
    ensure!(status["interfaces"][0]["replaced"] == true, "the data plane was attached anew: {status}");

    // A configuration that the new version refuses does not cost the daemon that runs.
    machine.write("/etc/director/director.yaml", "interfaces: []\n")?;
    let again = machine.dpkg(&["--install", &second])?;
    let said = machine.finish(again, |asked| anyhow::bail!("{asked}"))?;
    ensure!(said.contains("NOT restarted") && service.is_running(), "{said}");
    // Nor does one in a file that the service's options name.
    machine.run(&["mv", "/etc/director/director.yaml", "/etc/director/other.yaml"])?;
    configure(&machine)?;
    let options = "DIRECTOR_OPTIONS=\"--log debug --config /etc/director/other.yaml\"\n";
    machine.write("/etc/default/director", options)?;
    let again = machine.dpkg(&["--install", &second])?;
    let said = machine.finish(again, |asked| anyhow::bail!("{asked}"))?;
    ensure!(said.contains("other.yaml") && said.contains("NOT restarted"), "{said}");

    let said = machine.finish(machine.dpkg(&["--remove", "director"])?, |asked| {
        ensure!(asked.ends_with("stop director.service"), "{asked}");
        end(&mut service)
    })?;
    wait::until("the program to go", PATIENCE, || {
        let link = lab.host("director").run(&["ip", "address", "show", "eth0"])?;
        Ok((!link.contains("xdp") && !link.contains(VIPS[0])).then_some(()))
    })
    .context(said)?;
    ensure!(machine.path("/etc/director/director.yaml").exists(), "a removal took the configuration");
    machine.finish(machine.dpkg(&["--purge", "director"])?, |asked| anyhow::bail!("{asked}"))?;
    for gone in ["/etc/director", "/run/director", "/sys/fs/bpf/director", "/usr/sbin/director"] {
        ensure!(!machine.path(gone).exists(), "{gone} is still there");
    }
    Ok(())
}

/// Ends the service as systemd does.
pub fn end(service: &mut Process) -> Result<()> {
    service.signal(Signal::TERM)?;
    ensure!(service.wait(PATIENCE)?.success(), "it ended badly");
    Ok(())
}
