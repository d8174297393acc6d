//! YAML text → [`Tree`], out of the events of `saphyr-parser`: without recursion, to a limited depth, and with everything
//! refused that configurations do without: anchors, merge keys, tags of one's own, a second document.

use std::collections::HashMap;
use std::ops::ControlFlow;

use saphyr_parser::{Event, Marker, Parser, ScanError, Tag};

use super::reader::{Complaint, Reader};
use super::scalar;
use super::tree::{Entry, Kind, Place, Tree, shown};

/// Longest text that is looked at, in bytes: far more than a configuration at its limits needs.
const MAX_TEXT: usize = 16 << 20;
/// How many lists and mappings may be within one another. It bounds the recursion of whoever walks a tree, its drop too.
const MAX_DEPTH: usize = 64;
/// Errors after which the rest of a text is not looked at.
const MAX_ERRORS: usize = 1_000;
/// Entries that a mapping has before its keys get an index.
const SMALL: usize = 32;

/// How to do without anchors, aliases and merge keys.
const SHARE: &str = "set what services share under `defaults`";

/// Reads a text. What is wrong goes to the reader; the tree is there unless the text is no YAML at all, and then what is
/// wrong in it is [`Kind::Broken`] or left out.
pub(super) fn parse(text: &str, reader: &mut Reader) -> Option<Tree> {
    if text.len() > MAX_TEXT {
        let what = format!("the configuration is longer than {} MiB", MAX_TEXT >> 20);
        reader.error(Place::START, Complaint::new(what));
        return None;
    }
    let mut builder = Builder::new(reader);
    for event in Parser::new_from_str(text) {
        let done = match event {
            Ok((event, span)) => builder.event(event, place(&span.start)),
            Err(error) => builder.give_up(place(error.marker()), syntax(&error)),
        };
        if done.is_break() {
            break;
        }
    }
    builder.root
}

/// Makes a tree of events.
struct Builder<'r> {
    reader: &'r mut Reader,
    /// The collections that have begun and not ended, the innermost last; at most [`MAX_DEPTH`].
    open: Vec<Open>,
    /// How many documents have begun.
    documents: usize,
    /// The first document; null until it is read, nothing once it is given up.
    root: Option<Tree>,
}

/// A collection that has begun.
struct Open {
    place: Place,
    /// Whether it is complained of as a whole.
    broken: bool,
    content: Content,
}

enum Content {
    List(Vec<Tree>),
    Map(Mapping),
}

