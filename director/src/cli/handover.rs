//! `director handover`.

use clap::Args;

use super::{Outcome, SocketArg, converse, print};
use crate::api::types::{self, HandedOver, HandoverRequest};

/// Give groups of VIPs to another director. It takes them before this one lets go, so no packet is lost. The other one keeps them
/// until it hands them back, or until it ends or is worse off, whatever `failback` says.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director handover                    # everything that this director holds
  director handover blue --to lb2
  director handover --json | jq '.groups[] | {group, to}'")]
pub(super) struct Handover {
    /// The group; left out: every group that this director holds.
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    /// The director that shall have it; left out: the best.
    #[arg(long, value_name = "DIRECTOR")]
    to: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Handover {
    pub(super) fn execute(self) -> Outcome {
        let client = self.socket.client();
        let request = HandoverRequest { group: self.group, to: self.to };
        let handed: HandedOver = converse(client.post(types::HANDOVER, &request))?;
        if self.json {
            return print(&(serde_json::to_string_pretty(&handed)? + "\n"));
        }
        let lines =
            handed.groups.iter().map(|given| format!("{} is held by {} now.\n", given.group, given.to));
        print(&format!("{}It took {} ms.\n", lines.collect::<String>(), handed.milliseconds))
    }
}
