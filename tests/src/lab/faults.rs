//! What breaks: cables, switches' ports, single paths, whole machines. Each fault is undone when it is healed or dropped.
//!
//! Silent faults are rules of the switches' nftables (family `bridge`), one table for each, in the switch's
//! namespace: nobody's carrier changes. What a host sends is dropped before the bridge learns from it, so that a host that
//! is cut off cannot draw traffic to its port.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

use super::host::Host;
use super::plan::Plan;
use super::{Lab, namespaces, process};

/// Which direction, as the first host that is named sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Both.
    Both,
    /// What it should hear: it goes on to speak.
    In,
    /// What it says: it goes on to hear.
    Out,
}

/// Which links of a host: all, or the one to a switch. A name is all, a pair of names is host and switch.
#[derive(Clone, Copy, Debug)]
pub struct Links<'name> {
    host: &'name str,
    switch: Option<&'name str>,
}

impl<'name> From<&'name str> for Links<'name> {
    fn from(host: &'name str) -> Self {
        Links { host, switch: None }
    }
}

impl<'name> From<(&'name str, &'name str)> for Links<'name> {
    fn from((host, switch): (&'name str, &'name str)) -> Self {
        Links { host, switch: Some(switch) }
    }
}

/// What is broken as long as this lives.
#[derive(Debug)]
#[must_use = "a fault is healed when it is dropped"]
pub struct Fault {
    /// What heals it, in this order.
    cures: Vec<Cure>,
}

#[derive(Debug)]
enum Cure {
    /// A command on a host.
    Run(Host, Vec<String>),
    /// Processes that go on.
    Thaw(Vec<Pid>),
}

impl Fault {
    /// Undoes it, and says whether that worked; dropping it does the same silently.
    pub fn heal(mut self) -> Result<()> {
        self.cure()
    }

    fn cure(&mut self) -> Result<()> {
        // Whatever fails, the rest is done.
        let cured: Vec<Result<()>> = self.cures.drain(..).map(|cure| cure.apply()).collect();
        cured.into_iter().collect()
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Err(error) = self.cure() {
            eprintln!("a fault was not healed: {error:#}");
        }
    }
}

impl Cure {
    fn apply(&self) -> Result<()> {
        match self {
            Cure::Run(host, words) => host.run(words).map(drop),
            Cure::Thaw(pids) => process::thaw(pids),
        }
    }
}

