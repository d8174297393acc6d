//! Debian's kernels: found in the archive, unpacked into a cache, not installed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::output_of;

/// What the lab and the director need that Debian's kernels have as modules, in the order to load them.
pub const MODULES: [&str; 6] = ["llc", "stp", "bridge", "veth", "sch_ingress", "cls_bpf"];

/// A line of kernels in Debian 12's archive; what is between the two ends of a package's name counts up.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Its kernels' version without what changes from one update to the next.
    pub name: &'static str,
    prefix: &'static str,
    suffix: &'static str,
}

/// Debian 12's own kernel.
pub const DEBIAN_6_1: Series = Series { name: "6.1", prefix: "linux-image-6.1.0-", suffix: "-amd64" };

/// The one of the release after it, built for Debian 12.
pub const DEBIAN_6_12: Series = Series { name: "6.12", prefix: "linux-image-6.12.", suffix: "+deb12-amd64" };

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Uncompressed: QEMU then boots it at once (PVH), with no decompressor to emulate.
    pub image: PathBuf,
    /// The files of [`MODULES`].
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// Takes the kernel from the cache; where none is, downloads the newest of its series. Removing the directory
    /// fetches anew.
    pub fn obtain(series: Series, cache: &Path) -> Result<Kernel> {
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        // Another test run waits, and then finds the kernel there.
        let lock = File::create(cache.join("lock"))?;
        lock.lock()?;
        let directory = cache.join(series.name);
        // One that was unpacked when the list of modules was shorter is fetched again.
        let modules = MODULES.map(|name| directory.join(format!("{name}.ko"))).to_vec();
        if !modules.iter().all(|module| module.exists()) {
            let fresh = cache.join(format!("{}.new", series.name));
            make_empty(&fresh)?;
            fetch(series, &fresh)
                .with_context(|| format!("no kernel {} from Debian's archive", series.name))?;
            make_empty(&directory)?;
            fs::rename(&fresh, &directory)?;
        }
        Ok(Kernel { image: directory.join("vmlinux"), modules })
    }
}

/// What a killed run left behind goes.
fn make_empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir(directory)?)
}

fn fetch(series: Series, directory: &Path) -> Result<()> {
    // The lists of a fresh machine are empty, and those of an old one name what is no more.
    if download(series, directory).is_err() {
        let updated = output_of(Command::new("apt-get").args(["update", "-q"]));
        if let Err(error) = download(series, directory) {
            // The first cause is the better explanation.
            updated?;
            return Err(error);
        }
    }
    let package = only_file(directory, ".deb")?;
    unpack(&package, directory)?;
    fs::remove_file(package)?;
    for name in MODULES {
        let compressed = directory.join(format!("{name}.ko.xz"));
        if compressed.exists() {
            output_of(Command::new("xz").arg("-d").arg(&compressed))?;
        }
    }
    let boot = only_file(directory, "vmlinuz-")?;
    decompress(payload(&fs::read(&boot)?)?, &directory.join("vmlinux"))?;
    Ok(fs::remove_file(boot)?)
}

fn download(series: Series, directory: &Path) -> Result<()> {
    let names = output_of(Command::new("apt-cache").args(["pkgnames", series.prefix]))?;
    let package = newest(series, &names).with_context(|| {
        format!("apt knows no {}*{}: Debian 12's archive has it", series.prefix, series.suffix)
    })?;
    let mut apt = Command::new("apt-get");
    // Its own user may not write here.
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(directory);
    output_of(&mut apt).map(drop)
}

/// Of the names, one a line, the series' with the highest number.
fn newest(series: Series, names: &str) -> Option<&str> {
    let number = |name: &str| {
        let middle = name.strip_prefix(series.prefix)?.strip_suffix(series.suffix)?;
        middle.parse::<u32>().ok()
    };
    names.lines().filter(|name| number(name).is_some()).max_by_key(|name| number(name))
}

fn only_file(directory: &Path, part: &str) -> Result<PathBuf> {
    let files = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let found = files.iter().find(|file| file.file_name().to_string_lossy().contains(part));
    found.map(|file| file.path()).with_context(|| format!("no {part} in {}", directory.display()))
}

/// Puts the kernel and the modules into the directory, and leaves out the other 4,000 files.
fn unpack(package: &Path, directory: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--transform", "s,.*/,,"]).current_dir(directory).args(["--wildcards", "*/vmlinuz-*"]);
    tar.args(MODULES.map(|name| format!("*/{name}.ko*")));
    let status = tar.stdin(archive.stdout.take().context("no pipe from dpkg-deb")?).status()?;
    ensure!(archive.wait()?.success() && status.success(), "cannot unpack {}", package.display());
    Ok(())
}

/// The compressed kernel within a bootable image; Linux's Documentation/arch/x86/boot.rst has the header.
fn payload(image: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let part = || {
        // The real-mode code: the boot sector and as many more.
        let code = (usize::from(*image.get(0x1f1)?) + 1) * 512;
        let start = code + word(0x248)?;
        // The uncompressed length follows what is compressed, and counts as its part.
        image.get(start..start + word(0x24c)?.checked_sub(4)?)
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "not a kernel image");
    part().context("the kernel image is cut short")
}

fn decompress(compressed: &[u8], output: &Path) -> Result<()> {
    let tool = match compressed.get(..4) {
        Some([0xfd, b'7', b'z', b'X']) => "xz",
        Some([0x28, 0xb5, 0x2f, 0xfd]) => "zstd",
        start => bail!("a kernel compressed in an unknown way: it begins with {start:02x?}"),
    };
    let mut child = Command::new(tool)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(File::create(output)?)
        .spawn()
        .with_context(|| format!("cannot run {tool}; `cargo xtask setup --vm` installs it"))?;
    child.stdin.take().context("no pipe")?.write_all(compressed)?;
    ensure!(child.wait()?.success(), "{tool} cannot decompress the kernel");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_has_the_highest_number() {
        let names = "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-56-amd64\nlinux-image-6.1.0-7-amd64\n\
                     linux-image-6.1.0-99-rt-amd64\nlinux-image-6.1.0-98-amd64-dbg\n";
        assert_eq!(newest(DEBIAN_6_1, names), Some("linux-image-6.1.0-56-amd64"));
        let names = "linux-image-6.12.9+deb12-amd64\nlinux-image-6.12.117+deb12-amd64\n\
                     linux-image-6.12.200+deb12-cloud-amd64\nlinux-image-6.12.300+deb13-amd64\n";
        assert_eq!(newest(DEBIAN_6_12, names), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest(DEBIAN_6_12, ""), None);
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 1024 + 16 + 10];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = 10;
        image[1040..1050].copy_from_slice(b"kernel\x06\0\0\0");
        assert_eq!(payload(&image).unwrap(), b"kernel");
        assert!(payload(&image[..1045]).is_err());
        assert!(payload(b"no kernel").is_err());
    }
}
