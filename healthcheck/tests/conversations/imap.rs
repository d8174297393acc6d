//! IMAP: dovecot.

use healthcheck::spec::{Login, Mail, Security, Tls};
use healthcheck::{Check, Failure};

use crate::dovecot::{Dovecot, PASSWORD, USER, afar};
use crate::fake::{Fake, HANGS_UP};
use crate::real::{NAME, v4, v6};
use crate::{fails, fails_saying, fails_without, login, passes, run, strict};

fn imap(security: Security, login: Option<Login>) -> Check {
    Check::Imap(Mail { security, login, name: None })
}

#[tokio::test]
async fn dovecot_passes_with_and_without_login() {
    let dovecot = Dovecot::start(true);
    for real in [v4(dovecot.imap), v6(dovecot.imap)] {
        passes(run(imap(Security::Plain, None), real).await);
        let outcome = run(imap(Security::Plain, Some(login(USER, PASSWORD))), real).await;
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(steps, ["connected", "greeting OK", "logged in"]);
        passes(outcome);
    }
    for wrong in [login(USER, "wrong"), login("mallory", PASSWORD), login(USER, "")] {
        let outcome = run(imap(Security::Plain, Some(wrong)), v4(dovecot.imap)).await;
        fails_saying(outcome, "login", "AUTHENTICATIONFAILED");
    }
}

#[tokio::test]
async fn dovecot_passes_with_tls() {
    let dovecot = Dovecot::start(false);
    let (tls, alice) = (strict(NAME, &dovecot.authority), Some(login(USER, PASSWORD)));
    passes(run(imap(Security::Upgraded(tls.clone()), alice.clone()), v6(dovecot.imap)).await);
    passes(run(imap(Security::Tls(tls), alice.clone()), v4(dovecot.imaps)).await);
    let elsewhere = strict("elsewhere.example", &dovecot.authority);
    let outcome = run(imap(Security::Upgraded(elsewhere.clone()), alice.clone()), v4(dovecot.imap)).await;
    fails_saying(outcome, "tls", "not for elsewhere.example");
    let outcome = run(imap(Security::Tls(elsewhere), alice.clone()), v4(dovecot.imaps)).await;
    fails_saying(outcome, "tls", "not for elsewhere.example");
    // No password without TLS.
    fails_saying(run(imap(Security::Plain, alice), afar(dovecot.imap)).await, "login", "LOGINDISABLED");
}

#[tokio::test]
async fn refusals_fail() {
    let talks = Fake::talks("* BYE too busy\r\n", &[]).await;
    fails(run(imap(Security::Plain, None), talks.real).await, &Failure::Protocol("refused: too busy".into()));
    let talks = Fake::talks("* OK\r\n", &[("a STARTTLS", "* x\r\na BAD no\r\n")]).await;
    let outcome = run(imap(Security::Upgraded(Tls::default()), None), talks.real).await;
    fails(outcome, &Failure::Protocol("STARTTLS refused: no".into()));
    let talks = Fake::talks("* OK\r\n", &[("a STARTTLS", "a OK\r\n* OK slipped in\r\n")]).await;
    let outcome = run(imap(Security::Upgraded(Tls::default()), None), talks.real).await;
    fails_saying(outcome, "protocol", "before TLS");
    let talks = Fake::talks("* PREAUTH\r\n", &[]).await;
    let outcome = run(imap(Security::Upgraded(Tls::default()), None), talks.real).await;
    fails_saying(outcome, "protocol", "before TLS");
    let talks = Fake::talks("* OK\r\n", &[("b LOGIN", HANGS_UP)]).await;
    let outcome = run(imap(Security::Plain, Some(login("a", "b"))), talks.real).await;
    fails(outcome, &Failure::Closed);
}

#[tokio::test]
async fn no_password_goes_to_who_wants_none() {
    let talks = Fake::talks("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready\r\n", &[]).await;
    let outcome = run(imap(Security::Plain, Some(login("ann", "pass"))), talks.real).await;
    fails_saying(outcome, "login", "LOGINDISABLED");
    assert!(talks.heard().is_empty());
}

#[tokio::test]
async fn literals_and_untagged_answers_are_passed_over() {
    let talks = Fake::talks(
        "* OK {11}\r\nb NO no no\n and so on\r\n",
        &[
            ("b LOGIN", "* 1 EXISTS\r\n+ go on\r\n"),
            ("ann", "+\r\n"),
            ("pass", "* X {7}\r\nb NO x\n {2}\r\n\r\n\r\nb OK in\r\n"),
            ("z LOGOUT", HANGS_UP),
        ],
    )
    .await;
    passes(run(imap(Security::Plain, Some(login("ann", "pass"))), talks.real).await);
    assert_eq!(talks.heard(), ["b LOGIN {3}", "ann {4}", "pass", "z LOGOUT"]);
}

#[tokio::test]
async fn a_password_is_never_shown() {
    for answer in ["b NO what is hunter2?\r\n", "hunter2\r\n", "* BYE hunter2\r\n"] {
        let answers = vec![("b LOGIN", "+\r\n"), ("ann", "+\r\n"), ("hunter2", answer)].leak();
        let talks = Fake::talks("* OK\r\n", answers).await;
        let outcome = run(imap(Security::Plain, Some(login("ann", "hunter2"))), talks.real).await;
        fails_without(outcome, "hunter2");
    }
}
