//! How directors of a cluster hear of each other and agree on who holds which group of VIPs.

pub mod driver;
pub mod election;
pub mod keys;
pub mod machine;
pub mod message;
pub mod moment;
pub mod node;
pub mod report;
pub mod session;
pub mod settings;
mod spread;
pub mod transport;
mod view;
pub mod wire;
