//! The operator's socket: HTTP/1.1 over a Unix socket, JSON in both directions. Who may open the socket (mode 0660) may
//! command the director.

pub mod client;
mod cluster;
pub mod connections;
pub mod server;
pub mod types;

#[cfg(test)]
mod tests;
