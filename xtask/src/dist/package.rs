//! Makes files of a tree: a Debian package, an archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tree::Tree;
use super::{Release, project_file};
use crate::project;

/// An archive of the tree, to be unpacked in `/`.
pub fn archive(tree: &Tree, out: &Path, release: &Release) -> Result<PathBuf> {
    let name = format!("director-{}-x86_64-linux", release.version);
    let file = out.join(format!("{name}.tar.gz"));
    let level = if release.debug { "gzip -n -1" } else { "gzip -n -9" };
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .arg(format!("--mtime=@{}", release.time))
        .arg(format!("--transform=s,^\\.,{name},"))
        .arg(format!("--use-compress-program={level}"))
        .arg("--file")
        .arg(&file)
        .arg("--directory")
        .arg(tree.root())
        .arg(".");
    project::run(&mut tar)?;
    Ok(file)
}

/// The Debian package. It adds to the tree what only dpkg reads.
pub fn debian(tree: &Tree, out: &Path, release: &Release) -> Result<PathBuf> {
    let size = size_of(tree.root())?;
    let mut objdump = Command::new("objdump");
    let versions = objdump.arg("--private-headers").arg(tree.root().join("usr/sbin/director")).output();
    let versions = versions.context("Debian's package binutils has `objdump`")?;
    let glibc = newest_glibc(&String::from_utf8_lossy(&versions.stdout));
    tree.write("DEBIAN/control", 0o644, control(release.version, size, &glibc))?;
    tree.write("DEBIAN/conffiles", 0o644, "/etc/default/director\n/etc/director/director.yaml\n")?;
    for script in ["postinst", "prerm", "postrm"] {
        tree.copy(&project_file(&format!("deploy/debian/{script}")), &format!("DEBIAN/{script}"), 0o755)?;
    }
    let file = out.join(format!("director_{}_amd64.deb", release.version));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", if release.debug { "-Znone" } else { "-Zxz" }, "--build"])
        .arg(tree.root())
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", release.time.to_string())
        .stdout(std::process::Stdio::null());
    project::run(&mut dpkg).context("Debian's package dpkg has `dpkg-deb`")?;
    Ok(file)
}

/// What Debian wants to know of a package.
fn control(version: &str, kilobytes: u64, glibc: &str) -> String {
    format!(
        "Package: director
Version: {version}
Architecture: amd64
Maintainer: the authors of Director <director@localhost>
Installed-Size: {kilobytes}
Depends: libc6 (>= {glibc}), libgcc-s1
Recommends: ca-certificates
Section: net
Priority: optional
Description: Layer-4 load balancer director
 Clients reach virtual IP addresses; an XDP program forwards each connection
 to one of several real servers, by direct routing or NAT. Health checks say
 who serves, and heartbeats which of several directors holds the addresses.
 .
 It needs Linux 5.18 or newer with BTF.
"
    )
}

/// In KiB, as Installed-Size has it.
fn size_of(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        sum +=
            if is_directory { 1 + size_of(&entry.path())? } else { entry.metadata()?.len().div_ceil(1024) };
    }
    Ok(sum)
}

/// The newest version of glibc among those that `objdump` names: the loader wants that or a later one.
fn newest_glibc(versions: &str) -> String {
    let names = versions.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_2."));
    let minors = names.filter_map(|rest| rest.split('.').next()?.parse::<u32>().ok());
    format!("2.{}", minors.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_counts() {
        let versions = "  required from libc.so.6:\n    0x09691a75 0x00 09 GLIBC_2.2.5\n    0x069691b4 0x00 08 GLIBC_2.34\n";
        assert_eq!(newest_glibc(versions), "2.34");
        assert_eq!(newest_glibc(""), "2.0");
    }

    #[test]
    fn what_dpkg_reads_has_no_empty_line() {
        let text = control("1.2.3", 4096, "2.36");
        assert!(text.contains("\nVersion: 1.2.3\n") && text.contains("libc6 (>= 2.36)"));
        assert!(text.lines().all(|line| !line.is_empty()));
    }
}
