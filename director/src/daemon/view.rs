//! What the core shows of itself, and the status made of it. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use director_ebpf::flowword::kind;
use director_ebpf::state::{CLOSED, CLOSING, EMBRYONIC, ESTABLISHED};

use super::health::word;
use super::rates::Measured;
use crate::api::types::{
    FlowTableStatus, HealthStatus, Rates, RealStatus, ReasonStatus, ServiceStatus, Status, Traffic, VipStatus,
};
use crate::dataplane::{Attachment, SweepReport};
use crate::health::Seen;
use crate::metrics::Reloads;
use crate::model::{Config, Real, Service, Vip};
use crate::pool::{Desired, DesiredReal, DesiredService, Overrides, RealKey, Serving};
use crate::reconcile::{Placement, Units};

/// The core's state at one moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) config: Arc<Config>,
    pub(super) overrides: Overrides,
    /// Follows from the configuration; so do the placements.
    pub(super) desired: Arc<Desired>,
    pub(super) placements: Vec<Option<Placement>>,
    pub(super) attachments: Vec<Attachment>,
    /// VIPs that could not be added.
    pub(super) missing: Vec<Vip>,
    pub(super) problems: Vec<String>,
    pub(super) units: Units,
    /// What services make of their real servers' health.
    pub(super) serving: HashMap<String, Serving>,
    /// What came of reloads.
    pub(super) reloads: Reloads,
}

/// What of the status the core has nothing to do with.
pub(super) struct Surroundings {
    pub(super) config_path: String,
    pub(super) uptime: Duration,
    pub(super) places: u64,
    pub(super) bytes: u64,
    pub(super) seen: HashMap<RealKey, Seen>,
    pub(super) now: Instant,
}

impl View {
    /// Before anything is known.
    pub(super) fn new(config: Arc<Config>, units: Units) -> View {
        View {
            config,
            units,
            overrides: Overrides::default(),
            desired: Arc::default(),
            placements: Vec::new(),
            attachments: Vec::new(),
            missing: Vec::new(),
            problems: Vec::new(),
            serving: HashMap::new(),
            reloads: Reloads::default(),
        }
    }

    /// The ids of all backends and of all services.
    pub(super) fn ids(&self) -> (Vec<u32>, Vec<u32>) {
        let placed = || self.placements.iter().flatten();
        (
            placed().flat_map(|p| p.backends.iter().flatten().copied()).collect(),
            placed().map(|p| p.id).collect(),
        )
    }

    /// Which real servers take new flows, service by service in the configuration's order.
    pub(super) fn taking_flows(&self) -> Vec<Vec<bool>> {
        let planned = self.desired.services.iter().zip(&self.placements);
        let service = |(service, (desired, placement)): (&Service, (&DesiredService, &Option<Placement>))| {
            let is_placed = |i: usize| {
                placement.as_ref().is_some_and(|placed| placed.backends.get(i).is_some_and(Option::is_some))
            };
            let takes = |(i, real): (usize, &DesiredReal)| {
                real.weight > 0 && !real.out && real.hop.is_some() && is_placed(i) && !desired.local
            };
            // The fallback comes last, and is none of them.
            desired.reals.iter().enumerate().take(service.reals.len()).map(takes).collect()
        };
        self.config.services.iter().zip(planned).map(service).collect()
    }

