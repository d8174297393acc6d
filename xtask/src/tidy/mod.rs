//! `cargo xtask tidy`: the house rules that a compiler does not check.
//!
//! - A file has at most 500 lines outside its tests; a function at most 70.
//! - Every `unsafe` says why it is sound, in a comment before it.
//! - aya is named in the data plane alone.
//! - What is pure stays so: no clock, socket, file or thread in `pool`, `slots` and `reconcile`.
//! - Nothing is left to do in the code.
//! - What ARCHITECTURE.md names exists, and links in the documentation lead somewhere; those of the guide stay in the guide.
//! - Every command in the documentation is understood, or of a program that is known to be checked otherwise.
//! - What the program is linked with has a licence that permits it, and THIRD-PARTY.md lists all of it.

mod commands;
mod documents;
mod rust;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{licences, project};

/// What `tidy` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask tidy
  cargo xtask tidy --fix    write THIRD-PARTY.md afresh, after a change of dependencies")]
pub struct Arguments {
    /// Mend what a program can
    #[arg(long)]
    fix: bool,
}

/// A text file of the project.
#[derive(Clone, Debug)]
struct Source {
    /// Relative to the project, with `/`.
    path: String,
    text: String,
}

/// A place where a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.fix {
        licences::write_list()?;
    }
    check_project()?;
    println!("The house rules hold.");
    Ok(())
}

/// Fails, and prints where, unless every rule holds in the whole project.
pub fn check_project() -> Result<()> {
    let root = project::root();
    let mut sources = Vec::new();
    collect(&root, "", &mut sources)?;
    let mut findings = check(&sources, |path| root.join(path).exists());
    findings.extend(licences::check()?.into_iter().map(|message| Finding {
        path: licences::LIST.to_owned(),
        line: 1,
        message,
    }));
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("house rules: {count} to mend"),
    }
}

fn check(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(left_to_do(source));
        if source.path.ends_with(".rs") {
            findings.extend(rust::check(source));
        }
        if source.path.ends_with(".md") {
            findings.extend(documents::check(source, sources, &exists));
            findings.extend(commands::check(source, sources, &exists));
        }
    }
    findings.sort();
    findings
}

/// Words that mark what is not done. Written in halves, so that this file does not find itself.
const MARKS: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

fn left_to_do(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        if let Some(mark) = words.into_iter().find(|word| MARKS.contains(word)) {
            findings.push(source.finding(number + 1, format!("{mark}: finish it, or leave it out")));
        }
    }
    findings
}

impl Source {
    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Reads what is the project's own: not what is built, nor what is hidden, but for the continuous integration.
fn collect(root: &Path, below: &str, sources: &mut Vec<Source>) -> Result<()> {
    let directory = root.join(below);
    let mut entries: Vec<_> = fs::read_dir(&directory)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            if !is_foreign(&name) {
                collect(root, &path, sources)?;
            }
        } else if is_text(&path) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

fn is_foreign(directory: &str) -> bool {
    directory == "target"
        || (directory.starts_with('.') && ![".ci", ".github", ".cargo"].contains(&directory))
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, end)) => ["rs", "toml", "md", "yaml", "yml", "sh", "html", "js", "css"].contains(&end),
        None => path.starts_with(".ci/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn what_is_left_to_do_is_found_as_a_word() {
        let text = format!("fine\n// {}: later\nmktemp {}\n", MARKS[0], "X".repeat(6));
        let findings = check(&[source("a.sh", &text)], |_| true);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("a.sh", 2));
    }

    #[test]
    fn only_text_of_our_own_is_read() {
        assert!(is_text("director/src/main.rs") && is_text(".ci/run") && is_text("README.md"));
        assert!(!is_text("LICENSE") && !is_text("Cargo.lock") && !is_text("a.png"));
        assert!(is_foreign("target") && is_foreign(".git") && !is_foreign(".ci") && !is_foreign("src"));
    }

    #[test]
    fn a_finding_reads_as_compilers_write_it() {
        let finding = source("a/b.rs", "").finding(7, "no");
        assert_eq!(finding.to_string(), "a/b.rs:7: no");
    }
}
