//! `director check`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{CONFIG, Failed, MISUSE, Outcome, print};
use crate::config::{self, Failure, Loaded, Problem};
use crate::model::Config;

/// Check a configuration: every error at once, with its line and column and how to mend it.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director check /etc/director/director.yaml
  director check new.yaml && mv new.yaml /etc/director/director.yaml && director reload
  director check --node lb1 new.yaml
  director check --json new.yaml | jq -r '.errors[].message'")]
pub(super) struct Check {
    /// The configuration's file.
    #[arg(value_name = "FILE", default_value = CONFIG)]
    file: PathBuf,
    /// Check, too, that the section `heartbeat` has a director of this name, as `director run --node NAME` will need it.
    /// Without that section it is not used.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print JSON: {ok, file, errors, notes}, each with line, column, message and hint.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    file: &'a Path,
    /// Why the file cannot be read, if so.
    unreadable: Option<&'a str>,
    errors: &'a [Problem],
    notes: &'a [Problem],
}

impl Check {
    pub(super) fn execute(self) -> Outcome {
        let file = self.file.as_path();
        let checked = config::load(file);
        let stranger =
            checked.as_ref().ok().and_then(|loaded| stranger(self.node.as_deref(), &loaded.config));
        if self.json {
            let report = match &checked {
                Ok(Loaded { notes, .. }) => {
                    let errors = stranger.as_slice();
                    Report { ok: errors.is_empty(), file, unreadable: None, errors, notes }
                }
                Err(Failure::Unreadable { reason, .. }) => {
                    Report { ok: false, file, unreadable: Some(reason), errors: &[], notes: &[] }
                }
                Err(Failure::Invalid { problems, .. }) => {
                    Report { ok: false, file, unreadable: None, errors: problems, notes: &[] }
                }
            };
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
            return match (checked, stranger) {
                (Ok(_), None) => Ok(()),
                // What is wrong has been said; this is for people who look on.
                _ => Err(Failed { code: MISUSE, message: format!("{} is not sound", file.display()) }),
            };
        }
        if let Some(Problem { message, .. }) = stranger {
            return Err(Failed { code: MISUSE, message: format!("{}: {message}", file.display()) });
        }
        match checked {
            Ok(Loaded { config, notes, .. }) => {
                let mut text = String::new();
                for Problem { line, column, message, hint } in &notes {
                    text += &format!("{}:{line}:{column}: note: {message}\n", file.display());
                    if let Some(hint) = hint {
                        text += &format!("  help: {hint}\n");
                    }
                }
                text += &format!("{}: OK: {}\n", file.display(), summary(&config));
                print(&text)
            }
            Err(failure) => Err(Failed { code: MISUSE, message: failure.to_string() }),
        }
    }
}

/// What is wrong with the name that was given. It stands nowhere in the text, so its place is where that begins.
fn stranger(node: Option<&str>, config: &Config) -> Option<Problem> {
    let (node, heartbeat) = (node?, config.heartbeat.as_ref()?);
    let message = config::node_name(Some(node), heartbeat).err()?;
    Some(Problem { line: 1, column: 1, message, hint: None })
}

fn summary(config: &Config) -> String {
    let reals: BTreeSet<_> =
        config.services.iter().flat_map(|service| &service.reals).map(|real| real.address).collect();
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    [
        count(config.interfaces.len(), "interface", "interfaces"),
        count(config.vips.len(), "VIP", "VIPs"),
        count(config.services.len(), "service", "services"),
        count(reals.len(), "real server", "real servers"),
    ]
    .join(", ")
}
