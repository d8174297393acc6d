//! `maintenance_dir`: files that take real servers out, named as ldirectord has it: `ADDRESS`, `ADDRESS:PORT`, `HOST`, `HOST:PORT`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What a file's name says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A real server's address.
    Address(IpAddr, Option<u16>),
    /// A name that resolves to it.
    Host(String, Option<u16>),
}

impl Name {
    /// Reads a file's name; hidden files are none.
    pub fn read(name: &str) -> Option<Name> {
        if name.is_empty() || name.starts_with('.') {
            return None;
        }
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Name::Address(address, None));
        }
        if let Ok(socket) = name.parse::<SocketAddr>() {
            return Some(Name::Address(socket.ip(), Some(socket.port())));
        }
        match name.rsplit_once(':') {
            Some((host, port)) => Some(Name::Host(host.to_owned(), Some(port.parse().ok()?))),
            None => Some(Name::Host(name.to_owned(), None)),
        }
    }
}

/// Who is in maintenance: addresses, and ports where only those are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance(pub BTreeSet<(IpAddr, Option<u16>)>);

impl Maintenance {
    /// The file that takes a real server out, as its name might be written.
    pub fn of(&self, address: IpAddr, port: u16) -> Option<String> {
        if self.0.contains(&(address, None)) {
            return Some(address.to_string());
        }
        self.0.contains(&(address, Some(port))).then(|| SocketAddr::new(address, port).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ldirectords() {
        let address = |text: &str| text.parse().unwrap();
        for (name, read) in [
            ("192.0.2.21", Some(Name::Address(address("192.0.2.21"), None))),
            ("192.0.2.21:80", Some(Name::Address(address("192.0.2.21"), Some(80)))),
            ("2001:db8::21", Some(Name::Address(address("2001:db8::21"), None))),
            ("[2001:db8::21]:80", Some(Name::Address(address("2001:db8::21"), Some(80)))),
            ("www1.example.org", Some(Name::Host("www1.example.org".into(), None))),
            ("www1:80", Some(Name::Host("www1".into(), Some(80)))),
            ("www1:http", None),
            (".swp", None),
            ("", None),
        ] {
            assert_eq!(Name::read(name), read, "{name}");
        }
    }

    #[test]
    fn a_port_narrows_it() {
        let address: IpAddr = "192.0.2.21".parse().unwrap();
        let all = Maintenance(BTreeSet::from([(address, None)]));
        let one = Maintenance(BTreeSet::from([(address, Some(80))]));
        assert_eq!(all.of(address, 443).as_deref(), Some("192.0.2.21"));
        assert_eq!(one.of(address, 80).as_deref(), Some("192.0.2.21:80"));
        assert_eq!(one.of(address, 443), None);
    }
}
