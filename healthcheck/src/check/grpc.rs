//! gRPC's health protocol (grpc.health.v1.Health/Check), over HTTP/2. The client is tonic's, without its transport: that would
//! bring its own connector and several layers along, while hyper, which is here anyway, does HTTP/2 over any stream. tonic-health
//! has the messages ready-made, so no protobuf compiler is needed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower_service::Service;

use crate::attempt::{Attempt, Stream};
use crate::check::http::tasks::Tasks;
use crate::outcome::{Failure, Success};
use crate::spec::Grpc;
use crate::through::{Limited, beneath};

/// The most bytes of an answer: it is a number.
const LONGEST: usize = 4096;

/// Asks, and passes when the server says that it is serving.
pub async fn probe(grpc: &Grpc, attempt: &mut Attempt) -> Result<Success, Failure> {
    let stream = Limited::new(connect(grpc, attempt).await?);
    attempt.awaits("answer");
    // A probe that is given up leaves no task behind, and so no connection.
    let tasks = Tasks::new();
    let (sender, connection) =
        http2::handshake(tasks.spawner(), TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let ask = ask(grpc, attempt.real(), sender);
    let result = tokio::select! {
        // An error of the connection says more than that of the request it makes fail.
        biased;
        Err(error) = connection => Err(broken(&error)),
        result = ask => result,
    };
    let status = result?;
    attempt.step(status.as_str_name());
    match status {
        ServingStatus::Serving => Ok(Success::default()),
        ServingStatus::NotServing => Err(Failure::Protocol("not serving".into())),
        ServingStatus::ServiceUnknown => Err(unknown(grpc)),
        ServingStatus::Unknown => Err(Failure::Protocol("the server does not know whether it serves".into())),
    }
}

async fn connect(grpc: &Grpc, attempt: &mut Attempt) -> Result<Box<dyn Stream>, Failure> {
    let Some(tls) = &grpc.tls else {
        // By prior knowledge (RFC 9113, 3.3).
        return attempt.stream(None, &[]).await;
    };
    let stream = attempt.tcp().await?;
    let stream = attempt.secure(tls, &["h2"], stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::Tls("the server does not speak HTTP/2 (ALPN)".into()));
    }
    Ok(Box::new(stream))
}

async fn ask(grpc: &Grpc, real: SocketAddr, sender: SendRequest<Body>) -> Result<ServingStatus, Failure> {
    let tls = grpc.tls.as_ref();
    let authority = tls.and_then(|tls| tls.name.clone()).unwrap_or_else(|| real.to_string());
    let origin = Uri::builder()
        .scheme(if tls.is_some() { "https" } else { "http" })
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| Failure::Local(error.to_string()))?;
    let mut client = HealthClient::with_origin(Channel(sender), origin).max_decoding_message_size(LONGEST);
    let request = HealthCheckRequest { service: grpc.service.clone() };
    match client.check(request).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) => Err(failure(grpc, &status)),
    }
}

fn failure(grpc: &Grpc, status: &Status) -> Failure {
    if let Some(source) = std::error::Error::source(status) {
        return broken(source);
    }
    match status.code() {
        Code::NotFound => unknown(grpc),
        Code::Unimplemented => Failure::Protocol("the server has no health service".into()),
        code if status.message().is_empty() => Failure::Protocol(code.description().into()),
        code => Failure::Protocol(format!("{}: {}", code.description(), status.message())),
    }
}

fn unknown(grpc: &Grpc) -> Failure {
    Failure::Protocol(format!("the server does not know the service \"{}\"", grpc.service))
}

/// What is wrong with the connection.
fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    if let Some(failure) = beneath(error) {
        return failure;
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_closed() || error.is_canceled() || error.is_incomplete_message())
        {
            return Failure::Closed;
        }
        next = error.source();
    }
    Failure::Protocol("the answer is not HTTP/2".into())
}

/// hyper's side of an HTTP/2 connection as what tonic asks for.
struct Channel(SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
