//! `director weight`, and what `drain` and `enable` share with it.

use clap::Args;

use super::{Outcome, SocketArg, converse, print};
use crate::api::types::{self, Weighed, WeightRequest};

/// Which real server of which service.
#[derive(Clone, Debug, Args)]
pub(super) struct RealArgs {
    /// The service's name.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The real server: ADDRESS, or ADDRESS:PORT where several have the address (IPv6: [ADDRESS]:PORT).
    #[arg(value_name = "REAL")]
    real: String,
}

/// Put another weight in force for a real server. It stays over reloads and restarts, until `director enable`.
///
/// Connections that exist stay where they are, whatever the weights.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director weight web 192.0.2.21 5
  director weight dns [2001:db8::21]:5353 100")]
pub(super) struct Weight {
    #[command(flatten)]
    real: RealArgs,
    /// The weight, 0 to 65535; 0 drains.
    #[arg(value_name = "N")]
    weight: u16,
    #[command(flatten)]
    socket: SocketArg,
}

impl Weight {
    pub(super) fn execute(self) -> Outcome {
        set(&self.socket, self.real, Some(self.weight))
    }
}

/// Sets a weight and says so.
pub(super) fn set(socket: &SocketArg, real: RealArgs, weight: Option<u16>) -> Outcome {
    let RealArgs { service, real } = real;
    let request = WeightRequest { service, real, weight };
    let Weighed { service, real, configured_weight, before, weight } =
        converse(socket.client().post(types::WEIGHT, &request))?;
    let drained = if weight == 0 { ": no new connections, those that exist go on" } else { "" };
    let configured = if weight == configured_weight {
        String::new()
    } else {
        format!(" (configured: {configured_weight})")
    };
    print(&format!("{real} in {service}: weight {weight}{configured}, before {before}{drained}\n"))
}
