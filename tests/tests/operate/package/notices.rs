//! What a service tells its manager: the other end of sd_notify(3).

use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::machine::Machine;

const PATIENCE: Duration = Duration::from_secs(20);

/// A socket that listens. Words that came before one that was waited for are gone.
pub struct Notices {
    socket: UnixDatagram,
    waiting: RefCell<Vec<String>>,
}

impl Notices {
    pub fn listen(machine: &Machine, path: &str) -> Result<Notices> {
        Ok(Notices { socket: UnixDatagram::bind(machine.path(path))?, waiting: RefCell::default() })
    }

    /// Waits for a word.
    pub fn await_one(&self, word: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            let Some(next) = self.next(left)? else { break };
            if next == word {
                return Ok(());
            }
            heard.push(next);
        }
        bail!("waited in vain for {word}; heard {heard:?}")
    }

    /// All words that come in a time.
    pub fn within(&self, time: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + time;
        let mut heard = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            heard.extend(self.next(left)?);
        }
        Ok(heard)
    }

    fn next(&self, patience: Duration) -> Result<Option<String>> {
        if self.waiting.borrow().is_empty() {
            self.socket.set_read_timeout(Some(patience))?;
            let mut buffer = [0; 4096];
            let Ok(length) = self.socket.recv(&mut buffer) else { return Ok(None) };
            let text = String::from_utf8_lossy(&buffer[..length]);
            self.waiting.borrow_mut().extend(text.lines().rev().map(str::to_owned));
        }
        Ok(self.waiting.borrow_mut().pop())
    }
}
