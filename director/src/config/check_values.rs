//! Single values of checks.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use healthcheck::text::{Pattern, Secret};

use super::reader::Complaint;
use super::tree::{Kind, Tree, shown};
use super::values;

/// A text.
pub(super) fn string(tree: &Tree, label: &str) -> Result<String, Complaint> {
    values::text(tree, label).map(str::to_owned)
}

pub(super) fn pattern(tree: &Tree, label: &str) -> Result<Pattern, Complaint> {
    let text = values::text(tree, label)?;
    Pattern::new(text).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Complaint::new(format!("`{label}` is no regular expression: {why}"))
            .hint("put a \\ before a character that is meant as it stands")
    })
}

pub(super) fn path(tree: &Tree, label: &str) -> Result<PathBuf, Complaint> {
    let text = values::text(tree, label)?;
    if !text.starts_with('/') {
        return Err(Complaint::new(format!("`{label}` must be an absolute path, found {}", shown(text))));
    }
    Ok(text.into())
}

/// A file that can be read, now at least.
pub(super) fn readable(tree: &Tree, label: &str) -> Result<PathBuf, Complaint> {
    let path = path(tree, label)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Complaint::new(format!("`{label}`: cannot read {}: {error}", path.display()))),
    }
}

/// A program that can be run.
pub(super) fn command(tree: &Tree, label: &str) -> Result<PathBuf, Complaint> {
    let path = path(tree, label)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => {
            let complaint = Complaint::new(format!("`{label}`: {} is no program", path.display()));
            Err(complaint.hint(format!("chmod +x {}", path.display())))
        }
        Err(error) => Err(Complaint::new(format!("`{label}`: {}: {error}", path.display()))),
    }
}

/// A request's path and query.
pub(super) fn request(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    let path = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    match hyper::http::uri::PathAndQuery::try_from(path.as_str()) {
        Ok(_) => Ok(path),
        Err(error) => {
            Err(Complaint::new(format!("`{label}` is no path: {error}")).hint("write a space as %20"))
        }
    }
}

pub(super) fn header_value(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    match hyper::header::HeaderValue::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Complaint::new(format!("`{label}` cannot stand in a header (RFC 9110, 5.5)"))),
    }
}

/// A type of DNS records.
pub(super) fn record(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?.to_uppercase();
    if healthcheck::is_record_type(&text) {
        return Ok(text);
    }
    Err(Complaint::expected(label, "a type of DNS records", tree)
        .hint("write A, AAAA, PTR, SOA, …, or TYPE and a number"))
}

/// What a file holds, but for the newline at its end.
pub(super) fn secret(tree: &Tree, label: &str) -> Result<Secret, Complaint> {
    let path = path(tree, label)?;
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Complaint::new(format!("`{label}`: cannot read {}: {error}", path.display()))
            .hint("it is a file that holds the secret and nothing else, readable by the director only")
    })?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

pub(super) fn method(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let text = values::text(tree, label)?;
    if text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err(Complaint::expected(label, "a method in capitals", tree).hint("write GET or HEAD"))
}

/// `200`, `200-299`.
pub(super) fn statuses(tree: &Tree, label: &str) -> Result<(u16, u16), Complaint> {
    let complaint = || {
        Complaint::expected(label, "a status or a range of them", tree)
            .hint("write 200, or 200-299, or a list of such")
    };
    let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let range = match &tree.kind {
        Kind::Int(status) => u16::try_from(*status).ok().filter(|s| (100..=599).contains(s)).map(|s| (s, s)),
        Kind::Text(text) => match text.split_once('-') {
            Some((from, to)) => number(from).zip(number(to)).filter(|(from, to)| from <= to),
            None => number(text).map(|status| (status, status)),
        },
        _ => None,
    };
    range.ok_or_else(complaint)
}

pub(super) fn header_name(name: &str) -> Result<(), Complaint> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(token) {
        return Ok(());
    }
    Err(Complaint::new(format!("{} is no header's name (RFC 9110, 5.1)", shown(name))))
}

pub(super) fn without_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.to_owned()
        }
        _ => host.to_owned(),
    }
}
