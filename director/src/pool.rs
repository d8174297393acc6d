//! Config + the operator's overrides + what is known of next hops → what the data plane shall hold. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::{
    Config, Forward, Persistence, Ports, Protocol, Real, Scheduler, Service, Timeouts, Unserved,
};
use crate::slots::{self, Demand};

/// Where frames for a real server go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// MAC of the real server, or of the gateway before it.
    pub mac: [u8; 6],
    /// MAC of our interface on the way.
    pub source_mac: [u8; 6],
    /// Index of that interface.
    pub ifindex: u32,
}

/// Next hops by real server; one that is missing is not known (yet).
pub type NextHops = HashMap<IpAddr, NextHop>;

/// Names a real server within the configuration, for the operator's commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RealKey {
    /// The service's name.
    pub service: String,
    /// The real server's address.
    pub address: IpAddr,
    /// Its port, where the configuration gives it one.
    pub port: Option<u16>,
}

impl RealKey {
    fn new(service: &str, real: &Real) -> RealKey {
        RealKey { service: service.to_owned(), address: real.address, port: real.port }
    }

    /// The real server within its service, as [`resolve`] reads it: `192.0.2.1`, `192.0.2.1:8080`,
    /// `[2001:db8::1]:8080`.
    pub fn real(&self) -> String {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).to_string(),
            None => self.address.to_string(),
        }
    }
}

/// What the operator said of real servers: stays on top of the configuration until taken back. Serialized as
/// a list, since a JSON object has only strings for keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Override>", into = "Vec<Override>")]
pub struct Overrides {
    /// Weights in force instead of the configured ones; 0 drains. A key that the configuration does not have
    /// does nothing, and stays for a configuration that brings its real server back.
    pub weights: BTreeMap<RealKey, u16>,
}

impl Overrides {
    /// Puts a weight in force; returns the one that an earlier override had.
    pub fn set(&mut self, real: RealKey, weight: u16) -> Option<u16> {
        self.weights.insert(real, weight)
    }

    /// Gives the configuration its say back; returns the weight that was in force, if any.
    pub fn clear(&mut self, real: &RealKey) -> Option<u16> {
        self.weights.remove(real)
    }

    /// The weight in force instead of the configured one.
    pub fn weight(&self, real: &RealKey) -> Option<u16> {
        self.weights.get(real).copied()
    }
}

/// One entry of [`Overrides`], serialized.
#[derive(Serialize, Deserialize)]
struct Override {
    #[serde(flatten)]
    real: RealKey,
    weight: u16,
}

impl From<Vec<Override>> for Overrides {
    fn from(list: Vec<Override>) -> Overrides {
        Overrides { weights: list.into_iter().map(|entry| (entry.real, entry.weight)).collect() }
    }
}

impl From<Overrides> for Vec<Override> {
    fn from(overrides: Overrides) -> Vec<Override> {
        overrides.weights.into_iter().map(|(real, weight)| Override { real, weight }).collect()
    }
}

/// The whole desired state of the data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// In the configuration's order.
    pub services: Vec<DesiredService>,
}

impl Desired {
    /// Those of `fresh` whose next hops are worth waiting for: each may be the first usable real server of a service.
    pub fn awaited(&self, fresh: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        fn takers(service: &DesiredService) -> impl Iterator<Item = &DesiredReal> {
            service.reals.iter().filter(|real| real.weight > 0)
        }
        let unusable = self.services.iter().filter(|service| takers(service).all(|real| real.hop.is_none()));
        let addresses = unusable.flat_map(takers).map(|real| real.address);
        addresses.filter(|address| fresh.contains(address)).collect()
    }
}

/// A service as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// Its name.
    pub name: String,
    /// The VIP.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: Ports,
    /// How packets reach its real servers.
    pub forward: Forward,
    /// How new flows choose.
    pub scheduler: Scheduler,
    /// Clients that stay.
    pub persistence: Option<Persistence>,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// What happens to what cannot be served.
    pub unserved: Unserved,
    /// Non-SYN segments may start flows.
    pub sloppy: bool,
    /// The most slots its table may have (Maglev: exactly; a prime).
    pub table_size: u32,
    /// Its real servers, in the configuration's order.
    pub reals: Vec<DesiredReal>,
}

/// A real server as the data plane shall hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredReal {
    /// Its address.
    pub address: IpAddr,
    /// Its port, where it is not the client's destination port.
    pub port: Option<u16>,
    /// The weight in force; 0 takes no new flows.
    pub weight: u16,
    /// Where its frames go; without it, it takes no new flows.
    pub hop: Option<NextHop>,
}

