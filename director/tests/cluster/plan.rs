//! What a trial is about: a cluster's configuration, its clocks and its network, drawn from the seed.

use std::path::PathBuf;
use std::time::Duration;

use director::model::heartbeat::{Announce, Balance, Failback, Group, Heartbeat, Means, Member, Quorum};

use crate::random::Random;

/// By how much a clock's rate is off at most, in millionths.
pub const MOST_DRIFT: i64 = 50_000;

/// A cluster.
pub struct Plan {
    pub heartbeat: Heartbeat,
    /// Links of each director.
    pub links: usize,
    /// By how much each director's clock runs fast, in millionths.
    pub drift: Vec<i64>,
    /// What each director's clock says at the beginning.
    pub offset: Vec<Duration>,
    /// How long a message takes at most while nothing is wrong.
    pub delay: Duration,
    /// Services that each director sees alive; the same at all of them where groups are spread.
    pub services: Vec<u16>,
    /// Whether somebody sends recorded messages again.
    pub attacker: bool,
}

impl Plan {
    /// The one of a seed.
    pub fn new(random: &mut Random) -> Plan {
        let count = random.pick(&[2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 5]);
        let count = if random.below(200) == 0 { 16 } else { count };
        let quorum = if random.percent(50) { Quorum::Majority } else { Quorum::None };
        let interval = Duration::from_millis(random.pick(&[10, 100, 1000]));
        // A promise is renewed by a message there and one back, so it is up to two intervals old.
        let least = if quorum == Quorum::Majority { 3 } else { 2 };
        let dead_after = interval * random.pick(&[least, 3, 4, 5]);
        let spare = match quorum {
            Quorum::None => dead_after.saturating_sub(interval * 2) * 9 / 10,
            Quorum::Majority => (dead_after * 82 / 100).saturating_sub(interval * 22 / 10) / 2,
        };
        let delay = if random.percent(50) { interval / 20 } else { spare }.min(spare).max(interval / 100);
        let balance = random.percent(30).then(|| Balance {
            moves: 1 + random.below(3) as u8,
            every: random.between(interval, dead_after * 2),
            mature: random.between(Duration::ZERO, dead_after * 2),
        });
        let names: Vec<String> = (0..count).map(|i| char::from(b'a' + i as u8).to_string()).collect();
        let groups = groups(random, &names, dead_after);
        let directors = names.iter().map(|name| Member {
            name: name.clone(),
            priority: random.pick(&[100, 100, 90, 110]),
            links: Vec::new(),
        });
        let directors = directors.collect();
        let same = balance.is_some() || random.percent(60);
        Plan {
            links: random.pick(&[1, 1, 2, 2, 3]),
            drift: (0..count)
                .map(|_| random.below(2 * MOST_DRIFT as usize + 1) as i64 - MOST_DRIFT)
                .collect(),
            offset: (0..count).map(|_| Duration::from_secs(1 + random.below(1000) as u64)).collect(),
            delay,
            services: (0..count).map(|_| if same { 2 } else { random.below(3) as u16 }).collect(),
            attacker: random.percent(50),
            heartbeat: Heartbeat {
                key_file: PathBuf::new(),
                interval,
                dead_after,
                initial_wait: random.between(interval * 2, dead_after * 3),
                settle: random.between(Duration::ZERO, dead_after * 2),
                quorum,
                ping: if random.percent(50) { vec![[192, 0, 2, 1].into()] } else { Vec::new() },
                ping_interval: interval,
                track: Vec::new(),
                balance,
                announce: Announce {
                    burst: 1,
                    spacing: interval,
                    refresh: None,
                    neighbours: Vec::new(),
                    share: None,
                },
                directors,
                groups,
            },
        }
    }

    /// How many directors there are.
    pub fn count(&self) -> usize {
        self.heartbeat.directors.len()
    }

    /// Whether more than half must agree.
    pub fn majority(&self) -> bool {
        self.heartbeat.quorum == Quorum::Majority
    }

    /// Whether groups are free to be spread evenly.
    pub fn even(&self) -> bool {
        self.heartbeat.balance.is_some() && self.heartbeat.groups.iter().all(|group| group.prefer.is_empty())
    }

    /// In one line.
    pub fn describe(&self) -> String {
        let Heartbeat { interval, dead_after, initial_wait, settle, quorum, balance, .. } = &self.heartbeat;
        let members: Vec<String> = self
            .heartbeat
            .directors
            .iter()
            .enumerate()
            .map(|(i, member)| {
                format!(
                    "{} priority {} services {} clock {:+} ppm",
                    member.name, member.priority, self.services[i], self.drift[i]
                )
            })
            .collect();
        let members = members.join("; ");
        let groups: Vec<String> = self
            .heartbeat
            .groups
            .iter()
            .map(|group| format!("{} {:?} prefer {:?}", group.name, group.failback, group.prefer))
            .collect();
        format!(
            "{quorum:?}, interval {interval:?}, dead after {dead_after:?}, wait {initial_wait:?}, settle {settle:?}, {balance:?}, {} links, \
             delay {:?}, witnesses {}\n  {members}\n  {}",
            self.links,
            self.delay,
            self.heartbeat.ping.len(),
            groups.join("; ")
        )
    }
}

fn groups(random: &mut Random, names: &[String], dead_after: Duration) -> Vec<Group> {
    let count = random.pick(&[1, 1, 1, 2, 3, 6]);
    let group = |i: usize, random: &mut Random| Group {
        name: format!("g{i}"),
        vips: Vec::new(),
        prefer: if random.percent(20) { vec![names[random.below(names.len())].clone()] } else { Vec::new() },
        failback: match random.below(3) {
            0 => Failback::Never,
            1 => Failback::After(Duration::ZERO),
            _ => Failback::After(random.between(Duration::ZERO, dead_after * 2)),
        },
        takeover: Means::Address,
        virtual_mac: None,
        resources: Vec::new(),
    };
    (0..count).map(|i| group(i, random)).collect()
}
