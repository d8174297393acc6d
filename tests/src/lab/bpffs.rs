//! The BPF file system, where the director pins what shall outlive it.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where it is mounted by convention.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Whether it is mounted.
pub fn is_mounted() -> bool {
    rustix::fs::statfs(MOUNT_POINT).is_ok_and(|status| status.f_type as u64 == BPF_FS_MAGIC)
}

/// Mounts it unless it is. Not every system does that at boot.
pub fn ensure_mounted() -> Result<()> {
    if is_mounted() {
        return Ok(());
    }
    rustix::mount::mount("bpf", MOUNT_POINT, "bpf", rustix::mount::MountFlags::empty(), None::<&CStr>)
        .with_context(|| format!("cannot mount bpffs at {MOUNT_POINT}"))
}

/// The directory of one lab's pins.
pub fn pins(lab: &str) -> PathBuf {
    Path::new(MOUNT_POINT).join(lab)
}

/// Removes a directory of pins: what nothing else holds, a link to an interface above all, ends with its pin.
pub fn remove_pins(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the pins in {}", directory.display()))
        }
        _ => Ok(()),
    }
}
