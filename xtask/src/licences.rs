//! What the program is linked with, and under which licences: the list in THIRD-PARTY.md, their texts for the packages, and whether all of
//! them are permitted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spdx::{Expression, LicenseId, Licensee, ParseMode};

use crate::project;

/// The list, in the project's directory.
pub const LIST: &str = "THIRD-PARTY.md";

/// Licences that a package may have. deny.toml says the same to `cargo deny`.
const PERMITTED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A package of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    repository: String,
    directory: PathBuf,
}

/// All that the program on x86-64 and the programs for BPF are linked with, by name.
pub fn packages() -> Result<Vec<Package>> {
    let mut cargo = project::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    let output = cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    linked(&serde_json::from_slice(&output.stdout)?)
}

/// The packages that ours reach by dependencies of the program itself, not of its build or its tests.
fn linked(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let own = |package: &&Value| package["source"].is_null();
    let all = list(&metadata["packages"]);
    let ours = ["director", "director-ebpf"];
    let mut waiting: Vec<String> = all
        .iter()
        .filter(own)
        .filter(|package| ours.contains(&package["name"].as_str().unwrap_or_default()))
        .map(|package| text(&package["id"]))
        .collect();
    ensure!(waiting.len() == ours.len(), "cargo metadata does not name {ours:?}");
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        let node = nodes.get(&id).with_context(|| format!("cargo metadata has no {id}"))?;
        if reached.insert(id) {
            let normal =
                |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|one| one["kind"].is_null());
            waiting.extend(list(&node["deps"]).iter().filter(|one| normal(one)).map(|one| text(&one["pkg"])));
        }
    }
    let foreign = all.iter().filter(|package| !own(package) && reached.contains(&text(&package["id"])));
    let mut packages: Vec<Package> = foreign
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: text(&package["license"]),
            authors: list(&package["authors"]).iter().map(text).collect(),
            repository: text(&package["repository"]),
            directory: PathBuf::from(text(&package["manifest_path"])).parent().unwrap_or("/".as_ref()).into(),
        })
        .collect();
    packages.sort();
    Ok(packages)
}

/// What is to be mended, in words.
pub fn check() -> Result<Vec<String>> {
    let packages = packages()?;
    let mut findings = refused(&packages);
    let there = fs::read_to_string(project::root().join(LIST)).unwrap_or_default();
    if there != list(&packages) {
        findings.push("it is not what the program is linked with; run `cargo xtask tidy --fix`".to_owned());
    }
    Ok(findings)
}

/// Writes the list afresh.
pub fn write_list() -> Result<()> {
    fs::write(project::root().join(LIST), list(&packages()?)).with_context(|| format!("cannot write {LIST}"))
}

fn refused(packages: &[Package]) -> Vec<String> {
    let bad = packages.iter().filter(|package| !permits(&package.licence));
    bad.map(|package| {
        let Package { name, version, licence, .. } = package;
        format!("{name} {version} has the licence {licence:?}, which is not among those permitted (xtask/src/licences.rs)")
    })
    .collect()
}

fn list(packages: &[Package]) -> String {
    let mut text = "# What Director is linked with\n\n\
        `cargo xtask tidy --fix` writes this list. The texts of these licences are in the packages that `cargo xtask dist` makes.\n\n\
        | Package | Version | Licence |\n|---|---|---|\n"
        .to_owned();
    for Package { name, version, licence, repository, .. } in packages {
        let name = if repository.is_empty() { name.clone() } else { format!("[{name}]({repository})") };
        let _ = writeln!(text, "| {name} | {version} | {licence} |");
    }
    text
}

/// The texts of their licences, each once, with those that have it.
pub fn texts(packages: &[Package]) -> String {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let mut own = licence_files(package);
        if own.is_empty() {
            own = standard_texts(package);
        }
        for text in own {
            let who = format!("{} {} ({})", package.name, package.version, package.licence);
            texts.entry(text).or_default().insert(who);
        }
    }
    let rule = "=".repeat(80);
    texts.into_iter().fold(String::new(), |mut all, (text, who)| {
        let who: Vec<String> = who.into_iter().collect();
        let _ = write!(all, "{rule}\n{}\n{rule}\n\n{}\n\n", who.join("\n"), text.trim_end());
        all
    })
}

