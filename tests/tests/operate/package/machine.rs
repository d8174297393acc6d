//! A machine to install the package on: a Debian with no more than its essential packages, iproute2 and systemd, which runs it. It has the
//! network of the director's host of a lab, and namespaces of its own for all else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::lab::{Host, Lab, Process, director_binary};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// Begins the machine in a control group of its own, $1: systemd takes the root of what it sees. Its only child is the machine's first process.
const BEGIN: &str = r#"
set -e
echo $$ > "$1/cgroup.procs"
shift
exec unshare --cgroup --mount --propagation private --pid --fork --kill-child --uts --ipc sh -c "$@"
"#;

/// Makes the machine of the image $1, which stays as it is, at the directory $2, and becomes its systemd. Settings of the kernel that are not
/// the network's belong to all machines here.
const MAKE: &str = r#"
set -e
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs run
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm old
ln -s /proc/self/fd dev/fd
pivot_root . old
umount --lazy /old
exec env --ignore-environment container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --show-status=no
"#;

/// What it has besides essential packages.
const PACKAGES: [&str; 3] = ["systemd", "systemd-sysv", "iproute2"];

/// See the module.
pub struct Machine {
    host: Host,
    holder: Option<Process>,
    init: u32,
    cgroup: PathBuf,
    packages: PathBuf,
}

impl Machine {
    pub fn start(lab: &Lab) -> Result<Machine> {
        let image = image()?;
        let (host, directory) = (lab.host("director").clone(), lab.directory().join("machine"));
        fs::create_dir_all(&directory)?;
        let cgroup = cgroups()?.join(format!("director-test-{}", std::process::id()));
        // That of a test which was killed.
        let _ = remove_group(&cgroup);
        fs::create_dir(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
        let mut begin = host.command("sh");
        begin.args(["-c", BEGIN, "begin"]).arg(&cgroup).args([MAKE, "make"]).arg(image).arg(&directory);
        let holder = Process::start(begin.stdout(Stdio::null()))?;
        let children = PathBuf::from(format!("/proc/{0}/task/{0}/children", holder.pid()));
        let mut machine = Machine {
            host,
            holder: Some(holder),
            init: 0,
            cgroup,
            packages: lab.directory().join("packages"),
        };
        machine.init = wait::until("the machine's first process", PATIENCE, || {
            Ok(fs::read_to_string(&children).unwrap_or_default().trim().parse().ok())
        })?;
        wait::until("the machine's systemd", PATIENCE, || {
            let up = machine.try_run(&["systemctl", "is-active", "multi-user.target"]);
            Ok(up.is_ok_and(|(active, _)| active).then_some(()))
        })?;
        Ok(machine)
    }

    /// A file of the machine's, as this process reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A command on the machine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command("nsenter");
        command.args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wdns=/", "--target"]);
        command.arg(self.init.to_string()).args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which has to be a good one, and gives what it said.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (good, said) = self.try_run(words)?;
        ensure!(good, "{words:?} failed: {said}\n{}", self.log());
        Ok(said)
    }

    /// Runs a command to its end, and says whether that was a good one.
    pub fn try_run(&self, words: &[&str]) -> Result<(bool, String)> {
        let output = self.command(words).output()?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), said))
    }

    /// What the service logged.
    pub fn log(&self) -> String {
        let said = self.try_run(&["journalctl", "--unit=director", "--no-pager", "--lines=100"]);
        said.map_or_else(|error| error.to_string(), |(_, said)| said)
    }

    /// What systemd says of a property of the service.
    pub fn property(&self, name: &str) -> Result<String> {
        Ok(self.run(&["systemctl", "show", "--value", "--property", name, "director"])?.trim().to_owned())
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

    /// dpkg with arguments, and what it said.
    pub fn dpkg(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["dpkg", "--force-unsafe-io"], arguments].concat())
    }

    /// Waits until the service answers, knows the way to every real server, and has checked it.
    pub fn await_service(&self) -> Result<()> {
        let ready = wait::until("the service", PATIENCE, || {
            let (good, text) = self.try_run(&["director", "status", "--json"])?;
            Ok((good && all_in_service(&text)?).then_some(()))
        });
        ready.with_context(|| self.log())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.holder = None;
        // Its processes have ended when their groups can be removed.
        let gone = wait::until("the machine's end", PATIENCE, || Ok(remove_group(&self.cgroup).ok()));
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

fn remove_group(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_group(&path)?;
        }
    }
    Ok(fs::remove_dir(directory)?)
}

/// Where systemd's control groups are: the one hierarchy, or the one of its name.
fn cgroups() -> Result<PathBuf> {
    let found = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"].map(PathBuf::from).into_iter();
    let mut found = found.filter(|path| path.join("cgroup.procs").exists());
    found.next().context("no control groups that a systemd can have: neither version 2, nor name=systemd")
}

/// What a new Debian has. It is made once, and stays for the next time.
fn image() -> Result<PathBuf> {
    let name = format!("debian-bookworm-{}", PACKAGES.join("-"));
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if image.is_dir() {
        return Ok(image);
    }
    let new = image.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=essential"]).arg(format!("--include={}", PACKAGES.join(",")));
    make.args(["--aptopt=Apt::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"]);
    for useless in ["doc", "man", "locale"] {
        make.arg(format!("--dpkgopt=path-exclude=/usr/share/{useless}/*"));
    }
    // For the image's own packages only.
    make.arg("--customize-hook=rm \"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap\"");
    let output = make.arg("bookworm").arg(&new).arg("http://deb.debian.org/debian").output();
    let output = output.context("`cargo xtask setup` installs mmdebstrap")?;
    ensure!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&new, &image)?;
    Ok(image)
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
