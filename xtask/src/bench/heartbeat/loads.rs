//! What a director has to do beside its heartbeat, and what may hold it up.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::lab::{DIRECT_VIPS, Daemon, Pipe, SmallDisk};
use ::tests::pair::{DEFAULT, Pair};
use anyhow::{Context, Result, ensure};

/// Real servers in the lab, and of each service.
pub const REALS: u8 = 10;
/// Services of the large configuration.
const SERVICES: u16 = 1_000;
/// Services with checks: ten a second each.
const CHECKED: u16 = 100;
/// The services' first port.
const FIRST_PORT: u16 = 10_000;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Idle,
    Reloads,
    Checks,
    BlockedLog,
    FullDisk,
    BusyCpus,
}

/// What a load needs while it lasts.
#[derive(Default)]
pub struct Props {
    pipe: Option<Pipe>,
    disk: Option<SmallDisk>,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 6] =
        [Load::Idle, Load::Reloads, Load::Checks, Load::BlockedLog, Load::FullDisk, Load::BusyCpus];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::Reloads => "reloads of 1,000 services x 10 back to back",
            Load::Checks => "1,000 health checks a second",
            Load::BlockedLog => "a log that blocks, with 1,000 checks a second to log",
            Load::FullDisk => "a full disk, with weights set and checks to log",
            Load::BusyCpus => "all CPUs busy, twice over",
        }
    }

    /// Starts the first director anew as this load needs it, and gives it the VIPs back.
    pub fn prepare(self, pair: &mut Pair) -> Result<Props> {
        let mut props = Props::default();
        let directory = pair.lab().directory().to_owned();
        let text = match self {
            Load::Checks | Load::BlockedLog | Load::FullDisk => with_checks(pair.config()),
            Load::Idle | Load::Reloads | Load::BusyCpus => pair.config().to_owned(),
        };
        let director = pair.director(1);
        ensure!(director.terminate()?.success(), "{}", director.log());
        director.write_config(text)?;
        match self {
            Load::BlockedLog => {
                let pipe = props.pipe.insert(Pipe::new()?);
                director.run_with(pipe.writer()?, &["--log", "trace"])?;
            }
            Load::FullDisk => {
                let disk = props.disk.insert(SmallDisk::mount(&directory.join("small"))?);
                director.move_to(disk.path())?;
                director.run()?;
            }
            _ => director.run()?,
        }
        pair.await_steady()?;
        pair.cli(2, &["handover"])?;
        pair.await_owner(1, DEFAULT)?;
        pair.await_steady()?;
        Ok(props)
    }

    /// Keeps it up for so long; says how much was done.
    pub fn run(self, pair: &mut Pair, props: &mut Props, lasts: Duration) -> Result<String> {
        let end = Instant::now() + lasts;
        match self {
            Load::Reloads => reloads(pair, end),
            Load::BlockedLog => {
                props.pipe.as_ref().context("no pipe")?.fill()?;
                thread::sleep(lasts);
                Ok(String::new())
            }
            Load::FullDisk => {
                props.disk.as_ref().context("no disk")?.fill()?;
                weights(pair.director(1), end)
            }
            Load::BusyCpus => busy(end),
            Load::Idle | Load::Checks => {
                thread::sleep(lasts);
                Ok(String::new())
            }
        }
    }

    /// Takes away what held the director up, so that it can be asked how it was.
    pub fn relieve(pair: &mut Pair, props: &mut Props) -> Result<()> {
        if let Some(pipe) = &mut props.pipe {
            pipe.drain()?;
        }
        if let Some(disk) = props.disk.take() {
            disk.empty()?;
            pair.director(1).cli_ok(&["status"])?;
            // Its files go on in the lab's own directory from the next start on.
            ensure!(pair.director(1).terminate()?.success(), "{}", pair.story());
            let directory = pair.lab().directory().to_owned();
            pair.director(1).move_to(&directory)?;
            pair.director(1).run()?;
            pair.await_steady()?;
        }
        Ok(())
    }
}

fn reloads(pair: &mut Pair, end: Instant) -> Result<String> {
    let texts = [1, 2].map(|weight| large(pair.config(), weight));
    let mut count = 0;
    while Instant::now() < end {
        let output = pair.director(1).reload(texts[count % 2].clone())?;
        ensure!(output.status.success(), "{output:?}");
        count += 1;
    }
    Ok(format!("{count} reloads"))
}

fn weights(director: &Daemon, end: Instant) -> Result<String> {
    let mut count = 0;
    while Instant::now() < end {
        let output = director.cli(&["weight", "web0", "192.0.2.21", "3"])?;
        ensure!(!output.status.success(), "a weight was kept on a full disk");
        count += 1;
    }
    Ok(format!("{count} weights refused"))
}

/// Loops at the usual priority until then.
fn busy(end: Instant) -> Result<String> {
    let loops = thread::available_parallelism()?.get() * 2;
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..loops)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    thread::sleep(end.saturating_duration_since(Instant::now()));
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(format!("{loops} busy loops"))
}

/// With a thousand more services of ten real servers, of which one has this weight.
fn large(config: &str, weight: u16) -> String {
    let mut yaml = config.to_owned();
    for i in 0..SERVICES {
        service(&mut yaml, i, if i == SERVICES / 2 { weight } else { 1 }, "");
    }
    yaml
}

/// With services whose checks add up to a thousand a second; no two are alike, for then they would run once.
fn with_checks(config: &str) -> String {
    let mut yaml = config.to_owned();
    for i in 0..CHECKED {
        let check = format!(
            "    check: {{ type: http, port: 80, request: \"/health?{i}\", interval: 1s, fast_interval: 1s, timeout: 900ms }}\n"
        );
        service(&mut yaml, i, 1, &check);
    }
    yaml
}

fn service(yaml: &mut String, i: u16, weight: u16, more: &str) {
    let (vip, port) = (DIRECT_VIPS[0], FIRST_PORT + i);
    write!(
        yaml,
        "  - name: s{i}\n    address: {vip}\n    port: {port}\n    forward: direct\n{more}    reals:\n"
    )
    .expect("a String takes whatever is written");
    for real in 0..REALS {
        let weight = if real == 0 { weight } else { 1 };
        writeln!(yaml, "      - {{ address: 192.0.2.{}, weight: {weight} }}", 21 + real)
            .expect("a String takes whatever is written");
    }
}
