//! DNS: BIND, and servers that answer wrongly.

use std::net::SocketAddr;

use healthcheck::spec::Dns;
use healthcheck::text::Pattern;
use healthcheck::{Check, Failure, Success};
use rustix::process::Signal;
use tokio::net::UdpSocket;

use crate::daemon::{Daemon, Place, accepts, port};
use crate::kit::{SHORT, outcome, probe, server, timed_out};

const CONFIG: &str = r#"
options {
    directory "DIR"; pid-file "DIR/pid"; session-keyfile "DIR/session.key";
    listen-on port PORT { 127.0.0.1; }; listen-on-v6 { none; };
    recursion no; dnssec-validation no; notify no;
};
controls { };
zone "example.test" { type primary; file "zone"; };
zone "2.0.192.in-addr.arpa" { type primary; file "reverse"; };
zone "broken.test" { type primary; file "missing"; };
"#;

const ZONE: &str = "$TTL 60
@ SOA ns hostmaster 2024010101 3600 600 86400 60
@ NS ns
@ MX 10 mail
@ TXT \"v=spf1 -all\" \"two\"
ns A 192.0.2.53
mail A 192.0.2.25
www A 192.0.2.1
www A 192.0.2.2
www AAAA 2001:db8::1
alias CNAME www
_sip._tcp SRV 1 2 5060 www
many TXT LONG
";

const REVERSE: &str = "$TTL 60
@ SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 60
@ NS ns.example.test.
1 PTR www.example.test.
";

async fn named() -> (Daemon, SocketAddr) {
    let place = Place::new("bind");
    let address = port();
    place.write("named.conf", &CONFIG.replace("PORT", &address.port().to_string()));
    let long: Vec<String> = (0..9).map(|index| format!("\"{index}{}\"", "x".repeat(200))).collect();
    place.write("zone", &ZONE.replace("LONG", &long.join("\nmany TXT ")));
    place.write("reverse", REVERSE);
    // -4: else it would look for all addresses there are.
    let daemon =
        place.start("named -4 -g -n 1 -c DIR/named.conf", Signal::TERM, async || accepts(address).await);
    (daemon.await, address)
}

fn ask(name: &str, record: &str, receive: Option<&str>, tcp: bool) -> Check {
    let receive = receive.map(|pattern| Pattern::new(pattern).unwrap());
    Check::Dns(Dns { name: name.into(), record: record.into(), receive, tcp })
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let (_named, real) = named().await;
    let good = [
        ("www.example.test", "A", r"^192\.0\.2\.2$"),
        ("WWW.Example.Test.", "a", r"^192\.0\.2\.1$"),
        ("www.example.test", "AAAA", "^2001:db8::1$"),
        ("alias.example.test", "A", r"^192\.0\.2\.1$"),
        ("alias.example.test", "CNAME", r"^www\.example\.test\.$"),
        ("192.0.2.1", "PTR", r"^www\.example\.test\.$"),
        (
            "example.test",
            "SOA",
            r"^ns\.example\.test\. hostmaster\.example\.test\. 2024010101 3600 600 86400 60$",
        ),
        ("example.test", "NS", r"^ns\.example\.test\.$"),
        ("example.test", "MX", r"^10 mail\.example\.test\.$"),
        ("example.test", "TXT", r#"^"v=spf1 -all" "two"$"#),
        ("_sip._tcp.example.test", "SRV", r"^1 2 5060 www\.example\.test\.$"),
    ];
    for (name, record, receive) in good {
        for tcp in [false, true] {
            let check = ask(name, record, Some(receive), tcp);
            assert_eq!(probe(check, real).await, Ok(Success::default()), "{name} {record} {tcp}");
        }
    }
    assert!(probe(ask("www.example.test", "A", None, false), real).await.is_ok());

    let bad = [
        ("no.example.test", "A", None, "NXDOMAIN: there is no such name"),
        ("mail.example.test", "AAAA", None, "the answer has no AAAA record"),
        ("www.broken.test", "A", None, "SERVFAIL: the server failed"),
        ("elsewhere.test", "A", None, "REFUSED: the server does not answer us"),
        ("www.example.test", "A", Some("203"), "any record did not match /203/"),
        // What the name is an alias of is not an address.
        ("alias.example.test", "A", Some("www"), "any record did not match /www/"),
        ("www.example.test", "B", None, "cannot check: B is no type of DNS records"),
        ("a..b", "A", None, "cannot check: a..b is no domain name"),
    ];
    for (name, record, receive, why) in bad {
        for tcp in [false, true] {
            let failure = probe(ask(name, record, receive, tcp), real).await.unwrap_err().to_string();
            assert!(failure.starts_with(why), "{name} {record}: {failure}");
        }
    }
}

#[tokio::test]
async fn a_truncated_answer_counts_by_its_records() {
    let (_named, real) = named().await;
    let steps = |outcome: &healthcheck::Outcome| {
        outcome.steps.iter().any(|step| step.what == "the answer is truncated")
    };
    let over_tcp = outcome(ask("many.example.test", "TXT", Some("^\"8x"), true), real, SHORT).await;
    assert!(over_tcp.result.is_ok() && !steps(&over_tcp), "{over_tcp:?}");
    let over_udp = outcome(ask("many.example.test", "TXT", Some("^\"8y"), false), real, SHORT).await;
    assert!(over_udp.result.is_err() && steps(&over_udp), "{over_udp:?}");
}

/// A server that makes its answer of the question.
async fn answers(make: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&make(buffer[..length].to_vec()), from).await;
        }
    });
    address
}

#[tokio::test]
async fn wrong_answers_are_none() {
    let check = ask("www.example.test", "A", None, false);
    let protocol = |why: &str| Err(Failure::Protocol(why.into()));

    let another_id = answers(|mut message| {
        message[0] ^= 1;
        message
    });
    let outcome = outcome(check.clone(), another_id.await, SHORT).await;
    assert_eq!(timed_out(&outcome.result), Some("answer"));
    assert!(outcome.steps.iter().any(|step| step.what.contains("another id")), "{outcome:?}");

    let echo = answers(|message| message).await;
    assert_eq!(probe(check.clone(), echo).await, protocol("the answer is a question"));

    let garbage = answers(|message| message[..2].repeat(5)).await;
    assert_eq!(probe(check.clone(), garbage).await, protocol("the answer is no DNS message"));

    let another_question = answers(|mut message| {
        message[2] |= 0x80;
        message[13] ^= 1;
        message
    });
    let result = probe(check.clone(), another_question.await).await;
    assert_eq!(result, protocol("the answer is to another question"));

    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(probe(check, nobody).await, Err(Failure::Refused));
}

#[tokio::test]
async fn a_connection_that_ends_midway_is_no_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let halved = server(async |mut stream| {
        let mut question = [0; 512];
        let length = stream.read(&mut question).await?;
        stream.write_all(&question[..length / 2]).await?;
        stream.shutdown().await
    });
    let result = probe(ask("www.example.test", "A", None, true), halved.await).await;
    assert_eq!(result, Err(Failure::Closed));
    crate::strange::fails_well(ask("www.example.test", "A", None, true)).await;
}
