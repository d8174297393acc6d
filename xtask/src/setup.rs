//! `cargo xtask setup`: finds what is missing, says what it will do about it, and does it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ::tests::lab::bpffs;
use anyhow::{Context, Result, bail, ensure};

use crate::project;

// The director's build script looks for the same things.
#[allow(dead_code, reason = "some of it only the build script uses")]
#[path = "../../director/build/toolchain.rs"]
mod toolchain;

/// The release that understands what the compilers of this project's day write.
pub const LINKER: [&str; 5] = ["install", "bpf-linker", "--version", "0.10.3", "--locked"];

/// Debian's compiler with its library's sources, for toolchains that have none.
const COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A command and the Debian package that has it.
type Tool = (&'static str, &'static str);

const LAB_TOOLS: [Tool; 11] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    // The lab's faults are rules on its switches.
    ("nft", "nftables"),
    ("nginx", "nginx"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("bpftool", "bpftool"),
    // The director's own tests set things in namespaces with it.
    ("sysctl", "procps"),
    // `cargo xtask lab` proposes to look with it.
    ("tcpdump", "tcpdump"),
];

/// Real servers that checks and the takeover by DNS are tested against, what disturbs them, what checks scripts, and what people look at a director
/// with.
const SERVERS: [Tool; 19] = [
    ("exim4", "exim4-daemon-light"),
    ("../lib/dovecot/imap", "dovecot-imapd"),
    ("../lib/dovecot/pop3", "dovecot-pop3d"),
    ("vsftpd", "vsftpd"),
    ("redis-server", "redis-server"),
    ("kamailio", "kamailio"),
    ("named", "bind9"),
    ("nsupdate", "bind9-dnsutils"),
    ("slapd", "slapd"),
    ("pg_ctlcluster", "postgresql"),
    ("mariadbd", "mariadb-server"),
    ("freeradius", "freeradius"),
    // It checks the script for real servers.
    ("shellcheck", "shellcheck"),
    // What the dashboard and `director top` are tested in.
    ("chromium-headless-shell", "chromium-headless-shell"),
    ("tmux", "tmux"),
    // It makes the new machine that the package is installed on.
    ("mmdebstrap", "mmdebstrap"),
    // It has one director's clock be wrong.
    ("faketime", "faketime"),
    // They make the guide's key, and read a file of the documentation.
    ("openssl", "openssl"),
    ("ifup", "ifupdown"),
];

/// What watches directors in tests of their metrics; it brings promtool.
const WATCHERS: [Tool; 1] = [("prometheus", "prometheus")];

const VM_TOOLS: [Tool; 3] = [("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils"), ("zstd", "zstd")];

/// What `setup` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask setup             install what the build, the lab, the demo and the tests need
  cargo xtask setup --dry-run   only say what is missing
  cargo xtask setup --vm        with what `cargo xtask test vm` needs: QEMU")]
pub struct Arguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// With what boots other kernels
    #[arg(long)]
    vm: bool,
}

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// What builds the director.
    Build,
    /// And what the lab runs.
    Lab,
    /// And the servers that checks are tested against.
    Servers,
    /// And what boots other kernels.
    Vm,
}

/// Something to do; `Display` would say it, were it not two lines.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Packages(Vec<&'static str>),
    Compiler,
    Linker,
    MountBpffs,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    let scope = if arguments.vm { Scope::Vm } else { Scope::Lab };
    if !arguments.dry_run {
        remove_stale_policy(Path::new(POLICY))?;
    }
    let steps = missing(scope);
    if steps.is_empty() {
        println!("Everything is there.");
        return Ok(());
    }
    announce(&steps);
    if arguments.dry_run { Ok(()) } else { perform(&steps) }
}

/// Does what is missing for a scope; silent where nothing is.
pub fn ensure(scope: Scope) -> Result<()> {
    remove_stale_policy(Path::new(POLICY))?;
    let steps = missing(scope);
    if steps.is_empty() {
        return Ok(());
    }
    announce(&steps);
    perform(&steps)
}

