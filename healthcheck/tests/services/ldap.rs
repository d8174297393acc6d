//! LDAP: slapd.

use std::net::SocketAddr;

use healthcheck::spec::{Ldap, Login, Security, Tls};
use healthcheck::text::{Pattern, Secret};
use healthcheck::{Check, Failure, Success};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::daemon::{Certificates, Daemon, Place, accepts, port};
use crate::kit::{probe, server};
use crate::strange::fails_well;

const CONFIG: &str = "
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile DIR/pid
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/cert.pem
TLSCertificateKeyFile DIR/key.pem
database mdb
maxsize 10485760
suffix dc=example,dc=test
rootdn cn=admin,dc=example,dc=test
rootpw secret
directory DIR/data
";

const ENTRIES: &str = "
dn: dc=example,dc=test
objectClass: organization
objectClass: dcObject
o: Example
dc: example

dn: ou=people,dc=example,dc=test
objectClass: organizationalUnit
ou: people
";

/// slapd, its address without TLS, the one with, and who to trust.
async fn slapd() -> (Daemon, SocketAddr, SocketAddr, Tls) {
    let place = Place::new("openldap");
    let (plain, secure) = (port(), port());
    let tls = Certificates::new().write(&place);
    place.write("slapd.conf", CONFIG);
    place.write("entries", ENTRIES);
    place.directory("data");
    place.run("slapadd -f DIR/slapd.conf -l DIR/entries");
    let command = format!("slapd -f DIR/slapd.conf -d 0 -h ldap://{plain}/+ldaps://{secure}/");
    let ready = async || accepts(plain).await && accepts(secure).await;
    (place.start(&command, Signal::TERM, ready).await, plain, secure, tls)
}

fn check(change: impl FnOnce(&mut Ldap)) -> Check {
    let mut ldap = Ldap::default();
    change(&mut ldap);
    Check::Ldap(ldap)
}

fn admin(password: &str) -> Option<Login> {
    Some(Login { user: "cn=admin,dc=example,dc=test".into(), password: Secret::new(password) })
}

fn people(ldap: &mut Ldap) {
    ldap.base = Some("ou=people,dc=example,dc=test".into());
}

#[tokio::test]
async fn a_real_server_is_asked() {
    let (_slapd, plain, secure, tls) = slapd().await;
    let good = Ok(Success::default());
    assert_eq!(probe(check(|_| {}), plain).await, good);
    assert_eq!(probe(check(people), plain).await, good);
    assert_eq!(probe(check(|ldap| ldap.login = admin("secret")), plain).await, good);
    let named = |pattern: &str| {
        check(|ldap| {
            people(ldap);
            ldap.receive = Some(Pattern::new(pattern).unwrap());
        })
    };
    assert_eq!(probe(named("^ou=people,"), plain).await, good);
    let mismatch = Failure::Mismatch { what: "name of the entry", pattern: "/^ou=groups/".into() };
    assert_eq!(probe(named("^ou=groups"), plain).await, Err(mismatch));

    let result = probe(check(|ldap| ldap.login = admin("wrong")), plain).await;
    assert_eq!(result, Err(Failure::Login("invalid credentials".into())));
    let result = probe(check(|ldap| ldap.login = admin("")), plain).await;
    assert!(matches!(result, Err(Failure::Local(_))), "{result:?}");
    let nowhere = check(|ldap| ldap.base = Some("ou=nowhere,dc=example,dc=test".into()));
    assert_eq!(probe(nowhere, plain).await, Err(Failure::Protocol("search: no such entry".into())));
    let no_name = check(|ldap| ldap.base = Some("nonsense".into()));
    assert!(probe(no_name, plain).await.unwrap_err().to_string().starts_with("search: invalid name"));

    let over = |security: Security| {
        check(|ldap| {
            people(ldap);
            ldap.login = admin("secret");
            ldap.security = security;
        })
    };
    assert_eq!(probe(over(Security::Tls(tls.clone())), secure).await, good);
    assert_eq!(probe(over(Security::Upgraded(tls.clone())), plain).await, good);
    let stranger = Place::new("openldap");
    let stranger = Certificates::new().write(&stranger);
    for (security, real) in [(Security::Tls(stranger.clone()), secure), (Security::Upgraded(stranger), plain)]
    {
        let result = probe(over(security), real).await;
        assert!(matches!(result, Err(Failure::Tls(_))), "{result:?}");
    }
    let unverified = Tls { verify: false, ..Tls::default() };
    assert_eq!(probe(over(Security::Tls(unverified)), secure).await, good);
}

#[tokio::test]
async fn strange_servers_are_down() {
    fails_well(check(|_| {})).await;
}

/// What was said before TLS is not believed after it.
#[tokio::test]
async fn starttls_with_something_after_it_is_refused() {
    let injecting = server(async |mut stream| {
        stream.read_u8().await?;
        // Two messages at once: success of request 1, and of request 1 once more.
        let success = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        stream.write_all(&success.repeat(2)).await?;
        stream.read_to_end(&mut Vec::new()).await.map(|_| ())
    });
    let check = check(|ldap| ldap.security = Security::Upgraded(Tls::default()));
    let result = probe(check, injecting.await).await;
    assert_eq!(result, Err(Failure::Protocol("the server went on without TLS".into())));
}

#[tokio::test]
async fn two_entries_are_not_one() {
    let doubling = server(async |mut stream| {
        stream.read_u8().await?;
        stream.write_all(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00").await?;
        stream.read_u8().await?;
        stream.write_all(&b"\x30\x0a\x02\x01\x02\x64\x05\x04\x01\x61\x30\x00".repeat(2)).await?;
        stream.read_to_end(&mut Vec::new()).await.map(|_| ())
    });
    let result = probe(check(people), doubling.await).await;
    assert_eq!(result, Err(Failure::Protocol("there is more than one entry".into())));
}
