//! The cluster: who holds what, and how directors hear each other.

use super::page::{Metric, Page, counter, flag, gauge};
use super::{Sources, unix};
use crate::api::types::PairStatus;
use crate::heartbeat::report::{Cluster, LinkReport, PeerLinkReport, PeerReport};

const GROUP: &[&str] = &["group"];
const PEER: &[&str] = &["peer"];
const LINK: &[&str] = &["link"];
const PEER_LINK: &[&str] = &["peer", "link"];

const ROLE: Metric = gauge(
    "director_group_role",
    &["group", "role"],
    "1 for the role that this director has for the group, 0 for the others: `standby`, `candidate`, `active`, `yielding`.",
);
const TERM: Metric =
    gauge("director_group_term", GROUP, "The term of that role: it grows when the group changes hands.");
const OWNED: Metric =
    gauge("director_group_owned", GROUP, "1 if a director holds the group, as far as this one knows.");
const ELIGIBLE: Metric = gauge("director_group_eligible", GROUP, "1 if this director may hold the group.");
const TRANSITIONS: Metric = counter(
    "director_group_transitions_total",
    &["group", "role", "reason"],
    "Changes to this role, by reason: `no_owner`, `elected`, `given`, `taken`, `not_taken`, `better_off`, `preferred`, `balance`, \
     `asked`, `other_owner`, `deaf_owner`, `other_candidate`, `no_quorum`, `not_eligible`, `slept`, `not_configured`. \
     One is there when it happened first.",
);
const TAKEN_AT: Metric = gauge(
    "director_group_last_takeover_timestamp_seconds",
    GROUP,
    "When this director took the group last, in seconds since 1970.",
);
const TAKEN_IN: Metric = gauge(
    "director_group_last_takeover_duration_seconds",
    GROUP,
    "How long that took, from the decision until the last VIP was here and announced.",
);
const MEANS_FAILED: Metric = gauge(
    "director_group_means_failed",
    &["group", "means"],
    "1 if the command, the DNS update or the resource that follows the group's role failed last.",
);
const HELD: Metric = gauge("director_held", &[], "1 if an operator has this director stay standby.");
const LISTENING: Metric =
    gauge("director_listening", &[], "1 while it listens before it takes anything, after its start.");
const WITNESSES: Metric = gauge("director_witnesses", &[], "Witnesses that are configured.");
const WITNESSES_REACHED: Metric =
    gauge("director_witnesses_reached", &[], "Witnesses that this director reaches.");
const ALIVE: Metric = gauge("director_peer_alive", PEER, "1 if this director hears the other one.");
const HEARS_US: Metric = gauge("director_peer_hears_me", PEER, "1 if the other one hears this director.");
const PEER_HELD: Metric =
    gauge("director_peer_held", PEER, "1 if an operator has the other one stay standby.");
const SAME_CONFIG: Metric = gauge(
    "director_peer_config_equal",
    PEER,
    "1 if the other one has the same configuration, 0 if not. While it is not heard, it is not there.",
);
const CLOCK_AHEAD: Metric = gauge(
    "director_peer_clock_ahead_seconds",
    PEER,
    "How far the other one's wall clock is ahead of this director's, less what its message was under way. While it is not heard, it is not there.",
);
const HEARD: Metric =
    gauge("director_heartbeat_link_heard", PEER_LINK, "1 if the other one is heard by this link.");
const RECEIVED: Metric = counter("director_heartbeat_received_total", PEER_LINK, "Messages that came.");
const LOST: Metric =
    counter("director_heartbeat_lost_total", PEER_LINK, "Messages that did not come, though later ones did.");
const LOSS: Metric =
    gauge("director_heartbeat_loss_ratio", PEER_LINK, "The share lost of the last hundred, 0 to 1.");
const DELAY: Metric =
    gauge("director_heartbeat_delay_seconds", PEER_LINK, "Half of the round trip, smoothed.");
const JITTER: Metric = gauge("director_heartbeat_jitter_seconds", PEER_LINK, "How much that varies.");
const OPEN: Metric = gauge("director_heartbeat_link_open", LINK, "1 if the link can be used.");
const SENT: Metric = counter("director_heartbeat_sent_total", LINK, "Messages sent.");
const SEND_ERRORS: Metric =
    counter("director_heartbeat_send_errors_total", LINK, "Messages that could not be sent.");
const STRANGERS: Metric = counter(
    "director_heartbeat_strangers_total",
    LINK,
    "Datagrams from addresses that are no director's: not even looked at.",
);
const GARBLED: Metric = counter(
    "director_heartbeat_garbled_total",
    LINK,
    "Frames of a serial line that were too long or mutilated.",
);
const REFUSED: Metric = counter(
    "director_heartbeat_refused_total",
    &["link", "reason"],
    "Messages that were not believed or not acted upon, by reason; those of links that are no longer configured have the link `gone`. \
     One is there when it happened first.",
);
const LATENESS: Metric = gauge(
    "director_heartbeat_lateness_seconds",
    &["percentile"],
    "How late this director's own messages were sent since its start: so many percent of them were not later.",
);

#[cfg(test)]
pub(super) const ALL: &[&Metric] = &[
    &ROLE,
    &TERM,
    &OWNED,
    &ELIGIBLE,
    &TRANSITIONS,
    &TAKEN_AT,
    &TAKEN_IN,
    &MEANS_FAILED,
    &HELD,
    &LISTENING,
    &WITNESSES,
    &WITNESSES_REACHED,
    &ALIVE,
    &HEARS_US,
    &PEER_HELD,
    &SAME_CONFIG,
    &CLOCK_AHEAD,
    &HEARD,
    &RECEIVED,
    &LOST,
    &LOSS,
    &DELAY,
    &JITTER,
    &OPEN,
    &SENT,
    &SEND_ERRORS,
    &STRANGERS,
    &GARBLED,
    &REFUSED,
    &LATENESS,
];

