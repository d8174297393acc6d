//! What the tests of several kinds of check share: probes, and servers of a few lines.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use healthcheck::{Check, Failure, Outcome, Probe, Success, Target};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any answer on this machine takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// For probes whose time must run out.
pub const SHORT: Duration = Duration::from_millis(300);

/// Runs a probe.
pub async fn outcome(check: Check, real: SocketAddr, timeout: Duration) -> Outcome {
    let virtual_ = "192.0.2.1:80".parse().unwrap();
    healthcheck::probe::run(&Probe {
        target: Target { real, virtual_, mark: 0, source: None },
        check,
        timeout,
    })
    .await
}

/// Runs a probe that has time enough.
pub async fn probe(check: Check, real: SocketAddr) -> Result<Success, Failure> {
    outcome(check, real, PATIENCE).await.result
}

/// Where nobody listens.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A server on 127.0.0.1 that does this with each connection, as long as the test goes on.
pub async fn server<F, E>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// That time ran out, and while waiting for what.
pub fn timed_out(result: &Result<Success, Failure>) -> Option<&'static str> {
    match result {
        Err(Failure::Timeout { awaiting, .. }) => Some(awaiting),
        _ => None,
    }
}
