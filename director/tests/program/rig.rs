//! A data plane of a test's own: maps under pins of its own, services from desired state through the reconciler, and packets
//! through BPF_PROG_TEST_RUN.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use director::dataplane::{Counters, Dataplane, Flow, Options, Outcome, Trial, Verdict};
use director::model::{Forward, Limits, Ports, Protocol, Scheduler, Timeouts, Unserved};
use director::pool::{Desired, DesiredReal, DesiredService, NextHop};
use director::reconcile::{self, Placement};
use director_ebpf::abi::{BackendStats, Reason, ServiceStats};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::packet::OWN;

/// Index of the interface that the program stands on: the loopback, which every machine has.
pub const HERE: u32 = 1;
/// Its sizes, unless a test wants others.
pub const LIMITS: Limits = Limits { flows: 4096, services: 64, reals: 256, keys: 1024, slots: 1 << 18 };

/// Where pins lie; the process's id and a number follow.
const PINS: &str = "/sys/fs/bpf/program-test-";

/// A directory of pins that goes when this does.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Pins {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "this test loads BPF programs: run it as root");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        if count == 0 {
            Pins::clear_leftovers();
        }
        Pins(PathBuf::from(format!("{PINS}{}-{count}", std::process::id())))
    }

    /// Removes what runs that were killed have left behind.
    fn clear_leftovers() {
        for entry in std::fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten() {
            let path = entry.path();
            let run = path.to_str().and_then(|path| path.strip_prefix(PINS)?.split('-').next());
            if run.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps this thread on one CPU: counters in turn are each CPU's own.
pub fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("this CPU");
}

/// The index of an interface other than [`HERE`].
pub fn elsewhere() -> u32 {
    let interfaces = std::fs::read_dir("/sys/class/net").expect("sysfs");
    interfaces
        .filter_map(|entry| {
            std::fs::read_to_string(entry.ok()?.path().join("ifindex")).ok()?.trim().parse().ok()
        })
        .find(|index| *index != HERE)
        .expect("an interface beside the loopback")
}

/// The next hop of the `real`th real server of the `service`th service: its MAC says which it is.
pub fn hop(service: usize, real: usize) -> NextHop {
    NextHop { mac: [0x02, 0xee, 0, 0, service as u8, real as u8], source_mac: OWN, ifindex: HERE }
}

/// A service with its real servers (`ADDRESS`, or `ADDRESS:PORT` where the port is mapped), each of weight 1 and of a known
/// next hop. It is meant to be the `nth` of its rig.
pub fn service(
    nth: usize,
    vip: &str,
    protocol: Protocol,
    forward: Forward,
    reals: &[&str],
) -> DesiredService {
    let vip = crate::packet::at(vip);
    let real = |(i, text): (usize, &&str)| {
        let (address, port) = match text.parse::<IpAddr>() {
            Ok(address) => (address, None),
            Err(_) => (crate::packet::at(text).ip(), Some(crate::packet::at(text).port())),
        };
        DesiredReal { address, port, weight: 1, out: false, hop: Some(hop(nth, i)) }
    };
    DesiredService {
        name: format!("service-{nth}"),
        address: vip.ip(),
        protocol,
        ports: if vip.port() == 0 { Ports::Any } else { Ports::List(vec![vip.port()]) },
        forward,
        scheduler: Scheduler::Rr,
        persistence: None,
        timeouts: Timeouts::default(),
        unserved: Unserved::Drop,
        sloppy: false,
        reset: false,
        local: false,
        table_size: 251,
        reals: reals.iter().enumerate().map(real).collect(),
    }
}

/// What is to become of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame that leaves or is passed.
    pub frame: Option<Vec<u8>>,
    /// What is counted.
    pub counts: Counts,
}

/// What a packet changed of the counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// By reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// By service and real server.
    pub backends: BTreeMap<(usize, usize), BackendStats>,
    /// By service.
    pub services: BTreeMap<usize, ServiceStats>,
}

impl Fate {
    fn of(verdict: Verdict, frame: Option<&[u8]>, reasons: &[Reason]) -> Fate {
        let reasons = reasons.iter().map(|reason| (*reason, 1)).collect();
        let counts = Counts { reasons, ..Counts::default() };
        Fate { verdict, frame: frame.map(<[u8]>::to_vec), counts }
    }

    /// Dropped.
    pub fn dropped(reason: Reason) -> Fate {
        Fate::of(Verdict::Drop, None, &[reason])
    }

