//! Conversations by HTTP/1.1, whatever they come by: so many at a time, each in a task of its own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

/// The most connections at a time; the next one waits.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long until it is tried again to accept where that failed.
const RETRY: Duration = Duration::from_millis(100);

/// The body of every answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// Accepts connections by `accept`, and has `answer` answer each of their requests, for ever. `what` they come by, the log says.
pub async fn serve<S, A, R>(
    what: &'static str,
    mut accept: impl FnMut(&mut Context) -> Poll<io::Result<S>>,
    answer: A,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    converse(what, stream, answer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, on = what, "cannot accept connections");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn converse<S, A, R>(what: &str, stream: S, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>>,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, of = what, "a client went away");
    }
}
