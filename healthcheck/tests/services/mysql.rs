//! MySQL: MariaDB, and a server that wants MySQL 8's way to log in.

use std::net::SocketAddr;

use healthcheck::spec::{Login, Sql, Tls};
use healthcheck::text::{Pattern, Secret};
use healthcheck::{Check, Failure, Success};
use mysql_common::auth::plugins::caching_sha2_password::scramble_sha256;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::daemon::{Certificates, Daemon, Place, accepts, port};
use crate::kit::{probe, server};
use crate::strange::fails_well;

async fn mariadb() -> (Daemon, SocketAddr, Tls) {
    let place = Place::new("mysql");
    let address = port();
    let tls = Certificates::new().write(&place);
    place.write(
        "users.sql",
        "CREATE DATABASE IF NOT EXISTS shop;
         CREATE USER IF NOT EXISTS tester@'127.0.0.1' IDENTIFIED BY 'secret';
         CREATE USER IF NOT EXISTS empty@'127.0.0.1' IDENTIFIED BY '';
         CREATE USER IF NOT EXISTS secure@'127.0.0.1' IDENTIFIED BY 'secret' REQUIRE SSL;
         GRANT SELECT ON shop.* TO tester@'127.0.0.1';",
    );
    place.run(
        "mariadb-install-db --no-defaults --datadir=DIR/data --auth-root-authentication-method=normal \
         --skip-test-db --innodb-flush-method=nosync",
    );
    let command = format!(
        "mariadbd --no-defaults --datadir=DIR/data --port={} --bind-address=127.0.0.1 --skip-name-resolve \
         --socket=DIR/socket --pid-file=DIR/pid --init-file=DIR/users.sql --ssl-ca=DIR/ca.pem \
         --ssl-cert=DIR/cert.pem --ssl-key=DIR/key.pem",
        address.port()
    );
    (place.start(&command, Signal::TERM, async || accepts(address).await).await, address, tls)
}

fn sql(query: &str, receive: Option<&str>, tls: Option<&Tls>) -> Sql {
    Sql {
        tls: tls.cloned(),
        login: login("tester", "secret"),
        database: None,
        query: Some(query.into()).filter(|query: &String| !query.is_empty()),
        receive: receive.map(|pattern| Pattern::new(pattern).unwrap()),
    }
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: Secret::new(password) }
}

fn check(query: &str, receive: Option<&str>, tls: Option<&Tls>) -> Check {
    Check::Mysql(sql(query, receive, tls))
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let (_mariadb, real, tls) = mariadb().await;
    let good = Ok(Success::default());
    for tls in [None, Some(&tls)] {
        let as_user = |user: Login| Check::Mysql(Sql { login: user, ..sql("", None, tls) });
        let in_database = |name: &str| {
            Check::Mysql(Sql { database: Some(name.into()), ..sql("select database()", Some("^shop$"), tls) })
        };
        assert_eq!(probe(check("", None, tls), real).await, good);
        assert_eq!(probe(check("select 40 + 2, 7", Some("^42$"), tls), real).await, good);
        assert_eq!(probe(check("select null", None, tls), real).await, good);
        assert_eq!(probe(in_database("shop"), real).await, good);
        assert_eq!(probe(as_user(login("empty", "")), real).await, good);
        // Far more than is read: the first row is enough.
        let numbers = "with recursive s(n) as (select 1 union all select n + 1 from s where n < 1000)";
        let many = check(&format!("{numbers} select repeat('x', 10000) from s"), Some("^x+$"), tls);
        assert_eq!(probe(many, real).await, good);

        let mismatch = Failure::Mismatch { what: "first column", pattern: "/^43$/".into() };
        assert_eq!(probe(check("select 42", Some("^43$"), tls), real).await, Err(mismatch));
        let no_row = Err(Failure::Protocol("the query gave no row".into()));
        assert_eq!(probe(check("select 1 from dual where false", None, tls), real).await, no_row);
        assert_eq!(probe(check("set @a = 1", None, tls), real).await, no_row);
        let endless = check("select repeat('x', 10000000)", Some("^x+$"), tls);
        assert_eq!(probe(endless, real).await, Err(Failure::TooLong));
        let refused = probe(check("select * from nowhere.at_all", None, tls), real).await;
        assert!(matches!(&refused, Err(Failure::Protocol(why)) if why.contains("denied")), "{refused:?}");
        for wrong in [login("tester", "wrong"), login("nobody", "secret"), login("tester", "")] {
            let refused = probe(as_user(wrong), real).await;
            assert!(
                matches!(&refused, Err(Failure::Login(why)) if why.starts_with("Access denied")),
                "{refused:?}"
            );
        }
        assert!(matches!(probe(in_database("nowhere"), real).await, Err(Failure::Protocol(_))));
        let secure = probe(as_user(login("secure", "secret")), real).await;
        assert_eq!(secure.is_ok(), tls.is_some(), "{secure:?}");
    }
    let stranger = Tls { name: Some("another.example.test".into()), ..tls };
    let result = probe(check("select 1", None, Some(&stranger)), real).await;
    assert!(matches!(result, Err(Failure::Tls(_))), "{result:?}");
}

