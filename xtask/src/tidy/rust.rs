//! The rules for Rust files, by their syntax.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Finding, Source};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Where aya may be named.
const AYA_PLACES: [&str; 5] =
    ["director/src/dataplane", "director/build", "director-ebpf/", "tests/", "xtask/"];

/// What decides, and does nothing else.
const PURE_PLACES: [&str; 10] = [
    "director/src/pool",
    "director/src/slots",
    "director/src/reconcile",
    "director/src/heartbeat/election",
    "director/src/heartbeat/machine",
    "director/src/heartbeat/node",
    "director/src/heartbeat/session",
    "director/src/heartbeat/settings",
    "director/src/heartbeat/spread",
    "director/src/heartbeat/view",
];

/// What reads a clock, or reaches out of the process.
const IMPURE: [&[&str]; 12] = [
    &["Instant", "now"],
    &["SystemTime"],
    &["std", "fs"],
    &["std", "io"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "env"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["tokio"],
    &["rustix"],
];

pub fn check(source: &Source) -> Vec<Finding> {
    let file = match syn::parse_file(&source.text) {
        Ok(file) => file,
        Err(error) => {
            return vec![source.finding(error.span().start().line, format!("does not parse: {error}"))];
        }
    };
    let mut measures = Measures::default();
    measures.visit_file(&file);
    let mut findings = Vec::new();
    findings.extend(long_file(source, &measures));
    for (line, name, length) in &measures.functions {
        if *length > FUNCTION_LINES {
            let message = format!("fn {name} has {length} lines, more than {FUNCTION_LINES}");
            findings.push(source.finding(*line, message));
        }
    }
    let words = Words::of(source);
    findings.extend(unsound_unsafe(source, &words));
    let own = words.0.iter().filter(|word| !measures.is_test(word.line)).collect::<Vec<_>>();
    findings.extend(aya_out_of_place(source, &own));
    findings.extend(impurity(source, &own));
    findings
}

/// Lengths, and which lines are tests.
#[derive(Default)]
struct Measures {
    /// First and last lines of what is compiled for tests only.
    tests: Vec<(usize, usize)>,
    /// Line, name and length.
    functions: Vec<(usize, String, usize)>,
}

impl Measures {
    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.functions.push((first, signature.ident.to_string(), last + 1 - first));
    }
}

impl<'ast> Visit<'ast> for Measures {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs[..],
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if attributes.iter().any(is_test_only) {
            self.tests.push((item.span().start().line, item.span().end().line));
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `#[cfg(test)]`, or with more conditions beside it.
fn is_test_only(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let mut first = list.tokens.clone().into_iter();
    match first.next() {
        Some(TokenTree::Ident(word)) if word == "test" => list.path.is_ident("cfg"),
        Some(TokenTree::Ident(word)) if word == "all" => {
            list.path.is_ident("cfg")
                && first.next().is_some_and(|group| group.to_string().starts_with("(test"))
        }
        _ => false,
    }
}

fn long_file(source: &Source, measures: &Measures) -> Option<Finding> {
    // A module of tests in a file of its own: its parent declares it under cfg(test).
    if source.path.ends_with("/tests.rs") || source.path.contains("/src/") && source.path.contains("/tests/")
    {
        return None;
    }
    let lines = (1..=source.text.lines().count()).filter(|line| !measures.is_test(*line)).count();
    (lines > FILE_LINES)
        .then(|| source.finding(1, format!("{lines} lines outside tests, more than {FILE_LINES}")))
}

/// Every identifier of a file, with what stands after it.
struct Words(Vec<Word>);

struct Word {
    text: String,
    line: usize,
    /// The next token is `::`.
    leads: bool,
    /// It opens an unsafe block, implementation, function or trait.
    opens_unsafe: bool,
}

impl Words {
    fn of(source: &Source) -> Words {
        let mut words = Words(Vec::new());
        words.add(source.text.parse().unwrap_or_default());
        words
    }

    fn add(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.add(group.stream()),
                TokenTree::Ident(word) => {
                    let next = tokens.get(index + 1);
                    self.0.push(Word {
                        text: word.to_string(),
                        line: word.span().start().line,
                        leads: matches!(next, Some(TokenTree::Punct(mark)) if mark.as_char() == ':')
                            && matches!(tokens.get(index + 2), Some(TokenTree::Punct(mark)) if mark.as_char() == ':'),
                        opens_unsafe: word == "unsafe" && next.is_some_and(is_unsafe_body),
                    });
                }
                _ => {}
            }
        }
    }
}

/// Not `#[unsafe(no_mangle)]`, nor a pointer to an unsafe function.
fn is_unsafe_body(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(word) => word == "impl" || word == "fn" || word == "trait",
        _ => false,
    }
}

fn unsound_unsafe(source: &Source, words: &Words) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let unexplained = |word: &&Word| {
        // The comment may stand before the whole statement, or above other attributes and comments.
        let before = lines[..word.line].iter().rev().take_while(|line| !line.trim().is_empty()).take(40);
        word.opens_unsafe
            && !before.into_iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
    };
    let found = words.0.iter().filter(unexplained);
    found.map(|word| source.finding(word.line, "unsafe without a SAFETY comment before it")).collect()
}

