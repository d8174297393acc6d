//! `check`: what is asked of a real server, and how often.

use std::time::Duration;

use healthcheck::Check;
use healthcheck::spec::{
    Dns, External, Ftp, Grpc, Http, Ldap, Login, Mail, Radius, Redis, Security, Sip, Sql, Tcp, Tls, Udp,
    WeightFrom,
};
use healthcheck::text::Secret;

use crate::model::{Assume, Via};

use super::check_values::{
    command, header_name, header_value, method, path, pattern, readable, record, request, secret, statuses,
    string, without_port,
};
use super::reader::{Complaint, Fields, Given, Reader};
use super::taker::Taker;
use super::tree::{Kind, Place, Tree};
use super::values;

/// Keys of every check.
const COMMON: [&str; 9] =
    ["type", "interval", "fast_interval", "timeout", "rise", "fall", "assume", "via", "port"];
const TLS: [&str; 5] = ["verify", "sni", "ca_file", "cert_file", "key_file"];
const ASSUME: [(&str, Assume); 2] = [("up", Assume::Up), ("down", Assume::Down)];
const VIA: [(&str, Via); 2] = [("vip", Via::Vip), ("real", Via::Real)];

/// The types of checks, and the keys that each has besides the common ones.
const TYPES: [(&str, &[&str]); 23] = [
    ("on", &[]),
    ("off", &[]),
    ("file", &["path"]),
    ("ping", &[]),
    ("tcp", &["send", "receive", "tls"]),
    ("udp", &["send", "reply", "receive"]),
    ("http", HTTP),
    ("https", HTTP),
    ("grpc", &["service", "tls"]),
    ("dns", &["request", "record", "receive", "tcp"]),
    ("smtp", &["security", "name"]),
    ("pop", &["security", "user", "password_file"]),
    ("imap", &["security", "user", "password_file"]),
    ("ftp", &["user", "password_file", "request", "receive"]),
    ("nntp", &[]),
    ("ldap", LDAP),
    ("ldaps", LDAP),
    ("mysql", SQL),
    ("pgsql", SQL),
    ("radius", &["user", "password_file", "secret_file"]),
    ("sip", &["user", "tcp"]),
    ("redis", &["user", "password_file", "request", "receive", "tls"]),
    ("external", &["command", "arguments", "dynamic"]),
];
const HTTP: &[&str] = &[
    "request",
    "receive",
    "virtualhost",
    "method",
    "headers",
    "header_files",
    "status",
    "redirects",
    "http2",
    "weight",
];
const LDAP: &[&str] = &["security", "user", "password_file", "request", "receive"];
const SQL: &[&str] = &["user", "password_file", "database", "request", "receive", "tls"];

/// A check as it was written. What it leaves out comes from `defaults`.
#[derive(Debug)]
pub(super) struct CheckDraft {
    pub(super) place: Place,
    pub(super) check: Given<Check>,
    pub(super) interval: Given<Duration>,
    pub(super) fast_interval: Given<Duration>,
    pub(super) timeout: Given<Duration>,
    pub(super) rise: Given<u32>,
    pub(super) fall: Given<u32>,
    pub(super) assume: Given<Assume>,
    pub(super) via: Given<Via>,
    pub(super) port: Given<u16>,
}

/// `check`: a mapping, or a list of them.
pub(super) fn checks(reader: &mut Reader, tree: &Tree) -> Option<Vec<CheckDraft>> {
    match &tree.kind {
        Kind::List(items) => Some(items.iter().filter_map(|item| check(reader, item)).collect()),
        _ => Some(vec![check(reader, tree)?]),
    }
}

fn check(reader: &mut Reader, tree: &Tree) -> Option<CheckDraft> {
    let Kind::Map(entries) = &tree.kind else {
        // Complains for us.
        return reader.fields(tree, "check", &COMMON).and(None);
    };
    let words: Vec<(&'static str, &'static str)> = TYPES.iter().map(|(name, _)| (*name, *name)).collect();
    let written = entries.iter().find(|entry| entry.key == "type");
    let kind = match written {
        Some(entry) => Some(reader.take(entry.value.place, values::word(&entry.value, "type", &words, &[]))?),
        None => None,
    };
    let own = TYPES.iter().find(|(name, _)| Some(*name) == kind).map_or(&[][..], |(_, keys)| keys);
    let mut known = COMMON.to_vec();
    known.extend(own);
    if own.iter().any(|key| ["tls", "security"].contains(key)) || matches!(kind, Some("https")) {
        known.extend(TLS);
    }
    let fields = reader.fields(tree, "check", &known)?;
    let second = Duration::from_secs(1);
    let duration = |least: Duration| {
        move |tree: &Tree, label: &str| values::duration(tree, label, least..=3600 * second)
    };
    let count = |tree: &Tree, label: &str| values::whole::<u32>(tree, label, 1..=1000);
    Some(CheckDraft {
        place: fields.place,
        check: match kind {
            None => Given::Absent,
            Some(kind) => match specific(reader, &fields, kind) {
                Some(value) => Given::Right { place: fields.place, value },
                None => Given::Wrong,
            },
        },
        interval: fields.value(reader, "interval", duration(second / 20)),
        fast_interval: fields.value(reader, "fast_interval", duration(second / 20)),
        timeout: fields.value(reader, "timeout", duration(second / 100)),
        rise: fields.value(reader, "rise", count),
        fall: fields.value(reader, "fall", count),
        assume: fields.value(reader, "assume", |tree, label| values::word(tree, label, &ASSUME, &[])),
        via: fields.value(reader, "via", |tree, label| values::word(tree, label, &VIA, &[])),
        port: fields.value(reader, "port", |tree, label| values::whole(tree, label, 1..=65535)),
    })
}