fn missing(scope: Scope) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut tools: Vec<Tool> = Vec::new();
    if scope >= Scope::Lab {
        tools.extend(LAB_TOOLS);
    }
    if scope >= Scope::Servers {
        tools.extend(SERVERS);
        tools.extend(WATCHERS);
    }
    if scope >= Scope::Vm {
        tools.extend(VM_TOOLS);
    }
    let packages: Vec<&str> = tools.iter().filter(|tool| !is_installed(tool.0)).map(|tool| tool.1).collect();
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    if toolchain::compiler().is_err() {
        steps.push(Step::Compiler);
    }
    if toolchain::linker().is_err() {
        steps.push(Step::Linker);
    }
    if scope >= Scope::Lab && !bpffs::is_mounted() {
        steps.push(Step::MountBpffs);
    }
    steps
}

/// A plain user's PATH does not lead to `ip` and `nginx` on Debian.
fn is_installed(command: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    path.split(':').any(|directory| Path::new(directory).join(command).is_file())
}

impl Step {
    fn needs_root(&self) -> bool {
        *self != Step::Linker
    }

    fn commands(&self) -> String {
        match self {
            Step::Packages(packages) => format!("apt-get install {}", packages.join(" ")),
            Step::Compiler => format!("apt-get install {}", COMPILER.join(" ")),
            Step::Linker => format!("cargo {}", LINKER.join(" ")),
            Step::MountBpffs => format!("mount -t bpf bpf {}", bpffs::MOUNT_POINT),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Step::Packages(packages) if packages.iter().any(|package| services(package).is_some()) => {
                "what the lab and the tests run; the packages' own services will be neither started nor enabled"
            }
            Step::Packages(_) => "what the lab and the tests run",
            Step::Compiler => {
                "the Rust library's sources, which BPF programs are built with: \
                 this toolchain has no rust-src"
            }
            Step::Linker => "links BPF programs; about a minute",
            Step::MountBpffs => "where the data plane is pinned",
        }
    }
}

fn announce(steps: &[Step]) {
    println!("Missing here, to be set up now:");
    for step in steps {
        println!("  {}\n      ({})", step.commands(), step.reason());
    }
}

fn perform(steps: &[Step]) -> Result<()> {
    let wants_root = steps.iter().any(Step::needs_root);
    if wants_root && !project::is_root() {
        bail!("this needs root. Run it as\n  {}\nor the commands above yourself", project::as_root("setup"));
    }
    let apt = |step: &Step| matches!(step, Step::Packages(_) | Step::Compiler);
    if steps.iter().any(apt) {
        update_package_lists(steps)?;
    }
    for step in steps {
        println!("— {}", step.commands());
        match step {
            Step::Packages(packages) => install(packages)?,
            Step::Compiler => install_compiler()?,
            Step::Linker => install_linker()?,
            Step::MountBpffs => bpffs::ensure_mounted()?,
        }
    }
    println!("Set up.");
    Ok(())
}

fn update_package_lists(steps: &[Step]) -> Result<()> {
    if !is_installed("apt-get") {
        let commands: Vec<String> = steps.iter().map(Step::commands).collect();
        bail!(
            "this system has no apt-get. Install what these would, by its own means (for the Rust library's sources: \
             `rustup component add rust-src`):\n  {}",
            commands.join("\n  ")
        );
    }
    project::run(Command::new("apt-get").args(["update", "-q"]))
}

fn install(packages: &[&str]) -> Result<()> {
    let services: Vec<&str> = packages.iter().filter_map(|package| services(package)).collect();
    let _guard = if services.is_empty() { None } else { Some(NoServices::new()?) };
    apt_install(packages)?;
    // Where systemd runs, the packages have enabled their services for the next boot.
    if Path::new("/run/systemd/system").is_dir() {
        for service in services {
            project::run(Command::new("systemctl").args(["--quiet", "disable", service]))?;
        }
    }
    Ok(())
}

/// The service that a package brings.
fn services(package: &str) -> Option<&'static str> {
    let known = [
        ("nginx", "nginx"),
        ("exim4-daemon-light", "exim4"),
        ("dovecot-imapd", "dovecot"),
        ("dovecot-pop3d", "dovecot"),
        ("vsftpd", "vsftpd"),
        ("redis-server", "redis-server"),
        ("kamailio", "kamailio"),
        ("bind9", "named"),
        ("slapd", "slapd"),
        ("postgresql", "postgresql"),
        ("mariadb-server", "mariadb"),
        ("freeradius", "freeradius"),
        ("prometheus", "prometheus"),
        // Where networks are its work, it is installed already.
        ("ifupdown", "networking"),
    ];
    known.into_iter().find(|(name, _)| *name == package).map(|(_, service)| service)
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    project::run(&mut command)
}

