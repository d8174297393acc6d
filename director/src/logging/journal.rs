//! Whether the journal takes the log, and what it is told then: a level before each line (sd-daemon(3)).

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Puts the level before each line, as the journal wants it.
pub(super) struct Marked<F>(pub(super) F);

/// Whether standard error leads to the journal: whoever has connected it there says so by its device and inode (systemd.exec(5)).
pub fn is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").ok();
    said.zip(rustix::fs::fstat(std::io::stderr()).ok())
        .is_some_and(|(said, stat)| names(&said, stat.st_dev, stat.st_ino))
}

/// What the journal shows as an error.
pub fn marked_as_error(text: &str) -> String {
    marked(text, severity(Level::ERROR)).trim_end().to_owned()
}

/// Whether `said` is this device and inode.
fn names(said: &str, device: u64, inode: u64) -> bool {
    let numbers = said.split_once(':').and_then(|(one, other)| one.parse().ok().zip(other.parse().ok()));
    numbers == Some((device, inode))
}

/// A level as syslog numbers it (RFC 5424, 6.2.1).
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn marked(text: &str, severity: u8) -> String {
    text.lines().map(|line| format!("<{severity}>{line}\n")).collect()
}

impl<S, N, F> FormatEvent<S, N> for Marked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&marked(&text, severity(*event.metadata().level())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names("9:4711", 9, 4711));
        for other in ["", "9", "9:4712", "8:4711", "9:4711:1", "x:4711"] {
            assert!(!names(other, 9, 4711), "{other}");
        }
    }

    #[test]
    fn every_line_has_its_level() {
        assert_eq!(marked("one\ntwo\n", severity(Level::WARN)), "<4>one\n<4>two\n");
        let levels = [Level::ERROR, Level::INFO, Level::DEBUG, Level::TRACE].map(severity);
        assert_eq!(levels, [3, 6, 7, 7]);
        assert_eq!(marked_as_error("it failed"), "<3>it failed");
    }
}
