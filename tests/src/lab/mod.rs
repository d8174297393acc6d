//! A lab: a client, a director and real servers, each in a network namespace, and the switches between them.
//!
//! ```text
//!             client            real1 real2 real3 …     back1                far1
//!  192.0.2.100, 198.51.100.100   192.0.2.21 .22 .23   203.0.113.21        198.18.0.21
//!               │                     │                   │                   │
//!            ───┴──── switch ────┬────┴──┬───         backswitch          farswitch
//!                                │       └── router ──────┼───────────────────┘
//!                            eth0│     192.0.2.1          │eth1
//!                             director ───────────────────┘
//!                    192.0.2.11, 198.51.100.11        203.0.113.11
//! ```
//!
//! IPv6 has the same last numbers, in 2001:db8::/64 for 192.0.2.0/24, 2001:db8:100::/64 for 198.51.100.0/24,
//! 2001:db8:113::/64 for 203.0.113.0/24 and 2001:db8:18::/64 for 198.18.0.0/24. `back1`, `far1` and what leads to them
//! are there when asked for. The real servers' default route is the director, as NAT wants it; the VIPs for direct
//! routing (192.0.2.10 and 2001:db8::10) are on the real servers' `lo`.
//!
//! With several directors ([`Builder::directors`]) the left part is this instead; everything else stays, but for `back1`:
//!
//! ```text
//!      client                                   real1 real2 real3 …
//!        │                                            │
//!     ───┴──── switch ──┬───────────────┬─────────────┴─┬───
//!                   eth0│           eth0│           eth0│
//!                   director1       director2       director3     192.0.2.11 .12 .13, 198.51.100.11 .12 .13
//!                   eth1│           eth1│           eth1│
//!              ─────────┴─── hbswitch ──┴───────────────┴───      10.255.0.11 .12 .13, 2001:db8:255::11 ::12 ::13
//! ```
//!
//! No director holds a VIP before a daemon adds it. The real servers' default route is a VIP, too (192.0.2.9 and
//! 2001:db8::9), and so leads to whoever holds the VIPs.

pub mod bpffs;
mod builder;
mod cluster;
mod config;
mod daemon;
mod echo;
mod faults;
mod host;
mod line;
mod namespaces;
mod nginx;
mod plan;
mod process;
mod real_server;
mod stuck;
pub mod xdp;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, anyhow};

pub use builder::Builder;
pub use cluster::Cluster;
pub use config::{Config, Service};
pub use daemon::{Daemon, director_binary};
pub use echo::{TcpEcho, UdpEcho, WHERE};
pub use faults::{Fault, Links, Way};
pub use host::Host;
pub(crate) use host::search_path;
pub use line::SerialLine;
pub use namespaces::{hosts_of, remove, sweep_stale};
pub use nginx::{BIG_BYTES, Nginx, PORTS as NGINX_PORTS};
pub use plan::{DIRECT_VIPS, GATEWAY_VIPS, MORE_VIPS, NAT_VIPS, Options};
pub use process::Process;
pub(crate) use process::output_of;
pub use stuck::{Pipe, SmallDisk};

/// A running lab. Dropping it removes everything: processes, pins, namespaces, files.
#[derive(Debug)]
pub struct Lab {
    name: String,
    options: Options,
    hosts: Vec<Host>,
    directory: PathBuf,
    big: OnceLock<String>,
    kept: bool,
}

