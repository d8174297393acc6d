//! `http`: a later version acts upon it. It is taken, and looked at for mistyped keys and values; that it does nothing yet
//! is noted.

use super::net;
use super::reader::{Complaint, Fields, Reader};

/// Looks at it.
pub(super) fn look(reader: &mut Reader, top: &Fields) {
    let Some(entry) = top.entry("http") else { return };
    if let Some(fields) = reader.fields(&entry.value, "http", &["listen"]) {
        fields.value(reader, "listen", net::socket_address);
    }
    let complaint = Complaint::new("HTTP is not served by this version: use the operator's socket");
    reader.note(entry.place, complaint);
}
