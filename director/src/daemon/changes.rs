//! What differs from one configuration, or one moment, to the next. Pure.

use std::collections::{HashMap, HashSet};

use super::events::News;
use crate::model::Config;
use crate::pool::{RealKey, Serving};

/// How many VIPs and interfaces one configuration has and the other has not.
pub(super) fn surroundings(old: &Config, new: &Config) -> usize {
    fn only<T: PartialEq>(a: &[T], b: &[T]) -> usize {
        a.iter().filter(|one| !b.contains(one)).count()
    }
    only(&old.vips, &new.vips)
        + only(&new.vips, &old.vips)
        + only(&old.interfaces, &new.interfaces)
        + only(&new.interfaces, &old.interfaces)
}

/// Who serves, in a word.
fn mode(serving: Serving) -> &'static str {
    match serving {
        Serving { fallback: true, .. } => "fallback",
        Serving { panic: true, .. } => "panic",
        _ => "real servers",
    }
}

/// Real servers of services without checks.
pub(super) fn unchecked(config: &Config) -> HashSet<RealKey> {
    let services = config.services.iter().filter(|service| service.health.checks.is_empty());
    services.flat_map(|service| service.reals.iter().map(|real| RealKey::new(&service.name, real))).collect()
}

/// What is to be told of services whose fallback begins or ends to serve, or that panic.
pub(super) fn news(
    config: &Config,
    before: &HashMap<String, Serving>,
    after: &HashMap<String, Serving>,
) -> Vec<News> {
    let of = |serving: &HashMap<String, Serving>, name: &str| serving.get(name).copied().unwrap_or_default();
    let services = config.services.iter();
    let changed = services.filter(|service| of(before, &service.name) != of(after, &service.name));
    let news = changed.map(|service| News {
        service: service.name.clone(),
        real: None,
        from: mode(of(before, &service.name)),
        to: mode(of(after, &service.name)),
        reason: format!("of {} real servers, {} must be up", service.reals.len(), service.health.quorum),
    });
    news.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vip;

    fn config(interfaces: &[&str], vips: &[&str]) -> Config {
        let vip =
            |vip: &&str| Vip { address: vip.parse().unwrap(), prefix: 32, interface: "eth0".to_owned() };
        Config {
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            vips: vips.iter().map(vip).collect(),
            socket: "/run/director.sock".into(),
            ..Config::default()
        }
    }

    #[test]
    fn what_comes_and_what_goes_is_a_change() {
        let old = config(&["eth0", "eth1"], &["192.0.2.1"]);
        assert_eq!(surroundings(&old, &old), 0);
        assert_eq!(surroundings(&old, &config(&["eth1", "eth0"], &["192.0.2.2", "192.0.2.1"])), 1);
        assert_eq!(surroundings(&old, &config(&["eth0", "eth2"], &[])), 3);
    }
}
