//! Checks of services, against the real ones (Debian's bind9, slapd, postgresql, mariadb-server, freeradius) and against ones that
//! misbehave.

mod daemon;
mod dns;
mod grpc;
#[path = "../kit/mod.rs"]
mod kit;
mod ldap;
mod mysql;
mod pgsql;
mod radius;
mod strange;
