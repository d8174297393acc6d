//! Directors of a cluster in a lab, with services that answer by UDP: for tests, the bench and the demo of failover.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::clients::Prober;
use crate::lab::{Cluster, Config, DIRECT_VIPS, Daemon, Lab, NAT_VIPS, Nginx, Service, UdpEcho};
use crate::wait;

/// The port of the services that answer what they are sent.
pub const ECHO: u16 = 7;
/// How long something may take that does not take long.
const PATIENCE: Duration = Duration::from_secs(20);
/// The group of VIPs that name none.
pub const DEFAULT: &str = "default";

/// A running cluster. Dropped, everything ends.
#[derive(Debug)]
pub struct Pair {
    // In this order they end.
    directors: Vec<Daemon>,
    _echoes: Vec<UdpEcho>,
    _nginx: Vec<Nginx>,
    lab: Lab,
    config: String,
}

/// Who was what when a load began: it must be so at its end, and all the time.
#[derive(Debug)]
pub struct Peace {
    begun: Instant,
    seen: Vec<Seen>,
}

/// What one director says.
#[derive(Debug)]
struct Seen {
    /// Name, role and term of each group.
    roles: Vec<[String; 3]>,
    /// For how many seconds each other director is alive.
    alive_for: Vec<f64>,
}

/// How old a report may be, in seconds.
const REPORT_AGE: f64 = 1.0;

impl Pair {
    /// So many directors, all started at once, and waits until each group has an owner and each director knows the way to every real
    /// server. `cluster` and `config` say what is special.
    pub fn start(
        directors: u8,
        cluster: impl FnOnce(Cluster) -> Cluster,
        config: impl FnOnce(Config) -> Config,
    ) -> Result<Pair> {
        Pair::prepare(directors, cluster, config)?.started()
    }

    /// Starts all directors at once, and waits as [`Pair::start`] does.
    pub fn started(mut self) -> Result<Pair> {
        self.directors = self.lab.director_all(self.config.clone())?;
        self.await_steady()?;
        Ok(self)
    }

    /// The same without starting any director: see [`Pair::start_one`].
    pub fn prepare(
        directors: u8,
        cluster: impl FnOnce(Cluster) -> Cluster,
        config: impl FnOnce(Config) -> Config,
    ) -> Result<Pair> {
        Pair::within(Lab::builder().directors(directors).build()?, cluster, config)
    }

    /// The same in this lab.
    pub fn within(
        lab: Lab,
        cluster: impl FnOnce(Cluster) -> Cluster,
        config: impl FnOnce(Config) -> Config,
    ) -> Result<Pair> {
        let nginx = lab.nginx_everywhere()?;
        let mut echoes = Vec::new();
        for real in lab.reals() {
            echoes.push(lab.udp_echo(real.name(), ECHO)?);
        }
        let config = config(services().cluster(cluster(lab.cluster()?))).yaml();
        Ok(Pair { directors: Vec::new(), _echoes: echoes, _nginx: nginx, lab, config })
    }

