//! A machine to install things on: a host of a lab, with a name and files of its own. They are this system's, by an overlay, so that
//! nothing of this system changes. In place of systemd is a script that leaves to the test what it is asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::lab::{Host, Lab, Process, director_binary};
use tests::wait;

use super::unit::Unit;

const PATIENCE: Duration = Duration::from_secs(60);

/// What makes the machine; its arguments are a directory and a name. It ends when the machine does, and takes all with it.
const MAKE: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount --bind /proc proc
mount --bind /sys sys
mount -t bpf bpf sys/fs/bpf
mount --rbind /dev dev
mount -t tmpfs tmpfs run
hostname "$2"
mkdir -p run/systemd/system
touch run/machine
exec chroot . sleep infinity
"#;

/// In place of systemctl: it leaves what it is asked for in a file, and waits until the test has done it.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> /run/systemctl
case "$*" in
    *is-active*) exec test -e /run/active ;;
    *restart*|*stop*) rm -f /run/done; echo "$*" > /run/asked.new; mv /run/asked.new /run/asked
        while [ ! -e /run/done ]; do sleep 0.02; done ;;
esac
"#;

/// Starts the service as its unit says, with its limits to what it may write; the arguments are the command.
const CONFINE: &str = r#"
set -e
mount --make-rprivate /
for path in $READ_ONLY; do
    [ ! -e "$path" ] || { mount --rbind "$path" "$path"; mount -o remount,bind,ro "$path"; }
done
for path in $WRITABLE; do mount --bind "$path" "$path"; mount -o remount,bind,rw "$path"; done
exec "$@"
"#;

/// See the module.
pub struct Machine {
    host: Host,
    holder: Process,
    packages: PathBuf,
}

impl Machine {
    /// A host, which calls itself so.
    pub fn named(lab: &Lab, host: &str, name: &str) -> Result<Machine> {
        let (host, directory) = (lab.host(host).clone(), lab.directory().join(format!("machine-{host}")));
        fs::create_dir_all(&directory)?;
        let mut command = host.command("unshare");
        command.args(["--uts", "--mount", "--propagation", "private", "sh", "-c", MAKE, "make"]);
        command.arg(&directory).arg(name);
        let holder = Process::start(&mut command)?;
        let machine = Machine { host, holder, packages: lab.directory().join("packages") };
        wait::until("the machine", PATIENCE, || Ok(machine.path("/run/machine").exists().then_some(())))?;
        machine.write("/usr/bin/systemctl", SYSTEMCTL)?;
        fs::set_permissions(machine.path("/usr/bin/systemctl"), fs::Permissions::from_mode(0o755))?;
        Ok(machine)
    }

