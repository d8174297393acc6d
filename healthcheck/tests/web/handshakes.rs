//! TLS servers that nginx cannot be made into.

use std::net::SocketAddr;
use std::sync::Arc;

use healthcheck::spec::{Http, Tcp, Tls};
use healthcheck::text::Pattern;
use healthcheck::{Check, Failure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::{default_provider, sign::any_supported_type};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::authority::{Authority, NAME, Pair};
use crate::kit::{probe, server};
use crate::{any_certificate, check, get};

/// Shows a certificate, signs with a key, says hello and hangs up without a `close_notify`. `clients`: who signs theirs, if they
/// must have one.
async fn hello(certificate: &Pair, key: &Pair, clients: Option<&Authority>) -> SocketAddr {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&authority.pem).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&certificate.certificate).unwrap()];
    let key = any_supported_type(&PrivateKeyDer::from_pem_file(&key.key).unwrap()).unwrap();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_cert_resolver(Arc::new(resolver))));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            stream.write_all(b"hello\nand go").await?;
            stream.flush().await?;
            let (tcp, _) = stream.get_mut();
            tcp.shutdown().await?;
            tcp.read_to_end(&mut Vec::new()).await.map(|_| ())
        }
    })
    .await
}

fn asks(tls: Option<Tls>, pattern: &str) -> Check {
    Check::Tcp(Tcp { send: Vec::new(), receive: Some(Pattern::new(pattern).unwrap()), tls })
}

#[tokio::test]
async fn any_certificate_will_do_but_the_server_must_have_its_key() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let (good, other) = (authority.server(), authority.client());
    let honest = hello(&good, &good, None).await;
    assert!(probe(asks(any_certificate(), "^hello$"), honest).await.is_ok());
    let thief = hello(&good, &other, None).await;
    let failed = probe(asks(any_certificate(), "^hello$"), thief).await.unwrap_err();
    assert_eq!(failed.to_string(), "TLS: certificate has a signature that is wrong");
}

#[tokio::test]
async fn an_answer_over_tls_may_end_with_the_connection() {
    let directory = TempDir::new().unwrap();
    let server = Authority::new(directory.path(), "authority").server();
    let real = hello(&server, &server, None).await;
    assert!(probe(asks(any_certificate(), "^and go$"), real).await.is_ok());
    assert!(matches!(probe(asks(any_certificate(), "bye"), real).await, Err(Failure::Mismatch { .. })));
}

#[tokio::test]
async fn a_server_that_wants_our_certificate_says_so_after_the_handshake() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let server = authority.server();
    let real = hello(&server, &server, Some(&authority)).await;
    let http = Http { tls: any_certificate(), ..get("/") };
    for check in [asks(any_certificate(), "hello"), check(http)] {
        let failed = probe(check, real).await.unwrap_err();
        assert_eq!(failed.to_string(), "TLS: the server refused: it wants a certificate of ours");
    }
    let client = authority.client();
    let tls = Tls { certificate: Some((client.certificate, client.key)), ..Tls::default() };
    assert!(probe(asks(Some(tls), "hello"), real).await.is_ok());
}

#[tokio::test]
async fn an_authority_as_a_server_is_told() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let itself = authority.itself();
    let real = hello(&itself, &itself, None).await;
    let trusting = Tls {
        verify: true,
        name: Some(NAME.into()),
        authorities: Some(authority.pem.clone()),
        certificate: None,
    };
    let failed = probe(asks(Some(trusting), "hello"), real).await.unwrap_err();
    assert_eq!(failed.to_string(), "TLS: certificate is an authority's own (CA:TRUE), not a server's");
}
