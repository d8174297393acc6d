//! The command line. One file a subcommand; what they have in common is here.

mod check;
mod completions;
mod doctor;
mod drain;
mod enable;
mod events;
mod flows;
mod handover;
mod hold;
mod pair;
mod probe;
mod reload;
mod run;
mod schema;
mod status;
mod stop;
mod text;
mod top;
mod weight;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::api::client::{self, Client};
use crate::{daemon, logging};

/// Where the pins lie unless told otherwise.
const PINS: &str = "/sys/fs/bpf/director";
/// Where the operator's socket is unless told otherwise.
const SOCKET: &str = "/run/director/director.sock";
/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/director/director.yaml";

/// The exit code for a failure.
const FAILURE: u8 = 1;
/// The exit code for a wrong command line or a wrong configuration, as clap has it.
const MISUSE: u8 = 2;

/// A Layer-4 load balancer director.
///
/// Clients reach virtual addresses (VIPs); an XDP program forwards their packets to real servers, by direct routing or by
/// NAT. Exit codes: 0 well, 1 failed, 2 wrong command line or configuration.
#[derive(Debug, Parser)]
#[command(name = "director", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Status(status::StatusCommand),
    Top(top::Top),
    Flows(flows::Flows),
    Events(events::Events),
    Probe(probe::Probe),
    Reload(reload::Reload),
    Weight(weight::Weight),
    Drain(drain::Drain),
    Enable(enable::Enable),
    Handover(handover::Handover),
    Hold(hold::Hold),
    Stop(stop::Stop),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

/// Which director is meant.
#[derive(Clone, Debug, Args)]
struct SocketArg {
    /// The director's socket, as `socket` in its configuration.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Why a subcommand failed, and how the process is to end.
#[derive(Debug)]
struct Failed {
    code: u8,
    message: String,
}

type Outcome = Result<(), Failed>;

impl From<client::Error> for Failed {
    fn from(error: client::Error) -> Failed {
        let misuse = matches!(error, client::Error::Refused { misuse: true, .. });
        Failed { code: if misuse { MISUSE } else { FAILURE }, message: error.to_string() }
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed { code: FAILURE, message: format!("{error:#}") }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        Failed { code: FAILURE, message: error.to_string() }
    }
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Failed {
        Failed { code: FAILURE, message: error.to_string() }
    }
}

impl From<daemon::Failed> for Failed {
    fn from(error: daemon::Failed) -> Failed {
        let misuse = matches!(error, daemon::Failed::Config(_) | daemon::Failed::Node(_));
        Failed { code: if misuse { MISUSE } else { FAILURE }, message: error.to_string() }
    }
}

/// The command line as data: manual pages and shell completions are made of it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let format = match &command {
        Command::Run(command) => command.log_format(),
        _ => logging::Format::Text,
    };
    let outcome = match command {
        Command::Run(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Doctor(command) => command.execute(),
        Command::Status(command) => command.execute(),
        Command::Top(command) => command.execute(),
        Command::Flows(command) => command.execute(),
        Command::Events(command) => command.execute(),
        Command::Probe(command) => command.execute(),
        Command::Reload(command) => command.execute(),
        Command::Weight(command) => command.execute(),
        Command::Drain(command) => command.execute(),
        Command::Enable(command) => command.execute(),
        Command::Handover(command) => command.execute(),
        Command::Hold(command) => command.execute(),
        Command::Stop(command) => command.execute(),
        Command::Schema(command) => command.execute(),
        Command::Completions(command) => command.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, message }) => {
            let text = match format {
                logging::Format::Json => logging::error_as_json(&message),
                _ if message.contains(": error: ") => message,
                _ => format!("error: {message}"),
            };
            eprintln!("{}", if logging::is_journal() { logging::marked_as_error(&text) } else { text });
            ExitCode::from(code)
        }
    }
}

/// Checks that the command line is one: `words` are what follows `director`. What is missing at its end is no error, so that a page can
/// name a command alone.
///
/// # Errors
/// There is no such command, option or value; the message says which.
pub fn understands(words: &[&str]) -> Result<(), String> {
    let whole = std::iter::once("director").chain(words.iter().copied());
    understood(Cli::try_parse_from(whole).map(drop))
}

/// The same for another command line's own outcome.
///
/// # Errors
/// As for [`understands`].
pub fn understood(parsed: Result<(), clap::Error>) -> Result<(), String> {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    match parsed {
        Err(error)
            if !matches!(
                error.kind(),
                DisplayHelp
                    | DisplayVersion
                    | DisplayHelpOnMissingArgumentOrSubcommand
                    | MissingRequiredArgument
                    | MissingSubcommand
            ) =>
        {
            Err(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
        _ => Ok(()),
    }
}

/// Prints for whoever reads; if they have seen enough (`director status | head`), that is no failure.
fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

impl SocketArg {
    fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

/// Runs a conversation with the director.
fn converse<T>(conversation: impl Future<Output = Result<T, client::Error>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(conversation)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands_mut() {
            let name = subcommand.get_name().to_owned();
            let help = subcommand.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{name}: {help}");
        }
    }

    #[test]
    fn operators_words_are_understood() {
        for line in [
            "director run",
            "director run --config a.yaml --pins /sys/fs/bpf/x --log debug",
            "director check a.yaml --json",
            "director doctor --config a.yaml --node lb1 --json",
            "director status --json --socket /tmp/s",
            "director flows --service web --real 10.0.0.1:80 --client 192.0.2.0/24 --state closing --limit 5 --json",
            "director top --socket /tmp/s",
            "director events --service web --follow --json",
            "director probe web [2001:db8::1]:80",
            "director weight web 10.0.0.1 65535",
            "director drain web [2001:db8::1]:80",
            "director stop --detach",
            "director handover",
            "director handover blue --to lb2 --json",
            "director hold --off",
            "director run --log-format json --log-all",
            "director schema",
            "director run --commands-keep CAP_SETUID,setgid",
            "director run --commands-keep all --log info --commands-keep CAP_KILL",
            "director completions zsh",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "director weight web 10.0.0.1 65536",
            "director flows --state open",
            "director drain web",
            "director run --commands-keep CAP_FLY",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