fn aya_out_of_place(source: &Source, words: &[&Word]) -> Vec<Finding> {
    if AYA_PLACES.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let named = words.iter().filter(|word| word.text == "aya" || word.text.starts_with("aya_"));
    named.map(|word| source.finding(word.line, "aya is named in director/src/dataplane alone")).collect()
}

fn impurity(source: &Source, words: &[&Word]) -> Vec<Finding> {
    if !PURE_PLACES.iter().any(|place| source.path.starts_with(place)) || source.path.contains("/tests") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for start in 0..words.len() {
        if let Some(path) = IMPURE.iter().find(|path| is_path(&words[start..], path)) {
            let message = format!("{}: what decides reads no clock and does no I/O", path.join("::"));
            findings.push(source.finding(words[start].line, message));
        }
    }
    findings
}

fn is_path(words: &[&Word], path: &[&str]) -> bool {
    let last = path.len() - 1;
    words.len() > last
        && path
            .iter()
            .zip(words)
            .enumerate()
            .all(|(index, (name, word))| word.text == *name && (index == last || word.leads))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.into() };
        check(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let line = "const A: u8 = 0;\n";
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(100));
        assert!(messages("a.rs", &(line.repeat(500) + &tests)).is_empty());
        let long = messages("a.rs", &(line.repeat(501) + &tests));
        assert_eq!(long, ["a.rs:1: 501 lines outside tests, more than 500"]);
        assert!(messages("a/src/tests.rs", &line.repeat(900)).is_empty());
        assert!(messages("a/src/b/tests/c.rs", &line.repeat(900)).is_empty());
        assert_eq!(messages("tests/tests/c.rs", &line.repeat(900)).len(), 1);
    }

    #[test]
    fn a_function_has_at_most_seventy_lines() {
        let function =
            |lines: usize| format!("/// Words.\n#[inline]\nfn f() {{\n{}}}\n", "f();\n".repeat(lines));
        assert!(messages("a.rs", &function(68)).is_empty());
        assert_eq!(messages("a.rs", &function(69)), ["a.rs:3: fn f has 71 lines, more than 70"]);
        let method = format!("impl A {{\n{}}}\n", function(69));
        assert_eq!(messages("a.rs", &method), ["a.rs:4: fn f has 71 lines, more than 70"]);
    }

    #[test]
    fn unsafe_says_why() {
        assert!(messages("a.rs", "fn f() {\n    // SAFETY: sound.\n    unsafe { g() }\n}\n").is_empty());
        assert!(messages("a.rs", "/// # Safety\n/// Mind it.\npub unsafe fn f() {}\n").is_empty());
        assert!(
            messages("a.rs", "#[unsafe(no_mangle)]\nstatic A: unsafe extern \"C\" fn() = g;\n").is_empty()
        );
        assert!(messages("a.rs", "// unsafe { }\nconst A: &str = \"unsafe { }\";\n").is_empty());
        let bare = messages("a.rs", "// SAFETY: of another\n\nfn f() {\n    unsafe { g() }\n}\n");
        assert_eq!(bare, ["a.rs:4: unsafe without a SAFETY comment before it"]);
        assert_eq!(messages("a.rs", "unsafe impl Send for A {}\n").len(), 1);
        assert_eq!(messages("a.rs", "fn f() {\n    m!(unsafe { g() });\n}\n").len(), 1);
    }

    #[test]
    fn aya_stays_in_its_place() {
        let text = "use aya::maps::Array;\n";
        assert_eq!(messages("director/src/daemon.rs", text).len(), 1);
        assert_eq!(messages("director/src/daemon.rs", "fn f() { aya_log::g(); }\n").len(), 1);
        for place in ["director/src/dataplane/maps.rs", "director-ebpf/src/main.rs", "tests/src/a.rs"] {
            assert!(messages(place, text).is_empty(), "{place}");
        }
        assert!(messages("director/src/daemon.rs", "// aya\nfn himalaya() {}\n").is_empty());
    }

    #[test]
    fn what_decides_is_pure() {
        let clock = "fn f() { let now = std::time::Instant::now(); }\n";
        for place in [
            "director/src/pool.rs",
            "director/src/slots/wrr.rs",
            "director/src/reconcile/mod.rs",
            "director/src/heartbeat/election.rs",
            "director/src/heartbeat/node/other.rs",
        ] {
            assert_eq!(messages(place, clock).len(), 1, "{place}");
        }
        for place in ["director/src/daemon.rs", "director/src/heartbeat/driver.rs"] {
            assert!(messages(place, clock).is_empty(), "{place}");
        }
        for text in ["use std::net::UdpSocket;\n", "use std::fs;\n", "use std::time::SystemTime;\n"] {
            assert_eq!(messages("director/src/pool.rs", text).len(), 1, "{text}");
        }
        let fine = "use std::net::IpAddr;\nuse std::time::Instant;\nfn f(now: Instant) {}\n";
        assert!(messages("director/src/pool.rs", fine).is_empty());
        let tested = format!("#[cfg(test)]\nmod tests {{\n{clock}}}\n");
        assert!(messages("director/src/pool.rs", &tested).is_empty());
    }

    #[test]
    fn what_does_not_parse_is_said() {
        assert!(messages("a.rs", "fn f( {\n")[0].contains("does not parse"));
    }
}
