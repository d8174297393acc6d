//! Probes that need no server of anybody's: tcp, udp, ping, external.

mod external;
#[path = "../kit/mod.rs"]
mod kit;
mod ping;
mod tcp;
mod udp;