impl Lab {
    /// Describes a lab; [`Builder::build`] makes it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn empty(name: &str, options: Options) -> Lab {
        let directory = namespaces::directory(name);
        Lab { name: name.into(), options, hosts: Vec::new(), directory, big: OnceLock::new(), kept: false }
    }

    fn add_host(&mut self, host: Host) {
        self.hosts.push(host);
    }

    /// The lab's name, with which its namespaces begin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was asked to be.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A machine by its name; a name that is not there is a mistake in the test, and panics.
    pub fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|host| host.name() == name);
        found.unwrap_or_else(|| panic!("the lab has no host {name:?}"))
    }

    /// All machines and switches.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// The client.
    pub fn client(&self) -> &Host {
        self.host("client")
    }

    /// All real servers, those on the server LAN first.
    pub fn reals(&self) -> impl Iterator<Item = &Host> {
        let names = ["real", "back", "far"];
        self.hosts.iter().filter(move |host| {
            let name = host.name().trim_end_matches(|last: char| last.is_ascii_digit());
            name.len() < host.name().len() && names.contains(&name)
        })
    }

    /// A directory for files, which goes with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory that the director pins its maps and links in.
    pub fn pins(&self) -> PathBuf {
        bpffs::pins(&self.name)
    }

    /// Starts nginx on a host; see [`Nginx`].
    pub fn nginx(&self, host: &str) -> Result<Nginx> {
        self.big_sha256()?;
        Nginx::start(self.host(host), &self.directory)
    }

    /// Starts nginx on every real server.
    pub fn nginx_everywhere(&self) -> Result<Vec<Nginx>> {
        self.reals().map(|real| self.nginx(real.name())).collect()
    }

    /// Starts a UDP echo server on a host.
    pub fn udp_echo(&self, host: &str, port: u16) -> Result<UdpEcho> {
        UdpEcho::start(self.host(host), port)
    }

    /// Starts a TCP echo server on a host.
    pub fn tcp_echo(&self, host: &str, port: u16) -> Result<TcpEcho> {
        TcpEcho::start(self.host(host), port)
    }

    /// Starts the director with a configuration, and waits until it knows the way to every real server; see
    /// [`Daemon`].
    pub fn director(&self, config: impl Into<String>) -> Result<Daemon> {
        let daemon = self.director_from(&director_binary()?, config)?;
        daemon.await_reachable()?;
        Ok(daemon)
    }

    /// Starts a given director and waits only until it answers.
    pub fn director_from(&self, binary: &Path, config: impl Into<String>) -> Result<Daemon> {
        Daemon::start(self, binary, config.into())
    }

    /// Starts the director of that number of several, as the node `lb<number>`, and waits only until it answers. All should
    /// be given the same configuration: see [`Config::cluster`].
    pub fn director_n(&self, number: u8, config: impl Into<String>) -> Result<Daemon> {
        self.director_n_from(&director_binary()?, number, config)
    }

    /// Starts a given program as that director.
    pub fn director_n_from(&self, binary: &Path, number: u8, config: impl Into<String>) -> Result<Daemon> {
        Daemon::start_node(self, number, binary, config.into())
    }

    /// Starts all directors of several at the same time with one configuration, and waits until each answers.
    pub fn director_all(&self, config: impl Into<String>) -> Result<Vec<Daemon>> {
        self.director_all_from(&director_binary()?, config)
    }

    /// Starts a given program as each of them.
    pub fn director_all_from(&self, binary: &Path, config: impl Into<String>) -> Result<Vec<Daemon>> {
        let config = config.into();
        let start = |number| self.director_n_from(binary, number, config.clone());
        let start = &start;
        thread::scope(|scope| {
            let starts: Vec<_> =
                (1..=self.options.directors).map(|number| scope.spawn(move || start(number))).collect();
            starts
                .into_iter()
                .map(|start| start.join().map_err(|_| anyhow!("a start of a director panicked"))?)
                .collect()
        })
    }

    /// The heartbeats of this lab's directors, for [`Config::cluster`], with a key that is made now.
    pub fn cluster(&self) -> Result<Cluster> {
        let key_file = self.directory.join("heartbeat.key");
        cluster::write_key(&key_file)?;
        Ok(Cluster::new(self.options.directors, &key_file))
    }

    /// The file that every nginx serves as `/big`.
    pub fn big_file(&self) -> PathBuf {
        self.directory.join(nginx::BIG_FILE)
    }

    /// Its SHA-256 in hexadecimal.
    pub fn big_sha256(&self) -> Result<&str> {
        if self.big.get().is_none() {
            nginx::write_big_file(&self.big_file())?;
            let _ = self.big.set(sha256_of(&self.big_file())?);
        }
        self.big.get().map(String::as_str).ok_or_else(|| anyhow!("the big file has no checksum"))
    }

    /// Lets the lab outlive this process; [`remove`] takes it down.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = remove(&self.name) {
            eprintln!("the lab {} was not removed wholly: {error:#}", self.name);
        }
    }
}

/// The SHA-256 of a file in hexadecimal.
pub fn sha256_of(file: &Path) -> Result<String> {
    let line = process::output_of(Command::new("sha256sum").arg(file))?;
    first_word(&line)
}

/// `sha256sum` writes the digest and then the file's name.
pub(crate) fn first_word(line: &str) -> Result<String> {
    line.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}
