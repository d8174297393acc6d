//! What the data plane holds against what it shall hold → operations on its maps. Pure: no clock, no system call.
//!
//! Applying a plan and observing again gives an empty plan (as long as the plan had no problems), so that the daemon may
//! reconcile at any time, for any reason, and so that what somebody else took away comes back.
//!
//! The order of a plan's operations is what keeps traffic going while they are applied one by one: a record is written before
//! anything that leads to it, and taken away after everything that led to it.

mod identity;
mod plan;
mod records;
mod state;
mod tables;

#[cfg(test)]
mod tests;

pub use identity::sharing_keys;
pub use plan::{Fallback, Placement, Plan, Problem, diff};
pub use records::fnv1a;
pub use state::{MapOp, Observed, Units};
