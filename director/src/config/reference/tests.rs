use std::collections::BTreeSet;
use std::path::PathBuf;

use boon::{Compiler, Schemas};

use super::*;
use crate::config::doc_examples::{self, SampleFile};
use crate::config::{Loaded, Problem, parse, values};

/// A key that is like no other.
const STRANGER: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// A file around a section, which stands in the place of `@`, and with the keys that this needs.
struct Around {
    keys: Vec<Key>,
    rules: &'static [Rule],
    file: String,
    /// As a rule in braces; the whole file is not.
    block: bool,
    base: Vec<(&'static str, &'static str)>,
}

const HEAD: &str = "interfaces: [eth0]\nvips: [{ address: 192.0.2.10/24, interface: eth0 }]\n";

fn in_service(text: &str) -> String {
    format!(
        "{HEAD}services: [{{ name: web, address: 192.0.2.10, port: 80, forward: nat, persistence: {{}}, {text} }}]\n"
    )
}

fn in_heartbeat(text: &str) -> String {
    format!("{HEAD}services: []\nheartbeat: {{ key_file: /k, {text} }}\n")
}

const DIRECTORS: &str =
    "directors: [{ name: lb1, links: [{ udp: 192.0.2.11 }] }, { name: lb2, links: [{ udp: 192.0.2.12 }] }]";

/// Every section in a file.
fn around(section: &'static Section) -> Around {
    let (file, base): (String, &[_]) = match section.path {
        "" => (
            "@".into(),
            &[
                ("interfaces", "[eth0]"),
                ("vips", "[{ address: 192.0.2.10/24, interface: eth0 }]"),
                ("services", "[{ name: web, address: 192.0.2.10, port: 80, forward: direct }]"),
            ],
        ),
        "vips" => (
            "interfaces: [eth0]\nvips: [{ @ }]\nservices: []\n".into(),
            &[("address", "192.0.2.10/24"), ("interface", "eth0")],
        ),
        "http" => (format!("{HEAD}services: []\nhttp: {{ @ }}\n"), &[("listen", "\"127.0.0.1:9694\"")]),
        "limits" => (format!("{HEAD}services: []\nlimits: {{ @ }}\n"), &[]),
        "probes" => (format!("{HEAD}services: []\nprobes: {{ @ }}\n"), &[]),
        "notify" => (format!("{HEAD}services: []\nnotify: {{ @ }}\n"), &[("command", "/bin/true")]),
        "notify.mail" => (
            format!("{HEAD}services: []\nnotify: {{ mail: {{ @ }} }}\n"),
            &[("to", "a@example.org"), ("from", "b@example.org")],
        ),
        "services" => (
            format!("{HEAD}services: [{{ @ }}]\n"),
            &[("name", "web"), ("address", "192.0.2.10"), ("port", "80"), ("forward", "direct")],
        ),
        "services.persistence" => (in_service("persistence: { @ }").replace("persistence: {}, ", ""), &[]),
        "services.timeouts" => (in_service("timeouts: { @ }"), &[]),
        "services.reals" => (in_service("reals: [{ @ }]"), &[("address", "192.0.2.21")]),
        "services.fallback" => (in_service("fallback: { @ }"), &[("address", "192.0.2.99")]),
        // The type comes from `defaults`.
        "services.check" => {
            (format!("{}defaults: {{ check: {{ type: ping }} }}\n", in_service("check: { @ }")), &[])
        }
        "services.check.weight" => {
            (in_service("check: { type: http, weight: { @ } }"), &[("header", "X-Weight")])
        }
        _ => around_in_cluster(section),
    };
    let (file, base) = (file, base.to_vec());
    let block = section.path.is_empty();
    Around { keys: section.keys.to_vec(), rules: section.rules, file, block, base }
}

