//! Taking the values of a mapping one after the other, all of them, also when one is wrong.

use super::reader::{Complaint, Fields, Given, Reader};
use super::tree::Tree;

/// Takes one value after the other, and remembers whether all were right.
pub(super) struct Taker<'r, 'f, 't> {
    pub(super) reader: &'r mut Reader,
    pub(super) fields: &'f Fields<'t>,
    /// What messages call the mapping: "this check".
    what: &'static str,
    /// Whether nothing was wrong so far.
    pub(super) whole: bool,
}

impl<'r, 'f, 't> Taker<'r, 'f, 't> {
    pub(super) fn new(reader: &'r mut Reader, fields: &'f Fields<'t>, what: &'static str) -> Self {
        Taker { reader, fields, what, whole: true }
    }

    /// A value and its place.
    pub(super) fn given<T>(
        &mut self,
        key: &str,
        make: impl FnOnce(&Tree, &str) -> Result<T, Complaint>,
    ) -> Given<T> {
        let given = self.fields.value(self.reader, key, make);
        self.whole &= !matches!(given, Given::Wrong);
        given
    }

    /// The same by a function that complains for itself, and returns `None` then.
    pub(super) fn with<T>(
        &mut self,
        key: &str,
        make: impl FnOnce(&mut Reader, &'t Tree) -> Option<T>,
    ) -> Given<T> {
        let given = self.fields.with(self.reader, key, make);
        self.whole &= !matches!(given, Given::Wrong);
        given
    }

    /// A value that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        make: impl FnOnce(&Tree, &str) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.given(key, make).into_right()
    }

    /// A value, or what stands in for it where it is left out.
    pub(super) fn or<T>(
        &mut self,
        key: &str,
        make: impl FnOnce(&Tree, &str) -> Result<T, Complaint>,
        otherwise: T,
    ) -> T {
        self.optional(key, make).unwrap_or(otherwise)
    }

    /// A value that must be there; complains if it is not. `None` where it is missing or wrong.
    pub(super) fn needed<T>(
        &mut self,
        key: &str,
        make: impl FnOnce(&Tree, &str) -> Result<T, Complaint>,
        example: &str,
    ) -> Option<T> {
        self.need(key, example);
        self.optional(key, make)
    }

    /// Complains if a key is not there.
    pub(super) fn need(&mut self, key: &str, example: &str) {
        if self.fields.entry(key).is_none() {
            let complaint = Complaint::new(format!("{} needs `{key}`", self.what));
            self.reader.error(self.fields.place, complaint.hint(format!("write {key}: {example}")));
            self.whole = false;
        }
    }
}
