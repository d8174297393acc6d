//! `http`: where metrics and the dashboard are served, and by which names.

use super::net;
use super::reader::{Complaint, Fields, Given, Reader};
use super::tree::Tree;
use super::values;
use crate::model::Http;

/// Nothing where it is left out; `None` where something is wrong.
pub(super) fn read(reader: &mut Reader, top: &Fields) -> Option<Option<Http>> {
    let Some(entry) = top.entry("http") else { return Some(None) };
    let fields = reader.fields(&entry.value, "http", &["listen", "hosts"])?;
    let hosts = match fields.with(reader, "hosts", hosts) {
        Given::Absent => Some(Vec::new()),
        given => given.into_right(),
    };
    match fields.value(reader, "listen", net::socket_address) {
        Given::Right { value: listen, .. } => Some(Some(Http { listen, hosts: hosts? })),
        Given::Wrong => None,
        Given::Absent => {
            let complaint = Complaint::new("`http` needs `listen`");
            reader.error(entry.place, complaint.hint("write http: { listen: \"127.0.0.1:9694\" }"));
            None
        }
    }
}

fn hosts(reader: &mut Reader, tree: &Tree) -> Option<Vec<String>> {
    let items = reader.items(tree, "hosts")?;
    let hosts: Vec<_> = items.iter().map(|item| reader.take(item.place, host(item))).collect();
    hosts.into_iter().collect()
}

fn host(tree: &Tree) -> Result<String, Complaint> {
    let name = values::text(tree, "hosts")?;
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Ok(name.trim_end_matches('.').to_ascii_lowercase());
    }
    let complaint = Complaint::expected("hosts", "a name without a port", tree);
    Err(complaint.hint("write it as it stands in the browser's address: lb.example.org"))
}