fn install_compiler() -> Result<()> {
    let policy = Command::new("apt-cache").arg("policy").args(COMPILER).output()?;
    let known = String::from_utf8_lossy(&policy.stdout)
        .lines()
        .filter(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)"))
        .count();
    ensure!(
        known == COMPILER.len(),
        "this system's archive has no {}; run `rustup component add rust-src` instead",
        COMPILER.join(" and ")
    );
    apt_install(&COMPILER)?;
    toolchain::compiler().map(drop).map_err(anyhow::Error::msg)
}

fn install_linker() -> Result<()> {
    project::run_cargo(&LINKER)?;
    toolchain::linker().map_err(|_| {
        anyhow::anyhow!(
            "bpf-linker is installed, but not found: put cargo's bin directory (~/.cargo/bin) in PATH"
        )
    })
}

/// While it lives, packages being installed do not start services: nginx would take the machine's port 80. This is
/// Debian's own way to say so; a policy that is there already is respected.
struct NoServices {
    created: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// By this line a policy is known for ours: a setup that is interrupted leaves it behind.
const POLICY_MARKER: &str = "# Made by `cargo xtask setup`, which removes it again.";

impl NoServices {
    fn new() -> Result<NoServices> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                let guard = NoServices { created: true };
                let text = format!("#!/bin/sh\n{POLICY_MARKER}\nexit 101\n");
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write {POLICY}"))?;
                Ok(guard)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(NoServices { created: false })
            }
            Err(error) => Err(error).with_context(|| format!("cannot write {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.created {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Removes the policy that an interrupted setup left, so that packages start their services again; nobody else's.
/// Who may not remove it leaves that to who may.
fn remove_stale_policy(policy: &Path) -> Result<()> {
    let ours = fs::read_to_string(policy).is_ok_and(|text| text.lines().any(|line| line == POLICY_MARKER));
    if !ours || !project::is_root() {
        return Ok(());
    }
    println!("— rm {} (an interrupted setup left it)", policy.display());
    fs::remove_file(policy).with_context(|| format!("cannot remove {}", policy.display()))
}

/// Installs one of cargo's own tools by rustup where it is missing, if that is allowed; fails, with the command to
/// run, where it is missing still.
pub fn ensure_cargo_tool(tool: &str, may_install: bool) -> Result<()> {
    if has_cargo_tool(tool)? {
        return Ok(());
    }
    let component = if tool == "fmt" { "rustfmt" } else { tool };
    if may_install && is_installed("rustup") {
        println!("cargo {tool} is missing here, to be set up now:\n— rustup component add {component}");
        let mut rustup = Command::new("rustup");
        // In the project's directory: its toolchain is the one that lacks it.
        project::run(rustup.args(["component", "add", component]).current_dir(project::root()))?;
    }
    ensure!(has_cargo_tool(tool)?, "cargo {tool} is missing; run `rustup component add {component}`");
    Ok(())
}

fn has_cargo_tool(tool: &str) -> Result<bool> {
    let mut command = project::cargo();
    command.args([tool, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_said_before() {
        let steps = [Step::Packages(vec!["nginx", "wrk"]), Step::Compiler, Step::Linker, Step::MountBpffs];
        let commands = steps.each_ref().map(Step::commands);
        assert_eq!(commands[0], "apt-get install nginx wrk");
        assert_eq!(commands[1], "apt-get install rustc-web rust-web-src");
        assert_eq!(commands[2], "cargo install bpf-linker --version 0.10.3 --locked");
        assert!(steps[0].reason().contains("neither started nor enabled"));
        assert_eq!(steps.each_ref().map(Step::needs_root), [true, true, false, true]);
    }

    #[test]
    fn only_our_own_stale_policy_goes() {
        let policy = std::env::temp_dir().join(format!("director-policy-{}", std::process::id()));
        fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
        remove_stale_policy(&policy).unwrap();
        assert!(policy.exists(), "it was the administrator's");
        fs::write(&policy, format!("#!/bin/sh\n{POLICY_MARKER}\nexit 101\n")).unwrap();
        remove_stale_policy(&policy).unwrap();
        assert_eq!(policy.exists(), !project::is_root());
        let _ = fs::remove_file(&policy);
        remove_stale_policy(&policy).unwrap();
    }

    #[test]
    fn a_larger_scope_lacks_no_less() {
        let counts = [Scope::Build, Scope::Lab, Scope::Vm].map(|scope| missing(scope).len());
        assert!(counts.is_sorted());
    }
}
