//! Logging that holds nothing up: a log that nobody reads blocks its writer, so another thread writes it.

use std::sync::mpsc::{SyncSender, sync_channel};

/// The most lines that wait to be logged; what comes on top is counted.
const MOST_LINES: usize = 1024;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// What happened.
    Info(String),
    /// What should not have happened.
    Warn(String),
}

/// The way to the log.
#[derive(Debug)]
pub struct Journal {
    lines: SyncSender<Line>,
    lost: usize,
}

impl Journal {
    /// Starts the thread that writes; it ends with this.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start() -> std::io::Result<Journal> {
        let (lines, waiting) = sync_channel(MOST_LINES);
        std::thread::Builder::new()
            .name("takeover-log".to_owned())
            .spawn(move || waiting.into_iter().for_each(Line::write))?;
        Ok(Journal { lines, lost: 0 })
    }

    /// Has lines written some time soon.
    pub fn log(&mut self, lines: impl Iterator<Item = Line>) {
        for line in lines {
            if self.lost > 0 {
                let note = Line::Warn(format!("{} lines of takeover's log were lost", self.lost));
                self.lost = if self.lines.try_send(note).is_ok() { 0 } else { self.lost };
            }
            if self.lines.try_send(line).is_err() {
                self.lost += 1;
            }
        }
    }
}

impl Line {
    /// Logs it here and now.
    pub fn write(self) {
        match self {
            Line::Info(text) => tracing::info!("{text}"),
            Line::Warn(text) => tracing::warn!("{text}"),
        }
    }
}
