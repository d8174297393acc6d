//! The configuration's reference as a JSON Schema (draft 2020-12), for editors. It says of each value by itself what it may be; what
//! values have to do with each other, the reader checks.

use serde_json::{Map, Value, json};

use crate::config::reader::Reader;
use crate::config::tree::{Kind, Tree};
use crate::config::yaml;

use super::checks::{COMMON, TLS, TYPES};
use super::sections::FILE;
use super::services::SERVICE;
use super::{CheckType, Form, Key, Otherwise, Presence, Rule, all};

/// Where services' defaults are in the schema.
const DEFAULTS: &str = "defaults";
/// How durations are written: several units, longest first.
const DURATION: &str = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The schema of the whole file.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    for section in all().into_iter().filter(|section| !section.path.is_empty()) {
        definitions.insert(place(section.path), object(section.says, section.keys.iter(), section.rules));
    }
    let keys = SERVICE.keys.iter().filter(|key| key.name != "name");
    let mut defaults = object("What services leave out.", keys, SERVICE.rules);
    // A list of checks is a service's own.
    defaults["properties"]["check"] = reference(&place(COMMON.path));
    definitions.insert(DEFAULTS.into(), defaults);
    definitions.insert(place(COMMON.path), check());
    for kind in &TYPES {
        definitions.insert(place_of(kind), object(kind.says, keys_of(kind), &[]));
    }
    let mut schema = object("The configuration of a director.", FILE.keys.iter(), FILE.rules);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "director.yaml".into();
    schema["$defs"] = definitions.into();
    schema
}

/// A mapping of just these keys.
fn object<'k>(says: &str, keys: impl Iterator<Item = &'k Key> + Clone, rules: &[Rule]) -> Value {
    let properties: Map<String, Value> =
        keys.clone().map(|key| (key.name.to_owned(), property(key))).collect();
    let needed: Vec<&str> = keys.filter(|key| key.presence == Presence::Needed).map(|key| key.name).collect();
    let mut object = json!({
        "type": "object",
        "description": plain(says),
        "properties": properties,
        "required": needed,
        "additionalProperties": false,
    });
    if !rules.is_empty() {
        object["allOf"] = rules.iter().map(rule).collect();
    }
    object
}

fn rule(rule: &Rule) -> Value {
    match rule {
        Rule::NotBoth(one, other) => json!({ "not": { "required": [one, other] } }),
        Rule::AnyOf(one, other) => json!({ "anyOf": [{ "required": [one] }, { "required": [other] }] }),
    }
}

fn property(key: &Key) -> Value {
    let mut property = form(&key.form);
    let otherwise = match key.otherwise {
        Otherwise::Words(words) => format!(" Without it: {}.", plain(words)),
        Otherwise::Nothing | Otherwise::Value(_) => String::new(),
    };
    property["description"] = (plain(key.says) + &otherwise).into();
    property["examples"] = vec![value(key.example)].into();
    if let Otherwise::Value(default) = key.otherwise {
        property["default"] = value(default);
    }
    property
}

fn form(form_: &Form) -> Value {
    match form_ {
        Form::Flag => json!({ "type": "boolean" }),
        Form::Just(flag) => json!({ "const": flag }),
        Form::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Form::Numbers(numbers) => json!({ "enum": numbers }),
        Form::Duration(..) => json!({ "type": "string", "pattern": DURATION, "minLength": 2 }),
        Form::Word(words) => json!({ "enum": words }),
        Form::Text(_, pattern) => json!({ "type": "string", "pattern": pattern }),
        Form::List(of, least, most) => {
            let mut list = json!({ "type": "array", "items": form(of), "minItems": least });
            if let Some(most) = most {
                list["maxItems"] = (*most).into();
            }
            list
        }
        Form::Either(forms) => json!({ "anyOf": forms.iter().map(form).collect::<Vec<_>>() }),
        Form::Mapping(section) => reference(&place(section.path)),
        Form::Named(_, of) => json!({ "type": "object", "additionalProperties": form(of) }),
        Form::Check => reference(&place(COMMON.path)),
        Form::Defaults => reference(DEFAULTS),
    }
}

fn reference(to: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{to}") })
}

/// A section's name in the schema.
fn place(path: &str) -> String {
    path.replace(": ", "-").replace('.', "-")
}

fn place_of(kind: &CheckType) -> String {
    format!("{}-{}", place(COMMON.path), kind.name)
}

/// All keys of a check of this type.
pub(super) fn keys_of(kind: &CheckType) -> impl Iterator<Item = &'static Key> + Clone + use<> {
    let tls = if kind.tls { TLS } else { &[] };
    COMMON.keys.iter().chain(kind.keys).chain(tls)
}

/// A check: its type says which keys there are.
fn check() -> Value {
    let of_type = |kind: &CheckType| {
        let condition = json!({ "required": ["type"], "properties": { "type": { "const": kind.name } } });
        json!({ "if": condition, "then": reference(&place_of(kind)) })
    };
    let mut cases: Vec<Value> = TYPES.iter().map(of_type).collect();
    let common = object(COMMON.says, COMMON.keys.iter(), &[]);
    cases.push(json!({ "if": { "not": { "required": ["type"] } }, "then": common }));
    let kinds = COMMON.keys.iter().filter(|key| key.name == "type");
    let kinds: Map<String, Value> = kinds.map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "type": "object", "description": COMMON.says, "properties": kinds, "allOf": cases })
}

/// What a text of the tables means as YAML.
fn value(text: &str) -> Value {
    as_json(text).unwrap_or_default()
}

/// A configuration as JSON has it, for whoever holds it against the schema. Nothing where it is no YAML.
pub fn as_json(text: &str) -> Option<Value> {
    yaml::parse(text, &mut Reader::default()).map(|tree| json_of(&tree))
}

/// YAML as JSON has it.
fn json_of(tree: &Tree) -> Value {
    match &tree.kind {
        Kind::Null | Kind::Broken => Value::Null,
        Kind::Bool(flag) => (*flag).into(),
        Kind::Int(number) => (*number).into(),
        Kind::Float(number) => (*number).into(),
        Kind::Text(text) => text.as_str().into(),
        Kind::List(items) => items.iter().map(json_of).collect(),
        Kind::Map(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.clone(), json_of(&entry.value)));
            Value::Object(entries.collect())
        }
    }
}

/// Without the marks of the guide.
fn plain(text: &str) -> String {
    text.replace('`', "")
}
