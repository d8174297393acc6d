//! SMTP: exim. It lets nobody but root start its daemon: for plain users, its tests only say so.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use healthcheck::spec::{Mail, Security, Tls};
use healthcheck::{Check, Failure};

use crate::fake::{Fake, HANGS_UP};
use crate::real::{NAME, Place, Server, is_root, port, v4, v6};
use crate::{PATIENCE, fails, fails_saying, passes, pattern, run, strict};

/// Exim, with STARTTLS on one port and TLS on another.
struct Exim {
    plain: u16,
    tls: u16,
    authority: PathBuf,
    server: Server,
}

fn exim() -> Option<Exim> {
    if !is_root() {
        eprintln!("exim's daemon needs root: not tested");
        return None;
    }
    let place = Place::new();
    let (plain, tls) = (port(), port());
    let spool = place.directory("spool", 0o777);
    let config = format!(
        "primary_hostname = mx.example\n\
         spool_directory = {spool}\n\
         log_file_path = {spool}/%slog\n\
         log_selector = +smtp_connection +lost_incoming_connection +smtp_syntax_error\n\
         local_interfaces = <; 127.0.0.1 ; ::1\n\
         daemon_smtp_ports = {plain} : {tls}\n\
         tls_on_connect_ports = {tls}\n\
         tls_advertise_hosts = *\n\
         tls_certificate = {}\n\
         tls_privatekey = {}\n\
         acl_smtp_rcpt = deny\n\
         host_lookup =\n\
         rfc1413_query_timeout = 0s\n\
         keep_environment =\n",
        place.text("certificate.pem"),
        place.text("key.pem"),
    );
    let authority = place.authority();
    let config = place.write("exim.conf", &config);
    let arguments = ["-C", config.to_str().unwrap(), "-bdf"];
    let server = place.start("exim4", &arguments, &[v4(plain), v6(plain), v4(tls)]);
    Some(Exim { plain, tls, authority, server })
}

fn smtp(security: Security) -> Check {
    Check::Smtp(Mail { security, ..Mail::default() })
}

#[tokio::test]
async fn exim_passes_without_tls() {
    let Some(exim) = exim() else { return };
    for real in [v4(exim.plain), v6(exim.plain)] {
        let outcome = run(smtp(Security::Plain), real).await;
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(steps, ["connected", "greeting 220", "EHLO 250"]);
        passes(outcome);
    }
}

#[tokio::test]
async fn exim_passes_with_starttls_and_tls() {
    let Some(exim) = exim() else { return };
    let tls = strict(NAME, &exim.authority);
    for real in [v4(exim.plain), v6(exim.plain)] {
        let outcome = run(smtp(Security::Upgraded(tls.clone())), real).await;
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
        let expected =
            ["connected", "greeting 220", "EHLO 250", "STARTTLS 220", "TLS established", "EHLO 250"];
        assert_eq!(steps, expected);
        passes(outcome);
    }
    passes(run(smtp(Security::Tls(tls)), v4(exim.tls)).await);
    // Any certificate, where none is asked for.
    passes(run(smtp(Security::Upgraded(Tls::default())), v4(exim.plain)).await);
}

#[tokio::test]
async fn a_certificate_that_is_not_good_fails() {
    let Some(exim) = exim() else { return };
    for (security, port) in [
        (Security::Upgraded as fn(Tls) -> Security, exim.plain),
        (Security::Tls as fn(Tls) -> Security, exim.tls),
    ] {
        let elsewhere = strict("elsewhere.example", &exim.authority);
        fails_saying(run(smtp(security(elsewhere)), v4(port)).await, "tls", "not for elsewhere.example");
        let stranger = Place::new();
        let distrust = strict(NAME, &stranger.authority());
        fails_saying(run(smtp(security(distrust)), v4(port)).await, "tls", "signed by nobody trusted");
    }
}

#[tokio::test]
async fn exim_sees_a_polite_client() {
    let Some(exim) = exim() else { return };
    passes(run(smtp(Security::Plain), v4(exim.plain)).await);
    passes(run(smtp(Security::Upgraded(Tls::default())), v4(exim.plain)).await);
    // It writes its log while we go on.
    let until = Instant::now() + PATIENCE;
    let mut log = String::new();
    while log.matches("closed by QUIT").count() < 2 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log = std::fs::read_to_string(exim.server.path("spool/mainlog")).unwrap();
    }
    assert_eq!(log.matches("closed by QUIT").count(), 2, "{log}");
    // Those in parentheses said EHLO.
    assert!(!pattern(r"\(\[127.0.0.1\]\).* lost|error|unexpected").matches(log.as_bytes()), "{log}");
}

#[tokio::test]
async fn a_name_is_said() {
    let talks = Fake::talks("220 mx\r\n", &[("EHLO", "250 mx\r\n"), ("QUIT", HANGS_UP)]).await;
    let mail = Mail { name: Some("director.example".into()), ..Mail::default() };
    passes(run(Check::Smtp(mail), talks.real).await);
    passes(run(smtp(Security::Plain), talks.real).await);
    assert_eq!(talks.heard(), ["EHLO director.example", "QUIT", "EHLO [127.0.0.1]", "QUIT"]);
    let mail = Mail { name: Some("a\r\nRSET".into()), ..Mail::default() };
    fails_saying(run(Check::Smtp(mail), talks.real).await, "local", "line break");
    assert_eq!(talks.heard().len(), 4);
}

#[tokio::test]
async fn servers_that_know_no_extensions_pass() {
    let talks =
        Fake::talks("220 mx\r\n", &[("EHLO", "502 what?\r\n"), ("HELO", "250 mx\r\n"), ("QUIT", HANGS_UP)])
            .await;
    passes(run(smtp(Security::Plain), talks.real).await);
    fails_saying(run(smtp(Security::Upgraded(Tls::default())), talks.real).await, "protocol", "STARTTLS");
}

#[tokio::test]
async fn refusals_fail_with_their_status() {
    let talks = Fake::talks("554-No\r\n554 service\r\n", &[]).await;
    fails(run(smtp(Security::Plain), talks.real).await, &Failure::Status(554));
    let talks = Fake::talks("220 mx\r\n", &[("EHLO", "421 later\r\n")]).await;
    fails(run(smtp(Security::Plain), talks.real).await, &Failure::Status(421));
    let talks = Fake::talks("220 mx\r\n", &[("EHLO", "500 ?\r\n"), ("HELO", "550 no\r\n")]).await;
    fails(run(smtp(Security::Plain), talks.real).await, &Failure::Status(550));
    let talks =
        Fake::talks("220 mx\r\n", &[("EHLO", "250-mx\r\n250 STARTTLS\r\n"), ("STARTTLS", "454 no\r\n")])
            .await;
    fails(run(smtp(Security::Upgraded(Tls::default())), talks.real).await, &Failure::Status(454));
}

#[tokio::test]
async fn what_is_slipped_in_ahead_of_tls_fails() {
    let talks = Fake::talks(
        "220 mx\r\n",
        &[("EHLO", "250-mx\r\n250 STARTTLS\r\n"), ("STARTTLS", "220 go\r\n250 slipped in\r\n")],
    )
    .await;
    fails_saying(run(smtp(Security::Upgraded(Tls::default())), talks.real).await, "protocol", "before TLS");
}

#[tokio::test]
async fn hanging_up_midway_fails() {
    let talks = Fake::talks("220 mx\r\n", &[("EHLO", HANGS_UP)]).await;
    fails(run(smtp(Security::Plain), talks.real).await, &Failure::Closed);
}
