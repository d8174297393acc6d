//! Heartbeat links over real sockets in network namespaces, and over pseudo terminals. Root only.

mod line;
mod network;
mod rig;
