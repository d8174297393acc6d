//! `director hold`.

use clap::Args;

use super::{Outcome, SocketArg, converse, print};
use crate::api::types::{self, Held, HoldRequest};

/// Have this director stay standby: it gives away what it holds, and takes nothing, whatever happens to the others. For work on this
/// machine. It stays so over restarts, until `--off`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director hold
  director hold --off")]
pub(super) struct Hold {
    /// Take part again.
    #[arg(long)]
    off: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Hold {
    pub(super) fn execute(self) -> Outcome {
        let client = self.socket.client();
        let held: Held = converse(client.post(types::HOLD, &HoldRequest { hold: !self.off }))?;
        if self.json {
            return print(&(serde_json::to_string_pretty(&held)? + "\n"));
        }
        print(
            match (held.held, held.gave.as_slice()) {
                (false, _) => "This director takes part again.\n".to_owned(),
                (true, []) => "This director stays standby, until `director hold --off`.\n".to_owned(),
                (true, gave) => {
                    format!(
                        "This director gave away {}, and stays standby until `director hold --off`.\n",
                        gave.join(", ")
                    )
                }
            }
            .as_str(),
        )
    }
}
