//! What this machine knows of itself that matters to who holds what: links, witnesses, tracked commands, live services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use healthcheck::{Check, Limits, Probe, State, Target, Verdict, probe};
use netlink_packet_route::link::LinkFlags;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::follow::run::{Run, run};
use crate::heartbeat::driver::{Command, Driver};
use crate::heartbeat::node::{Facts, GroupFacts};
use crate::model::heartbeat::{Heartbeat, Means, Track};

/// How many of its groups' services have a live real server, by group.
pub(in crate::daemon) type Services = watch::Receiver<Arc<BTreeMap<String, u16>>>;

/// A witness must miss so many pings in a row to count as out of reach; one answer is enough for the contrary.
const PINGS: Limits = Limits { rise: 1, fall: 3 };

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    ping: Vec<IpAddr>,
    ping_interval: Duration,
    track: Vec<Track>,
    /// The interfaces that a group needs, by group.
    interfaces: BTreeMap<String, Vec<String>>,
    /// How often they are looked at.
    look: Duration,
}

/// What one witness or tracked command shows; none before it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    witnesses: BTreeMap<usize, bool>,
    /// Why a command fails, where it does.
    commands: BTreeMap<usize, Result<(), String>>,
    /// Interfaces without a carrier.
    cut: BTreeSet<String>,
}

impl Watched {
    /// What a configuration asks for.
    pub(super) fn new(heartbeat: &Heartbeat) -> Watched {
        let interfaces = heartbeat.groups.iter().map(|group| {
            let by_address = group.takeover == Means::Address;
            let mut names: Vec<String> =
                group.vips.iter().filter(|_| by_address).map(|vip| vip.interface.clone()).collect();
            names.sort();
            names.dedup();
            (group.name.clone(), names)
        });
        Watched {
            interfaces: interfaces.collect(),
            look: heartbeat.interval,
            ping: heartbeat.ping.clone(),
            ping_interval: heartbeat.ping_interval,
            track: heartbeat.track.clone(),
        }
    }

    /// Whether everything that is watched has shown something.
    fn is_known(&self, found: &Found, links: &BTreeMap<String, bool>) -> bool {
        let interfaces = self.interfaces.values().flatten().all(|interface| links.contains_key(interface));
        interfaces && found.witnesses.len() == self.ping.len() && found.commands.len() == self.track.len()
    }

    fn facts(
        &self,
        found: &Found,
        links: &BTreeMap<String, bool>,
        services: &BTreeMap<String, u16>,
    ) -> Facts {
        let failing = |i: &usize| found.commands.get(i).is_some_and(Result::is_err);
        let score = self.track.iter().enumerate().filter_map(|(i, track)| {
            let weight = i16::from(track.weight?);
            ((weight > 0) != failing(&i)).then_some(weight)
        });
        let score: i16 = score.fold(0, i16::saturating_add);
        let must = self.track.iter().enumerate().filter(|(_, track)| track.weight.is_none());
        let failed = must.filter_map(|(i, track)| {
            let why = found.commands.get(&i)?.as_ref().err()?;
            Some(format!("{} fails: {why}", track.name))
        });
        let failed: Vec<String> = failed.collect();
        let group = |(name, interfaces): (&String, &Vec<String>)| {
            let is_up =
                |interface: &String| links.get(interface) == Some(&true) && !found.cut.contains(interface);
            let down = interfaces.iter().filter(|interface| !is_up(interface));
            let unable: Vec<String> = down
                .map(|interface| format!("the link {interface} is down"))
                .chain(failed.iter().cloned())
                .collect();
            let facts = GroupFacts {
                unable: (!unable.is_empty()).then(|| unable.join("; ")),
                services: services.get(name).copied().unwrap_or(0),
                score,
            };
            (name.clone(), facts)
        };
        let witnesses = found.witnesses.values().filter(|reached| **reached).count();
        Facts {
            witnesses: u8::try_from(witnesses).unwrap_or(u8::MAX),
            groups: self.interfaces.iter().map(group).collect(),
        }
    }
}

/// Tells the heartbeat what it finds, whenever that changes; for ever.
pub(super) async fn gather(
    mut watched: watch::Receiver<Arc<Watched>>,
    mut links: watch::Receiver<Arc<BTreeMap<String, bool>>>,
    mut services: Services,
    driver: Driver,
) {
    loop {
        let now = Arc::clone(&watched.borrow_and_update());
        let (finder, mut found) = watch::channel(Found::default());
        let finder = Arc::new(finder);
        // Dropped with this round, they end.
        let mut finding = JoinSet::new();
        for (i, witness) in now.ping.iter().enumerate() {
            finding.spawn(ping(i, *witness, now.ping_interval, Arc::clone(&finder)));
        }
        let interfaces = now.interfaces.values().flatten().cloned().collect();
        finding.spawn(look_at_carriers(interfaces, now.look, Arc::clone(&finder)));
        for (i, track) in now.track.iter().enumerate() {
            finding.spawn(track_one(i, track.clone(), Arc::clone(&finder)));
        }
        let mut told: Option<Facts> = None;
        loop {
            let seen = found.borrow_and_update().clone();
            let interfaces = Arc::clone(&links.borrow_and_update());
            if now.is_known(&seen, &interfaces) {
                let facts = now.facts(&seen, &interfaces, &services.borrow_and_update());
                if told.as_ref() != Some(&facts) {
                    driver.tell(Command::Facts(facts.clone()));
                    told = Some(facts);
                }
            }
            tokio::select! {
                Ok(()) = watched.changed() => break,
                Ok(()) = found.changed() => {}
                Ok(()) = links.changed() => {}
                Ok(()) = services.changed() => {}
                else => return,
            }
        }
    }
}

