//! The guest's files: an archive that the kernel unpacks into memory as it starts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::lab::{output_of, search_path};

/// Where the guest finds the director.
pub(super) const DIRECTOR: &str = "/bin/director";

/// Where the guest finds the modules.
pub(super) const MODULES: &str = "/modules";

/// What the lab runs when it is built.
const TOOLS: [&str; 3] = ["ip", "ethtool", "sh"];

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in cpio's "newc" format, which kernels read.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

/// Packs what the guest needs: its first process, the director, the tools of the lab, their libraries, the modules.
pub fn pack(guest: &Path, director: &Path, kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run", "tmp", "var", "etc"] {
        archive.directory(directory);
    }
    archive.entry("var/run", SYMLINK | 0o777, (0, 0), b"/run");
    archive.entry("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[]);
    archive.program("/init", guest)?;
    archive.program(DIRECTOR, director)?;
    for tool in TOOLS {
        archive.program(&format!("/bin/{tool}"), &find(tool)?)?;
    }
    for module in &kernel.modules {
        let name = module.file_name().and_then(OsStr::to_str).context("a module without a name")?;
        archive.file(&format!("{MODULES}/{name}"), module)?;
    }
    Ok(archive.finish())
}

impl Archive {
    /// Adds a program and the libraries that it is linked with.
    fn program(&mut self, path: &str, file: &Path) -> Result<()> {
        for library in libraries(file) {
            let path = library.to_str().context("a library's path is not UTF-8")?;
            self.file(path, &library)?;
        }
        self.file(path, file)
    }

    /// Adds a file, unless it is there.
    fn file(&mut self, path: &str, file: &Path) -> Result<()> {
        let contents = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.entry(path, REGULAR | 0o755, (0, 0), &contents);
        Ok(())
    }

    fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds an entry with the directories above it, unless it is there.
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        let path = path.trim_start_matches('/');
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.write(path, mode, device, contents);
    }

    fn write(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        let inode = self.paths.len() as u32;
        let (length, name) = (contents.len() as u32, path.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, length, the file system's device, the node's own, name, checksum.
        let fields = [inode, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

/// What a program is linked with; nothing, if it is linked statically.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = output_of(Command::new("ldd").arg(program)).unwrap_or_default();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn find(tool: &str) -> Result<PathBuf> {
    let path = search_path();
    let mut candidates = path.split(':').map(|directory| Path::new(directory).join(tool));
    let found = candidates.find(|candidate| candidate.is_file());
    found.with_context(|| format!("{tool} is not installed; `cargo xtask setup --vm` installs it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_after_its_directories_and_once() {
        let mut archive = Archive::default();
        archive.entry("/a/b/c", REGULAR | 0o755, (0, 0), b"12345");
        archive.entry("a/b/c", REGULAR | 0o755, (0, 0), b"other");
        let bytes = archive.finish();
        let at = |name: &str| bytes.windows(name.len()).position(|window| window == name.as_bytes());
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0") && at("12345\0\0\0").is_some());
        assert_eq!(at("other"), None);
        assert!(bytes.len() % 4 == 0 && at("TRAILER!!!\0").is_some());
        let header = at("a/b/c\0").unwrap() - 110;
        assert_eq!(&bytes[header..header + 6], b"070701");
        assert_eq!(&bytes[header + 54..header + 62], b"00000005");
    }
}