    /// The host in the lab.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A file of the machine's, as this process reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.pid()))
    }

    /// Writes a file, which is new: a name that this system has is no link of its own any more.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.path(path);
        let _ = fs::remove_file(&file);
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A command on the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.host.command("nsenter");
        command.args(self.entrance()).arg(program);
        command
    }

    /// What a shell outside of the machine has to be told to run something on it.
    pub fn typed(&self, line: &str) -> String {
        let network = format!("--net=/run/netns/{}", self.host.namespace());
        format!("nsenter {network} {} {line}", self.entrance().join(" "))
    }

    fn entrance(&self) -> [String; 6] {
        let target = self.holder.pid().to_string();
        ["--uts", "--mount", "--root", "--wdns=/", "--target", &target].map(str::to_owned)
    }

    /// Runs a command to its end, which has to be a good one, and gives what it said.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (good, said) = self.try_run(words)?;
        ensure!(good, "{words:?} failed: {said}");
        Ok(said)
    }

    /// Runs a shell's line to its end, which has to be a good one, and gives what it said.
    pub fn shell(&self, line: &str) -> Result<String> {
        self.run(&["sh", "-c", line])
    }

    /// Runs a command to its end, and says whether that was a good one.
    pub fn try_run(&self, words: &[&str]) -> Result<(bool, String)> {
        let output = self.command(words[0]).args(&words[1..]).stdin(Stdio::null()).output()?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), said))
    }

    /// Makes the package of the director under test, in this version, and gives its path on the machine.
    pub fn package(&self, version: &str) -> Result<String> {
        let mut dist = Command::new(xtask()?);
        dist.args(["dist", "--debug", "--package-only", "--version", version, "--binary"])
            .arg(director_binary()?);
        let output = dist.arg("--out").arg(&self.packages).output()?;
        ensure!(output.status.success(), "dist: {}", String::from_utf8_lossy(&output.stderr));
        let name = format!("director_{version}_amd64.deb");
        fs::copy(self.packages.join(&name), self.path("/root").join(&name))?;
        Ok(format!("/root/{name}"))
    }

    /// dpkg with arguments; as long as the process lives.
    pub fn dpkg(&self, arguments: &[&str]) -> Result<Process> {
        self.begin(&[&["dpkg", "--force-unsafe-io", "--no-triggers"], arguments].concat())
    }

    /// A command that may ask systemctl for something; as long as the process lives.
    pub fn begin(&self, words: &[&str]) -> Result<Process> {
        let log = fs::File::create(self.path("/run/said"))?;
        let mut command = self.command(words[0]);
        command.args(&words[1..]);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(log.try_clone()?).stderr(log);
        Process::start(&mut command)
    }

    /// Waits for the end of such a command, and gives what it said. Meanwhile does what systemctl is asked for.
    pub fn finish(&self, mut begun: Process, mut asked: impl FnMut(&str) -> Result<()>) -> Result<String> {
        let done = wait::until("a command that may ask systemctl", PATIENCE, || {
            let request = self.path("/run/asked");
            if request.exists() {
                asked(self.read("/run/asked").trim())?;
                fs::remove_file(&request)?;
                self.write("/run/done", "")?;
            }
            Ok((!begun.is_running()).then_some(()))
        });
        let said = self.read("/run/said");
        done.with_context(|| said.clone())?;
        ensure!(begun.wait(PATIENCE)?.success(), "{said}");
        Ok(said)
    }

    /// Starts the service as its unit has it, with this in its environment.
    pub fn start_service(&self, environment: &[(&str, &str)]) -> Result<Process> {
        let unit = Unit::read(&self.read("/usr/lib/systemd/system/director.service"));
        let mut command = self.command("unshare");
        command.args(["--mount", "sh", "-c", CONFINE, "confine", "setpriv", "--no-new-privs"]);
        command.arg(format!("--bounding-set={}", unit.bounding_set()?)).arg("--inh-caps=-all");
        command.args(unit.command());
        command.env("READ_ONLY", unit.read_only().join(" ")).env("WRITABLE", unit.writable().join(" "));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("/run/log"))?;
        self.write("/run/active", "")?;
        Process::start(command.envs(environment.iter().copied()).stdout(log.try_clone()?).stderr(log))
    }

    /// Waits until the service answers and knows the way to every real server.
    pub fn await_service(&self) -> Result<()> {
        let ready = wait::until("the service", PATIENCE, || {
            let (good, text) = self.try_run(&["director", "status", "--json"])?;
            Ok((good && all_in_service(&text)?).then_some(()))
        });
        ready.with_context(|| self.read("/run/log"))
    }
}

/// Whether every real server has been checked, and can be reached.
fn all_in_service(status: &str) -> Result<bool> {
    let status: serde_json::Value = serde_json::from_str(status)?;
    let services = status["services"].as_array().context("no services")?;
    let mut reals = services.iter().filter_map(|service| service["reals"].as_array()).flatten();
    Ok(reals.all(|real| real["reachable"] == true && real["health"]["state"] != "unknown"))
}

/// The project's tasks, as built beside this program: `cargo xtask test` is one of them.
fn xtask() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|directory| directory.join("xtask")).find(|path| path.is_file());
    found.context("there is no `xtask` beside this test; `cargo build -p xtask` makes it")
}

/// Ends the service as systemd does.
pub fn end(service: &mut Process) -> Result<()> {
    service.signal(Signal::TERM)?;
    ensure!(service.wait(PATIENCE)?.success(), "it ended badly");
    Ok(())
}
