//! Services as they were written: every value is checked by itself, none against another, nothing is filled in.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Fallback, Forward, OnDown, Protocol, Scheduler, Unserved};

use super::check::{self, CheckDraft};
use super::net::{self, Netmask, PortSpec, Range};
use super::reader::{Complaint, Fields, Given, Reader};
use super::tree::{Kind, Place, Tree};
use super::values;

const SERVICE_KEYS: [&str; 20] = [
    "name",
    "address",
    "port",
    "ports",
    "protocol",
    "forward",
    "scheduler",
    "persistence",
    "timeouts",
    "unserved",
    "sloppy",
    "reals",
    "check",
    "fallback",
    "quiescent",
    "on_down",
    "quorum",
    "hysteresis",
    "slow_start",
    "panic_threshold",
];

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const UNSERVED: [(&str, Unserved); 2] = [("drop", Unserved::Drop), ("reject", Unserved::Reject)];
const ON_DOWN: [(&str, OnDown); 3] =
    [("keep", OnDown::Keep), ("reset", OnDown::Reset), ("reschedule", OnDown::Reschedule)];
const FORWARDS: [(&str, Forward); 2] = [("direct", Forward::Direct), ("nat", Forward::Nat)];
const LATER_FORWARDS: [(&str, &str); 2] =
    [("tunnel", "use `direct` or `nat`"), ("local", "use `direct` or `nat`")];
const SCHEDULERS: [(&str, Scheduler); 6] = [
    ("rr", Scheduler::Rr),
    ("wrr", Scheduler::Wrr),
    ("mh", Scheduler::Mh),
    ("sh", Scheduler::Sh),
    ("dh", Scheduler::Dh),
    ("fo", Scheduler::Fo),
];
const LATER_SCHEDULERS: [(&str, &str); 8] = [
    ("lc", "it follows live connection counts; near to it are `rr` and `mh`"),
    ("wlc", "it follows live connection counts; near to it are `wrr` and `mh`"),
    ("sed", "it follows live connection counts; near to it is `wrr`"),
    ("nq", "it follows live connection counts; near to it is `wrr`"),
    ("ovf", "it follows live connection counts; near to it is `fo`"),
    ("twos", "it follows live connection counts; near to it are `wrr` and `mh`"),
    ("lblc", "it follows live connection counts; near to it are `dh` and `mh`"),
    ("lblcr", "it follows live connection counts; near to it are `dh` and `mh`"),
];

/// Limits of the timeouts of flows and of persistence: the data plane counts ticks of about a second in 16 bits.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(8 * 3600);

/// A service, or `defaults`.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) name: Given<String>,
    pub(super) address: Given<IpAddr>,
    pub(super) ports: Given<PortSpec>,
    pub(super) protocol: Given<Protocol>,
    pub(super) forward: Given<Forward>,
    pub(super) scheduler: Given<Scheduler>,
    pub(super) persistence: Given<Sticky>,
    pub(super) timeouts: TimeoutsDraft,
    pub(super) unserved: Given<Unserved>,
    pub(super) sloppy: Given<bool>,
    pub(super) reals: Given<Vec<RealDraft>>,
    pub(super) checks: Given<Vec<CheckDraft>>,
    pub(super) fallback: Given<Option<Fallback>>,
    pub(super) quiescent: Given<bool>,
    pub(super) on_down: Given<OnDown>,
    pub(super) quorum: Given<u32>,
    pub(super) hysteresis: Given<u32>,
    pub(super) slow_start: Given<Duration>,
    pub(super) panic_threshold: Given<u8>,
}

/// `persistence`.
#[derive(Debug)]
pub(super) enum Sticky {
    /// `false`: not even where `defaults` has it.
    Off,
    /// A mapping.
    On { timeout: Given<Duration>, netmask: Given<Netmask> },
}

/// `timeouts`; all left out where the section is.
#[derive(Debug, Default)]
pub(super) struct TimeoutsDraft {
    pub(super) syn: Given<Duration>,
    pub(super) established: Given<Duration>,
    pub(super) fin: Given<Duration>,
    pub(super) close: Given<Duration>,
    pub(super) udp: Given<Duration>,
}

/// An entry of `reals`.
#[derive(Debug)]
pub(super) struct RealDraft {
    pub(super) place: Place,
    pub(super) addresses: Given<Range>,
    pub(super) port: Given<u16>,
    pub(super) weight: Given<u16>,
}

impl Draft {
    /// A draft that says nothing.
    pub(super) fn empty() -> Draft {
        Draft {
            place: Place::START,
            name: Given::Absent,
            address: Given::Absent,
            ports: Given::Absent,
            protocol: Given::Absent,
            forward: Given::Absent,
            scheduler: Given::Absent,
            persistence: Given::Absent,
            timeouts: TimeoutsDraft::default(),
            unserved: Given::Absent,
            sloppy: Given::Absent,
            reals: Given::Absent,
            checks: Given::Absent,
            fallback: Given::Absent,
            quiescent: Given::Absent,
            on_down: Given::Absent,
            quorum: Given::Absent,
            hysteresis: Given::Absent,
            slow_start: Given::Absent,
            panic_threshold: Given::Absent,
        }
    }

