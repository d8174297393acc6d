//! By which names HTTP may be asked for. Pure.
//!
//! A page of somebody else's can give its own name the director's address (DNS rebinding), and then its visitor's browser
//! takes the director's answers for that page's. The browser still says which name it asked for, so that a name that is not
//! the director's is refused. An address cannot be lent so, and is always right.

use std::net::IpAddr;

use hyper::header::HOST;
use hyper::http::HeaderMap;
use hyper::http::uri::Authority;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// The machine's name, with and without its domain, and further ones.
    pub(super) fn new(machine: &str, further: &[String]) -> Names {
        let machine = machine.to_ascii_lowercase();
        let short = machine.split('.').next().unwrap_or_default().to_owned();
        let own = [machine, short, "localhost".to_owned()];
        Names(own.into_iter().filter(|name| !name.is_empty()).chain(further.iter().cloned()).collect())
    }

    /// The first name of a request that is not known. Only programs say none at all.
    pub(super) fn stranger(&self, headers: &HeaderMap) -> Option<String> {
        let said = headers.get_all(HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
        said.map(|host| host.into_owned()).find(|host| !self.know(host))
    }

    fn know(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if bare.parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(hosts: &[&'static str]) -> HeaderMap {
        hosts.iter().map(|host| (HOST, HeaderValue::from_static(host))).collect()
    }

    #[test]
    fn addresses_and_known_names_are_right_and_nothing_else_is() {
        let names = Names::new("LB1.example.org", &["director.example.net".to_owned()]);
        for host in [
            "127.0.0.1:9694",
            "192.0.2.11",
            "[::1]:9694",
            "[2001:db8::11]",
            "localhost:9694",
            "lb1",
            "Lb1.Example.org.:9694",
            "director.example.net",
        ] {
            assert_eq!(names.stranger(&headers(&[host])), None, "{host}");
        }
        for host in ["attacker.example", "lb1.attacker.example:9694", "127.0.0.1.attacker.example", "", "a b"]
        {
            assert_eq!(names.stranger(&headers(&[host])).as_deref(), Some(host));
        }
        assert_eq!(names.stranger(&headers(&[])), None);
        assert_eq!(
            names.stranger(&headers(&["lb1", "attacker.example"])).as_deref(),
            Some("attacker.example")
        );
        assert!(Names::new("", &[]).stranger(&headers(&[""])).is_some(), "no name is no known name");
    }
}
