//! Collects the facts: the only part of the doctor that asks anybody.

mod ask;
mod ethtool;
mod knock;
mod links;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::facts::{Answers, Facts, Way};
use super::{reals, vips};
use crate::api::client::Client;
use crate::api::types;
use crate::config;
use crate::heartbeat::keys::Keys;
use crate::neighbours::interfaces::Interfaces;
use crate::neighbours::kernel;
use crate::neighbours::netlink::Questions;

/// The most addresses that are asked for by ARP and neighbour solicitations.
const MOST_ASKED: usize = 4096;
/// The most pairs of a VIP and a real server that are tried.
const MOST_KNOCKED: usize = 1024;

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The configuration's file.
    pub config: PathBuf,
    /// Which of the cluster's directors this machine is, where its host name does not say it.
    pub node: Option<String>,
    /// The running director's socket, in place of the configuration's.
    pub socket: Option<PathBuf>,
    /// The directory of pins.
    pub pins: PathBuf,
}

/// Asks everybody.
///
/// # Errors
/// The kernel tells nothing of its interfaces.
pub async fn gather(patient: &Patient) -> Result<Facts> {
    let file = std::path::absolute(&patient.config).unwrap_or_else(|_| patient.config.clone());
    let mut facts = Facts { file, ..Facts::default() };
    match config::load(&facts.file) {
        Ok(loaded) => facts.config = loaded.config,
        Err(config::Failure::Unreadable { reason, .. }) => {
            facts.unusable = Some(format!("cannot be read: {reason}"))
        }
        Err(config::Failure::Invalid { problems, .. }) => {
            let first = problems.first().map_or("", |problem| problem.message.as_str());
            facts.unusable = Some(format!("has {} errors, the first: {first}", problems.len()));
        }
    }
    if let Some(heartbeat) = &facts.config.heartbeat {
        facts.node = Some(config::node_name(patient.node.as_deref(), heartbeat));
        facts.keys = Keys::load(&heartbeat.key_file).err().map(|error| error.to_string());
    }
    ask_director(&mut facts, patient.socket.as_deref()).await;
    facts.system = system::system(&facts, &patient.pins);

    let mut questions = Questions::open()?;
    let messages = questions.interfaces().await.context("cannot list interfaces")?;
    facts.links = links::links(&messages, &patient.pins);
    let addresses: BTreeSet<IpAddr> = facts.servers().map(|server| server.address).collect();
    facts.ways = ways(&mut questions, addresses).await?;
    ask_network(&mut facts, &kernel::interfaces(&messages)).await;
    Ok(facts)
}

async fn ask_director(facts: &mut Facts, socket: Option<&Path>) {
    let configured = &facts.config.socket;
    let standard = Path::new("/run/director/director.sock");
    let socket = socket.unwrap_or(if configured.as_os_str().is_empty() { standard } else { configured });
    match Client::new(socket).get::<types::Status>(types::STATUS).await {
        Ok(status) => facts.running = Some(status),
        Err(error) => facts.silent = error.to_string().lines().next().map(str::to_owned),
    }
}

async fn ways(questions: &mut Questions, reals: BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Option<Way>>> {
    let reals: Vec<IpAddr> = reals.into_iter().collect();
    let found = questions.routes(&reals).await?;
    let way = |(real, route): (IpAddr, Option<crate::neighbours::hop::Route>)| {
        let way = route.map(|route| {
            let gateway = Some(route.hop.address).filter(|hop| *hop != real);
            Way { index: route.hop.ifindex, gateway }
        });
        (real, way)
    };
    Ok(found.into_iter().map(way).collect())
}

/// Asks for everybody whose answer says something, then tries the VIPs at those real servers that answered.
async fn ask_network(facts: &mut Facts, interfaces: &Interfaces) {
    let mut targets = targets(facts);
    if targets.len() > MOST_ASKED {
        facts
            .unasked
            .push(format!("only the first {MOST_ASKED} of {} addresses were asked for", targets.len()));
        targets.truncate(MOST_ASKED);
    }
    let vips: BTreeSet<IpAddr> = facts.config.vips.iter().map(|vip| vip.address).collect();
    match ask::ask(interfaces, &targets, &vips).await {
        Ok(answers) => facts.answers = answers,
        Err(error) => {
            // Without an answer to look for, nothing is known of anybody.
            facts.answers = Answers::default();
            facts.unasked.push(format!("nobody was asked by ARP or neighbour discovery: {error}"));
            return;
        }
    }
    let mut pairs = reals::to_knock(facts);
    if pairs.len() > MOST_KNOCKED {
        facts
            .unasked
            .push(format!("only the first {MOST_KNOCKED} of {} real servers were tried", pairs.len()));
        pairs.truncate(MOST_KNOCKED);
    }
    match knock::knock(facts, &pairs) {
        Ok(knocks) => facts.knocks = knocks,
        Err(error) => facts.unasked.push(format!("real servers were not tried for their VIPs: {error}")),
    }
}

/// VIPs, the addresses of the interfaces that they are on, real servers and fallbacks on the link, other directors.
fn targets(facts: &Facts) -> Vec<(u32, IpAddr)> {
    let mut all: Vec<(u32, IpAddr)> = Vec::new();
    for vip in facts.held_vips() {
        all.extend(facts.link(&vip.interface).map(|link| (link.index, vip.address)));
    }
    let vips = facts.held_vips().map(|vip| &vip.interface);
    let used: BTreeSet<&String> = facts.config.interfaces.iter().chain(vips).collect();
    for link in used.iter().filter_map(|name| facts.link(name)) {
        all.extend(link.addresses.iter().map(|(address, _)| (link.index, *address)));
        all.extend(
            vips::peer_addresses(facts).filter(|peer| link.reaches(*peer)).map(|peer| (link.index, peer)),
        );
    }
    for (real, way) in &facts.ways {
        if let Some(Way { index, gateway: None }) = way {
            all.push((*index, *real));
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|target| seen.insert(*target));
    all
}
