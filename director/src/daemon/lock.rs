//! One director a socket, and one a set of pins.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A lock, as long as this lives. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The lock file that belongs to a socket.
pub(crate) fn lock_file(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

impl Lock {
    /// Takes the lock that belongs to a socket.
    pub(crate) fn for_socket(socket: &Path) -> Result<Lock> {
        let path = lock_file(socket);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let who =
                    if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
                bail!(
                    "another director{who} runs with the socket {}\n  help: `director status` shows it, `director stop` ends it",
                    socket.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // For whoever comes second; nothing depends on it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }

    /// Takes the lock on a directory of pins, which another director with another socket may have.
    pub(crate) fn for_pins(pins: &Path) -> Result<Lock> {
        let file = File::open(pins).with_context(|| format!("cannot open {}", pins.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another director runs with the pins {}\n  help: give each its own with --pins, or end the other one with \
                 `director stop --socket …`",
                pins.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", pins.display()))
            }
        }
    }
}

/// Whether somebody has the lock that belongs to a socket.
pub(crate) fn is_held(socket: &Path) -> Result<bool> {
    let path = lock_file(socket);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.with_context(|| format!("cannot open {}", path.display()))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_gone() {
        let directory = std::env::temp_dir().join(format!("director-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("director.sock");
        let first = Lock::for_socket(&socket).unwrap();
        let refusal = Lock::for_socket(&socket).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        Lock::for_socket(&socket).unwrap();

        let first = Lock::for_pins(&directory).unwrap();
        assert!(Lock::for_pins(&directory).unwrap_err().to_string().contains("another director"));
        drop(first);
        Lock::for_pins(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
