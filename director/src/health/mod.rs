//! From the configuration's checks to probes, and from their outcomes to standings. Pure; the daemon runs the probes.

mod board;
mod maintenance;
mod plan;
mod tally;

pub use board::{Board, Change, Seen};
pub use maintenance::{Maintenance, Name};
pub use plan::{Asked, Plan, Subject, plan};
pub use tally::{BOUNDS, Durations, Tally};