/// What the data plane shall hold. The sizes of tables follow from the configuration alone: neither an
/// override nor a next hop that comes or goes changes how a Maglev table hashes.
pub fn desired(config: &Config, overrides: &Overrides, hops: &NextHops) -> Desired {
    let demand =
        |service: &Service| Demand::new(service.scheduler, service.reals.iter().map(|real| real.weight));
    let demands: Vec<Demand> = config.services.iter().map(demand).collect();
    let sizes = slots::table_sizes(&demands, config.limits.slots);
    let services = config.services.iter().zip(sizes);
    Desired {
        services: services.map(|(service, size)| desired_service(service, size, overrides, hops)).collect(),
    }
}

fn desired_service(
    service: &Service,
    table_size: u32,
    overrides: &Overrides,
    hops: &NextHops,
) -> DesiredService {
    let real = |real: &Real| DesiredReal {
        address: real.address,
        port: real.port,
        weight: overrides.weight(&RealKey::new(&service.name, real)).unwrap_or(real.weight),
        hop: hops.get(&real.address).copied(),
    };
    DesiredService {
        name: service.name.clone(),
        address: service.address,
        protocol: service.protocol,
        ports: service.ports.clone(),
        forward: service.forward,
        scheduler: service.scheduler,
        persistence: service.persistence,
        timeouts: service.timeouts,
        unserved: service.unserved,
        sloppy: service.sloppy,
        table_size,
        reals: service.reals.iter().map(real).collect(),
    }
}

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

