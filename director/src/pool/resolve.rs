//! Who an operator means. The message of an error says who there is instead.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::RealKey;
use crate::model::{Config, Service};

/// Why an operator's words name no real server. The message says what there is instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The configuration has no service of that name.
    #[error("there is no service {name:?}; {hint}")]
    NoService {
        /// What was asked for.
        name: String,
        /// The services' names.
        hint: Hint,
    },
    /// The text is no address.
    #[error("{text:?} names no real server: write ADDRESS or ADDRESS:PORT, and with IPv6 [ADDRESS]:PORT")]
    NotAnAddress {
        /// What was asked for.
        text: String,
    },
    /// The service has no such real server.
    #[error("service {service:?} has no real server {real}; {hint}")]
    NoReal {
        /// The service's name.
        service: String,
        /// What was asked for.
        real: String,
        /// The service's real servers.
        hint: Hint,
    },
    /// The service has several real servers of that address, told apart by their ports.
    #[error("service {service:?} has several real servers {real}, so name the port; {hint}")]
    SeveralReals {
        /// The service's name.
        service: String,
        /// What was asked for.
        real: String,
        /// Those of that address.
        hint: Hint,
    },
}

/// Names that there are, for whoever asked for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Those most like the one asked for first, otherwise as configured.
    pub known: Vec<String>,
    /// The first is so much like it that it may have been meant.
    pub likely: bool,
}

impl Hint {
    /// The most names that are shown.
    const SHOWN: usize = 8;

    fn new(asked: &str, known: impl Iterator<Item = String>) -> Hint {
        let distance = |name: &String| strsim::osa_distance(asked, name);
        let mut known: Vec<String> = known.collect();
        known.sort_by_cached_key(distance);
        let typos = (asked.chars().count() / 3).clamp(1, 3);
        let likely = known.first().is_some_and(|first| distance(first) <= typos);
        Hint { known, likely }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.known[..self.known.len().min(Self::SHOWN)];
        let Some(first) = shown.first() else { return f.write_str("there is none at all") };
        if self.likely {
            write!(f, "did you mean {first}? ")?;
        }
        write!(f, "known: {}", shown.join(", "))?;
        match self.known.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The service of a name.
pub fn service<'c>(config: &'c Config, name: &str) -> Result<&'c Service, ResolveError> {
    config.services.iter().find(|candidate| candidate.name == name).ok_or_else(|| {
        let known = config.services.iter().map(|service| service.name.clone());
        ResolveError::NoService { name: name.to_owned(), hint: Hint::new(name, known) }
    })
}

/// The real server that an operator means by `ADDRESS[:PORT]` (IPv6 with a port: `[ADDRESS]:PORT`) in a
/// service. The port may be left out where only one real server has the address, and the service's only port
/// may be given where the configuration leaves it out.
pub fn resolve(config: &Config, service: &str, real: &str) -> Result<RealKey, ResolveError> {
    let found = self::service(config, service)?;
    let Some((address, port)) = parse_real(real) else {
        return Err(ResolveError::NotAnAddress { text: real.to_owned() });
    };
    let asked = RealKey { service: service.to_owned(), address, port };
    let keys = || found.reals.iter().map(|real| RealKey::new(service, real));
    if keys().any(|key| key == asked) {
        return Ok(asked);
    }

    let only_port = found.ports.single();
    let fits = |key: &RealKey| key.address == address && (port.is_none() || port == key.port.or(only_port));
    let mut fitting: Vec<RealKey> = keys().filter(fits).collect();
    let (service, real) = (service.to_owned(), asked.real());
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => {
            let hint = Hint::new(&real, keys().map(|key| key.real()));
            Err(ResolveError::NoReal { service, real, hint })
        }
        _ => {
            let hint = Hint { known: fitting.iter().map(RealKey::real).collect(), likely: false };
            Err(ResolveError::SeveralReals { service, real, hint })
        }
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`; an IPv6 address without brackets is all
/// address.
fn parse_real(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match address.parse() {
        Ok(address) => Some((address, None)),
        Err(_) => text.parse().ok().map(|socket: SocketAddr| (socket.ip(), Some(socket.port()))),
    }
}
