//! Health checks: the keys that all have, those of TLS, and those of each type.

use super::forms::{EXPRESSION, PATH, PEM, PORT, SECRET, TEXT};
use super::{CheckType, Form, Key, Rule, Section, key};

/// How often a check may run.
const INTERVAL: Form = Form::Duration("50ms", "1h");
const COUNT: Form = Form::Whole(1, 1000);

/// `type` has the names of [`TYPES`].
pub(super) static COMMON: Section = Section {
    path: "services.check",
    says: "What a check of any type has.",
    keys: &[
        key("type", Form::Word(&KINDS), "What is asked.", "tcp")
            .without("that of `defaults`; without one there, it is needed"),
        key("interval", INTERVAL, "From one probe's start to the next.", "5s").default("2s"),
        key(
            "fast_interval",
            INTERVAL,
            "The same while the verdict is changing; not above `interval`.",
            "200ms",
        )
        .without("`1s`, or `interval` if that is shorter"),
        key("timeout", Form::Duration("10ms", "1h"), "How long a probe may take in all.", "500ms")
            .default("1s"),
        key("rise", COUNT, "Successes in a row until a real server is up.", "3").default("2"),
        key("fall", COUNT, "Failures in a row until it is down.", "2").default("3"),
        key("assume", Form::Word(&["up", "down"]), "What it counts as before the first verdict.", "up")
            .default("down"),
        key(
            "via",
            Form::Word(&["vip", "real"]),
            "Whether a probe goes to the VIP at that real server, or to its own address.",
            "real",
        )
        .without("`vip` under `direct`, `real` under `nat`"),
        key("port", PORT, "Where to ask.", "8080")
            .without("the real server's port, else the service's first"),
    ],
    rules: &[],
};

pub(super) const TLS: &[Key] = &[
    key("verify", Form::Flag, "Whether the certificate must be valid.", "false").default("true"),
    key("sni", TEXT, "The name that is asked for, and that the certificate must have.", "www.example.org")
        .without("for `https` that of `virtualhost`, else none"),
    key("ca_file", PEM, "Who may have signed it.", "/etc/director/internal-ca.pem")
        .without("the system's authorities"),
    key(
        "cert_file",
        PEM,
        "The director's own certificate; it goes with `key_file`.",
        "/etc/director/secrets/director.pem",
    )
    .without("none"),
    key("key_file", PEM, "Its key.", "/etc/director/secrets/director.key").without("none"),
];

const USE_TLS: Key = key("tls", Form::Flag, "Whether to use TLS.", "true").default("false");
const SECURITY: Key = key(
    "security",
    Form::Word(&["plain", "starttls", "tls"]),
    "Whether to use TLS, and from when on.",
    "starttls",
);
const USER: Key = key("user", TEXT, "Who logs in.", "director");
const PASSWORD: Key = key("password_file", SECRET, "The password.", "/etc/director/secrets/password");
const RECEIVE: Key =
    key("receive", EXPRESSION, "What the answer must match.", "\"^OK\"").without("any answer");
const DATABASE: Key = key("database", TEXT, "The database.", "shop")
    .without("none; for PostgreSQL the one named like the user");

const HTTP: &[Key] = &[
    key("request", TEXT, "Path and query.", "/health?full=1").default("/"),
    RECEIVE,
    key("virtualhost", TEXT, "The host that is asked for.", "www.example.org")
        .without("the address that is asked"),
    key("method", Form::Text("a method in capitals", "^[A-Z]+$"), "The method.", "HEAD").default("GET"),
    key("headers", Form::Named("a header's name", &TEXT), "Further headers.", "{ X-Probe: director }")
        .without("none"),
    key(
        "header_files",
        Form::Named("a header's name", &SECRET),
        "Further headers whose values are secrets.",
        "{ Authorization: /etc/director/secrets/authorization }",
    )
    .without("none"),
    key("status", STATUS, "Statuses that pass.", "[200, 300-399]").default("200-299"),
    key("redirects", Form::Whole(0, 10), "How many redirections are followed.", "2").default("0"),
    key("http2", Form::Flag, "Whether to speak HTTP/2.", "true").default("false"),
    key(
        "weight",
        Form::Mapping(&WEIGHT),
        "Where in the answer the real server's weight is.",
        "{ header: X-Weight }",
    )
    .without("it has none"),
];
const ONE_STATUS: Form = Form::Either(&[
    Form::Whole(100, 599),
    Form::Text("a range as `200-299`", "^ *[1-5][0-9]{2} *(- *[1-5][0-9]{2} *)?$"),
]);
const STATUS: Form = Form::Either(&[ONE_STATUS, Form::List(&ONE_STATUS, 0, None)]);

static WEIGHT: Section = Section {
    path: "services.check.weight",
    says: "Where in an answer over HTTP the real server's weight is: one of the two.",
    keys: &[
        key("header", TEXT, "The header that has it.", "X-Weight"),
        key("body", EXPRESSION, "An expression whose first group is it.", "'\"weight\": *([0-9]+)'"),
    ],
    rules: &[Rule::AnyOf("header", "body"), Rule::NotBoth("header", "body")],
};

