//! `director doctor`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::text::table;
use super::{CONFIG, FAILURE, Failed, Outcome, PINS, print};
use crate::doctor::gather::{Patient, gather};
use crate::doctor::{Finding, Severity, examine};

/// The exit code where the worst is a warning.
const WARNED: u8 = 3;

/// Examine this machine and its farm, and say what is wrong and what to do about it. Changes nothing.
///
/// Works with and without a running director; with one it knows more. It asks by ARP and neighbour solicitations who answers
/// for the VIPs, and tries real servers under direct forwarding for their VIPs. It takes about a second, and needs root.
///
/// Exit codes: 0 nothing worse than a note, 1 at least one error, 2 wrong command line, 3 warnings but no error.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director doctor
  director doctor --config new.yaml --node lb1
  director doctor --all
  director doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .message'")]
pub(super) struct Doctor {
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Which of the directors in the section `heartbeat` this machine is, where its host name does not say it.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The running director's socket, in place of `socket` in the configuration.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The directory that keeps the data plane, as for `director run`.
    #[arg(long, value_name = "DIRECTORY", default_value = PINS)]
    pins: PathBuf,
    /// Show what is as it should be, too.
    #[arg(long)]
    all: bool,
    /// Print JSON: {worst, findings}, each with severity, topic, at, message and help.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    worst: Severity,
    findings: &'a [Finding],
}

impl Doctor {
    pub(super) fn execute(self) -> Outcome {
        let Doctor { config, node, socket, pins, all, json } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let facts = runtime.block_on(gather(&Patient { config, node, socket, pins }))?;
        let findings = examine(&facts);
        let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        if json {
            print(&(serde_json::to_string_pretty(&Report { worst, findings: &findings })? + "\n"))?;
        } else {
            print(&told(&findings, all))?;
        }
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        match worst {
            Severity::Ok | Severity::Note => Ok(()),
            Severity::Warning => Err(Failed { code: WARNED, message: plural(count(worst), "warning") }),
            Severity::Error => Err(Failed { code: FAILURE, message: plural(count(worst), "error") }),
        }
    }
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{} found", if count == 1 { "" } else { "s" })
}

/// The worst first.
fn told(findings: &[Finding], all: bool) -> String {
    let mut text = String::new();
    for severity in [Severity::Error, Severity::Warning, Severity::Note, Severity::Ok] {
        if severity == Severity::Ok && !all {
            continue;
        }
        for Finding { topic, at, message, help, .. } in findings.iter().filter(|one| one.severity == severity)
        {
            let at = if at.is_empty() { String::new() } else { format!(" {at}") };
            text += &format!("{} [{topic}]{at}: {message}\n", severity.name());
            if let Some(help) = help {
                text += &format!("  help: {help}\n");
            }
        }
    }
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count().to_string();
    let row = [Severity::Ok, Severity::Note, Severity::Warning, Severity::Error]
        .map(|severity| format!("{} {}", count(severity), severity.name()));
    text + &table(&[row.to_vec()], &[1, 2, 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_what_is_well_is_only_counted() {
        let finding = |severity, message: &str, help: Option<&str>| Finding {
            severity,
            topic: "arp",
            at: "192.0.2.10".to_owned(),
            message: message.to_owned(),
            help: help.map(str::to_owned),
        };
        let findings = [
            finding(Severity::Ok, "well", None),
            finding(Severity::Note, "curious", None),
            finding(Severity::Error, "broken", Some("mend it")),
        ];
        let expected = "error [arp] 192.0.2.10: broken\n  help: mend it\nnote [arp] 192.0.2.10: curious\n\
                        1 ok  1 note  0 warning  1 error\n";
        assert_eq!(told(&findings, false), expected);
        assert!(told(&findings, true).contains("ok [arp] 192.0.2.10: well\n"));
        assert_eq!(
            (plural(1, "error"), plural(2, "error")),
            ("1 error found".into(), "2 errors found".into())
        );
    }
}
