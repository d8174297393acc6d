//! Runs programs behind the lab object's harness, on one CPU, and says how long a packet took.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use director::dataplane::LAB_OBJECT;
use director_ebpf::abi::{Backend, BackendStats};
use director_ebpf::harness::Setup;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// XDP's verdicts, as the kernel numbers them.
pub mod verdict {
    /// To the kernel.
    pub const PASS: u32 = 2;
    /// Back out.
    pub const TX: u32 = 3;
}

/// Backends of the floor programs; their ids begin at 1.
const FLOOR_BACKENDS: u32 = 10;

/// What runs behind the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Floor {
    /// Passes everything.
    Pass,
    /// Swaps the MACs.
    Swap,
    /// One look at an LRU table, and swaps the MACs.
    Look,
    /// The director's work with an LRU table.
    Lru,
}

impl Floor {
    /// Every one.
    pub const ALL: [Floor; 4] = [Floor::Pass, Floor::Swap, Floor::Look, Floor::Lru];

    /// Its program in the lab's object.
    fn program(self) -> &'static str {
        match self {
            Floor::Pass => "pass",
            Floor::Swap => "floor_swap",
            Floor::Look => "floor_look",
            Floor::Lru => "floor_lru",
        }
    }
}

/// The lab's object, loaded.
pub struct Harness {
    ebpf: Ebpf,
    /// Microseconds of this thread's time that starting a run takes, whatever it runs.
    start_cost: f64,
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct SetupPod(Setup);
// SAFETY: integers without padding (asserted where it is defined), any bits are a value.
unsafe impl aya::Pod for SetupPod {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct BackendPod(Backend);
// SAFETY: as above, asserted in the ABI.
unsafe impl aya::Pod for BackendPod {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct StatsPod(BackendStats);
// SAFETY: as above.
unsafe impl aya::Pod for StatsPod {}

impl Harness {
    /// Loads it, with an LRU table of so many places.
    pub fn load(places: u32) -> Result<Harness> {
        let mut ebpf = EbpfLoader::new().map_max_entries("FLOOR_FLOWS", places).load(LAB_OBJECT)?;
        for name in ["harness_v4", "harness_v6"].into_iter().chain(Floor::ALL.map(Floor::program)) {
            let program: &mut Xdp =
                ebpf.program_mut(name).with_context(|| format!("no {name}"))?.try_into()?;
            program.load().with_context(|| format!("cannot load {name}"))?;
        }
        let mut backends: Array<&mut MapData, BackendPod> =
            Array::try_from(ebpf.map_mut("FLOOR_BACKENDS").context("no FLOOR_BACKENDS")?)?;
        for id in 1..=FLOOR_BACKENDS {
            backends.set(id, BackendPod(floor_backend(id)), 0)?;
        }
        let mut harness = Harness { ebpf, start_cost: 0.0 };
        harness.start_cost = harness.measure_start()?;
        Ok(harness)
    }

    /// A floor program's descriptor.
    pub fn floor(&self, floor: Floor) -> Result<ProgramFd> {
        Ok(self.program(floor.program())?.fd()?.try_clone()?)
    }

    /// Puts a program behind the harness, which will begin at run `first`.
    pub fn prepare(&mut self, program: &ProgramFd, setup: &Setup, first: u32) -> Result<()> {
        let mut slot: ProgramArray<&mut MapData> =
            ProgramArray::try_from(self.ebpf.map_mut("PROGRAM").context("no PROGRAM")?)?;
        slot.set(0, program, 0).context("the harness cannot tail-call the program under test")?;
        let mut setups: Array<&mut MapData, SetupPod> =
            Array::try_from(self.ebpf.map_mut("SETUP").context("no SETUP")?)?;
        setups.set(0, SetupPod(*setup), 0)?;
        let mut runs: Array<&mut MapData, u32> =
            Array::try_from(self.ebpf.map_mut("RUNS").context("no RUNS")?)?;
        Ok(runs.set(0, first, 0)?)
    }

