//! The log of `director run`: as text or as JSON, with levels for journald where that takes it, written by a thread of its own, and with
//! a limit to lines that are alike, so that no flood fills a disk.

mod journal;
mod layer;
mod limit;
mod writer;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use journal::Marked;
use layer::{Held, Limits};

pub use journal::{is_journal, marked_as_error};
pub use writer::{Lines, Log, lost, problem};

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// What ends the process, as the log in JSON has its lines.
pub fn error_as_json(message: &str) -> String {
    let mut timestamp = String::new();
    // A string takes all that is written to it.
    let _ =
        fmt::time::FormatTime::format_time(&fmt::time::SystemTime, &mut format::Writer::new(&mut timestamp));
    let line = serde_json::json!({
        "timestamp": timestamp,
        "level": "ERROR",
        "message": message,
        "target": "director",
    });
    line.to_string()
}

/// Sends what this process logs to standard error, until the end: then the log waits for the last lines. `limited`: of lines that are
/// alike, at most so many as [`limit`] says.
///
/// # Errors
/// There is no thread to be had.
pub fn start(filter: EnvFilter, format: Format, limited: bool) -> io::Result<Log> {
    let held = Arc::new(Held::default());
    let (log, lines) = writer::start(io::stderr(), Arc::clone(&held))?;
    let limits = limited.then(|| Limits::new(held, lines.clone()));
    let base = fmt::layer().with_writer(move || lines.clone()).with_ansi(io::stderr().is_terminal());
    let events = format::format();
    let layer = match (format, is_journal()) {
        (Format::Text, false) => base.with_target(false).boxed(),
        // The journal has its own time.
        (Format::Text, true) => {
            let events = events.with_target(false).without_time().with_ansi(false);
            base.with_ansi(false).event_format(Marked(events)).boxed()
        }
        (Format::Json, marked) => {
            let json = base.json().flatten_event(true).with_current_span(false).with_span_list(false);
            if marked { json.map_event_format(Marked).boxed() } else { json.boxed() }
        }
    };
    registry().with(filter).with(limits).with(layer).init();
    Ok(log)
}
