//! Single values: texts, numbers, words, durations. Each complains of what it finds in place of what it takes.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Complaint, listed, nearest};
use super::tree::{Kind, Tree, shown};

/// Longest path of a Unix socket, in bytes, without the NUL that ends it.
const MAX_SOCKET_PATH: usize = 107;
/// Longest interface name, in bytes, without the NUL that ends it.
const MAX_INTERFACE: usize = 15;

/// A text that is not empty.
pub(super) fn text<'t>(tree: &'t Tree, label: &str) -> Result<&'t str, Complaint> {
    match &tree.kind {
        Kind::Text(text) if text.is_empty() => Err(Complaint::new(format!("`{label}` must not be empty"))),
        Kind::Text(text) => Ok(text),
        Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) => {
            Err(Complaint::expected(label, "a text", tree)
                .hint("put it in quotes if it is meant as it stands"))
        }
        _ => Err(Complaint::expected(label, "a text", tree)),
    }
}

/// A whole number within limits.
pub(super) fn whole<T: TryFrom<i64>>(
    tree: &Tree,
    label: &str,
    limits: RangeInclusive<i64>,
) -> Result<T, Complaint> {
    let number = match tree.kind {
        Kind::Int(number) if limits.contains(&number) => T::try_from(number).ok(),
        _ => None,
    };
    number.ok_or_else(|| {
        let what = format!("a whole number from {} to {}", limits.start(), limits.end());
        let complaint = Complaint::expected(label, &what, tree);
        match &tree.kind {
            Kind::Text(text) if text.parse::<i64>().is_ok() => complaint.hint("write it without quotes"),
            _ => complaint,
        }
    })
}

/// `true` or `false`.
pub(super) fn flag(tree: &Tree, label: &str) -> Result<bool, Complaint> {
    let complaint = || Complaint::expected(label, "`true` or `false`", tree);
    match &tree.kind {
        Kind::Bool(flag) => Ok(*flag),
        Kind::Text(text) => Err(match text.to_lowercase().as_str() {
            "yes" | "on" | "true" => complaint().hint("write `true`"),
            "no" | "off" | "false" => complaint().hint("write `false`"),
            _ => complaint(),
        }),
        _ => Err(complaint()),
    }
}

/// A word of a list, and what it stands for. `later` holds words that other load balancers (or a later version of this
/// one) know, and what to use instead.
pub(super) fn word<T: Copy>(
    tree: &Tree,
    label: &str,
    words: &[(&'static str, T)],
    later: &[(&'static str, &'static str)],
) -> Result<T, Complaint> {
    let known: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let Kind::Text(text) = &tree.kind else {
        return Err(Complaint::expected(label, &format!("one of {}", listed(&known)), tree));
    };
    if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
        return Ok(*meaning);
    }
    if let Some((word, instead)) = later.iter().find(|(word, _)| word == text) {
        let what = format!("`{label}: {word}` is known, but not implemented in this version");
        return Err(Complaint::new(what).hint(*instead));
    }
    let complaint = Complaint::new(format!("unknown word {} for `{label}`", shown(text)));
    Err(match nearest(text, &known) {
        Some(near) => complaint.hint(format!("did you mean `{near}`?")),
        None => complaint.hint(format!("it is one of {}", listed(&known))),
    })
}

/// A duration within limits: `100ms`, `2s`, `10m`, `1h`, or several of them, longest first, as in `1m30s`.
pub(super) fn duration(
    tree: &Tree,
    label: &str,
    limits: RangeInclusive<Duration>,
) -> Result<Duration, Complaint> {
    let complaint = || Complaint::expected(label, "a duration", tree);
    let text = match &tree.kind {
        Kind::Text(text) => text,
        Kind::Int(number) => {
            let what = format!("`{label}` needs a unit, found the number {number}");
            return Err(
                Complaint::new(what).hint(format!("write {number}s for seconds; others are ms, m, h"))
            );
        }
        Kind::Float(number) => {
            let what = format!("`{label}` needs a unit and a whole number, found the number {number}");
            return Err(Complaint::new(what).hint("write 1500ms for one and a half seconds"));
        }
        _ => return Err(complaint().hint("write 100ms, 2s, 10m, 1h or 1m30s")),
    };
    let Some(duration) = duration_of(text) else {
        return Err(complaint().hint("write 100ms, 2s, 10m, 1h or 1m30s, without spaces or fractions"));
    };
    if !limits.contains(&duration) {
        let (low, high) = (written(*limits.start()), written(*limits.end()));
        return Err(complaint_of_limits(label, &low, &high, text));
    }
    Ok(duration)
}

fn complaint_of_limits(label: &str, low: &str, high: &str, found: &str) -> Complaint {
    Complaint::new(format!("`{label}` must be from {low} to {high}, found {}", shown(found)))
}

/// What a duration as an operator writes it says.
pub(super) fn duration_of(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if millis >= smallest {
            return None;
        }
        smallest = millis;
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = next;
    }
    (smallest < u64::MAX).then_some(total)
}