/// Asks the kernel for carriers. It tells by itself when one is lost, but only once a second (linux/net/core/link_watch.c).
async fn look_at_carriers(interfaces: BTreeSet<String>, every: Duration, found: Arc<watch::Sender<Found>>) {
    let Ok((connection, netlink, _)) = rtnetlink::new_connection() else {
        tracing::warn!(
            "cannot ask the kernel for carriers: one that is lost is noticed up to a second later"
        );
        return;
    };
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut cut = BTreeSet::new();
        for name in &interfaces {
            let answer = netlink.link().get().match_name(name.clone()).execute().try_next().await;
            // One that is not there is told of otherwise.
            let Ok(Some(link)) = answer else { continue };
            if !link.header.flags.contains(LinkFlags::LowerUp) {
                cut.insert(name.clone());
            }
        }
        found.send_if_modified(|found| {
            let differs = found.cut != cut;
            found.cut = cut;
            differs
        });
    }
}

async fn ping(i: usize, witness: IpAddr, interval: Duration, found: Arc<watch::Sender<Found>>) {
    let target = SocketAddr::new(witness, 0);
    let target = Target { real: target, virtual_: target, mark: 0, source: None };
    let question = Probe { target, check: Check::Ping, timeout: interval.max(Duration::from_millis(100)) };
    let mut verdict = Verdict::new(State::Unknown);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let good = probe::run(&question).await.result.is_ok();
        if let Some(state) = verdict.take(good, PINGS) {
            found.send_modify(|found| {
                found.witnesses.insert(i, state == State::Up);
            });
        }
    }
}

async fn track_one(i: usize, track: Track, found: Arc<watch::Sender<Found>>) {
    let mut ticks = tokio::time::interval(track.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let one = Run { command: &track.command, arguments: &[], environment: &[], timeout: track.timeout };
        let result = run(&one).await;
        found.send_if_modified(|found| found.commands.insert(i, result.clone()).as_ref() != Some(&result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let track = |name: &str, weight| Track {
            name: name.to_owned(),
            command: vec!["/bin/true".to_owned()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            weight,
        };
        Watched {
            ping: vec![[192, 0, 2, 1].into()],
            ping_interval: Duration::from_secs(1),
            track: vec![track("bonus", Some(10)), track("malus", Some(-20)), track("must", None)],
            interfaces: BTreeMap::from([
                ("blue".to_owned(), vec!["eth0".to_owned()]),
                ("red".to_owned(), vec!["eth1".to_owned()]),
            ]),
            look: Duration::from_millis(100),
        }
    }

    fn found(bonus: bool, malus: bool, must: bool) -> Found {
        let result = |good| if good { Ok(()) } else { Err("exit status 1".to_owned()) };
        let commands = [result(bonus), result(malus), result(must)];
        Found {
            witnesses: BTreeMap::from([(0, true)]),
            commands: commands.into_iter().enumerate().collect(),
            cut: BTreeSet::new(),
        }
    }

    #[test]
    fn weights_add_up_as_commands_succeed_and_fail() {
        let score = |bonus, malus| {
            let facts = watched().facts(&found(bonus, malus, true), &BTreeMap::new(), &BTreeMap::new());
            facts.groups[0].1.score
        };
        assert_eq!(
            [score(true, true), score(true, false), score(false, true), score(false, false)],
            [10, -10, 0, -20]
        );
    }

    #[test]
    fn a_group_needs_its_links_and_the_commands_without_a_weight() {
        let links = BTreeMap::from([("eth0".to_owned(), true), ("eth1".to_owned(), false)]);
        let unable = |must| {
            let facts = watched().facts(&found(true, true, must), &links, &BTreeMap::new());
            facts.groups.into_iter().map(|(_, facts)| facts.unable).collect::<Vec<_>>()
        };
        assert_eq!(unable(true), [None, Some("the link eth1 is down".to_owned())]);
        let cut = Found { cut: BTreeSet::from(["eth0".to_owned()]), ..found(true, true, true) };
        let facts = watched().facts(&cut, &links, &BTreeMap::new());
        assert_eq!(facts.groups[0].1.unable.as_deref(), Some("the link eth0 is down"));
        let both = "the link eth1 is down; must fails: exit status 1";
        assert_eq!(unable(false), [Some("must fails: exit status 1".to_owned()), Some(both.to_owned())]);
    }

    #[test]
    fn nothing_is_said_before_everything_has_shown_something() {
        let mut found = found(true, true, true);
        let mut links = BTreeMap::from([("eth0".to_owned(), true), ("eth1".to_owned(), false)]);
        assert!(watched().is_known(&found, &links));
        links.remove("eth1");
        assert!(!watched().is_known(&found, &links), "an interface that nobody has looked at yet");
        links.insert("eth1".to_owned(), true);
        found.witnesses.clear();
        assert!(!watched().is_known(&found, &links));
    }
}
