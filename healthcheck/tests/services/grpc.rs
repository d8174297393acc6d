//! gRPC: tonic's health service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use healthcheck::spec::{Grpc, Tls};
use healthcheck::{Check, Failure, Success};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower_service::Service;

use crate::daemon::{Certificates, Place};
use crate::kit::{SHORT, outcome, probe, server};
use crate::strange::fails_well;

/// Speaks HTTP/2 on one connection.
async fn serve<H: Health>(
    health: HealthServer<H>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut health = health.clone();
        async move { health.call(request).await }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.serve_connection(TokioIo::new(stream), service).await
}

/// A server where `shop` serves, and `cellar` does not.
async fn health(tls: Option<TlsAcceptor>) -> SocketAddr {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    reporter.set_service_status("cellar", ServingStatus::NotServing).await;
    reporter.set_service_status("attic", ServingStatus::Unknown).await;
    server(move |stream| {
        let (health, tls) = (health.clone(), tls.clone());
        async move {
            match tls {
                None => serve(health, stream).await.map_err(drop),
                Some(tls) => serve(health, tls.accept(stream).await.map_err(drop)?).await.map_err(drop),
            }
        }
    })
    .await
}

fn check(service: &str, tls: Option<&Tls>) -> Check {
    Check::Grpc(Grpc { tls: tls.cloned(), service: service.into() })
}

fn acceptor(certificates: &Certificates, protocols: &[&str]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(certificates.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let place = Place::new("root");
    let certificates = Certificates::new();
    let tls = certificates.write(&place);
    let secure = health(Some(acceptor(&certificates, &["h2"]))).await;
    for (real, tls) in [(health(None).await, None), (secure, Some(&tls))] {
        assert_eq!(probe(check("", tls), real).await, Ok(Success::default()));
        assert_eq!(probe(check("shop", tls), real).await, Ok(Success::default()));
        for (service, why) in [
            ("cellar", "not serving"),
            ("attic", "the server does not know whether it serves"),
            ("garden", "the server does not know the service \"garden\""),
        ] {
            assert_eq!(probe(check(service, tls), real).await, Err(Failure::Protocol(why.into())));
        }
    }
    let stranger = Tls { name: Some("another.example.test".into()), ..tls.clone() };
    assert!(matches!(probe(check("", Some(&stranger)), secure).await, Err(Failure::Tls(_))));
    let http1 = health(Some(acceptor(&certificates, &[]))).await;
    let why = "the server does not speak HTTP/2 (ALPN)";
    assert_eq!(probe(check("", Some(&tls)), http1).await, Err(Failure::Tls(why.into())));
}

#[tokio::test]
async fn strange_servers_are_down() {
    fails_well(check("", None)).await;
}

/// Any server for HTTP/2 that has no health service.
#[tokio::test]
async fn a_status_without_grpc_is_no_answer() {
    for (status, why) in
        [(404, "the server has no health service"), (503, "The service is currently unavailable")]
    {
        let plain = server(move |stream| async move {
            let service =
                service_fn(move |_| async move { Response::builder().status(status).body(String::new()) });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http.serve_connection(TokioIo::new(stream), service).await
        });
        let failure = probe(check("", None), plain.await).await.unwrap_err().to_string();
        assert!(failure.starts_with(why), "{status}: {failure}");
    }
}

/// A probe whose time is up hangs up, whatever the server does.
#[tokio::test]
async fn a_probe_that_is_given_up_hangs_up() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let silent = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            // With a RST or without: it ends.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            sender.send(()).await
        }
    });
    let result = outcome(check("", None), silent.await, SHORT).await.result;
    assert!(matches!(result, Err(Failure::Timeout { .. })), "{result:?}");
    let ended = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
    assert_eq!(ended, Ok(Some(())));
}
