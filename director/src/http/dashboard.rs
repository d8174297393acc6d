//! The dashboard: one page, whole in the binary, that lives by [`live`](super::live). What it shows it gets as data and writes as text.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::{Body, respond};
use crate::api::server::Director;
use crate::api::types::{Event, Status};

/// The most events that are shown: the last ones.
const SHOWN: u64 = 50;

/// Nothing from elsewhere, nothing inline, nobody around it; and no text is ever made into elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The page and what it consists of; none where it is something else that is asked for.
pub(super) fn page(path: &str) -> Option<Response<Body>> {
    let (content, body) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "/app.js" => ("text/javascript; charset=utf-8", include_str!("page/app.js")),
        "/parts.js" => ("text/javascript; charset=utf-8", include_str!("page/parts.js")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    let mut response = respond(StatusCode::OK, content, body);
    let corp = HeaderName::from_static("cross-origin-resource-policy");
    for (name, value) in
        [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer"), (corp, "same-origin")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// What the page shows at a moment.
#[derive(Serialize)]
struct Shown {
    status: Status,
    /// The last ones, the newest at the end.
    events: Vec<Event>,
}

/// Makes frames of the stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The last event's number: what is older than those that are shown is not asked for.
    last: AtomicU64,
}

impl Frames {
    /// A frame: what the director says of itself, or that it says nothing.
    pub(super) async fn next(&self, director: &impl Director) -> Bytes {
        let after = self.last.load(Ordering::Relaxed).saturating_sub(SHOWN);
        let (status, mut events) = match (director.status().await, director.events(after).await) {
            (Ok(status), Ok(events)) => (status, events),
            (Err(refusal), _) | (_, Err(refusal)) => return trouble(&refusal.body.error),
        };
        if let Some(event) = events.last() {
            self.last.store(event.id, Ordering::Relaxed);
        }
        let surplus = events.len().saturating_sub(SHOWN as usize);
        let shown = Shown { status, events: events.split_off(surplus) };
        match super::json(shown).await {
            // JSON has its line breaks escaped.
            Ok(json) => format!("data: {json}\n\n").into(),
            Err(refusal) => trouble(&refusal.body.error),
        }
    }
}

/// In place of a frame.
fn trouble(why: &str) -> Bytes {
    let json = serde_json::Value::from(why);
    format!("event: trouble\ndata: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_page_asks_for_nothing_that_is_not_here() {
        let page = page("/").unwrap();
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let html = String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let referred = html.split(['"', '\'']).skip(1).step_by(2).filter(|word| word.contains('.'));
        let referred: Vec<&str> = referred.collect();
        assert_eq!(referred, ["icon.svg", "style.css", "app.js"]);
        for path in referred {
            assert!(super::page(&format!("/{path}")).is_some(), "{path}");
        }
        assert!(super::page("/../secret").is_none());
    }

    #[test]
    fn no_script_makes_elements_of_text() {
        for script in [include_str!("page/app.js"), include_str!("page/parts.js")] {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "http:", "https:"]
            {
                // The name of SVG is no address to ask.
                let used = script.replace("http://www.w3.org/2000/svg", "");
                assert!(!used.contains(word), "{word}");
            }
        }
    }

    #[test]
    fn trouble_is_one_line() {
        assert_eq!(trouble("a\nb"), "event: trouble\ndata: \"a\\nb\"\n\n");
    }
}
