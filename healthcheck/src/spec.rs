//! A probe as data. Two that are equal are one: it runs once, whoever wants to know.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::text::{Pattern, Secret};

/// One probe: whom it asks, what, and how long it waits for all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Whom.
    pub target: Target,
    /// What.
    pub check: Check,
    /// How long, from the first packet to the last.
    pub timeout: Duration,
}

/// Whom a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The real server and the port to ask.
    pub real: SocketAddr,
    /// What clients reach: external checks are told. Port 0: any.
    pub virtual_: SocketAddr,
    /// The socket mark of the probe's packets: what they meet on their way may tell them by it. 0: none.
    pub mark: u32,
    /// The address of ours that it comes from. None: the kernel chooses.
    pub source: Option<IpAddr>,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Always up.
    On,
    /// Always down.
    Off,
    /// Up while this file does not exist (a maintenance file).
    File(PathBuf),
    /// ICMP or ICMPv6 echo.
    Ping,
    /// A TCP connection, and what is said over it.
    Tcp(Tcp),
    /// A datagram.
    Udp(Udp),
    /// HTTP, HTTPS.
    Http(Box<Http>),
    /// gRPC's health protocol.
    Grpc(Grpc),
    /// A DNS question.
    Dns(Dns),
    /// A mail server's greeting.
    Smtp(Mail),
    /// A POP3 server's greeting, and login.
    Pop(Mail),
    /// An IMAP server's greeting, and login.
    Imap(Mail),
    /// Login, and a file's content.
    Ftp(Ftp),
    /// A news server's greeting (RFC 3977, 5.1).
    Nntp,
    /// A bind and a search of one entry.
    Ldap(Ldap),
    /// A login and a query.
    Mysql(Sql),
    /// A login and a query.
    Pgsql(Sql),
    /// An Access-Request (RFC 2865).
    Radius(Radius),
    /// OPTIONS (RFC 3261, 11).
    Sip(Sip),
    /// PING, or another command.
    Redis(Redis),
    /// A command's exit status.
    External(External),
}

/// How a connection is made safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Whether the certificate must be good: signed by an authority that is trusted, in date, and for `name`.
    pub verify: bool,
    /// The server's name, for SNI and the certificate. None: its address, and no SNI.
    pub name: Option<String>,
    /// Authorities that are trusted, instead of the system's: a PEM file.
    pub authorities: Option<PathBuf>,
    /// A certificate of ours and its key, as PEM files, for servers that ask.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// See [`Check::Tcp`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tcp {
    /// Sent first.
    pub send: Vec<u8>,
    /// What a line of the answer must match. None: no answer is waited for.
    pub receive: Option<Pattern>,
    /// TLS around all of it.
    pub tls: Option<Tls>,
}

/// See [`Check::Udp`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Udp {
    /// Sent.
    pub send: Vec<u8>,
    /// Whether there must be an answer; else it is enough that no ICMP error comes within the timeout.
    pub reply: bool,
    /// What the answer must match.
    pub receive: Option<Pattern>,
}

/// See [`Check::Http`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Http {
    /// HTTPS.
    pub tls: Option<Tls>,
    /// HTTP/2, with TLS by ALPN, without it by prior knowledge (RFC 9113, 3.3).
    pub http2: bool,
    /// The method.
    pub method: String,
    /// The request's path and query, beginning with `/`.
    pub path: String,
    /// The Host header. None: the real server's address.
    pub host: Option<String>,
    /// More headers.
    pub headers: Vec<(String, Secret)>,
    /// Statuses that are good, from and to.
    pub statuses: Vec<(u16, u16)>,
    /// What the body must match.
    pub receive: Option<Pattern>,
    /// How many redirects are followed, on the same real server. 0: a redirect is judged by `statuses` like any answer.
    pub redirects: u8,
    /// Where the answer has a weight for the real server.
    pub weight: Option<WeightFrom>,
}

/// Where an HTTP answer has a weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WeightFrom {
    /// In this header.
    Header(String),
    /// In the body: the first group of this expression, or the whole match.
    Body(Pattern),
}

/// See [`Check::Grpc`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grpc {
    /// TLS.
    pub tls: Option<Tls>,
    /// The service that is asked for; empty: the server as a whole.
    pub service: String,
}

