//! Services and their real servers.

use super::Sources;
use super::page::{Metric, Page, counter, flag, gauge, histogram};
use crate::api::types::{RealStatus, ServiceStatus};
use crate::health::Tally;
use crate::model::Forward;
use crate::pool::RealKey;

const SERVICE: &[&str] = &["service"];
const REAL: &[&str] = &["service", "real"];

const INFO: Metric = gauge(
    "director_service_info",
    &["service", "vip", "protocol", "forward", "scheduler"],
    "Always 1; what the service is.",
);
const ACTIVE: Metric = gauge(
    "director_service_active",
    SERVICE,
    "1 if this director serves the service's clients: it is alone, or active for the group of the service's VIP.",
);
const FALLBACK: Metric =
    gauge("director_service_fallback", SERVICE, "1 if the fallback serves, for too few real servers do.");
const PANIC: Metric = gauge(
    "director_service_panic",
    SERVICE,
    "1 if real servers that are down serve all the same, for too many are (`panic_threshold`).",
);
const NO_REAL_DROPPED: Metric = counter(
    "director_service_no_real_dropped_packets_total",
    SERVICE,
    "Packets that would begin a flow, dropped: no usable real server.",
);
const NO_REAL_REJECTED: Metric = counter(
    "director_service_no_real_rejected_packets_total",
    SERVICE,
    "Packets that would begin a flow, refused: no usable real server.",
);
const NO_FLOW: Metric = counter(
    "director_service_no_flow_packets_total",
    SERVICE,
    "TCP segments that belong to no flow and could not be placed.",
);
const UNPLACED: Metric = counter(
    "director_service_unplaced_flows_total",
    SERVICE,
    "New flows that found no place in the flow table.",
);
const PACKETS_IN: Metric = counter("director_real_packets_in_total", REAL, "Packets from clients.");
const BYTES_IN: Metric = counter("director_real_bytes_in_total", REAL, "Bytes from clients: whole frames.");
const PACKETS_OUT: Metric = counter(
    "director_real_packets_out_total",
    REAL,
    "Packets to clients. Under NAT only: others do not pass here.",
);
const BYTES_OUT: Metric = counter(
    "director_real_bytes_out_total",
    REAL,
    "Bytes to clients: whole frames. Under NAT only: others do not pass here.",
);
const NEW_FLOWS: Metric = counter("director_real_new_flows_total", REAL, "Flows that began.");
const FLOWS: Metric = gauge(
    "director_real_flows",
    &["service", "real", "state"],
    "Flows in the flow table: `active` ones are established, all others `inactive`.",
);
const UP: Metric = gauge(
    "director_real_up",
    REAL,
    "1 if its checks say that it is up, 0 if down. Without a verdict, or without checks, it is not there.",
);
const UNKNOWN: Metric = gauge(
    "director_real_unknown",
    REAL,
    "1 if its checks have no verdict yet. Without checks it is not there.",
);
const CONFIGURED_WEIGHT: Metric =
    gauge("director_real_configured_weight", REAL, "The configuration's weight.");
const EFFECTIVE_WEIGHT: Metric = gauge(
    "director_real_effective_weight",
    REAL,
    "The weight with which it takes new flows, as the configuration, its checks or an operator say; 0 while it takes none: down, \
     drained, replaced by the fallback, without next hop or without room. A slow start takes nothing off it.",
);
const REACHABLE: Metric =
    gauge("director_real_reachable", REAL, "1 if its next hop's MAC is known; without, it gets nothing.");
const STATE_CHANGES: Metric = counter(
    "director_real_state_changes_total",
    REAL,
    "Changes between up, down and unknown since it is watched, maintenance included.",
);
const CHECK_DURATION: Metric = histogram(
    "director_real_check_duration_seconds",
    REAL,
    "How long its checks took, those that failed too. Services that ask the same share the check, and each counts it.",
);
const CHECK_FAILURES: Metric = counter(
    "director_real_check_failures_total",
    &["service", "real", "reason"],
    "Checks that failed: `refused`, `unreachable`, `timeout`, `closed`, `status`, `mismatch`, `tls`, `login`, `protocol`, `too_long`, \
     `exit`, `maintenance`, or `local`: a fault on this side. A reason is there when it happened first.",
);

#[cfg(test)]
pub(super) const ALL: &[&Metric] = &[
    &INFO,
    &ACTIVE,
    &FALLBACK,
    &PANIC,
    &NO_REAL_DROPPED,
    &NO_REAL_REJECTED,
    &NO_FLOW,
    &UNPLACED,
    &PACKETS_IN,
    &BYTES_IN,
    &PACKETS_OUT,
    &BYTES_OUT,
    &NEW_FLOWS,
    &FLOWS,
    &UP,
    &UNKNOWN,
    &CONFIGURED_WEIGHT,
    &EFFECTIVE_WEIGHT,
    &REACHABLE,
    &STATE_CHANGES,
    &CHECK_DURATION,
    &CHECK_FAILURES,
];

/// A real server, and what is known of it.
struct Row<'a> {
    service: &'a ServiceStatus,
    name: String,
    real: &'a RealStatus,
    serving: bool,
    tally: Option<&'a Tally>,
}

