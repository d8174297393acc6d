//! What came of a probe, in words that an operator understands.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

use tokio_rustls::rustls;

/// What came of one probe.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Good, or why not.
    pub result: Result<Success, Failure>,
    /// What happened on the way.
    pub steps: Vec<Step>,
    /// From the first step to the last.
    pub took: Duration,
}

/// A probe that the real server passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Success {
    /// The weight that the check gives the real server, where it says one.
    pub weight: Option<u16>,
}

/// One step of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What: "connected", "status 200".
    pub what: String,
    /// When, counted from the probe's start.
    pub at: Duration,
}

/// Why a real server did not pass. Its `Display` is a whole reason: "connection refused", "status 503".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A RST, or an ICMP port unreachable.
    Refused,
    /// No way there: "no route to host".
    Unreachable(String),
    /// Time is up. What was waited for, and how long all of it was allowed to take.
    Timeout {
        /// "an answer".
        awaiting: &'static str,
        /// The probe's timeout.
        after: Duration,
    },
    /// The connection ended before the answer did.
    Closed,
    /// A status (HTTP, FTP, SMTP, SIP) that is not good.
    Status(u16),
    /// The answer does not match.
    Mismatch {
        /// What of it: "body".
        what: &'static str,
        /// What it should have matched.
        pattern: String,
    },
    /// The certificate is not good, or TLS failed otherwise.
    Tls(String),
    /// The login was refused.
    Login(String),
    /// Something that is no answer in this protocol, or a refusal in it.
    Protocol(String),
    /// More than anybody needs to answer.
    TooLong,
    /// A command's exit status.
    Exit(i32),
    /// A command ended by a signal.
    Signal(i32),
    /// A maintenance file, or `off`.
    Maintenance(String),
    /// The probe could not be made: a fault on this side.
    Local(String),
}

impl Failure {
    /// A short name, for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Unreachable(_) => "unreachable",
            Failure::Timeout { .. } => "timeout",
            Failure::Closed => "closed",
            Failure::Status(_) => "status",
            Failure::Mismatch { .. } => "mismatch",
            Failure::Tls(_) => "tls",
            Failure::Login(_) => "login",
            Failure::Protocol(_) => "protocol",
            Failure::TooLong => "too_long",
            Failure::Exit(_) | Failure::Signal(_) => "exit",
            Failure::Maintenance(_) => "maintenance",
            Failure::Local(_) => "local",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::Unreachable(why) => f.write_str(why),
            Failure::Timeout { awaiting, after } => write!(f, "no {awaiting} in {after:?}"),
            Failure::Closed => f.write_str("closed the connection midway"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Mismatch { what, pattern } => write!(f, "{what} did not match {pattern}"),
            Failure::Tls(why) => write!(f, "TLS: {why}"),
            Failure::Login(why) => write!(f, "login refused: {why}"),
            Failure::Protocol(why) => f.write_str(why),
            Failure::TooLong => f.write_str("the answer has no end"),
            Failure::Exit(status) => write!(f, "exit status {status}"),
            Failure::Signal(signal) => write!(f, "ended by signal {signal}"),
            Failure::Maintenance(what) => write!(f, "in maintenance: {what}"),
            Failure::Local(why) => write!(f, "cannot check: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::from(&error)
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Failure {
        use io::ErrorKind::*;
        // A failure of ours that came up through a stream.
        if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
            return failure.clone();
        }
        // TLS hands its own errors up in those of the stream.
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Failure::Tls(crate::tls::words(error));
        }
        match error.kind() {
            ConnectionRefused => Failure::Refused,
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Failure::Closed,
            HostUnreachable => Failure::Unreachable("no route to host".into()),
            NetworkUnreachable => Failure::Unreachable("network unreachable".into()),
            _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(errno) if OUR_OWN.contains(&errno) => Failure::Local(error.to_string()),
                // An ICMP error, in general.
                Some(_) => Failure::Unreachable(error.to_string()),
                // A library that could make nothing of the answer.
                None => Failure::Protocol(error.to_string()),
            },
        }
    }
}

/// Errors of the system that say nothing of the other end.
const OUR_OWN: [Errno; 9] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::ADDRINUSE,
    Errno::ADDRNOTAVAIL,
    Errno::PERM,
    Errno::AFNOSUPPORT,
    Errno::INVAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_on_this_side_are_ours() {
        for (errno, kind) in [
            (Errno::MFILE, "local"),
            (Errno::ADDRNOTAVAIL, "local"),
            (Errno::CONNREFUSED, "refused"),
            (Errno::HOSTUNREACH, "unreachable"),
            (Errno::HOSTDOWN, "unreachable"),
            (Errno::TIMEDOUT, "unreachable"),
            // What an ICMPv6 "administratively prohibited" becomes.
            (Errno::ACCESS, "unreachable"),
            (Errno::CONNRESET, "closed"),
        ] {
            assert_eq!(Failure::from(io::Error::from(errno)).kind(), kind, "{errno}");
        }
        let garbage = io::Error::new(io::ErrorKind::InvalidData, "no such message");
        assert_eq!(Failure::from(garbage), Failure::Protocol("no such message".into()));
    }
}
