//! The top level of the file, and its smaller sections.

use super::forms::{INTERFACE, LISTEN, MAIL, NAMED, NETWORK, PATH, PORT, TEXT};
use super::{Form, Rule, Section, cluster, key, services};

pub(super) static FILE: Section = Section {
    path: "",
    says: "The whole file: one YAML document.",
    keys: &[
        key("interfaces", Form::List(&INTERFACE, 1, None), "Interfaces that XDP is attached to: every one by which clients' packets arrive, and under NAT every one by which replies arrive.", "[eth0, eth1]").needed(),
        key("vips", Form::List(&Form::Mapping(&VIPS), 0, None), "The virtual addresses.", "[{ address: 192.0.2.10/24, interface: eth0 }]").needed(),
        key("services", Form::List(&Form::Mapping(&services::SERVICE), 0, None), "What is offered at the VIPs, and by whom.", "[{ name: web, address: 192.0.2.10, port: 80, forward: direct }]").needed(),
        key("defaults", Form::Defaults, "What services leave out. It has their keys, but no `name`.", "{ scheduler: wrr, forward: direct }"),
        key("heartbeat", Form::Mapping(&cluster::HEARTBEAT), "The cluster that this director is one of.", "{ key_file: /etc/director/heartbeat.key, directors: [{ name: lb1, links: [{ udp: 192.0.2.1 }] }, { name: lb2, links: [{ udp: 192.0.2.2 }] }] }").without("it is alone, and holds its VIPs always"),
        key("http", Form::Mapping(&HTTP), "Where health, metrics and status are served over HTTP.", "{ listen: \"127.0.0.1:9694\" }").without("nowhere"),
        key("socket", Form::Text("absolute path, at most 107 bytes", "^/.*[^/]$"), "The operator's socket. Its lock and the state file lie beside it.", "/run/director/web.sock").default("/run/director/director.sock"),
        key("limits", Form::Mapping(&LIMITS), "Sizes of the data plane's tables.", "{ flows: 4194304 }"),
        key("probes", Form::Mapping(&PROBES), "What concerns the checks of all services.", "{ in_flight: 100 }"),
        key("maintenance_dir", PATH, "A directory whose files take real servers out.", "/etc/director/maintenance").without("none"),
        key("notify", Form::Mapping(&NOTIFY), "Who is told of changes.", "{ command: /usr/local/sbin/notify }").without("nobody"),
    ],
    rules: &[],
};

static VIPS: Section = Section {
    path: "vips",
    says: "A virtual address.",
    keys: &[
        key("address", NETWORK, "The address.", "192.0.2.10/24").needed(),
        key("interface", INTERFACE, "The interface that holds it.", "eth0").needed(),
        key("group", NAMED, "The group of VIPs that it moves with, in a cluster.", "blue")
            .without("`default`"),
    ],
    rules: &[],
};

/// A name, without a port.
const HOST: Form = Form::Text("a name without a port", "^[^:/ ]+$");

static HTTP: Section = Section {
    path: "http",
    says: "HTTP, read-only.",
    keys: &[
        key("listen", LISTEN, "Where to listen.", "\"[::1]:9694\"").needed(),
        key(
            "hosts",
            Form::List(&HOST, 0, None),
            "Further names by which it may be asked for, as the dashboard's page says.",
            "[lb1.example.org]",
        )
        .default("[]"),
    ],
    rules: &[],
};

static LIMITS: Section = Section {
    path: "limits",
    says: "They take effect when the tables are made: at the first start, or at the first start after `director stop --detach`.",
    keys: &[
        key(
            "flows",
            Form::Whole(1_024, 134_217_728),
            "Flows that the table is made for. One takes 160 bytes.",
            "4194304",
        )
        .default("1048576"),
        key("services", Form::Whole(1, 65_536), "Services.", "8192").default("4096"),
        key("reals", Form::Whole(1, 1_048_576), "Real servers, once for each service they are in.", "100000")
            .default("65536"),
        key(
            "keys",
            Form::Whole(1, 4_194_304),
            "VIP, protocol and port, over all services; `any` is one.",
            "1000000",
        )
        .default("262144"),
        key("slots", Form::Whole(1_024, 268_435_456), "Slots of all schedulers' tables.", "8388608")
            .default("4194304"),
    ],
    rules: &[],
};

static PROBES: Section = Section {
    path: "probes",
    says: "What concerns the checks of all services.",
    keys: &[key("in_flight", Form::Whole(1, 10_000), "The most probes at a time; the others wait.", "100")
        .default("512")],
    rules: &[],
};

static NOTIFY: Section = Section {
    path: "notify",
    says: "Who is told of changes: by a command, by mail, or both.",
    keys: &[
        key("command", PATH, "A program that gets each event as a line of JSON.", "/usr/local/sbin/notify"),
        key(
            "mail",
            Form::Mapping(&MAIL_NOTICE),
            "Mail.",
            "{ to: ops@example.org, from: director@example.org }",
        ),
        key("at_most_every", Form::Duration("0s", "24h"), "The least time between two notices.", "5m")
            .default("60s"),
    ],
    rules: &[Rule::AnyOf("command", "mail")],
};

/// One address, or several.
const RECEIVERS: Form = Form::Either(&[MAIL, Form::List(&MAIL, 0, None)]);

static MAIL_NOTICE: Section = Section {
    path: "notify.mail",
    says: "Mail, without TLS and without a login.",
    keys: &[
        key("to", RECEIVERS, "Who gets it.", "[ops@example.org, noc@example.org]").needed(),
        key("from", MAIL, "Who it comes from.", "director@example.org").needed(),
        key("server", TEXT, "The mail server.", "mail.example.org").default("127.0.0.1"),
        key("port", PORT, "Its port.", "587").default("25"),
    ],
    rules: &[],
};
