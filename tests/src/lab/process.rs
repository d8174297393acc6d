//! Processes that end when their guard is dropped.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// A running process, with its own process group: nginx's workers and a shell's children end with it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    label: String,
    kept: bool,
}

impl Process {
    /// Starts a command; its standard input is empty.
    pub fn start(command: &mut Command) -> Result<Process> {
        Process::start_to_talk(command.stdin(Stdio::null()))
    }

    /// The same with the standard input that the command was given.
    pub fn start_to_talk(command: &mut Command) -> Result<Process> {
        let label = describe(command);
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| explain_missing(error, command))
            .with_context(|| format!("cannot start `{label}`"))?;
        Ok(Process { child, label, kept: false })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What was captured of the process's output is read from here.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.os_pid(), signal).with_context(|| format!("cannot signal `{}`", self.label))
    }

    /// Sends a signal to the process and its children.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.os_pid(), signal).with_context(|| format!("cannot signal `{}`", self.label))
    }

    /// Stops the process alone as it is; its ends of connections and its addresses stay. See [`freeze`].
    pub fn freeze(&self) -> Result<()> {
        freeze(&[self.os_pid()])
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        thaw(&[self.os_pid()])
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.label);
        wait::until(&what, patience, || Ok(self.child.try_wait()?))
    }

    /// Ends the process and its group at once.
    pub fn kill(&mut self) {
        // A group whose members are all gone is no failure.
        let _ = kill_process_group(self.os_pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Lets the process go on after this program, and gives its id.
    pub fn keep(mut self) -> u32 {
        self.kept = true;
        self.pid()
    }

    fn os_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            self.kill();
        }
    }
}

/// Stops processes as they are (SIGSTOP), and waits until none of their threads runs any more. What has ended already is no
/// failure.
pub fn freeze(pids: &[Pid]) -> Result<()> {
    signal_all(pids, Signal::STOP)?;
    wait::until("the processes to stop", STOP_PATIENCE, || {
        Ok(pids.iter().all(|pid| is_still(*pid)).then_some(()))
    })
}

/// Lets stopped processes go on (SIGCONT).
pub fn thaw(pids: &[Pid]) -> Result<()> {
    signal_all(pids, Signal::CONT)
}

/// A thread stops at its next way back from the kernel.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

fn signal_all(pids: &[Pid], signal: Signal) -> Result<()> {
    for pid in pids {
        match kill_process(*pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot signal process {pid}")),
        }
    }
    Ok(())
}

/// Whether every thread is stopped or gone: states T, Z and X of proc(5).
fn is_still(pid: Pid) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.filter_map(Result::ok).all(|thread| {
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { return true };
        // The command's name, in parentheses, may contain anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

/// Runs a command to its end and gives its standard output; whatever else it said is in the error.
pub fn output_of(command: &mut Command) -> Result<String> {
    let label = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| explain_missing(error, command))
        .with_context(|| format!("cannot run `{label}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("`{label}`: {}\n{}{}", output.status, stderr, text);
    }
    Ok(text)
}

/// The command line, as one would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn explain_missing(error: io::Error, command: &Command) -> anyhow::Error {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let error = anyhow::Error::new(error);
    if missing {
        let program = command.get_program().to_string_lossy();
        return error
            .context(format!("{program} is not installed; `cargo xtask setup` installs what the lab uses"));
    }
    error
}
