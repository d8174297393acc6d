//! What is seen of real servers → who serves. Pure.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use healthcheck::State;

use super::{Overrides, RealKey};
use crate::model::{Assume, Config, Fallback, OnDown, Real, Service};

/// What is known of a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The verdict of all its checks together.
    pub state: State,
    /// When it came back after it had been down: its slow start counts from here.
    pub back: Option<Instant>,
    /// The weight that its checks give it, where they do.
    pub weight: Option<u16>,
    /// Somebody took it out on purpose.
    pub maintenance: bool,
    /// It is up, but its last checks failed.
    pub suspect: bool,
}

/// Real servers whose service has checks.
pub type Standings = HashMap<RealKey, Standing>;

/// What a service makes of its real servers' standings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Too few are up: the fallback serves.
    pub fallback: bool,
    /// Too many would be out: none is.
    pub panic: bool,
}

/// Steps of a slow start.
const STEPS: u32 = 10;

/// Everything that is known of health at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Health<'h> {
    /// Of real servers.
    pub standings: &'h Standings,
    /// Of services, by name.
    pub serving: &'h HashMap<String, Serving>,
    /// The moment.
    pub now: Instant,
}

/// How one real server takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its weight; 0 takes no new flows.
    pub(super) weight: u16,
    /// Its share of that in percent, while it starts slowly.
    pub(super) share: u16,
    /// It is down, and its flows end.
    pub(super) out: bool,
}

impl Health<'static> {
    /// Where nothing is known of anybody.
    pub fn unknown(now: Instant) -> Health<'static> {
        static STANDINGS: LazyLock<Standings> = LazyLock::new(HashMap::new);
        static SERVING: LazyLock<HashMap<String, Serving>> = LazyLock::new(HashMap::new);
        Health { standings: &STANDINGS, serving: &SERVING, now }
    }
}

impl Health<'_> {
    /// How a real server of a service takes part.
    pub(super) fn part(&self, service: &Service, real: &Real, overrides: &Overrides) -> Part {
        let key = RealKey::new(&service.name, real);
        let serving = self.serving.get(&service.name).copied().unwrap_or_default();
        let standing = self.standings.get(&key);
        let weight = weight(real, standing, overrides.weight(&key));
        let panic = serving.panic && !is_maintained(standing);
        if !panic && !is_in(service, standing) {
            return Part { weight: 0, share: 100, out: service.health.on_down != OnDown::Keep };
        }
        let share = standing.map_or(100, |standing| self.share(standing, service.health.slow_start));
        Part { weight: if serving.fallback { 0 } else { weight }, share, out: false }
    }

    fn share(&self, standing: &Standing, slow_start: Duration) -> u16 {
        let Some(back) = standing.back else { return 100 };
        let elapsed = self.now.saturating_duration_since(back);
        if elapsed >= slow_start {
            return 100;
        }
        let step = elapsed.as_nanos() * u128::from(STEPS) / slow_start.as_nanos();
        (100 / STEPS as u16) * (step as u16 + 1)
    }
}

/// The operator's weight, else the checks', else the configured one.
fn weight(real: &Real, standing: Option<&Standing>, overridden: Option<u16>) -> u16 {
    overridden.or(standing.and_then(|standing| standing.weight)).unwrap_or(real.weight)
}

/// Whether a real server is in the pool by its standing.
fn is_in(service: &Service, standing: Option<&Standing>) -> bool {
    match standing.map(|standing| standing.state) {
        Some(State::Up) => true,
        Some(State::Down) => false,
        Some(State::Unknown) | None => service.health.checks.iter().all(|check| check.assume == Assume::Up),
    }
}

fn is_maintained(standing: Option<&Standing>) -> bool {
    standing.is_some_and(|standing| standing.maintenance)
}

/// What each service makes of its real servers' standings. `before`: what it made of them before; the quorum has hysteresis.
pub fn serving(
    config: &Config,
    overrides: &Overrides,
    standings: &Standings,
    before: &HashMap<String, Serving>,
) -> HashMap<String, Serving> {
    let one = |service: &Service| {
        let before = before.get(&service.name).copied().unwrap_or_default();
        (service.name.clone(), service_serving(service, overrides, standings, before))
    };
    config.services.iter().map(one).collect()
}

fn service_serving(
    service: &Service,
    overrides: &Overrides,
    standings: &Standings,
    before: Serving,
) -> Serving {
    let policy = &service.health;
    let (mut all, mut up, mut down, mut suspect, mut unknown) = (0u32, 0u32, 0u32, 0u32, 0u32);
    for real in &service.reals {
        let key = RealKey::new(&service.name, real);
        let standing = standings.get(&key);
        if weight(real, standing, overrides.weight(&key)) == 0 {
            continue;
        }
        // Who is out on purpose is no reason to panic.
        if is_maintained(standing) {
            continue;
        }
        let is = |state| standing.is_some_and(|standing| standing.state == state);
        all += 1;
        up += u32::from(is_in(service, standing));
        down += u32::from(is(State::Down));
        suspect += u32::from(standing.is_some_and(|standing| standing.suspect));
        unknown += u32::from(is(State::Unknown) && !is_in(service, standing));
    }
    // With nobody left, a fallback serves better than the dead.
    let hopeless = up == 0 && policy.fallback.is_some();
    // Those that fail together are found out one after the other: the first ones must not be out before the others tell.
    let would = if down > 0 { down + suspect } else { 0 };
    let panic = !hopeless && policy.panic_threshold.is_some_and(|most| would * 100 > all * u32::from(most));
    // Those of whom nothing is known yet may be enough: the fallback does not begin for their sake, and does not end.
    let serves = match before.fallback {
        _ if panic => all,
        true => up,
        false => up + unknown,
    };
    let needed =
        if before.fallback { policy.quorum.saturating_add(policy.hysteresis) } else { policy.quorum };
    // More than there are would never serve again.
    let short = serves < needed.min(all.max(1));
    Serving { panic, fallback: short && policy.fallback.is_some() }
}

/// When the next step of a slow start is due.
pub fn next_step(config: &Config, standings: &Standings, now: Instant) -> Option<Instant> {
    let slow = config.services.iter().filter(|service| !service.health.slow_start.is_zero());
    let steps = slow.flat_map(|service| {
        let step = service.health.slow_start / STEPS;
        service.reals.iter().filter_map(move |real| {
            let back = standings.get(&RealKey::new(&service.name, real))?.back?;
            let passed = now.saturating_duration_since(back).as_nanos() / step.as_nanos().max(1);
            (passed < u128::from(STEPS)).then(|| back + step * (passed as u32 + 1))
        })
    });
    steps.min()
}

/// Whether the service's packets are the director's own kernel's at the moment.
pub(super) fn is_local(service: &Service, serving: Serving) -> bool {
    serving.fallback && service.health.fallback == Some(Fallback::Local)
}
