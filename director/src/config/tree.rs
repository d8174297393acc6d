//! The configuration as it was written: a tree of values that know where they stand.

/// A place in the text: line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    /// Where a text begins.
    pub(super) const START: Place = Place { line: 1, column: 1 };
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    /// In the order of the text; no key twice.
    Map(Vec<Entry>),
    /// Already complained of.
    Broken,
}

/// A key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Tree,
}

impl Tree {
    /// What stands here, as it completes "must be a number, found …".
    pub(super) fn found(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(flag) => flag.to_string(),
            Kind::Int(number) => format!("the number {number}"),
            Kind::Float(number) => format!("the number {number}"),
            Kind::Text(text) => format!("the text {}", shown(text)),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
            Kind::Broken => "something unreadable".into(),
        }
    }
}

/// A text from the configuration within a message: quoted, on one line, and not without end.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("`");
    out.extend(text.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }));
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_wild_text_stays_on_one_line() {
        assert_eq!(shown("a\nb"), "`a?b`");
        assert_eq!(shown(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
        assert_eq!(shown(&"x".repeat(60)), format!("`{}`", "x".repeat(60)));
    }

    #[test]
    fn what_was_found() {
        let found = |kind| Tree { place: Place::START, kind }.found();
        assert_eq!(found(Kind::Null), "nothing");
        assert_eq!(found(Kind::Int(5)), "the number 5");
        assert_eq!(found(Kind::Text("five".into())), "the text `five`");
        assert_eq!(found(Kind::List(Vec::new())), "a list");
    }
}