const LDAP: &[Key] = &[
    SECURITY.without("`plain`; for `ldaps` `tls`"),
    key("user", TEXT, "The distinguished name that binds; it goes with `password_file`.", "cn=director")
        .without("an anonymous bind"),
    PASSWORD.without("an anonymous bind"),
    key("request", TEXT, "An entry that must be there.", "ou=people").without("none: the bind is enough"),
    RECEIVE,
];
const SQL: &[Key] = &[
    USER.needed(),
    PASSWORD.without("an empty one"),
    DATABASE,
    key("request", TEXT, "A query that must give a row.", "SELECT 1").without("none: the login is enough"),
    RECEIVE,
    USE_TLS,
];
const MAILBOX: &[Key] =
    &[SECURITY.default("plain"), USER.without("nobody"), PASSWORD.without("an empty one")];

const fn kind(name: &'static str, says: &'static str, keys: &'static [Key], tls: bool) -> CheckType {
    CheckType { name, says, keys, tls }
}

pub(super) static TYPES: [CheckType; 23] = [
    kind("on", "Always up.", &[], false),
    kind("off", "Always down.", &[], false),
    kind(
        "file",
        "Down while a file is there.",
        &[key("path", PATH, "The file.", "/etc/director/maintenance").needed()],
        false,
    ),
    kind("ping", "An ICMP echo.", &[], false),
    kind(
        "tcp",
        "A TCP connection.",
        &[key("send", TEXT, "What is sent.", "\"PING\\n\"").without("nothing"), RECEIVE, USE_TLS],
        true,
    ),
    kind(
        "udp",
        "A datagram.",
        &[
            key("send", TEXT, "What is sent.", "hello").without("an empty datagram"),
            key("reply", Form::Flag, "Whether there must be an answer.", "true")
                .without("`true` with `receive`, else `false`"),
            RECEIVE,
        ],
        false,
    ),
    kind("http", "A request over HTTP.", HTTP, false),
    kind("https", "The same over TLS.", HTTP, true),
    kind(
        "grpc",
        "gRPC's health service.",
        &[
            key("service", TEXT, "The service that must be serving.", "shop.Orders")
                .without("the server as a whole"),
            USE_TLS,
        ],
        true,
    ),
    kind(
        "dns",
        "A DNS query.",
        &[
            key("request", TEXT, "The name.", "www.example.org").needed(),
            key("record", TEXT, "The type of records.", "AAAA").default("A"),
            RECEIVE,
            key("tcp", Form::Flag, "Whether to ask over TCP.", "true").default("false"),
        ],
        false,
    ),
    kind(
        "smtp",
        "A mail server's greeting.",
        &[
            SECURITY.default("plain"),
            key("name", TEXT, "How the director names itself.", "director.example.org")
                .without("its address in brackets"),
        ],
        true,
    ),
    kind("pop", "A POP3 server's greeting, and a login where there is a `user`.", MAILBOX, true),
    kind("imap", "An IMAP server's greeting, and a login where there is a `user`.", MAILBOX, true),
    kind(
        "ftp",
        "A login, and a file.",
        &[
            USER.without("`anonymous`"),
            PASSWORD.without("`director@`"),
            key("request", TEXT, "The file that is fetched.", "pub/health.txt")
                .without("none: the login is enough"),
            RECEIVE,
        ],
        false,
    ),
    kind("nntp", "A news server's greeting.", &[], false),
    kind("ldap", "A bind.", LDAP, true),
    kind("ldaps", "The same over TLS.", LDAP, true),
    kind("mysql", "A login to MySQL or MariaDB, and a query.", SQL, true),
    kind("pgsql", "A login to PostgreSQL, and a query.", SQL, true),
    kind(
        "radius",
        "An Access-Request.",
        &[
            USER.needed(),
            PASSWORD.without("an empty one"),
            key("secret_file", SECRET, "The secret shared with the server.", "/etc/director/secrets/radius")
                .needed(),
        ],
        false,
    ),
    kind(
        "sip",
        "An OPTIONS request.",
        &[
            key("user", TEXT, "The user that is asked for.", "ping").default("director"),
            key("tcp", Form::Flag, "Whether to ask over TCP.", "true").default("false"),
        ],
        false,
    ),
    kind(
        "redis",
        "PING, or another command.",
        &[
            USER.without("the default one"),
            PASSWORD.without("no login"),
            key("request", TEXT, "A command and its arguments, separated by blanks.", "INFO replication")
                .without("`PING`"),
            RECEIVE,
            USE_TLS,
        ],
        true,
    ),
    kind(
        "external",
        "A command: exit code 0 passes.",
        &[
            key("command", PATH, "The program.", "/usr/local/lib/director/check").needed(),
            key(
                "arguments",
                Form::Either(&[TEXT, Form::List(&TEXT, 0, None)]),
                "Arguments in front of VIP, its port, real server, its port.",
                "[--fast]",
            )
            .without("none"),
            key(
                "dynamic",
                Form::Flag,
                "Whether exit codes 2 to 255 pass, too, and give the weights 0 to 253.",
                "true",
            )
            .default("false"),
        ],
        false,
    ),
];

/// The names of the types.
static KINDS: [&str; TYPES.len()] = {
    let mut names = [""; TYPES.len()];
    let mut next = 0;
    while next < names.len() {
        names[next] = TYPES[next].name;
        next += 1;
    }
    names
};
