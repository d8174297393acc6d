//! Files of other programs, wherever the documentation has them: each is read by the program that it is for, or as that would.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use saphyr_parser::{Event, Parser};
use serde_json::Value;
use tests::docs::{self, Block, How, Page};
use tests::lab::Lab;

use super::machine::Machine;

/// What systemd-networkd knows, as far as the documentation needs it (systemd.network(5)).
const NETWORKD: [(&str, &[&str]); 2] =
    [("Match", &["Name"]), ("Address", &["Address", "DuplicateAddressDetection", "PreferredLifetime"])];

#[test]
fn files_that_the_documentation_has_are_what_their_programs_read() -> Result<()> {
    let lab = Lab::builder().reals(1).build()?;
    let machine = Machine::named(&lab, "real1", "web1")?;
    // What units start.
    for (from, to) in [
        ("deploy/real-server/director-real-server", "/usr/local/sbin/director-real-server"),
        ("deploy/real-server/director-real-server", "/usr/sbin/director"),
        ("deploy/systemd/director.service", "/usr/lib/systemd/system/director.service"),
    ] {
        fs::copy(docs::project().join(from), machine.path(to))
            .with_context(|| format!("cannot make {to}"))?;
    }
    let mut read = 0;
    for page in Page::all()? {
        for block in page.blocks() {
            let Some(language) = &block.language else { continue };
            if docs::language(language) == Some(How::Run) || page.path.starts_with("deploy/") {
                let place = || format!("{}:{}", page.path, block.line);
                check(&machine, language, &block).with_context(place)?;
                read += 1;
            }
        }
    }
    ensure!(read > 7, "only {read} files were found");
    Ok(())
}

fn check(machine: &Machine, language: &str, block: &Block) -> Result<()> {
    let text = &block.text;
    match language {
        "ini" => ini(machine, text),
        "interfaces" => {
            let path = put(machine, text)?;
            let said = machine.run(&["ifup", "--no-act", "--verbose", "--force", "-i", &path, "lo"])?;
            let addresses = ["add 192.0.2.10/255.255.255.255 ", "add 2001:db8::10/128 "];
            ensure!(addresses.iter().all(|address| said.contains(address)), "{said}");
            Ok(())
        }
        "nginx" => {
            let whole = format!("events {{}}\nhttp {{ server {{ listen 127.0.0.1:8099;\n{text}\n}} }}\n");
            machine.write("/root/nginx.conf", &whole)?;
            machine
                .run(&["nginx", "-t", "-q", "-c", "/root/nginx.conf", "-g", "pid /root/nginx.pid;"])
                .map(drop)
        }
        "named" => {
            machine.write("/root/named.conf", text)?;
            machine.run(&["named-checkconf", "/root/named.conf"]).map(drop)
        }
        "json" => {
            for line in text.lines() {
                serde_json::from_str::<Value>(line)?;
            }
            Ok(())
        }
        "yaml" => netplan(text),
        other => bail!("how is a block of {other} to be read?"),
    }
}

/// Writes a file to the path in its first line, a comment, and gives that.
fn put(machine: &Machine, text: &str) -> Result<String> {
    let first = text.lines().next().unwrap_or_default();
    let path = first.strip_prefix("# /").and_then(|rest| rest.split([';', ' ']).next());
    let path = format!("/{}", path.context("it does not begin with `# ` and the file's path")?);
    let directory = Path::new(&path).parent().context("a path has a directory")?;
    fs::create_dir_all(machine.path(&directory.display().to_string()))?;
    machine.write(&path, text)?;
    Ok(path)
}

fn ini(machine: &Machine, text: &str) -> Result<()> {
    let path = put(machine, text)?;
    if path.starts_with("/etc/sysctl.d/") {
        return machine.run(&["sysctl", "-p", &path]).map(drop);
    }
    let sections = sections(text)?;
    if path.starts_with("/etc/systemd/network/") {
        for (section, keys) in &sections {
            let known = NETWORKD.iter().find(|(name, _)| name == section).map(|(_, known)| *known);
            let known = known.with_context(|| format!("[{section}] is not known to this test"))?;
            ensure!(
                keys.iter().all(|key| known.contains(key)),
                "[{section}] {keys:?}, of which {known:?} are known"
            );
        }
        return Ok(());
    }
    ensure!(path.starts_with("/etc/systemd/system/"), "what reads {path}?");
    ensure!(sections.iter().any(|(name, _)| *name == "Service"), "{path} is no service");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return Ok(());
    }
    // A drop-in is read with what it adds to.
    let unit = path.split(".d/").next().and_then(|unit| unit.rsplit('/').next()).unwrap_or_default();
    // Its exit code is also about other units of this system.
    let (_, said) = machine.try_run(&["systemd-analyze", "verify", "--man=no", unit])?;
    let about =
        said.lines().filter(|line| line.contains(&path) || line.contains(&format!("{unit}:"))).count();
    ensure!(about == 0, "{said}");
    Ok(())
}

/// Sections with their keys.
fn sections(text: &str) -> Result<Vec<(&str, Vec<&str>)>> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            found.push((name, Vec::new()));
            continue;
        }
        let (key, value) =
            line.split_once('=').with_context(|| format!("neither section nor key: {line}"))?;
        ensure!(!value.is_empty(), "{key} has no value");
        found.last_mut().context("a key before all sections")?.1.push(key);
    }
    Ok(found)
}

/// What netplan knows, as far as the documentation needs it (netplan-yaml(5)).
const NETPLAN: [&str; 9] =
    ["network", "version", "2", "ethernets", "lo", "match", "name", "addresses", "lifetime"];

/// Names that are known, and addresses of `lo`, in well-formed YAML.
fn netplan(text: &str) -> Result<()> {
    let mut addresses = 0;
    for event in Parser::new_from_str(text) {
        let Event::Scalar(word, ..) = event?.0 else { continue };
        let Some((ip, prefix)) = word.split_once('/') else {
            ensure!(NETPLAN.contains(&&*word) || word == "0", "{word} is not known to this test");
            continue;
        };
        ensure!(prefix == if ip.parse::<IpAddr>()?.is_ipv4() { "32" } else { "128" }, "{word}");
        addresses += 1;
    }
    ensure!(addresses == 2, "{addresses} addresses");
    Ok(())
}