    /// Reads a mapping of service-level keys; `label` is what messages call it.
    pub(super) fn read(reader: &mut Reader, tree: &Tree, label: &str) -> Option<Draft> {
        let fields = reader.fields(tree, label, &SERVICE_KEYS)?;
        Some(Draft {
            place: fields.place,
            name: fields.value(reader, "name", values::name),
            address: fields.value(reader, "address", net::address),
            ports: ports(reader, &fields),
            protocol: fields
                .value(reader, "protocol", |tree, label| values::word(tree, label, &PROTOCOLS, &[])),
            forward: fields.value(reader, "forward", |tree, label| {
                values::word(tree, label, &FORWARDS, &LATER_FORWARDS)
            }),
            scheduler: fields.value(reader, "scheduler", |tree, label| {
                values::word(tree, label, &SCHEDULERS, &LATER_SCHEDULERS)
            }),
            persistence: fields.with(reader, "persistence", persistence),
            timeouts: timeouts(reader, &fields),
            unserved: fields
                .value(reader, "unserved", |tree, label| values::word(tree, label, &UNSERVED, &[])),
            sloppy: fields.value(reader, "sloppy", values::flag),
            reals: fields.with(reader, "reals", reals),
            checks: fields.with(reader, "check", check::checks),
            fallback: fields.with(reader, "fallback", fallback),
            quiescent: fields.value(reader, "quiescent", values::flag),
            on_down: fields.value(reader, "on_down", |tree, label| values::word(tree, label, &ON_DOWN, &[])),
            quorum: fields.value(reader, "quorum", |tree, label| values::whole(tree, label, 1..=65535)),
            hysteresis: fields
                .value(reader, "hysteresis", |tree, label| values::whole(tree, label, 0..=65535)),
            slow_start: fields.value(reader, "slow_start", |tree, label| {
                values::duration(tree, label, Duration::ZERO..=MAX_TIMEOUT)
            }),
            panic_threshold: fields
                .value(reader, "panic_threshold", |tree, label| values::whole(tree, label, 1..=99)),
        })
    }
}

fn ports(reader: &mut Reader, fields: &Fields) -> Given<PortSpec> {
    if let (Some(_), Some(second)) = (fields.entry("port"), fields.entry("ports")) {
        let complaint = Complaint::new("`port` and `ports` are two words for one thing");
        reader.error(second.place, complaint.hint("keep one of them: both take every form"));
        return Given::Wrong;
    }
    let key = if fields.entry("ports").is_some() { "ports" } else { "port" };
    fields.with(reader, key, |reader, tree| net::ports(reader, tree, key))
}

fn persistence(reader: &mut Reader, tree: &Tree) -> Option<Sticky> {
    if tree.kind == Kind::Bool(false) {
        return Some(Sticky::Off);
    }
    let fields = reader.fields(tree, "persistence", &["timeout", "netmask"])?;
    Some(Sticky::On {
        timeout: fields.value(reader, "timeout", timeout),
        netmask: fields.value(reader, "netmask", net::netmask),
    })
}

/// A mapping, `local`, or `false` where `defaults` has one.
fn fallback(reader: &mut Reader, tree: &Tree) -> Option<Option<Fallback>> {
    match &tree.kind {
        Kind::Bool(false) => return Some(None),
        Kind::Text(text) if text == "local" => return Some(Some(Fallback::Local)),
        _ => {}
    }
    let fields = reader.fields(tree, "fallback", &["address", "port"])?;
    let address = fields.value(reader, "address", net::address);
    if address.is_absent() {
        let complaint = Complaint::new("`fallback` needs an `address`");
        reader.error(fields.place, complaint.hint("write { address: 192.0.2.99 }, or `local`"));
    }
    let port = fields.value(reader, "port", |tree, label| values::whole(tree, label, 1..=65535));
    Some(Some(Fallback::Real { address: *address.right()?, port: port.optional()?.copied() }))
}

fn timeouts(reader: &mut Reader, fields: &Fields) -> TimeoutsDraft {
    let keys = ["syn", "established", "fin", "close", "udp"];
    let Some(tree) = fields.get("timeouts") else { return TimeoutsDraft::default() };
    let Some(fields) = reader.fields(tree, "timeouts", &keys) else { return TimeoutsDraft::default() };
    TimeoutsDraft {
        syn: fields.value(reader, "syn", timeout),
        established: fields.value(reader, "established", timeout),
        fin: fields.value(reader, "fin", timeout),
        close: fields.value(reader, "close", timeout),
        udp: fields.value(reader, "udp", timeout),
    }
}

fn timeout(tree: &Tree, label: &str) -> Result<Duration, Complaint> {
    values::duration(tree, label, MIN_TIMEOUT..=MAX_TIMEOUT)
}

fn reals(reader: &mut Reader, tree: &Tree) -> Option<Vec<RealDraft>> {
    let items = reader.items(tree, "reals")?;
    Some(items.iter().filter_map(|item| real(reader, item)).collect())
}

fn real(reader: &mut Reader, tree: &Tree) -> Option<RealDraft> {
    let fields = reader.fields(tree, "reals", &["address", "port", "weight"])?;
    let addresses = fields.value(reader, "address", net::range);
    if addresses.is_absent() {
        let complaint = Complaint::new("a real server needs an `address`");
        reader.error(fields.place, complaint.hint("write { address: 192.0.2.21 }"));
    }
    Some(RealDraft {
        place: fields.place,
        addresses,
        port: fields.value(reader, "port", |tree, label| values::whole(tree, label, 1..=65535)),
        weight: fields.value(reader, "weight", |tree, label| values::whole(tree, label, 0..=65535)),
    })
}
