//! `director flows`.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use clap::Args;

use super::text::seconds;
use super::{Failed, Outcome, SocketArg, converse};
use crate::api::types::{self, FlowLine, FlowQuery};
use crate::dataplane::{Kind, State};

/// List flows: connections and where they go, as the table is walked. Listing holds up neither the data plane nor the director.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  director flows --service web
  director flows --client 198.51.100.0/24 --state established
  director flows --real 192.0.2.21 --json | wc -l
  director flows --all --limit 20    # replies under NAT, persistence and fragments, too")]
pub(super) struct Flows {
    /// Flows of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Flows to this real server: ADDRESS or ADDRESS:PORT.
    #[arg(long, value_name = "REAL")]
    real: Option<String>,
    /// Flows from this client: ADDRESS, ADDRESS/PREFIX or ADDRESS:PORT.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Flows in this state: embryonic, established, closing, closed.
    #[arg(long, value_name = "STATE", value_parser = types::parse_state)]
    state: Option<State>,
    /// Entries other than connections, too.
    #[arg(long)]
    all: bool,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print JSON, one flow a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Flows {
    pub(super) fn execute(self) -> Outcome {
        let client = self.socket.client();
        let (json, all) = (self.json, self.all);
        let Flows { service, real, client: from, state, limit, .. } = self;
        let query = FlowQuery { service, real, client: from, state, all, limit };
        let path = format!("{}{}", types::FLOWS, query.to_url());
        let mut out = BufWriter::new(io::stdout().lock());
        let mut written = Ok(());
        let mut malformed = None;
        let mut headed = json;
        converse(client.lines(&path, |line| {
            if !headed {
                written = head(&mut out, all);
                headed = true;
            }
            if written.is_ok() {
                written = if json {
                    writeln!(out, "{line}")
                } else {
                    match serde_json::from_str(line) {
                        Ok(flow) => row(&mut out, &flow, all),
                        Err(error) => {
                            malformed = Some(error);
                            return ControlFlow::Break(());
                        }
                    }
                };
            }
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }))?;
        if !headed {
            written = head(&mut out, all);
        }
        if let Some(error) = malformed {
            return Err(error.into());
        }
        match written.and_then(|()| out.flush()) {
            // `director flows | head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Failed::from),
        }
    }
}

// Flows come as they are found, so that columns have the widths that IPv4 needs; longer addresses push the rest aside.

fn head(out: &mut impl Write, all: bool) -> io::Result<()> {
    let kind = if all { format!("{:<9} ", "KIND") } else { String::new() };
    writeln!(
        out,
        "{kind}{:<5} {:<21} {:<21} {:<21} {:<11} {:>6} {:>6}  SERVICE",
        "PROTO", "CLIENT", "VIP", "REAL", "STATE", "IDLE", "AGE"
    )
}

fn row(out: &mut impl Write, flow: &FlowLine, all: bool) -> io::Result<()> {
    let kind = match (all, flow.kind) {
        (false, _) => "",
        (true, Kind::Client) => "client    ",
        (true, Kind::Reply) => "reply     ",
        (true, Kind::Template) => "template  ",
        (true, Kind::Fragment) => "fragment  ",
    };
    let state = match flow.state {
        State::Embryonic => "embryonic",
        State::Established => "established",
        State::Closing => "closing",
        State::Closed => "closed",
    };
    let real = match (flow.real, flow.real_port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    };
    writeln!(
        out,
        "{kind}{:<5} {:<21} {:<21} {:<21} {:<11} {:>6} {:>6}  {}",
        flow.protocol.to_string(),
        flow.client.to_string(),
        flow.vip.to_string(),
        real,
        state,
        seconds(flow.idle_seconds),
        seconds(flow.age_seconds),
        flow.service.as_deref().unwrap_or("?")
    )
}
