//! Every section and key of the configuration, once: its form, its bounds, its default and what it means. The JSON schema for editors and
//! the reference in the guide are made of these tables, and tests hold them against what the reader takes. Pure.

mod checks;
mod cluster;
mod forms;
mod markdown;
mod schema;
mod sections;
mod services;

pub use markdown::markdown;
pub use schema::{as_json, schema};

/// A mapping of known keys.
#[derive(Debug)]
struct Section {
    /// Where it stands: the keys that lead to it. Empty for the whole file.
    path: &'static str,
    /// What it is for, in a sentence or two.
    says: &'static str,
    keys: &'static [Key],
    rules: &'static [Rule],
}

/// A key, and what may stand there.
#[derive(Clone, Copy, Debug)]
struct Key {
    name: &'static str,
    form: Form,
    presence: Presence,
    otherwise: Otherwise,
    /// What it is, in a sentence.
    says: &'static str,
    /// A value, as YAML.
    example: &'static str,
}

/// Whether a key may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Optional,
    Needed,
    /// Needed, in the service or in `defaults`.
    Somewhere,
}

/// What holds where a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// Nothing that a value could say.
    Nothing,
    /// The same as with this value.
    Value(&'static str),
    /// What these words say.
    Words(&'static str),
}

/// What keys of a section have to do with each other.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// At most one of them.
    NotBoth(&'static str, &'static str),
    /// One of them at least.
    AnyOf(&'static str, &'static str),
}

/// The form of a value.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// `true` or `false`.
    Flag,
    /// Just this one of the two.
    Just(bool),
    /// A whole number from the first to the second.
    Whole(i64, i64),
    /// One of these numbers.
    Numbers(&'static [i64]),
    /// A duration from the first to the second, as they are written.
    Duration(&'static str, &'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text: what it is in words, and an expression that all such texts match.
    Text(&'static str, &'static str),
    /// A list of such values, of so many at least and at most.
    List(&'static Form, usize, Option<usize>),
    /// Any of these.
    Either(&'static [Form]),
    /// A section.
    Mapping(&'static Section),
    /// A mapping of names to such values; what the names are, in words.
    Named(&'static str, &'static Form),
    /// A check, whose keys depend on its `type`.
    Check,
    /// The section of services, as `defaults` has it.
    Defaults,
}

/// A type of checks.
#[derive(Debug)]
struct CheckType {
    name: &'static str,
    /// What it does.
    says: &'static str,
    /// Its keys besides the common ones.
    keys: &'static [Key],
    /// Whether it has the keys of TLS, too.
    tls: bool,
}

/// A key that may be left out.
const fn key(name: &'static str, form: Form, says: &'static str, example: &'static str) -> Key {
    Key { name, form, presence: Presence::Optional, otherwise: Otherwise::Nothing, says, example }
}

impl Key {
    const fn needed(self) -> Key {
        Key { presence: Presence::Needed, ..self }
    }

    const fn somewhere(self) -> Key {
        Key { presence: Presence::Somewhere, ..self }
    }

    /// It is the same to leave it out or to write this.
    const fn default(self, value: &'static str) -> Key {
        Key { otherwise: Otherwise::Value(value), ..self }
    }

    /// What holds where it is left out.
    const fn without(self, words: &'static str) -> Key {
        Key { otherwise: Otherwise::Words(words), ..self }
    }
}

/// Every section that the configuration has, each followed by those in it. Checks' types come besides.
fn all() -> Vec<&'static Section> {
    let mut found = Vec::new();
    add(&sections::FILE, &mut found);
    found
}

fn add(section: &'static Section, found: &mut Vec<&'static Section>) {
    if found.iter().any(|known| known.path == section.path) {
        return;
    }
    found.push(section);
    section.keys.iter().for_each(|key| add_form(&key.form, found));
    if section.path == checks::COMMON.path {
        checks::TYPES.iter().flat_map(|kind| kind.keys).for_each(|key| add_form(&key.form, found));
    }
}

fn add_form(form: &Form, found: &mut Vec<&'static Section>) {
    match form {
        Form::Mapping(section) => add(section, found),
        Form::List(of, ..) | Form::Named(_, of) => add_form(of, found),
        Form::Either(forms) => forms.iter().for_each(|form| add_form(form, found)),
        Form::Check => add(&checks::COMMON, found),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
