//! What happened: the last of it is kept for `director events`, all of it is logged and told to whoever is to be notified.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::api::types::Event;

/// How many are kept.
const KEPT: usize = 1_000;
/// How many may wait to be told to somebody; those beyond are only kept and logged.
const MOST_UNTOLD: usize = 1_000;

/// The events, and where they go.
#[derive(Debug)]
pub(super) struct Events {
    kept: Mutex<Kept>,
    told: mpsc::Sender<Event>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<Event>,
}

/// What happened, before it has its number and time.
#[derive(Debug)]
pub(super) struct News {
    pub(super) service: String,
    pub(super) real: Option<String>,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) reason: String,
}

impl Events {
    /// None yet; and the end at which they are told.
    pub(super) fn new() -> (Events, mpsc::Receiver<Event>) {
        let (told, untold) = mpsc::channel(MOST_UNTOLD);
        (Events { kept: Mutex::default(), told }, untold)
    }

    /// Takes one.
    pub(super) fn push(&self, news: News) {
        let News { service, real, from, to, reason } = news;
        let mut kept = self.kept();
        kept.last += 1;
        let time =
            jiff::Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or_else(|_| jiff::Timestamp::now());
        let (from, to) = (from.to_owned(), to.to_owned());
        let event = Event { id: kept.last, time: time.to_string(), service, real, from, to, reason };
        let real = event.real.as_deref().unwrap_or("-");
        tracing::info!(
            service = event.service,
            real,
            from = event.from,
            to = event.to,
            reason = event.reason,
            "event"
        );
        if self.told.try_send(event.clone()).is_err() {
            tracing::warn!("too many events to tell them all");
        }
        kept.events.push_back(event);
        if kept.events.len() > KEPT {
            kept.events.pop_front();
        }
    }

    /// Those that are kept and came after one of this number.
    pub(super) fn after(&self, id: u64) -> Vec<Event> {
        self.kept().events.iter().filter(|event| event.id > id).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked left a whole list: an event is pushed as the last thing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
