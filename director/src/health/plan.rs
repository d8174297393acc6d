//! Which probes the configuration asks for. Those that are alike are one, whatever number of services wants them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use healthcheck::schedule::Rhythm;
use healthcheck::{Check, Limits, Probe, Target};

use crate::model::{CheckPlan, Config, Ports, Real, Service, Via};
use crate::pool::RealKey;

/// Everything that is to be watched.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Real servers whose service has checks, or that may be in maintenance, in the configuration's order.
    pub subjects: Vec<Subject>,
    /// The probes, each once, as often as the most impatient service wants it.
    pub watches: Vec<(Arc<Probe>, Rhythm)>,
}

/// A real server of a service, and what it is asked.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Who.
    pub key: RealKey,
    /// The service's only port, or 0: what maintenance files may name, where the real server has none of its own.
    pub port: u16,
    /// All of this must pass.
    pub checks: Vec<Asked>,
}

/// One check of one real server.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The probe.
    pub probe: Arc<Probe>,
    /// How many outcomes in a row change its verdict.
    pub limits: Limits,
}

/// Makes the plan. `mark`: the socket mark by which packets to a real server reach a VIP there; 0 where there is no such way, and
/// the real server's own address is asked. `source`: the address of ours that a real server is
/// asked from, given whether by a mark; none where the kernel may choose.
pub fn plan(
    config: &Config,
    mark: impl Fn(IpAddr) -> u32,
    source: impl Fn(IpAddr, bool) -> Option<IpAddr>,
) -> Plan {
    let mut watches: HashMap<Arc<Probe>, (usize, Rhythm)> = HashMap::new();
    let mut subjects = Vec::new();
    // Maintenance is for those without checks, too.
    let all = config.watching.maintenance_dir.is_some();
    for service in config.services.iter().filter(|service| all || !service.health.checks.is_empty()) {
        for real in &service.reals {
            let ask = |check: &CheckPlan| {
                let probe = Arc::new(probe(service, real, check, &mark, &source));
                let (interval, fast) = (check.interval, check.fast_interval);
                let place = watches.len();
                let watch = watches.entry(Arc::clone(&probe)).or_insert((place, Rhythm { interval, fast }));
                watch.1 = Rhythm { interval: watch.1.interval.min(interval), fast: watch.1.fast.min(fast) };
                Asked { probe, limits: check.limits }
            };
            let checks = service.health.checks.iter().map(ask).collect();
            let key = RealKey::new(&service.name, real);
            subjects.push(Subject { key, port: service.ports.single().unwrap_or(0), checks });
        }
    }
    let mut watches: Vec<_> = watches.into_iter().collect();
    watches.sort_by_key(|(_, (place, _))| *place);
    Plan { subjects, watches: watches.into_iter().map(|(probe, (_, rhythm))| (probe, rhythm)).collect() }
}

/// The probe of one check of one real server.
fn probe(
    service: &Service,
    real: &Real,
    check: &CheckPlan,
    mark: impl Fn(IpAddr) -> u32,
    source: impl Fn(IpAddr, bool) -> Option<IpAddr>,
) -> Probe {
    let first = match &service.ports {
        Ports::Any => 0,
        Ports::List(ports) => ports.first().copied().unwrap_or(0),
    };
    let port = check.port.or(real.port).unwrap_or(first);
    let real = SocketAddr::new(real.address, port);
    let external = matches!(check.check, Check::External(_));
    let mark = if check.via == Via::Vip { mark(service.address) } else { 0 };
    // Only an external check is told of the VIP; others are alike for all services.
    let virtual_ =
        if external { SocketAddr::new(service.address, service.ports.single().unwrap_or(0)) } else { real };
    Probe {
        target: Target { real, virtual_, mark, source: source(real.ip(), mark != 0) },
        check: check.check.clone(),
        timeout: check.timeout,
    }
}
