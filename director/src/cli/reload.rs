//! `director reload`.

use clap::Args;

use super::{Outcome, SocketArg, converse};
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
        for note in notes {
            println!("note: {note}");
        }
        for problem in problems {
            println!("problem: {problem}");
        }
        match operations {
            0 => println!("Nothing to change ({milliseconds} ms)."),
            _ => println!("Reloaded: {operations} changes to the data plane's maps in {milliseconds} ms."),
        }
        Ok(())
    }
}
