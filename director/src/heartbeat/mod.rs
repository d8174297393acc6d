//! How directors of a cluster hear of each other and agree on who holds which group of VIPs.

pub mod message;
pub mod moment;
pub mod transport;