/// See [`Check::Dns`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dns {
    /// The name.
    pub name: String,
    /// `A`, `AAAA`, `PTR`, `SOA`, …
    pub record: String,
    /// What one of the answer's records must match, as it is written in a zone file. None: any record will do.
    pub receive: Option<Pattern>,
    /// Over TCP.
    pub tcp: bool,
}

/// Who logs in. The password is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// TLS on a connection that began without, or from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// None.
    #[default]
    Plain,
    /// STARTTLS (STLS).
    Upgraded(Tls),
    /// From the first byte.
    Tls(Tls),
}

/// See [`Check::Smtp`], [`Check::Pop`], [`Check::Imap`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mail {
    /// TLS.
    pub security: Security,
    /// Who logs in (not with SMTP).
    pub login: Option<Login>,
    /// How we name ourselves (SMTP's EHLO).
    pub name: Option<String>,
}

/// See [`Check::Ftp`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ftp {
    /// Who logs in. None: anonymous.
    pub login: Option<Login>,
    /// The file that is fetched. None: logging in is enough.
    pub path: Option<String>,
    /// What its content must match.
    pub receive: Option<Pattern>,
}

/// See [`Check::Ldap`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ldap {
    /// LDAPS, or STARTTLS.
    pub security: Security,
    /// Who binds: a distinguished name. None: anonymous.
    pub login: Option<Login>,
    /// The one entry that is searched for. None: the bind is enough.
    pub base: Option<String>,
    /// What the entry's name must match.
    pub receive: Option<Pattern>,
}

/// See [`Check::Mysql`], [`Check::Pgsql`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sql {
    /// TLS.
    pub tls: Option<Tls>,
    /// Who logs in.
    pub login: Login,
    /// The database.
    pub database: Option<String>,
    /// What is asked; it must give at least one row. None: logging in is enough.
    pub query: Option<String>,
    /// What the first row's first column must match.
    pub receive: Option<Pattern>,
}

/// See [`Check::Radius`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Radius {
    /// Who logs in.
    pub login: Login,
    /// What client and server share.
    pub secret: Secret,
}

/// See [`Check::Sip`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sip {
    /// The user that is asked for.
    pub user: String,
    /// Over TCP.
    pub tcp: bool,
}

/// See [`Check::Redis`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    /// TLS.
    pub tls: Option<Tls>,
    /// Who logs in; an empty user: the default one.
    pub login: Option<Login>,
    /// The command and its arguments; empty: PING.
    pub command: Vec<String>,
    /// What the answer must match. None: any that is no error (to PING: PONG).
    pub receive: Option<Pattern>,
}

/// See [`Check::External`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct External {
    /// The program, an absolute path.
    pub command: PathBuf,
    /// Its first arguments; VIP, VIP port, real server and real server's port follow.
    pub arguments: Vec<String>,
    /// Whether exit statuses 2 to 255 are weights, plus 2 (keepalived's `misc_dynamic`).
    pub dynamic: bool,
}

impl Check {
    /// Its name, as the configuration has it.
    pub fn name(&self) -> &'static str {
        match self {
            Check::On => "on",
            Check::Off => "off",
            Check::File(_) => "file",
            Check::Ping => "ping",
            Check::Tcp(_) => "tcp",
            Check::Udp(_) => "udp",
            Check::Http(http) if http.tls.is_some() => "https",
            Check::Http(_) => "http",
            Check::Grpc(_) => "grpc",
            Check::Dns(_) => "dns",
            Check::Smtp(_) => "smtp",
            Check::Pop(_) => "pop",
            Check::Imap(_) => "imap",
            Check::Ftp(_) => "ftp",
            Check::Nntp => "nntp",
            Check::Ldap(_) => "ldap",
            Check::Mysql(_) => "mysql",
            Check::Pgsql(_) => "pgsql",
            Check::Radius(_) => "radius",
            Check::Sip(_) => "sip",
            Check::Redis(_) => "redis",
            Check::External(_) => "external",
        }
    }
}

impl Target {
    /// The real server's address.
    pub fn address(&self) -> IpAddr {
        self.real.ip()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.check.name(), self.target.real)
    }
}
