//! A real terminal without a screen: tmux.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::output_of;
use crate::wait;

/// How long a screen may take to be what it is to be.
const PATIENCE: Duration = Duration::from_secs(10);

/// A terminal with a shell in it. Dropped, both end.
#[derive(Debug)]
pub struct Terminal {
    /// Of a server of its own.
    socket: PathBuf,
}

impl Terminal {
    /// Starts one of so many columns and lines, with its socket in a directory.
    pub fn start(directory: &Path, columns: u16, lines: u16) -> Result<Terminal> {
        let terminal = Terminal { socket: directory.join("tmux.sock") };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = ["env", "PS1=$ ", "LANG=C.UTF-8", "sh"];
        let words = ["-u", "-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines];
        terminal.tmux(&[&words[..], &shell].concat())?;
        terminal.await_text("the shell", "$")?;
        Ok(terminal)
    }

    /// Types a key by its name (`Down`, `C-c`), or text that is none's.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Types a line.
    pub fn line(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", text, "Enter"]).map(drop)
    }

    /// What is on the screen.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it is to be, and gives it.
    pub fn await_screen(&self, what: &str, mut right: impl FnMut(&str) -> bool) -> Result<String> {
        let waited = wait::until(what, PATIENCE, || Ok(Some(self.screen()?).filter(|screen| right(screen))));
        waited.with_context(|| format!("the screen is:\n{}", self.screen().unwrap_or_default()))
    }

    /// Waits until a text is on the screen.
    pub fn await_text(&self, what: &str, text: &str) -> Result<String> {
        self.await_screen(what, |screen| screen.contains(text))
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        // It may itself be run from within another one.
        output_of(Command::new("tmux").env_remove("TMUX").arg("-S").arg(&self.socket).args(words))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its own server, which has only this session. If it is gone already, all the better.
        let _ = self.tmux(&["kill-server"]);
    }
}
