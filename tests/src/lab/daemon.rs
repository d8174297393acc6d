//! The director under test.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::host::Host;
use super::process::Process;
use super::{Lab, bpffs};
use crate::wait;

/// How long a start or an end may take: the kernel checks the program, and an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A director in the lab. Dropping it ends the daemon and removes its pins, so that its data plane ends too.
#[derive(Debug)]
pub struct Daemon {
    host: Host,
    binary: PathBuf,
    /// Its name in a cluster's configuration. The file is the same for all then, and the socket is not in it.
    node: Option<String>,
    process: Option<Process>,
    config: PathBuf,
    socket: PathBuf,
    pins: PathBuf,
    log: PathBuf,
    kept: bool,
}

impl Daemon {
    /// The only director of a lab.
    pub(super) fn start(lab: &Lab, binary: &Path, config: String) -> Result<Daemon> {
        Daemon::launch(lab, "director", None, lab.pins(), binary, config)
    }

    /// A director of several.
    pub(super) fn start_node(lab: &Lab, number: u8, binary: &Path, config: String) -> Result<Daemon> {
        let host = format!("director{number}");
        fs::create_dir_all(lab.pins()).with_context(|| format!("cannot make {}", lab.pins().display()))?;
        Daemon::launch(lab, &host, Some(node_name(number)), lab.pins().join(&host), binary, config)
    }

    fn launch(
        lab: &Lab,
        host: &str,
        node: Option<String>,
        pins: PathBuf,
        binary: &Path,
        config: String,
    ) -> Result<Daemon> {
        let file = |extension| lab.directory().join(format!("{host}.{extension}"));
        let mut daemon = Daemon {
            host: lab.host(host).clone(),
            binary: binary.to_owned(),
            node,
            process: None,
            config: file("yaml"),
            socket: file("sock"),
            pins,
            log: file("log"),
            kept: false,
        };
        daemon.write_config(config)?;
        daemon.run()?;
        Ok(daemon)
    }

    /// Starts it (again) and waits until it answers on its socket.
    pub fn run(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        self.run_with(log.into(), &[])
    }

    /// The same, but logging to this, and with further arguments.
    pub fn run_with(&mut self, log: OwnedFd, arguments: &[&str]) -> Result<()> {
        ensure!(self.process.is_none(), "the director runs already");
        let mut command = self.host.command(&self.binary);
        command.arg("run").arg("--config").arg(&self.config).arg("--pins").arg(&self.pins);
        command.args(arguments);
        if let Some(node) = &self.node {
            command.arg("--node").arg(node).arg("--socket").arg(&self.socket);
        }
        self.process = Some(Process::start(command.stdout(log.try_clone()?).stderr(log))?);
        self.await_answer()
    }

    fn await_answer(&mut self) -> Result<()> {
        let answered = wait::until("the director to answer", PATIENCE, || {
            if !self.process.as_mut().is_some_and(Process::is_running) {
                bail!("it ended");
            }
            let mut status = self.host.command(&self.binary);
            status.args(["status", "--json", "--socket"]).arg(&self.socket);
            let quiet = status.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Ok(quiet.status()?.success().then_some(()))
        });
        answered.with_context(|| format!("the director's log:\n{}", self.log()))
    }

    /// Waits until every real server's next hop is known: before that it gets nothing.
    pub fn await_reachable(&self) -> Result<()> {
        let waited = wait::until("every real server's next hop", PATIENCE, || {
            let status = self.status()?;
            let services = status["services"].as_array().context("no services in the status")?;
            let mut reals = services.iter().filter_map(|service| service["reals"].as_array()).flatten();
            Ok(reals.all(|real| real["reachable"] == true).then_some(()))
        });
        waited.with_context(|| format!("the director's log:\n{}", self.log()))
    }

