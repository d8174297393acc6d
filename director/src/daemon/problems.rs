//! What is wrong at the moment, level by level: it is found anew whenever someone looks.

use std::collections::BTreeSet;

use crate::model::Vip;

/// What is wrong, by where it was found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) interfaces: Vec<String>,
    pub(super) maps: Vec<String>,
    pub(super) vips: Vec<(Vip, String)>,
    /// Why the VIPs as a whole cannot be looked after.
    pub(super) takeover: Vec<String>,
    /// Why next hops are not followed.
    pub(super) hops: Option<String>,
    /// Why probes do not reach VIPs at real servers: at all, or by some interface.
    pub(super) probes: Option<String>,
    pub(super) probe_interfaces: Option<String>,
    /// What was said of them in the log last.
    logged: BTreeSet<String>,
}

impl Problems {
    /// For people, one each.
    pub(super) fn all(&self) -> Vec<String> {
        let vips = self.vips.iter().map(|(vip, why)| format!("VIP {}: {why}", vip.address));
        let others = self.interfaces.iter().chain(&self.maps).chain(&self.takeover).chain(&self.hops);
        let others = others.chain(&self.probes).chain(&self.probe_interfaces);
        others.cloned().chain(vips).collect()
    }

    /// Each problem once when it comes, and once when it goes.
    pub(super) fn log(&mut self, all: &[String]) {
        let now: BTreeSet<String> = all.iter().cloned().collect();
        now.difference(&self.logged).for_each(|problem| tracing::error!("{problem}"));
        self.logged.difference(&now).for_each(|problem| tracing::info!("no longer: {problem}"));
        self.logged = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_until_it_went() {
        let mut problems = Problems { maps: vec!["full".to_owned()], ..Problems::default() };
        let all = problems.all();
        problems.log(&all);
        assert_eq!(problems.logged, BTreeSet::from(["full".to_owned()]));
        problems.maps.clear();
        problems.log(&[]);
        assert_eq!(problems.logged, BTreeSet::new());
    }

    #[test]
    fn all_are_shown() {
        let vip = Vip { address: "192.0.2.1".parse().unwrap(), prefix: 32, interface: "eth0".to_owned() };
        let problems = Problems {
            interfaces: vec!["a".to_owned()],
            maps: vec!["b".to_owned()],
            vips: vec![(vip, "e".to_owned())],
            takeover: vec!["c".to_owned()],
            hops: Some("d".to_owned()),
            ..Problems::default()
        };
        assert_eq!(problems.all(), ["a", "b", "c", "d", "VIP 192.0.2.1: e"]);
    }
}
