//! The limits as a layer of the log: what is over them goes no further, and is told once it is due.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::limit::{Limiter, NEWS, TROUBLE, Verdict};
use super::writer::Lines;

/// The most characters of a line that is shown for others like it.
const SHOWN: usize = 120;
/// Where the log's own lines come from. They have no limit: they are few, and say what is missing.
const OWN: &str = "director::logging";

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    limiter: Limiter<Identifier>,
    /// A line of each place that was left out.
    samples: HashMap<Identifier, Sample>,
}

#[derive(Debug)]
struct Sample {
    level: Level,
    text: String,
}

/// Leaves out what is too much.
pub(super) struct Limits {
    held: Arc<Held>,
    lines: Lines,
}

impl Limits {
    pub(super) fn new(held: Arc<Held>, lines: Lines) -> Limits {
        Limits { held, lines }
    }
}

impl<S: Subscriber> Layer<S> for Limits {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target().starts_with(OWN) {
            return true;
        }
        let level = *metadata.level();
        let room = if level <= Level::WARN { TROUBLE } else { NEWS };
        let place = metadata.callsite();
        let verdict = {
            let mut held = self.held.lock();
            let verdict = held.limiter.judge(&place, room, Instant::now());
            if verdict == (Verdict::LeaveOut { first: true }) {
                // With the count, so that neither is told without the other.
                let text = format!("a line of {}", metadata.target());
                held.samples.insert(place.clone(), Sample { level, text });
            }
            verdict
        };
        if verdict == (Verdict::LeaveOut { first: true }) {
            // Without the lock: the event's values write themselves, and may log. What was told meanwhile is told.
            let text = shown(event);
            if let Some(sample) = self.held.lock().samples.get_mut(&place) {
                sample.text = text;
            }
            self.lines.wake();
        }
        verdict == Verdict::Write
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until something is to be told.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        self.lock().limiter.next().map(|due| due.saturating_duration_since(now))
    }

    /// Tells what was left out, as far as that is due; all of it without a time.
    pub(super) fn tell(&self, now: Option<Instant>) {
        let due: Vec<(u64, Sample)> = {
            let mut inner = self.lock();
            let due = inner.limiter.due(now);
            due.into_iter()
                .filter_map(|(place, count)| Some((count, inner.samples.remove(&place)?)))
                .collect()
        };
        // Without the lock: this logs.
        for (left_out, Sample { level, text }) in due {
            match level {
                Level::ERROR => tracing::error!(left_out, "{left_out} more like this were left out: {text}"),
                Level::WARN => tracing::warn!(left_out, "{left_out} more like this were left out: {text}"),
                Level::INFO => tracing::info!(left_out, "{left_out} more like this were left out: {text}"),
                _ => tracing::debug!(left_out, "{left_out} more like this were left out: {text}"),
            }
        }
    }
}

/// An event in short: its message, then its fields.
fn shown(event: &Event<'_>) -> String {
    #[derive(Default)]
    struct Words {
        message: String,
        fields: String,
    }
    impl Visit for Words {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            match field.name() {
                "message" => self.message = format!("{value:?}"),
                name => self.fields += &format!(" {name}={value:?}"),
            }
        }
    }
    let mut words = Words::default();
    event.record(&mut words);
    let text = words.message + &words.fields;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{fmt, registry};

    use super::super::writer;
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Shown, it has everything told that was left out until then, by another thread.
    struct Teller<'a>(&'a Held, &'a tracing::Dispatch);

    impl std::fmt::Debug for Teller<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            let Teller(held, log) = self;
            std::thread::scope(|scope| {
                scope.spawn(|| tracing::dispatcher::with_default(log, || held.tell(None)));
            });
            f.write_str("told")
        }
    }

    #[test]
    fn what_is_told_while_a_line_is_left_out_is_not_lost() {
        let (held, written) = (Arc::new(Held::default()), Written::default());
        let (_log, lines) = writer::start(io::sink(), Arc::default()).expect("a thread");
        let to = written.clone();
        let text = fmt::layer().with_writer(move || to.clone()).with_ansi(false).without_time();
        let log = registry().with(Limits::new(Arc::clone(&held), lines)).with(text.with_target(false));
        let log = tracing::Dispatch::new(log);
        tracing::dispatcher::with_default(&log, || {
            for number in 0..=TROUBLE.first {
                // Only the last one is left out.
                let teller = (number == TROUBLE.first).then_some(Teller(&held, &log));
                tracing::warn!(target: "somewhere", ?teller, "it fails");
            }
            held.tell(None);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), TROUBLE.first as usize + 1, "{text}");
        let told = " WARN 1 more like this were left out: a line of somewhere left_out=1";
        assert_eq!(lines[lines.len() - 1], told);
    }

    #[test]
    fn what_is_left_out_is_told_at_its_level_with_a_line_of_it() {
        let (held, written) = (Arc::new(Held::default()), Written::default());
        let (_log, lines) = writer::start(io::sink(), Arc::default()).expect("a thread");
        let to = written.clone();
        let text = fmt::layer().with_writer(move || to.clone()).with_ansi(false).without_time();
        let log = registry().with(Limits::new(Arc::clone(&held), lines)).with(text.with_target(false));
        tracing::subscriber::with_default(log, || {
            assert_eq!(held.due_in(Instant::now()), None);
            for number in 0..TROUBLE.first + 7 {
                tracing::warn!(target: "somewhere", number, "it fails");
            }
            tracing::warn!(target: "somewhere", "another place");
            assert!(held.due_in(Instant::now()).is_some_and(|left| left <= super::super::limit::WINDOW));
            held.tell(Some(Instant::now()));
            held.tell(None);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), TROUBLE.first as usize + 2, "{text}");
        assert_eq!(lines[lines.len() - 2], " WARN another place");
        let told = " WARN 7 more like this were left out: it fails number=200 left_out=7";
        assert_eq!(lines[lines.len() - 1], told);
    }
}
