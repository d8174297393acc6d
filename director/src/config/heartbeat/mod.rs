//! `heartbeat`: the directors of a cluster and what they agree on, and the groups that `vips` name.
//!
//! What it leaves out is: `interval: 100ms`, a `dead_after` of three and a half intervals, an `initial_wait` of three times
//! that (a second at least), `settle: 3s`, `quorum: none`, `failback: false`, a director's `priority: 100`.

mod directors;
mod groups;
mod means;
mod names;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::reader::{Complaint, Fields, Given, Reader};
use crate::config::sections::Vips;
use crate::config::taker::Taker;
use crate::config::tree::{Kind, Tree};
use crate::config::{check_values, net, values};
use crate::model::heartbeat::{Announce, Balance, Failback, Heartbeat, Quorum, Track};

use directors::Directors;
use names::Names;

const KEYS: [&str; 14] = [
    "key_file",
    "interval",
    "dead_after",
    "initial_wait",
    "settle",
    "quorum",
    "failback",
    "ping",
    "ping_interval",
    "track",
    "balance",
    "announce",
    "directors",
    "groups",
];

const QUORUMS: [(&str, Quorum); 2] = [("none", Quorum::None), ("majority", Quorum::Majority)];

/// What is left out.
const INTERVAL: Duration = Duration::from_millis(100);
const LEAST_INITIAL_WAIT: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(3);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const TRACK_INTERVAL: Duration = Duration::from_secs(2);
const TRACK_TIMEOUT: Duration = Duration::from_secs(1);
const BALANCE: Balance = Balance { moves: 1, every: Duration::from_secs(4), mature: Duration::from_secs(5) };
const BURST: u8 = 5;
const SPACING: Duration = Duration::from_millis(200);
const REFRESH: Duration = Duration::from_secs(60);
const SHARE: Duration = Duration::from_secs(60);

/// The most entries of `ping`, of `track` and of `neighbours`. The witnesses that a director reaches and the sum of all
/// weights must fit a message's fields.
const MOST_ENTRIES: usize = 64;
/// The longest time between things that happen again and again, and the longest wait.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The section, checked, with the groups of `vips`, which are not known where they are wrong. `None` where something is
/// wrong; `Some(None)` where the section is left out.
pub(super) fn read(reader: &mut Reader, top: &Fields, vips: Option<&Vips>) -> Option<Option<Heartbeat>> {
    match top.get("heartbeat") {
        Some(tree) => section(reader, tree, vips).map(Some),
        None => {
            for place in vips.into_iter().flat_map(|vips| &vips.all).filter_map(|vip| vip.group.place()) {
                let complaint = Complaint::new("`group` does nothing without `heartbeat`");
                reader.note(place, complaint.hint("a director by itself holds all its VIPs"));
            }
            Some(None)
        }
    }
}

fn section(reader: &mut Reader, tree: &Tree, vips: Option<&Vips>) -> Option<Heartbeat> {
    let fields = reader.fields(tree, "heartbeat", &KEYS)?;
    let vips = vips.filter(|vips| vips.whole);
    let mut take = Taker::new(reader, &fields, "`heartbeat`");
    let key_file = take.needed("key_file", check_values::path, "/etc/director/heartbeat.key");
    let times = times(&mut take);
    let settle = take.or("settle", within(0, 3_600_000), SETTLE);
    let quorum = take.given("quorum", |tree, label| values::word(tree, label, &QUORUMS, &[]));
    let failback = take.or("failback", failback, Failback::Never);
    let ping = take.with("ping", |reader, tree| addresses(reader, tree, "ping")).into_right();
    let ping_interval = take.or("ping_interval", within(100, 60_000), PING_INTERVAL);
    let track = take.with("track", tracks).into_right();
    let balance = take.with("balance", balance).into_right();
    let announce = match take.with("announce", announce) {
        Given::Absent => Some(announce_as_left_out()),
        given => given.into_right(),
    };
    take.need("directors", "and a list of them, 2 to 16");
    let whole = take.whole;
    let directors = fields.get("directors").and_then(|tree| directors::read(reader, tree, vips));
    let agreed = check_quorum(reader, &quorum, directors.as_ref(), times);
    let names = directors.as_ref().and_then(|directors| directors.names.as_deref());
    let around = groups::Around { directors: names, vips, failback, place: fields.place };
    let groups = groups::read(reader, &fields, &around);
    if !whole || !agreed {
        return None;
    }
    let (dead_after, interval, initial_wait) = times?;
    Some(Heartbeat {
        key_file: key_file?,
        interval,
        dead_after,
        initial_wait,
        settle,
        quorum: quorum.into_right().unwrap_or(Quorum::None),
        ping: ping.unwrap_or_default(),
        ping_interval,
        track: track.unwrap_or_default(),
        balance: balance.unwrap_or_default(),
        announce: announce?,
        directors: directors?.members?,
        groups: groups?,
    })
}

