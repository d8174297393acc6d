//! Conversations by HTTP/1.1, whatever they come by: so many at a time, each in a task of its own, none much longer than what accepts
//! them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// The most connections at a time; the next one waits.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long until it is tried again to accept where that failed.
const RETRY: Duration = Duration::from_millis(100);
/// How long an answer that is under way may go on when what accepted its request has ended.
const GRACE: Duration = Duration::from_secs(1);

/// The body of every answer.
pub type Body = BoxBody<Bytes, Infallible>;

/// How long a client may take over an answer, which has this among its extensions; then the connection ends. Without, it is waited for.
/// The answer is to be the connection's last (`Connection: close`).
#[derive(Clone, Copy, Debug)]
pub struct TakenWithin(pub Duration);

/// Accepts connections by `accept`, and has `answer` answer each of their requests, until dropped. Then conversations end, too: at once,
/// or when the answer that is under way is out, if that is soon. `what` they come by, the log says.
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
    // Nothing is ever sent. That it is dropped is the message.
    let open = watch::Sender::new(());
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let (answer, end) = (answer.clone(), open.subscribe());
                tokio::spawn(async move {
                    converse(what, stream, answer, end).await;
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

async fn converse<S, A, R>(what: &str, stream: S, answer: A, mut end: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Body>>,
{
    let (due, mut overdue) = watch::channel(None);
    let service = service_fn(move |request| {
        let (answer, due) = (answer(request), due.clone());
        async move {
            let answer = answer.await;
            if let Some(TakenWithin(within)) = answer.extensions().get() {
                due.send_replace(Some(Instant::now() + *within));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = end.changed() => {
            connection.as_mut().graceful_shutdown();
            let Ok(served) = tokio::time::timeout(GRACE, connection).await else {
                tracing::debug!(of = what, "a client was cut off: nothing is served any more where it asked");
                return;
            };
            served
        }
        () = pass(&mut overdue) => {
            tracing::debug!(of = what, "a client was cut off: it does not take its answer");
            return;
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, of = what, "a client went away");
    }
}

/// Returns when the time that was set last has passed.
async fn pass(time: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let set = *time.borrow_and_update();
        let changed = match set {
            Some(when) => match tokio::time::timeout_at(when, time.changed()).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
            None => time.changed().await,
        };
        if changed.is_err() {
            // Nobody sets one any more.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::{Notify, mpsc};

    /// More than it takes, on however slow a machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// `/slow` was asked for, and may be answered.
    #[derive(Default)]
    struct Slow {
        asked: Notify,
        allowed: Notify,
    }

    /// `/endless` has no end, `/slow` is answered when that is allowed, all else at once.
    async fn answer(request: Request<Incoming>, slow: Arc<Slow>) -> Response<Body> {
        match request.uri().path() {
            "/endless" => {
                let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"and so on")))]);
                let pieces = futures_util::StreamExt::chain(first, stream::pending());
                return Response::new(BodyExt::boxed(StreamBody::new(pieces)));
            }
            "/slow" => {
                slow.asked.notify_one();
                slow.allowed.notified().await;
            }
            _ => {}
        }
        Response::new(Full::new(Bytes::from_static(b"that is all")).boxed())
    }

    /// A client that has asked for this.
    async fn client(streams: &mpsc::Sender<UnixStream>, path: &str) -> UnixStream {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        streams.send(theirs).await.unwrap();
        ours
    }

    async fn read_until(client: &mut UnixStream, end: &str) -> String {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(end) {
            let byte = tokio::time::timeout(PATIENCE, client.read_u8()).await.unwrap();
            read.push(byte.unwrap_or_else(|error| panic!("{error} after {read:?}")));
        }
        String::from_utf8(read).unwrap()
    }

    /// What comes until the other end closes.
    async fn rest(mut client: UnixStream) -> String {
        let mut read = String::new();
        tokio::time::timeout(PATIENCE, client.read_to_string(&mut read)).await.expect("no end").unwrap();
        read
    }

    #[tokio::test]
    async fn conversations_end_with_what_accepts_them_and_answers_under_way_get_out() {
        let (streams, mut accepted) = mpsc::channel::<UnixStream>(8);
        let slow = Arc::new(Slow::default());
        let shared = Arc::clone(&slow);
        let accept = move |cx: &mut Context| {
            accepted.poll_recv(cx).map(|stream| stream.ok_or(io::ErrorKind::BrokenPipe.into()))
        };
        let serving = serve("a test", accept, move |request| answer(request, Arc::clone(&shared)));
        let serving = tokio::spawn(serving);

        let mut idle = client(&streams, "/").await;
        read_until(&mut idle, "that is all").await;
        let mut endless = client(&streams, "/endless").await;
        read_until(&mut endless, "and so on").await;
        let waiting = client(&streams, "/slow").await;
        slow.asked.notified().await;

        serving.abort();
        assert_eq!(rest(idle).await, "");
        slow.allowed.notify_one();
        let answer = rest(waiting).await;
        assert!(answer.ends_with("that is all"), "{answer}");
        rest(endless).await;
    }
}