/// The real server that an operator means by `ADDRESS[:PORT]` (IPv6 with a port: `[ADDRESS]:PORT`) in a
/// service. The port may be left out where only one real server has the address, and the service's only port
/// may be given where the configuration leaves it out.
pub fn resolve(config: &Config, service: &str, real: &str) -> Result<RealKey, ResolveError> {
    let Some(found) = config.services.iter().find(|candidate| candidate.name == service) else {
        let known = config.services.iter().map(|service| service.name.clone());
        return Err(ResolveError::NoService { name: service.to_owned(), hint: Hint::new(service, known) });
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Limits;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn real(address: &str, port: Option<u16>, weight: u16) -> Real {
        Real { address: address.parse().unwrap(), port, weight }
    }

    fn service(name: &str, scheduler: Scheduler, ports: &[u16], reals: Vec<Real>) -> Service {
        Service {
            name: name.to_owned(),
            address: address("198.51.100.1"),
            protocol: Protocol::Tcp,
            ports: if ports.is_empty() { Ports::Any } else { Ports::List(ports.to_vec()) },
            forward: Forward::Nat,
            scheduler,
            persistence: None,
            timeouts: Timeouts::default(),
            unserved: Unserved::Reject,
            sloppy: true,
            reals,
        }
    }

    fn config(services: Vec<Service>) -> Config {
        Config {
            interfaces: vec!["eth0".to_owned()],
            vips: Vec::new(),
            services,
            socket: "/run/director.sock".into(),
            limits: Limits::default(),
        }
    }

    fn sample() -> Config {
        let web = vec![real("10.0.0.1", None, 10), real("10.0.0.2", None, 20), real("10.0.0.3", None, 0)];
        let app = vec![
            real("10.0.0.1", Some(8080), 1),
            real("10.0.0.1", Some(8081), 1),
            real("10.0.0.2", Some(8080), 1),
            real("2001:db8::1", Some(8080), 1),
            real("2001:db8::2", None, 1),
        ];
        let any = vec![real("10.0.0.1", None, 1)];
        config(vec![
            service("web", Scheduler::Wrr, &[80, 443], web),
            service("app", Scheduler::Mh, &[8000], app),
            service("any", Scheduler::Fo, &[], any),
        ])
    }

    fn key(service: &str, address: &str, port: Option<u16>) -> RealKey {
        RealKey { service: service.to_owned(), address: address.parse().unwrap(), port }
    }

    fn weights(desired: &Desired, service: usize) -> Vec<u16> {
        desired.services[service].reals.iter().map(|real| real.weight).collect()
    }

    #[test]
    fn the_configuration_comes_through_in_its_order() {
        let config = sample();
        let desired = desired(&config, &Overrides::default(), &NextHops::new());
        assert_eq!(desired.services.len(), 3);
        for (service, desired) in config.services.iter().zip(&desired.services) {
            assert_eq!((&service.name, &service.ports), (&desired.name, &desired.ports));
            assert!(
                desired.sloppy && desired.unserved == Unserved::Reject && desired.forward == Forward::Nat
            );
            let reals: Vec<Real> = desired
                .reals
                .iter()
                .map(|&DesiredReal { address, port, weight, .. }| Real { address, port, weight })
                .collect();
            assert_eq!(reals, service.reals);
        }
        let sizes: Vec<u32> = desired.services.iter().map(|service| service.table_size).collect();
        assert_eq!(sizes, [1024, 65_537, 1]);
    }

    #[test]
    fn overrides_win_until_taken_back() {
        let config = sample();
        let mut overrides = Overrides::default();
        let weights = |overrides: &Overrides| weights(&desired(&config, overrides, &NextHops::new()), 0);
        assert_eq!(overrides.set(key("web", "10.0.0.1", None), 0), None);
        assert_eq!(overrides.set(key("web", "10.0.0.3", None), 5), None);
        assert_eq!(weights(&overrides), [0, 20, 5]);
        assert_eq!(overrides.set(key("web", "10.0.0.1", None), 7), Some(0));
        assert_eq!(overrides.weight(&key("web", "10.0.0.1", None)), Some(7));
        assert_eq!(weights(&overrides), [7, 20, 5]);
        assert_eq!(overrides.clear(&key("web", "10.0.0.1", None)), Some(7));
        assert_eq!(overrides.clear(&key("web", "10.0.0.1", None)), None);
        assert_eq!(weights(&overrides), [10, 20, 5]);
    }

    #[test]
    fn only_a_service_without_any_usable_real_server_waits_for_hops() {
        let [a, b, c, d] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(address);
        let web = vec![real("10.0.0.1", None, 1), real("10.0.0.2", None, 1), real("10.0.0.3", None, 0)];
        let app = vec![real("10.0.0.1", None, 1), real("10.0.0.4", None, 1)];
        let config = config(vec![
            service("web", Scheduler::Wrr, &[80], web),
            service("app", Scheduler::Wrr, &[81], app),
        ]);
        let fresh = BTreeSet::from([a, b, c, d]);
        let awaited = |hops: &[IpAddr], fresh: &BTreeSet<IpAddr>| {
            let hop = NextHop { mac: [2; 6], source_mac: [4; 6], ifindex: 2 };
            let hops = hops.iter().map(|&address| (address, hop)).collect();
            desired(&config, &Overrides::default(), &hops).awaited(fresh)
        };
        assert_eq!(awaited(&[], &fresh), BTreeSet::from([a, b, d]), "one of weight 0 takes nothing");
        assert_eq!(awaited(&[b, c], &fresh), BTreeSet::from([a, d]), "web has one");
        assert_eq!(awaited(&[a], &fresh), BTreeSet::new(), "both have one");
        assert_eq!(awaited(&[], &BTreeSet::from([d])), BTreeSet::from([d]), "the others are down");
    }

    #[test]
    fn an_override_of_nobody_waits() {
        let mut overrides = Overrides::default();
        overrides.set(key("web", "10.0.0.9", None), 0);
        overrides.set(key("web", "10.0.0.1", Some(80)), 0);
        overrides.set(key("gone", "10.0.0.1", None), 0);
        let before = desired(&sample(), &Overrides::default(), &NextHops::new());
        assert_eq!(desired(&sample(), &overrides, &NextHops::new()), before);

        let mut config = sample();
        config.services[0].reals.push(real("10.0.0.9", None, 3));
        assert_eq!(weights(&desired(&config, &overrides, &NextHops::new()), 0), [10, 20, 0, 0]);
    }

    #[test]
    fn overrides_change_no_table_size() {
        let config = sample();
        let before = desired(&config, &Overrides::default(), &NextHops::new());
        let mut overrides = Overrides::default();
        overrides.set(key("web", "10.0.0.1", None), 65_535);
        overrides.set(key("app", "10.0.0.2", Some(8080)), 0);
        let after = desired(&config, &overrides, &NextHops::new());
        for (before, after) in before.services.iter().zip(&after.services) {
            assert_eq!(before.table_size, after.table_size);
        }
    }

    #[test]
    fn hops_are_those_known() {
        let hop = NextHop { mac: [2, 0, 0, 0, 0, 1], source_mac: [2, 0, 0, 0, 0, 2], ifindex: 3 };
        let hops = NextHops::from([(address("10.0.0.2"), hop), (address("10.9.9.9"), hop)]);
        let desired = desired(&sample(), &Overrides::default(), &hops);
        let known = |service: usize| -> Vec<bool> {
            desired.services[service].reals.iter().map(|real| real.hop == Some(hop)).collect()
        };
        assert_eq!(known(0), [false, true, false]);
        assert_eq!(known(1), [false, false, true, false, false]);
    }

    #[test]
    fn overrides_survive_json() {
        let mut overrides = Overrides::default();
        overrides.set(key("web", "10.0.0.1", None), 0);
        overrides.set(key("app", "2001:db8::1", Some(8080)), 7);
        let json = serde_json::to_string(&overrides).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"[{"service":"app","address":"2001:db8::1","port":8080,"weight":7},"#,
                r#"{"service":"web","address":"10.0.0.1","port":null,"weight":0}]"#
            )
        );
        assert_eq!(serde_json::from_str::<Overrides>(&json).unwrap(), overrides);
    }

    #[test]
    fn a_real_server_goes_by_its_address_and_port() {
        let config = sample();
        for (service, text, address, port) in [
            ("web", "10.0.0.1", "10.0.0.1", None),
            ("app", "10.0.0.1:8081", "10.0.0.1", Some(8081)),
            ("app", "10.0.0.2", "10.0.0.2", Some(8080)),
            ("app", "[2001:db8::1]:8080", "2001:db8::1", Some(8080)),
            ("app", "2001:db8::1", "2001:db8::1", Some(8080)),
            ("app", "[2001:DB8:0::1]", "2001:db8::1", Some(8080)),
            ("app", "[2001:db8::2]:8000", "2001:db8::2", None),
        ] {
            assert_eq!(resolve(&config, service, text), Ok(key(service, address, port)), "{text}");
        }
        for service in &config.services {
            for real in &service.reals {
                let key = RealKey::new(&service.name, real);
                assert_eq!(resolve(&config, &service.name, &key.real()), Ok(key));
            }
        }
    }

    #[test]
    fn errors_name_what_there_is() {
        let mut config = sample();
        let error = |config: &Config, service, real| resolve(config, service, real).unwrap_err().to_string();
        assert_eq!(
            error(&config, "wbe", "10.0.0.1"),
            r#"there is no service "wbe"; did you mean web? known: web, app, any"#
        );
        assert_eq!(
            error(&config, "database", "10.0.0.1"),
            r#"there is no service "database"; known: web, app, any"#
        );
        for text in ["", "web1", "10.0.0", "10.0.0.1:", "10.0.0.1:70000", "[10.0.0.1", "[2001:db8::1]8080"] {
            assert!(
                matches!(resolve(&config, "web", text), Err(ResolveError::NotAnAddress { .. })),
                "{text}"
            );
        }
        assert_eq!(
            error(&config, "web", "10.0.0.12"),
            r#"service "web" has no real server 10.0.0.12; did you mean 10.0.0.1? known: 10.0.0.1, 10.0.0.2, 10.0.0.3"#
        );
        assert_eq!(
            error(&config, "web", "10.0.0.1:80"),
            r#"service "web" has no real server 10.0.0.1:80; did you mean 10.0.0.1? known: 10.0.0.1, 10.0.0.2, 10.0.0.3"#
        );
        assert_eq!(
            error(&config, "app", "10.0.0.1"),
            concat!(
                r#"service "app" has several real servers 10.0.0.1, so name the port; "#,
                "known: 10.0.0.1:8080, 10.0.0.1:8081"
            )
        );
        config.services[2].reals = (1..=20).map(|i| real(&format!("10.0.0.{i}"), None, 1)).collect();
        assert!(error(&config, "any", "192.0.2.1").ends_with(" and 12 more"));
        config.services[2].reals.clear();
        assert_eq!(
            error(&config, "any", "192.0.2.1"),
            r#"service "any" has no real server 192.0.2.1; there is none at all"#
        );
        config.services.clear();
        assert_eq!(error(&config, "any", "192.0.2.1"), r#"there is no service "any"; there is none at all"#);
    }

    #[test]
    #[ignore = "measures; run with --release --nocapture"]
    fn ten_thousand_real_servers() {
        let name = |i: usize| format!("10.{}.{}.{}", i / 65_536, i / 256 % 256, i % 256);
        let reals = |s: usize| (0..10).map(|r| real(&name(s * 10 + r), None, 10)).collect();
        let config = config(
            (0..1000).map(|s| service(&format!("service-{s}"), Scheduler::Mh, &[80], reals(s))).collect(),
        );
        let hop = NextHop { mac: [2; 6], source_mac: [4; 6], ifindex: 3 };
        let hops: NextHops = (0..10_000).map(|i| (address(&name(i)), hop)).collect();
        let mut overrides = Overrides::default();
        (0..1000).for_each(|s| _ = overrides.set(key(&format!("service-{s}"), &name(s * 10), None), 0));
        let start = std::time::Instant::now();
        let desired = desired(&config, &overrides, &hops);
        println!("{:?} for {} services", start.elapsed(), desired.services.len());
    }
}
