//! Sections that later versions act upon. They are taken, and looked at for mistyped keys and values; that they do nothing
//! yet is noted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reader::{Complaint, Fields, Reader};
use super::tree::{Kind, Place, Tree};
use super::{net, values};

/// What a section looks like.
enum Shape {
    /// A text, or a number or flag that is one when it is used.
    Scalar,
    Flag,
    Whole,
    Duration,
    Address,
    /// An address and a port, as `127.0.0.1:9694`.
    SocketAddress,
    List(&'static Shape),
    Map(&'static [(&'static str, Shape)]),
}

const HEARTBEAT: Shape = Shape::Map(&[
    ("key_file", Shape::Scalar),
    ("interval", Shape::Duration),
    ("dead_after", Shape::Duration),
    ("failback", Shape::Flag),
    ("ping", Shape::List(&Shape::Address)),
    ("directors", Shape::List(&DIRECTOR)),
]);
const DIRECTOR: Shape =
    Shape::Map(&[("name", Shape::Scalar), ("priority", Shape::Whole), ("links", Shape::List(&LINK))]);
const LINK: Shape = Shape::Map(&[("udp", Shape::SocketAddress)]);
const HTTP: Shape = Shape::Map(&[("listen", Shape::SocketAddress)]);

const SECTIONS: [(&str, Shape, &str); 2] = [
    ("heartbeat", HEARTBEAT, "the heartbeat is not run by this version: this director always holds its VIPs"),
    ("http", HTTP, "HTTP is not served by this version: use the operator's socket"),
];

/// Which of these sections were met, and where.
#[derive(Debug, Default)]
pub(super) struct Later {
    seen: BTreeMap<&'static str, Place>,
}

impl Later {
    /// Looks at them.
    pub(super) fn look(&mut self, reader: &mut Reader, fields: &Fields) {
        for (name, shape, _) in &SECTIONS {
            if let Some(entry) = fields.entry(name) {
                self.seen.insert(name, entry.place);
                fit(reader, &entry.value, name, shape);
            }
        }
    }

    /// Adds a note for each that was met.
    pub(super) fn note(self, reader: &mut Reader) {
        for (name, _, note) in &SECTIONS {
            if let Some(place) = self.seen.get(name) {
                reader.note(*place, Complaint::new(*note));
            }
        }
    }
}

fn fit(reader: &mut Reader, tree: &Tree, label: &str, shape: &Shape) {
    let result = match shape {
        Shape::Scalar => match &tree.kind {
            Kind::Null | Kind::List(_) | Kind::Map(_) => Err(Complaint::expected(label, "a text", tree)),
            _ => Ok(()),
        },
        Shape::Flag => values::flag(tree, label).map(drop),
        Shape::Whole => values::whole::<u16>(tree, label, 0..=65535).map(drop),
        Shape::Duration => {
            let limits = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
            values::duration(tree, label, limits).map(drop)
        }
        Shape::Address => net::address(tree, label).map(drop),
        Shape::SocketAddress => net::socket_address(tree, label).map(drop),
        Shape::List(shape) => {
            for item in reader.items(tree, label).unwrap_or_default() {
                fit(reader, item, label, shape);
            }
            return;
        }
        Shape::Map(shapes) => {
            let keys: Vec<&'static str> = shapes.iter().map(|(key, _)| *key).collect();
            if let Some(fields) = reader.fields(tree, label, &keys) {
                for (key, shape) in *shapes {
                    if let Some(tree) = fields.get(key) {
                        fit(reader, tree, key, shape);
                    }
                }
            }
            return;
        }
    };
    if tree.kind != Kind::Broken {
        reader.take(tree.place, result);
    }
}
