//! A machine of the lab: a network namespace to run things in.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{self, Process};

/// Where `ip netns` keeps namespaces by name.
pub(super) const NAMESPACES: &str = "/run/netns";

/// Debian keeps `ip`, `nginx` and `ethtool` where a plain user's PATH does not look.
const SYSTEM_PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A handle on a network namespace; clones are the same machine.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    namespace: String,
    netns: File,
    addresses: Vec<IpAddr>,
}

impl Host {
    /// Opens the namespace `namespace` as the machine `name`, which answers at `addresses`.
    pub fn open(name: &str, namespace: &str, addresses: Vec<IpAddr>) -> Result<Host> {
        let path = namespace_path(namespace);
        let netns = File::open(&path).with_context(|| format!("no such host: {}", path.display()))?;
        Ok(Host(Arc::new(Inner { name: name.into(), namespace: namespace.into(), netns, addresses })))
    }

    /// Its name: `client`, `real1`, …
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The namespace's name, as `ip netns` lists it.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Its addresses: the interfaces', then those that it holds on `lo`.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0.addresses
    }

    /// Its first IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.first(IpAddr::is_ipv4)
    }

    /// Its first IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.first(IpAddr::is_ipv6)
    }

    fn first(&self, family: fn(&IpAddr) -> bool) -> IpAddr {
        let found = self.0.addresses.iter().copied().find(family);
        found.unwrap_or_else(|| panic!("{} has no address of that family", self.0.name))
    }

    /// A command that will run in the namespace. The mounts stay the host's: `ip netns exec` would put a fresh
    /// /sys in place, where nothing pinned in bpffs is to be seen and a pin made there would vanish.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", search_path());
        let host = Arc::clone(&self.0);
        let enter = move || {
            move_into_link_name_space(host.netns.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)
        };
        // SAFETY: between fork and exec the closure makes a single system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command to its end and gives its standard output.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<String> {
        process::output_of(&mut self.command_line(words)?).with_context(|| format!("on {}", self.name()))
    }

    /// Starts a command that runs until the guard is dropped.
    pub fn spawn<S: AsRef<str>>(&self, words: &[S]) -> Result<Process> {
        Process::start(&mut self.command_line(words)?).with_context(|| format!("on {}", self.name()))
    }

    fn command_line<S: AsRef<str>>(&self, words: &[S]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("an empty command line")?;
        let mut command = self.command(program.as_ref());
        command.args(arguments.iter().map(AsRef::as_ref));
        Ok(command)
    }

    /// Calls `work` on a thread that is in the namespace. Sockets made there stay there, whoever uses them later.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_work = || {
            move_into_link_name_space(self.0.netns.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}", self.0.namespace))?;
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join())
            .map_err(|_| anyhow!("a thread in {} panicked", self.0.namespace))?
    }

    /// Sets a kernel parameter of the namespace, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that looks.
        self.within(|| {
            let path = Path::new("/proc/sys").join(name);
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
        })
    }

    /// The link-layer address of an interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let line = self.run(&["ip", "-o", "link", "show", interface])?;
        let mut words = line.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).map(str::to_owned).with_context(|| format!("no MAC address in {line:?}"))
    }

    /// The link-layer address that this machine has for a neighbour, if it has one; written as [`Host::mac`] writes it.
    pub fn neighbour(&self, ip: IpAddr) -> Result<Option<String>> {
        let line = self.run(&["ip", "neighbour", "show", &ip.to_string()])?;
        Ok(lladdr_of(&line))
    }
}

fn lladdr_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned)
}

pub(super) fn namespace_path(namespace: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace)
}

pub(crate) fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
    format!("{path}:{SYSTEM_PATHS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_without_an_address_is_none() {
        let known = "192.0.2.10 dev eth0 lladdr 02:00:00:00:00:01 STALE\n";
        assert_eq!(lladdr_of(known).as_deref(), Some("02:00:00:00:00:01"));
        for unknown in ["", "192.0.2.10 dev eth0 INCOMPLETE\n", "192.0.2.10 dev eth0 FAILED\n"] {
            assert_eq!(lladdr_of(unknown), None, "{unknown}");
        }
    }
}
