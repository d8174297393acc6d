//! Commands of other programs than the director, wherever the documentation has them: each is run on the machine of a lab that it is for.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::docs::{self, How, Page, commands};
use tests::lab::{Config, DIRECT_VIPS, Lab, Service};

use super::machine::Machine;

/// A line that has such a command, and where it stands.
struct Line {
    place: String,
    text: String,
    /// Of its first command that is to be run.
    program: String,
}

/// All lines of a page's blocks that are to be run, each once.
fn lines(page: &Page, seen: &mut HashSet<String>) -> Vec<Line> {
    let mut found = Vec::new();
    for block in page.blocks().iter().filter(|block| block.is_commands()) {
        for (number, text) in block.lines() {
            let programs = commands(text).into_iter().filter_map(|words| words.into_iter().next());
            let program = programs.into_iter().find(|name| docs::program(name) == Some(How::Run));
            let place = format!("{}:{number}: {text}", page.path);
            found.extend(program.map(|program| Line { place, text: text.to_owned(), program }));
        }
    }
    found.retain(|line| seen.insert(line.text.clone()));
    found
}

#[test]
fn commands_of_the_documentation_do_what_they_are_there_for() -> Result<()> {
    let lab = Lab::builder().build()?;
    for real in ["real1", "real2"] {
        let output = lab.real_server(real, &["down"])?;
        ensure!(output.status.success(), "{output:?}");
    }
    let service = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.23", 1);
    let _director = lab.director(Config::new().service(service))?;
    let _nginx = lab.nginx("real3")?;
    let prepared = Machine::named(&lab, "real2", "web2")?;
    prepared.shell("mkdir -p /root/target/release /etc/director && touch /root/target/release/director")?;
    let script = docs::project().join("deploy/real-server/director-real-server");
    fs::copy(&script, prepared.path("/root/director-real-server"))?;

    let mut seen = HashSet::new();
    let mut pages = Page::all()?;
    // The script's own page says how it is installed.
    pages.sort_by_key(|page| page.path != "deploy/real-server/README.md");
    let mut run = 0;
    for page in &pages {
        for line in lines(page, &mut seen) {
            run_line(&lab, &prepared, &line).with_context(|| line.place.clone())?;
            run += 1;
        }
    }
    ensure!(run > 10, "only {run} lines were found");
    // By hand, as README.md has it: settings, then addresses.
    let by_hand = lab.real_server("real1", &["check", DIRECT_VIPS[0], DIRECT_VIPS[1]])?;
    ensure!(by_hand.status.success(), "{by_hand:?}");
    settings_exist(&lab, &pages)
}

/// Runs it where it belongs. What stands for a name of the reader's gets one.
fn run_line(lab: &Lab, prepared: &Machine, line: &Line) -> Result<()> {
    let text = line.text.replace("PEER", "real1");
    let words = ["sh", "-c", &text];
    match &line.program[..] {
        "director-real-server" | "install" => {
            prepared.shell(&format!("cd /root && {text}"))?;
        }
        "umask" => {
            prepared.shell(&text)?;
            is_key(&prepared.path("/etc/director/heartbeat.key"))?;
        }
        "curl" => ensure!(lab.client().run(&words)?.contains("real3"), "another answer"),
        "ip" if text.contains("neighbour show") => drop(lab.client().run(&words)?),
        "ip" | "sysctl" => drop(lab.host("real1").run(&words)?),
        "ethtool" => drop(lab.host("switch").run(&words)?),
        // Debian's bpftool is built without a disassembler.
        "bpftool" if text.contains(" jited ") => {}
        "bpftool" => ensure!(!lab.host("director").run(&words)?.is_empty(), "it prints nothing"),
        other => anyhow::bail!("on which machine is {other} to be run?"),
    }
    Ok(())
}

/// A key as the director wants it: nobody else's to read, an id and a secret.
fn is_key(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let mode = fs::metadata(file)?.permissions().mode();
    let secret = text.trim_end().strip_prefix("1 ").unwrap_or_default();
    ensure!(mode & 0o777 == 0o600 && secret.len() == 64, "mode {mode:o}: {text:?}");
    ensure!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text:?}");
    fs::remove_file(file)?;
    Ok(())
}

/// Every kernel parameter of the network that the pages name is one.
fn settings_exist(lab: &Lab, pages: &[Page]) -> Result<()> {
    let mut named = HashSet::new();
    for page in pages {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "._".contains(letter);
        for word in page.text.split(|letter| !is_part(letter)) {
            let name = word.trim_end_matches('.');
            if ["net.ipv4.", "net.ipv6.", "net.core."].iter().any(|begin| name.starts_with(begin)) {
                named.insert(name.to_owned());
            }
        }
    }
    ensure!(named.len() > 2, "{named:?}");
    lab.host("director").within(|| {
        for name in &named {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            ensure!(path.exists(), "the documentation names {name}, which this kernel does not have");
        }
        Ok(())
    })
}
