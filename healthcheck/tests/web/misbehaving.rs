//! Servers that no package has.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use healthcheck::spec::{Http, WeightFrom};
use healthcheck::text::Pattern;
use healthcheck::{Failure, Success};
use tokio::io::{AsyncReadExt, AsyncWriteExt, sink};
use tokio::sync::mpsc;

use crate::kit::{SHORT, outcome, probe, server, timed_out};
use crate::{check, get, receives};

/// Says this after the request, then `again` for ever, or nothing more, or hangs up.
async fn says(answer: &'static str, then: Then) -> SocketAddr {
    server(move |mut stream| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await?;
        stream.write_all(answer.as_bytes()).await?;
        match then {
            Then::Closes => {}
            Then::Waits => std::future::pending().await,
            Then::Repeats(again) => loop {
                stream.write_all(again.as_bytes()).await?;
            },
        }
        io::Result::Ok(())
    })
    .await
}

#[derive(Clone, Copy)]
enum Then {
    Closes,
    Waits,
    Repeats(&'static str),
}

const ENDLESS: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[tokio::test]
async fn an_endless_body_is_read_until_it_matches_or_is_too_long() {
    let real = says(ENDLESS, Then::Repeats("on and on, ")).await;
    assert_eq!(probe(check(receives("/", "and on")), real).await, Ok(Success::default()));
    assert_eq!(probe(check(receives("/", "and off")), real).await, Err(Failure::TooLong));
    let weight = Some(WeightFrom::Body(Pattern::new(r"\d+").unwrap()));
    assert_eq!(probe(check(Http { weight, ..get("/") }), real).await, Err(Failure::TooLong));
    assert_eq!(probe(check(get("/")), real).await, Ok(Success::default()), "only the status is wanted");
}

#[tokio::test]
async fn a_body_that_stops_without_end_is_enough_if_it_matches_already() {
    let real = says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::Waits).await;
    assert_eq!(probe(check(receives("/", "half")), real).await, Ok(Success::default()));
    for pattern in ["half$", "whole"] {
        let result = outcome(check(receives("/", pattern)), real, SHORT).await.result;
        assert_eq!(timed_out(&result), Some("body that matches"), "{pattern}");
    }
}

#[tokio::test]
async fn closing_midway_is_told() {
    for answer in ["", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"] {
        let real = says(answer, Then::Closes).await;
        assert_eq!(probe(check(receives("/", "whole")), real).await, Err(Failure::Closed), "{answer}");
    }
    let real = says("", Then::Closes).await;
    assert_eq!(probe(check(Http { http2: true, ..get("/") }), real).await, Err(Failure::Closed));
}

#[tokio::test]
async fn a_body_may_end_with_the_connection() {
    let real = says("HTTP/1.0 200 OK\r\n\r\nwhole", Then::Closes).await;
    assert_eq!(probe(check(receives("/", "^whole$")), real).await, Ok(Success::default()));
}

#[tokio::test]
async fn garbage_is_not_http() {
    let real = says("220 mail.example.org ESMTP\r\n", Then::Waits).await;
    assert_eq!(probe(check(get("/")), real).await, Err(Failure::Protocol("the answer is not HTTP".into())));
    let http2 = Http { http2: true, ..get("/") };
    let failed = probe(check(http2), real).await.unwrap_err();
    assert_eq!(failed.to_string(), "the answer is not HTTP/2");
}

#[tokio::test]
async fn a_refusal_in_http2_is_told() {
    // SETTINGS, and GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.5 and 6.8).
    let frames = "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
    let real = says(frames, Then::Waits).await;
    let failed = probe(check(Http { http2: true, ..get("/") }), real).await.unwrap_err();
    assert!(failed.to_string().starts_with("the server refused: "), "{failed}");
}

#[tokio::test]
async fn endless_headers_are_too_long() {
    let real = says("HTTP/1.1 200 OK\r\n", Then::Repeats("X-On: and on\r\n")).await;
    assert_eq!(probe(check(get("/")), real).await, Err(Failure::TooLong));
}

#[tokio::test]
async fn silence_is_given_up_and_the_connection_is_closed() {
    for http2 in [false, true] {
        let (closed, mut seen) = mpsc::channel(1);
        let real = server(move |mut stream| {
            let closed = closed.clone();
            async move {
                let _ = tokio::io::copy(&mut stream, &mut sink()).await;
                closed.send(()).await
            }
        })
        .await;
        let outcome = outcome(check(Http { http2, ..get("/") }), real, SHORT).await;
        assert_eq!(timed_out(&outcome.result), Some("answer"));
        let told = tokio::time::timeout(Duration::from_secs(10), seen.recv()).await;
        assert_eq!(told, Ok(Some(())), "the server sees that we hung up");
    }
}
