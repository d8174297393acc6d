//! What goes over the operator's socket about the cluster, as both ends have it: JSON.

use serde::{Deserialize, Serialize};

use crate::heartbeat::report::Cluster;

/// The cluster, and what this machine does about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatus {
    /// How this director sees the cluster.
    pub cluster: Cluster,
    /// How groups were taken here.
    pub taken: Vec<TakenStatus>,
    /// What follows the roles by command or by DNS, and resources.
    pub means: Vec<MeansStatus>,
}

/// How a group was last taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakenStatus {
    /// The group's name.
    pub group: String,
    /// Milliseconds from the decision to the last address and its first announcement; none: it was not taken yet.
    pub milliseconds: Option<f64>,
    /// Seconds since then.
    pub ago_seconds: Option<f64>,
}

/// Something that follows a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeansStatus {
    /// The group's name.
    pub group: String,
    /// What it is: `command`, `dns`, a resource's name.
    pub what: String,
    /// How it is, in words.
    pub state: String,
    /// What went wrong last, if it is not right now.
    pub failure: Option<String>,
}

/// The body of a handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverRequest {
    /// The group; none: all that this director holds.
    pub group: Option<String>,
    /// The director that shall have it; none: the best.
    pub to: Option<String>,
}

/// The answer to it, when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// What was given.
    pub groups: Vec<Given>,
    /// How long it took.
    pub milliseconds: u64,
}

/// A group that was given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The group's name.
    pub group: String,
    /// Who holds it now.
    pub to: String,
}

/// The body of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// To stay standby from now on, or no longer.
    pub hold: bool,
}

/// The answer to it, when it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whether it stays standby now.
    pub held: bool,
    /// Groups that it gave away for that.
    pub gave: Vec<String>,
}
