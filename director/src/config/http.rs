//! `http`: where metrics and the dashboard are served.

use std::net::SocketAddr;

use super::net;
use super::reader::{Complaint, Fields, Given, Reader};

/// Where to listen; nothing where it is left out. `None` where something is wrong.
pub(super) fn read(reader: &mut Reader, top: &Fields) -> Option<Option<SocketAddr>> {
    let Some(entry) = top.entry("http") else { return Some(None) };
    let fields = reader.fields(&entry.value, "http", &["listen"])?;
    match fields.value(reader, "listen", net::socket_address) {
        Given::Right { value, .. } => Some(Some(value)),
        Given::Wrong => None,
        Given::Absent => {
            let complaint = Complaint::new("`http` needs `listen`");
            reader.error(entry.place, complaint.hint("write http: { listen: \"127.0.0.1:9694\" }"));
            None
        }
    }
}
