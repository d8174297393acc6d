//! What a director of the cluster knows at a moment, for people and programs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::message::{Key, Role};
use super::moment::Moment;
use super::node::{Group, Node, Other};
use super::session::Counts;
use super::transport::LinkStatus;

/// The cluster as one director sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// That director's name.
    pub me: String,
    /// It listens before it takes anything.
    pub listening: bool,
    /// An operator has it stay standby.
    pub held: bool,
    /// Witnesses that it reaches, and how many there are.
    pub witnesses: (u8, u8),
    /// The groups, by name.
    pub groups: Vec<GroupReport>,
    /// The other directors, by name.
    pub peers: Vec<PeerReport>,
    /// Its links, in the configuration's order.
    pub links: Vec<LinkReport>,
    /// Messages that were not believed, by reason: of all links, those that are no longer configured included.
    pub refused: Vec<(String, u64)>,
    /// How late its own messages were sent.
    pub late: Lateness,
}

/// How late messages were sent since the start, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// How many were sent.
    pub count: u64,
    /// Half of them were not later.
    pub p50: u64,
    /// 99 of 100 were not later.
    pub p99: u64,
    /// 999 of 1,000 were not later.
    pub p999: u64,
    /// None was later.
    pub max: u64,
}

impl Lateness {
    /// What a histogram says.
    pub fn new(histogram: &hdrhistogram::Histogram<u32>) -> Lateness {
        let quantile = |quantile| histogram.value_at_quantile(quantile);
        Lateness {
            count: histogram.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// What this director is for it: `standby`, `candidate`, `active`, `yielding`.
    pub role: String,
    /// Of that role.
    pub term: u64,
    /// Seconds since it is so.
    pub since_seconds: f64,
    /// Why it became so; none: it is so since the start.
    pub why: Option<String>,
    /// The director that holds it; none: nobody does, as far as is known.
    pub owner: Option<String>,
    /// Why this director may not hold it; none: it may.
    pub unable: Option<String>,
    /// What every director is for it, this one first.
    pub directors: Vec<ContenderReport>,
}

/// A director as a contender for a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContenderReport {
    /// Its name.
    pub director: String,
    /// As in [`GroupReport`].
    pub role: String,
    /// Whether it may hold the group.
    pub eligible: bool,
    /// Whether it gave the group away on request, and would rather not have it back.
    pub reluctant: bool,
    /// Witnesses that it reaches.
    pub witnesses: u8,
    /// Services with a live real server.
    pub services: u16,
    /// What its tracked commands add up to.
    pub score: i16,
}

/// Another director.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its name.
    pub name: String,
    /// Whether it is alive.
    pub alive: bool,
    /// Seconds since that changed; none where it was never heard.
    pub since_seconds: Option<f64>,
    /// Milliseconds since it was last heard.
    pub heard_milliseconds: Option<f64>,
    /// Whether it hears this director.
    pub hears_us: bool,
    /// An operator has it stay standby.
    pub held: bool,
    /// Whether it has the same configuration; none where that is not known.
    pub same_config: Option<bool>,
    /// How many seconds its wall clock is ahead of this director's, less what its message was under way; none where it is not alive.
    pub clock_ahead_seconds: Option<f64>,
    /// How it is heard by each link, in the links' order.
    pub links: Vec<PeerLinkReport>,
}

/// How a director is heard by a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerLinkReport {
    /// Whether it is heard.
    pub heard: bool,
    /// Messages that came.
    pub received: u64,
    /// Messages that did not come, though later ones did.
    pub lost: u64,
    /// The share lost of the last hundred.
    pub loss: f64,
    /// Half of the round trip, in milliseconds, smoothed.
    pub delay_milliseconds: Option<f64>,
    /// How much that varies.
    pub jitter_milliseconds: Option<f64>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// What it is.
    pub name: String,
    /// Whether it can be used.
    pub open: bool,
    /// Messages sent.
    pub sent: u64,
    /// Messages that could not be sent.
    pub send_errors: u64,
    /// Datagrams from addresses that are no director's: not even looked at.
    pub strangers: u64,
    /// Frames of a serial line that were too long or mutilated.
    pub garbled: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// Messages that came by it and were not believed, by reason.
    #[serde(default)]
    pub refused: Vec<(String, u64)>,
}