/// A duration from so many milliseconds to so many.
fn within(least: u64, most: u64) -> impl Fn(&Tree, &str) -> Result<Duration, Complaint> {
    let limits: RangeInclusive<Duration> = Duration::from_millis(least)..=Duration::from_millis(most);
    move |tree, label| values::duration(tree, label, limits.clone())
}

/// `dead_after`, `interval` and `initial_wait`.
fn times(take: &mut Taker) -> Option<(Duration, Duration, Duration)> {
    let interval = take.given("interval", within(5, 10_000));
    let dead_after = take.given("dead_after", within(10, 60_000));
    let initial_wait = take.given("initial_wait", within(0, 600_000));
    let interval = interval.optional()?.copied().unwrap_or(INTERVAL);
    let usual = interval * 7 / 2;
    if let Given::Right { place, value } = dead_after
        && value < 2 * interval
    {
        let complaint = Complaint::new(format!(
            "`dead_after` must be at least twice the interval of {}, found {}",
            values::written(interval),
            values::written(value)
        ));
        let hint = format!("write {}, or make `interval` shorter", values::written(usual));
        take.reader.error(place, complaint.hint(hint));
        return None;
    }
    let dead_after = dead_after.optional()?.copied().unwrap_or(usual);
    let long = LEAST_INITIAL_WAIT.max(3 * dead_after);
    Some((dead_after, interval, initial_wait.optional()?.copied().unwrap_or(long)))
}

/// Whether a quorum, if there is to be one, can be had.
fn check_quorum(
    reader: &mut Reader,
    quorum: &Given<Quorum>,
    directors: Option<&Directors>,
    times: Option<(Duration, Duration, Duration)>,
) -> bool {
    let Given::Right { place, value: Quorum::Majority } = quorum else { return true };
    let two = directors.is_some_and(|directors| directors.count == 2);
    if two {
        let complaint = Complaint::new(
            "`quorum: majority` needs three directors or more: of two, neither could take over when the other one dies",
        );
        let hint =
            "remove it, or add a third director; witnesses in `ping` also help two directors to decide";
        reader.error(*place, complaint.hint(hint));
    }
    // A promise may be two messages old when it counts, and counts an eighth less: one lost message must not end it.
    let short = times.is_some_and(|(dead_after, interval, _)| dead_after < 3 * interval);
    if short {
        let complaint = Complaint::new("`quorum: majority` needs a `dead_after` of three intervals or more");
        reader.error(*place, complaint.hint("make `dead_after` longer, or `interval` shorter"));
    }
    !two && !short
}

/// `false`, `true`, or how long to wait.
fn failback(tree: &Tree, label: &str) -> Result<Failback, Complaint> {
    match tree.kind {
        Kind::Bool(false) => Ok(Failback::Never),
        Kind::Bool(true) => Ok(Failback::After(Duration::ZERO)),
        _ if is_numeric(tree) => values::duration(tree, label, Duration::ZERO..=DAY).map(Failback::After),
        _ => Err(Complaint::expected(label, "`true`, `false` or a duration", tree)
            .hint("write 30s to have a director heard for so long before VIPs return to it")),
    }
}

/// Whether it is meant as a duration, if one may stand there.
fn is_numeric(tree: &Tree) -> bool {
    match &tree.kind {
        Kind::Int(_) | Kind::Float(_) => true,
        Kind::Text(text) => text.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}

/// A list of hosts' addresses, none of them twice.
fn addresses(reader: &mut Reader, tree: &Tree, label: &str) -> Option<Vec<IpAddr>> {
    let mut all = Vec::new();
    let mut whole = true;
    for item in entries(reader, tree, label)? {
        let Some(address) = reader.take(item.place, net::address(item, label)) else {
            whole &= false;
            continue;
        };
        if all.contains(&address) {
            let complaint = Complaint::new(format!("{address} is in `{label}` twice"));
            reader.error(item.place, complaint.hint("list it once"));
            whole = false;
        }
        all.push(address);
    }
    whole.then_some(all)
}

/// The items of a list that has an end.
fn entries<'t>(reader: &mut Reader, tree: &'t Tree, label: &str) -> Option<&'t [Tree]> {
    let items = reader.items(tree, label)?;
    if items.len() > MOST_ENTRIES {
        let complaint = Complaint::new(format!(
            "`{label}` has {} entries, more than the limit of {MOST_ENTRIES}",
            items.len()
        ));
        reader.error(tree.place, complaint);
        return None;
    }
    Some(items)
}

fn tracks(reader: &mut Reader, tree: &Tree) -> Option<Vec<Track>> {
    let mut names = Names::new("tracked commands");
    let items = entries(reader, tree, "track")?;
    // All of them, also after a wrong one.
    let all: Vec<_> = items.iter().map(|item| track(reader, item, &mut names)).collect();
    all.into_iter().collect()
}

