//! How many messages were refused, and why.

use std::collections::BTreeMap;

/// How many messages were not acted upon, by all links and by each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By whichever link.
    pub total: Counts,
    /// By each link, in their order.
    pub links: Vec<Counts>,
}

/// How many messages were not acted upon, by reason: those of `Refused`, those of `Bad`, and `unconfirmed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counters {
    /// Counts one.
    pub(super) fn count(&mut self, link: usize, reason: &'static str) {
        self.total.count(reason);
        if let Some(link) = self.links.get_mut(link) {
            link.count(reason);
        }
    }

    /// Counts so many links from now on.
    pub(super) fn set_links(&mut self, links: usize) {
        self.links.resize_with(links, Counts::default);
    }
}

impl Counts {
    /// How many for this reason.
    pub fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// All reasons that there were, in the order of the alphabet, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    fn count(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }
}
