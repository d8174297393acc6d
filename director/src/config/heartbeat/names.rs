//! Names that must differ.

use std::collections::HashMap;

use crate::config::reader::{Complaint, Given, Reader};
use crate::config::tree::Place;
use crate::heartbeat::message::Key;

/// The names of one kind of things so far.
pub(super) struct Names {
    /// What they name, in the plural.
    of: &'static str,
    /// The line of each.
    lines: HashMap<String, u32>,
    /// Whose hash it is.
    keys: HashMap<Key, String>,
}

impl Names {
    pub(super) fn new(of: &'static str) -> Names {
        Names { of, lines: HashMap::new(), keys: HashMap::new() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.lines.contains_key(name)
    }

    /// Adds a name; complains, and says no, if it is there already.
    pub(super) fn add(&mut self, reader: &mut Reader, name: &Given<String>) -> bool {
        let Given::Right { place, value: name } = name else { return true };
        if let Some(line) = self.lines.get(name) {
            let complaint =
                Complaint::new(format!("two {} are named `{name}`, the first on line {line}", self.of));
            reader.error(*place, complaint.hint("rename one of them"));
            return false;
        }
        self.lines.insert(name.clone(), place.line);
        true
    }

    /// The same for a name that goes over the wire as its hash, so that this, too, must differ.
    pub(super) fn add_key(&mut self, reader: &mut Reader, name: &Given<String>) -> bool {
        let fresh = self.add(reader, name);
        let Given::Right { place, value: name } = name else { return fresh };
        fresh && self.claim(reader, *place, name)
    }

    fn claim(&mut self, reader: &mut Reader, place: Place, name: &str) -> bool {
        let Some(first) = self.keys.insert(Key::of(name), name.to_owned()) else { return true };
        let complaint = Complaint::new(format!(
            "the {} `{first}` and `{name}` cannot be told apart: messages name them by a hash, which is the same",
            self.of
        ));
        reader.error(place, complaint.hint("rename one of them"));
        false
    }
}
