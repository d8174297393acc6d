//! One packet through the program, without an interface: BPF_PROG_TEST_RUN. The maps are the real ones, so a trial files flows
//! and counts like any packet.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, Xdp};
use director_ebpf::probe::names;

use super::Dataplane;
use super::error::Error;
use super::object::{self, Own};
use super::probes::Probes;

/// What the program says of a packet (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The program failed; the packet is dropped.
    Aborted,
    /// Dropped.
    Drop,
    /// Passed to the kernel.
    Pass,
    /// Sent back out of the interface it came in by.
    Tx,
    /// Sent out of another interface.
    Redirect,
    /// Nothing the kernel knows.
    Unknown(u32),
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Time for one run, the mean of all repeats.
    pub duration: Duration,
}

/// An instance of the program as for an interface of a given MAC and index.
pub struct Trial {
    ebpf: Ebpf,
}

impl Dataplane {
    /// Loads an instance for trials.
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn trial(&self, mac: [u8; 6], ifindex: u32) -> Result<Trial, Error> {
        let mut ebpf = object::load(self.pins(), &self.shared, Some(Own { mac, ifindex }))?;
        object::program(&mut ebpf, "director")?;
        Ok(Trial { ebpf })
    }
}

impl Trial {
    /// Runs a frame through the program `repeat` times. From the second time on the program sees what the time before made
    /// of it.
    ///
    /// # Errors
    /// The kernel refuses: a frame below 14 bytes, or larger than a page less its overhead.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<Outcome, Error> {
        let mut out = vec![0u8; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::default()
        };
        let result = self.program()?.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            0 => Verdict::Aborted,
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Tx,
            4 => Verdict::Redirect,
            other => Verdict::Unknown(other),
        };
        Ok(Outcome { verdict, frame: out, duration: result.duration })
    }

    /// The program's descriptor, for a harness that tail-calls it.
    ///
    /// # Errors
    /// None once it is loaded.
    pub fn fd(&self) -> Result<&ProgramFd, Error> {
        Ok(self.program()?.fd()?)
    }

    fn program(&self) -> Result<&Xdp, Error> {
        let program = self.ebpf.program("director").ok_or_else(|| Error::Load("no program".into()))?;
        Ok(program.try_into()?)
    }
}

/// Which of the probes' programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The one for what is sent, and the packet's mark.
    Out(u32),
    /// The one for what is received.
    In,
}

impl Probes {
    /// Runs a frame through one of the programs.
    ///
    /// # Errors
    /// The kernel refuses: a frame below 14 bytes, or larger than a page less its overhead.
    pub fn run(&self, direction: Direction, frame: &[u8]) -> Result<Outcome, Error> {
        let (name, mark) = match direction {
            Direction::Out(mark) => (names::OUT, mark),
            Direction::In => (names::IN, 0),
        };
        let program = self.ebpf.program(name).ok_or_else(|| object::missing(name))?;
        let program: &SchedClassifier = program.try_into()?;
        // `struct __sk_buff` begins with length, kind and mark.
        let mut context = [0u8; 12];
        context[8..].copy_from_slice(&mark.to_ne_bytes());
        let mut out = vec![0u8; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            u32::MAX => Verdict::Pass,
            2 => Verdict::Drop,
            other => Verdict::Unknown(other),
        };
        Ok(Outcome { verdict, frame: out, duration: result.duration })
    }
}
