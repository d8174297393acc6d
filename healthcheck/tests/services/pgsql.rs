//! PostgreSQL.

use std::net::SocketAddr;
use std::path::PathBuf;

use healthcheck::spec::{Login, Sql, Tls};
use healthcheck::text::{Pattern, Secret};
use healthcheck::{Check, Failure, Success};
use rustix::process::Signal;

use crate::daemon::{Certificates, Daemon, Place, accepts, port};
use crate::kit::{closed_port, probe};
use crate::strange::fails_well;

/// Debian keeps each version's programs apart.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("package postgresql");
    versions.map(|version| version.unwrap().path().join("bin")).max().unwrap()
}

async fn postgres() -> (Daemon, SocketAddr, Tls) {
    let place = Place::new("postgres");
    let address = port();
    let tls = Certificates::new().write(&place);
    place.write("password", "secret");
    let programs = programs();
    let programs = programs.display();
    place.run(&format!(
        "{programs}/initdb -D DIR/data -U tester -A scram-sha-256 --pwfile DIR/password -N -E UTF8 --locale C"
    ));
    let command = format!(
        "{programs}/postgres -D DIR/data -p {} -k DIR -F -c listen_addresses=127.0.0.1 -c ssl=on \
         -c ssl_cert_file=DIR/cert.pem -c ssl_key_file=DIR/key.pem -c log_min_messages=debug1",
        address.port()
    );
    let ready =
        async || accepts(address).await && probe(check("select 1", None, None), address).await.is_ok();
    (place.start(&command, Signal::INT, ready).await, address, tls)
}

fn sql(query: &str, receive: Option<&str>, tls: Option<&Tls>) -> Sql {
    Sql {
        tls: tls.cloned(),
        login: Login { user: "tester".into(), password: Secret::new("secret") },
        database: Some("postgres".into()),
        query: Some(query.into()).filter(|query: &String| !query.is_empty()),
        receive: receive.map(|pattern| Pattern::new(pattern).unwrap()),
    }
}

fn check(query: &str, receive: Option<&str>, tls: Option<&Tls>) -> Check {
    Check::Pgsql(sql(query, receive, tls))
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let (_postgres, real, tls) = postgres().await;
    let good = Ok(Success::default());
    for tls in [None, Some(&tls)] {
        assert_eq!(probe(check("", None, tls), real).await, good);
        assert_eq!(probe(check("select 40 + 2, 7", Some("^42$"), tls), real).await, good);
        assert_eq!(probe(check("select null", None, tls), real).await, good);
        // Far more than is read: the first row is enough.
        let many = check("select repeat('x', 1000) from generate_series(1, 1000000)", Some("^x+$"), tls);
        assert_eq!(probe(many, real).await, good);

        let mismatch = Failure::Mismatch { what: "first column", pattern: "/^43$/".into() };
        assert_eq!(probe(check("select 42", Some("^43$"), tls), real).await, Err(mismatch));
        let no_row = Err(Failure::Protocol("the query gave no row".into()));
        assert_eq!(probe(check("select 1 where false", None, tls), real).await, no_row);
        let endless = check("select repeat('x', 10000000)", Some("^x+$"), tls);
        assert_eq!(probe(endless, real).await, Err(Failure::TooLong));
        let unknown = Err(Failure::Protocol("relation \"nowhere\" does not exist".into()));
        assert_eq!(probe(check("select * from nowhere", None, tls), real).await, unknown);
        let wrong = Login { user: "tester".into(), password: Secret::new("wrong") };
        let wrong = Check::Pgsql(Sql { login: wrong, ..sql("select 1", None, tls) });
        let why = "password authentication failed for user \"tester\"";
        assert_eq!(probe(wrong, real).await, Err(Failure::Login(why.into())));
        let nowhere = Check::Pgsql(Sql { database: Some("nowhere".into()), ..sql("select 1", None, tls) });
        let why = "database \"nowhere\" does not exist";
        assert_eq!(probe(nowhere, real).await, Err(Failure::Protocol(why.into())));
    }
    let stranger = Place::new("postgres");
    let stranger = Certificates::new().write(&stranger);
    let result = probe(check("select 1", None, Some(&stranger)), real).await;
    assert!(matches!(result, Err(Failure::Tls(_))), "{result:?}");
}

#[tokio::test]
async fn the_server_is_not_left_without_a_word() {
    let (postgres, real, _) = postgres().await;
    for query in ["", "select 1", "select generate_series(1, 10)"] {
        assert_eq!(probe(check(query, None, None), real).await, Ok(Success::default()));
    }
    let log = postgres.log();
    assert!(!log.contains("unexpected EOF") && !log.contains("reset by peer"), "{log}");
}

#[tokio::test]
async fn strange_servers_are_down() {
    fails_well(check("select 1", None, None)).await;
    let tls = Tls::default();
    assert_eq!(probe(check("", None, Some(&tls)), closed_port().await).await, Err(Failure::Refused));
}
