//! `directors`: who they are, and the links between them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::reader::{Complaint, Given, Reader};
use crate::config::sections::Vips;
use crate::config::taker::Taker;
use crate::config::tree::{Kind, Place, Tree};
use crate::config::{check_values, net, values};
use crate::heartbeat::message::MOST_DIRECTORS;
use crate::model::heartbeat::{Link, Member};

use super::names::Names;

/// The priority that is left out.
const PRIORITY: u8 = 100;
/// The port of `udp` and `multicast` where none is given: Heartbeat's (ha-cluster, in IANA's list).
const PORT: u16 = 694;
const TTL: u8 = 1;
const BAUD: u32 = 115_200;
/// The most links of a director.
const MOST_LINKS: usize = 8;
/// Speeds of serial lines (termios).
const BAUDS: [u32; 8] = [9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];

const LINK_HINT: &str = "write { udp: \"192.0.2.11:694\" }, { multicast: \"239.255.0.1:694\", interface: eth1 } or { serial: /dev/ttyS0 }";

/// What came of `directors`.
pub(super) struct Directors {
    /// How many there are, wrong ones included.
    pub(super) count: usize,
    /// Their names, unless one of them is wrong.
    pub(super) names: Option<Vec<String>>,
    /// They, unless something in them is wrong.
    pub(super) members: Option<Vec<Member>>,
}

/// A director, each of its values checked by itself.
struct Draft {
    name: Given<String>,
    priority: Option<u8>,
    /// In their places; wrong ones are `None`.
    links: Given<Vec<(Place, Option<Link>)>>,
}

/// Reads them all; `None` if it is no list.
pub(super) fn read(reader: &mut Reader, tree: &Tree, vips: Option<&Vips>) -> Option<Directors> {
    let items = reader.items(tree, "directors")?;
    let errors = reader.errors.len();
    if !(2..=MOST_DIRECTORS).contains(&items.len()) {
        let complaint =
            Complaint::new(format!("`directors` must be 2 to {MOST_DIRECTORS}, found {}", items.len()));
        reader.error(tree.place, complaint.hint("a director by itself needs no `heartbeat`"));
        if items.len() > MOST_DIRECTORS {
            return None;
        }
    }
    let mut names = Names::new("directors");
    let drafts: Vec<Draft> = items.iter().filter_map(|item| draft(reader, item, &mut names)).collect();
    check_places(reader, &drafts);
    check_addresses(reader, &drafts, vips);
    if drafts.len() > 2 {
        check_serial(reader, &drafts);
    }
    let names = drafts.iter().map(|draft| draft.name.right().cloned()).collect::<Option<Vec<_>>>();
    let count = items.len();
    let sound = reader.errors.len() == errors && drafts.len() == count;
    let members = drafts.into_iter().map(member).collect::<Option<_>>().filter(|_| sound);
    Some(Directors { count, names: names.filter(|names| names.len() == count), members })
}

fn member(draft: Draft) -> Option<Member> {
    let links = draft.links.into_right()?.into_iter().map(|(_, link)| link).collect::<Option<_>>()?;
    Some(Member { name: draft.name.into_right()?, priority: draft.priority.unwrap_or(PRIORITY), links })
}

fn draft(reader: &mut Reader, tree: &Tree, names: &mut Names) -> Option<Draft> {
    let fields = reader.fields(tree, "directors", &["name", "priority", "links"])?;
    let mut take = Taker::new(reader, &fields, "a director");
    take.need("name", "lb1");
    let name = take.given("name", |tree, label| values::name_of(tree, label, "director"));
    let priority = take.optional("priority", |tree, label| values::whole(tree, label, 1..=255));
    take.need("links", "[{ udp: \"192.0.2.11:694\" }]");
    let links = take.with("links", links);
    names.add_key(reader, &name);
    Some(Draft { name, priority, links })
}

