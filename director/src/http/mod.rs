//! HTTP for monitoring and for people: read-only, and without secrets. It knows the director by the trait [`Director`] only.
//!
//! | Path | Answer |
//! |---|---|
//! | `/metrics` | everything that is measured, for Prometheus |
//! | `/healthz` | 200 as long as the daemon answers: restart it if not |
//! | `/readyz` | 200 if it does what it is configured to; else 503, with what is wrong, line by line |
//! | `/api/status`, `/api/events` | what `director status --json` and `director events --json` say |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::api::server::{Director, Refusal};

/// The most connections at a time; the next one waits.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long until an address that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What Prometheus asks for: its text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Body = BoxBody<Bytes, Infallible>;

/// Serves at the address that is wanted at the moment, for ever. One that cannot be had is a problem, and is tried again.
pub async fn serve<D: Director>(
    mut wanted: watch::Receiver<Option<SocketAddr>>,
    problem: watch::Sender<Option<String>>,
    director: Arc<D>,
) {
    loop {
        let address = *wanted.borrow_and_update();
        let serving = async {
            match address {
                Some(address) => serve_at(address, &problem, &director).await,
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
    director: &Arc<D>,
) {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            problem.send_replace(None);
            tracing::info!(%address, "HTTP is served");
            accept(listener, director).await;
        }
        Err(error) => {
            let why = format!("http: cannot listen on {address}: {error}; no metrics, no dashboard");
            problem.send_replace(Some(why));
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn accept<D: Director>(listener: TcpListener, director: &Arc<D>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let director = Arc::clone(director);
                tokio::spawn(async move {
                    converse(stream, director).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<D: Director>(stream: TcpStream, director: Arc<D>) {
    let service = service_fn(move |request| {
        let director = Arc::clone(&director);
        async move { Ok::<_, Infallible>(answer(request, &director).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP client went away");
    }
}

async fn answer<D: Director>(request: Request<Incoming>, director: &Arc<D>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => match director.metrics().await {
            Ok(metrics) => respond(StatusCode::OK, METRICS, metrics),
            Err(refusal) => failed(refusal),
        },
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match director.status().await {
            Ok(status) if status.problems.is_empty() => text(StatusCode::OK, "ready\n".to_owned()),
            Ok(status) => text(StatusCode::SERVICE_UNAVAILABLE, status.problems.join("\n") + "\n"),
            Err(refusal) => failed(refusal),
        },
        "/api/status" => json(director.status().await),
        "/api/events" => json(director.events(0).await),
        path => text(StatusCode::NOT_FOUND, format!("there is no {path}\n")),
    }
}

fn failed(refusal: Refusal) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, refusal.body.error + "\n")
}

fn json<T: Serialize>(result: Result<T, Refusal>) -> Response<Body> {
    match result.map(|value| serde_json::to_string(&value)) {
        Ok(Ok(json)) => respond(StatusCode::OK, JSON, json),
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}\n")),
        Err(refusal) => failed(refusal),
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    respond(status, TEXT, text)
}

/// An answer that is not kept.
fn respond(status: StatusCode, content: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    for (name, value) in
        [(CONTENT_TYPE, content), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