/// The same for the sections of a cluster.
fn around_in_cluster(section: &'static Section) -> (String, &'static [(&'static str, &'static str)]) {
    let cluster = |text: &str| in_heartbeat(&format!("{DIRECTORS}, {text}"));
    let group = |text: &str| cluster(&format!("groups: [{{ name: default, {text} }}]"));
    let first = "name: lb1, links: [{ udp: 192.0.2.11 }]";
    let link = |second: &str| {
        in_heartbeat(&format!(
            "directors: [{{ name: lb1, links: [{{ {second} }}] }}, {{ name: lb2, links: [{{ @ }}] }}]"
        ))
    };
    match section.path {
        "heartbeat" => (
            format!("{HEAD}services: []\nheartbeat: {{ @ }}\n"),
            &[
                ("key_file", "/k"),
                (
                    "directors",
                    "[{ name: lb1, links: [{ udp: 192.0.2.1 }] }, { name: lb2, links: [{ udp: 192.0.2.2 }] }]",
                ),
            ],
        ),
        "heartbeat.directors" => (
            in_heartbeat(
                &format!("directors: [{{ {} }}, {{ @ }}]", first.replace("lb1", "lb2"))
                    .replace("192.0.2.11", "192.0.2.12"),
            ),
            &[("name", "lb1"), ("links", "[{ udp: \"192.0.2.11\" }]")],
        ),
        "heartbeat.directors.links: udp" => (link("udp: 192.0.2.11"), &[("udp", "192.0.2.12")]),
        "heartbeat.directors.links: multicast" => (
            link("multicast: 239.255.0.1, interface: eth1"),
            &[("multicast", "239.255.0.1"), ("interface", "eth1")],
        ),
        "heartbeat.directors.links: serial" => (link("serial: /dev/ttyS0"), &[("serial", "/dev/ttyS0")]),
        "heartbeat.track" => {
            (cluster("track: [{ @ }]"), &[("name", "nginx"), ("command", "[/usr/bin/pgrep, nginx]")])
        }
        "heartbeat.balance" => (cluster("balance: { @ }"), &[]),
        "heartbeat.announce" => (cluster("announce: { @ }"), &[]),
        "heartbeat.groups" => (cluster("groups: [{ @ }]"), &[("name", "default")]),
        "heartbeat.groups.takeover" => (group("takeover: { @ }"), &[("command", "[/bin/true]")]),
        "heartbeat.groups.takeover.dns" => (
            group("takeover: { dns: { @ } }"),
            &[
                ("server", "192.0.2.53"),
                ("zone", "example.org."),
                ("name", "www.example.org."),
                ("tsig_file", "/t"),
                ("addresses", "{ lb1: [192.0.2.11], lb2: [192.0.2.12] }"),
            ],
        ),
        "heartbeat.groups.resources" => (
            group("resources: [{ @ }]"),
            &[("name", "route"), ("start", "[/bin/true]"), ("stop", "[/bin/true]")],
        ),
        other => panic!("no file around the section {other:?}: write one"),
    }
}

/// Every section and every type of checks in a file.
fn everything() -> Vec<(String, Around)> {
    let mut all: Vec<(String, Around)> =
        super::all().into_iter().map(|section| (section.path.to_owned(), around(section))).collect();
    for kind in &checks::TYPES {
        let mut base: Vec<_> = schema::keys_of(kind)
            .filter(|key| key.presence == Presence::Needed)
            .map(|key| (key.name, key.example))
            .collect();
        base.extend(
            kind.tls.then_some(("tls", "true")).filter(|_| kind.keys.iter().any(|key| key.name == "tls")),
        );
        if kind.keys.iter().any(|key| key.name == "security") && kind.name != "ldaps" {
            base.push(("security", "tls"));
        }
        let keys = schema::keys_of(kind).filter(|key| key.name != "type").copied().collect();
        let file = in_service(&format!("check: {{ type: {}, @ }}", kind.name));
        all.push((format!("type: {}", kind.name), Around { keys, rules: &[], file, block: false, base }));
    }
    all
}

impl Around {
    /// The file with a key set, and without some.
    fn with(&self, more: &[(&str, &str)], without: &[&str]) -> String {
        let excluded = |name: &str| {
            without.contains(&name)
                || more.iter().any(|(key, _)| {
                    *key == name
                        || self.rules.iter().any(|rule| {
                            matches!(rule, Rule::NotBoth(one, other)
                                if (one, other) == (key, &name) || (other, one) == (key, &name))
                        })
                })
        };
        let mut lines: Vec<String> = self
            .base
            .iter()
            .filter(|(name, _)| !excluded(name))
            .chain(more)
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        // Two keys that go together only.
        let pairs = [("cert_file", "key_file"), ("key_file", "cert_file")];
        for (one, other) in pairs.iter().filter(|_| self.file.contains("check: { type: ")) {
            if more.iter().any(|(key, _)| key == one) {
                lines.push(format!("{other}: /etc/director/secrets/other.pem"));
            }
        }
        let text = lines.join(if self.block { "\n" } else { ", " });
        self.file.replace('@', &text)
    }
}

fn load(text: &str, file: &SampleFile) -> Result<Loaded, Vec<Problem>> {
    parse(&file.stand_in(text))
}

/// A value of a wrong type for every key there is.
const WRONG: &str = "[[[]]]";

/// What the schema says against a text; nothing if that is as it should be.
struct Judge {
    schemas: Schemas,
    schema: boon::SchemaIndex,
}

impl Judge {
    fn new() -> Judge {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("director.json", schema()).expect("a schema");
        let schema =
            compiler.compile("director.json", &mut schemas).unwrap_or_else(|error| panic!("{error}"));
        Judge { schemas, schema }
    }

    fn complaint(&self, text: &str) -> Option<String> {
        let value = as_json(text).expect("YAML");
        self.schemas.validate(&value, self.schema).err().map(|error| error.to_string())
    }
}

#[test]
fn the_reader_knows_the_same_keys() {
    for (path, around) in everything() {
        let problems = parse(&around.with(&[(STRANGER, "1")], &[])).expect_err(&path);
        let problem = problems.iter().find(|problem| problem.message.contains("unknown key"));
        let hint = problem
            .and_then(|problem| problem.hint.as_deref())
            .unwrap_or_else(|| panic!("{path}: {problems:?}"));
        let known: BTreeSet<&str> = hint.split('`').skip(1).step_by(2).collect();
        let mut ours: BTreeSet<&str> = around.keys.iter().map(|key| key.name).collect();
        ours.extend(path.starts_with("type: ").then_some("type"));
        assert_eq!(known, ours, "{path}");
    }
}

