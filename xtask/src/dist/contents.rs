//! What is in a package.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap_complete::Shell;

use super::tree::Tree;
use super::{Release, name_of, project_file};
use crate::{licences, project};

const DOCUMENTATION: &str = "usr/share/doc/director";
/// What a machine installs elsewhere than it lies in `deploy`.
const PLACED: [&str; 2] = ["systemd", "debian"];

/// Puts everything into the tree that both kinds of package have.
pub fn fill(tree: &Tree, binary: &Path, release: &Release) -> Result<()> {
    program(tree, binary)?;
    tree.copy(
        &project_file("deploy/systemd/director.service"),
        "usr/lib/systemd/system/director.service",
        0o644,
    )?;
    tree.copy(&project_file("deploy/debian/director.yaml"), "etc/director/director.yaml", 0o644)?;
    tree.copy(&project_file("deploy/debian/default"), "etc/default/director", 0o644)?;
    manual(tree, release)?;
    completions(tree)?;
    documentation(tree)?;
    deployment(tree)
}

/// The director without what only a debugger needs. The BPF objects are in it.
fn program(tree: &Tree, binary: &Path) -> Result<()> {
    let path = "usr/sbin/director";
    tree.copy(binary, path, 0o755)?;
    project::run(Command::new("strip").arg("--strip-unneeded").arg(tree.root().join(path)))
        .context("Debian's package binutils has `strip`")
}

/// A page for the director and one for each subcommand.
fn manual(tree: &Tree, release: &Release) -> Result<()> {
    let mut command = director::cli::command();
    command.build();
    let pages = command.get_subcommands().filter(|one| one.get_name() != "help").map(|one| {
        let name = format!("director-{}", one.get_name());
        (name.clone(), one.clone().display_name(name))
    });
    for (name, page) in std::iter::once(("director".to_owned(), command.clone())).chain(pages) {
        let mut text = Vec::new();
        clap_mangen::Man::new(page)
            .section("8")
            .source(format!("Director {}", release.version))
            .manual("Director")
            .date("")
            .render(&mut text)?;
        tree.write(&format!("usr/share/man/man8/{name}.8.gz"), 0o644, gzip(&text)?)?;
    }
    Ok(())
}

fn completions(tree: &Tree) -> Result<()> {
    for (shell, path) in [
        (Shell::Bash, "usr/share/bash-completion/completions/director"),
        (Shell::Zsh, "usr/share/zsh/vendor-completions/_director"),
        (Shell::Fish, "usr/share/fish/vendor_completions.d/director.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut director::cli::command(), "director", &mut text);
        tree.write(path, 0o644, text)?;
    }
    Ok(())
}

fn documentation(tree: &Tree) -> Result<()> {
    for file in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY.md"] {
        tree.copy(&project_file(file), &format!("{DOCUMENTATION}/{file}"), 0o644)?;
    }
    tree.copy_all(&project_file("docs/guide"), &format!("{DOCUMENTATION}/guide"))?;
    let texts = licences::texts(&licences::packages()?);
    tree.write(&format!("{DOCUMENTATION}/THIRD-PARTY-LICENCES.txt.gz"), 0o644, gzip(texts.as_bytes())?)?;
    tree.write(&format!("{DOCUMENTATION}/copyright"), 0o644, COPYRIGHT)
}

/// Whatever is for other machines and programs: editors, real servers, Prometheus, Grafana; and examples.
fn deployment(tree: &Tree) -> Result<()> {
    let schema = serde_json::to_string_pretty(&director::config::reference::schema())? + "\n";
    tree.write("usr/share/director/director.schema.json", 0o644, schema)?;
    for entry in fs::read_dir(project_file("deploy"))? {
        let entry = entry?;
        let (path, name) = (entry.path(), name_of(&entry.path()));
        if !entry.file_type()?.is_dir() {
            tree.copy(&path, &format!("{DOCUMENTATION}/examples/{name}"), 0o644)?;
        } else if !PLACED.contains(&name.as_str()) {
            tree.copy_all(&path, &format!("usr/share/director/{name}"))?;
        }
    }
    Ok(())
}

/// By the program, which writes no name and, told so, no time.
fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    encoder.write_all(text)?;
    Ok(encoder.finish()?)
}

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: director

Files: *
Copyright: the authors of Director
License: MIT or Apache-2.0
 The texts are in LICENSE-MIT and LICENSE-APACHE beside this file. What the program is linked with, and under
 which licences, is in THIRD-PARTY.md; their texts, as far as packages bring them, are in THIRD-PARTY-LICENCES.txt.gz.
";
