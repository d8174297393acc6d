//! `director reload`.

use clap::Args;

use super::{Outcome, SocketArg, converse, print};
use crate::api::types::{self, Reloaded};

/// Have the director read its configuration again. Only what changed is written; a bad file leaves everything as it was.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director reload
  director reload --socket /run/director/second.sock")]
pub(super) struct Reload {
    #[command(flatten)]
    socket: SocketArg,
}

impl Reload {
    pub(super) fn execute(self) -> Outcome {
        let client = self.socket.client();
        let Reloaded { operations, milliseconds, notes, problems } =
            converse(client.post(types::RELOAD, &()))?;
        let notes = notes.iter().map(|note| format!("note: {note}\n"));
        let problems = problems.iter().map(|problem| format!("problem: {problem}\n"));
        let mut text: String = notes.chain(problems).collect();
        text += &match operations {
            0 => format!("Nothing to change ({milliseconds} ms).\n"),
            _ => format!("Reloaded: {operations} changes to the data plane's maps in {milliseconds} ms.\n"),
        };
        print(&text)
    }
}
