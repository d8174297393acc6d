//! What a packet meets: a data plane with so many services and so many live flows, made through the reconciler as the daemon
//! makes it. Its pins are there only while it is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use director::dataplane::{Counters, Dataplane, Options, Trial};
use director::model::{
    Config, Forward, HealthPolicy, Limits, Ports, Real, Scheduler, Service, Timeouts, Unserved,
};
use director::pool::{self, Health, NextHop, NextHops, Overrides};
use director::reconcile;

use super::kind::{self, Kind};

/// Our interface's MAC.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Our interface: `lo`, the one there is everywhere. No packet leaves.
pub const IFINDEX: u32 = 1;
/// Real servers of a service that forwards directly. One that NATs has one: its replies' source is known then.
const REALS: u32 = 10;

/// A bpf file system's usual place.
const BPF: &str = "/sys/fs/bpf";
/// How pins of the bench are called.
const PREFIX: &str = "director-bench-";

/// A data plane to send packets through.
pub struct Scene {
    dataplane: Dataplane,
    trial: Trial,
    backends: Vec<u32>,
    places: u32,
}

/// Pins that go when this does.
pub struct Pins(PathBuf);

impl Pins {
    /// A directory of this process's own; what killed ones left is removed.
    pub fn new() -> Pins {
        for entry in fs::read_dir(BPF).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.strip_prefix(PREFIX) else { continue };
            if !Path::new("/proc").join(pid).exists() {
                let _ = Dataplane::detach_all(&entry.path());
            }
        }
        Pins(Path::new(BPF).join(format!("{PREFIX}{}", std::process::id())))
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = Dataplane::detach_all(&self.0) {
            eprintln!("{error}");
        }
    }
}

impl Scene {
    /// With so many services of the kind's, and room for so many flows.
    pub fn open(kind: Kind, services: u32, flows: u32) -> Result<Scene> {
        let config = config(kind, services, flows);
        let pins = Pins::new();
        let options = Options { pins: pins.path().into(), limits: config.limits };
        let mut dataplane = Dataplane::open(&options)?;
        let desired =
            pool::desired(&config, &Overrides::default(), Health::unknown(Instant::now()), &hops(&config));
        let plan = reconcile::diff(&dataplane.observe()?, &desired, &dataplane.units());
        ensure!(plan.problems.is_empty(), "{} services do not fit: {:?}", services, plan.problems[0]);
        dataplane.apply(&plan.ops)?;
        let trial = dataplane.trial(OWN_MAC, IFINDEX)?;
        let placements = plan.placements.into_iter().flatten();
        let backends = placements.flat_map(|placement| placement.backends).flatten().collect();
        let places = u32::try_from(dataplane.flows().places()).context("a table beyond all measure")?;
        Ok(Scene { dataplane, trial, backends, places })
    }

    /// The program.
    pub fn program(&self) -> Result<&ProgramFd> {
        Ok(self.trial.fd()?)
    }

    /// The program without a harness: for packets that it does not change.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Places in its flow table.
    pub fn places(&self) -> u32 {
        self.places
    }

    /// What it counted, of backends the sum under id 0.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = self.dataplane.counters(self.backends.iter().copied(), [])?;
        let mut sum = director_ebpf::abi::BackendStats::default();
        for stats in counters.backends.values() {
            sum.packets_in += stats.packets_in;
            sum.packets_out += stats.packets_out;
            sum.bytes_in += stats.bytes_in;
            sum.bytes_out += stats.bytes_out;
            sum.new_flows += stats.new_flows;
        }
        counters.backends = [(0, sum)].into();
        Ok(counters)
    }
}

fn config(kind: Kind, services: u32, flows: u32) -> Config {
    let reals = if kind.forward() == Forward::Nat { 1 } else { REALS };
    Config {
        interfaces: vec!["lo".into()],
        services: (0..services).map(|i| service(kind, i, reals)).collect(),
        limits: Limits {
            flows,
            services: services + 1,
            reals: services * reals + 1,
            keys: services,
            slots: Limits::default().slots,
        },
        ..Config::default()
    }
}

fn service(kind: Kind, i: u32, reals: u32) -> Service {
    let real =
        |r| Real { address: kind.real(i * reals + r), port: kind::real_port(kind.forward()), weight: 1 };
    Service {
        name: format!("s{i}"),
        address: kind.vip(i),
        protocol: kind.protocol(),
        ports: Ports::List(vec![kind::service_port()]),
        forward: kind.forward(),
        scheduler: Scheduler::Mh,
        persistence: None,
        timeouts: Timeouts::default(),
        unserved: Unserved::Drop,
        sloppy: false,
        reals: (0..reals).map(real).collect(),
        health: HealthPolicy::default(),
    }
}

/// Every real server's MAC is made of its number.
fn hops(config: &Config) -> NextHops {
    let reals = config.services.iter().flat_map(|service| &service.reals);
    let hop = |number: usize| {
        let [a, b, c, d] = (number as u32).to_be_bytes();
        NextHop { mac: [2, 1, a, b, c, d], source_mac: OWN_MAC, ifindex: IFINDEX }
    };
    reals.enumerate().map(|(number, real)| (real.address, hop(number))).collect()
}