    /// Has its socket, its state file and its log in another directory from its next start on.
    pub fn move_to(&mut self, directory: &Path) -> Result<()> {
        ensure!(self.process.is_none() && self.node.is_some(), "only one of several that does not run moves");
        let moved = |file: &Path| directory.join(file.file_name().unwrap_or_default());
        (self.socket, self.log) = (moved(&self.socket), moved(&self.log));
        Ok(())
    }

    /// The machine that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The daemon's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What the daemon has logged since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The file that the daemon reads its configuration from.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// The operator's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The directory of its pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Kills it as a crash would; what it pinned goes on.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Stops its process as it is (SIGSTOP); the kernel of its host and what it pinned go on. Before it can end by itself again
    /// it has to go on: see [`Daemon::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("the director does not run")?.freeze()
    }

    /// Lets its process go on (SIGCONT).
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("the director does not run")?.thaw()
    }

    /// Asks it to end (SIGTERM), and waits for that.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the director does not run")?;
        process.signal(Signal::TERM)?;
        process.wait(PATIENCE)
    }

    /// Writes a new configuration, which the daemon does not read before it is told to. In a cluster the file has exactly this
    /// text, so that all directors have the same.
    pub fn write_config(&self, config: impl Into<String>) -> Result<()> {
        let mut text = config.into();
        if self.node.is_none() && !text.lines().any(|line| line.starts_with("socket:")) {
            text = format!("socket: {}\n{text}", self.socket.display());
        }
        fs::write(&self.config, text).with_context(|| format!("cannot write {}", self.config.display()))
    }

    /// Writes a new configuration and runs `director reload`.
    pub fn reload(&self, config: impl Into<String>) -> Result<Output> {
        self.write_config(config)?;
        self.cli(&["reload"])
    }

    /// Sends SIGHUP.
    pub fn hangup(&self) -> Result<()> {
        self.process.as_ref().context("the director does not run")?.signal(Signal::HUP)
    }

    /// Runs a subcommand against the daemon: `--socket` is added.
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = self.host.command(&self.binary);
        command.args(arguments).arg("--socket").arg(&self.socket).stdin(Stdio::null());
        command.output().with_context(|| format!("cannot run {}", self.binary.display()))
    }

    /// Runs a subcommand that has to succeed, and gives what it printed.
    pub fn cli_ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self.cli(arguments)?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        ensure!(output.status.success(), "director {}: {}\n{stderr}{stdout}", words.join(" "), output.status);
        Ok(stdout.into_owned())
    }

    /// What `director status --json` prints.
    pub fn status(&self) -> Result<serde_json::Value> {
        let text = self.cli_ok(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("director status --json printed {text}"))
    }

    /// Lets it go on after this program.
    pub fn keep(mut self) {
        self.kept = true;
        if let Some(process) = self.process.take() {
            process.keep();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::thread::panicking() {
            eprintln!("the director's log:\n{}", self.log());
        }
        self.process = None;
        if let Err(error) = bpffs::remove_pins(&self.pins) {
            eprintln!("{error:#}");
        }
    }
}

/// What a cluster's configuration calls the director on `director<number>`.
pub(super) fn node_name(number: u8) -> String {
    format!("lb{number}")
}

/// The `director` to run: `DIRECTOR_BIN`, or what was built beside this program, as a release first.
pub fn director_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DIRECTOR_BIN").map(PathBuf::from) {
        File::open(&path).with_context(|| format!("DIRECTOR_BIN: {}", path.display()))?;
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    // target/PROFILE/xtask, or target/PROFILE/deps/TEST.
    let profile =
        own.ancestors().skip(1).find(|directory| !directory.ends_with("deps")).context("no directory")?;
    let target = profile.parent().unwrap_or(profile);
    let candidates = [target.join("release/director"), profile.join("director")];
    let found = candidates.iter().find(|path| path.is_file());
    found.cloned().with_context(|| {
        format!("there is no {}; `cargo build --release -p director` makes it", candidates[0].display())
    })
}
