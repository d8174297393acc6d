//! Commands that run, each in a process group of its own, so that no more is left of one than shall be.

use std::io;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};

/// A command that runs. Dropped, it is killed with its process group.
///
/// A process that makes a session or a group of its own, as daemons do, is out of reach.
pub struct Running {
    /// Goes before the command is reaped: until then nobody else can get its number.
    group: Group,
    child: Child,
    ends: tokio::signal::unix::Signal,
}

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Running> {
        // Before the start, so that no end is missed.
        let ends = signal(SignalKind::child())?;
        // Where it is given up, tokio reaps it.
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = leader.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Running { group: Group { leader, spared: false }, child, ends })
    }

    /// Its process id, which is also its group's.
    pub fn id(&self) -> Pid {
        self.group.leader
    }

    /// Its standard input, if that is a pipe and nobody took it before.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until the command itself has ended, and says whether with status 0. It is not reaped, and nothing is killed.
    ///
    /// # Errors
    /// The kernel cannot say.
    pub async fn ended(&mut self) -> io::Result<bool> {
        loop {
            if let Some(success) = self.group.leader_succeeded()? {
                return Ok(success);
            }
            self.ends.recv().await;
        }
    }

    /// Waits for the command's end and kills whatever is left of its group.
    ///
    /// # Errors
    /// The kernel cannot say.
    pub async fn finish(mut self) -> io::Result<ExitStatus> {
        self.ended().await?;
        self.reap().await
    }

    /// Waits for the command's end. What it has left running stays if it succeeded, and is killed otherwise.
    ///
    /// # Errors
    /// The kernel cannot say.
    pub async fn finish_sparing(mut self) -> io::Result<ExitStatus> {
        self.group.spared = self.ended().await?;
        self.reap().await
    }

    /// Kills the command and its group, and waits until the command has ended.
    ///
    /// # Errors
    /// The kernel cannot say. Or it does not permit it, for the command has become another user's: it runs on.
    pub async fn kill(self) -> io::Result<ExitStatus> {
        if kill_process_group(self.group.leader, Signal::KILL) == Err(Errno::PERM) {
            return Err(io::Error::other("it runs as another user: to end it takes CAP_KILL"));
        }
        self.reap().await
    }

    async fn reap(self) -> io::Result<ExitStatus> {
        let Running { group, mut child, .. } = self;
        drop(group);
        child.wait().await
    }
}

/// A command's process group. Dropped, it is killed.
struct Group {
    leader: Pid,
    spared: bool,
}

impl Group {
    /// Whether the command has succeeded; nothing while it runs. It is not reaped by this.
    fn leader_succeeded(&self) -> io::Result<Option<bool>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.leader), options)?;
        Ok(status.map(|status| status.exit_status() == Some(0)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.spared {
            // It fails if there is nobody left, and that is well; or if those that are left are another user's, and CAP_KILL is missing.
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }
}
