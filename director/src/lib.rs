//! A Layer-4 load balancer director. See ARCHITECTURE.md for the way data flows through these modules.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod follow;
pub mod health;
pub mod heartbeat;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod neighbours;
pub mod pool;
pub mod privileges;
pub mod realtime;
pub mod reconcile;
pub mod resources;
pub mod slots;
pub mod takeover;
