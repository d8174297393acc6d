//! The cluster as the election needs it: who is in it, how long things take, what each group asks for.

use std::time::Duration;

use super::message::Key;
use crate::model::heartbeat::{Balance, Failback, Group, Heartbeat};

/// What a director goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This director.
    pub me: Peer,
    /// The others, by name.
    pub peers: Vec<Peer>,
    /// From one beat to the next.
    pub interval: Duration,
    /// Who was silent for so long is dead.
    pub dead_after: Duration,
    /// How long to listen at the start.
    pub initial_wait: Duration,
    /// How long another must be better off before it is given anything for that.
    pub settle: Duration,
    /// How many directors must agree to an owner, itself included; 1: nobody else.
    pub votes: usize,
    /// How groups are spread.
    pub balance: Option<Balance>,
    /// Whether there are witnesses.
    pub witnesses: bool,
    /// The groups, by name.
    pub groups: Vec<GroupSettings>,
}

/// A director of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its name on the wire.
    pub key: Key,
}

/// What a group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name.
    pub name: String,
    /// Its name on the wire.
    pub key: Key,
    /// This director's preference: the place in `prefer` first, then the priority.
    pub preference: u16,
    /// What becomes of it when a director comes that is preferred.
    pub failback: Failback,
}

impl Settings {
    /// What the configuration says to the director `me`; nothing if that is none of its directors.
    pub fn new(heartbeat: &Heartbeat, me: &str) -> Option<Settings> {
        let peer = |name: &str| Peer { name: name.to_owned(), key: Key::of(name) };
        let own = heartbeat.directors.iter().find(|member| member.name == me)?;
        let mut peers: Vec<Peer> = heartbeat
            .directors
            .iter()
            .filter(|other| other.name != me)
            .map(|other| peer(&other.name))
            .collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        // Where groups are spread, the highest priority must not draw all of them to itself.
        let priority = if heartbeat.balance.is_some() { 0 } else { own.priority };
        let mut groups: Vec<GroupSettings> = heartbeat
            .groups
            .iter()
            .map(|group| GroupSettings {
                name: group.name.clone(),
                key: Key::of(&group.name),
                preference: preference(group, me, priority),
                failback: group.failback,
            })
            .collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Settings {
            me: peer(me),
            interval: heartbeat.interval,
            dead_after: heartbeat.dead_after,
            initial_wait: heartbeat.initial_wait,
            settle: heartbeat.settle,
            votes: heartbeat.votes(),
            balance: heartbeat.balance,
            witnesses: !heartbeat.ping.is_empty(),
            peers,
            groups,
        })
    }

    /// The name of a director.
    pub fn name_of(&self, key: Key) -> &str {
        let all = std::iter::once(&self.me).chain(&self.peers);
        all.into_iter().find(|peer| peer.key == key).map_or("an unknown director", |peer| &peer.name)
    }
}

fn preference(group: &Group, me: &str, priority: u8) -> u16 {
    let place = group.prefer.iter().position(|name| name == me).unwrap_or(usize::from(u8::MAX));
    u16::from_be_bytes([u8::MAX - u8::try_from(place).unwrap_or(u8::MAX), priority])
}
