//! A name that follows a group (`takeover: { dns: … }`), with a real BIND on a real server of the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::lab::{Host, Process};
use tests::pair::Pair;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);
/// The base64 of 32 bytes.
const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0ISE=";

const CONFIG: &str = r#"
options {
    directory "DIR"; pid-file "DIR/pid"; session-keyfile "DIR/session.key";
    listen-on port 53 { 192.0.2.21; }; listen-on-v6 { none; };
    recursion no; dnssec-validation no; notify no;
};
controls { };
key "lb" { algorithm hmac-sha256; secret "SECRET"; };
zone "example.test" { type primary; file "zone"; allow-update { key "lb"; }; };
"#;

const ZONE: &str = "$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.21
www 5 A 192.0.2.99
";

/// The group `site` has no VIPs here: its name has the directors' own addresses.
fn takeover(key: &str) -> String {
    format!(
        "groups:\n  - name: site\n    takeover:\n      dns:\n        server: 192.0.2.21\n        zone: example.test.\n        \
         name: www.example.test.\n        ttl: 5\n        retry: 100ms\n        tsig_file: {key}\n        \
         addresses: {{ lb1: [192.0.2.11], lb2: [192.0.2.12, \"2001:db8::12\"] }}"
    )
}

/// A BIND on a host, in a directory of its own; both go when these do.
fn named(host: &Host) -> Result<(TempDir, Process)> {
    let place = TempDir::new()?;
    let directory = place.path().to_str().context("a path that is no text")?;
    fs::write(place.path().join("named.conf"), CONFIG.replace("DIR", directory).replace("SECRET", SECRET))?;
    fs::write(place.path().join("zone"), ZONE)?;
    let key = place.path().join("tsig.key");
    fs::write(&key, format!("lb hmac-sha256 {SECRET}\n"))?;
    ensure!(
        Command::new("chown").args(["-R", "bind", directory]).status()?.success(),
        "there is no user bind"
    );
    // The directors read it as root, and want that nobody else may.
    ensure!(Command::new("chown").arg("root").arg(&key).status()?.success(), "chown");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let log = fs::File::create(place.path().join("log"))?;
    let mut command = host.command("setpriv");
    command.args(["--reuid", "bind", "--regid", "bind", "--init-groups"]);
    // Port 53.
    command.args(["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service", "--"]);
    command.args(["named", "-4", "-g", "-n", "1", "-c"]).arg(place.path().join("named.conf"));
    let mut process = Process::start(command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()))?;
    let answered = wait::until("BIND to answer", PATIENCE, || {
        ensure!(process.is_running(), "it ended");
        Ok(dig(host).is_ok_and(|found| !found.is_empty()).then_some(()))
    });
    answered.with_context(|| fs::read_to_string(place.path().join("log")).unwrap_or_default())?;
    Ok((place, process))
}

/// The name's addresses, sorted.
fn dig(host: &Host) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for kind in ["A", "AAAA"] {
        let words = ["dig", "@192.0.2.21", "www.example.test", kind, "+short", "+tcp", "+time=1", "+tries=1"];
        all.extend(host.run(&words)?.lines().map(str::to_owned));
    }
    all.sort();
    Ok(all)
}

fn await_name(pair: &Pair, wanted: &[&str]) -> Result<()> {
    let waited = wait::until(&format!("the name to have {wanted:?}"), PATIENCE, || {
        Ok((dig(pair.lab().client())? == wanted).then_some(()))
    });
    waited.with_context(|| pair.story())
}

#[test]
fn a_name_follows_its_group_through_death_and_handover() -> Result<()> {
    let key = TempDir::new()?;
    let path = key.path().join("tsig.key");
    let path = path.to_str().context("a path that is no text")?;
    let mut pair =
        Pair::prepare(2, |cluster| cluster.dead_after("1s").line(&takeover(path)), |config| config)?;
    let (place, _named) = named(pair.lab().host("real1"))?;
    fs::copy(place.path().join("tsig.key"), path)?;
    pair.start_one(1)?;
    pair.start_one(2)?;
    pair.await_owner(1, "site")?;
    await_name(&pair, &["192.0.2.11"])?;
    let fault = pair.lab().freeze_host("director1")?;
    await_name(&pair, &["192.0.2.12", "2001:db8::12"])?;
    fault.heal()?;
    pair.await_owner(2, "site")?;
    pair.await_steady()?;
    // It woke and let go; it has not taken the name along.
    await_name(&pair, &["192.0.2.12", "2001:db8::12"])?;
    pair.cli(2, &["handover", "site"])?;
    await_name(&pair, &["192.0.2.11"])?;
    pair.await_owner(1, "site")
}
