//! HTTP and HTTPS against a real nginx (Debian's package `nginx`), and against servers that misbehave.

mod authority;
mod handshakes;
mod http;
mod https;
#[path = "../kit/mod.rs"]
mod kit;
mod misbehaving;
mod nginx;

use healthcheck::Check;
use healthcheck::spec::{Http, Tls};
use healthcheck::text::Pattern;

/// A GET whose answer must be 200.
fn get(path: &str) -> Http {
    Http {
        tls: None,
        http2: false,
        method: "GET".into(),
        path: path.into(),
        host: None,
        headers: Vec::new(),
        statuses: vec![(200, 200)],
        receive: None,
        redirects: 0,
        weight: None,
    }
}

/// A GET whose answer's body must match.
fn receives(path: &str, pattern: &str) -> Http {
    Http { receive: Some(Pattern::new(pattern).unwrap()), ..get(path) }
}

fn check(http: Http) -> Check {
    Check::Http(Box::new(http))
}

/// TLS that believes anybody.
fn any_certificate() -> Option<Tls> {
    Some(Tls::default())
}
