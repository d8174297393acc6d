//! What a log can run into: a pipe that nobody reads, and a disk that is full.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::pipe::{PipeFlags, pipe_with};

use super::process::output_of;

/// A pipe that nobody reads before it is told to.
#[derive(Debug)]
pub struct Pipe {
    /// Without blocking.
    reader: File,
    writer: OwnedFd,
}

/// A file system of a few hundred kilobytes, in memory. Dropped, it goes.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl Pipe {
    /// An empty one.
    pub fn new() -> Result<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok(Pipe { reader: File::from(reader), writer })
    }

    /// The end to write to.
    pub fn writer(&self) -> Result<OwnedFd> {
        Ok(self.writer.try_clone()?)
    }

    /// Fills it: whoever writes to it from now on, blocks.
    pub fn fill(&self) -> Result<()> {
        // A file of its own, so that the others go on to block.
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        let mut writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let mut block = &[b'.'; 4096][..];
        loop {
            match writer.write(block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && block.len() > 1 => block = &block[..1],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot fill the pipe"),
            }
        }
    }

    /// Reads what is in it now.
    pub fn drain(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

impl SmallDisk {
    /// Mounts one at this directory, which is made.
    pub fn mount(directory: &Path) -> Result<SmallDisk> {
        fs::create_dir_all(directory)?;
        let mut mount = Command::new("mount");
        output_of(mount.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "director-lab"]).arg(directory))?;
        Ok(SmallDisk(directory.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.0.join("filler"))?;
        loop {
            match file.write(&[0; 4096]) {
                Ok(0) => bail!("{} takes nothing, and does not say why", self.0.display()),
                Ok(_) => {}
                Err(error) => {
                    ensure!(error.kind() == ErrorKind::StorageFull, "cannot fill the disk: {error}");
                    return Ok(());
                }
            }
        }
    }

    /// Makes room again.
    pub fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also where somebody still has a file open there.
        if let Err(error) = output_of(Command::new("umount").arg("--lazy").arg(&self.0)) {
            eprintln!("{error:#}");
        }
    }
}
