//! HTTP for monitoring and for people: read-only, and without secrets. It knows the director by the trait [`Director`] only.
//!
//! | Path | Answer |
//! |---|---|
//! | `/` | the dashboard, a page |
//! | `/api/live` | what it lives by: status and events, once a second, as server-sent events |
//! | `/metrics` | everything that is measured, for Prometheus |
//! | `/healthz` | 200 as long as the daemon answers: restart it if not |
//! | `/readyz` | 200 if it does what it is configured to; else 503, with what is wrong, line by line |
//! | `/api/status`, `/api/events` | what `director status --json` and `director events --json` say |

mod dashboard;
mod large;
mod live;
mod names;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use self::dashboard::Frames;
use self::large::Places;
use self::live::Live;
use self::names::Names;
use crate::api::connections::{self, Body, TakenWithin};
use crate::api::server::{Director, Refusal};
use crate::model::Http;

/// How long what is sent may wait to be taken: who is gone, or stands still, makes room for others.
const UNREAD: Duration = Duration::from_secs(30);
/// How long until an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What Prometheus asks for: its text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Server-sent events.
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What there is to serve, wherever that is.
struct Matter<D> {
    director: Arc<D>,
    live: Live,
    places: Places,
}

/// The same at an address.
struct Site<D> {
    matter: Arc<Matter<D>>,
    names: Names,
}

/// Serves where it is wanted at the moment, for ever. An address that cannot be had is a problem, and is tried again.
pub async fn serve<D: Director>(
    wanted: watch::Receiver<Option<Http>>,
    problem: watch::Sender<Option<String>>,
    director: Arc<D>,
) {
    let frames = Frames::default();
    let matter = Matter { director, live: Live::new(live::EVERY), places: Places::new(large::PATIENCE) };
    let matter = Arc::new(matter);
    tokio::select! {
        () = matter.live.produce(|| frames.next(matter.director.as_ref())) => {}
        () = follow(wanted, problem, &matter) => {}
    }
}

async fn follow<D: Director>(
    mut wanted: watch::Receiver<Option<Http>>,
    problem: watch::Sender<Option<String>>,
    matter: &Arc<Matter<D>>,
) {
    loop {
        let http = wanted.borrow_and_update().clone();
        let serving = async {
            match http {
                Some(http) => {
                    let names =
                        Names::new(&rustix::system::uname().nodename().to_string_lossy(), &http.hosts);
                    let site = Site { matter: Arc::clone(matter), names };
                    serve_at(http.listen, &problem, &Arc::new(site)).await;
                }
                None => {
                    problem.send_replace(None);
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            () = serving => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Returns when it is time to try again.
async fn serve_at<D: Director>(
    address: SocketAddr,
    problem: &watch::Sender<Option<String>>,
    site: &Arc<Site<D>>,
) {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            problem.send_replace(None);
            tracing::info!(%address, "HTTP is served");
            let site = Arc::clone(site);
            let answer = move |request| {
                let site = Arc::clone(&site);
                async move { answer(request, &site).await }
            };
            connections::serve("HTTP", |cx| accept(&listener, cx), answer).await;
        }
        Err(error) => {
            let why = format!("http: cannot listen on {address}: {error}; no metrics, no dashboard");
            problem.send_replace(Some(why));
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn accept(listener: &TcpListener, cx: &mut Context) -> Poll<io::Result<TcpStream>> {
    listener.poll_accept(cx).map_ok(|(stream, _)| {
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD)) {
            tracing::debug!(%error, "an HTTP client will be waited for as long as the kernel likes");
        }
        stream
    })
}

async fn answer<D: Director>(request: Request<Incoming>, site: &Site<D>) -> Response<Body> {
    let Matter { director, live, places } = site.matter.as_ref();
    let path = request.uri().path();
    // Whether the daemon answers is no secret, and watchers have names of their own for it.
    if path != "/healthz"
        && let Some(host) = site.names.stranger(request.headers())
    {
        let why = format!("this director is not known as {host:?}: add the name to `hosts` of `http`\n");
        return text(StatusCode::MISDIRECTED_REQUEST, why);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => large(places, METRICS, director.metrics()).await,
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match director.problems().await {
            problems if problems.is_empty() => text(StatusCode::OK, "ready\n".to_owned()),
            problems => text(StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n"),
        },
        "/api/status" => large(places, JSON, async { json(director.status().await?).await }).await,
        "/api/events" => large(places, JSON, async { json(director.events(0).await?).await }).await,
        "/api/live" => listen(live),
        path => match dashboard::page(path) {
            Some(page) => page,
            None => text(StatusCode::NOT_FOUND, format!("there is no {path}\n")),
        },
    }
}

fn listen(live: &Live) -> Response<Body> {
    match live.listen() {
        Some(body) => {
            let mut response = finish(StatusCode::OK, EVENTS, body);
            // nginx as a reverse proxy would keep frames back.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
        None => busy(format!("{} listen already\n", live::MOST_LISTENERS)),
    }
}

/// An answer that may take much memory.
async fn large(
    places: &Places,
    content: &'static str,
    make: impl Future<Output = Result<String, Refusal>>,
) -> Response<Body> {
    let Some(place) = places.take().await else {
        return busy(format!("{} large answers are under way already\n", large::MOST));
    };
    match make.await {
        Ok(answer) => {
            let mut response = respond(StatusCode::OK, content, place.hold(answer));
            response.extensions_mut().insert(TakenWithin(large::TAKEN_WITHIN));
            // Who may ask for more before this is out could have the time for it begin anew.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        Err(refusal) => text(StatusCode::INTERNAL_SERVER_ERROR, refusal.body.error + "\n"),
    }
}

/// Written by a thread of its own: it may be much.
async fn json(value: impl Serialize + Send + 'static) -> Result<String, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| Refusal::new(false, format!("cannot write JSON: {error}"));
    let written = tokio::task::spawn_blocking(move || serde_json::to_string(&value)).await;
    written.map_err(|error| refusal(&error))?.map_err(|error| refusal(&error))
}

fn busy(why: String) -> Response<Body> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    finish(status, content, Full::new(body.into()).boxed())
}

/// An answer that is not kept.
fn finish(status: StatusCode, content: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in
        [(CONTENT_TYPE, content), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
