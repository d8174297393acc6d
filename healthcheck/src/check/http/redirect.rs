//! Where a redirect leads to. Pure.

use std::net::SocketAddr;

use hyper::Uri;
use hyper::header::{HeaderMap, LOCATION};

use super::exchange::Answer;
use crate::outcome::Failure;
use crate::spec::Http;

/// What is asked for, on the one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `http` or `https`. It stays.
    pub scheme: &'static str,
    /// The Host header, or `:authority`.
    pub host: String,
    /// GET, HEAD, …
    pub method: String,
    /// Path and query.
    pub path: String,
}

impl Place {
    /// What the check asks for.
    pub fn first(http: &Http, real: SocketAddr) -> Place {
        let scheme = if http.tls.is_some() { "https" } else { "http" };
        let host = http.host.clone().unwrap_or_else(|| match (real, scheme, real.port()) {
            // The scheme's own port is left out (RFC 9110, 4.2.3).
            (SocketAddr::V4(_), "http", 80) | (SocketAddr::V4(_), "https", 443) => real.ip().to_string(),
            (SocketAddr::V6(_), "http", 80) | (SocketAddr::V6(_), "https", 443) => format!("[{}]", real.ip()),
            (SocketAddr::V4(_), ..) => real.to_string(),
            // Without the zone, which means nothing to the server.
            (SocketAddr::V6(v6), ..) => format!("[{}]:{}", v6.ip(), v6.port()),
        });
        Place { scheme, host, method: http.method.clone(), path: http.path.clone() }
    }
}

/// What an answer redirects to, as it says it (RFC 9110, 15.4).
pub fn location(status: u16, headers: &HeaderMap) -> Option<&str> {
    let redirects = matches!(status, 301 | 302 | 303 | 307 | 308);
    headers.get(LOCATION).filter(|_| redirects)?.to_str().ok()
}

/// Where an answer redirects to, if it does. The real server stays the same, wherever the name in it leads.
///
/// # Errors
/// To the other scheme: the port of the real server that speaks it is not known here.
pub fn next(answer: &Answer, from: &Place) -> Result<Option<Place>, Failure> {
    let Some(location) = location(answer.status, &answer.headers) else {
        return Ok(None);
    };
    // A fragment is for browsers.
    let location = location.split('#').next().unwrap_or_default();
    let mut place = from.clone();
    if answer.status == 303 && from.method != "HEAD" {
        place.method = "GET".into();
    }
    let absolute = location.strip_prefix("//").map(|rest| format!("{}://{rest}", from.scheme));
    let location = absolute.as_deref().unwrap_or(location);
    if location.contains("://") && !location.starts_with(['/', '?']) {
        let uri: Uri = location.parse().map_err(|_| unusable(location))?;
        if uri.scheme_str() != Some(from.scheme) {
            return Err(Failure::Protocol(format!("redirected from {} to {}", from.scheme, shown(location))));
        }
        place.host = uri.authority().ok_or_else(|| unusable(location))?.to_string();
        place.path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    } else {
        place.path = resolve(&from.path, location);
    }
    Ok(Some(place))
}

/// A relative reference (RFC 3986, 5.2), without its dots: servers understand those.
fn resolve(base: &str, reference: &str) -> String {
    let path = base.split('?').next().unwrap_or_default();
    match reference.chars().next() {
        None => base.to_owned(),
        Some('/') => reference.to_owned(),
        Some('?') => format!("{path}{reference}"),
        Some(_) => {
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{folder}{reference}")
        }
    }
}

fn unusable(location: &str) -> Failure {
    Failure::Protocol(format!("redirected to {}, which is no place", shown(location)))
}

/// Enough of it to see what it is.
pub fn shown(location: &str) -> String {
    location.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn follow(status: u16, location: &str) -> Result<Option<Place>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        next(&Answer { status, headers, ..Answer::default() }, &place("a", "POST", "/x/y?z=1"))
    }

    fn place(host: &str, method: &str, path: &str) -> Place {
        Place { scheme: "http", host: host.into(), method: method.into(), path: path.into() }
    }

    #[test]
    fn references_lead_where_they_should() {
        for (location, host, path) in [
            ("/new", "a", "/new"),
            ("new?b#c", "a", "/x/new?b"),
            ("?q", "a", "/x/y?q"),
            ("", "a", "/x/y?z=1"),
            ("http://b.example:81/new", "b.example:81", "/new"),
            ("http://b.example", "b.example", "/"),
            ("//b.example/new", "b.example", "/new"),
            ("/go?to=http://b.example/", "a", "/go?to=http://b.example/"),
        ] {
            assert_eq!(follow(302, location), Ok(Some(place(host, "POST", path))), "{location}");
        }
    }

    #[test]
    fn only_a_303_changes_the_method_and_only_redirects_lead_on() {
        assert_eq!(follow(303, "/n"), Ok(Some(place("a", "GET", "/n"))));
        assert_eq!(follow(308, "/n"), Ok(Some(place("a", "POST", "/n"))));
        assert_eq!(follow(304, "/n"), Ok(None));
        assert_eq!(follow(200, "/n"), Ok(None));
    }

    #[test]
    fn another_scheme_is_a_failure() {
        assert!(
            matches!(follow(301, "https://a/"), Err(Failure::Protocol(why)) if why.contains("to https://a/"))
        );
        assert!(matches!(follow(301, "http://a b/"), Err(Failure::Protocol(_))));
    }
}
