use std::net::SocketAddr;
use std::time::Duration;

use healthcheck::spec::Udp;
use healthcheck::text::Pattern;
use healthcheck::{Check, Failure};
use tokio::net::UdpSocket;

use crate::kit::{SHORT, outcome, probe, timed_out};

fn asks(reply: bool, receive: Option<&str>) -> Check {
    let receive = receive.map(|text| Pattern::new(text).unwrap());
    Check::Udp(Udp { send: b"ping".to_vec(), reply, receive })
}

async fn echo(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).await.unwrap();
    let real = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 100];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..count], from).await;
        }
    });
    real
}

async fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_answer_is_needed_and_matched() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let real = echo(address).await;
        assert!(probe(asks(true, None), real).await.is_ok());
        assert!(probe(asks(true, Some("^ping$")), real).await.is_ok());
        let failed = probe(asks(true, Some("pong")), real).await.unwrap_err();
        assert_eq!(failed.to_string(), "answer did not match /pong/");
    }
}

#[tokio::test]
async fn a_closed_port_refuses_whether_an_answer_is_needed_or_not() {
    for reply in [true, false] {
        assert_eq!(probe(asks(reply, None), closed().await).await, Err(Failure::Refused));
    }
}

#[tokio::test]
async fn silence_is_good_only_where_no_answer_is_needed() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let real = silent.local_addr().unwrap();
    assert_eq!(timed_out(&outcome(asks(true, None), real, SHORT).await.result), Some("answer"));
    assert!(outcome(asks(false, None), real, SHORT).await.result.is_ok());
}

#[tokio::test]
async fn silence_does_not_take_the_whole_timeout() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let outcome = outcome(asks(false, None), silent.local_addr().unwrap(), Duration::from_secs(60)).await;
    assert!(outcome.result.is_ok());
    assert!(outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
}

#[tokio::test]
async fn a_wrong_answer_is_bad_even_where_none_is_needed() {
    let real = echo("127.0.0.1:0").await;
    assert!(matches!(probe(asks(false, Some("pong")), real).await, Err(Failure::Mismatch { .. })));
}
