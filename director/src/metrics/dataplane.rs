//! The data plane: what it passed, dropped and answered, the flow table, where it is attached, and the VIPs.

use super::Sources;
use super::page::{Metric, Page, counter, flag, gauge};
use crate::api::types::ReasonStatus;

const PASSED: Metric =
    counter("director_packets_passed_total", &["reason"], "Packets passed to the kernel, by reason.");
const DROPPED: Metric = counter("director_packets_dropped_total", &["reason"], "Packets dropped, by reason.");
const REJECTED: Metric = counter(
    "director_packets_rejected_total",
    &["reason"],
    "Packets answered with a refusal, by kind of refusal.",
);
const FLOW_EVENTS: Metric = counter(
    "director_flow_events_total",
    &["reason"],
    "Flows that found no place, segments that were forwarded without one, entries that gave way, by reason.",
);
const MAP_ERRORS: Metric = counter(
    "director_map_errors_total",
    &["map", "operation"],
    "Operations of the daemon on the data plane's maps that failed: `read`, `write`, `delete`. What the program itself finds wrong in \
     them is `drop_internal` of `director_packets_dropped_total`.",
);
const CAPACITY: Metric =
    gauge("director_flow_table_capacity", &[], "Flows that the table is made for: `limits.flows`.");
const PLACES: Metric = gauge("director_flow_table_places", &[], "Places for entries.");
const ENTRIES: Metric = gauge(
    "director_flow_table_entries",
    &["kind"],
    "Places taken: connections that are `embryonic` (only SYNs, or one datagram), `established`, `closing` (a FIN was seen) or `closed` (a \
     RST was), `replies` under NAT, `templates` of persistence, datagrams in `fragments`. None has a limit of its own: embryonic ones give \
     way to newcomers.",
);
const SIZE: Metric = gauge("director_flow_table_size_bytes", &[], "Memory that the table takes.");
const INTERFACE: Metric = gauge(
    "director_interface_info",
    &["interface", "mode"],
    "Always 1; where the program is attached: `native` in the driver, `generic` in the network stack, which is slower.",
);
const PROGRAM: Metric = gauge(
    "director_program_info",
    &["interface", "id", "tag"],
    "Always 1; which program is attached, as `bpftool prog` names it: its id, and the tag that stays the same for the same instructions.",
);
const VIP_HELD: Metric = gauge("director_vip_held", &["vip", "interface"], "1 if this machine has the VIP.");
const VIP_WANTED: Metric =
    gauge("director_vip_wanted", &["vip", "interface"], "1 if this machine is to have the VIP.");

#[cfg(test)]
pub(super) const ALL: &[&Metric] = &[
    &PASSED,
    &DROPPED,
    &REJECTED,
    &FLOW_EVENTS,
    &MAP_ERRORS,
    &CAPACITY,
    &PLACES,
    &ENTRIES,
    &SIZE,
    &INTERFACE,
    &PROGRAM,
    &VIP_HELD,
    &VIP_WANTED,
];

/// Reasons by the beginning of their names; what begins otherwise is about flows.
const VERDICTS: [(&str, &Metric); 3] = [("pass_", &PASSED), ("drop_", &DROPPED), ("reject_", &REJECTED)];

pub(super) fn write(page: &mut Page, sources: &Sources) {
    let status = &sources.status;
    let is_verdict = |reason: &ReasonStatus| VERDICTS.iter().any(|(start, _)| reason.name.starts_with(start));
    for (start, metric) in VERDICTS {
        let these = status.reasons.iter().filter(|reason| reason.name.starts_with(start));
        page.write(metric, these.map(sample));
    }
    page.write(&FLOW_EVENTS, status.reasons.iter().filter(|reason| !is_verdict(reason)).map(sample));
    let errors = sources.map_errors.iter();
    page.write(&MAP_ERRORS, errors.map(|(map, operation, count)| ([*map, *operation], *count as f64)));

    let flows = &status.flows;
    page.value(&CAPACITY, flows.capacity as f64);
    page.value(&PLACES, flows.places as f64);
    let kinds = [
        ("embryonic", flows.embryonic),
        ("established", flows.established),
        ("closing", flows.closing),
        ("closed", flows.closed),
        ("replies", flows.replies),
        ("templates", flows.templates),
        ("fragments", flows.fragments),
    ];
    page.write(&ENTRIES, kinds.map(|(kind, count)| ([kind], count as f64)));
    page.value(&SIZE, flows.bytes as f64);

    let modes: Vec<String> = status.interfaces.iter().map(|attachment| attachment.mode.to_string()).collect();
    let interfaces = status.interfaces.iter().zip(&modes);
    page.write(&INTERFACE, interfaces.map(|(attachment, mode)| ([&*attachment.interface, &**mode], 1.0)));
    let ids: Vec<String> =
        status.interfaces.iter().map(|attachment| attachment.program.to_string()).collect();
    let programs = status.interfaces.iter().zip(&ids);
    page.write(
        &PROGRAM,
        programs.map(|(attachment, id)| ([&*attachment.interface, &**id, &*attachment.tag], 1.0)),
    );

    let vips: Vec<String> = status.vips.iter().map(|vip| vip.address.to_string()).collect();
    let vips = || status.vips.iter().zip(&vips);
    page.write(&VIP_HELD, vips().map(|(vip, name)| ([&**name, &*vip.interface], flag(vip.held))));
    page.write(&VIP_WANTED, vips().map(|(vip, name)| ([&**name, &*vip.interface], flag(vip.wanted))));
}

fn sample(reason: &ReasonStatus) -> ([&str; 1], f64) {
    ([&reason.name], reason.count as f64)
}
