//! Builds the BPF programs for the binary to carry.

mod toolchain;

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=../director-ebpf");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-env-changed=PATH");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = build(&out) {
        for line in format!("the BPF program cannot be built: {error}").lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build(out: &std::path::Path) -> Result<(), String> {
    let toolchain = toolchain::find()?;
    let target = out.join("bpf");
    let mut flags = vec![
        "-Cdebuginfo=2",
        "-Cpanic=abort",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
        // Small copies and fills become a few stores. bpf-linker has them call functions that go byte by byte.
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ];
    // The project's own lint run: what the compiler says of the program is otherwise seen by nobody.
    println!("cargo:rerun-if-env-changed=DIRECTOR_DENY_WARNINGS");
    if std::env::var_os("DIRECTOR_DENY_WARNINGS").is_some() {
        flags.push("-Dwarnings");
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--release", "--package", "director-ebpf", "--features", "bpf", "--bins"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--locked", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    toolchain.apply(&mut cargo);
    let output = cargo.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    for object in ["director-xdp", "director-probes", "director-lab"] {
        let built = target.join("bpfel-unknown-none/release").join(object);
        std::fs::copy(&built, out.join(object)).map_err(|error| format!("{}: {error}", built.display()))?;
    }
    Ok(())
}
