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
        let Reloaded { operations, surroundings, milliseconds, notes, problems } =
            converse(client.post(types::RELOAD, &()))?;
        let notes = notes.iter().map(|note| format!("note: {note}\n"));
        let problems = problems.iter().map(|problem| format!("problem: {problem}\n"));
        let mut text: String = notes.chain(problems).collect();
        text += &summary(operations, surroundings, milliseconds);
        print(&text)
    }
}

fn summary(operations: usize, surroundings: usize, milliseconds: u64) -> String {
    let others = match surroundings {
        0 => String::new(),
        _ => format!(", {surroundings} to VIPs and interfaces,"),
    };
    match (operations, surroundings) {
        (0, 0) => format!("Nothing to change ({milliseconds} ms).\n"),
        _ => {
            format!("Reloaded: {operations} changes to the data plane's maps{others} in {milliseconds} ms.\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_and_interfaces_are_changes_too() {
        assert_eq!(summary(0, 0, 3), "Nothing to change (3 ms).\n");
        assert_eq!(summary(2, 0, 3), "Reloaded: 2 changes to the data plane's maps in 3 ms.\n");
        let both = "Reloaded: 0 changes to the data plane's maps, 1 to VIPs and interfaces, in 3 ms.\n";
        assert_eq!(summary(0, 1, 3), both);
    }
}
