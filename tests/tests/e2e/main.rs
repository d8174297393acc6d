//! The director end to end: real clients, real servers, real packets, in network namespaces. Needs root.

mod affinity;
mod farm;
mod forwarding;
mod health;
mod hops;
mod operator;
mod restart;
mod transfers;
mod via;