    /// The status.
    pub(super) fn status(&self, measured: &Measured, sweep: &SweepReport, around: Surroundings) -> Status {
        let planned = self.desired.services.iter().zip(&self.placements);
        let services = self.config.services.iter().zip(planned).map(|(service, (desired, placement))| {
            self.service(service, desired, placement.as_ref(), (measured, sweep, &around))
        });
        let vip = |vip: &Vip| VipStatus {
            address: vip.address,
            prefix: vip.prefix,
            interface: vip.interface.clone(),
            held: !self.missing.contains(vip),
            wanted: true,
        };
        let reasons = measured.reasons.iter().map(|&(reason, count, rate)| ReasonStatus {
            name: reason.name().to_owned(),
            count,
            rate,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: around.uptime.as_secs(),
            interfaces: self.attachments.clone(),
            vips: self.config.vips.iter().map(vip).collect(),
            services: services.collect(),
            flows: flow_table(self.units.limits.flows, sweep, &around),
            reasons: reasons.collect(),
            pair: None,
            problems: self.problems.clone(),
            config: around.config_path,
        }
    }

    fn service(
        &self,
        service: &Service,
        desired: &DesiredService,
        placement: Option<&Placement>,
        (measured, sweep, around): (&Measured, &SweepReport, &Surroundings),
    ) -> ServiceStatus {
        let serving = self.serving.get(&service.name).copied().unwrap_or_default();
        let reals: Vec<RealStatus> = service
            .reals
            .iter()
            .enumerate()
            .map(|(i, real)| {
                let id = placement.and_then(|placement| placement.backends.get(i).copied().flatten());
                self.real(service, real, desired, i, (id, measured, sweep, around))
            })
            .collect();
        let stats =
            placement.and_then(|placement| measured.services.get(&placement.id)).copied().unwrap_or_default();
        ServiceStatus {
            name: service.name.clone(),
            address: service.address,
            protocol: service.protocol,
            ports: service.ports.to_string(),
            forward: service.forward,
            scheduler: service.scheduler,
            persistence_seconds: service.persistence.map(|persistence| persistence.timeout.as_secs()),
            id: placement.map(|placement| placement.id),
            active: reals.iter().map(|real| real.active).sum(),
            inactive: reals.iter().map(|real| real.inactive).sum(),
            traffic: reals.iter().fold(Traffic::default(), |sum, real| sum + real.traffic),
            rates: reals.iter().fold(Rates::default(), |sum, real| sum + real.rates),
            reals,
            fallback: serving.fallback,
            panic: serving.panic,
            no_real_dropped: stats.no_real_dropped,
            no_real_rejected: stats.no_real_rejected,
            no_flow: stats.no_flow,
            unplaced: stats.unplaced,
        }
    }

    fn real(
        &self,
        service: &Service,
        real: &Real,
        desired: &DesiredService,
        at: usize,
        (id, measured, sweep, around): (Option<u32>, &Measured, &SweepReport, &Surroundings),
    ) -> RealStatus {
        let key = RealKey { service: service.name.clone(), address: real.address, port: real.port };
        let overridden = self.overrides.weight(&key);
        let seen = around.seen.get(&key);
        let hop = desired.reals.get(at).and_then(|desired| desired.hop);
        let (active, inactive) = id.and_then(|id| sweep.by_backend.get(&id)).copied().unwrap_or_default();
        let (traffic, rates) = id.and_then(|id| measured.backends.get(&id)).copied().unwrap_or_default();
        RealStatus {
            address: real.address,
            port: real.port,
            configured_weight: real.weight,
            weight: overridden.or(seen.and_then(|seen| seen.weight)).unwrap_or(real.weight),
            overridden: overridden.is_some(),
            health: seen.map(|seen| health(seen, around.now)),
            reachable: hop.is_some(),
            mac: hop.map(|hop| hop.mac.map(|byte| format!("{byte:02x}")).join(":")),
            id,
            active,
            inactive,
            traffic,
            rates,
        }
    }
}

fn health(seen: &Seen, now: Instant) -> HealthStatus {
    HealthStatus {
        state: word(seen.state).to_owned(),
        since_seconds: seen.since.map(|since| now.saturating_duration_since(since).as_secs()),
        reason: seen.reason.clone(),
        weight: seen.weight,
    }
}

fn flow_table(capacity: u32, sweep: &SweepReport, around: &Surroundings) -> FlowTableStatus {
    let of = |wanted: u8| sweep.by_kind.iter().filter(move |((kind, _), _)| *kind == wanted);
    let sum = |wanted: u8| of(wanted).map(|(_, count)| count).sum::<u64>();
    let client = |state| sweep.by_kind.get(&(kind::CLIENT, state)).copied().unwrap_or(0);
    let [embryonic, established, closing, closed] = [EMBRYONIC, ESTABLISHED, CLOSING, CLOSED].map(client);
    FlowTableStatus {
        capacity: capacity.into(),
        places: around.places,
        used: sweep.used(),
        established,
        other: embryonic + closing + closed,
        embryonic,
        closing,
        closed,
        replies: sum(kind::REPLY),
        templates: sum(kind::TEMPLATE),
        fragments: sum(kind::FRAGMENT),
        bytes: around.bytes,
    }
}

impl std::ops::Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        Traffic {
            packets_in: self.packets_in + other.packets_in,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            bytes_out: self.bytes_out + other.bytes_out,
            new_flows: self.new_flows + other.new_flows,
        }
    }
}

impl std::ops::Add for Rates {
    type Output = Rates;

