//! Checks that lead a conversation, against real servers (Debian's exim4-daemon-light, dovecot-imapd, dovecot-pop3d, vsftpd,
//! redis-server, kamailio), which each test starts for itself, and against listeners that misbehave in a way of their own.
//!
//! No news server of Debian starts without a configuration of the whole host (inn2, leafnode): NNTP's greeting comes from a
//! listener here.

mod dovecot;
mod fake;
mod ftp;
mod imap;
mod misbehaviour;
mod nntp;
mod pop;
mod real;
mod redis;
mod sip;
mod smtp;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use healthcheck::spec::{Login, Target, Tls};
use healthcheck::text::{Pattern, Secret};
use healthcheck::{Check, Failure, Outcome, Probe, Success};

/// Long enough for any of these servers on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// For those that never answer.
const IMPATIENCE: Duration = Duration::from_millis(300);

async fn run(check: Check, real: SocketAddr) -> Outcome {
    run_within(check, real, PATIENCE).await
}

async fn run_within(check: Check, real: SocketAddr, timeout: Duration) -> Outcome {
    let target = Target { real, virtual_: "192.0.2.80:0".parse().unwrap(), mark: 0, source: None };
    healthcheck::probe::run(&Probe { target, check, timeout }).await
}

#[track_caller]
fn passes(outcome: Outcome) {
    assert_eq!(outcome.result, Ok(Success::default()), "after {:?}", outcome.steps);
}

/// It fails for that reason.
#[track_caller]
fn fails(outcome: Outcome, reason: &Failure) {
    assert_eq!(outcome.result.as_ref(), Err(reason), "after {:?}", outcome.steps);
}

/// It fails, and this is part of the reason.
#[track_caller]
fn fails_saying(outcome: Outcome, kind: &str, words: &str) {
    let Err(failure) = &outcome.result else { panic!("passed, after {:?}", outcome.steps) };
    assert_eq!(failure.kind(), kind, "{failure}, after {:?}", outcome.steps);
    assert!(failure.to_string().contains(words), "{failure}, after {:?}", outcome.steps);
}

/// It fails, and these words are nowhere.
#[track_caller]
fn fails_without(outcome: Outcome, words: &str) {
    let Err(failure) = &outcome.result else { panic!("passed, after {:?}", outcome.steps) };
    assert!(!format!("{outcome:?} {failure}").contains(words), "{failure}, after {:?}", outcome.steps);
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: Secret::new(password) }
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

/// TLS that wants to see a certificate for this name by this authority.
fn strict(name: &str, authority: &Path) -> Tls {
    Tls { verify: true, name: Some(name.into()), authorities: Some(authority.into()), certificate: None }
}
