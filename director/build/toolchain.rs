//! Finds what compiles for BPF: a Rust compiler with its library's sources, and bpf-linker.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's compiler and its sources: packages rustc-web and rust-web-src.
const DEBIAN: (&str, &str) = ("/usr/bin/rustc", "/usr/lib/rustlib/src/rust/library");

/// A compiler with sources.
#[derive(Debug)]
pub struct Toolchain {
    rustc: Option<PathBuf>,
}

impl Toolchain {
    /// Makes a cargo command build with it. `-Z` options want a nightly compiler, or this variable.
    #[allow(dead_code, reason = "the project's tasks only look")]
    pub fn apply(&self, cargo: &mut Command) {
        cargo.env("RUSTC_BOOTSTRAP", "1");
        match &self.rustc {
            Some(rustc) => cargo.env("RUSTC", rustc),
            None => cargo.env_remove("RUSTC"),
        };
    }
}

/// The toolchain to use, or what to do to have one.
pub fn find() -> Result<Toolchain, String> {
    let toolchain = compiler()?;
    linker()?;
    Ok(toolchain)
}

/// A compiler with sources: the active one, else Debian's.
pub fn compiler() -> Result<Toolchain, String> {
    if active_sysroot().is_some_and(|root| root.join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Ok(Toolchain { rustc: None });
    }
    if Path::new(DEBIAN.0).is_file() && Path::new(DEBIAN.1).join("core").is_dir() {
        return Ok(Toolchain { rustc: Some(DEBIAN.0.into()) });
    }
    Err("the Rust library's sources are missing; run `rustup component add rust-src`, or on Debian \
         `apt-get install rustc-web rust-web-src`, or let `cargo xtask setup` do it"
        .into())
}

/// bpf-linker, in the search path.
pub fn linker() -> Result<(), String> {
    let found = Command::new("bpf-linker").arg("--version").output().is_ok_and(|out| out.status.success());
    if found {
        return Ok(());
    }
    Err("bpf-linker is missing; run `cargo install bpf-linker --version 0.10.3 --locked`, or let `cargo xtask \
         setup` do it"
        .into())
}

fn active_sysroot() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let out = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim()))
}
