//! `director enable`.

use clap::Args;

use super::weight::{self, RealArgs};
use super::{Outcome, SocketArg};

/// Give a real server its configured weight back: the end of `director drain` and `director weight`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director enable web 192.0.2.21")]
pub(super) struct Enable {
    #[command(flatten)]
    real: RealArgs,
    #[command(flatten)]
    socket: SocketArg,
}

impl Enable {
    pub(super) fn execute(self) -> Outcome {
        weight::set(&self.socket, self.real, None)
    }
}
