//! The whole configuration: its sections, and what holds them together.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::model::{Config, Limits, Vip};

use super::draft::Draft;
use super::heartbeat;
use super::http;
use super::net;
use super::reader::{Complaint, Fields, Given, Reader};
use super::resolve::Resolver;
use super::tree::{Kind, Place, Tree, shown};
use super::values;
use super::watching;

const KEYS: [&str; 11] = [
    "interfaces",
    "vips",
    "heartbeat",
    "defaults",
    "services",
    "http",
    "socket",
    "limits",
    "probes",
    "maintenance_dir",
    "notify",
];

/// Where the operator's socket is unless the configuration says otherwise.
const SOCKET: &str = "/run/director/director.sock";

/// `vips`.
pub(super) struct Vips {
    pub(super) all: Vec<VipDraft>,
    /// Whether none of them is wrong.
    pub(super) whole: bool,
}

/// A VIP, where it stands, and its group.
pub(super) struct VipDraft {
    pub(super) place: Place,
    pub(super) vip: Vip,
    pub(super) group: Given<String>,
}

/// `limits`, and where the given ones stand.
struct Bounds {
    limits: Limits,
    services: Option<Place>,
    reals: Option<Place>,
    keys: Option<Place>,
}

/// The checked configuration; `None` where something is wrong, which the reader then knows of.
pub(super) fn config(reader: &mut Reader, tree: &Tree) -> Option<Config> {
    if tree.kind == Kind::Null {
        let complaint = Complaint::new("the configuration is empty");
        reader.error(tree.place, complaint.hint("it needs `interfaces`, `vips` and `services`"));
        return None;
    }
    let fields = reader.fields(tree, "the configuration", &KEYS)?;
    let interfaces = needed(reader, &fields, "interfaces").and_then(|tree| interfaces(reader, tree));
    let vips = needed(reader, &fields, "vips").and_then(|tree| vips(reader, tree));
    let bounds = bounds(reader, &fields);
    let socket = match fields.value(reader, "socket", values::socket) {
        Given::Absent => Some(PathBuf::from(SOCKET)),
        given => given.right().cloned(),
    };
    let watching = watching::read(reader, &fields);
    let http = http::read(reader, &fields);
    let defaults = match fields.get("defaults") {
        Some(tree) => defaults(reader, tree),
        None => Some(Draft::empty()),
    };
    let drafts = needed(reader, &fields, "services").and_then(|tree| drafts(reader, tree));
    let heartbeat = heartbeat::read(reader, &fields, vips.as_ref());

    // Without `defaults` what a service leaves out is not known: its own values have been checked, the rest must wait.
    let (defaults, drafts) = (defaults?, drafts?);
    let addresses = vips.as_ref().filter(|vips| vips.whole).map(Vips::addresses);
    let mut resolver = Resolver::new(reader, &defaults, bounds.limits, addresses);
    let services: Vec<_> = drafts.iter().map(|draft| resolver.service(draft)).collect();
    let totals = [drafts.len() as u64, resolver.reals, resolver.keys];
    let place = fields.entry("services").map_or(fields.place, |entry| entry.place);
    bounds.hold(reader, totals, place);
    let vips = vips?;
    note_idle(reader, &vips, &drafts, &defaults);
    if let (Some(Some(_)), Some(interfaces)) = (&heartbeat, &interfaces) {
        note_unguarded(reader, &vips, interfaces);
    }
    Some(Config {
        interfaces: interfaces?,
        vips: vips.all.into_iter().map(|draft| draft.vip).collect(),
        services: services.into_iter().collect::<Option<_>>()?,
        socket: socket?,
        limits: bounds.limits,
        watching: watching?,
        heartbeat: heartbeat?,
        http: http?,
    })
}

fn needed<'t>(reader: &mut Reader, fields: &Fields<'t>, key: &str) -> Option<&'t Tree> {
    let tree = fields.get(key);
    if tree.is_none() {
        let complaint = Complaint::new(format!("the configuration needs `{key}`"));
        let example = match key {
            "interfaces" => "write interfaces: [eth0]",
            "vips" => "write vips: [{ address: 192.0.2.10/24, interface: eth0 }]",
            _ => "write services: and a list of them",
        };
        reader.error(fields.place, complaint.hint(example));
    }
    tree
}

fn interfaces(reader: &mut Reader, tree: &Tree) -> Option<Vec<String>> {
    let items = reader.items(tree, "interfaces")?;
    if items.is_empty() {
        let complaint = Complaint::new("`interfaces` must name one at least");
        reader.error(tree.place, complaint.hint("write interfaces: [eth0]"));
        return None;
    }
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for item in items {
        let Some(name) = reader.take(item.place, values::interface(item, "interfaces")) else { continue };
        if seen.insert(name.clone()) {
            names.push(name);
        } else {
            let complaint = Complaint::new(format!("interface {} is listed twice", shown(&name)));
            reader.error(item.place, complaint.hint("list it once"));
        }
    }
    Some(names)
}

impl Vips {
    fn addresses(&self) -> HashSet<IpAddr> {
        self.all.iter().map(|draft| draft.vip.address).collect()
    }
}