/// What a package has in files that are named after what they are.
fn licence_files(package: &Package) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&package.directory) else { return Vec::new() };
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named);
    paths.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The text of each of a package's licences as SPDX has it, for packages that bring none.
fn standard_texts(package: &Package) -> Vec<String> {
    let Ok(expression) = Expression::parse_mode(&package.licence, ParseMode::LAX) else { return Vec::new() };
    let licences = expression.requirements().filter_map(|one| one.req.license.id());
    let head = |id: LicenseId| {
        format!(
            "{} comes without this text; it is SPDX's, of {}. Its authors: {}.",
            package.name,
            id.name,
            package.authors.join(", ")
        )
    };
    licences.map(|id| format!("{}\n\n{}", head(id), id.text())).collect()
}

/// Whether an SPDX expression can be fulfilled with permitted licences alone. Old packages write `/` for OR.
fn permits(expression: &str) -> bool {
    let permitted: Vec<Licensee> = PERMITTED.iter().filter_map(|name| Licensee::parse(name).ok()).collect();
    Expression::parse_mode(expression, ParseMode::LAX)
        .is_ok_and(|expression| expression.evaluate(|asked| permitted.iter().any(|one| one.satisfies(asked))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(permits(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT",
            "MIT)",
            "MIT AND",
            "GPL-2.0-only WITH LLVM-exception",
        ] {
            assert!(!permits(bad), "{bad}");
        }
    }

    #[test]
    fn every_package_has_the_texts_of_its_licences() {
        assert!(PERMITTED.iter().all(|name| Licensee::parse(name).is_ok()));
        let package = Package {
            name: "bare".to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT/Apache-2.0 WITH LLVM-exception".to_owned(),
            authors: vec!["Somebody".to_owned()],
            repository: String::new(),
            directory: PathBuf::from("/nowhere"),
        };
        let texts = texts(&[package]);
        assert!(texts.contains("Somebody") && texts.contains("Permission is hereby granted"), "{texts}");
        assert!(texts.contains("Apache License"), "{texts}");
        let bare = packages()
            .unwrap()
            .into_iter()
            .filter(|package| super::texts(std::slice::from_ref(package)).is_empty());
        assert_eq!(bare.collect::<Vec<_>>(), []);
    }

    #[test]
    fn cargo_deny_is_told_the_same() {
        let file = fs::read_to_string(project::root().join("deny.toml")).unwrap();
        let start = file.find("allow = [").unwrap();
        let allowed = &file[start..start + file[start..].find(']').unwrap()];
        let allowed: Vec<&str> = allowed.split('"').skip(1).step_by(2).collect();
        assert_eq!(allowed, PERMITTED);
    }

    #[test]
    fn only_what_is_linked_counts() {
        let package = |name: &str, source: Value| {
            serde_json::json!({
                "id": name, "name": name, "version": "1.0.0", "license": "MIT", "source": source, "manifest_path": "/x/Cargo.toml"
            })
        };
        let dependency =
            |name: &str, kind: Value| serde_json::json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let registry = Value::from("registry");
        let metadata = serde_json::json!({
            "packages": [
                package("director", Value::Null),
                package("director-ebpf", Value::Null),
                package("linked", registry.clone()),
                package("deeper", registry.clone()),
                package("builds", registry.clone()),
                package("tests", registry),
            ],
            "resolve": { "nodes": [
                { "id": "director", "deps": [
                    dependency("linked", Value::Null), dependency("builds", "build".into()), dependency("tests", "dev".into()),
                ] },
                { "id": "director-ebpf", "deps": [] },
                { "id": "linked", "deps": [dependency("deeper", Value::Null)] },
                { "id": "deeper", "deps": [dependency("linked", Value::Null)] },
                { "id": "builds", "deps": [] },
                { "id": "tests", "deps": [] },
            ] },
        });
        let names: Vec<String> = linked(&metadata).unwrap().into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["deeper", "linked"]);
    }
}
