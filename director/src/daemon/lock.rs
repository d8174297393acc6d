//! One director a socket, and one a set of pins.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a lock that is taken is waited for: so often, so long.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);

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
        match take(&file) {
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
        match take(&file) {
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

/// The process that has the lock that belongs to a socket, if one has. Its number is 0 while it has not said.
pub(crate) fn holder(socket: &Path) -> Result<Option<u32>> {
    let path = lock_file(socket);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("cannot open {}", path.display()))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Ok(Some(pid.trim().parse().unwrap_or(0)))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Takes a lock. Who only looks whether it is taken has it for a moment: that is waited for.
fn take(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            other => return other,
        }
    }
    file.try_lock()
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
        assert_eq!(holder(&socket).unwrap(), Some(std::process::id()));
        drop(first);
        assert_eq!(holder(&socket).unwrap(), None);
        Lock::for_socket(&socket).unwrap();

        let first = Lock::for_pins(&directory).unwrap();
        assert!(Lock::for_pins(&directory).unwrap_err().to_string().contains("another director"));
        drop(first);
        Lock::for_pins(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