fn vips(reader: &mut Reader, tree: &Tree) -> Option<Vips> {
    let items = reader.items(tree, "vips")?;
    let mut vips = Vips { all: Vec::with_capacity(items.len()), whole: true };
    let mut lines: HashMap<IpAddr, u32> = HashMap::new();
    for item in items {
        let Some(draft) = vip(reader, item) else {
            vips.whole = false;
            continue;
        };
        let VipDraft { place, vip, .. } = &draft;
        if let Some(line) = lines.insert(vip.address, place.line) {
            let complaint =
                Complaint::new(format!("VIP {} is given twice, first on line {line}", vip.address));
            reader.error(*place, complaint.hint("keep one of them"));
        }
        vips.all.push(draft);
    }
    Some(vips)
}

fn vip(reader: &mut Reader, tree: &Tree) -> Option<VipDraft> {
    let fields = reader.fields(tree, "vips", &["address", "interface", "group"])?;
    let network = fields.value(reader, "address", net::cidr);
    let interface = fields.value(reader, "interface", values::interface);
    let group = fields.value(reader, "group", |tree, label| values::name_of(tree, label, "group"));
    for (absent, key, example) in
        [(network.is_absent(), "address", "192.0.2.10/24"), (interface.is_absent(), "interface", "eth0")]
    {
        if absent {
            let complaint = Complaint::new(format!("a VIP needs its `{key}`"));
            reader.error(fields.place, complaint.hint(format!("write {key}: {example}")));
        }
    }
    let &(address, prefix) = network.right()?;
    let place = network.place().unwrap_or(fields.place);
    let vip = Vip { address, prefix, interface: interface.into_right()? };
    (group != Given::Wrong).then_some(VipDraft { place, vip, group })
}

fn bounds(reader: &mut Reader, fields: &Fields) -> Bounds {
    let mut bounds = Bounds { limits: Limits::default(), services: None, reals: None, keys: None };
    let keys = ["flows", "services", "reals", "keys", "slots"];
    let Some(tree) = fields.get("limits") else { return bounds };
    let Some(fields) = reader.fields(tree, "limits", &keys) else { return bounds };
    let mut limit = |key: &str, least: i64, most: i64, into: &mut u32| {
        let given = fields.value(reader, key, |tree, label| values::whole::<u32>(tree, label, least..=most));
        *into = given.right().copied().unwrap_or(*into);
        given.place()
    };
    limit("flows", 1_024, 134_217_728, &mut bounds.limits.flows);
    bounds.services = limit("services", 1, 65_536, &mut bounds.limits.services);
    bounds.reals = limit("reals", 1, 1_048_576, &mut bounds.limits.reals);
    bounds.keys = limit("keys", 1, 4_194_304, &mut bounds.limits.keys);
    limit("slots", 1_024, 268_435_456, &mut bounds.limits.slots);
    bounds
}

impl Bounds {
    /// Complains of each total that is above its limit: where the limit is given, or else at the services.
    fn hold(&self, reader: &mut Reader, totals: [u64; 3], services: Place) {
        let rows = [
            ("services", "services", self.limits.services, self.services),
            ("real servers", "reals", self.limits.reals, self.reals),
            ("address and port keys", "keys", self.limits.keys, self.keys),
        ];
        for ((what, key, limit, place), total) in rows.into_iter().zip(totals) {
            if total > u64::from(limit) {
                let complaint = Complaint::new(format!(
                    "the services have {total} {what} together, more than the limit of {limit}"
                ));
                let hint = format!("write limits: {{ {key}: {} }} or more", total.next_power_of_two());
                reader.error(place.unwrap_or(services), complaint.hint(hint));
            }
        }
    }
}

fn defaults(reader: &mut Reader, tree: &Tree) -> Option<Draft> {
    let draft = Draft::read(reader, tree, "defaults")?;
    if let Some(place) = draft.name.place() {
        let complaint = Complaint::new("`defaults` cannot give a `name`: each service has its own");
        reader.error(place, complaint.hint("remove it"));
    }
    Some(draft)
}

fn drafts(reader: &mut Reader, tree: &Tree) -> Option<Vec<Draft>> {
    let items = reader.items(tree, "services")?;
    Some(items.iter().filter_map(|item| Draft::read(reader, item, "services")).collect())
}

/// Notes VIPs of a cluster that are where the data plane is not: there it cannot keep the kernel from answering for them.
fn note_unguarded(reader: &mut Reader, vips: &Vips, interfaces: &[String]) {
    for VipDraft { place, vip, .. } in
        vips.all.iter().filter(|draft| !interfaces.contains(&draft.vip.interface))
    {
        let complaint = Complaint::new(format!(
            "VIP {} is on {}, which is not among `interfaces`: should this director freeze, its kernel answers for the VIP while \
             another director holds it",
            vip.address, vip.interface
        ));
        reader.note(*place, complaint.hint(format!("add {} to `interfaces`", vip.interface)));
    }
}

/// Notes VIPs that no service uses.
fn note_idle(reader: &mut Reader, vips: &Vips, drafts: &[Draft], defaults: &Draft) {
    let used: HashSet<IpAddr> =
        drafts.iter().filter_map(|draft| draft.address.or(&defaults.address).right().copied()).collect();
    for VipDraft { place, vip, .. } in &vips.all {
        if !used.contains(&vip.address) {
            let complaint = Complaint::new(format!("VIP {} has no service", vip.address));
            reader.note(*place, complaint);
        }
    }
}
