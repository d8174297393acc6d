use std::fs;

use healthcheck::spec::{Http, Tcp, Tls};
use healthcheck::text::Pattern;
use healthcheck::{Check, Failure, Success};

use crate::authority::{Authority, NAME};
use crate::kit::{SHORT, outcome, probe, server, timed_out};
use crate::nginx::Nginx;
use crate::{any_certificate, check, get, receives};

/// TLS that trusts one authority.
fn trusting(authority: &Authority, name: Option<&str>) -> Tls {
    Tls {
        verify: true,
        name: name.map(str::to_owned),
        authorities: Some(authority.pem.clone()),
        certificate: None,
    }
}

async fn why(tls: Tls, real: std::net::SocketAddr) -> String {
    probe(check(Http { tls: Some(tls), ..get("/") }), real).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_good_certificate_is_good_by_name_and_by_address() {
    let nginx = Nginx::start();
    for (name, sni) in [(Some(NAME), NAME), (None, "")] {
        let tls = Some(trusting(&nginx.authority, name));
        let pattern = format!(r"^HTTP/1\.1 GET 127\.0\.0\.1  {sni} \.$");
        assert_eq!(
            probe(check(Http { tls, ..receives("/echo", &pattern) }), nginx.tls).await,
            Ok(Success::default())
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    let nginx = Nginx::start();
    let trusted = |name| trusting(&nginx.authority, Some(name));
    assert_eq!(
        why(trusted("mail.example.org"), nginx.tls).await,
        "TLS: certificate is not for mail.example.org"
    );
    assert_eq!(why(trusted(NAME), nginx.expired).await, "TLS: certificate has expired");
    let system = Tls { verify: true, name: Some(NAME.into()), ..Tls::default() };
    assert_eq!(why(system, nginx.tls).await, "TLS: certificate is signed by nobody trusted");
    assert_eq!(why(trusted(NAME), nginx.plain).await, "TLS: the server's answer is not TLS");
    for real in [nginx.tls, nginx.expired] {
        let careless = Http { tls: any_certificate(), ..get("/") };
        assert_eq!(probe(check(careless), real).await, Ok(Success::default()));
    }
}

#[tokio::test]
async fn the_certificate_is_looked_at_each_time() {
    let nginx = Nginx::start();
    for _ in 0..3 {
        // nginx says `r` where a session was resumed.
        let https = Http { tls: any_certificate(), ..receives("/reused", r"^\.$") };
        assert_eq!(probe(check(https), nginx.tls).await, Ok(Success::default()));
    }
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let nginx = Nginx::start();
    let good = fs::read(&nginx.authority.pem).unwrap();
    let other = Authority::new(nginx.directory.path(), "stranger");
    let tls = trusting(&nginx.authority, Some(NAME));
    let https = || check(Http { tls: Some(tls.clone()), ..get("/") });
    assert_eq!(probe(https(), nginx.tls).await, Ok(Success::default()));
    fs::copy(&other.pem, &nginx.authority.pem).unwrap();
    assert_eq!(why(tls.clone(), nginx.tls).await, "TLS: certificate is signed by nobody trusted");
    fs::write(&nginx.authority.pem, good).unwrap();
    assert_eq!(probe(https(), nginx.tls).await, Ok(Success::default()));
}

#[tokio::test]
async fn a_file_that_is_of_no_use_cannot_check() {
    let nginx = Nginx::start();
    let path = nginx.directory.path().join("empty.pem");
    let tls = Tls { verify: true, authorities: Some(path.clone()), ..Tls::default() };
    let name = path.display();
    assert_eq!(why(tls.clone(), nginx.tls).await, format!("cannot check: {name}: there is no such file"));
    fs::write(&path, "nothing").unwrap();
    let told = why(tls, nginx.tls).await;
    assert_eq!(told, format!("cannot check: {name}: has no PEM section of the kind that is needed"));
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn() {
    let nginx = Nginx::start();
    let http2 = |pattern| Http { tls: any_certificate(), http2: true, ..receives("/echo", pattern) };
    assert_eq!(probe(check(http2(r"^HTTP/2\.0 GET ")), nginx.tls_h2).await, Ok(Success::default()));
    let refused = probe(check(http2(".")), nginx.tls).await.unwrap_err().to_string();
    assert_eq!(refused, "TLS: the server refused: no common protocol (ALPN)");
}

#[tokio::test]
async fn our_certificate_is_shown_to_servers_that_ask() {
    let nginx = Nginx::start();
    let client = nginx.authority.client();
    let tls = Tls { certificate: Some((client.certificate, client.key)), ..Tls::default() };
    let https = Http { tls: Some(tls), ..receives("/echo", "CN=prober") };
    assert_eq!(probe(check(https), nginx.mutual).await, Ok(Success::default()));
    // nginx says it in HTTP.
    let without = Http { tls: any_certificate(), ..get("/") };
    assert_eq!(probe(check(without), nginx.mutual).await, Err(Failure::Status(400)));
}

#[tokio::test]
async fn anothers_key_cannot_check() {
    let nginx = Nginx::start();
    let (client, server) = (nginx.authority.client(), nginx.authority.server());
    let tls = Tls { certificate: Some((client.certificate, server.key)), ..Tls::default() };
    let told = why(tls, nginx.tls).await;
    assert!(told.ends_with("client.crt: the key does not belong to the certificate"), "{told}");
}

#[tokio::test]
async fn tcp_speaks_tls_too() {
    let nginx = Nginx::start();
    let tcp = |real_name: &str| Tcp {
        send: format!("GET / HTTP/1.0\r\nHost: {real_name}\r\n\r\n").into(),
        receive: Some(Pattern::new("^all is well$").unwrap()),
        tls: Some(trusting(&nginx.authority, Some(real_name))),
    };
    assert_eq!(probe(Check::Tcp(tcp(NAME)), nginx.tls).await, Ok(Success::default()));
    assert!(matches!(probe(Check::Tcp(tcp("a.example")), nginx.tls).await, Err(Failure::Tls(_))));
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_waited_for_no_longer_than_the_timeout() {
    let real = server(|stream| async move {
        stream.readable().await?;
        std::future::pending::<std::io::Result<()>>().await
    })
    .await;
    let https = Http { tls: any_certificate(), ..get("/") };
    assert_eq!(timed_out(&outcome(check(https), real, SHORT).await.result), Some("TLS handshake"));
}
