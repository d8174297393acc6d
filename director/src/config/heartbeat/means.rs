//! How a group is taken, and what runs where it is held: `takeover` and `resources`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::reader::{Complaint, Given, Reader, listed, nearest};
use crate::config::taker::Taker;
use crate::config::tree::{Kind, Tree, shown};
use crate::config::{check_values, net, values};
use crate::model::heartbeat::{DnsTakeover, Means, Resource, TakeoverCommand};

use super::names::Names;
use super::{addresses, entries, within};

/// What is left out.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const COMMAND_RETRY: Duration = Duration::from_secs(5);
const DNS_TIMEOUT: Duration = Duration::from_secs(2);
const DNS_RETRY: Duration = Duration::from_secs(2);
const DNS_TTL: u32 = 10;
const DNS_PORT: u16 = 53;
const RESOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest domain name in its text form with the dot at its end, and longest label (RFC 1035, 2.3.4).
const MAX_DOMAIN: usize = 254;
const MAX_LABEL: usize = 63;

/// `takeover`. `directors` are their names, where they are known.
pub(super) fn takeover(reader: &mut Reader, tree: &Tree, directors: Option<&[String]>) -> Option<Means> {
    match &tree.kind {
        Kind::Text(text) if text == "address" => return Some(Means::Address),
        Kind::Map(_) => {}
        _ => {
            let complaint =
                Complaint::expected("takeover", "`address`, or a mapping with `command` or `dns`", tree);
            reader.error(tree.place, complaint.hint("write { command: [/usr/local/sbin/move-group] }"));
            return None;
        }
    }
    let fields = reader.fields(tree, "takeover", &["command", "timeout", "retry", "dns"])?;
    if fields.entry("dns").is_some() {
        for entry in ["command", "timeout", "retry"].iter().filter_map(|key| fields.entry(key)) {
            let complaint = Complaint::new(format!("`{}` does not go with `dns`", entry.key));
            let hint = match entry.key.as_str() {
                "command" => "keep one of them",
                _ => "write it within `dns`",
            };
            reader.error(entry.place, complaint.hint(hint));
        }
        let dns = fields.with(reader, "dns", |reader, tree| dns(reader, tree, directors));
        return dns.into_right().map(Means::Dns);
    }
    let mut take = Taker::new(reader, &fields, "`takeover`");
    take.need("command", "[/usr/local/sbin/move-group]");
    let command = take.with("command", |reader, tree| command(reader, tree, "command"));
    let timeout = take.or("timeout", within(10, 600_000), COMMAND_TIMEOUT);
    let retry = take.or("retry", within(10, 3_600_000), COMMAND_RETRY);
    let whole = take.whole;
    let means = Means::Command(TakeoverCommand { command: command.into_right()?, timeout, retry });
    Some(means).filter(|_| whole)
}

/// A program and its arguments, as a list.
pub(super) fn command(reader: &mut Reader, tree: &Tree, label: &str) -> Option<Vec<String>> {
    let example = "write a list, as [/usr/bin/pgrep, nginx]";
    let Kind::List(items) = &tree.kind else {
        let complaint = Complaint::expected(label, "a list of a program and its arguments", tree);
        reader.error(tree.place, complaint.hint(example));
        return None;
    };
    // All of them, also after a wrong one.
    let words: Vec<_> = items.iter().map(|item| reader.take(item.place, word(item, label))).collect();
    let words = words.into_iter().collect::<Option<Vec<String>>>()?;
    match words.first() {
        Some(program) if program.starts_with('/') => return Some(words),
        Some(program) => {
            let complaint = Complaint::new(format!(
                "`{label}` must begin with the absolute path of a program, found {}",
                shown(program)
            ));
            reader.error(items[0].place, complaint.hint(example));
        }
        None => {
            let complaint = Complaint::new(format!("`{label}` must name a program"));
            reader.error(tree.place, complaint.hint(example));
        }
    }
    None
}

fn word(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    if text.contains('\0') {
        return Err(Complaint::new(format!("`{label}` must be without the character NUL")));
    }
    Ok(text.to_owned())
}

fn dns(reader: &mut Reader, tree: &Tree, directors: Option<&[String]>) -> Option<DnsTakeover> {
    let keys = ["server", "zone", "name", "ttl", "tsig_file", "addresses", "timeout", "retry"];
    let fields = reader.fields(tree, "dns", &keys)?;
    let mut take = Taker::new(reader, &fields, "`dns`");
    let server = take.needed("server", server, "\"192.0.2.53:53\"");
    let zone = take.needed("zone", domain, "example.org.");
    take.need("name", "www.example.org.");
    let name = take.given("name", domain);
    if let (Some(zone), Given::Right { place, value: name }) = (&zone, &name)
        && !is_within(name, zone)
    {
        let complaint = Complaint::new(format!("`name` must be in the zone {zone}, found {}", shown(name)));
        take.reader.error(*place, complaint.hint(format!("write it like www.{zone}")));
        take.whole = false;
    }
    let ttl = take.or("ttl", |tree, label| values::whole(tree, label, 0..=86_400), DNS_TTL);
    let tsig_file = take.needed("tsig_file", check_values::path, "/etc/director/tsig.key");
    take.need("addresses", "{ lb1: [192.0.2.11], lb2: [192.0.2.12] }");
    let addresses = take.with("addresses", |reader, tree| by_director(reader, tree, directors));
    let timeout = take.or("timeout", within(10, 60_000), DNS_TIMEOUT);
    let retry = take.or("retry", within(10, 3_600_000), DNS_RETRY);
    let whole = take.whole;
    let (server, zone, name) = (server?, zone?, name.into_right()?);
    let (addresses, tsig_file) = (addresses.into_right()?, tsig_file?);
    let takeover = DnsTakeover { server, zone, name, ttl, addresses, tsig_file, timeout, retry };
    Some(takeover).filter(|_| whole)
}

