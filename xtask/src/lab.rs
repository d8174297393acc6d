//! `cargo xtask lab`: a lab that stays, to play with.

use std::process::exit;

use ::tests::lab::{self, Config, Daemon, Host, Lab, Service};
use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::{project, setup};

/// The lab's name: its namespaces are `lab-client`, `lab-director`, …
const NAME: &str = "lab";

/// What `lab` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask lab up
  cargo xtask lab exec client curl -s http://192.0.2.10/
  cargo xtask lab exec director ip addr
  cargo xtask lab exec switch tcpdump -ni director
  cargo xtask lab down")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the director and bring the lab up, with nginx on the real servers
    #[command(after_help = "Examples:
  cargo xtask lab up
  cargo xtask lab up --reals 8 --mtu 9000 --back --router
  cargo xtask lab up --no-director    to start one by hand")]
    Up(Up),
    /// Take the lab down, with all that runs in it
    Down,
    /// Say whether the lab is up, and of what it consists
    Status,
    /// Run a command on a host of the lab
    #[command(after_help = "Examples:
  cargo xtask lab exec client ping -c 3 192.0.2.10
  cargo xtask lab exec client wrk -c 32 -d 5s http://192.0.2.10/
  cargo xtask lab exec director bash")]
    Exec {
        /// client, director, switch, real1, …
        host: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Up {
    /// Real servers on the server LAN
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=70))]
    reals: u8,
    /// MTU of every link
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// With a second segment behind the director, and the real server back1
    #[arg(long)]
    back: bool,
    /// With a router, and the real server far1 behind it
    #[arg(long)]
    router: bool,
    /// Start no director
    #[arg(long)]
    no_director: bool,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Up(options) => up(options),
        Action::Down => down(),
        Action::Status => status(),
        Action::Exec { host, command } => exec(host, command),
    }
}

fn up(options: &Up) -> Result<()> {
    need_root("lab up")?;
    setup::ensure(setup::Scope::Lab)?;
    ensure!(lab::hosts_of(NAME).is_empty(), "the lab is up already; `cargo xtask lab down` takes it down");
    let binary = if options.no_director { None } else { Some(project::build_director()?) };
    let mut builder = Lab::builder().named(NAME).reals(options.reals).mtu(options.mtu);
    if options.back {
        builder = builder.with_back();
    }
    if options.router {
        builder = builder.with_router();
    }
    let lab = builder.build()?;
    let servers = lab.nginx_everywhere()?;
    let daemon = binary.map(|binary| lab.director_from(&binary, ready_config(&lab))).transpose()?;
    describe(&lab);
    if let Some(daemon) = &daemon {
        daemon.await_reachable()?;
        describe_director(daemon);
    }
    if let Some(daemon) = daemon {
        daemon.keep();
    }
    servers.into_iter().for_each(lab::Nginx::keep);
    lab.keep();
    Ok(())
}

fn describe(lab: &Lab) {
    println!("The lab is up: {}.", lab.hosts().map(Host::name).collect::<Vec<_>>().join(", "));
    println!("\nTry:");
    for url in ["http://192.0.2.10/", "-g 'http://[2001:db8::10]/'", "http://198.51.100.10/"] {
        println!("  cargo xtask lab exec client curl -s {url}");
    }
    println!("  cargo xtask lab exec client wrk -c 32 -d 5s http://192.0.2.10/");
    println!("  cargo xtask lab exec switch tcpdump -ni director      (what XDP sends shows only there)");
    println!("  cargo xtask lab down");
    println!("\nLogs and configurations are in {}.", lab.directory().display());
}

fn describe_director(daemon: &Daemon) {
    println!("\nThe director runs with {}. Ask it, and change what it does:", daemon.config_file().display());
    let (binary, socket) = (daemon.binary().display(), daemon.socket().display());
    for subcommand in ["status", "flows", "drain web 192.0.2.21", "enable web 192.0.2.21", "reload"] {
        println!("  {binary} {subcommand} --socket {socket}");
    }
}

/// `web` by direct routing and `shop` by NAT, each on IPv4 and IPv6.
fn ready_config(lab: &Lab) -> Config {
    let mut config = Config::new();
    if lab.options().back {
        config = config.interface("eth1");
    }
    let nearby = |host: &&Host| host.name().starts_with("real");
    for (name, vip) in [("web", lab::DIRECT_VIPS[0]), ("web6", lab::DIRECT_VIPS[1])] {
        let service = Service::tcp(name, vip, 80);
        config = config.service(with_reals(service, lab.reals().filter(nearby)));
    }
    for (name, vip) in [("shop", lab::NAT_VIPS[0]), ("shop6", lab::NAT_VIPS[1])] {
        config = config.service(with_reals(Service::tcp(name, vip, 80).nat(), lab.reals()));
    }
    config
}

fn with_reals<'a>(service: Service, reals: impl Iterator<Item = &'a Host>) -> Service {
    let v6 = service.is_v6();
    reals.fold(service, |service, real| service.real(&if v6 { real.v6() } else { real.v4() }.to_string(), 1))
}

fn down() -> Result<()> {
    need_root("lab down")?;
    let hosts = lab::hosts_of(NAME);
    // Also where no namespace is left there may be pins or files.
    lab::remove(NAME)?;
    println!("{}", if hosts.is_empty() { "The lab was not up." } else { "The lab is down." });
    Ok(())
}

fn status() -> Result<()> {
    let mut hosts = lab::hosts_of(NAME);
    if hosts.is_empty() {
        println!("The lab is not up; `cargo xtask lab up` brings it up.");
        return Ok(());
    }
    need_root("lab status")?;
    hosts.sort();
    for name in hosts {
        let host = open(&name)?;
        println!("{name} (namespace {})", host.namespace());
        for line in host.run(&["ip", "-brief", "address", "show"])?.lines() {
            println!("    {}", line.trim_end());
        }
    }
    Ok(())
}

fn exec(host: &str, command: &[String]) -> Result<()> {
    need_root("lab exec …")?;
    let host = open(host)?;
    let (program, arguments) = command.split_first().context("no command")?;
    let status =
        host.command(program).args(arguments).status().with_context(|| format!("cannot run {program}"))?;
    exit(status.code().unwrap_or(1))
}

fn open(name: &str) -> Result<Host> {
    let mut hosts = lab::hosts_of(NAME);
    if !hosts.iter().any(|host| host == name) {
        hosts.sort();
        match hosts[..] {
            [] => bail!("the lab is not up; `cargo xtask lab up` brings it up"),
            _ => bail!("the lab has no host {name}; it has {}", hosts.join(", ")),
        }
    }
    Host::open(name, &format!("{NAME}-{name}"), Vec::new())
}

/// Fails, with what to do, unless this is root.
pub fn need_root(task: &str) -> Result<()> {
    ensure!(
        project::is_root(),
        "the lab is made of network namespaces and BPF programs, which need root. Run\n  {}",
        project::as_root(task)
    );
    Ok(())
}
