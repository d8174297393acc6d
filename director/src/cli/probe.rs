//! `director probe`.

use clap::Args;

use super::{FAILURE, Failed, Outcome, SocketArg, converse, print};
use crate::api::types::{self, ProbeRequest, Probed};

/// Run a service's checks once, now, and show each step and its time. Changes no verdict. Exit code 1 if one does not pass.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director probe web
  director probe web 192.0.2.21
  director probe dns [2001:db8::21]:5353 --json")]
pub(super) struct Probe {
    /// The service's name.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The real server: ADDRESS or ADDRESS:PORT; all of the service where it is left out.
    #[arg(value_name = "REAL")]
    real: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Probe {
    pub(super) fn execute(self) -> Outcome {
        let request = ProbeRequest { service: self.service, real: self.real };
        let probed: Vec<Probed> = converse(self.socket.client().post(types::PROBE, &request))?;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&probed)?))?;
        } else {
            print(&probed.iter().map(told).collect::<String>())?;
        }
        match probed.iter().filter(|probed| !probed.passed).count() {
            0 => Ok(()),
            failed => {
                let message = format!("{failed} of {} did not pass", probed.len());
                Err(Failed { code: FAILURE, message })
            }
        }
    }
}

fn told(probed: &Probed) -> String {
    let Probed { real, check, target, .. } = probed;
    let way = if probed.via_vip { "the VIP at " } else { "" };
    let mut text = format!("{real}: {check} to {way}{target}\n");
    for (at, what) in &probed.steps {
        text.push_str(&format!("  {at:>9.3} ms  {what}\n"));
    }
    let verdict = match (&probed.reason, probed.weight) {
        (Some(reason), _) => format!("FAILED: {reason}"),
        (None, Some(weight)) => format!("passed, weight {weight}"),
        (None, None) => "passed".to_owned(),
    };
    text.push_str(&format!("  {:>9.3} ms  {verdict}\n", probed.milliseconds));
    text
}