/// In place of the name of a link that is not there any more.
const GONE: &str = "gone";
const ROLES: [&str; 4] = ["standby", "candidate", "active", "yielding"];

pub(super) fn write(page: &mut Page, pair: &PairStatus, sources: &Sources) {
    let cluster = &pair.cluster;
    write_groups(page, pair, sources);
    page.value(&HELD, flag(cluster.held));
    page.value(&LISTENING, flag(cluster.listening));
    let (reached, witnesses) = cluster.witnesses;
    page.value(&WITNESSES, witnesses.into());
    page.value(&WITNESSES_REACHED, reached.into());
    write_peers(page, &cluster.peers);
    write_peer_links(page, cluster);
    write_links(page, &cluster.links);
    write_refused(page, cluster);
    let late = &cluster.late;
    let late = [("50", late.p50), ("99", late.p99), ("99.9", late.p999), ("100", late.max)];
    page.write(&LATENESS, late.map(|(percentile, micros)| ([percentile], micros as f64 / 1e6)));
}

fn write_groups(page: &mut Page, pair: &PairStatus, sources: &Sources) {
    let groups = &pair.cluster.groups;
    let roles = groups
        .iter()
        .flat_map(|group| ROLES.iter().map(|role| ([&*group.name, *role], flag(group.role == *role))));
    page.write(&ROLE, roles);
    page.write(&TERM, groups.iter().map(|group| ([&*group.name], group.term as f64)));
    page.write(&OWNED, groups.iter().map(|group| ([&*group.name], flag(group.owner.is_some()))));
    // This director comes first.
    let eligible = |directors: &[crate::heartbeat::report::ContenderReport]| {
        directors.first().is_some_and(|me| me.eligible)
    };
    page.write(&ELIGIBLE, groups.iter().map(|group| ([&*group.name], flag(eligible(&group.directors)))));
    let moves = sources.moves.iter();
    page.write(
        &TRANSITIONS,
        moves.map(|((group, role, reason), count)| ([&**group, *role, *reason], *count as f64)),
    );
    let taken = || sources.takeovers.iter();
    page.write(&TAKEN_AT, taken().map(|(group, at, _)| ([&**group], unix(*at))));
    page.write(&TAKEN_IN, taken().map(|(group, _, took)| ([&**group], took.as_secs_f64())));
    let means = pair.means.iter();
    page.write(
        &MEANS_FAILED,
        means.map(|means| ([&*means.group, &*means.what], flag(means.failure.is_some()))),
    );
}

fn write_peers(page: &mut Page, peers: &[PeerReport]) {
    let mut each = |metric: &Metric, value: fn(&PeerReport) -> Option<bool>| {
        page.write(metric, peers.iter().filter_map(|peer| Some(([&*peer.name], flag(value(peer)?)))));
    };
    each(&ALIVE, |peer| Some(peer.alive));
    each(&HEARS_US, |peer| Some(peer.hears_us));
    each(&PEER_HELD, |peer| Some(peer.held));
    each(&SAME_CONFIG, |peer| peer.same_config);
    let ahead = peers.iter().filter_map(|peer| Some(([&*peer.name], peer.clock_ahead_seconds?)));
    page.write(&CLOCK_AHEAD, ahead);
}

fn write_peer_links(page: &mut Page, cluster: &Cluster) {
    let mut each = |metric: &Metric, value: fn(&PeerLinkReport) -> Option<f64>| {
        let ways = cluster.peers.iter().flat_map(|peer| {
            let links = peer.links.iter().zip(&cluster.links);
            links.map(|(way, link)| ([&*peer.name, &*link.name], way))
        });
        page.write(metric, ways.filter_map(|(labels, way)| Some((labels, value(way)?))));
    };
    each(&HEARD, |way| Some(flag(way.heard)));
    each(&RECEIVED, |way| Some(way.received as f64));
    each(&LOST, |way| Some(way.lost as f64));
    each(&LOSS, |way| Some(way.loss));
    each(&DELAY, |way| Some(way.delay_milliseconds? / 1e3));
    each(&JITTER, |way| Some(way.jitter_milliseconds? / 1e3));
}

fn write_links(page: &mut Page, links: &[LinkReport]) {
    let mut each = |metric: &Metric, value: fn(&LinkReport) -> f64| {
        page.write(metric, links.iter().map(|link| ([&*link.name], value(link))));
    };
    each(&OPEN, |link| flag(link.open));
    each(&SENT, |link| link.sent as f64);
    each(&SEND_ERRORS, |link| link.send_errors as f64);
    each(&STRANGERS, |link| link.strangers as f64);
    each(&GARBLED, |link| link.garbled as f64);
}

fn write_refused(page: &mut Page, cluster: &Cluster) {
    let by_links = cluster.links.iter().flat_map(|link| {
        link.refused.iter().map(|(reason, count)| ([&*link.name, &**reason], *count as f64))
    });
    let gone = cluster.refused.iter().filter_map(|(reason, all)| {
        let known = cluster.links.iter().flat_map(|link| &link.refused);
        let known: u64 = known.filter(|(other, _)| other == reason).map(|(_, count)| count).sum();
        (*all > known).then(|| ([GONE, &**reason], (all - known) as f64))
    });
    page.write(&REFUSED, by_links.chain(gone));
}