impl Lab {
    /// Pulls cables: the switch's end goes down, and the host sees that there is no carrier.
    pub fn cut_cable<'name>(&self, links: impl Into<Links<'name>>) -> Result<Fault> {
        let links = links.into();
        let mut fault = Fault { cures: Vec::new() };
        for switch in self.switches_of(links) {
            let set = |state: &str| ["ip", "link", "set", links.host, state].map(str::to_owned);
            switch.run(&set("down"))?;
            fault.cures.push(Cure::Run(switch.clone(), set("up").into()));
        }
        Ok(fault)
    }

    /// Drops what the switch gets from a host or has for it, or both. The host's carrier stays, as when a switch further away
    /// dies.
    pub fn cut_silent<'name>(&self, links: impl Into<Links<'name>>, way: Way) -> Result<Fault> {
        self.drop_at_port(links.into(), way, "drop")
    }

    /// Loses this share of frames in each of the ways, in percent. By chance, so a test needs many frames or bounds.
    pub fn loss<'name>(&self, links: impl Into<Links<'name>>, way: Way, percent: u8) -> Result<Fault> {
        ensure!(percent <= 100, "a loss of {percent} percent");
        // nft takes no number there that always matches.
        let verdict = if percent == 100 {
            "drop".to_owned()
        } else {
            format!("numgen random mod 100 < {percent} drop")
        };
        self.drop_at_port(links.into(), way, &verdict)
    }

    /// Drops all frames between hosts of one side and hosts of the other, on every switch that both are on: broadcasts, too.
    /// With [`Way::In`], those of the first side hear nothing of the second, but are heard. Everybody else reaches both.
    pub fn partition(&self, ones: &[&str], others: &[&str], way: Way) -> Result<Fault> {
        let mut fault = Fault { cures: Vec::new() };
        for switch in self.hosts().filter(|host| self.is_switch(host)) {
            let mut rules = String::new();
            let there = |host: &str| self.switches_of(host.into()).any(|its| its.name() == switch.name());
            for (one, other) in ones.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
                if !there(one) || !there(other) {
                    continue;
                }
                if way != Way::Out {
                    push_rule(&mut rules, &format!("iifname {other:?} oifname {one:?} drop"));
                }
                if way != Way::In {
                    push_rule(&mut rules, &format!("iifname {one:?} oifname {other:?} drop"));
                }
            }
            if !rules.is_empty() {
                let chain = format!("chain between {{ type filter hook forward priority 0; {rules}}}; ");
                fault.cures.push(add_table(switch, &chain)?);
            }
        }
        ensure!(!fault.cures.is_empty(), "{ones:?} and {others:?} share no switch");
        Ok(fault)
    }

    /// Stops a whole machine at once: nothing that it sends arrives any more, its kernel's answers neither, and all its processes
    /// are stopped (servers that are threads of the test are not; nobody reaches them). Healed, it goes on as a
    /// paused virtual machine does.
    pub fn freeze_host(&self, host: &str) -> Result<Fault> {
        let mut fault = self.cut_silent(host, Way::Both)?;
        let namespace = self.host(host).namespace();
        // What a process started before it stopped is there in the next round.
        let mut frozen: Vec<Pid> = Vec::new();
        loop {
            let fresh: Vec<Pid> =
                namespaces::processes_of(namespace).into_iter().filter(|pid| !frozen.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            fault.cures.push(Cure::Thaw(fresh.clone()));
            process::freeze(&fresh).with_context(|| format!("on {host}"))?;
            frozen.extend(fresh);
        }
        Ok(fault)
    }

    fn drop_at_port(&self, links: Links<'_>, way: Way, verdict: &str) -> Result<Fault> {
        let mut fault = Fault { cures: Vec::new() };
        let mut chains = String::new();
        if way != Way::In {
            // Before the bridge learns who is behind its port.
            push_rule(
                &mut chains,
                &format!(
                    "chain from {{ type filter hook prerouting priority -300; iifname {:?} {verdict}; }}",
                    links.host
                ),
            );
        }
        if way != Way::Out {
            push_rule(
                &mut chains,
                &format!(
                    "chain to {{ type filter hook postrouting priority 300; oifname {:?} {verdict}; }}",
                    links.host
                ),
            );
        }
        for switch in self.switches_of(links) {
            fault.cures.push(add_table(switch, &chains)?);
        }
        Ok(fault)
    }

    /// The switches that a host is on, by the links in question; none, or no such host, is a mistake in the test.
    fn switches_of(&self, links: Links<'_>) -> impl Iterator<Item = &Host> {
        let plan = Plan::new(&self.options);
        let host = plan.hosts.into_iter().find(|host| host.name == links.host);
        let host = host.unwrap_or_else(|| panic!("the lab has no host {:?}", links.host));
        let mut names: Vec<&str> = host.ports.iter().map(|port| port.switch).collect();
        names.retain(|name| links.switch.is_none_or(|switch| switch == *name));
        assert!(!names.is_empty(), "{links:?} is no link of the lab");
        names.into_iter().map(|name| self.host(name))
    }

    fn is_switch(&self, host: &Host) -> bool {
        Plan::new(&self.options).switches.contains(&host.name())
    }
}

fn push_rule(text: &mut String, rule: &str) {
    write!(text, "{rule}; ").expect("a String takes whatever is written");
}

/// Makes a table of its own on a switch, and gives what removes it.
fn add_table(switch: &Host, chains: &str) -> Result<Cure> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!("fault{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    nft(switch, &format!("table bridge {name} {{ {chains}}}\n"))?;
    Ok(Cure::Run(switch.clone(), ["nft", "delete", "table", "bridge", &name].map(str::to_owned).into()))
}

fn nft(switch: &Host, rules: &str) -> Result<()> {
    let mut command = switch.command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run `nft`; `cargo xtask setup` installs it")?;
    child.stdin.take().context("no pipe to `nft`")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft on {}: {stderr}\nin\n{rules}", switch.name());
    Ok(())
}
