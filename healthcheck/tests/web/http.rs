use healthcheck::spec::{Http, WeightFrom};
use healthcheck::text::{Pattern, Secret};
use healthcheck::{Failure, Success};

use crate::kit::{PATIENCE, closed_port, outcome, probe};
use crate::nginx::Nginx;
use crate::{check, get, receives};

#[tokio::test]
async fn status_and_body_decide() {
    let nginx = Nginx::start();
    let outcome = outcome(check(receives("/", "^all is well$|well")), nginx.plain, PATIENCE).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    let steps: Vec<_> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(steps, ["connected", "status 200"]);

    let unwell = probe(check(receives("/", "unwell")), nginx.plain).await.unwrap_err();
    assert_eq!(unwell.to_string(), "body did not match /unwell/");
    let busy = probe(check(receives("/busy", "busy")), nginx.plain).await.unwrap_err();
    assert_eq!(busy.to_string(), "status 503");
    let tolerant = Http { statuses: vec![(200, 299), (500, 503)], ..get("/busy") };
    assert!(probe(check(tolerant), nginx.plain).await.is_ok());
    assert_eq!(probe(check(get("/nothing")), nginx.plain).await, Err(Failure::Status(404)));
}

#[tokio::test]
async fn the_request_is_as_it_should_be() {
    let nginx = Nginx::start();
    let echo = |pattern| Http {
        host: Some("www.example.org".into()),
        headers: vec![("X-Token".into(), Secret::new("s3cret"))],
        ..receives("/echo", pattern)
    };
    let http1 = echo(r"^HTTP/1\.1 GET www\.example\.org s3cret  \.$");
    assert_eq!(probe(check(http1), nginx.plain).await, Ok(Success::default()));
    let http2 = Http { http2: true, ..echo(r"^HTTP/2\.0 GET www\.example\.org s3cret  \.$") };
    assert_eq!(probe(check(http2), nginx.plain_h2).await, Ok(Success::default()));
    let unnamed = receives("/echo", r"^HTTP/1\.1 GET 127\.0\.0\.1   \.$");
    assert_eq!(probe(check(unnamed), nginx.plain).await, Ok(Success::default()));
    let posted = Http { method: "POST".into(), ..receives("/echo", r"^HTTP/1\.1 POST ") };
    assert_eq!(probe(check(posted), nginx.plain).await, Ok(Success::default()));
}

#[tokio::test]
async fn a_head_has_no_body() {
    let nginx = Nginx::start();
    let head = |http: Http| Http { method: "HEAD".into(), ..http };
    assert!(probe(check(head(get("/"))), nginx.plain).await.is_ok());
    assert!(matches!(
        probe(check(head(receives("/", "well"))), nginx.plain).await,
        Err(Failure::Mismatch { .. })
    ));
}

#[tokio::test]
async fn redirects_are_followed_as_often_as_allowed_on_the_same_real_server() {
    let nginx = Nginx::start();
    assert_eq!(probe(check(get("/moved")), nginx.plain).await, Err(Failure::Status(301)));
    for http2 in [false, true] {
        let real = if http2 { nginx.plain_h2 } else { nginx.plain };
        let follow = |http: Http| check(Http { redirects: 2, http2, ..http });
        assert_eq!(probe(follow(receives("/moved", " GET ")), real).await, Ok(Success::default()));
        // That name leads nowhere, but the server is asked for it.
        let away = receives("/away", r" GET other\.example\.org ");
        assert_eq!(probe(follow(away), real).await, Ok(Success::default()));
        assert_eq!(probe(follow(get("/loop")), real).await, Err(Failure::Status(302)));
        let safe = probe(follow(get("/safe")), real).await.unwrap_err();
        assert_eq!(safe.to_string(), "redirected from http to https://other.example.org/echo");
    }
}

#[tokio::test]
async fn a_weight_is_in_a_header_or_in_the_body() {
    let nginx = Nginx::start();
    let header = |path: &str, name: &str| Http { weight: Some(WeightFrom::Header(name.into())), ..get(path) };
    let body = |path: &str| {
        let pattern = Pattern::new(r"weight: (\w+)").unwrap();
        Http { weight: Some(WeightFrom::Body(pattern)), ..get(path) }
    };
    let weighs = |weight| Ok(Success { weight: Some(weight) });
    assert_eq!(probe(check(header("/weight", "x-weight")), nginx.plain).await, weighs(42));
    assert_eq!(probe(check(body("/weight")), nginx.plain).await, weighs(17));

    let why = probe(check(header("/heavy", "X-Weight")), nginx.plain).await.unwrap_err().to_string();
    assert_eq!(why, r#"the weight "65536" is not a number from 0 to 65535"#);
    let why = probe(check(body("/heavy")), nginx.plain).await.unwrap_err().to_string();
    assert_eq!(why, r#"the weight "heavy" is not a number from 0 to 65535"#);
    let why = probe(check(header("/", "X-Weight")), nginx.plain).await.unwrap_err().to_string();
    assert_eq!(why, "no header X-Weight with a weight");
    assert!(matches!(probe(check(body("/")), nginx.plain).await, Err(Failure::Mismatch { .. })));
}

#[tokio::test]
async fn the_wrong_version_is_told() {
    let nginx = Nginx::start();
    let http2 = Http { http2: true, ..get("/") };
    let why = probe(check(http2), nginx.plain).await.unwrap_err().to_string();
    assert_eq!(why, "the answer is not HTTP/2");
}

#[tokio::test]
async fn a_closed_port_refuses() {
    assert_eq!(probe(check(get("/")), closed_port().await).await, Err(Failure::Refused));
}

#[tokio::test]
async fn a_request_that_cannot_be_made_says_why_without_its_secrets() {
    let secret = Http { headers: vec![("X-Token".into(), Secret::new("a\nb"))], ..get("/") };
    let nginx = Nginx::start();
    let why = probe(check(secret), nginx.plain).await.unwrap_err().to_string();
    assert!(why.starts_with("cannot check: X-Token: ") && !why.contains("a\nb"), "{why}");
}
