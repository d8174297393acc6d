//! Redis: redis-server.

use std::path::PathBuf;

use healthcheck::spec::{Login, Redis, Tls};
use healthcheck::{Check, Failure};

use crate::fake::says;
use crate::real::{NAME, Place, Server, port, v4, v6};
use crate::{fails, fails_saying, fails_without, login, passes, pattern, run, strict};

/// redis-server, with and without TLS.
struct RedisServer {
    plain: u16,
    tls: u16,
    authority: PathBuf,
    _server: Server,
}

fn redis_server(more: &[&str]) -> RedisServer {
    let place = Place::new();
    let (plain, tls) = (port(), port());
    let texts = [
        plain.to_string(),
        tls.to_string(),
        place.directory("data", 0o755),
        place.text("certificate.pem"),
        place.text("key.pem"),
        place.text("authority.pem"),
    ];
    let [plain_text, tls_text, data, certificate, key, authority] = texts.each_ref().map(String::as_str);
    let mut arguments = vec![
        "--port",
        plain_text,
        "--tls-port",
        tls_text,
        "--bind",
        "127.0.0.1",
        "::1",
        "--save",
        "",
        "--dir",
        data,
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        authority,
        "--tls-auth-clients",
        "no",
    ];
    arguments.extend(more);
    let authority = place.authority();
    let server = place.start("redis-server", &arguments, &[v4(plain), v6(plain), v4(tls)]);
    RedisServer { plain, tls, authority, _server: server }
}

fn redis(login: Option<Login>, command: &[&str], receive: Option<&str>) -> Check {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Check::Redis(Redis { tls: None, login, command, receive: receive.map(pattern) })
}

#[tokio::test]
async fn redis_passes() {
    let server = redis_server(&[]);
    for real in [v4(server.plain), v6(server.plain)] {
        passes(run(redis(None, &[], None), real).await);
        passes(run(redis(None, &[], Some("^PONG$")), real).await);
        passes(run(redis(None, &["SET", "a key", "a\r\nvalue"], Some("OK")), real).await);
        passes(run(redis(None, &["GET", "a key"], Some("^a\r\nvalue$")), real).await);
        passes(run(redis(None, &["EXISTS", "a key"], Some("^1$")), real).await);
        passes(run(redis(None, &["GET", "nothing"], Some("^$")), real).await);
        passes(run(redis(None, &["INFO", "replication"], Some("(?m)^role:master\r$")), real).await);
        passes(run(redis(None, &["CONFIG", "GET", "port*"], Some("^port\n[0-9]+$")), real).await);
    }
}

#[tokio::test]
async fn redis_fails() {
    let server = redis_server(&[]);
    let mismatch = Failure::Mismatch { what: "answer", pattern: "/role:slave/".into() };
    let info = redis(None, &["INFO", "replication"], Some("role:slave"));
    fails(run(info, v4(server.plain)).await, &mismatch);
    fails_saying(run(redis(None, &["NOTHING"], None), v4(server.plain)).await, "protocol", "unknown command");
    // There is no password to be asked for.
    let outcome = run(redis(Some(login("", "hunter2")), &[], None), v4(server.plain)).await;
    fails_saying(outcome, "login", "without any password");
}

#[tokio::test]
async fn redis_wants_a_login() {
    let server = redis_server(&["--requirepass", "hunter2", "--user", "ann", "on", ">s3cret", "+ping"]);
    let real = v4(server.plain);
    fails_saying(run(redis(None, &[], None), real).await, "protocol", "NOAUTH");
    passes(run(redis(Some(login("", "hunter2")), &[], None), real).await);
    passes(run(redis(Some(login("default", "hunter2")), &[], None), real).await);
    passes(run(redis(Some(login("ann", "s3cret")), &[], None), real).await);
    for wrong in [login("", "no"), login("ann", "hunter2"), login("mallory", "no")] {
        fails_saying(run(redis(Some(wrong), &[], None), real).await, "login", "WRONGPASS");
    }
    let info = redis(Some(login("ann", "s3cret")), &["INFO"], None);
    fails_saying(run(info, real).await, "protocol", "NOPERM");
}

#[tokio::test]
async fn redis_has_tls() {
    let server = redis_server(&["--requirepass", "hunter2"]);
    let with =
        |tls| Check::Redis(Redis { tls: Some(tls), login: Some(login("", "hunter2")), ..Redis::default() });
    passes(run(with(strict(NAME, &server.authority)), v4(server.tls)).await);
    passes(run(with(Tls::default()), v4(server.tls)).await);
    let elsewhere = with(strict("elsewhere.example", &server.authority));
    fails_saying(run(elsewhere, v4(server.tls)).await, "tls", "not for elsewhere.example");
}

#[tokio::test]
async fn what_is_no_pong_fails() {
    for text in ["+PANG\r\n", ":1\r\n", "$-1\r\n", "%1\r\n+a\r\n+b\r\n", "$3\r\nPONG\r\n"] {
        let outcome = run(redis(None, &[], None), says(text.as_bytes()).await).await;
        assert_eq!(outcome.result.unwrap_err().kind(), "protocol", "{text:?}");
    }
    let loading = says(b"-LOADING Redis is loading the dataset in memory\r\n").await;
    fails_saying(run(redis(None, &[], None), loading).await, "protocol", "LOADING");
    fails(run(redis(None, &[], None), says(b"$536870912\r\n").await).await, &Failure::TooLong);
}

#[tokio::test]
async fn a_password_is_never_shown() {
    for text in
        [&b"-ERR unknown command `AUTH`, with args beginning with: `hunter2`\r\n"[..], b"AUTH hunter2\r\n"]
    {
        let outcome = run(redis(Some(login("", "hunter2")), &[], None), says(text).await).await;
        fails_without(outcome, "hunter2");
    }
}