impl Row<'_> {
    fn labels(&self) -> [&str; 2] {
        [&self.service.name, &self.name]
    }

    /// Its state where its checks have one.
    fn state(&self) -> Option<&str> {
        self.real.health.as_ref().map(|health| &*health.state)
    }
}

pub(super) fn write(page: &mut Page, sources: &Sources) {
    write_services(page, &sources.status.services);
    let services = sources.status.services.iter().zip(&sources.active);
    page.write(&ACTIVE, services.map(|(service, active)| ([&*service.name], flag(*active))));
    let rows = rows(sources);
    write_traffic(page, &rows);
    write_standing(page, &rows);
    write_checks(page, &rows);
}

fn rows(sources: &Sources) -> Vec<Row<'_>> {
    let services = sources.status.services.iter().zip(&sources.serving);
    let reals = services.flat_map(|(service, serving)| {
        let reals = service.reals.iter().zip(serving);
        reals.map(move |(real, serving)| (service, real, *serving))
    });
    reals
        .map(|(service, real, serving)| {
            let key = RealKey { service: service.name.clone(), address: real.address, port: real.port };
            Row { service, name: key.real(), real, serving, tally: sources.tallies.get(&key) }
        })
        .collect()
}

fn write_services(page: &mut Page, services: &[ServiceStatus]) {
    let words: Vec<[String; 4]> = services
        .iter()
        .map(|service| {
            let ServiceStatus { address, protocol, forward, scheduler, .. } = service;
            [address.to_string(), protocol.to_string(), forward.to_string(), scheduler.to_string()]
        })
        .collect();
    let infos = services.iter().zip(&words).map(|(service, [vip, protocol, forward, scheduler])| {
        ([&*service.name, vip, protocol, forward, scheduler], 1.0)
    });
    page.write(&INFO, infos);
    let mut each = |metric: &Metric, value: fn(&ServiceStatus) -> f64| {
        page.write(metric, services.iter().map(|service| ([&*service.name], value(service))));
    };
    each(&FALLBACK, |service| flag(service.fallback));
    each(&PANIC, |service| flag(service.panic));
    each(&NO_REAL_DROPPED, |service| service.no_real_dropped as f64);
    each(&NO_REAL_REJECTED, |service| service.no_real_rejected as f64);
    each(&NO_FLOW, |service| service.no_flow as f64);
    each(&UNPLACED, |service| service.unplaced as f64);
}

/// Writes a metric of each real server that has a value.
fn each(page: &mut Page, metric: &Metric, rows: &[Row<'_>], value: impl Fn(&Row<'_>) -> Option<f64>) {
    page.write(metric, rows.iter().filter_map(|row| Some((row.labels(), value(row)?))));
}

fn write_traffic(page: &mut Page, rows: &[Row<'_>]) {
    let seen = |row: &Row, count: u64| (row.service.forward == Forward::Nat).then_some(count as f64);
    each(page, &PACKETS_IN, rows, |row| Some(row.real.traffic.packets_in as f64));
    each(page, &BYTES_IN, rows, |row| Some(row.real.traffic.bytes_in as f64));
    each(page, &PACKETS_OUT, rows, |row| seen(row, row.real.traffic.packets_out));
    each(page, &BYTES_OUT, rows, |row| seen(row, row.real.traffic.bytes_out));
    each(page, &NEW_FLOWS, rows, |row| Some(row.real.traffic.new_flows as f64));
    let flows = rows.iter().flat_map(|row| {
        let [service, real] = row.labels();
        let state = move |state, count: u64| ([service, real, state], count as f64);
        [state("active", row.real.active), state("inactive", row.real.inactive)]
    });
    page.write(&FLOWS, flows);
}

fn write_standing(page: &mut Page, rows: &[Row<'_>]) {
    each(page, &UP, rows, |row| {
        row.state().filter(|state| *state != "unknown").map(|state| flag(state == "up"))
    });
    each(page, &UNKNOWN, rows, |row| row.state().map(|state| flag(state == "unknown")));
    each(page, &CONFIGURED_WEIGHT, rows, |row| Some(row.real.configured_weight.into()));
    each(page, &EFFECTIVE_WEIGHT, rows, |row| Some(if row.serving { row.real.weight.into() } else { 0.0 }));
    each(page, &REACHABLE, rows, |row| Some(flag(row.real.reachable)));
    each(page, &STATE_CHANGES, rows, |row| row.tally.map(|tally| tally.changes as f64));
}

fn write_checks(page: &mut Page, rows: &[Row<'_>]) {
    let tallied = || rows.iter().filter_map(|row| Some((row.labels(), row.tally?)));
    let checked = tallied().filter(|(_, tally)| tally.took.count() > 0);
    page.write_durations(&CHECK_DURATION, checked.map(|(labels, tally)| (labels, &tally.took)));
    let failures = tallied().flat_map(|([service, real], tally)| {
        tally.failures.iter().map(move |(reason, count)| ([service, real, reason], *count as f64))
    });
    page.write(&CHECK_FAILURES, failures);
}