    /// Passed to the kernel as it came.
    pub fn passed(frame: &[u8], reason: Reason) -> Fate {
        Fate::of(Verdict::Pass, Some(frame), &[reason])
    }

    /// Sent to a real server.
    pub fn sent(backend: (usize, usize), frame: &[u8]) -> Fate {
        let stats = BackendStats { packets_in: 1, bytes_in: frame.len() as u64, ..BackendStats::default() };
        Fate::of(Verdict::Tx, Some(frame), &[]).with(backend, stats)
    }

    /// A real server's packet, sent to its client.
    pub fn returned(backend: (usize, usize), frame: &[u8]) -> Fate {
        let stats = BackendStats { packets_out: 1, bytes_out: frame.len() as u64, ..BackendStats::default() };
        Fate::of(Verdict::Tx, Some(frame), &[]).with(backend, stats)
    }

    /// Answered by the director itself.
    pub fn answered(reason: Reason, frame: &[u8]) -> Fate {
        Fate::of(Verdict::Tx, Some(frame), &[reason])
    }

    fn with(mut self, backend: (usize, usize), stats: BackendStats) -> Fate {
        self.counts.backends.insert(backend, stats);
        self
    }

    /// ... as the first packet of a flow.
    pub fn new_flow(mut self) -> Fate {
        self.counts.backends.values_mut().for_each(|stats| stats.new_flows += 1);
        self
    }

    /// ... by another interface.
    pub fn redirected(self) -> Fate {
        Fate { verdict: Verdict::Redirect, ..self }
    }

    /// ... with one more reason counted.
    pub fn and(mut self, reason: Reason) -> Fate {
        *self.counts.reasons.entry(reason).or_default() += 1;
        self
    }

    /// ... and this counted for a service.
    pub fn service(mut self, service: usize, f: impl FnOnce(&mut ServiceStats)) -> Fate {
        f(self.counts.services.entry(service).or_default());
        self
    }
}

/// The data plane under test.
pub struct Rig {
    /// The data plane.
    pub dataplane: Dataplane,
    /// The program.
    pub trial: Trial,
    /// What it shall hold.
    pub desired: Desired,
    placements: Vec<Placement>,
    _pins: Pins,
}

impl Rig {
    /// A data plane with these services.
    pub fn new(services: Vec<DesiredService>) -> Rig {
        Rig::sized(LIMITS, services)
    }

    /// The same, of other sizes.
    pub fn sized(limits: Limits, services: Vec<DesiredService>) -> Rig {
        stay_on(0);
        let pins = Pins::new();
        let dataplane = Dataplane::open(&Options { pins: pins.0.clone(), limits }).expect("a data plane");
        let trial = dataplane.trial(OWN, HERE).expect("the program loads");
        let mut rig =
            Rig { dataplane, trial, desired: Desired { services }, placements: Vec::new(), _pins: pins };
        rig.settle();
        rig
    }

    /// Changes what is desired, and makes it so.
    pub fn change(&mut self, f: impl FnOnce(&mut Vec<DesiredService>)) {
        f(&mut self.desired.services);
        self.settle();
    }

    fn settle(&mut self) {
        let observed = self.dataplane.observe().expect("maps to read");
        let plan = reconcile::diff(&observed, &self.desired, &self.dataplane.units());
        assert_eq!(plan.problems, []);
        self.dataplane.apply(&plan.ops).expect("maps to write");
        self.placements = plan.placements.into_iter().map(|place| place.expect("there is room")).collect();
    }

    /// One packet through the program.
    pub fn run(&self, frame: &[u8]) -> Outcome {
        self.trial.run(frame, 1).expect("the kernel runs the program")
    }

    /// One packet through the program, and what it changed.
    pub fn send(&self, frame: &[u8]) -> Fate {
        let before = self.counts();
        let Outcome { verdict, frame, .. } = self.run(frame);
        let frame = (verdict != Verdict::Drop).then_some(frame);
        Fate { verdict, frame, counts: self.counts().since(&before) }
    }

    /// One packet through the program, and what must become of it.
    #[track_caller]
    pub fn expect(&self, what: &str, frame: &[u8], fate: Fate) {
        let seen = self.send(frame);
        assert_eq!(
            (seen.verdict, &seen.counts),
            (fate.verdict, &fate.counts),
            "{what}: {} ->\n{}",
            hex(frame),
            hex(seen.frame.as_deref().unwrap_or_default())
        );
        if seen.frame != fate.frame {
            let show = |frame: &Option<Vec<u8>>| hex(frame.as_deref().unwrap_or_default());
            panic!("{what}: {}\nleft as {}\ninstead {}", hex(frame), show(&seen.frame), show(&fate.frame));
        }
    }

