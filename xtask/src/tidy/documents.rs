//! The rules for documentation: links lead somewhere, and what ARCHITECTURE.md names exists.

use super::{Finding, Source};

/// The book's sources. The package installs them elsewhere, and without what is around them here.
const GUIDE: &str = "docs/guide/";

pub fn check(source: &Source, all: &[Source], exists: &impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in prose(&source.text) {
        for target in links(line) {
            if let Some(reason) = broken(source, target, all, exists) {
                findings.push(source.finding(number, reason));
            }
        }
        if source.path == "ARCHITECTURE.md" {
            let absent = named_paths(line).into_iter().filter(|path| !exists(path));
            findings.extend(
                absent.map(|path| source.finding(number, format!("names {path}, which is not there"))),
            );
        }
    }
    findings.extend(unlisted(source, all));
    findings
}

/// Pages of the guide that its table of contents lacks: a book would not have them.
fn unlisted(source: &Source, all: &[Source]) -> Vec<Finding> {
    if source.path != format!("{GUIDE}SUMMARY.md") {
        return Vec::new();
    }
    let listed: Vec<&str> = prose(&source.text).flat_map(|(_, line)| links(line)).collect();
    let pages =
        all.iter().filter_map(|page| page.path.strip_prefix(GUIDE).filter(|name| name.ends_with(".md")));
    let absent = pages.filter(|page| *page != "SUMMARY.md" && !listed.contains(page));
    absent.map(|page| source.finding(1, format!("does not list {page}"))).collect()
}

/// The lines outside code blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(index, mark)| &line[index + mark.len()..]);
    starts.filter_map(|rest| Some(&rest[..rest.find([')', ' '])?])).collect()
}

fn broken(source: &Source, target: &str, all: &[Source], exists: &impl Fn(&str) -> bool) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { source.path.clone() } else { resolve(&source.path, path) };
    if !exists(&path) {
        return Some(format!("the link to {target} leads nowhere"));
    }
    if source.path.starts_with(GUIDE) && !path.starts_with(GUIDE) {
        return Some(format!(
            "the link to {target} leads out of the guide, which is a book and part of the package by itself: name the file instead"
        ));
    }
    let document = all.iter().find(|document| document.path == path)?;
    let found =
        anchor.is_empty() || !path.ends_with(".md") || headings(&document.text).any(|name| name == anchor);
    (!found).then(|| format!("{path} has no heading #{anchor}"))
}

/// A link's path, seen from the project's directory.
fn resolve(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Headings as links name them: in small letters, with hyphens for blanks and without other marks.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = prose(text).map(|(_, line)| line).filter(|line| line.starts_with('#'));
    titles.map(|title| {
        let kept = title
            .trim_start_matches('#')
            .trim()
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
    })
}

/// Paths in backticks: what has a slash or ends as a file does, and no other marks.
fn named_paths(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| is_path(text)).map(|text| text.trim_end_matches('/')).collect()
}

fn is_path(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let file = [".rs", ".md", ".toml", ".yaml"].iter().any(|end| text.ends_with(end));
    // What begins with a slash is a path of the system's, not of the project's.
    text.chars().all(plain) && !text.starts_with(['/', '.', '-']) && (text.contains('/') || file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str, there: &[&str]) -> Vec<String> {
        let source = Source { path: path.into(), text: text.into() };
        let other = Source { path: "docs/guide.md".into(), text: "# The Guide: how, why\n".into() };
        let all = [source.clone(), other];
        let exists = |path: &str| there.contains(&path) || all.iter().any(|one| one.path == path);
        check(&source, &all, &exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        let fine = "[a](docs/guide.md) [b](docs/guide.md#the-guide-how-why) [c](https://example.org/x) [d](#top)\n\
                    # Top\n";
        assert_eq!(messages("README.md", fine, &[]), Vec::<String>::new());
        let bad = "\n[a](docs/none.md) and [b](docs/guide.md#other)\n```\n[c](nowhere)\n```\n";
        assert_eq!(
            messages("README.md", bad, &[]),
            [
                "README.md:2: the link to docs/none.md leads nowhere",
                "README.md:2: docs/guide.md has no heading #other"
            ]
        );
    }

    #[test]
    fn links_start_at_their_document() {
        assert!(messages("docs/adr/1.md", "[a](../guide.md) [b](./2.md)\n", &["docs/adr/2.md"]).is_empty());
        assert_eq!(messages("docs/adr/1.md", "[a](guide.md)\n", &[]).len(), 1);
    }

    #[test]
    fn the_guide_is_whole_by_itself() {
        let there = ["docs/guide/b.md", "docs/adr/1.md"];
        let fine = "[b](b.md) [out](https://example.org/)\n";
        assert_eq!(messages("docs/guide/a.md", fine, &there), Vec::<String>::new());
        assert_eq!(messages("docs/guide/a.md", "\n[1](../adr/1.md)\n", &there).len(), 1);
        let page = Source { path: "docs/guide/c.md".into(), text: String::new() };
        let summary = Source { path: "docs/guide/SUMMARY.md".into(), text: "- [b](b.md)\n".into() };
        let found = check(&summary, &[summary.clone(), page], &|path| there.contains(&path));
        assert_eq!(found, [summary.finding(1, "does not list c.md")]);
    }

    #[test]
    fn the_architecture_names_what_exists() {
        let text =
            "`director/src/pool.rs` and `director/src/slots/` read no `/proc/net/dev`; `a::b`, `x + y/z`\n";
        let there = ["director/src/pool.rs", "director/src/slots"];
        assert!(messages("ARCHITECTURE.md", text, &there).is_empty());
        assert_eq!(
            messages("ARCHITECTURE.md", text, &there[..1]),
            ["ARCHITECTURE.md:1: names director/src/slots, which is not there"]
        );
        assert!(messages("README.md", text, &[]).is_empty());
    }
}
