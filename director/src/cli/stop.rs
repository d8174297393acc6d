//! `director stop`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::{FAILURE, Failed, Outcome, PINS, SocketArg, converse, print};
use crate::api::client;
use crate::api::types::{self, StopRequest, Stopping};
use crate::daemon;

/// How long the daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// End the daemon. The data plane goes on forwarding, unless it is detached.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director stop                # the data plane goes on; `director run` takes it over
  director stop --detach       # take the data plane down, too: traffic stops
  director stop --detach --pins /sys/fs/bpf/director    # what a dead daemon left")]
pub(super) struct Stop {
    /// Take the data plane down, too, with all its flows, and the VIPs that the director added. Also where no daemon runs.
    #[arg(long)]
    detach: bool,
    /// The directory that keeps the data plane, where no daemon runs that knows it.
    #[arg(long, value_name = "DIRECTORY", default_value = PINS)]
    pins: PathBuf,
    #[command(flatten)]
    socket: SocketArg,
}

impl Stop {
    pub(super) fn execute(self) -> Outcome {
        let socket = &self.socket.socket;
        let request = StopRequest { detach: self.detach };
        let client = self.socket.client();
        let stopping: Option<Stopping> = converse(async {
            match client.post(types::STOP, &request).await {
                // A daemon that has not opened its socket yet is met by its lock.
                Err(client::Error::NotRunning(_)) if self.detach => Ok(None),
                other => other.map(Some),
            }
        })?;
        let Some(Stopping { pid }) = stopping else {
            let pins = self.pins.display();
            return print(&if daemon::detach_remains(socket, &self.pins)? {
                format!("No daemon runs; the data plane under {pins} is detached.\n")
            } else {
                format!("No daemon runs, and nothing was there under {pins}.\n")
            });
        };
        self.await_end(pid)?;
        let data_plane = if self.detach {
            ", and its data plane is detached"
        } else {
            "; its data plane goes on forwarding"
        };
        print(&format!("The director (process {pid}) ended{data_plane}.\n"))
    }

    fn await_end(&self, pid: u32) -> Outcome {
        let start = Instant::now();
        while daemon::process(&self.socket.socket)? == Some(pid) {
            if start.elapsed() > PATIENCE {
                let message = format!("process {pid} has not ended within {} s", PATIENCE.as_secs());
                return Err(Failed { code: FAILURE, message });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
