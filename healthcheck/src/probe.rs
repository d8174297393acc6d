//! Runs one probe, once.

use crate::attempt::Attempt;
use crate::check;
use crate::outcome::{Failure, Outcome, Success};
use crate::spec::{Check, Probe};

/// Runs a probe. It ends when its time is up, at the latest, and leaves nothing open.
pub async fn run(probe: &Probe) -> Outcome {
    let mut attempt = Attempt::new(probe.target, probe.timeout);
    let result = match tokio::time::timeout(probe.timeout, ask(&probe.check, &mut attempt)).await {
        Ok(result) => result,
        Err(_) => Err(attempt.late()),
    };
    let (steps, took) = attempt.finish();
    Outcome { result, steps, took }
}

async fn ask(check: &Check, attempt: &mut Attempt) -> Result<Success, Failure> {
    match check {
        Check::On => Ok(Success::default()),
        Check::Off => Err(Failure::Maintenance("off".into())),
        Check::File(path) => check::file::probe(path).await,
        Check::Ping => check::ping::probe(attempt).await,
        Check::Tcp(tcp) => check::tcp::probe(tcp, attempt).await,
        Check::Udp(udp) => check::udp::probe(udp, attempt).await,
        Check::Http(http) => check::http::probe(http, attempt).await,
        Check::Grpc(grpc) => check::grpc::probe(grpc, attempt).await,
        Check::Dns(dns) => check::dns::probe(dns, attempt).await,
        Check::Smtp(mail) => check::smtp::probe(mail, attempt).await,
        Check::Pop(mail) => check::pop::probe(mail, attempt).await,
        Check::Imap(mail) => check::imap::probe(mail, attempt).await,
        Check::Ftp(ftp) => check::ftp::probe(ftp, attempt).await,
        Check::Nntp => check::nntp::probe(attempt).await,
        Check::Ldap(ldap) => check::ldap::probe(ldap, attempt).await,
        Check::Mysql(sql) => check::mysql::probe(sql, attempt).await,
        Check::Pgsql(sql) => check::pgsql::probe(sql, attempt).await,
        Check::Radius(radius) => check::radius::probe(radius, attempt).await,
        Check::Sip(sip) => check::sip::probe(sip, attempt).await,
        Check::Redis(redis) => check::redis::probe(redis, attempt).await,
        Check::External(external) => check::external::probe(external, attempt).await,
    }
}
