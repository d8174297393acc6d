//! `director events`.

use std::time::Duration;

use clap::Args;

use super::{Outcome, SocketArg, converse, print};
use crate::api::types::{self, Event};

/// How often `--follow` asks.
const EVERY: Duration = Duration::from_millis(500);

/// Show what happened to services and real servers, and why: the last thousand events since the daemon's start.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director events
  director events --service web --follow
  director events --json | jq 'select(.to == \"down\")'")]
pub(super) struct Events {
    /// Only of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Go on, and show what happens from now on
    #[arg(long)]
    follow: bool,
    /// A line of JSON an event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Events {
    pub(super) fn execute(self) -> Outcome {
        let mut after = 0;
        loop {
            let path = format!("{}?after={after}", types::EVENTS);
            let events: Vec<Event> = converse(self.socket.client().get(&path))?;
            after = events.last().map_or(after, |event| event.id);
            let mut text = String::new();
            for event in
                events.iter().filter(|event| self.service.as_ref().is_none_or(|name| *name == event.service))
            {
                text.push_str(&if self.json { serde_json::to_string(event)? } else { line(event) });
                text.push('\n');
            }
            print(&text)?;
            if !self.follow {
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
    }
}

/// An event for people.
pub(super) fn line(event: &Event) -> String {
    let Event { time, service, real, from, to, reason, .. } = event;
    let real = real.as_ref().map_or(String::new(), |real| format!(" {real}"));
    format!("{time}  {service}{real}: {from} → {to}: {reason}")
}
