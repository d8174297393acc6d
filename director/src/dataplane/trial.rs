//! One packet through the program, without an interface: BPF_PROG_TEST_RUN. The maps are the real ones, so a trial files flows
//! and counts like any packet.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};

use super::Dataplane;
use super::error::Error;
use super::object::{self, Own};

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
