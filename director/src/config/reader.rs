//! Reading mappings of known keys, and collecting what is wrong on the way.

use super::problem::Problem;
use super::tree::{Entry, Kind, Place, Tree, shown};

/// What is wrong with a value, before it is known where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), hint: None }
    }

    /// "`weight` must be a number, found the text `ten`".
    pub(super) fn expected(label: &str, what: &str, found: &Tree) -> Complaint {
        Complaint::new(format!("{} must be {what}, found {}", called(label), found.found()))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Complaint {
        self.hint = Some(hint.into());
        self
    }

    fn at(self, place: Place) -> Problem {
        Problem { line: place.line, column: place.column, message: self.message, hint: self.hint }
    }
}

/// Collects errors and notes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) errors: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
}

impl Reader {
    pub(super) fn error(&mut self, place: Place, complaint: Complaint) {
        self.errors.push(complaint.at(place));
    }

    pub(super) fn note(&mut self, place: Place, complaint: Complaint) {
        self.notes.push(complaint.at(place));
    }

    /// The value of a result, its complaint kept.
    pub(super) fn take<T>(&mut self, place: Place, result: Result<T, Complaint>) -> Option<T> {
        result.map_err(|complaint| self.error(place, complaint)).ok()
    }

    /// A mapping of known keys; complains of others.
    pub(super) fn fields<'t>(
        &mut self,
        tree: &'t Tree,
        label: &str,
        known: &[&'static str],
    ) -> Option<Fields<'t>> {
        let Kind::Map(entries) = &tree.kind else {
            if tree.kind != Kind::Broken {
                let complaint = Complaint::expected(label, "a mapping", tree);
                self.error(tree.place, complaint.hint(format!("it has the keys {}", listed(known))));
            }
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            self.error(entry.place, unknown_key(&entry.key, label, known));
        }
        Some(Fields { place: tree.place, entries })
    }

    /// The items of a list.
    pub(super) fn items<'t>(&mut self, tree: &'t Tree, label: &str) -> Option<&'t [Tree]> {
        match &tree.kind {
            Kind::List(items) => Some(items),
            Kind::Broken => None,
            _ => {
                let hint = format!("write `{label}: []` for an empty list, or items that begin with `- `");
                self.error(tree.place, Complaint::expected(label, "a list", tree).hint(hint));
                None
            }
        }
    }
}

/// A mapping whose keys are known to be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'t> {
    pub(super) place: Place,
    entries: &'t [Entry],
}

impl<'t> Fields<'t> {
    pub(super) fn entry(&self, key: &str) -> Option<&'t Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'t Tree> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A value made of what stands at a key, by a function that complains of the whole of it.
    pub(super) fn value<T>(
        &self,
        reader: &mut Reader,
        key: &str,
        make: impl FnOnce(&Tree, &str) -> Result<T, Complaint>,
    ) -> Given<T> {
        self.with(reader, key, |reader, tree| reader.take(tree.place, make(tree, key)))
    }

    /// The same by a function that complains for itself, and returns `None` then.
    pub(super) fn with<T>(
        &self,
        reader: &mut Reader,
        key: &str,
        make: impl FnOnce(&mut Reader, &'t Tree) -> Option<T>,
    ) -> Given<T> {
        let Some(tree) = self.get(key) else { return Given::Absent };
        if tree.kind == Kind::Broken {
            return Given::Wrong;
        }
        make(reader, tree).map_or(Given::Wrong, |value| Given::Right { place: tree.place, value })
    }
}

/// What became of a key: errors are complained of once, where they are, so later checks must tell "left out" from "wrong".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Given<T> {
    /// Left out.
    #[default]
    Absent,
    /// There, but wrong, and complained of.
    Wrong,
    /// There.
    Right { place: Place, value: T },
}

impl<T> Given<T> {
    /// Itself, or what stands in for it where it was left out.
    pub(super) fn or<'a>(&'a self, other: &'a Given<T>) -> &'a Given<T> {
        if self.is_absent() { other } else { self }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Given::Absent)
    }

    pub(super) fn right(&self) -> Option<&T> {
        match self {
            Given::Right { value, .. } => Some(value),
            _ => None,
        }
    }

    pub(super) fn into_right(self) -> Option<T> {
        match self {
            Given::Right { value, .. } => Some(value),
            _ => None,
        }
    }

    /// What may be left out; `None` where it is wrong.
    pub(super) fn optional(&self) -> Option<Option<&T>> {
        match self {
            Given::Absent => Some(None),
            Given::Wrong => None,
            Given::Right { value, .. } => Some(Some(value)),
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Given::Right { place, .. } => Some(*place),
            _ => None,
        }
    }
}

/// A key in its quotes; what is no key but a description goes without.
fn called(label: &str) -> String {
    if label.contains(' ') { label.to_owned() } else { format!("`{label}`") }
}

fn unknown_key(key: &str, label: &str, known: &[&'static str]) -> Complaint {
    let complaint = Complaint::new(format!("unknown key {} in {}", shown(key), called(label)));
    complaint.hint(match nearest(key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the known keys are {}", listed(known)),
    })
}

/// The known word that a mistyped one is most likely to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::osa_distance(&word, candidate);
    let near = known.iter().copied().min_by_key(|candidate| distance(candidate))?;
    let tolerated = (near.len().max(word.len()) / 3).max(1);
    (distance(near) <= tolerated).then_some(near)
}

/// "`a`, `b`, `c`".
pub(super) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        let known = ["port", "ports", "protocol", "persistence", "key_file"];
        assert_eq!(nearest("prot", &known), Some("port"));
        assert_eq!(nearest("Ports", &known), Some("ports"));
        assert_eq!(nearest("persistance", &known), Some("persistence"));
        assert_eq!(nearest("key-file", &known), Some("key_file"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn only_what_was_left_out_is_stood_in_for() {
        let right = |value| Given::Right { place: Place::START, value };
        assert_eq!(Given::Absent.or(&right(1)).right(), Some(&1));
        assert_eq!(Given::Wrong.or(&right(1)).right(), None);
        assert_eq!(right(2).or(&right(1)).right(), Some(&2));
    }
}
