//! `director schema`.

use clap::Args;

use super::{Outcome, print};
use crate::config::reference;

/// Print the configuration's JSON Schema, by which editors complete keys and show mistakes.
///
/// It says of each value what it may be. What values have to do with each other, `director check` says.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director schema > director.schema.json
  director schema | jq -r '.properties | keys[]'

In an editor with yaml-language-server, the first line of the configuration names the file:
  # yaml-language-server: $schema=director.schema.json")]
pub(super) struct Schema {
    /// Print the reference as a page of the guide instead.
    #[arg(long, hide = true)]
    markdown: bool,
}

impl Schema {
    pub(super) fn execute(self) -> Outcome {
        if self.markdown {
            return print(&reference::markdown());
        }
        print(&(serde_json::to_string_pretty(&reference::schema())? + "\n"))
    }
}
