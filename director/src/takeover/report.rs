//! What the thread tells of its work.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::model::Vip;

/// How the groups are that are taken by addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By name.
    pub groups: BTreeMap<String, GroupReport>,
    /// What is wrong otherwise, in words.
    pub problems: Vec<String>,
}

/// How a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReport {
    /// It is to be held here.
    pub active: bool,
    /// Those of its VIPs that are here. Of a group that is not active: that could not be removed.
    pub present: Vec<Vip>,
    /// Those of an active group that are not here, and why.
    pub missing: Vec<(Vip, String)>,
    /// How it was taken last.
    pub taken: Option<Taken>,
    /// What is wrong with it otherwise, in words.
    pub problems: Vec<String>,
}

/// How a group was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When.
    pub at: SystemTime,
    /// From being told until the last VIP was here and its first announcement sent.
    pub took: Duration,
}
