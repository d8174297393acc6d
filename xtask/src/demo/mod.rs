//! `cargo xtask demo`: the director at work, told in plain words with the numbers it saw.

mod chapters;
mod pair;
mod story;

use ::tests::lab::{self, Config, Lab, Service};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use self::story::Story;
use crate::lab::need_root;
use crate::{project, setup};

/// What `demo` can be told: nothing.
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask demo

It installs what is missing after saying so, builds everything, makes a lab of network namespaces, sends real
traffic, and removes the lab. It fails if anything it promises did not hold.")]
pub struct Arguments {}

/// The port on which the real servers echo, for connections that last.
const ECHO_PORT: u16 = 7000;

/// The real servers, by their last numbers.
const REALS: [u8; 3] = [21, 22, 23];

/// Set by Ctrl-C: what fails after it fails for that reason.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The lab that is up.
static LAB: Mutex<Option<String>> = Mutex::new(None);

/// Runs the task.
pub fn run(_: &Arguments) -> Result<()> {
    need_root("demo")?;
    setup::ensure(setup::Scope::Lab)?;
    println!("Building the director: its BPF program, and the daemon that carries it.");
    let binary = project::build_director()?;
    let mut story = Story::default();
    let told = tell(&mut story, &binary).and_then(|()| pair::two_directors(&mut story));
    while INTERRUPTED.load(Ordering::Relaxed) {
        // The interruption has the last word, and ends the process.
        thread::park();
    }
    told?;
    println!("\nEverything is removed again: the namespaces, the pins, the files.");
    story.end()
}

fn tell(story: &mut Story, binary: &std::path::Path) -> Result<()> {
    let lab = Lab::builder().build()?;
    remove_on_interrupt(lab.name())?;
    let mut nginx = lab.nginx_everywhere()?;
    let _echo = lab.reals().map(|real| lab.tcp_echo(real.name(), ECHO_PORT)).collect::<Result<Vec<_>>>()?;
    let director = lab.director_from(binary, config())?;
    director.await_reachable()?;
    chapters::opening(&lab);
    let tale = chapters::Tale { lab: &lab, director: &director };
    tale.schedulers(story)?;
    for service in chapters::SERVICES {
        tale.spread_and_drain(story, service)?;
    }
    tale.health(story, &mut nginx)?;
    story.chapter("What the director says of it all");
    story.show(&director.cli_ok(&["status"])?);
    drop(director);
    Ok(())
}

fn config() -> Config {
    let lan = |host: u8| format!("192.0.2.{host}");
    let lan6 = |host: u8| format!("2001:db8::{host}");
    let [vip, vip6] = lab::DIRECT_VIPS;
    let [nat_vip, nat_vip6] = lab::NAT_VIPS;
    let both = format!("[80, {ECHO_PORT}]");
    let equal = |service: Service, address: &dyn Fn(u8) -> String| {
        REALS.iter().fold(service, |service, real| service.real(&address(*real), 1))
    };
    let weighted = Service::tcp("weighted", vip, 8080).scheduler("wrr");
    let weighted =
        REALS.iter().zip([3, 2, 1]).fold(weighted, |one, (real, weight)| one.real(&lan(*real), weight));
    let check = "{ type: http, request: /health, receive: \"^OK\", interval: 500ms, fast_interval: 200ms, timeout: 500ms }";
    Config::new()
        .service(equal(Service::tcp("watched", vip, 8001), &lan).set("check", check))
        .service(equal(Service::tcp("web", vip, 80).ports(&both), &lan))
        .service(weighted)
        .service(equal(Service::tcp("hashed", vip, 8000).scheduler("mh"), &lan))
        .service(equal(Service::tcp("web6", vip6, 80).ports(&both), &lan6))
        .service(equal(Service::tcp("shop", nat_vip, 80).ports(&both).nat(), &lan))
        .service(equal(Service::tcp("shop6", nat_vip6, 80).ports(&both).nat(), &lan6))
}

/// Ctrl-C must not leave namespaces behind: those of this lab from now on.
fn remove_on_interrupt(lab: &str) -> Result<()> {
    let before = up().replace(lab.to_owned());
    if before.is_some() {
        return Ok(());
    }
    ctrlc::set_handler(move || {
        INTERRUPTED.store(true, Ordering::Relaxed);
        eprintln!("\nInterrupted; the lab is removed.");
        let lab = up().take();
        if let Some(Err(error)) = lab.map(|lab| lab::remove(&lab)) {
            eprintln!("{error:#}");
        }
        std::process::exit(130);
    })?;
    Ok(())
}

fn up() -> std::sync::MutexGuard<'static, Option<String>> {
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_every_service_of_the_story() {
        let yaml = config().yaml();
        for name in chapters::SERVICES
            .map(|service| service.name)
            .into_iter()
            .chain(["weighted", "hashed", "watched"])
        {
            assert!(yaml.contains(&format!("- name: {name}\n")), "{name} in\n{yaml}");
        }
    }
}
