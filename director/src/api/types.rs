//! What goes over the operator's socket, as both ends have it: JSON.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use super::cluster::{
    Given, HandedOver, HandoverRequest, Held, HoldRequest, MeansStatus, PairStatus, TakenStatus,
};
use crate::dataplane::{Attachment, Kind, State};
use crate::model::{Forward, Protocol, Scheduler};

/// `GET /v1/status`.
pub const STATUS: &str = "/v1/status";
/// `GET /v1/flows`, see [`FlowQuery`].
pub const FLOWS: &str = "/v1/flows";
/// `POST /v1/reload`.
pub const RELOAD: &str = "/v1/reload";
/// `POST /v1/weight`, see [`WeightRequest`].
pub const WEIGHT: &str = "/v1/weight";
/// `GET /v1/events?after=N`: a list of [`Event`].
pub const EVENTS: &str = "/v1/events";
/// `POST /v1/probe`, see [`ProbeRequest`].
pub const PROBE: &str = "/v1/probe";
/// `POST /v1/handover`, see [`HandoverRequest`].
pub const HANDOVER: &str = "/v1/handover";
/// `POST /v1/hold`, see [`HoldRequest`].
pub const HOLD: &str = "/v1/hold";
/// `POST /v1/stop`, see [`StopRequest`].
pub const STOP: &str = "/v1/stop";

/// What went wrong, and what to do about it. The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong; may have several lines.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The answer to [`STATUS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The director's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Seconds since the daemon's start.
    pub uptime_seconds: u64,
    /// The configuration it runs by.
    pub config: String,
    /// Where packets come in.
    pub interfaces: Vec<Attachment>,
    /// The addresses it holds.
    pub vips: Vec<VipStatus>,
    /// In the configuration's order.
    pub services: Vec<ServiceStatus>,
    /// How full the flow table is.
    pub flows: FlowTableStatus,
    /// What the data plane passed, dropped, answered or could not place, by reason; those that never happened, too.
    pub reasons: Vec<ReasonStatus>,
    /// The cluster; none where this director is alone.
    pub pair: Option<PairStatus>,
    /// What is wrong at the moment. Empty is well.
    pub problems: Vec<String>,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipStatus {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The interface it belongs on.
    pub interface: String,
    /// Whether it is there.
    pub held: bool,
    /// Whether it is to be there: in a cluster, another director may hold it.
    pub wanted: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The VIP.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// `80`, `80,443`, `8000-8100`, `any`.
    pub ports: String,
    /// How packets reach its real servers.
    pub forward: Forward,
    /// How new flows choose.
    pub scheduler: Scheduler,
    /// Seconds that a client stays on its real server, with persistence.
    pub persistence_seconds: Option<u64>,
    /// Its id in the data plane's maps; none where they have no room for it.
    pub id: Option<u32>,
    /// Its real servers, in the configuration's order.
    pub reals: Vec<RealStatus>,
    /// Whether the fallback serves, for too few real servers do.
    pub fallback: bool,
    /// Whether real servers that are down serve all the same, for too many are.
    pub panic: bool,
    /// Established flows.
    pub active: u64,
    /// Other flows.
    pub inactive: u64,
    /// All its real servers together.
    pub traffic: Traffic,
    /// All its real servers together.
    pub rates: Rates,
    /// Packets dropped: no usable real server.
    pub no_real_dropped: u64,
    /// Packets refused: no usable real server.
    pub no_real_rejected: u64,
    /// TCP segments that belong to no flow and could not be placed.
    pub no_flow: u64,
    /// New flows forwarded without an entry in the full flow table.
    pub unplaced: u64,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RealStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its own port, where it has one.
    pub port: Option<u16>,
    /// The configured weight.
    pub configured_weight: u16,
    /// The weight in force.
    pub weight: u16,
    /// Whether an operator's command set it.
    pub overridden: bool,
    /// What its checks say; none where the service has no checks.
    pub health: Option<HealthStatus>,
    /// Whether its next hop is known. Without, it gets nothing.
    pub reachable: bool,
    /// Its next hop's MAC.
    pub mac: Option<String>,
    /// Its backend id in the data plane's maps; none where they have no room for it.
    pub id: Option<u32>,
    /// Established flows.
    pub active: u64,
    /// Other flows.
    pub inactive: u64,
    /// What passed.
    pub traffic: Traffic,
    /// What passes.
    pub rates: Rates,
}

