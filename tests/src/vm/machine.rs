//! A machine under QEMU, from its start to its end, and what its guest had to say.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::initramfs;
use super::kernel::Kernel;
use super::{END, FAILED, HELD, KERNEL, MARK};
use crate::lab::Process;

/// QEMU without anything that a test does not need. Two CPUs, so that per-CPU maps have something to do, but emulated by
/// one thread: with a thread each, QEMU before 8.1 now and then runs a breakpoint that Linux has long taken back as it
/// patches itself ("Oops: int3" where the XDP program is called). No five-level page tables, which cost an emulator time.
const MACHINE: [&str; 17] = [
    "-accel",
    "tcg,thread=single",
    "-cpu",
    "max,la57=off",
    "-smp",
    "2",
    "-m",
    "1024",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-monitor",
    "none",
    "-serial",
    "stdio",
];

/// A kernel that panics ends the machine.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 panic=-1 init_on_alloc=0 mitigations=off";

/// What the guest said.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The version of the kernel that ran.
    pub kernel: String,
    /// The checks that held.
    pub held: Vec<String>,
    /// The checks that did not.
    pub failed: Vec<String>,
    /// Whether it came to its end.
    pub ended: bool,
    /// Everything that was written on the serial console.
    pub console: String,
}

/// Boots a kernel with a guest and a director, and gives what the guest said until it powered off; a machine that takes
/// longer is killed.
pub fn run(kernel: &Kernel, guest: &Path, director: &Path, patience: Duration) -> Result<Report> {
    let initramfs = in_memory(&initramfs::pack(guest, director, kernel)?)?;
    let mut qemu = start(kernel, &initramfs)?;
    let console = qemu.child().stdout.take().context("no pipe from QEMU")?;
    let lines = lines_of(console);
    let (mut report, deadline) = (Report::default(), Instant::now() + patience);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => report.add(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine was still running after {patience:?}:\n{}", report.console)
            }
        }
    }
    let status = qemu.wait(Duration::from_secs(5))?;
    ensure!(status.success(), "QEMU: {status}\n{}", report.console);
    Ok(report)
}

fn start(kernel: &Kernel, initramfs: &File) -> Result<Process> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(MACHINE).arg("-kernel").arg(&kernel.image);
    // The descriptor is inherited.
    command.arg("-initrd").arg(format!("/proc/self/fd/{}", initramfs.as_raw_fd()));
    command.args(["-append", COMMAND_LINE]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // A test that is killed takes its machine along.
    let follow = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: between fork and exec the closure makes a single system call and allocates nothing.
    unsafe { command.pre_exec(follow) };
    Process::start(&mut command).context("`cargo xtask setup --vm` installs QEMU")
}

/// A file that is on no disk, and ends with its last user.
fn in_memory(contents: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("initramfs", MemfdFlags::empty())?);
    file.write_all(contents)?;
    Ok(file)
}

fn lines_of(console: ChildStdout) -> Receiver<String> {
    let (said, lines) = channel();
    thread::spawn(move || {
        // A console carries whatever bytes a guest writes.
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if said.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

impl Report {
    fn add(&mut self, line: &str) {
        self.console.push_str(line);
        self.console.push('\n');
        // The firmware may leave something before the first line.
        let Some((_, words)) = line.split_once(MARK) else { return };
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        match word {
            KERNEL => self.kernel = rest.to_owned(),
            HELD => self.held.push(rest.to_owned()),
            FAILED => self.failed.push(rest.to_owned()),
            END => self.ended = true,
            _ => {}
        }
    }

    /// Fails, with the whole console, unless exactly these checks were made, and held, on a kernel of this series.
    pub fn ensure(&self, series: &str, checks: &[&str]) -> Result<()> {
        let right_kernel = self.kernel.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'));
        let whole = self.ended && self.failed.is_empty() && self.held == checks;
        let missing: Vec<_> =
            checks.iter().filter(|check| !self.held.iter().any(|held| held == *check)).collect();
        ensure!(
            right_kernel && whole,
            "kernel {:?}, for {series}; failed: {:?}, missing: {missing:?}; the console:\n{}",
            self.kernel,
            self.failed,
            self.console
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(console: &str) -> Report {
        let mut report = Report::default();
        console.lines().for_each(|line| report.add(line));
        report
    }

    #[test]
    fn a_report_holds_if_every_check_does() {
        let good = "SeaBIOS\n\x1b[2Jdirector-vm: kernel 6.1.0-56-amd64\nnoise\ndirector-vm: ok one\n\
                    director-vm: ok two v4\ndirector-vm: end\n";
        report(good).ensure("6.1", &["one", "two v4"]).unwrap();
        assert!(report(good).ensure("6.12", &["one", "two v4"]).is_err());
        assert!(report(good).ensure("6.1", &["one", "two v4", "three"]).is_err());
        assert!(report(&good.replace("ok one", "FAIL one: why")).ensure("6.1", &["two v4"]).is_err());
        assert!(report(&good.replace("director-vm: end", "")).ensure("6.1", &["one", "two v4"]).is_err());
    }
}
