//! Listing flows: the table is walked in a thread that may wait for a slow reader, and that nobody waits for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::view::View;
use crate::api::types::{FlowLine, FlowQuery};
use crate::dataplane::{Flow, FlowTable, Kind, State};

/// Pieces that wait for the reader.
const MOST_PIECES: usize = 8;
/// How large a piece grows before it is sent.
const PIECE: usize = 32 * 1024;
/// After how many places to look whether anybody still reads.
const LOOK_EVERY: u64 = 65_536;

/// Which flows are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    /// `Some(None)`: a service that is not in the maps.
    service: Option<Option<u32>>,
    real: Option<(IpAddr, Option<u16>)>,
    client: Option<Client>,
    state: Option<State>,
    all: bool,
}

/// Whose flows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    network: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

/// Starts a listing; it ends when its reader goes.
pub(super) fn list(
    view: &View,
    table: Arc<FlowTable>,
    now: u32,
    asked: &FlowQuery,
) -> Result<mpsc::Receiver<Bytes>, String> {
    let filter = Filter::new(view, asked)?;
    let limit = asked.limit.unwrap_or(u64::MAX);
    let placed = view.config.services.iter().zip(&view.placements);
    let names: HashMap<u32, String> = placed
        .filter_map(|(service, placement)| Some((placement.as_ref()?.id, service.name.clone())))
        .collect();
    let (pieces, reader) = mpsc::channel(MOST_PIECES);
    tokio::task::spawn_blocking(move || walk(&table, now, &filter, limit, &names, &pieces));
    Ok(reader)
}

fn walk(
    table: &FlowTable,
    now: u32,
    filter: &Filter,
    limit: u64,
    names: &HashMap<u32, String>,
    pieces: &mpsc::Sender<Bytes>,
) {
    let mut piece: Vec<u8> = Vec::with_capacity(PIECE + 512);
    let mut left = limit;
    for place in 0..table.places() {
        if left == 0 || (place % LOOK_EVERY == 0 && pieces.is_closed()) {
            break;
        }
        let Some(flow) = table.flow(place as usize, now) else { continue };
        let real = table.real(flow.backend);
        if !filter.admits(&flow, real) {
            continue;
        }
        left -= 1;
        let line = line(&flow, real, names.get(&flow.service).cloned());
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut piece, &line);
        piece.push(b'\n');
        if piece.len() >= PIECE && pieces.blocking_send(std::mem::take(&mut piece).into()).is_err() {
            return;
        }
    }
    let _ = pieces.blocking_send(piece.into());
}

fn line(flow: &Flow, real: Option<(IpAddr, Option<u16>)>, service: Option<String>) -> FlowLine {
    FlowLine {
        service,
        kind: flow.kind,
        protocol: flow.protocol,
        client: flow.client,
        vip: flow.vip,
        real: real.map(|(address, _)| address),
        real_port: real.and_then(|(_, port)| port),
        state: flow.state,
        idle_seconds: flow.idle.as_secs(),
        age_seconds: flow.age.as_secs(),
    }
}

impl Filter {
    fn new(view: &View, asked: &FlowQuery) -> Result<Filter, String> {
        let service = match &asked.service {
            None => None,
            Some(name) => {
                let at = view.config.services.iter().position(|service| service.name == *name);
                let Some(at) = at else {
                    let known: Vec<&str> = view.config.services.iter().map(|s| s.name.as_str()).collect();
                    return Err(format!("there is no service {name:?}; known: {}", known.join(", ")));
                };
                Some(view.placements.get(at).and_then(|placement| placement.as_ref()).map(|p| p.id))
            }
        };
        let real = match &asked.real {
            None => None,
            Some(text) => Some(address(text).ok_or_else(|| {
                format!("{text:?} names no real server: write ADDRESS or ADDRESS:PORT, and with IPv6 [ADDRESS]:PORT")
            })?),
        };
        let client = match &asked.client {
            None => None,
            Some(text) => Some(Client::parse(text).ok_or_else(|| {
                format!("{text:?} names no client: write ADDRESS, ADDRESS/PREFIX or ADDRESS:PORT")
            })?),
        };
        Ok(Filter { service, real, client, state: asked.state, all: asked.all })
    }

