//! What a scalar means: YAML 1.2's core schema, and the tags of it.

use saphyr_parser::{ScalarStyle, Tag};

use super::reader::Complaint;
use super::tree::{Kind, shown};

/// The value of a scalar: what its tag says or, without one, a text if it is quoted and what it looks like if it is plain.
pub(super) fn resolve(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, Complaint> {
    let Some(tag) = tag else {
        let plain = if style == ScalarStyle::Plain { plain(&text) } else { None };
        return Ok(plain.unwrap_or(Kind::Text(text)));
    };
    let kind = match (core_name(tag)?, plain(&text)) {
        ("str", _) => return Ok(Kind::Text(text)),
        ("float", Some(Kind::Int(number))) => Some(Kind::Float(number as f64)),
        ("null", kind @ Some(Kind::Null))
        | ("bool", kind @ Some(Kind::Bool(_)))
        | ("int", kind @ Some(Kind::Int(_)))
        | ("float", kind @ Some(Kind::Float(_))) => kind,
        _ => None,
    };
    kind.ok_or_else(misfit)
}

/// Checks the tag of a list (`seq`) or a mapping (`map`).
pub(super) fn check_tag(tag: Option<&Tag>, name: &str) -> Result<(), Complaint> {
    match tag {
        Some(tag) if core_name(tag)? != name => Err(misfit()),
        _ => Ok(()),
    }
}

/// The name of a tag of the core schema; other tags are refused.
fn core_name(tag: &Tag) -> Result<&str, Complaint> {
    if tag.is_yaml_core_schema() {
        return Ok(&tag.suffix);
    }
    let what = format!("tags are not understood here, found {}", shown(&tag.to_string()));
    Err(Complaint::new(what).hint("remove the tag"))
}

fn misfit() -> Complaint {
    Complaint::new("this value does not fit its tag").hint("remove the tag")
}

/// What a plain scalar is by the core schema, unless it is a text. A whole number that does not fit is a float.
fn plain(text: &str) -> Option<Kind> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Kind::Null),
        "true" | "True" | "TRUE" => return Some(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Kind::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Some(Kind::Float(f64::NAN)),
        _ => {}
    }
    // Most texts are known by their first letter.
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let radix = |prefix, radix| {
        let digits = text.strip_prefix(prefix)?;
        let signed = digits.starts_with(['+', '-']);
        if signed { None } else { i64::from_str_radix(digits, radix).ok() }
    };
    text.parse()
        .ok()
        .or_else(|| radix("0x", 16))
        .or_else(|| radix("0o", 8))
        .map(Kind::Int)
        .or_else(|| float(text).map(Kind::Float))
}

fn float(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match rest {
        ".inf" | ".Inf" | ".INF" => Some(sign * f64::INFINITY),
        // Rust reads the core schema's floats and more, like `inf`, all of which begin with a letter.
        _ if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(handle: &str, suffix: &str) -> Tag {
        Tag { handle: handle.into(), suffix: suffix.into() }
    }

    fn tagged(text: &str, style: ScalarStyle, name: &str) -> Result<Kind, Complaint> {
        resolve(text.into(), style, Some(&tag("tag:yaml.org,2002:", name)))
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let cases = [
            (Kind::Null, "|~|null|Null|NULL"),
            (Kind::Bool(true), "true|True|TRUE"),
            (Kind::Bool(false), "false|False|FALSE"),
            (Kind::Int(10), "10|+10|010|0xa|0xA|0o12"),
            (Kind::Int(-10), "-10|-010"),
            (Kind::Int(i64::MAX), "9223372036854775807|0x7fffffffffffffff"),
            (Kind::Float(9_223_372_036_854_775_808.0), "9223372036854775808"),
            (Kind::Float(0.5), "0.5|.5|+.5|5e-1|5.E-1|0.5e0|00.5e+0"),
            (Kind::Float(-0.5), "-0.5|-.5"),
            (Kind::Float(1.0), "1.|1.0"),
            (Kind::Float(f64::INFINITY), ".inf|.Inf|.INF|+.inf"),
            (Kind::Float(f64::NEG_INFINITY), "-.inf|-.Inf|-.INF"),
        ];
        for (expected, texts) in cases {
            for text in texts.split('|') {
                assert_eq!(plain(text), Some(expected.clone()), "{text}");
            }
        }
        assert!(matches!(plain(".nan"), Some(Kind::Float(number)) if number.is_nan()));
    }

    #[test]
    fn everything_else_is_a_text() {
        let texts = "nULL|none|yes|no|on|tRUE|y|0x|0xg|0x-5|0x+5|-0x5|0o8|0b1|+-5|--5|1_000|1e|e1|.|-|+|-.|.e1|inf|+inf|-inf|\
             infinity|nan|-.nan|NaN|1.2.3|192.0.2.1|10s|5m|10:20| 1|1 |0x8000000000000000|.Nan|.iNF";
        for text in texts.split('|') {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn quoted_and_block_scalars_are_texts() {
        use ScalarStyle::{DoubleQuoted, Folded, Literal, SingleQuoted};
        for style in [DoubleQuoted, Folded, Literal, SingleQuoted] {
            for text in ["", "5", "true", "null", "0.5"] {
                assert_eq!(resolve(text.into(), style, None), Ok(Kind::Text(text.into())));
            }
        }
    }

    #[test]
    fn a_tag_of_the_core_schema_goes_before_looks() {
        use ScalarStyle::{DoubleQuoted, Plain};
        for (text, style, name, expected) in [
            ("5", Plain, "str", Kind::Text("5".into())),
            ("", Plain, "str", Kind::Text(String::new())),
            ("5", DoubleQuoted, "int", Kind::Int(5)),
            ("5", Plain, "float", Kind::Float(5.0)),
            ("True", Plain, "bool", Kind::Bool(true)),
            ("", Plain, "null", Kind::Null),
        ] {
            assert_eq!(tagged(text, style, name), Ok(expected), "{text} {name}");
        }
        for (text, name) in [
            ("x", "int"),
            ("1.5", "int"),
            ("1", "bool"),
            ("0", "null"),
            ("x", "float"),
            ("x", "seq"),
            ("x", "y"),
        ] {
            assert_eq!(tagged(text, Plain, name), Err(misfit()), "{text} {name}");
        }
    }

    #[test]
    fn other_tags_are_refused() {
        for other in [tag("!", "x"), tag("", "!"), tag("tag:example.com,2026:", "int")] {
            let complaint = resolve("5".into(), ScalarStyle::Plain, Some(&other)).unwrap_err();
            assert!(complaint.message.starts_with("tags are not understood here"), "{complaint:?}");
            assert!(check_tag(Some(&other), "seq").is_err());
        }
        assert_eq!(check_tag(Some(&tag("tag:yaml.org,2002:", "seq")), "seq"), Ok(()));
        assert_eq!(check_tag(Some(&tag("tag:yaml.org,2002:", "map")), "seq"), Err(misfit()));
        assert_eq!(check_tag(None, "map"), Ok(()));
    }
}
