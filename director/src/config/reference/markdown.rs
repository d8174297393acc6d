//! The configuration's reference as a page of the guide.

use std::fmt::Write;

use super::checks::{COMMON, TLS, TYPES};
use super::{Form, Key, Otherwise, Presence, Rule, Section, all};

/// What stands above the tables.
const HEAD: &str = "# Configuration reference

Every section and key, its form, its default and an example. [Configuration](configuration.md) and [Health checks](health-checks.md) say
what is behind them.

This page is made by `director schema --markdown`; a test compares them. `director schema` prints the same as a JSON Schema for editors:
see [there](configuration.md#in-an-editor).

**Durations** have units and no fractions: `100ms`, `2s`, `10m`, `1h`, or several, longest first: `1m30s`.
";

/// The page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for section in all() {
        head(&mut page, section.path, section.says);
        let rules: Vec<String> = section.rules.iter().map(told).collect();
        if !rules.is_empty() {
            page.extend(["\n", &rules.join(" "), "\n"]);
        }
        table(&mut page, section.keys);
        if section.path == COMMON.path {
            types(&mut page);
        }
    }
    page
}

fn head(page: &mut String, path: &str, says: &str) {
    let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n{says}\n");
}

fn types(page: &mut String) {
    let _ =
        write!(page, "\n### TLS\n\nThe types that say so below have these keys, too, where they use TLS.\n");
    table(page, TLS);
    for kind in &TYPES {
        let _ = write!(page, "\n### `type: {}`\n\n{}", kind.name, kind.says);
        if kind.keys.is_empty() {
            page.push_str(" It has no keys of its own.");
        }
        if kind.tls {
            page.push_str(" With the keys of [TLS](#tls).");
        }
        page.push('\n');
        table(page, kind.keys);
    }
}

fn told(rule: &Rule) -> String {
    match rule {
        Rule::NotBoth(one, other) => format!("`{one}` does not go with `{other}`."),
        Rule::AnyOf(one, other) => format!("It needs `{one}` or `{other}`."),
    }
}

fn table(page: &mut String, keys: &[Key]) {
    if keys.is_empty() {
        return;
    }
    page.push_str("\n| Key | Value | Default | Meaning | Example |\n|---|---|---|---|---|\n");
    for Key { name, form, presence, otherwise, says, example } in keys {
        let default = match (presence, otherwise) {
            (Presence::Needed, _) => "needed".to_owned(),
            (Presence::Somewhere, _) => "needed, here or in `defaults`".to_owned(),
            (_, Otherwise::Nothing) => String::new(),
            (_, Otherwise::Value(value)) => format!("`{value}`"),
            (_, Otherwise::Words(words)) => (*words).to_owned(),
        };
        let cells =
            [format!("`{name}`"), form_in_words(form), default, (*says).to_owned(), format!("`{example}`")];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(page, "| {} |", cells.join(" | ").replace("|  |", "| |"));
    }
}

fn form_in_words(form: &Form) -> String {
    let all = |forms: &[Form]| forms.iter().map(form_in_words).collect::<Vec<_>>().join("; or ");
    match form {
        Form::Flag => "`true`, `false`".into(),
        Form::Just(flag) => format!("`{flag}`"),
        Form::Whole(least, most) => format!("{} to {}", grouped(*least), grouped(*most)),
        Form::Numbers(numbers) => quoted(numbers),
        Form::Duration(least, most) => format!("duration, {least} to {most}"),
        Form::Word(words) => quoted(words),
        Form::Text(what, _) => (*what).into(),
        Form::List(of, least, most) => {
            let count = match (least, most) {
                (0, None) => String::new(),
                (least, None) => format!(", at least {least}"),
                (0, Some(most)) => format!(", at most {most}"),
                (least, Some(most)) => format!(", {least} to {most}"),
            };
            format!("list{count}: {}", form_in_words(of))
        }
        Form::Either(forms) => all(forms),
        Form::Mapping(section) => linked(section),
        Form::Named(names, of) => format!("mapping of {names} to: {}", form_in_words(of)),
        Form::Check => linked(&COMMON),
        Form::Defaults => "mapping: the keys of [`services`](#services) without `name`".into(),
    }
}

fn linked(section: &Section) -> String {
    let anchor: String =
        section.path.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter)).collect();
    format!("mapping [`{}`](#{})", section.path, anchor.replace(' ', "-"))
}

fn quoted<T: ToString>(words: &[T]) -> String {
    words.iter().map(|word| format!("`{}`", word.to_string())).collect::<Vec<_>>().join(", ")
}

/// A number with its thousands apart, where it is a large one.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    if digits.len() < 6 {
        return number.to_string();
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
