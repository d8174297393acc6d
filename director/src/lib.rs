//! A Layer-4 load balancer director. See ARCHITECTURE.md for the way data flows through these modules.

pub mod model;
pub mod pool;