#[test]
fn examples_are_taken_and_what_is_needed_is_needed() {
    let (file, judge) = (SampleFile::new(), Judge::new());
    for (path, around) in everything() {
        for key in &around.keys {
            let with = around.with(&[(key.name, key.example)], &[]);
            let problems = load(&with, &file).err();
            assert_eq!(problems, None, "{path}: {}\n{with}", key.name);
            assert_eq!(judge.complaint(&with), None, "{path}: {}\n{with}", key.name);
            let left_out = around.with(&[], &[key.name]);
            let needed = key.presence != Presence::Optional;
            let given = around.base.iter().any(|(name, _)| *name == key.name);
            let demanded = around.rules.iter().any(
                |rule| matches!(rule, Rule::AnyOf(one, other) if given && [*one, *other].contains(&key.name)),
            );
            assert_eq!(
                load(&left_out, &file).is_err(),
                needed || demanded,
                "{path}: {}\n{left_out}",
                key.name
            );
            if key.presence != Presence::Somewhere {
                assert_eq!(judge.complaint(&left_out).is_some(), needed || demanded, "{path}: {}", key.name);
            }
        }
    }
}

#[test]
fn defaults_are_what_is_taken_without_them() {
    let file = SampleFile::new();
    let mut compared = 0;
    for (path, around) in everything() {
        for key in &around.keys {
            let Otherwise::Value(value) = key.otherwise else { continue };
            let without = load(&around.with(&[], &[key.name]), &file);
            let with = load(&around.with(&[(key.name, value)], &[]), &file);
            let configs = (without.map(|loaded| loaded.config), with.map(|loaded| loaded.config));
            assert!(configs.0.is_ok(), "{path}: {}: {:?}", key.name, configs.0);
            assert_eq!(configs.0, configs.1, "{path}: {}", key.name);
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}

#[test]
fn bounds_and_words_are_the_readers() {
    let file = SampleFile::new();
    for (path, around) in everything() {
        for key in &around.keys {
            let refused = |value: &str| {
                let problems = load(&around.with(&[(key.name, value)], &[]), &file).expect_err(key.name);
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            };
            let says = |value: &str, words: &str| {
                let said = refused(value);
                assert!(said.contains(words), "{path}: {}: expected {words:?}\n{said}", key.name);
            };
            let written = |text: &str| values::written(values::duration_of(text).expect("a duration"));
            let forms = if let Form::Either(forms) = key.form { forms } else { &[key.form][..] };
            for form in forms {
                match form {
                    Form::Whole(least, most) if forms.len() == 1 && key.name != "baud" => {
                        says("99999999999", &format!("from {least} to {most}"));
                    }
                    Form::Duration(least, most) => {
                        says("99999h", &format!("from {} to {}", written(least), written(most)));
                    }
                    Form::Word(words) if forms.len() == 1 => {
                        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                        says(STRANGER, &format!("it is one of {})", words.join(", ")));
                    }
                    Form::Numbers(numbers) => {
                        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                        says("7", &format!("it is one of {})", numbers.join(", ")));
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_schema_refuses_unknown_keys_and_wrong_types_as_the_reader_does() {
    let (file, judge) = (SampleFile::new(), Judge::new());
    for (path, around) in everything() {
        let strange = around.with(&[(STRANGER, "1")], &[]);
        assert!(judge.complaint(&strange).is_some(), "{path}");
        for key in &around.keys {
            let wrong = around.with(&[(key.name, WRONG)], &[]);
            assert!(load(&wrong, &file).is_err(), "{path}: {}", key.name);
            assert!(judge.complaint(&wrong).is_some(), "{path}: {}", key.name);
            let number = matches!(key.form, Form::Duration(..) | Form::Text(..) | Form::Flag | Form::Word(_));
            if number {
                let wrong = around.with(&[(key.name, "5")], &[]);
                assert!(load(&wrong, &file).is_err(), "{path}: {}", key.name);
                assert!(judge.complaint(&wrong).is_some(), "{path}: {}", key.name);
            }
        }
    }
    for wrong in ["", "interfaces: [eth0]", "services: []", "5"] {
        assert!(judge.complaint(wrong).is_some(), "{wrong}");
    }
}

#[test]
fn the_schema_takes_every_configuration_of_the_documentation() {
    let judge = Judge::new();
    for (name, line, text) in doc_examples::configurations() {
        assert_eq!(judge.complaint(&text), None, "{name}:{line}\n{text}");
    }
    let example = include_str!("../../../../deploy/director.example.yaml");
    assert_eq!(judge.complaint(example), None);
}

#[test]
fn the_page_of_the_guide_is_this_reference() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/configuration-reference.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == markdown(),
        "docs/guide/configuration-reference.md is out of date. Write it anew:\n  \
         cargo run -p director -- schema --markdown > docs/guide/configuration-reference.md"
    );
}
