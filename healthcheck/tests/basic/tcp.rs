use std::io;

use healthcheck::spec::Tcp;
use healthcheck::text::Pattern;
use healthcheck::{Check, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, sink};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::kit::{SHORT, closed_port, outcome, probe, server, timed_out};

fn asks(send: &str, receive: &str) -> Check {
    Check::Tcp(Tcp { send: send.into(), receive: Some(Pattern::new(receive).unwrap()), tls: None })
}

#[tokio::test]
async fn a_connection_is_enough_where_nothing_is_received() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let real = listener.local_addr().unwrap();
    let outcome = outcome(Check::Tcp(Tcp::default()), real, SHORT).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert_eq!(outcome.steps[0].what, "connected");
}

#[tokio::test]
async fn a_closed_port_refuses() {
    assert_eq!(probe(Check::Tcp(Tcp::default()), closed_port().await).await, Err(Failure::Refused));
}

/// Answers only after the end of the question, with lines.
async fn echo_in_lines() -> std::net::SocketAddr {
    server(|mut stream| async move {
        let mut question = String::new();
        stream.read_to_string(&mut question).await?;
        stream.write_all(format!("first\r\nyou said {question}\r\nlast without end").as_bytes()).await
    })
    .await
}

#[tokio::test]
async fn any_line_may_match_after_the_question_has_ended() {
    let real = echo_in_lines().await;
    for pattern in ["^first$", "^you said ping$", "end$"] {
        assert!(probe(asks("ping", pattern), real).await.is_ok(), "{pattern}");
    }
}

#[tokio::test]
async fn no_pattern_matches_across_lines() {
    let real = echo_in_lines().await;
    let failed = probe(asks("ping", r"first\s+you"), real).await.unwrap_err();
    assert_eq!(failed.to_string(), r"answer did not match /first\s+you/");
}

#[tokio::test]
async fn a_greeting_is_read_without_a_question() {
    let real = server(|mut stream| async move {
        stream.write_all(b"hello\n").await?;
        tokio::io::copy(&mut stream, &mut sink()).await.map(|_| ())
    })
    .await;
    assert!(probe(asks("", "hello"), real).await.is_ok());
}

#[tokio::test]
async fn closing_without_a_word_is_no_answer() {
    let real = server(|stream| async move {
        drop(stream);
        io::Result::Ok(())
    })
    .await;
    assert_eq!(probe(asks("", "."), real).await, Err(Failure::Closed));
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let real = server(|mut stream| async move {
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    })
    .await;
    assert_eq!(probe(asks("", "y"), real).await, Err(Failure::TooLong));
}

#[tokio::test]
async fn time_runs_out_and_the_connection_is_closed() {
    let (closed, mut seen) = mpsc::channel(1);
    let real = server(move |mut stream| {
        let closed = closed.clone();
        async move {
            // A RST is an end like any other.
            let count = tokio::io::copy(&mut stream, &mut sink()).await.unwrap_or(0);
            closed.send(count).await.map_err(io::Error::other)
        }
    })
    .await;
    let outcome = outcome(asks("", "."), real, SHORT).await;
    assert_eq!(timed_out(&outcome.result), Some("answer"));
    assert_eq!(outcome.result.unwrap_err().to_string(), "no answer in 300ms");
    assert_eq!(seen.recv().await, Some(0), "the server sees that we hung up");
}
