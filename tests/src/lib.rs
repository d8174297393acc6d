//! The lab: network namespaces that make a client, a director and real servers.
