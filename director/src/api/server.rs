//! The daemon's end of the operator's socket. It knows the director by the trait [`Director`] only.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Context;

use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::connections::{self, Body};
use super::types::{
    self, ErrorBody, Event, FlowQuery, HandedOver, HandoverRequest, Held, HoldRequest, ProbeRequest, Probed,
    Reloaded, Status, StopRequest, Stopping, Weighed, WeightRequest,
};

/// The longest body of a request.
const MOST_BODY: usize = 64 * 1024;
/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether what was asked for makes no sense (and nothing failed).
    pub misuse: bool,
    /// What to say.
    pub body: ErrorBody,
}

impl Refusal {
    /// Without a hint.
    pub fn new(misuse: bool, error: String) -> Refusal {
        Refusal { misuse, body: ErrorBody { error, hint: None } }
    }
}

/// What can be asked of a director.
pub trait Director: Send + Sync + 'static {
    /// How it is.
    fn status(&self) -> impl Future<Output = Result<Status, Refusal>> + Send;
    /// What is wrong with it at the moment.
    fn problems(&self) -> impl Future<Output = Vec<String>> + Send;
    /// Its flows, in pieces of whole lines of JSON.
    fn flows(&self, asked: FlowQuery) -> impl Future<Output = Result<mpsc::Receiver<Bytes>, Refusal>> + Send;
    /// Reads its configuration again.
    fn reload(&self) -> impl Future<Output = Result<Reloaded, Refusal>> + Send;
    /// Puts a weight in force, or takes it back.
    fn weight(&self, asked: WeightRequest) -> impl Future<Output = Result<Weighed, Refusal>> + Send;
    /// Everything that is measured, as Prometheus reads it (text format 0.0.4).
    fn metrics(&self) -> impl Future<Output = Result<String, Refusal>> + Send;
    /// What happened after the event of this number, as far as it is kept.
    fn events(&self, after: u64) -> impl Future<Output = Result<Vec<Event>, Refusal>> + Send;
    /// Runs a service's checks, once, now.
    fn probe(&self, asked: ProbeRequest) -> impl Future<Output = Result<Vec<Probed>, Refusal>> + Send;
    /// Gives groups of VIPs to another director, and waits until it holds them.
    fn hand_over(&self, asked: HandoverRequest) -> impl Future<Output = Result<HandedOver, Refusal>> + Send;
    /// Stays standby, or takes part again.
    fn hold(&self, asked: HoldRequest) -> impl Future<Output = Result<Held, Refusal>> + Send;
    /// Ends the daemon, once the answer is on its way.
    fn stop(&self, asked: StopRequest) -> impl Future<Output = Result<Stopping, Refusal>> + Send;
}

/// The socket; its file goes when this does.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it is gone already, all the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    /// Opens the socket with mode 0660, in place of one that a dead daemon left. Whether the other one is dead is not for
    /// this to find out.
    ///
    /// # Errors
    /// The directory is missing or denied.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        // Under another name first, so that nobody meets it before its mode is right, or misses it in between.
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(name);
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        let in_place = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(error) = in_place {
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(Listener { listener, path: path.to_owned() })
    }

    /// Answers, until dropped.
    pub async fn serve<D: Director>(self, director: Arc<D>) {
        let accept = |cx: &mut Context| self.listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        let answer = move |request| {
            let director = Arc::clone(&director);
            async move { answer(request, director.as_ref()).await }
        };
        connections::serve("the operator's socket", accept, answer).await;
    }
}

async fn answer<D: Director>(request: Request<Incoming>, director: &D) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let allowed = match path.as_str() {
        types::STATUS | types::FLOWS | types::EVENTS => Method::GET,
        types::RELOAD | types::WEIGHT | types::PROBE | types::HANDOVER | types::HOLD | types::STOP => {
            Method::POST
        }
        _ => return refuse(StatusCode::NOT_FOUND, format!("there is no {path}")),
    };
    if request.method() != allowed {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allowed} only"));
        if let Ok(value) = HeaderValue::from_str(allowed.as_str()) {
            response.headers_mut().insert(ALLOW, value);
        }
        return response;
    }
    match path.as_str() {
        types::STATUS => json(director.status().await),
        types::FLOWS => match FlowQuery::from_url(request.uri().query().unwrap_or_default()) {
            Ok(asked) => lines(director.flows(asked).await),
            Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error),
        },
        types::EVENTS => match after(request.uri().query().unwrap_or_default()) {
            Ok(after) => json(director.events(after).await),
            Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error),
        },
        types::PROBE => match body(request).await {
            Ok(asked) => json(director.probe(asked).await),
            Err(response) => *response,
        },
        types::HANDOVER => match body(request).await {
            Ok(asked) => json(director.hand_over(asked).await),
            Err(response) => *response,
        },
        types::HOLD => match body(request).await {
            Ok(asked) => json(director.hold(asked).await),
            Err(response) => *response,
        },
        types::RELOAD => json(director.reload().await),
        types::WEIGHT => match body(request).await {
            Ok(asked) => json(director.weight(asked).await),
            Err(response) => *response,
        },
        _ => match body(request).await {
            Ok(asked) => json(director.stop(asked).await),
            Err(response) => *response,
        },
    }
}

/// `after=N`, or nothing.
fn after(query: &str) -> Result<u64, String> {
    if query.is_empty() {
        return Ok(0);
    }
    let number = query.strip_prefix("after=").and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("{query:?} is not after=N"))
}

/// A request's body.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Response<Body>>> {
    let collected = Limited::new(request.into_body(), MOST_BODY).collect().await;
    let bytes = collected.map_err(|error| {
        Box::new(refuse(StatusCode::BAD_REQUEST, format!("cannot read the request: {error}")))
    })?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| {
        Box::new(refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("the request's body: {error}")))
    })
}

fn json<T: Serialize>(result: Result<T, Refusal>) -> Response<Body> {
    let (status, bytes) = match result {
        Ok(value) => (StatusCode::OK, serde_json::to_vec(&value)),
        Err(Refusal { misuse: true, body }) => (StatusCode::UNPROCESSABLE_ENTITY, serde_json::to_vec(&body)),
        Err(Refusal { misuse: false, body }) => {
            (StatusCode::INTERNAL_SERVER_ERROR, serde_json::to_vec(&body))
        }
    };
    match bytes {
        Ok(bytes) => respond(status, "application/json", Full::new(bytes.into()).boxed()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}")),
    }
}

fn lines(result: Result<mpsc::Receiver<Bytes>, Refusal>) -> Response<Body> {
    match result {
        Ok(pieces) => {
            let frames = stream::unfold(pieces, |mut pieces| async {
                pieces.recv().await.map(|piece| (Ok::<_, Infallible>(Frame::data(piece)), pieces))
            });
            respond(StatusCode::OK, "application/x-ndjson", BodyExt::boxed(StreamBody::new(frames)))
        }
        Err(refusal) => json::<()>(Err(refusal)),
    }
}

fn refuse(status: StatusCode, error: String) -> Response<Body> {
    let body = ErrorBody { error, hint: None };
    // Two strings can always be written.
    let bytes = serde_json::to_vec(&body).unwrap_or_default();
    respond(status, "application/json", Full::new(bytes.into()).boxed())
}

fn respond(status: StatusCode, content: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response
}