/// The part of a check that belongs to its type.
fn specific(reader: &mut Reader, fields: &Fields, kind: &str) -> Option<Check> {
    let mut take = Taker::new(reader, fields, "this check");
    let check = match kind {
        "on" => Check::On,
        "off" => Check::Off,
        "file" => Check::File(take.needed("path", path, "/etc/director/maintenance").unwrap_or_default()),
        "ping" => Check::Ping,
        "tcp" => {
            let (send, receive) = (take.bytes("send"), take.optional("receive", pattern));
            Check::Tcp(Tcp { send, receive, tls: take.tls_if("tls", None) })
        }
        "udp" => {
            let (send, receive) = (take.bytes("send"), take.optional("receive", pattern));
            let reply = take.or("reply", values::flag, receive.is_some());
            Check::Udp(Udp { send, reply, receive })
        }
        "http" | "https" => Check::Http(Box::new(http(&mut take, kind == "https"))),
        "grpc" => Check::Grpc(Grpc {
            service: take.or("service", string, String::new()),
            tls: take.tls_if("tls", None),
        }),
        "dns" => Check::Dns(Dns {
            name: take.needed("request", string, "www.example.org").unwrap_or_default(),
            record: take.or("record", record, "A".into()),
            receive: take.optional("receive", pattern),
            tcp: take.or("tcp", values::flag, false),
        }),
        "smtp" => {
            Check::Smtp(Mail { security: take.security(), login: None, name: take.optional("name", string) })
        }
        "pop" => Check::Pop(Mail { security: take.security(), login: take.login(), name: None }),
        "imap" => Check::Imap(Mail { security: take.security(), login: take.login(), name: None }),
        "ftp" => Check::Ftp(Ftp {
            login: take.login(),
            path: take.optional("request", string),
            receive: take.optional("receive", pattern),
        }),
        "nntp" => Check::Nntp,
        "ldap" | "ldaps" => Check::Ldap(ldap(&mut take, kind == "ldaps")),
        "mysql" => Check::Mysql(sql(&mut take)?),
        "pgsql" => Check::Pgsql(sql(&mut take)?),
        "radius" => Check::Radius(Radius {
            login: take.login_needed()?,
            secret: take.needed("secret_file", secret, "/etc/director/radius.secret").unwrap_or_default(),
        }),
        "sip" => Check::Sip(Sip {
            user: take.or("user", string, "director".into()),
            tcp: take.or("tcp", values::flag, false),
        }),
        "redis" => Check::Redis(Redis {
            tls: take.tls_if("tls", None),
            login: take.login(),
            command: take
                .or("request", string, String::new())
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            receive: take.optional("receive", pattern),
        }),
        _ => Check::External(External {
            command: take.needed("command", command, "/usr/local/bin/check").unwrap_or_default(),
            arguments: take.strings("arguments"),
            dynamic: take.or("dynamic", values::flag, false),
        }),
    };
    take.whole.then_some(check)
}

fn http(take: &mut Taker, secure: bool) -> Http {
    let host = take.optional("virtualhost", header_value);
    let mut headers: Vec<(String, Secret)> = Vec::new();
    headers.extend(take.map("headers", |tree, label| header_value(tree, label).map(Secret::new)));
    headers.extend(take.map("header_files", secret));
    let statuses = take.list("status", statuses);
    let request = take.or("request", request, "/".into());
    Http {
        tls: secure.then(|| take.tls(host.as_deref())),
        http2: take.or("http2", values::flag, false),
        method: take.or("method", method, "GET".into()),
        path: request,
        host,
        headers,
        statuses: if statuses.is_empty() { vec![(200, 299)] } else { statuses },
        receive: take.optional("receive", pattern),
        redirects: take.or("redirects", |tree, label| values::whole(tree, label, 0..=10), 0),
        weight: take.weight(),
    }
}

fn ldap(take: &mut Taker, secure: bool) -> Ldap {
    let security = take.security();
    let security = match security {
        Security::Plain if secure => Security::Tls(take.tls(None)),
        other => other,
    };
    Ldap {
        security,
        login: take.login(),
        base: take.optional("request", string),
        receive: take.optional("receive", pattern),
    }
}

