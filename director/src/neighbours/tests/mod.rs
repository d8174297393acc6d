//! The pure parts, under a simulated clock.

mod interfaces;
mod kernel;
mod table;
mod wire;
