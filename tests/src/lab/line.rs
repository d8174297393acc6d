//! A serial line: two pseudo terminals, and a thread that carries bytes from the far end of each to that of the other.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::background::{Background, Stopped};

/// A line, until it is dropped.
#[derive(Debug)]
pub struct SerialLine {
    cut: Arc<AtomicBool>,
    _thread: Background<()>,
    /// As long as somebody has the near ends open, the far ones do not hang up.
    _near: [File; 2],
}

impl SerialLine {
    /// Lays a line between two devices of these names, which are made.
    pub fn new(ends: [&Path; 2]) -> Result<SerialLine> {
        let [(one, near_one), (other, near_other)] = [plug(ends[0])?, plug(ends[1])?];
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        let thread = Background::start(move |stopped| carry(&[one, other], stopped, &is_cut))?;
        Ok(SerialLine { cut, _thread: thread, _near: [near_one, near_other] })
    }

    /// What is said from now on is lost; the devices stay as they are.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// What is said from now on arrives again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

/// Makes a device of this name, and gives its far end and its near one.
fn plug(path: &Path) -> Result<(OwnedFd, File)> {
    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&far, true)?;
    grantpt(&far)?;
    unlockpt(&far)?;
    let name = ptsname(&far, Vec::new())?;
    let name = name.to_str().context("the terminal's name is no text")?;
    let _ = fs::remove_file(path);
    symlink(name, path).with_context(|| format!("cannot make {}", path.display()))?;
    let near = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?;
    Ok((far, near))
}

fn carry(ends: &[OwnedFd; 2], stopped: &Stopped, cut: &AtomicBool) {
    let mut bytes = [0; 4096];
    loop {
        let all = ends.iter().map(AsFd::as_fd).chain([stopped.as_fd()]);
        let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        if ready[2] {
            return;
        }
        for (from, to) in [(0, 1), (1, 0)].into_iter().filter(|(from, _)| ready[*from]) {
            let Ok(length) = rustix::io::read(&ends[from], &mut bytes) else { continue };
            if !cut.load(Ordering::Relaxed) {
                // As on a line without flow control, what finds no room is lost.
                let _ = rustix::io::write(&ends[to], &bytes[..length]);
            }
        }
    }
}