/// A real server's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// `up`, `down`, `unknown`.
    pub state: String,
    /// Seconds since it is so; none before the first verdict.
    pub since_seconds: Option<u64>,
    /// Why it is not up, or what the last check said.
    pub reason: String,
    /// The weight that its checks give it.
    pub weight: Option<u16>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from the daemon's start.
    pub id: u64,
    /// When, as RFC 3339 has it, in UTC.
    pub time: String,
    /// The service.
    pub service: String,
    /// The real server; none where it is about the service as a whole.
    pub real: Option<String>,
    /// What it was.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Why, in plain words.
    pub reason: String,
}

/// What [`PROBE`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// The service's name.
    pub service: String,
    /// The real server; none: all of the service.
    pub real: Option<String>,
}

/// One probe, run now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// The real server.
    pub real: String,
    /// The check's type.
    pub check: String,
    /// Where it was sent.
    pub target: String,
    /// Whether it went to the VIP at that real server.
    pub via_vip: bool,
    /// Whether it passed.
    pub passed: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The weight that it gives the real server.
    pub weight: Option<u16>,
    /// What happened, and when, in milliseconds from its start.
    pub steps: Vec<(f64, String)>,
    /// How long it took, in milliseconds.
    pub milliseconds: f64,
}

/// What passed since the real server came into the data plane. Bytes are whole frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Packets to clients, where they pass the director (NAT).
    pub packets_out: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Flows that began.
    pub new_flows: u64,
}

/// What passes, each second, over the last ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Packets from clients.
    pub packets_in: f64,
    /// Bits from clients.
    pub bits_in: f64,
    /// Packets to clients, where they pass the director (NAT).
    pub packets_out: f64,
    /// Bits to clients.
    pub bits_out: f64,
    /// Flows that begin.
    pub new_flows: f64,
}

/// The flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTableStatus {
    /// Flows that it is made for (`limits.flows`).
    pub capacity: u64,
    /// Places for entries.
    pub places: u64,
    /// Places taken, as the last sweep counted them.
    pub used: u64,
    /// Connections that are established.
    pub established: u64,
    /// Connections that are not yet, or that end: the sum of the next three.
    pub other: u64,
    /// Only SYNs, or one datagram, came.
    #[serde(default)]
    pub embryonic: u64,
    /// A FIN was seen.
    #[serde(default)]
    pub closing: u64,
    /// A RST was seen.
    #[serde(default)]
    pub closed: u64,
    /// Entries for the replies of real servers under NAT.
    pub replies: u64,
    /// Clients that stay on their real server.
    pub templates: u64,
    /// Datagrams in fragments.
    pub fragments: u64,
    /// Bytes of memory it takes.
    pub bytes: u64,
}

/// How often a reason was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonStatus {
    /// Its name: `pass_…`, `drop_…`, `reject_…`, `flow_…`.
    pub name: String,
    /// How often since the data plane's start.
    pub count: u64,
    /// How often each second, over the last ten.
    pub rate: f64,
}

/// What [`FLOWS`] is asked for, as the query of its URL. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowQuery {
    /// Flows of this service.
    pub service: Option<String>,
    /// Flows to this real server: `ADDRESS` or `ADDRESS:PORT`.
    pub real: Option<String>,
    /// Flows from this client: an address, a network (`192.0.2.0/24`), or an address and port.
    pub client: Option<String>,
    /// Flows in this state.
    pub state: Option<State>,
    /// Entries other than clients' connections, too: replies, persistence, fragments.
    pub all: bool,
    /// At most so many.
    pub limit: Option<u64>,
}

/// One line of [`FLOWS`]'s answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLine {
    /// The service's name, where it still has one.
    pub service: Option<String>,
    /// What the entry is.
    pub kind: Kind,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who sends (of replies: the real server).
    pub client: SocketAddr,
    /// Where to (of replies: the client).
    pub vip: SocketAddr,
    /// The real server's address.
    pub real: Option<IpAddr>,
    /// Its own port, where it has one.
    pub real_port: Option<u16>,
    /// How far it is.
    pub state: State,
    /// Seconds since its last packet, to a tick of about a second.
    pub idle_seconds: u64,
    /// Seconds since its first packet.
    pub age_seconds: u64,
}

