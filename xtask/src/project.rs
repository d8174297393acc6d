//! Where the project is, and how its parts are built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, ffi::OsStr};

use anyhow::{Context, Result, ensure};

/// How to run one of these tasks as root with the user's own toolchain: sudo drops PATH even with -E.
pub fn as_root(task: &str) -> String {
    format!("sudo -E env \"PATH=$PATH\" cargo xtask {task}")
}

/// The workspace's directory.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The cargo that runs us, in the workspace's directory.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo tells this program of its own package would make other packages build afresh.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs cargo with its output in the open.
pub fn run_cargo<S: AsRef<OsStr>>(arguments: &[S]) -> Result<()> {
    run(cargo().args(arguments))
}

/// Runs a command with its output in the open.
pub fn run(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(status.success(), "`{line}`: {status}");
    Ok(())
}

/// Builds the director as a release and gives the binary.
pub fn build_director() -> Result<PathBuf> {
    run_cargo(&["build", "--release", "--package", "director"])?;
    Ok(target_directory()?.join("release/director"))
}

/// Builds the director as tests want it, by a cargo of the caller's: unoptimized, since tests build its library so anyway, and with
/// checks of overflows. Its BPF program is always optimized.
pub fn build_tested_director(mut cargo: Command) -> Result<PathBuf> {
    run(cargo.args(["build", "--workspace", "--bin", "director"]))?;
    Ok(target_directory()?.join("debug/director"))
}

/// Where cargo builds.
pub fn target_directory() -> Result<PathBuf> {
    let output = cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    Ok(directory.into())
}

/// Whether this program may do as it likes.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