fn links(reader: &mut Reader, tree: &Tree) -> Option<Vec<(Place, Option<Link>)>> {
    let items = reader.items(tree, "links")?;
    if !(1..=MOST_LINKS).contains(&items.len()) {
        let complaint = Complaint::new(format!("`links` must be 1 to {MOST_LINKS}, found {}", items.len()));
        reader.error(tree.place, complaint.hint(LINK_HINT));
        return None;
    }
    let links: Vec<_> = items.iter().map(|item| (item.place, link(reader, item))).collect();
    for (i, (place, one)) in links.iter().enumerate() {
        let Some(one) = one else { continue };
        let same =
            links[..i].iter().position(|(_, other)| other.as_ref().is_some_and(|other| alike(other, one)));
        if let Some(first) = same {
            let what = format!("links {} and {} of a director are one and the same", first + 1, i + 1);
            reader.error(*place, Complaint::new(what).hint("a second link must go another way"));
        }
    }
    Some(links)
}

/// Whether two links of a director cannot be there together. Addresses are compared over all directors.
fn alike(one: &Link, other: &Link) -> bool {
    match (one, other) {
        (
            Link::Multicast { group, interface, .. },
            Link::Multicast { group: other, interface: second, .. },
        ) => group == other && interface == second,
        (Link::Serial { device, .. }, Link::Serial { device: other, .. }) => device == other,
        _ => false,
    }
}

fn link(reader: &mut Reader, tree: &Tree) -> Option<Link> {
    let Kind::Map(entries) = &tree.kind else {
        // Complains for us.
        return reader.fields(tree, "links", &["udp", "multicast", "serial"]).and(None);
    };
    let kinds = ["udp", "multicast", "serial"];
    let written: Vec<&str> =
        entries.iter().map(|entry| entry.key.as_str()).filter(|key| kinds.contains(key)).collect();
    let &[kind] = &written[..] else {
        let complaint = Complaint::new("a link is one of `udp`, `multicast` and `serial`");
        reader.error(tree.place, complaint.hint(LINK_HINT));
        return None;
    };
    match kind {
        "udp" => {
            let fields = reader.fields(tree, "a link by udp", &["udp"])?;
            fields
                .value(reader, "udp", |tree, label| net::unicast(tree, label, PORT))
                .into_right()
                .map(Link::Udp)
        }
        "multicast" => multicast(reader, tree),
        _ => {
            let fields = reader.fields(tree, "a link by serial line", &["serial", "baud"])?;
            let mut take = Taker::new(reader, &fields, "a link by serial line");
            let (device, baud) = (take.optional("serial", check_values::path), take.or("baud", baud, BAUD));
            let whole = take.whole;
            Some(Link::Serial { device: device?, baud }).filter(|_| whole)
        }
    }
}

fn multicast(reader: &mut Reader, tree: &Tree) -> Option<Link> {
    let fields = reader.fields(tree, "a link by multicast", &["multicast", "interface", "ttl"])?;
    let mut take = Taker::new(reader, &fields, "a link by multicast");
    let group = take.optional("multicast", |tree, label| {
        let group = net::endpoint(tree, label, PORT)?;
        if group.ip().is_multicast() {
            return Ok(group);
        }
        Err(Complaint::new(format!("`{label}` must be a multicast group, but {} is none", group.ip()))
            .hint("write \"239.255.0.1:694\" or \"[ff05::694]:694\""))
    });
    let interface = take.needed("interface", values::interface, "eth1");
    let ttl = take.or("ttl", |tree, label| values::whole(tree, label, 1..=255), TTL);
    let whole = take.whole;
    Some(Link::Multicast { group: group?, interface: interface?, ttl }).filter(|_| whole)
}

fn baud(tree: &Tree, label: &str) -> Result<u32, Complaint> {
    let baud = values::whole(tree, label, 1..=i64::from(u32::MAX))?;
    if BAUDS.contains(&baud) {
        return Ok(baud);
    }
    let known: Vec<String> = BAUDS.iter().map(u32::to_string).collect();
    Err(Complaint::new(format!("`{label}` must be a speed of serial lines, found the number {baud}"))
        .hint(format!("it is one of {}", known.join(", "))))
}