/// A duration as an operator writes it; of whole milliseconds, as all that are configured.
pub(super) fn written(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms > 0 && ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// A service's name.
pub(super) fn name(tree: &Tree, label: &str) -> Result<String, Complaint> {
    name_of(tree, label, "service")
}

/// The name of something, 1 to 63 characters.
pub(super) fn name_of(tree: &Tree, label: &str, of: &str) -> Result<String, Complaint> {
    let name = text(tree, label)?;
    let fits = name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        return Ok(name.to_owned());
    }
    let what = format!("{} cannot be a {of}'s name", shown(name));
    Err(Complaint::new(what).hint("a name is 1 to 63 letters, digits, `.`, `_` or `-`"))
}

/// A name that the kernel takes for an interface.
pub(super) fn interface(tree: &Tree, label: &str) -> Result<String, Complaint> {
    let name = text(tree, label)?;
    let fits = name.len() <= MAX_INTERFACE
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    if fits {
        return Ok(name.to_owned());
    }
    let what = format!("{} cannot be an interface's name", shown(name));
    Err(Complaint::new(what)
        .hint(format!("a name is 1 to {MAX_INTERFACE} characters without `/`, `:`, `%` and spaces")))
}

/// Where a Unix socket can be bound.
pub(super) fn socket(tree: &Tree, label: &str) -> Result<PathBuf, Complaint> {
    let path = text(tree, label)?;
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        let what = format!("`{label}` must be the absolute path of a socket, found {}", shown(path));
        return Err(Complaint::new(what).hint("write it like /run/director/director.sock"));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(Complaint::new(format!(
            "`{label}` must not be longer than {MAX_SOCKET_PATH} bytes, found {}",
            path.len()
        )));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::super::tree::Place;
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree { place: Place::START, kind: Kind::Text(text.into()) }
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("100ms", 100), ("2s", 2_000), ("10m", 600_000), ("1h", 3_600_000), ("1m30s", 90_000), ("0s", 0)]
        {
            assert_eq!(duration_of(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "10",
            "1.5s",
            "10 s",
            "-1s",
            "1s1m",
            "1s1s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration_of(text), None, "{text}");
        }
    }

    #[test]
    fn limits_of_durations_are_written_as_an_operator_would() {
        let limits = Duration::from_secs(1)..=Duration::from_secs(8 * 3600);
        let complaint = duration(&tree("9h"), "syn", limits.clone()).unwrap_err();
        assert_eq!(complaint.message, "`syn` must be from 1s to 8h, found `9h`");
        assert!(duration(&tree("8h"), "syn", limits.clone()).is_ok());
        assert!(duration(&tree("999ms"), "syn", limits).is_err());
    }

    #[test]
    fn names() {
        for good in ["web", "a.b-c_9", &"x".repeat(63)] {
            assert!(name(&tree(good), "name").is_ok(), "{good}");
        }
        for bad in ["", "a b", "ü", "a/b", &"x".repeat(64)] {
            assert!(name(&tree(bad), "name").is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces() {
        for good in ["eth0", "enp1s0.100", "br-lan", "abcdefghijklmno"] {
            assert!(interface(&tree(good), "interface").is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "eth0:1", "abcdefghijklmnop"] {
            assert!(interface(&tree(bad), "interface").is_err(), "{bad}");
        }
    }

    #[test]
    fn sockets() {
        assert!(socket(&tree("/run/d.sock"), "socket").is_ok());
        for bad in ["d.sock", "/run/", "", &format!("/{}", "x".repeat(107))] {
            assert!(socket(&tree(bad), "socket").is_err(), "{bad}");
        }
    }
}