    /// Which real server of which service a frame left to.
    pub fn real_of(&self, frame: &[u8]) -> Option<(usize, usize)> {
        let services = self.desired.services.iter().enumerate();
        services
            .flat_map(|(s, service)| service.reals.iter().enumerate().map(move |(r, real)| ((s, r), real)))
            .find(|(_, real)| real.hop.is_some_and(|hop| frame[..6] == hop.mac))
            .map(|(place, _)| place)
    }

    /// One packet through the program that must leave to a real server; which.
    #[track_caller]
    pub fn real_for(&self, frame: &[u8]) -> (usize, usize) {
        let outcome = self.run(frame);
        assert!(
            matches!(outcome.verdict, Verdict::Tx | Verdict::Redirect),
            "{:?} {}",
            outcome.verdict,
            hex(frame)
        );
        self.real_of(&outcome.frame).unwrap_or_else(|| panic!("to nobody: {}", hex(&outcome.frame)))
    }

    /// All counters.
    pub fn counters(&self) -> Counters {
        let backends = self.placements.iter().flat_map(|place| place.backends.iter().flatten().copied());
        let services = self.placements.iter().map(|place| place.id);
        self.dataplane.counters(backends, services).expect("counters")
    }

    /// All counters that are not 0, by the places of their services and real servers.
    pub fn counts(&self) -> Counts {
        let counters = self.counters();
        let reasons = Reason::ALL.iter().map(|reason| (*reason, counters.reason(*reason))).collect();
        let mut counts = Counts { reasons, ..Counts::default() };
        for (s, place) in self.placements.iter().enumerate() {
            counts.services.insert(s, counters.services[&place.id]);
            for (r, id) in place.backends.iter().enumerate() {
                counts.backends.insert((s, r), counters.backends[&id.expect("there is room")]);
            }
        }
        counts.since(&Counts::default())
    }

    /// How often a reason was given so far.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.counters().reason(reason)
    }

    /// The flow table's entries.
    pub fn flows(&self) -> Vec<Flow> {
        self.dataplane.flows().iter(self.dataplane.now().expect("a clock")).collect()
    }

    /// The next hop of a real server.
    pub fn hop(&self, (service, real): (usize, usize)) -> NextHop {
        self.desired.services[service].reals[real].hop.expect("a known next hop")
    }

    /// What a real server's packets are addressed to, for a client that asked the VIP's `port`.
    pub fn real_at(&self, (service, real): (usize, usize), port: u16) -> SocketAddr {
        let real = &self.desired.services[service].reals[real];
        SocketAddr::new(real.address, real.port.unwrap_or(port))
    }
}

impl Counts {
    /// What was added since, without what was not.
    fn since(&self, before: &Counts) -> Counts {
        let backend = |a: &BackendStats, b: &BackendStats| BackendStats {
            packets_in: a.packets_in - b.packets_in,
            bytes_in: a.bytes_in - b.bytes_in,
            packets_out: a.packets_out - b.packets_out,
            bytes_out: a.bytes_out - b.bytes_out,
            new_flows: a.new_flows - b.new_flows,
        };
        let service = |a: &ServiceStats, b: &ServiceStats| ServiceStats {
            no_real_dropped: a.no_real_dropped - b.no_real_dropped,
            no_real_rejected: a.no_real_rejected - b.no_real_rejected,
            no_flow: a.no_flow - b.no_flow,
            unplaced: a.unplaced - b.unplaced,
            ..ServiceStats::default()
        };
        Counts {
            reasons: changes(&self.reasons, &before.reasons, |a, b| a - b),
            backends: changes(&self.backends, &before.backends, backend),
            services: changes(&self.services, &before.services, service),
        }
    }
}

fn changes<K: Ord + Copy, V: Default + PartialEq>(
    after: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    difference: impl Fn(&V, &V) -> V,
) -> BTreeMap<K, V> {
    let none = V::default();
    let all = after.iter().map(|(key, value)| (*key, difference(value, before.get(key).unwrap_or(&none))));
    all.filter(|(_, change)| *change != none).collect()
}

/// Bytes to read in a failed test.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
