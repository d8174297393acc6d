//! Directors of a cluster: who holds the VIPs, and what clients notice when that changes. Real heartbeats, real ARP, real packets, in
//! network namespaces. Needs root.

mod failover;
mod load;
mod operator;
mod partition;
mod trust;