    /// Starts one more director, the one of this number; in the order of their numbers.
    pub fn start_one(&mut self, number: u8) -> Result<()> {
        ensure!(self.directors.len() + 1 == usize::from(number), "directors start in order");
        self.directors.push(self.lab.director_n(number, self.config.clone())?);
        Ok(())
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The configuration that all were started with.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The director of a number, from 1.
    pub fn director(&mut self, number: u8) -> &mut Daemon {
        &mut self.directors[usize::from(number) - 1]
    }

    /// The machine of the director of a number.
    pub fn host(number: u8) -> String {
        format!("director{number}")
    }

    /// What the director of this number says, if it runs.
    pub fn status(&self, number: u8) -> Option<Value> {
        let daemon = &self.directors[usize::from(number) - 1];
        daemon.pid()?;
        daemon.status().ok()
    }

    /// What a director says it is for a group: `active`, `standby`, …
    pub fn role(&self, number: u8, group: &str) -> Option<String> {
        Some(group_of(&self.status(number)?, group)?["role"].as_str()?.to_owned())
    }

    /// Waits until this director is active for a group, and no other one that answers is.
    pub fn await_owner(&self, number: u8, group: &str) -> Result<()> {
        let waited = wait::until(&format!("lb{number} to hold {group} alone"), PATIENCE, || {
            let numbers = 1..=u8::try_from(self.directors.len())?;
            let holders: Vec<u8> = numbers
                .filter(|one| matches!(self.role(*one, group).as_deref(), Some("active" | "yielding")))
                .collect();
            Ok((holders == [number]).then_some(()))
        });
        waited.with_context(|| self.story())
    }

    /// The number of the director that holds a group; waits until there is exactly one.
    pub fn owner(&self, group: &str) -> Result<u8> {
        let waited = wait::until(&format!("an owner of {group}"), PATIENCE, || {
            let numbers = 1..=u8::try_from(self.directors.len())?;
            let holders: Vec<u8> =
                numbers.filter(|one| self.role(*one, group).as_deref() == Some("active")).collect();
            Ok(if let [one] = holders[..] { Some(one) } else { None })
        });
        waited.with_context(|| self.story())
    }

    /// Waits until every group has one owner that has all its VIPs, every director that runs hears all others that run, and knows the way
    /// to all real servers.
    pub fn await_steady(&self) -> Result<()> {
        let waited = wait::until("the cluster to be steady", PATIENCE, || {
            let running = self.directors.iter().filter(|director| director.pid().is_some()).count();
            let numbers = 1..=u8::try_from(self.directors.len())?;
            let mut held = 0;
            for number in numbers.filter(|number| self.directors[usize::from(*number) - 1].pid().is_some()) {
                let Some(status) = self.status(number) else { return Ok(None) };
                if !is_steady(&status, running - 1) {
                    return Ok(None);
                }
                let groups = status["pair"]["cluster"]["groups"].as_array().map_or(&[][..], Vec::as_slice);
                held += groups.iter().filter(|group| group["role"] == "active").count();
                if groups.iter().any(|group| group["owner"].is_null()) {
                    return Ok(None);
                }
                if held > groups.len() {
                    bail!("more owners than groups: {status:#}");
                }
            }
            Ok(Some(()))
        });
        waited.with_context(|| self.story())
    }

    /// Probes an echo service at a VIP once a millisecond.
    pub fn probe(&self, vip: &str) -> Result<Prober> {
        let vip: IpAddr = vip.parse()?;
        Prober::start(self.lab.client(), SocketAddr::new(vip, ECHO), Duration::from_millis(1))
    }

    /// Runs a command line on the director of a number, which has to succeed.
    pub fn cli(&self, number: u8, arguments: &[&str]) -> Result<String> {
        self.directors[usize::from(number) - 1].cli_ok(arguments)
    }

    /// Runs a command line on the director of a number, which has to fail; what it says of that.
    pub fn cli_fails(&self, number: u8, arguments: &[&str]) -> Result<String> {
        let output = self.directors[usize::from(number) - 1].cli(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Gives all directors another configuration, one after the other.
    pub fn reload_all(&self, config: &str) -> Result<()> {
        for director in &self.directors {
            let output = director.reload(config)?;
            ensure!(output.status.success(), "{output:?}\n{}", self.story());
        }
        Ok(())
    }

    /// What the director of a number has logged.
    pub fn log(&self, number: u8) -> String {
        self.directors[usize::from(number) - 1].log()
    }

    /// All logs, for whoever reads why something failed.
    pub fn story(&self) -> String {
        let logs = self
            .directors
            .iter()
            .zip(1..)
            .map(|(director, number)| format!("lb{number}:\n{}", director.log()));
        logs.collect::<Vec<_>>().join("\n")
    }
}

impl Peace {
    /// Looks at who is what for each group now, and since when each hears each other.
    pub fn begin(pair: &Pair) -> Result<Peace> {
        let begun = Instant::now();
        let numbers = 1..=u8::try_from(pair.directors.len())?;
        Ok(Peace { begun, seen: numbers.map(|number| Seen::of(pair, number)).collect::<Result<_>>()? })
    }

    /// Fails if a role or a term changed since, or a director took another one for dead.
    pub fn ensure_kept(&self, pair: &Pair) -> Result<()> {
        let passed = self.begun.elapsed().as_secs_f64();
        for (before, number) in self.seen.iter().zip(1..) {
            let now = Seen::of(pair, number)?;
            ensure!(now.roles == before.roles, "lb{number} had {:?}, and has {:?}", before.roles, now.roles);
            for (since, before) in now.alive_for.iter().zip(&before.alive_for) {
                // What is reported is as old as the last report.
                let lived = since + REPORT_AGE >= before + passed;
                ensure!(lived, "lb{number} hears a peer for {since} s only, after {passed} s of load");
            }
        }
        Ok(())
    }
}

impl Seen {
    fn of(pair: &Pair, number: u8) -> Result<Seen> {
        let status = pair.status(number).with_context(|| format!("lb{number} does not answer"))?;
        let (groups, peers) = (&status["pair"]["cluster"]["groups"], &status["pair"]["cluster"]["peers"]);
        let groups = groups.as_array().context("no groups")?;
        let peers = peers.as_array().context("no peers")?;
        ensure!(
            peers.iter().all(|peer| peer["alive"] == true),
            "lb{number} takes a peer for dead: {peers:?}"
        );
        Ok(Seen {
            roles: groups
                .iter()
                .map(|group| [&group["name"], &group["role"], &group["term"]].map(Value::to_string))
                .collect(),
            alive_for: peers.iter().filter_map(|peer| peer["since_seconds"].as_f64()).collect(),
        })
    }
}

/// A group of a director's status.
pub fn group_of<'v>(status: &'v Value, group: &str) -> Option<&'v Value> {
    status["pair"]["cluster"]["groups"].as_array()?.iter().find(|one| one["name"] == group)
}

/// A further VIP in a group of its own, with an echo service behind it: see [`tests::lab::MORE_VIPS`](crate::lab::MORE_VIPS).
pub fn with_vip(config: Config, vip: &str, group: &str) -> Config {
    let echo = Service::udp(&format!("echo-{group}"), vip, ECHO).scheduler("mh");
    let echo = (21..=23).fold(echo, |echo, last| echo.real(&format!("192.0.2.{last}"), 1));
    config.vip(vip).group(vip, group).service(echo)
}

/// An echo service on each of the lab's VIPs.
fn services() -> Config {
    let named = DIRECT_VIPS.into_iter().chain(NAT_VIPS).enumerate();
    named.fold(Config::new(), |config, (i, vip)| {
        let v6 = vip.contains(':');
        let real = |last: u8| if v6 { format!("2001:db8::{last}") } else { format!("192.0.2.{last}") };
        let nat = NAT_VIPS.contains(&vip);
        let both = [Service::udp(&format!("echo{i}"), vip, ECHO), Service::tcp(&format!("web{i}"), vip, 80)];
        both.into_iter().fold(config, |config, service| {
            // The same real server for the same client whichever director is asked: connections survive their director.
            let service = if nat { service.nat() } else { service }.scheduler("mh");
            config.service((21..=23).fold(service, |service, last| service.real(&real(last), 1)))
        })
    })
}

/// Whether every director may hold every group, but for those that an operator holds back.
fn all_take_part(cluster: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let held = |name: &Value| {
        (cluster["me"] == *name && cluster["held"] == true)
            || list(&cluster["peers"]).iter().any(|peer| peer["name"] == *name && peer["held"] == true)
    };
    let contenders: Vec<Value> =
        list(&cluster["groups"]).iter().flat_map(|group| list(&group["directors"])).collect();
    contenders.iter().all(|one| one["eligible"] == true || held(&one["director"]))
}

fn is_steady(status: &Value, others: usize) -> bool {
    let alive = status["pair"]["cluster"]["peers"].as_array().map_or(0, |peers| {
        peers.iter().filter(|peer| peer["alive"] == true && peer["hears_us"] == true).count()
    });
    let vips =
        status["vips"].as_array().is_some_and(|vips| vips.iter().all(|vip| vip["held"] == vip["wanted"]));
    let services = status["services"].as_array().map_or(&[][..], Vec::as_slice);
    let mut reals = services.iter().filter_map(|service| service["reals"].as_array()).flatten();
    alive == others
        && vips
        && all_take_part(&status["pair"]["cluster"])
        && reals.all(|real| real["reachable"] == true)
}