impl Cluster {
    /// What `machine` knows. `at`: now, and what the wall clock says now, since 1970.
    pub fn new(
        machine: &Machine,
        links: &[LinkStatus],
        witnesses: u8,
        config: u64,
        at: (Moment, Duration),
    ) -> Cluster {
        let now = at.0;
        let node = machine.node();
        let counters = machine.sessions().counted();
        Cluster {
            me: node.settings.me.name.clone(),
            listening: !node.joined(now),
            held: node.held,
            witnesses: (node.witnesses().unwrap_or(0), witnesses),
            groups: (0..node.groups.len()).map(|i| group(node, i, now)).collect(),
            peers: node.others.iter().map(|other| peer(machine, other, links.len(), config, at)).collect(),
            links: links.iter().enumerate().map(|(i, status)| link(status, counters.links.get(i))).collect(),
            refused: by_reason(&counters.total),
            late: Lateness::default(),
        }
    }
}

/// A role in a word.
pub fn word(role: Role) -> &'static str {
    match role {
        Role::Standby => "standby",
        Role::Candidate => "candidate",
        Role::Active => "active",
        Role::Yielding => "yielding",
    }
}

fn group(node: &Node, i: usize, now: Moment) -> GroupReport {
    let group = &node.groups[i];
    let mine = ContenderReport {
        director: node.settings.me.name.clone(),
        role: word(group.role).to_owned(),
        eligible: node.eligible(now, i) && node.joined(now),
        reluctant: group.reluctant,
        witnesses: node.witnesses().unwrap_or(0),
        services: group.facts.services,
        score: group.facts.score,
    };
    let theirs = node.alive(now).filter_map(|other| contender(other, group));
    GroupReport {
        name: group.settings.name.clone(),
        role: word(group.role).to_owned(),
        term: group.term,
        since_seconds: now.since(group.since).as_secs_f64(),
        why: group.why.as_ref().map(ToString::to_string),
        owner: node.owner(now, i).map(str::to_owned),
        unable: unable(node, i, now),
        directors: std::iter::once(mine).chain(theirs).collect(),
    }
}

fn unable(node: &Node, i: usize, now: Moment) -> Option<String> {
    let group = &node.groups[i];
    match &group.facts.unable {
        Some(why) => Some(why.clone()),
        None if node.held => Some("an operator has this director stay standby".to_owned()),
        None if node.isolated(now) => Some("this director reaches no witness".to_owned()),
        None if !node.joined(now) => Some("this director listens first".to_owned()),
        None => None,
    }
}

fn contender(other: &Other, group: &Group) -> Option<ContenderReport> {
    let beat = other.of(group.settings.key)?;
    Some(ContenderReport {
        director: other.peer.name.clone(),
        role: word(beat.role).to_owned(),
        eligible: beat.eligible,
        reluctant: beat.reluctant,
        witnesses: beat.standing.witnesses,
        services: beat.standing.services,
        score: beat.standing.score,
    })
}

fn peer(
    machine: &Machine,
    other: &Other,
    links: usize,
    config: u64,
    (now, clock): (Moment, Duration),
) -> PeerReport {
    let dead_after = machine.node().settings.dead_after;
    let alive = other.is_alive(now, dead_after);
    let changed = if alive { Some(other.since) } else { other.heard.map(|heard| heard + dead_after) };
    PeerReport {
        name: other.peer.name.clone(),
        alive,
        since_seconds: changed.map(|since| now.since(since).as_secs_f64()),
        heard_milliseconds: other.heard.map(|heard| milliseconds(now.since(heard))),
        hears_us: alive && machine.sessions().hears_me(other.peer.key, now),
        held: other.beat.held,
        same_config: alive.then_some(other.beat.config == config),
        clock_ahead_seconds: other.heard.filter(|_| alive).map(|heard| {
            // What this clock said when that message came.
            let then = clock.as_secs_f64() - now.since(heard).as_secs_f64();
            ((other.beat.clock.as_secs_f64() - then) * 1e3).round() / 1e3
        }),
        links: (0..links).map(|link| peer_link(machine, other.peer.key, link, now)).collect(),
    }
}

fn peer_link(machine: &Machine, peer: Key, link: usize, now: Moment) -> PeerLinkReport {
    let stats = machine.sessions().link(peer, link);
    let dead_after = machine.node().settings.dead_after;
    PeerLinkReport {
        heard: stats.heard.is_some_and(|heard| now.since(heard) <= dead_after),
        received: stats.received,
        lost: stats.lost,
        loss: stats.loss,
        delay_milliseconds: stats.delay.map(milliseconds),
        jitter_milliseconds: stats.jitter.map(milliseconds),
    }
}

fn by_reason(counts: &Counts) -> Vec<(String, u64)> {
    counts.iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn link(status: &LinkStatus, refused: Option<&Counts>) -> LinkReport {
    LinkReport {
        name: status.name.clone(),
        open: status.open,
        sent: status.sent,
        send_errors: status.send_errors,
        strangers: status.strangers,
        garbled: status.garbled,
        last_error: status.last_error.clone(),
        refused: refused.map(by_reason).unwrap_or_default(),
    }
}

fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
