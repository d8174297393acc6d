//! One file a kind of check.

pub(crate) mod dns;
pub(crate) mod external;
pub(crate) mod file;
pub(crate) mod ftp;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod imap;
pub(crate) mod ldap;
pub(crate) mod lines;
pub(crate) mod mysql;
pub(crate) mod nntp;
pub(crate) mod pgsql;
pub(crate) mod ping;
pub(crate) mod pop;
pub(crate) mod radius;
pub(crate) mod redis;
pub(crate) mod sip;
pub(crate) mod smtp;
pub(crate) mod tcp;
pub(crate) mod udp;