/// What must be the same for all links of a place, in words; multicast groups are compared besides.
fn kind(link: &Link) -> &'static str {
    match link {
        Link::Udp(SocketAddr::V4(_)) => "by udp over IPv4",
        Link::Udp(SocketAddr::V6(_)) => "by udp over IPv6",
        Link::Multicast { .. } => "by multicast",
        Link::Serial { .. } => "by serial line",
    }
}

/// A director as messages name it.
fn called(draft: &Draft, position: usize) -> String {
    match draft.name.right() {
        Some(name) => format!("director `{name}`"),
        None => format!("director {}", position + 1),
    }
}

/// All directors' links of one place are of one kind, and there are as many for each.
fn check_places(reader: &mut Reader, drafts: &[Draft]) {
    let mut known = drafts.iter().enumerate().filter_map(|(i, draft)| {
        let Given::Right { place, value } = &draft.links else { return None };
        Some((called(draft, i), *place, value))
    });
    let Some((first, first_place, pattern)) = known.next() else { return };
    for (name, place, links) in known {
        if links.len() != pattern.len() {
            let s = |n: usize| if n == 1 { "1 link".to_owned() } else { format!("{n} links") };
            let complaint = Complaint::new(format!(
                "{name} has {}, but {first} (line {}) has {}",
                s(links.len()),
                first_place.line,
                s(pattern.len())
            ));
            let hint = "the same place in each list is the same link: give every director as many";
            reader.error(place, complaint.hint(hint));
            continue;
        }
        for (n, ((place, link), (_, as_in))) in links.iter().zip(pattern).enumerate() {
            let (Some(link), Some(as_in)) = (link, as_in) else { continue };
            check_pair(reader, *place, (link, as_in), (n + 1, &name, &first));
        }
    }
}

fn check_pair(reader: &mut Reader, place: Place, links: (&Link, &Link), around: (usize, &str, &str)) {
    let (number, name, first) = around;
    let hint = "the same place in each list is the same link: keep to one order";
    let (own, other) = (kind(links.0), kind(links.1));
    if own != other {
        let what = format!("link {number} of {name} goes {own}, but that of {first} {other}");
        reader.error(place, Complaint::new(what).hint(hint));
    } else if let (Link::Multicast { group, .. }, Link::Multicast { group: other, .. }) = links
        && group != other
    {
        let what = format!("link {number} of {name} is in the group {group}, but that of {first} in {other}");
        reader.error(place, Complaint::new(what).hint("write the same group and port for all directors"));
    }
}

/// No address is there twice, and none is a VIP.
fn check_addresses(reader: &mut Reader, drafts: &[Draft], vips: Option<&Vips>) {
    let mut seen: HashMap<SocketAddr, (String, u32)> = HashMap::new();
    for (i, draft) in drafts.iter().enumerate() {
        for (place, link) in draft.links.right().into_iter().flatten() {
            let Some(Link::Udp(address)) = link else { continue };
            if let Some((other, line)) = seen.get(address) {
                let complaint = Complaint::new(format!(
                    "{} has the address {address}, which {other} has already (line {line})",
                    called(draft, i)
                ));
                reader.error(*place, complaint.hint("write each director's own address"));
            } else {
                seen.insert(*address, (called(draft, i), place.line));
            }
            if vips.is_some_and(|vips| is_vip(vips, address.ip())) {
                let complaint =
                    Complaint::new(format!("{} is a VIP, and VIPs move between directors", address.ip()));
                reader.error(*place, complaint.hint("write an address that this director always has"));
            }
        }
    }
}

fn is_vip(vips: &Vips, address: IpAddr) -> bool {
    vips.all.iter().any(|draft| draft.vip.address == address)
}

fn check_serial(reader: &mut Reader, drafts: &[Draft]) {
    for (place, link) in drafts.iter().filter_map(|draft| draft.links.right()).flatten() {
        if matches!(link, Some(Link::Serial { .. })) {
            let complaint =
                Complaint::new(format!("a serial line joins two directors, and there are {}", drafts.len()));
            reader.error(*place, complaint.hint("use udp or multicast"));
        }
    }
}