impl<'r> Builder<'r> {
    fn new(reader: &'r mut Reader) -> Builder<'r> {
        let empty = Tree { place: Place::START, kind: Kind::Null };
        Builder { reader, open: Vec::new(), documents: 0, root: Some(empty) }
    }

    /// Takes an event that begins at a place; breaks when there is no use in more of them.
    fn event(&mut self, event: Event<'_>, place: Place) -> ControlFlow<()> {
        let node = matches!(
            event,
            Event::Alias(_) | Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..)
        );
        if node && self.documents > 1 {
            let complaint = Complaint::new("a configuration is one YAML document, and here begins another")
                .hint("remove the `---` before it, or what follows");
            self.reader.error(place, complaint);
            return ControlFlow::Break(());
        }
        match event {
            Event::DocumentStart(_) => self.documents += 1,
            Event::Alias(_) => {
                self.reader.error(place, alias());
                self.add(Tree { place, kind: Kind::Broken });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.anchor(place, anchor);
                let kind = scalar::resolve(text.into_owned(), style, tag.as_deref());
                let kind = self.reader.take(place, kind).unwrap_or(Kind::Broken);
                self.add(Tree { place, kind });
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(place, anchor, tag.as_deref(), Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(place, anchor, tag.as_deref(), Content::Map(Mapping::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if self.reader.errors.len() >= MAX_ERRORS {
            let what = format!("{MAX_ERRORS} errors up to here; what follows is not looked at");
            return self.give_up(place, Complaint::new(what));
        }
        ControlFlow::Continue(())
    }

    /// Complains of what leaves no tree.
    fn give_up(&mut self, place: Place, complaint: Complaint) -> ControlFlow<()> {
        self.reader.error(place, complaint);
        self.root = None;
        ControlFlow::Break(())
    }

    /// Complains of a value's anchor, if it has one: the parser numbers them from 1.
    fn anchor(&mut self, place: Place, anchor: usize) {
        if anchor > 0 {
            self.reader.error(place, Complaint::new("anchors (`&name`) are not understood here").hint(SHARE));
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, tag: Option<&Tag>, content: Content) -> ControlFlow<()> {
        if self.open.len() >= MAX_DEPTH {
            return self.give_up(place, too_deep());
        }
        self.anchor(place, anchor);
        let name = if matches!(content, Content::List(_)) { "seq" } else { "map" };
        let broken = self.reader.take(place, scalar::check_tag(tag, name)).is_none();
        self.open.push(Open { place, broken, content });
        ControlFlow::Continue(())
    }

    fn end(&mut self) {
        // The parser ends what it began, and nothing else.
        let Some(Open { place, broken, content }) = self.open.pop() else { return };
        let kind = match content {
            _ if broken => Kind::Broken,
            Content::List(items) => Kind::List(items),
            Content::Map(mapping) => Kind::Map(mapping.entries),
        };
        self.add(Tree { place, kind });
    }

    /// Puts a whole value where it belongs.
    fn add(&mut self, tree: Tree) {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(tree),
            Some(Content::List(items)) => items.push(tree),
            Some(Content::Map(mapping)) => mapping.add(tree, self.reader),
        }
    }
}

/// A mapping that has begun: its keys and values come by turns.
#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// Where the entries are by their keys; empty while they are few.
    index: HashMap<String, usize>,
    next: Next,
}

/// What comes next in a mapping.
#[derive(Default)]
enum Next {
    #[default]
    Key,
    /// The value of a key.
    Value(String, Place),
    /// The value of a key that is complained of: looked at for what is wrong in it as YAML, no further.
    Dropped,
}

impl Mapping {
    fn add(&mut self, tree: Tree, reader: &mut Reader) {
        self.next = match std::mem::take(&mut self.next) {
            Next::Key => self.key(tree, reader),
            Next::Value(key, place) => {
                self.entries.push(Entry { key, place, value: tree });
                Next::Key
            }
            Next::Dropped => Next::Key,
        };
    }

    fn key(&mut self, Tree { place, kind }: Tree, reader: &mut Reader) -> Next {
        let key = match kind {
            Kind::Text(text) => text,
            Kind::Int(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            Kind::Bool(flag) => flag.to_string(),
            Kind::Null => {
                reader.error(place, Complaint::new("here is a value without a key"));
                return Next::Dropped;
            }
            Kind::List(_) | Kind::Map(_) => {
                let complaint = Complaint::new("a key must be a word").hint("a mapping reads `key: value`");
                reader.error(place, complaint);
                return Next::Dropped;
            }
            Kind::Broken => return Next::Dropped,
        };
        if key == "<<" {
            reader.error(place, Complaint::new("merge keys (`<<`) are not understood here").hint(SHARE));
            return Next::Dropped;
        }
        if let Some(Place { line, column }) = self.given(&key) {
            // A column is of use only where the line is the same.
            let at = if line == place.line { format!(", column {column}") } else { String::new() };
            let what = format!("{} is given twice, first on line {line}{at}", shown(&key));
            reader.error(place, Complaint::new(what).hint("keep one of them"));
            return Next::Dropped;
        }
        Next::Value(key, place)
    }

    /// Where a key stands already.
    fn given(&mut self, key: &str) -> Option<Place> {
        if self.entries.len() < SMALL {
            return self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.place);
        }
        // No key is there twice, so the index has as many keys as the entries that it knows.
        for (at, entry) in self.entries.iter().enumerate().skip(self.index.len()) {
            self.index.insert(entry.key.clone(), at);
        }
        self.index.get(key).and_then(|&at| self.entries.get(at)).map(|entry| entry.place)
    }
}

fn place(marker: &Marker) -> Place {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: small(marker.line()).max(1), column: small(marker.col()).saturating_add(1) }
}

fn alias() -> Complaint {
    Complaint::new("aliases (`*name`) are not understood here")
        .hint(format!("{SHARE}; quote a text that begins with `*`"))
}

fn too_deep() -> Complaint {
    Complaint::new(format!("lists and mappings are nested more than {MAX_DEPTH} deep"))
}

/// The parser's words for a syntax error, with what mostly is behind it.
fn syntax(error: &ScanError) -> Complaint {
    const CAUSES: [(&str, &str); 8] = [
        ("tab", "indent with spaces: YAML takes no tabs there"),
        ("mapping values are not allowed", "quote a text that holds `: `, and look at the indentation"),
        ("simple key", "a line of a mapping reads `key: value`; look at the indentation here and above"),
        ("expected key", "a line of a mapping reads `key: value`; look at the indentation here and above"),
        ("flow mapping", "`{` is closed by `}`, and `,` stands between entries"),
        ("flow sequence", "`[` is closed by `]`, and `,` stands between items"),
        ("quoted scalar", "look at where the quoted text begins, and how it ends"),
        ("node content", "quote a text that begins with a special character"),
    ];
    match error.info() {
        // The parser looks ahead, and has a limit of its own for that.
        "recursion limit exceeded" => return too_deep(),
        "while parsing node, found unknown anchor" => return alias(),
        _ => {}
    }
    let complaint = Complaint::new(format!("this is not YAML: {}", error.info()));
    match CAUSES.iter().find(|(part, _)| error.info().contains(part)) {
        Some((_, hint)) => complaint.hint(*hint),
        None => complaint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of a text, each as line, column and message, and whether there is a tree.
    fn errors(text: &str) -> (Vec<(u32, u32, String)>, bool) {
        let mut reader = Reader::default();
        let tree = parse(text, &mut reader);
        (reader.errors.into_iter().map(|e| (e.line, e.column, e.message)).collect(), tree.is_some())
    }

    #[track_caller]
    fn finds(text: &str, expected: &[(u32, u32, &str)], tree: bool) {
        let (found, whole) = errors(text);
        let fits = found.len() == expected.len()
            && found.iter().zip(expected).all(|(f, e)| (f.0, f.1) == (e.0, e.1) && f.2.contains(e.2));
        assert!(fits && whole == tree, "{text:?}: {found:?} {whole}");
    }

    fn nested(open: &str, depth: usize, close: &str) -> String {
        open.repeat(depth) + &close.repeat(depth)
    }

    #[test]
    fn places_are_where_a_value_begins() {
        let mut reader = Reader::default();
        let tree = parse("a:\n  - {bé: \"c\", d: 1}\n", &mut reader).unwrap();
        let Kind::Map(top) = &tree.kind else { panic!("{tree:?}") };
        let Kind::List(items) = &top[0].value.kind else { panic!("{tree:?}") };
        let Kind::Map(inner) = &items[0].kind else { panic!("{tree:?}") };
        let places: Vec<Place> =
            vec![tree.place, top[0].value.place, items[0].place, inner[0].value.place, inner[1].place];
        let expected = [(1, 1), (2, 3), (2, 5), (2, 10), (2, 15)];
        assert_eq!(places, expected.map(|(line, column)| Place { line, column }));
        assert!(reader.errors.is_empty());
    }

    #[test]
    fn lines_are_counted_as_yaml_counts_them() {
        for (text, line) in
            [("&a 1", 1), ("x:\n &a 1", 2), ("\r\n\r\n&a 1", 3), ("# x\r&a 1", 2), ("\n\r\n\r&a 1", 4)]
        {
            assert_eq!(errors(text).0[0].0, line, "{text:?}");
        }
    }

    #[test]
    fn every_anchor_and_alias_is_named() {
        let anchor = "anchors (`&name`)";
        let alias = "aliases (`*name`)";
        finds(
            "a: &x 1\nb: [*x, &y {c: d}]\n&z e: *y\n*x : 5\n",
            &[(1, 4, anchor), (2, 5, alias), (2, 9, anchor), (3, 1, anchor), (3, 7, alias), (4, 1, alias)],
            true,
        );
        finds("a: &x\n", &[(1, 4, anchor)], true);
        finds("a: !!int &x 5\n", &[(1, 4, anchor)], true);
        finds("a: *.example.com\n", &[(1, 4, alias)], false);
        for text in
            ["a: /x?y=1&z=2", "a: b && c", "a: b & c", "# &a", "a: b # &c", "a: \"x &b\"", "a&b", "'&a *b'"]
        {
            finds(text, &[], true);
        }
    }

    #[test]
    fn merge_keys_and_the_aliases_in_them_are_named() {
        finds("<<: {a: 1}\nb: 2\n", &[(1, 1, "merge keys")], true);
        finds(
            "x: &x {a: 1}\ny: {<<: [*x], b: 2}\n",
            &[(1, 4, "anchors"), (2, 5, "merge keys"), (2, 10, "aliases")],
            true,
        );
    }

    #[test]
    fn every_repeated_key_is_named_with_the_first_place() {
        finds(
            "a: 1\n\"a\": {b: 1, b: 2}\n",
            &[(2, 1, "first on line 1"), (2, 13, "first on line 2, column 7")],
            true,
        );
        finds(
            "a:\n  b: 1\n  c: 2\n  b: [\n",
            &[(4, 3, "`b` is given twice, first on line 2"), (5, 1, "YAML")],
            false,
        );
        // More keys than are looked through one by one, each three times.
        let keys: String = (0..150).map(|n| format!("k{}: {n}\n", n % 50)).collect();
        let (found, _) = errors(&keys);
        assert_eq!(found.len(), 100);
        for (at, (line, _, message)) in found.iter().enumerate() {
            assert_eq!(*line as usize, 51 + at);
            assert_eq!(*message, format!("`k{0}` is given twice, first on line {1}", at % 50, at % 50 + 1));
        }
    }

    #[test]
    fn keys_are_words() {
        finds("? [a]\n: b\n", &[(1, 3, "a key must be a word")], true);
        finds(
            "{: 1, ~: 2, 1: 3, \"1\": 4}\n",
            &[(1, 2, "without a key"), (1, 7, "without a key"), (1, 19, "`1` is given twice")],
            true,
        );
        finds("!x a: 1\n", &[(1, 1, "tags are not")], true);
    }

    #[test]
    fn tags_are_of_the_core_schema() {
        finds("!!map\na: !!seq [!!str 1, !!float 2]\n", &[], true);
        finds("%TAG ! tag:yaml.org,2002:\n---\na: !int 5\n", &[], true);
        finds("a: !!map [1]\nb: !x {c: !y d}\n", &[(1, 4, "fit"), (2, 4, "`!x`"), (2, 11, "`!y`")], true);
        finds("a: !!set {b}\n", &[(1, 4, "fit")], true);
        finds("%TAG !! tag:example.com,2026:\n---\na: !!int 5\n", &[(3, 4, "tags are not understood")], true);
    }

    #[test]
    fn there_is_one_document() {
        let second = "here begins another";
        finds("%YAML 1.2\n---\na: b\n...\n", &[], true);
        finds("a: b\n--- c\n", &[(2, 5, second)], true);
        finds("a: b\n...\nc: [", &[(3, 1, second)], true);
        finds("---\n---\na: b\n--- c\n", &[(3, 1, second)], true);
        let mut reader = Reader::default();
        for empty in ["", "# x\n", "---\n", "...\n", "\u{feff}", "~"] {
            assert_eq!(parse(empty, &mut reader).unwrap().kind, Kind::Null, "{empty:?}");
        }
        assert_eq!(reader.errors, []);
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = "more than 64 deep";
        finds(&nested("[", 64, "]"), &[], true);
        finds(&nested("[", 65, "]"), &[(1, 65, deep)], false);
        finds(&nested("[", 100_000, "]"), &[(1, 256, deep)], false);
        finds(&"[".repeat(100_000), &[(1, 256, deep)], false);
        finds(&"- ".repeat(100_000), &[(1, 129, deep)], false);
        finds(&"? ".repeat(100_000), &[(1, 129, deep)], false);
        let block = |levels| (0..levels).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
        finds(&block(64), &[], true);
        finds(&block(1_000), &[(65, 65, deep)], false);
        for text in ["[a: ", "{a: ", "{? ", "[? ", "a: [", "- [", "!!seq [", "&a [", "- ? - "] {
            let (found, whole) = errors(&text.repeat(100_000));
            assert!(!found.is_empty() && !whole, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_text_and_its_errors_have_an_end() {
        finds(&"#".repeat(MAX_TEXT), &[], true);
        finds(&"#".repeat(MAX_TEXT + 1), &[(1, 1, "longer than 16 MiB")], false);
        let (found, whole) = errors(&"a: 1\n".repeat(5_000));
        assert_eq!((found.len(), whole), (MAX_ERRORS + 1, false));
        assert_eq!(found[MAX_ERRORS].2, "1000 errors up to here; what follows is not looked at");
    }
}
