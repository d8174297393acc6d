//! Health checks of real servers: what to ask ([`Probe`]), the asking ([`probe::run`]), what to make of the answers
//! ([`Verdict`]), and a runner that does all this on time ([`runner`]). Nothing here knows of the director.

pub mod attempt;
pub mod check;
pub mod outcome;
pub mod probe;
pub mod process;
pub mod random;
pub mod runner;
pub mod schedule;
pub mod spec;
pub mod text;
pub mod through;
pub mod tls;
pub mod verdict;

pub use check::dns::is_record_type;
pub use outcome::{Failure, Outcome, Step, Success};
pub use spec::{Check, Probe, Target};
pub use verdict::{Limits, State, Verdict};