    fn admits(&self, flow: &Flow, real: Option<(IpAddr, Option<u16>)>) -> bool {
        // Of replies, the client is the destination.
        let client = if flow.kind == Kind::Reply { flow.vip } else { flow.client };
        (self.all || flow.kind == Kind::Client)
            && self.service.is_none_or(|service| service == Some(flow.service))
            && self.state.is_none_or(|state| state == flow.state)
            && self.client.is_none_or(|asked| asked.is(client))
            && self.real.is_none_or(|(address, port)| {
                real.is_some_and(|(its, own_port)| {
                    its == address && port.is_none_or(|port| own_port.unwrap_or(flow.vip.port()) == port)
                })
            })
    }
}

impl Client {
    fn parse(text: &str) -> Option<Client> {
        if let Some((network, prefix)) = text.split_once('/') {
            let (network, prefix): (IpAddr, u8) = (network.parse().ok()?, prefix.parse().ok()?);
            let most = if network.is_ipv4() { 32 } else { 128 };
            return (prefix <= most).then_some(Client { network, prefix, port: None });
        }
        let (network, port) = address(text)?;
        Some(Client { network, prefix: if network.is_ipv4() { 32 } else { 128 }, port })
    }

    fn is(self, client: SocketAddr) -> bool {
        within(client.ip(), self.network, self.prefix) && self.port.is_none_or(|port| port == client.port())
    }
}

fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    // A shift by the whole width, for prefix 0, gives nothing to differ in.
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// `ADDRESS`, `[ADDRESS]`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        Ok(address) => Some((address, None)),
        Err(_) => text.parse().ok().map(|socket: SocketAddr| (socket.ip(), Some(socket.port()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use std::time::Duration;

    fn flow(client: &str, kind: Kind) -> Flow {
        Flow {
            client: client.parse().unwrap(),
            vip: "192.0.2.10:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            backend: 1,
            service: 2,
            state: State::Established,
            kind,
            idle: Duration::ZERO,
            age: Duration::ZERO,
        }
    }

    fn everything() -> Filter {
        Filter { service: None, real: None, client: None, state: None, all: false }
    }

    #[test]
    fn a_client_is_an_address_a_network_or_an_end() {
        let is = |text: &str, client: &str| Client::parse(text).unwrap().is(client.parse().unwrap());
        assert!(is("198.51.100.7", "198.51.100.7:1000") && !is("198.51.100.8", "198.51.100.7:1000"));
        assert!(is("198.51.100.0/24", "198.51.100.7:1000") && !is("198.51.100.0/29", "198.51.100.8:1"));
        assert!(is("0.0.0.0/0", "198.51.100.7:1") && !is("::/0", "198.51.100.7:1") && is("::/0", "[::1]:1"));
        assert!(
            is("198.51.100.7:1000", "198.51.100.7:1000") && !is("198.51.100.7:1001", "198.51.100.7:1000")
        );
        assert!(is("2001:db8::/32", "[2001:db8::1]:5") && is("[2001:db8::1]:5", "[2001:db8::1]:5"));
        for text in ["", "host", "198.51.100.0/33", "::/129", "1.2.3.4:x", "1.2.3.4/8:80"] {
            assert_eq!(Client::parse(text), None, "{text}");
        }
    }

    #[test]
    fn filters_narrow() {
        let real = Some(("10.0.0.1".parse().unwrap(), None));
        let client = flow("198.51.100.7:1000", Kind::Client);
        assert!(everything().admits(&client, real));
        for (filter, admitted) in [
            (Filter { service: Some(Some(2)), ..everything() }, true),
            (Filter { service: Some(Some(3)), ..everything() }, false),
            (Filter { service: Some(None), ..everything() }, false),
            (Filter { state: Some(State::Closing), ..everything() }, false),
            (Filter { real: address("10.0.0.1"), ..everything() }, true),
            (Filter { real: address("10.0.0.1:80"), ..everything() }, true),
            (Filter { real: address("10.0.0.1:81"), ..everything() }, false),
            (Filter { real: address("10.0.0.2"), ..everything() }, false),
        ] {
            assert_eq!(filter.admits(&client, real), admitted, "{filter:?}");
        }
        // A reply: from the real server to the client.
        let mut reply = flow("10.0.0.1:80", Kind::Reply);
        reply.vip = client.client;
        let of_client = Filter { client: Client::parse("198.51.100.7"), ..everything() };
        assert!(!of_client.admits(&reply, real));
        assert!(Filter { all: true, ..of_client }.admits(&reply, real));
    }
}
