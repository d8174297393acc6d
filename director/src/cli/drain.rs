//! `director drain`.

use clap::Args;

use super::weight::{self, RealArgs};
use super::{Outcome, SocketArg};

/// Give a real server no new connections; those that exist go on. It stays over reloads and restarts, until `director enable`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director drain web 192.0.2.21
  director flows --service web --real 192.0.2.21    # who is still connected")]
pub(super) struct Drain {
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    socket: SocketArg,
}

impl Drain {
    pub(super) fn execute(self) -> Outcome {
        weight::set(&self.socket, self.real, Some(0))
    }
}