#[tokio::test]
async fn the_server_is_not_left_without_a_word() {
    let (_mariadb, real, tls) = mariadb().await;
    let good = Ok(Success::default());
    for tls in [None, Some(&tls)] {
        let numbers = "with recursive s(n) as (select 1 union all select n + 1 from s where n < 60)";
        let large = format!("{numbers} select repeat('x', 10000) from s");
        for query in ["", "select 1", &large] {
            assert_eq!(probe(check(query, None, tls), real).await, good);
        }
        let other = probe(check("select 1 union select 2", Some("^3$"), tls), real).await;
        assert!(matches!(other, Err(Failure::Mismatch { .. })), "{other:?}");
    }
    let aborted = "select variable_value from information_schema.global_status \
                   where variable_name = 'aborted_clients'";
    assert_eq!(probe(check(aborted, Some("^0$"), None), real).await, good);
}

#[tokio::test]
async fn strange_servers_are_down() {
    fails_well(check("select 1", None, None)).await;
}

const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";

async fn send(stream: &mut TcpStream, number: u8, packet: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
    stream.write_all(&[&length[..3], &[number], packet].concat()).await
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32_le().await? & 0x00ff_ffff;
    let mut packet = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// MySQL 8's greeting: capabilities without SSL, and this way to log in.
fn greeting(plugin: &str) -> Vec<u8> {
    let capabilities = 0x0008_a201u32.to_le_bytes();
    let mut packet = b"\x0a8.0.36\0\x01\0\0\0".to_vec();
    packet.extend_from_slice(&NONCE[..8]);
    packet.extend_from_slice(&[
        0,
        capabilities[0],
        capabilities[1],
        45,
        2,
        0,
        capabilities[2],
        capabilities[3],
        21,
    ]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(&NONCE[8..]);
    packet.push(0);
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

const GOOD: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

#[tokio::test]
async fn caching_sha2_password_is_spoken() {
    let caching = server(async |mut stream| {
        send(&mut stream, 0, &greeting("caching_sha2_password")).await?;
        let response = receive(&mut stream).await?;
        let expected = scramble_sha256(NONCE, b"secret").unwrap();
        assert!(response.windows(32).any(|window| window == expected));
        // It has this user's password in its cache.
        send(&mut stream, 2, &[1, 3]).await?;
        send(&mut stream, 3, GOOD).await?;
        receive(&mut stream).await.map(|_| ())
    });
    assert_eq!(probe(check("", None, None), caching.await).await, Ok(Success::default()));
}

#[tokio::test]
async fn a_password_is_not_sent_in_clear() {
    for plugin in ["mysql_clear_password", "sha256_password", "mysql_old_password"] {
        let asking = server(move |mut stream| async move {
            send(&mut stream, 0, &greeting("mysql_native_password")).await?;
            receive(&mut stream).await?;
            send(&mut stream, 2, &[&[0xfe], plugin.as_bytes(), &[0], NONCE, &[0]].concat()).await?;
            receive(&mut stream).await.map(|_| ())
        });
        let why = format!("the server wants an unsupported login: {plugin}");
        assert_eq!(probe(check("", None, None), asking.await).await, Err(Failure::Protocol(why)));
    }
}

#[tokio::test]
async fn an_error_instead_of_a_greeting_is_told() {
    for packet in [&b"\xff\x10\x04Too many connections"[..], b"\xff\x10\x04#08004Too many connections"] {
        let full = server(move |mut stream| async move {
            send(&mut stream, 0, packet).await?;
            stream.read_to_end(&mut Vec::new()).await.map(|_| ())
        });
        let why = "Too many connections".to_owned();
        assert_eq!(probe(check("", None, None), full.await).await, Err(Failure::Protocol(why)));
    }
}

/// No greeting may make the probe panic, wherever it ends.
#[tokio::test]
async fn half_a_greeting_is_none() {
    let whole = greeting("caching_sha2_password");
    for length in 0..whole.len() {
        let part = whole[..length].to_vec();
        let halved = server(move |mut stream| {
            let part = part.clone();
            async move {
                send(&mut stream, 0, &part).await?;
                stream.shutdown().await?;
                stream.read_to_end(&mut Vec::new()).await.map(|_| ())
            }
        });
        let result = probe(check("", None, None), halved.await).await;
        assert!(matches!(result, Err(Failure::Protocol(_) | Failure::Closed)), "{length}: {result:?}");
    }
}