    fn add(self, other: Rates) -> Rates {
        Rates {
            packets_in: self.packets_in + other.packets_in,
            bits_in: self.bits_in + other.bits_in,
            packets_out: self.packets_out + other.packets_out,
            bits_out: self.bits_out + other.bits_out,
            new_flows: self.new_flows + other.new_flows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Forward, HealthPolicy, Ports, Protocol, Scheduler, Timeouts, Unserved};
    use crate::pool::{self, NextHop, NextHops};
    use director_ebpf::abi::{Reason, ServiceStats};
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    fn config() -> Config {
        let real = |last, weight| Real { address: IpAddr::from([10, 0, 0, last]), port: None, weight };
        let service = Service {
            name: "web".into(),
            address: IpAddr::from([192, 0, 2, 10]),
            protocol: Protocol::Tcp,
            ports: Ports::List(vec![80]),
            forward: Forward::Direct,
            scheduler: Scheduler::Rr,
            persistence: None,
            timeouts: Timeouts::default(),
            unserved: Unserved::Drop,
            sloppy: false,
            reals: vec![real(1, 5), real(2, 6), real(3, 7)],
            health: HealthPolicy::default(),
        };
        let vip =
            |last| Vip { address: IpAddr::from([192, 0, 2, last]), prefix: 24, interface: "eth0".into() };
        Config {
            interfaces: vec!["eth0".into()],
            vips: vec![vip(10), vip(11)],
            services: vec![service],
            ..Config::default()
        }
    }

    #[test]
    fn a_status_joins_what_is_known() {
        let config = Arc::new(config());
        let units = Units { tick: Duration::from_secs(1), limits: config.limits };
        let mut view = View::new(Arc::clone(&config), units);
        let key = RealKey { service: "web".into(), address: config.services[0].reals[1].address, port: None };
        view.overrides.set(key, 0);
        let hop = NextHop { mac: [2, 0, 0, 0, 0, 0xab], source_mac: [0; 6], ifindex: 2 };
        let hops = NextHops::from([(config.services[0].reals[0].address, hop)]);
        let health = pool::Health::unknown(Instant::now());
        view.desired = Arc::new(pool::desired(&config, &view.overrides, health, &hops));
        view.placements = vec![Some(Placement { id: 4, backends: vec![Some(7), Some(9), None] })];
        view.missing = vec![config.vips[1].clone()];
        assert_eq!(view.ids(), (vec![7, 9], vec![4]));
        // The second is drained, and nobody knows the way to it; of the third neither, and it has no room.
        assert_eq!(view.taking_flows(), [[true, false, false]]);
        let mut drained = view.clone();
        Arc::make_mut(&mut drained.desired).services[0].reals[0].weight = 0;
        assert_eq!(drained.taking_flows(), [[false, false, false]]);

        let traffic = |packets_in| Traffic { packets_in, ..Traffic::default() };
        let measured = Measured {
            backends: BTreeMap::from([
                (7, (traffic(10), Rates::default())),
                (9, (traffic(5), Rates::default())),
            ]),
            services: BTreeMap::from([(4, ServiceStats { no_flow: 3, ..ServiceStats::default() })]),
            reasons: vec![(Reason::DropNoReal, 8, 0.5)],
        };
        let sweep = SweepReport {
            by_backend: BTreeMap::from([(7, (2, 1)), (9, (1, 0))]),
            by_kind: BTreeMap::from([
                ((kind::CLIENT, ESTABLISHED), 3),
                ((kind::CLIENT, EMBRYONIC), 1),
                ((kind::CLIENT, CLOSING), 4),
                ((kind::REPLY, 0), 2),
            ]),
            ..SweepReport::default()
        };
        let around = Surroundings {
            config_path: "x".into(),
            uptime: Duration::from_secs(9),
            places: 16,
            bytes: 640,
            seen: HashMap::new(),
            now: Instant::now(),
        };
        let status = view.status(&measured, &sweep, around);

        assert_eq!(status.vips.iter().map(|vip| vip.held).collect::<Vec<_>>(), [true, false]);
        let service = &status.services[0];
        assert_eq!((service.id, service.active, service.inactive, service.no_flow), (Some(4), 3, 1, 3));
        assert_eq!(service.traffic.packets_in, 15);
        let [a, b, c] = service.reals.as_slice() else { panic!("three") };
        assert_eq!((a.weight, a.overridden, a.reachable), (5, false, true));
        assert_eq!(a.mac.as_deref(), Some("02:00:00:00:00:ab"));
        assert_eq!((b.weight, b.configured_weight, b.overridden, b.reachable), (0, 6, true, false));
        assert_eq!((c.id, c.active), (None, 0));
        let flows = &status.flows;
        assert_eq!((flows.used, flows.established, flows.other, flows.replies), (10, 3, 5, 2));
        assert_eq!((flows.embryonic, flows.closing, flows.closed), (1, 4, 0));
        assert_eq!((status.reasons[0].name.as_str(), status.reasons[0].count), ("drop_no_real", 8));
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }
}