    /// Runs what is prepared; nanoseconds a packet, the harness's own share included. `verdict`: what the last one must get.
    pub fn run(&self, shape: Shape, packets: u32, verdict: Option<u32>) -> Result<f64> {
        self.timed(shape.harness(), shape.bytes(), packets, verdict)
    }

    /// Runs a floor program without the harness: its packet is what it left of the one before.
    pub fn run_bare(&self, floor: Floor, packets: u32, verdict: u32) -> Result<f64> {
        self.timed(floor.program(), Shape::V4.bytes(), packets, Some(verdict))
    }

    fn timed(&self, name: &str, bytes: usize, packets: u32, verdict: Option<u32>) -> Result<f64> {
        let program = self.program(name)?;
        let nanoseconds = timed(packets, self.start_cost, || {
            let frame = vec![0u8; bytes];
            let options =
                TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
            let result = program.test_run(options)?;
            if let Some(verdict) = verdict {
                ensure!(
                    result.return_value == verdict,
                    "{name}: verdict {}, not {verdict}",
                    result.return_value
                );
            }
            Ok(())
        })?;
        Ok(nanoseconds)
    }

    /// What starting a run costs.
    pub fn start_cost(&self) -> f64 {
        self.start_cost
    }

    /// Two packets: for one alone the kernel takes a shorter way.
    fn measure_start(&self) -> Result<f64> {
        let mut costs = super::Series::default();
        for _ in 0..9 {
            costs.push(2.0 * self.timed(Floor::Pass.program(), 64, 2, Some(verdict::PASS))?);
        }
        Ok(costs.median())
    }

    /// What the floor with the LRU table counted, its backends together.
    pub fn floor_stats(&self) -> Result<BackendStats> {
        let stats: PerCpuArray<&MapData, StatsPod> =
            PerCpuArray::try_from(self.ebpf.map("FLOOR_STATS").context("no FLOOR_STATS")?)?;
        let mut sum = BackendStats::default();
        for id in 0..=FLOOR_BACKENDS {
            for StatsPod(stats) in stats.get(&id, 0)?.iter() {
                sum.packets_in += stats.packets_in;
                sum.bytes_in += stats.bytes_in;
                sum.new_flows += stats.new_flows;
            }
        }
        Ok(sum)
    }

    fn program(&self, name: &str) -> Result<&Xdp> {
        Ok(self.ebpf.program(name).with_context(|| format!("no {name}"))?.try_into()?)
    }
}

/// Which frames the harness makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Shape {
    fn harness(self) -> &'static str {
        match self {
            Shape::V4 => "harness_v4",
            Shape::V6 => "harness_v6",
        }
    }

    /// Bytes of a frame: the least that Ethernet has, and more where the headers need more.
    pub fn bytes(self) -> usize {
        match self {
            Shape::V4 => 64,
            Shape::V6 => 80,
        }
    }
}

/// Nanoseconds of this thread's own time for each of `packets`: what other processes do in between does not count, and it is
/// finer than the whole nanoseconds that the kernel reports.
pub fn timed(packets: u32, start_cost: f64, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let start = now();
    work()?;
    Ok((now() - start - start_cost).max(0.0) / f64::from(packets))
}

/// Binds this thread to the last CPU it may use: the first one serves most interrupts. Says which.
pub fn pin() -> Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let cpu = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).context("no CPU to run on")?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    Ok(cpu)
}

fn floor_backend(id: u32) -> Backend {
    Backend {
        mac: [2, 0, 0, 1, 0, id as u8],
        source_mac: super::scene::OWN_MAC,
        ifindex: super::scene::IFINDEX,
        service: 1,
        weight: 1,
        forward: 0,
        flags: 7,
        vip: [0; 16],
        addr: [0; 16],
        port_be: 0,
        vport_be: 0,
        addr_delta: 0,
        l4_delta: 0,
    }
}
