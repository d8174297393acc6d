//! SIP: kamailio.

use std::net::SocketAddr;

use healthcheck::spec::Sip;
use healthcheck::{Check, Failure};
use tokio::net::UdpSocket;

use crate::fake::{self, Fake};
use crate::real::{Place, Server, port, v4, v6};
use crate::{IMPATIENCE, fails, fails_saying, passes, run, run_within};

fn kamailio() -> (Server, u16) {
    let place = Place::new();
    let port = port();
    let config = place.write(
        "kamailio.cfg",
        "debug=0\nlog_stderror=yes\nchildren=1\ntcp_children=1\ndisable_core_dump=yes\ndns=no\nrev_dns=no\n\
         loadmodule \"sl.so\"\nloadmodule \"pv.so\"\nloadmodule \"textops.so\"\n\
         request_route {\n\
         if (is_method(\"OPTIONS\") && $rU == \"ping\") { sl_send_reply(\"200\", \"OK\"); exit; }\n\
         if ($rU == \"wait\") { sl_send_reply(\"100\", \"Trying\"); sl_send_reply(\"200\", \"OK\"); exit; }\n\
         sl_send_reply(\"404\", \"Not here\");\n}\n",
    );
    let listens = ["udp:127.0.0.1", "tcp:127.0.0.1", "udp:[::1]", "tcp:[::1]"];
    let listens = listens.map(|listen| format!("{listen}:{port}"));
    let run = place.directory("run", 0o755);
    let pid = place.text("run/pid");
    let mut arguments =
        vec!["-f", config.to_str().unwrap(), "-DD", "-E", "-Y", &run, "-P", &pid, "-m", "16", "-M", "4"];
    for listen in &listens {
        arguments.extend(["-l", listen]);
    }
    // Its UDP sockets are there before it accepts TCP.
    let server = place.start("kamailio", &arguments, &[v4(port), v6(port)]);
    (server, port)
}

fn sip(user: &str, tcp: bool) -> Check {
    Check::Sip(Sip { user: user.into(), tcp })
}

#[tokio::test]
async fn kamailio_passes_and_fails() {
    let (_kamailio, port) = kamailio();
    for tcp in [false, true] {
        for real in [v4(port), v6(port)] {
            passes(run(sip("ping", tcp), real).await);
            passes(run(sip("wait", tcp), real).await);
            fails(run(sip("nobody", tcp), real).await, &Failure::Status(404));
        }
    }
}

/// What to answer to a question over UDP: datagrams, made from its Call-ID.
type Answers = fn(nth: usize, call_id: &str) -> Vec<String>;

/// A server that answers so; and how many questions it got.
async fn answers(answers: Answers) -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let real = socket.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut datagram = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let question = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let call_id = question.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap();
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            for answer in answers(nth, call_id) {
                socket.send_to(answer.as_bytes(), from).await.unwrap();
            }
        }
    });
    (real, asked)
}

fn answer(status: &str, call_id: &str, cseq: &str) -> String {
    format!("SIP/2.0 {status}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_datagram_that_is_lost_is_sent_again() {
    let (real, asked) = answers(|nth, id| match nth {
        0 => vec![],
        _ => vec![answer("200 OK", id, "1 OPTIONS")],
    })
    .await;
    passes(run(sip("ping", false), real).await);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn answers_to_others_are_passed_over() {
    let (real, asked) = answers(|_, id| {
        vec![
            answer("200 OK", "other", "1 OPTIONS"),
            answer("200 OK", id, "1 INVITE"),
            answer("100 Trying", id, "1 OPTIONS"),
            answer("503 Busy", id, "1 OPTIONS"),
        ]
    })
    .await;
    fails(run(sip("ping", false), real).await, &Failure::Status(503));
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    let (real, _) = answers(|_, _| vec![answer("200 OK", "other", "1 OPTIONS")]).await;
    let late = Failure::Timeout { awaiting: "answer", after: IMPATIENCE };
    fails(run_within(sip("ping", false), real, IMPATIENCE).await, &late);
}

#[tokio::test]
async fn udp_that_is_refused_silent_or_garbage_fails() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    fails(run(sip("ping", false), closed).await, &Failure::Refused);
    let (real, _) = answers(|_, _| vec![]).await;
    let late = Failure::Timeout { awaiting: "answer", after: IMPATIENCE };
    fails(run_within(sip("ping", false), real, IMPATIENCE).await, &late);
    for garbage in [
        |_, _: &str| vec!["what?".into()],
        |_, _: &str| vec![String::new()],
        |_, _: &str| vec!["\0".repeat(3000)],
    ] {
        let (real, _) = answers(garbage).await;
        let outcome = run(sip("ping", false), real).await;
        assert_eq!(outcome.result.unwrap_err().kind(), "protocol");
    }
}

#[tokio::test]
async fn tcp_that_hangs_up_midway_or_has_a_body_without_end_fails() {
    let real = fake::hangs_up_after(true, b"SIP/2.0 200 OK\r\nCall-ID: x\r\n").await;
    fails(run(sip("ping", true), real).await, &Failure::Closed);
    let real = fake::says(b"SIP/2.0 200 OK\r\nContent-Length: 99999999\r\n\r\n").await;
    fails(run(sip("ping", true), real).await, &Failure::TooLong);
}

#[tokio::test]
async fn a_user_that_would_be_more_than_a_user_is_not_sent() {
    let talks = Fake::talks("", &[]).await;
    for user in ["", "a b", "a@b", "a\r\nX: y", "ä"] {
        fails_saying(run(sip(user, true), talks.real).await, "local", "SIP user");
    }
    assert!(talks.heard().is_empty());
}