fn sql(take: &mut Taker) -> Option<Sql> {
    Some(Sql {
        tls: take.tls_if("tls", None),
        login: take.login_needed()?,
        database: take.optional("database", string),
        query: take.optional("request", string),
        receive: take.optional("receive", pattern),
    })
}

type Make<T> = fn(&Tree, &str) -> Result<T, Complaint>;

/// What checks have besides.
impl Taker<'_, '_, '_> {
    fn bytes(&mut self, key: &str) -> Vec<u8> {
        self.or(key, string, String::new()).into_bytes()
    }

    fn list<T>(&mut self, key: &str, make: Make<T>) -> Vec<T> {
        let Some(tree) = self.fields.get(key) else { return Vec::new() };
        let single = std::slice::from_ref(tree);
        let items = if let Kind::List(items) = &tree.kind { items } else { single };
        let taken: Vec<T> =
            items.iter().filter_map(|item| self.reader.take(item.place, make(item, key))).collect();
        self.whole &= taken.len() == items.len();
        taken
    }

    fn strings(&mut self, key: &str) -> Vec<String> {
        self.list(key, string)
    }

    fn map<T>(&mut self, key: &str, make: Make<T>) -> Vec<(String, T)> {
        let Some(tree) = self.fields.get(key) else { return Vec::new() };
        let Kind::Map(entries) = &tree.kind else {
            self.reader.error(tree.place, Complaint::expected(key, "a mapping of names to values", tree));
            self.whole = false;
            return Vec::new();
        };
        let one = |entry: &super::tree::Entry| {
            let name = header_name(&entry.key).and_then(|()| make(&entry.value, &entry.key));
            Some((entry.key.clone(), self.reader.take(entry.value.place, name)?))
        };
        let taken: Vec<(String, T)> = entries.iter().filter_map(one).collect();
        self.whole &= taken.len() == entries.len();
        taken
    }

    /// TLS where `key` says so.
    fn tls_if(&mut self, key: &str, name: Option<&str>) -> Option<Tls> {
        if self.or(key, values::flag, false) {
            return Some(self.tls(name));
        }
        for entry in TLS.iter().filter_map(|key| self.fields.entry(key)) {
            let complaint =
                Complaint::new(format!("`{}` is for TLS, which this check does not use", entry.key));
            self.reader.error(entry.place, complaint.hint(format!("write {key}: true, or remove it")));
            self.whole = false;
        }
        None
    }

    fn tls(&mut self, name: Option<&str>) -> Tls {
        let (certificate, key) = (self.optional("cert_file", readable), self.optional("key_file", readable));
        if certificate.is_some() != key.is_some() {
            let complaint = Complaint::new("`cert_file` and `key_file` go together");
            self.reader.error(self.fields.place, complaint.hint("write both, as PEM files"));
            self.whole = false;
        }
        Tls {
            verify: self.or("verify", values::flag, true),
            name: self.optional("sni", string).or_else(|| name.map(without_port)),
            authorities: self.optional("ca_file", readable),
            certificate: certificate.zip(key),
        }
    }

    fn security(&mut self) -> Security {
        #[derive(Clone, Copy, PartialEq)]
        enum How {
            Plain,
            Upgraded,
            Tls,
        }
        let words = [("plain", How::Plain), ("starttls", How::Upgraded), ("tls", How::Tls)];
        let given =
            self.fields.value(self.reader, "security", |tree, label| values::word(tree, label, &words, &[]));
        self.whole &= given != Given::Wrong;
        match given.right() {
            Some(How::Upgraded) => Security::Upgraded(self.tls(None)),
            Some(How::Tls) => Security::Tls(self.tls(None)),
            _ => Security::Plain,
        }
    }

    fn login(&mut self) -> Option<Login> {
        let (user, password) = (self.optional("user", string), self.optional("password_file", secret));
        if user.is_none() && password.is_none() {
            return None;
        }
        let nothing = Secret::new("");
        Some(Login { user: user.unwrap_or_default(), password: password.unwrap_or(nothing) })
    }

    fn login_needed(&mut self) -> Option<Login> {
        let login = self.login();
        if login.is_none() {
            let complaint = Complaint::new("this check needs `user`");
            let hint = "write user: director, and password_file: /etc/director/password";
            self.reader.error(self.fields.place, complaint.hint(hint));
        }
        login
    }

    fn weight(&mut self) -> Option<WeightFrom> {
        let tree = self.fields.get("weight")?;
        let fields = self.reader.fields(tree, "weight", &["header", "body"])?;
        let header = fields.value(self.reader, "header", string);
        let body = fields.value(self.reader, "body", pattern);
        let weight = match (header.right(), body.right()) {
            (Some(name), None) => Some(WeightFrom::Header(name.clone())),
            (None, Some(pattern)) => Some(WeightFrom::Body(pattern.clone())),
            _ => None,
        };
        if weight.is_none() {
            let complaint = Complaint::new("`weight` needs `header` or `body`, and only one of them");
            self.reader.error(tree.place, complaint.hint("write weight: { header: X-Weight }"));
            self.whole = false;
        }
        weight
    }
}
