//! `groups`, and the groups that VIPs name.

use std::collections::HashMap;

use crate::config::reader::{Complaint, Fields, Given, Reader};
use crate::config::sections::Vips;
use crate::config::taker::Taker;
use crate::config::tree::{Kind, Place, Tree, shown};
use crate::config::values;
use crate::heartbeat::message::{Key, MOST_GROUPS};
use crate::model::heartbeat::{Failback, Group, Means};

use super::means;
use super::names::Names;

/// The group of VIPs that name none.
const DEFAULT: &str = "default";
/// How a virtual MAC begins that is made from a group's name: locally administered, of one station (IEEE 802, 8.2.2).
const VIRTUAL: [u8; 3] = [0x02, 0x64, 0x72];

/// What groups are checked against.
pub(super) struct Around<'a> {
    /// The directors' names, where they are known.
    pub(super) directors: Option<&'a [String]>,
    /// The VIPs, unless one of them is wrong.
    pub(super) vips: Option<&'a Vips>,
    /// What groups do that do not say.
    pub(super) failback: Failback,
    /// Where the section is.
    pub(super) place: Place,
}

/// `virtual_mac`.
#[derive(Clone, Copy)]
enum Mac {
    None,
    OfName,
    Own([u8; 6]),
}

/// The groups so far.
struct Builder<'a> {
    around: &'a Around<'a>,
    names: Names,
    /// Each and its place.
    groups: Vec<(Place, Group)>,
    /// Whose a virtual MAC is, and its line.
    macs: HashMap<[u8; 6], (String, u32)>,
}

/// All groups: those that are listed, then the others in the order of the VIPs. `None` where something is wrong.
pub(super) fn read(reader: &mut Reader, fields: &Fields, around: &Around) -> Option<Vec<Group>> {
    let errors = reader.errors.len();
    let (names, macs) = (Names::new("groups"), HashMap::new());
    let mut builder = Builder { around, names, groups: Vec::new(), macs };
    let listed = fields.get("groups");
    for item in listed.and_then(|tree| reader.items(tree, "groups")).unwrap_or_default() {
        builder.add(reader, item);
    }
    if let Some(vips) = around.vips {
        builder.join(reader, vips);
    }
    let groups = builder.groups;
    if groups.len() > MOST_GROUPS {
        let complaint = Complaint::new(format!(
            "there are {} groups, more than the limit of {MOST_GROUPS}",
            groups.len()
        ));
        let place = listed.map_or(around.place, |tree| tree.place);
        reader.error(place, complaint.hint("put VIPs that may move together into one group"));
    }
    (reader.errors.len() == errors).then(|| groups.into_iter().map(|(_, group)| group).collect())
}

