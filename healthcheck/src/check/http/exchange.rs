//! One connection, one request, one answer.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::redirect::{self, Place};
use super::tasks::Tasks;
use crate::attempt::{Attempt, MOST, Stream};
use crate::outcome::Failure;
use crate::spec::{Http, WeightFrom};
use crate::text::Pattern;

/// How we name ourselves, unless the check says otherwise. Some servers refuse who does not.
const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// Up to here a body is looked at whenever some of it has come; then each time that it has grown by a quarter, so that all of
/// these looks together stay cheap.
const SMALL: usize = 64 << 10;

/// What is kept of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A body, as far as it was read.
#[derive(Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Whether there was more than anybody reads.
    pub cut: bool,
}

/// Connects and asks. `moving`: a redirect's body is of no interest.
pub async fn run(http: &Http, place: &Place, moving: bool, attempt: &mut Attempt) -> Result<Answer, Failure> {
    let request = request(http, place)?;
    let wanted = Wanted { http, moving };
    let tcp = attempt.tcp().await?;
    let Some(tls) = &http.tls else {
        return converse(http.http2, request, wanted, tcp, attempt).await;
    };
    let protocol = if http.http2 { "h2" } else { "http/1.1" };
    let stream = attempt.secure(tls, &[protocol], tcp).await?;
    if http.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::Protocol("the server does not speak HTTP/2".into()));
    }
    converse(http.http2, request, wanted, stream, attempt).await
}

fn request(http: &Http, place: &Place) -> Result<Request<Empty<Bytes>>, Failure> {
    let bad = |what: &str, error: &dyn Error| Failure::Local(format!("{what}: {error}"));
    // HTTP/2 takes scheme and authority from the URI, HTTP/1.1 has only the path in it (RFC 9112, 3.2.1).
    let uri = match http.http2 {
        true => format!("{}://{}{}", place.scheme, place.host, place.path),
        false => place.path.clone(),
    };
    let mut request = Request::builder()
        .method(place.method.as_str())
        .uri(uri)
        .body(Empty::new())
        .map_err(|error| bad("request", &error))?;
    let headers = request.headers_mut();
    for (name, value) in &http.headers {
        let key = HeaderName::try_from(name).map_err(|error| bad(name, &error))?;
        let mut value = HeaderValue::try_from(value.reveal()).map_err(|error| bad(name, &error))?;
        // Not shown in anybody's debug output.
        value.set_sensitive(true);
        headers.append(key, value);
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    }
    if !http.http2 && !headers.contains_key(HOST) {
        let host = HeaderValue::try_from(&place.host).map_err(|error| bad("Host", &error))?;
        headers.insert(HOST, host);
    }
    Ok(request)
}

/// What of an answer is wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    http: &'a Http,
    moving: bool,
}

async fn converse<S: Stream + 'static>(
    http2: bool,
    request: Request<Empty<Bytes>>,
    wanted: Wanted<'_>,
    stream: S,
    attempt: &mut Attempt,
) -> Result<Answer, Failure> {
    let stream = TokioIo::new(stream);
    attempt.awaits("answer");
    if http2 {
        // Before anything that it guards, so that it is dropped last.
        let tasks = Tasks::new();
        let (mut sender, connection) =
            http2::handshake(tasks.spawner(), stream).await.map_err(|error| failure(&error))?;
        drive(connection, take(sender.send_request(request), wanted, attempt)).await
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| failure(&error))?;
        drive(connection, take(sender.send_request(request), wanted, attempt)).await
    }
}

/// Keeps a connection going until the answer is there, within this future: so both end together.
async fn drive<T>(connection: impl Future, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may end before all that came over it is taken.
        _ = connection => answer.await,
    }
}

async fn take(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    wanted: Wanted<'_>,
    attempt: &mut Attempt,
) -> Result<Answer, Failure> {
    let (head, mut body) = response.await.map_err(|error| failure(&error))?.into_parts();
    attempt.step(format!("status {}", head.status.as_u16()));
    let http = wanted.http;
    let body = if wanted.moving && redirect::location(head.status.as_u16(), &head.headers).is_some() {
        Body::default()
    } else if matches!(http.weight, Some(WeightFrom::Body(_))) {
        // Its digits may go on.
        attempt.awaits("end of the body");
        read(&mut body, |_| false).await?
    } else if let Some(pattern) = &http.receive {
        attempt.awaits("body that matches");
        read(&mut body, |bytes| surely_matches(pattern, bytes)).await?
    } else {
        Body::default()
    };
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// Reads a body until it is enough, ends, or is longer than anybody reads.
async fn read(body: &mut Incoming, mut enough: impl FnMut(&mut Vec<u8>) -> bool) -> Result<Body, Failure> {
    let mut bytes = Vec::new();
    let mut looked_at = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = MOST - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() >= room {
            return Ok(Body { bytes, cut: true });
        }
        if bytes.len() <= SMALL || bytes.len() >= looked_at + looked_at / 4 {
            if enough(&mut bytes) {
                break;
            }
            looked_at = bytes.len();
        }
    }
    Ok(Body { bytes, cut: false })
}

/// Whether a pattern matches the beginning of a body, and will match whatever comes after it. It may depend on the body's end
/// (`$`, `\b`): then it does not match any more with one of these bytes added.
fn surely_matches(pattern: &Pattern, bytes: &mut Vec<u8>) -> bool {
    pattern.matches(bytes)
        && [b'a', b'\0'].into_iter().all(|next| {
            bytes.push(next);
            let matches = pattern.matches(bytes);
            bytes.pop();
            matches
        })
}

/// What hyper says, in an operator's words.
fn failure(error: &hyper::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return error.into();
        }
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return http2_failure(error);
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        return Failure::TooLong;
    }
    if error.is_parse() {
        return Failure::Protocol("the answer is not HTTP".into());
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Failure::Closed;
    }
    Failure::Protocol(match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Those of the stream are not among them: hyper takes them out.
fn http2_failure(error: &h2::Error) -> Failure {
    match error.reason() {
        Some(reason) if error.is_remote() => {
            Failure::Protocol(format!("the server refused: {}", reason.description()))
        }
        // Found by this side.
        _ => Failure::Protocol("the answer is not HTTP/2".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_that_depends_on_the_end_is_not_sure() {
        let sure = |pattern: &str| surely_matches(&Pattern::new(pattern).unwrap(), &mut b"it is OK".to_vec());
        assert!(sure("OK"));
        assert!(sure("^it"));
        assert!(sure(r"OK\b|OK\B"));
        for unsure in ["OK$", r"OK\b", r"OK\B", r"OK\z", "(?m)OK$", "OK.", "never"] {
            assert!(!sure(unsure), "{unsure}");
        }
    }
}