fn track(reader: &mut Reader, tree: &Tree, names: &mut Names) -> Option<Track> {
    let fields = reader.fields(tree, "track", &["name", "command", "interval", "timeout", "weight"])?;
    let mut take = Taker::new(reader, &fields, "a tracked command");
    take.need("name", "nginx");
    let name = take.given("name", |tree, label| values::name_of(tree, label, "tracked command"));
    take.need("command", "[/usr/bin/pgrep, nginx]");
    let command = take.with("command", |reader, tree| means::command(reader, tree, "command"));
    let interval = take.or("interval", within(100, 3_600_000), TRACK_INTERVAL);
    let timeout = take.or("timeout", within(10, 3_600_000), TRACK_TIMEOUT);
    let weight = take.optional("weight", weight);
    let whole = take.whole & names.add(reader, &name);
    let (name, command) = (name.into_right()?, command.into_right()?);
    whole.then_some(Track { name, command, interval, timeout, weight })
}

fn weight(tree: &Tree, label: &str) -> Result<i8, Complaint> {
    match values::whole(tree, label, -100..=100)? {
        0 => Err(Complaint::new(format!("`{label}` must not be 0: the command would say nothing"))
            .hint("write -50, or leave it out to have a director where it fails not take part")),
        weight => Ok(weight),
    }
}

/// `true`, `false` or a mapping.
fn balance(reader: &mut Reader, tree: &Tree) -> Option<Option<Balance>> {
    match tree.kind {
        Kind::Bool(on) => return Some(on.then_some(BALANCE)),
        Kind::Map(_) => {}
        _ => {
            let complaint = Complaint::expected("balance", "`true`, `false` or a mapping", tree);
            reader.error(tree.place, complaint.hint("write { moves: 1, every: 4s, mature: 5s }"));
            return None;
        }
    }
    let fields = reader.fields(tree, "balance", &["moves", "every", "mature"])?;
    let mut take = Taker::new(reader, &fields, "`balance`");
    let balance = Balance {
        moves: take.or("moves", |tree, label| values::whole(tree, label, 1..=64), BALANCE.moves),
        every: take.or("every", within(100, 3_600_000), BALANCE.every),
        mature: take.or("mature", within(0, 3_600_000), BALANCE.mature),
    };
    take.whole.then_some(Some(balance))
}

fn announce_as_left_out() -> Announce {
    Announce {
        burst: BURST,
        spacing: SPACING,
        refresh: Some(REFRESH),
        neighbours: Vec::new(),
        share: Some(SHARE),
    }
}

fn announce(reader: &mut Reader, tree: &Tree) -> Option<Announce> {
    let keys = ["burst", "spacing", "refresh", "neighbours", "share"];
    let fields = reader.fields(tree, "announce", &keys)?;
    let mut take = Taker::new(reader, &fields, "`announce`");
    let announce = Announce {
        burst: take.or("burst", |tree, label| values::whole(tree, label, 1..=20), BURST),
        spacing: take.or("spacing", within(1, 10_000), SPACING),
        refresh: take.or("refresh", now_and_then, Some(REFRESH)),
        neighbours: take
            .with("neighbours", |reader, tree| addresses(reader, tree, "neighbours"))
            .into_right()
            .unwrap_or_default(),
        share: take.or("share", now_and_then, Some(SHARE)),
    };
    take.whole.then_some(announce)
}

/// A duration, or `false` for never.
fn now_and_then(tree: &Tree, label: &str) -> Result<Option<Duration>, Complaint> {
    match tree.kind {
        Kind::Bool(false) => Ok(None),
        _ if is_numeric(tree) => values::duration(tree, label, Duration::from_secs(1)..=DAY).map(Some),
        _ => Err(Complaint::expected(label, "a duration or `false`", tree).hint("write 60s")),
    }
}

/// Which of a cluster's directors this one is: the given name or, without one, the host's, whole or up to its first dot.
///
/// # Errors
/// No director has that name; the message says which there are, and what to do.
pub fn node_name(given: Option<&str>, heartbeat: &Heartbeat) -> Result<String, String> {
    let host = rustix::system::uname();
    named(given, &host.nodename().to_string_lossy(), heartbeat)
}

fn named(given: Option<&str>, host: &str, heartbeat: &Heartbeat) -> Result<String, String> {
    let directors: Vec<&str> = heartbeat.directors.iter().map(|member| member.name.as_str()).collect();
    let directors = super::reader::listed(&directors);
    if let Some(name) = given {
        return heartbeat.member(name).map(|member| member.name.clone()).ok_or_else(|| {
            format!("`{name}`, as --node has it, is none of the directors {directors} in `heartbeat`")
        });
    }
    let short = host.split('.').next().unwrap_or_default();
    let member = heartbeat.member(host).or_else(|| heartbeat.member(short));
    member.map(|member| member.name.clone()).ok_or_else(|| {
        format!(
            "this host is named `{host}`, which is none of the directors {directors} in `heartbeat`: \
             say which of them it is with --node NAME"
        )
    })
}

#[cfg(test)]
mod tests;