impl Builder<'_> {
    /// Adds a group of the list.
    fn add(&mut self, reader: &mut Reader, tree: &Tree) {
        let keys = ["name", "prefer", "failback", "virtual_mac", "takeover", "resources"];
        let Some(fields) = reader.fields(tree, "groups", &keys) else { return };
        let directors = self.around.directors;
        let mut take = Taker::new(reader, &fields, "a group");
        take.need("name", "blue");
        let name = take.given("name", |tree, label| values::name_of(tree, label, "group"));
        let prefer = take.with("prefer", |reader, tree| prefer(reader, tree, directors));
        let failback = take.or("failback", super::failback, self.around.failback);
        let mac = take.given("virtual_mac", mac);
        let takeover = take.with("takeover", |reader, tree| means::takeover(reader, tree, directors));
        let resources = take.with("resources", means::resources);
        let fresh = self.names.add_key(reader, &name);
        let takeover = match takeover {
            Given::Absent => Some(Means::Address),
            given => given.into_right(),
        };
        let (Some(name), true) = (name.into_right(), fresh) else { return };
        let virtual_mac = self.virtual_mac(reader, &name, &mac, takeover.as_ref());
        let Some(takeover) = takeover else { return };
        let (prefer, resources) = (prefer.into_right(), resources.into_right());
        let group = Group {
            name,
            vips: Vec::new(),
            prefer: prefer.unwrap_or_default(),
            failback,
            takeover,
            virtual_mac,
            resources: resources.unwrap_or_default(),
        };
        self.groups.push((fields.place, group));
    }

    fn virtual_mac(
        &mut self,
        reader: &mut Reader,
        name: &str,
        given: &Given<Mac>,
        takeover: Option<&Means>,
    ) -> Option<[u8; 6]> {
        let Given::Right { place, value } = given else { return None };
        let mac = match value {
            Mac::None => return None,
            Mac::OfName => of_name(name),
            Mac::Own(mac) => *mac,
        };
        if takeover.is_some_and(|takeover| *takeover != Means::Address) {
            let complaint = Complaint::new(format!(
                "`virtual_mac` goes with addresses on interfaces, and group `{name}` is taken in another way"
            ));
            reader.error(*place, complaint.hint("remove it, or write takeover: address"));
        }
        if let Some((first, line)) = self.macs.get(&mac) {
            let complaint = Complaint::new(format!(
                "group `{name}` has the virtual MAC {}, which group `{first}` has already (line {line})",
                written(mac)
            ));
            reader.error(*place, complaint.hint("give each group its own"));
        } else {
            self.macs.insert(mac, (name.to_owned(), place.line));
        }
        Some(mac)
    }

    /// Puts the VIPs into their groups, and makes those that are not listed.
    fn join(&mut self, reader: &mut Reader, vips: &Vips) {
        for draft in &vips.all {
            let name = draft.group.right().map_or(DEFAULT, String::as_str);
            if let Some((_, group)) = self.groups.iter_mut().find(|(_, group)| group.name == name) {
                group.vips.push(draft.vip.clone());
            } else if !self.names.has(name) {
                let place = draft.group.place().unwrap_or(draft.place);
                self.names.add_key(reader, &Given::Right { place, value: name.to_owned() });
                let vips = vec![draft.vip.clone()];
                self.groups.push((place, Group { failback: self.around.failback, ..Group::new(name, vips) }));
            }
        }
        for (place, group) in &self.groups {
            if group.vips.is_empty() && group.takeover == Means::Address {
                let complaint = Complaint::new(format!("no VIP is in group `{}`", group.name));
                let hint = format!("write group: {} with a VIP in `vips`, or remove the group", group.name);
                reader.error(*place, complaint.hint(hint));
            }
        }
        if vips.all.is_empty() && self.groups.is_empty() {
            let complaint = Complaint::new("`heartbeat` has nothing to hold: there are no VIPs");
            reader.error(self.around.place, complaint.hint("add one to `vips`, or remove `heartbeat`"));
        }
    }
}

fn prefer(reader: &mut Reader, tree: &Tree, directors: Option<&[String]>) -> Option<Vec<String>> {
    let errors = reader.errors.len();
    let mut all = Vec::new();
    for item in reader.items(tree, "prefer")? {
        let Some(name) = reader.take(item.place, values::text(item, "prefer")) else { continue };
        if let Some(directors) = directors {
            reader.take(item.place, means::known_director(name, "prefer", directors));
        }
        if all.iter().any(|other| other == name) {
            let complaint = Complaint::new(format!("{} is in `prefer` twice", shown(name)));
            reader.error(item.place, complaint.hint("name it once, where it comes first"));
        }
        all.push(name.to_owned());
    }
    (reader.errors.len() == errors).then_some(all)
}

/// `true`, `false` or a MAC address.
fn mac(tree: &Tree, label: &str) -> Result<Mac, Complaint> {
    let text = match &tree.kind {
        Kind::Bool(false) => return Ok(Mac::None),
        Kind::Bool(true) => return Ok(Mac::OfName),
        Kind::Text(text) => Some(text),
        _ => None,
    };
    let Some(mac) = text.and_then(|text| mac_of(text)) else {
        return Err(Complaint::expected(label, "`true`, `false` or a MAC address", tree)
            .hint("write \"02:00:5e:00:00:01\", or true for one made from the group's name"));
    };
    if mac[0] & 1 != 0 || mac == [0; 6] {
        let what = format!("`{label}` must be the MAC address of one station, but {} is none", written(mac));
        return Err(Complaint::new(what).hint("its first byte must be even, as in \"02:00:5e:00:00:01\""));
    }
    Ok(Mac::Own(mac))
}

fn mac_of(text: &str) -> Option<[u8; 6]> {
    let byte = |part: &str| {
        let hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { u8::from_str_radix(part, 16).ok() } else { None }
    };
    text.split(':').map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// The same on every director: it depends on the name only.
fn of_name(name: &str) -> [u8; 6] {
    let [_, a, b, c] = Key::of(name).0.to_be_bytes();
    let [x, y, z] = VIRTUAL;
    [x, y, z, a, b, c]
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
