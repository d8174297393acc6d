//! What one of three directors says of the others, and of the links between them.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::lab::{Config, DIRECT_VIPS, Daemon, Lab, Service, Way};
use tests::wait;

use super::{Said, doctor};

const PATIENCE: Duration = Duration::from_secs(20);
/// The links by their places.
const LAN: usize = 0;
const HEARTBEAT: usize = 1;

/// What a director says of another one.
fn peer(director: &Daemon, name: &str) -> Result<Value> {
    let status = director.status()?;
    let peers = status["pair"]["cluster"]["peers"].as_array().context("no peers")?;
    peers.iter().find(|peer| peer["name"] == name).cloned().with_context(|| format!("no {name}"))
}

fn await_peer(director: &Daemon, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    wait::until(&format!("{name} {what}"), PATIENCE, || Ok(is(&peer(director, name)?).then_some(())))
}

fn see(director: &Daemon, node: &str) -> Result<Said> {
    let arguments = [
        Path::new("--node"),
        node.as_ref(),
        "--socket".as_ref(),
        director.socket(),
        "--pins".as_ref(),
        director.pins(),
    ];
    doctor(director.host(), director.config_file(), &arguments)
}

#[test]
fn each_fault_between_directors_is_found_and_named() -> Result<()> {
    let lab = Lab::builder().directors(3).reals(1).build()?;
    let web = Service::tcp("web", DIRECT_VIPS[0], 80).real("192.0.2.21", 1);
    // Nobody is to be taken for dead by chance; and a hundred messages are to come soon.
    let cluster = lab.cluster()?.interval("20ms").dead_after("1s");
    let taken = lab.host("director3").within(|| Ok(UdpSocket::bind("10.255.0.13:694")?))?;
    let mut directors = lab.director_all(Config::new().cluster(cluster).service(web))?;
    for (director, others) in directors.iter().zip([["lb2", "lb3"], ["lb1", "lb3"], ["lb1", "lb2"]]) {
        director.await_reachable()?;
        for name in others {
            await_peer(director, name, "to hear and be heard", |peer| {
                peer["hears_us"] == true && peer["links"][LAN]["loss"] == 0.0
            })?;
        }
    }
    a_link_that_is_not_open(&directors)?;
    drop(taken);
    links_that_lose(&lab, &mut directors)?;
    one_that_is_deaf(&lab, &directors)
}

/// Another program has the third one's port.
fn a_link_that_is_not_open(directors: &[Daemon]) -> Result<()> {
    see(&directors[2], "lb3")?.ensure_bad(&[
        ["error", "link", "udp 10.255.0.13:694", "another program uses this address and port", "ip address"],
        ["warning", "link", "lb1", "not heard by the link udp 10.255.0.13:694", "director status"],
        ["warning", "link", "lb2", "not heard by the link udp 10.255.0.13:694", "director status"],
    ])
}

/// The first one loses its own address on one link and half of what the second one says on the other, and the third one dies.
fn links_that_lose(lab: &Lab, directors: &mut [Daemon]) -> Result<()> {
    directors[2].kill9();
    let host = lab.host("director1");
    host.run(&["ip", "addr", "del", "10.255.0.11/24", "dev", "eth1"])?;
    let loss = lab.loss(("director2", "switch"), Way::Out, 50)?;
    let first = &directors[0];
    await_peer(first, "lb3", "to be dead", |peer| peer["alive"] == false)?;
    await_peer(first, "lb2", "to be silent there, and hard to hear here", |peer| {
        peer["links"][HEARTBEAT]["heard"] == false && peer["links"][LAN]["loss"].as_f64() > Some(0.2)
    })?;
    see(first, "lb1")?.ensure_bad(&[
        ["warning", "peer", "lb3", "it is not heard", "start it there"],
        ["warning", "link", "lb2", "it is not heard by the link udp 10.255.0.11:694", "director status"],
        ["warning", "link", "lb2", "% of its messages by udp 192.0.2.11:694 are lost", ""],
        ["warning", "link", "udp 10.255.0.11:694", "does not have the link's own address", ""],
    ])?;
    loss.heal()?;
    host.run(&["ip", "addr", "add", "10.255.0.11/24", "dev", "eth1"]).map(drop)
}

/// The second one hears nothing of the first one, but is heard by it.
fn one_that_is_deaf(lab: &Lab, directors: &[Daemon]) -> Result<()> {
    let cut = lab.partition(&["director2"], &["director1"], Way::In)?;
    await_peer(&directors[0], "lb2", "to be deaf", |peer| {
        peer["alive"] == true && peer["hears_us"] == false
    })?;
    // Who of them holds the VIPs is not settled yet: there may be more to find.
    let said = see(&directors[0], "lb1")?;
    ensure!(
        said.has(["error", "peer", "lb2", "it is heard, but does not hear this director", "firewall"]),
        "{:#?}",
        said.bad()
    );
    cut.heal()
}