/// The answer to [`RELOAD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Operations on the data plane's maps that it took.
    pub operations: usize,
    /// VIPs and interfaces that came or went.
    #[serde(default)]
    pub surroundings: usize,
    /// How long it took.
    pub milliseconds: u64,
    /// What the operator should know of the configuration.
    pub notes: Vec<String>,
    /// What is wrong at the moment.
    pub problems: Vec<String>,
}

/// The body of [`WEIGHT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRequest {
    /// The service's name.
    pub service: String,
    /// The real server: `ADDRESS` or `ADDRESS:PORT`.
    pub real: String,
    /// The weight to put in force; none gives the configured one its say back.
    pub weight: Option<u16>,
}

/// The answer to [`WEIGHT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    /// The service's name.
    pub service: String,
    /// The real server.
    pub real: String,
    /// The configured weight.
    pub configured_weight: u16,
    /// The weight that was in force.
    pub before: u16,
    /// The weight in force now.
    pub weight: u16,
}

/// The body of [`STOP`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// Whether to take the data plane down, too.
    pub detach: bool,
}

/// The answer to [`STOP`]: what the daemon is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The daemon's process id.
    pub pid: u32,
}

impl FlowQuery {
    /// The query as part of a URL, with its `?` if there is anything to ask.
    pub fn to_url(&self) -> String {
        let state = self.state.map(|state| format!("{state:?}").to_lowercase());
        let limit = self.limit.map(|limit| limit.to_string());
        let all = self.all.then(|| "true".to_owned());
        let pairs = [
            ("service", self.service.clone()),
            ("real", self.real.clone()),
            ("client", self.client.clone()),
            ("state", state),
            ("all", all),
            ("limit", limit),
        ];
        let given: Vec<String> = pairs
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={}", escape(&value))))
            .collect();
        if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
    }

    /// Reads a URL's query.
    ///
    /// # Errors
    /// What is wrong with it, for its sender.
    pub fn from_url(query: &str) -> Result<FlowQuery, String> {
        let mut asked = FlowQuery::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value).ok_or_else(|| format!("{name}: not URL-encoded UTF-8"))?;
            match name {
                "service" => asked.service = Some(value),
                "real" => asked.real = Some(value),
                "client" => asked.client = Some(value),
                "state" => asked.state = Some(parse_state(&value)?),
                "all" => asked.all = matches!(value.as_str(), "" | "1" | "true"),
                "limit" => {
                    asked.limit = Some(value.parse().map_err(|_| format!("limit: {value:?} is no number"))?);
                }
                _ => return Err(format!("there is no filter {name:?}")),
            }
        }
        Ok(asked)
    }
}

/// A flow's state by its name.
///
/// # Errors
/// The names that there are.
pub fn parse_state(name: &str) -> Result<State, String> {
    match name {
        "embryonic" => Ok(State::Embryonic),
        "established" => Ok(State::Established),
        "closing" => Ok(State::Closing),
        "closed" => Ok(State::Closed),
        _ => Err(format!("there is no state {name:?}; known: embryonic, established, closing, closed")),
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) =
                    (char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?);
                (high << 4 | low) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_url() {
        let asked = FlowQuery {
            service: Some("wéb & mail/1+1".to_owned()),
            real: Some("[2001:db8::1]:80".to_owned()),
            client: Some("192.0.2.0/24".to_owned()),
            state: Some(State::Closing),
            all: true,
            limit: Some(5),
        };
        let url = asked.to_url();
        assert!(url.is_ascii() && !url.contains(' '), "{url}");
        assert_eq!(FlowQuery::from_url(url.strip_prefix('?').unwrap()), Ok(asked));
        assert_eq!(FlowQuery::default().to_url(), "");
        assert_eq!(FlowQuery::from_url(""), Ok(FlowQuery::default()));
    }

    #[test]
    fn a_bad_query_is_refused() {
        for query in ["limit=x", "state=open", "server=1", "client=%f", "client=%ff", "client=%zz"] {
            assert!(FlowQuery::from_url(query).is_err(), "{query}");
        }
    }
}
