//! `cargo xtask dist`: the package for Debian and the archive for other systems.

mod contents;
mod package;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{project, setup};
use tree::Tree;

/// What `dist` can be told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist                    target/dist/director_VERSION_amd64.deb and director-VERSION-x86_64-linux.tar.gz
  cargo xtask dist --debug            the same of a debug build, uncompressed: for tests
  cargo xtask dist --version 0.1.1 --out /tmp/packages
  SOURCE_DATE_EPOCH=1700000000 cargo xtask dist    the time of every file in it; else that of the last commit")]
pub struct Arguments {
    /// Of a debug build, and uncompressed
    #[arg(long)]
    debug: bool,
    /// Of this binary, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The version, instead of the project's
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Only the Debian package
    #[arg(long)]
    package_only: bool,
    /// Where to put them, instead of target/dist
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

/// What all files of a package have in common.
struct Release<'a> {
    version: &'a str,
    /// Seconds since 1970.
    time: u64,
    debug: bool,
}

/// Runs the task.
pub fn run(arguments: &Arguments) -> Result<()> {
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => build(arguments.debug)?,
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => project::target_directory()?.join("dist"),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let release = Release { version: &arguments.version, time: time()?, debug: arguments.debug };
    let tree = Tree::within(&out)?;
    contents::fill(&tree, &binary, &release)?;
    let mut files = Vec::new();
    if !arguments.package_only {
        files.push(package::archive(&tree, &out, &release)?);
    }
    files.push(package::debian(&tree, &out, &release)?);
    for file in files {
        println!("{} ({} KiB)", file.display(), fs::metadata(&file)?.len() / 1024);
    }
    Ok(())
}

fn build(debug: bool) -> Result<PathBuf> {
    setup::ensure(setup::Scope::Build)?;
    if !debug {
        return project::build_director();
    }
    project::run_cargo(&["build", "--package", "director"])?;
    Ok(project::target_directory()?.join("debug/director"))
}

/// The time that all files get, so that the same sources make the same package: SOURCE_DATE_EPOCH, or when the last commit was made, or,
/// outside a repository, 1970.
fn time() -> Result<u64> {
    if let Ok(set) = std::env::var("SOURCE_DATE_EPOCH") {
        return set.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {set:?}, not a number of seconds"));
    }
    let mut git = std::process::Command::new("git");
    let commit = git.args(["log", "-1", "--format=%ct"]).current_dir(project::root()).output();
    let text = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(text.ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A path below the project.
fn project_file(path: &str) -> PathBuf {
    project::root().join(path)
}

/// The name of a file or directory.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