/// Where a server is; on this host, too.
fn server(tree: &Tree, label: &str) -> Result<SocketAddr, Complaint> {
    let server = net::endpoint(tree, label, DNS_PORT)?;
    if server.ip().is_loopback() { Ok(server) } else { net::unicast(tree, label, DNS_PORT) }
}

/// An absolute domain name: letters, digits, `-` and `_`, and a dot at the end of each label.
fn domain(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    let fits = |part: &str| {
        (1..=MAX_LABEL).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match text.strip_suffix('.') {
        Some(labels) if text.len() <= MAX_DOMAIN && labels.split('.').all(fits) => Ok(text.to_owned()),
        None if text.split('.').all(fits) => {
            Err(Complaint::new(format!("`{label}` must end with a dot, found {}", shown(text)))
                .hint(format!("write {text}.")))
        }
        _ => Err(Complaint::expected(label, "a domain name", tree).hint("write it like www.example.org.")),
    }
}

fn is_within(name: &str, zone: &str) -> bool {
    let (name, zone) = (name.to_ascii_lowercase(), zone.to_ascii_lowercase());
    name.strip_suffix(&zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A mapping of each director to its addresses.
fn by_director(
    reader: &mut Reader,
    tree: &Tree,
    directors: Option<&[String]>,
) -> Option<Vec<(String, Vec<IpAddr>)>> {
    let Kind::Map(items) = &tree.kind else {
        let complaint = Complaint::expected("addresses", "a mapping of directors to addresses", tree);
        reader.error(tree.place, complaint.hint("write { lb1: [192.0.2.11], lb2: [192.0.2.12] }"));
        return None;
    };
    let errors = reader.errors.len();
    let mut all = Vec::with_capacity(items.len());
    for entry in items {
        if let Some(directors) = directors {
            let known = known_director(&entry.key, "addresses", directors);
            reader.take(entry.place, known);
        }
        // What is unreadable has been complained of.
        let Some(addresses) = addresses(reader, &entry.value, &entry.key) else { continue };
        if addresses.is_empty() {
            let complaint = Complaint::new(format!("`{}` must name an address", entry.key));
            reader.error(entry.value.place, complaint.hint("write [192.0.2.11]"));
        }
        all.push((entry.key.clone(), addresses));
    }
    for director in directors.unwrap_or_default() {
        if !items.iter().any(|entry| entry.key == *director) {
            let complaint = Complaint::new(format!("`addresses` has nothing for director `{director}`"));
            reader.error(tree.place, complaint.hint(format!("add {director}: [192.0.2.11]")));
        }
    }
    (reader.errors.len() == errors && all.len() == items.len()).then_some(all)
}

/// Whether a name is that of a director.
pub(super) fn known_director(name: &str, label: &str, directors: &[String]) -> Result<(), Complaint> {
    let known: Vec<&str> = directors.iter().map(String::as_str).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let complaint = Complaint::new(format!("{} in `{label}` is none of the directors", shown(name)));
    Err(match nearest(name, &known) {
        Some(near) => complaint.hint(format!("did you mean `{near}`?")),
        None => complaint.hint(format!("the directors are {}", listed(&known))),
    })
}

/// `resources`.
pub(super) fn resources(reader: &mut Reader, tree: &Tree) -> Option<Vec<Resource>> {
    let mut names = Names::new("resources of the group");
    let items = entries(reader, tree, "resources")?;
    // All of them, also after a wrong one.
    let all: Vec<_> = items.iter().map(|item| resource(reader, item, &mut names)).collect();
    all.into_iter().collect()
}

fn resource(reader: &mut Reader, tree: &Tree, names: &mut Names) -> Option<Resource> {
    let fields = reader.fields(tree, "resources", &["name", "start", "stop", "timeout"])?;
    let mut take = Taker::new(reader, &fields, "a resource");
    take.need("name", "route");
    let name = take.given("name", |tree, label| values::name_of(tree, label, "resource"));
    take.need("start", "[/sbin/ip, route, add, default, via, 192.0.2.1]");
    let start = take.with("start", |reader, tree| command(reader, tree, "start"));
    take.need("stop", "[/sbin/ip, route, delete, default, via, 192.0.2.1]");
    let stop = take.with("stop", |reader, tree| command(reader, tree, "stop"));
    let timeout = take.or("timeout", within(10, 600_000), RESOURCE_TIMEOUT);
    let whole = take.whole & names.add(reader, &name);
    let (name, start, stop) = (name.into_right()?, start.into_right()?, stop.into_right()?);
    Some(Resource { name, start, stop, timeout }).filter(|_| whole)
}
