//! POP3: dovecot.

use healthcheck::spec::{Login, Mail, Security, Tls};
use healthcheck::{Check, Failure};

use crate::dovecot::{Dovecot, PASSWORD, USER, afar};
use crate::fake::{Fake, HANGS_UP};
use crate::real::{NAME, v4, v6};
use crate::{fails, fails_saying, fails_without, login, passes, run, strict};

fn pop(security: Security, login: Option<Login>) -> Check {
    Check::Pop(Mail { security, login, name: None })
}

#[tokio::test]
async fn dovecot_passes_with_and_without_login() {
    let dovecot = Dovecot::start(true);
    for real in [v4(dovecot.pop), v6(dovecot.pop)] {
        passes(run(pop(Security::Plain, None), real).await);
        let outcome = run(pop(Security::Plain, Some(login(USER, PASSWORD))), real).await;
        let steps: Vec<&str> = outcome.steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(steps, ["connected", "greeting +OK", "logged in"]);
        passes(outcome);
    }
    for wrong in [login(USER, "wrong"), login("mallory", PASSWORD)] {
        fails_saying(run(pop(Security::Plain, Some(wrong)), v4(dovecot.pop)).await, "login", "AUTH");
    }
}

#[tokio::test]
async fn dovecot_passes_with_tls() {
    let dovecot = Dovecot::start(false);
    let (tls, alice) = (strict(NAME, &dovecot.authority), Some(login(USER, PASSWORD)));
    passes(run(pop(Security::Upgraded(tls.clone()), alice.clone()), v6(dovecot.pop)).await);
    passes(run(pop(Security::Tls(tls), alice.clone()), v4(dovecot.pops)).await);
    let elsewhere = strict("elsewhere.example", &dovecot.authority);
    let outcome = run(pop(Security::Upgraded(elsewhere.clone()), alice.clone()), v4(dovecot.pop)).await;
    fails_saying(outcome, "tls", "not for elsewhere.example");
    let outcome = run(pop(Security::Tls(elsewhere), alice.clone()), v4(dovecot.pops)).await;
    fails_saying(outcome, "tls", "not for elsewhere.example");
    // No password without TLS.
    fails_saying(run(pop(Security::Plain, alice), afar(dovecot.pop)).await, "login", "");
}

#[tokio::test]
async fn refusals_fail() {
    let talks = Fake::talks("-ERR too busy\r\n", &[]).await;
    let refused = Failure::Protocol("refused: too busy".into());
    fails(run(pop(Security::Plain, None), talks.real).await, &refused);
    let talks = Fake::talks("+OK\r\n", &[("STLS", "-ERR no\r\n")]).await;
    let outcome = run(pop(Security::Upgraded(Tls::default()), None), talks.real).await;
    fails(outcome, &Failure::Protocol("refused: no".into()));
    let talks = Fake::talks("+OK\r\n", &[("STLS", "+OK\r\n+OK slipped in\r\n")]).await;
    let outcome = run(pop(Security::Upgraded(Tls::default()), None), talks.real).await;
    fails_saying(outcome, "protocol", "before TLS");
    let talks = Fake::talks("+OK\r\n", &[("USER", "+OK\r\n"), ("PASS", HANGS_UP)]).await;
    let outcome = run(pop(Security::Plain, Some(login("a", "b"))), talks.real).await;
    fails(outcome, &Failure::Closed);
}

#[tokio::test]
async fn a_password_is_never_shown_and_is_one_line() {
    for answer in [
        &[("USER", "+OK\r\n"), ("PASS", "-ERR what is PASS hunter2?\r\n")],
        &[("USER", "+OK\r\n"), ("PASS", "PASS hunter2\r\n")],
    ] {
        let talks = Fake::talks("+OK\r\n", answer).await;
        let outcome = run(pop(Security::Plain, Some(login("a", "hunter2"))), talks.real).await;
        fails_without(outcome, "hunter2");
    }
    let talks = Fake::talks("+OK\r\n", &[("", "+OK\r\n")]).await;
    let outcome = run(pop(Security::Plain, Some(login("a", "b\r\nDELE 1"))), talks.real).await;
    fails_saying(outcome, "local", "line break");
    assert_eq!(talks.heard(), ["USER a"]);
}
