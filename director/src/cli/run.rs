//! `director run`.

use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{CONFIG, FAILURE, Failed, MISUSE, Outcome, PINS};
use crate::dataplane::Dataplane;
use crate::logging::Format;
use crate::privileges::{self, ForCommands, Reduced};
use crate::{daemon, logging};

/// Run the director: load the data plane (or take over the one that runs), follow the configuration, until SIGTERM or `director stop`.
///
/// The data plane goes on after the daemon's end or crash; the next start takes it over with all its flows. SIGHUP reloads
/// the configuration. Of its capabilities it keeps those that it uses; commands that it runs get no others.
#[derive(Debug, Args)]
// The service's command line has options of its own before those in /etc/default/director: the last one counts.
#[command(
    args_override_self = true,
    after_long_help = "Examples:
  director run
  director run --config ./director.yaml --log debug
  director run --node lb1
  director run --log-format json
  director run --commands-keep CAP_SETUID,CAP_SETGID    # a check runs `su`
  RUST_LOG=director::neighbours=debug director run"
)]
pub(super) struct Run {
    /// The configuration's file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The directory that keeps the data plane, in a bpf file system. Each director needs its own.
    #[arg(long, value_name = "DIRECTORY", default_value = PINS)]
    pins: PathBuf,
    /// Which of the directors in the section `heartbeat` this one is. Without it, the one of this host's name, whole or up to
    /// its first dot. Without that section it is not used.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The operator's socket, in place of `socket` in the configuration.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or by module as `director::neighbours=debug,info`. Without it, RUST_LOG
    /// says, or info.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: text for people, or an object of JSON a line.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: Format,
    /// Leave no line out. Without it, of lines that are alike at most 200 warnings or errors or 2,000 others are written in a minute, fewer
    /// while it goes on, and how many more there were.
    #[arg(long)]
    log_all: bool,
    /// Capabilities that commands may have (checks, resources, notifications) beside the director's own: names separated by
    /// commas, or `all` that it was started with.
    #[arg(long, value_name = "CAPABILITIES", default_value = "", hide_default_value = true)]
    commands_keep: ForCommands,
}

impl Run {
    /// How it logs, and so says why it failed.
    pub(super) fn log_format(&self) -> Format {
        self.log_format
    }

    pub(super) fn execute(self) -> Outcome {
        let filter = self.log.or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| "info".to_owned());
        let filter = EnvFilter::try_new(&filter).map_err(|error| Failed {
            code: MISUSE,
            message: format!("the log filter {filter:?}: {error}"),
        })?;
        // Before there is another thread. What cannot be mounted is told of where it is needed.
        let mounted = Dataplane::ensure_mounted(&self.pins);
        let reduced = privileges::reduce(self.commands_keep);
        // Until the end: then it waits for the last lines.
        let _log = logging::start(filter, self.log_format, !self.log_all).map_err(|error| Failed {
            code: FAILURE,
            message: format!("cannot start the log's thread: {error}"),
        })?;
        if let Err(error) = mounted {
            tracing::debug!("{error}");
        }
        tell(&reduced.map_err(|error| Failed {
            code: FAILURE,
            message: format!("cannot give up capabilities: {error}"),
        })?);
        Ok(daemon::run(&daemon::Options {
            config: self.config,
            pins: self.pins,
            node: self.node,
            socket: self.socket,
        })?)
    }
}

fn tell(reduced: &Reduced) {
    tracing::debug!("capabilities: {}", privileges::names(reduced.kept));
    if !reduced.missing.is_empty() {
        let missing = privileges::names(reduced.missing);
        tracing::warn!(
            "this process was started without {missing}: what needs that will fail; run it as root"
        );
    }
    if !reduced.commands_limited {
        tracing::warn!(
            "commands may have more capabilities than the director: it takes CAP_SETPCAP to prevent that"
        );
    }
}
