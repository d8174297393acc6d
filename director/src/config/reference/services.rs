//! Services, and what stands in them.

use super::forms::{ADDRESS, IDLE, NAME, PORT, PORTS, RANGE};
use super::{Form, Rule, Section, key};

pub(super) static SERVICE: Section = Section {
    path: "services",
    says: "A service: what is offered at a VIP, and by whom. Every key but `name` may stand in `defaults` instead.",
    keys: &[
        key("name", NAME, "What commands, metrics and the log call it.", "web").needed(),
        key("address", ADDRESS, "One of the VIPs, without prefix length.", "192.0.2.10").somewhere(),
        key(
            "port",
            PORTS,
            "Its ports; `any` is every port that no other service names, and needs `persistence`.",
            "[80, 8000-8100]",
        )
        .somewhere(),
        key("ports", PORTS, "Another word for `port`.", "8000-8100"),
        key("protocol", Form::Word(&["tcp", "udp"]), "The protocol.", "udp").default("tcp"),
        key("forward", Form::Word(&["direct", "nat"]), "How packets reach real servers.", "nat").somewhere(),
        key(
            "scheduler",
            Form::Word(&["rr", "wrr", "mh", "sh", "dh", "fo"]),
            "To which real server a new flow goes.",
            "mh",
        )
        .default("wrr"),
        key(
            "persistence",
            Form::Either(&[Form::Mapping(&PERSISTENCE), Form::Just(false)]),
            "New flows of a client go to the real server that its earlier ones went to.",
            "{ timeout: 10m, netmask: 24 }",
        )
        .default("false"),
        key(
            "timeouts",
            Form::Mapping(&TIMEOUTS),
            "Idle times after which a flow is forgotten.",
            "{ established: 1h }",
        ),
        key(
            "unserved",
            Form::Word(&["drop", "reject"]),
            "What becomes of packets that no real server can take.",
            "reject",
        )
        .default("drop"),
        key(
            "sloppy",
            Form::Flag,
            "A TCP segment without a flow may start one, even if it is no SYN.",
            "true",
        )
        .default("false"),
        key(
            "reals",
            Form::List(&Form::Mapping(&REAL), 0, None),
            "The real servers.",
            "[{ address: 192.0.2.21 }, { address: 192.0.2.31-192.0.2.38 }]",
        )
        .default("[]"),
        key(
            "check",
            Form::Either(&[Form::Check, Form::List(&Form::Check, 0, None)]),
            "A health check, or a list of them: a real server is up if all say so.",
            "{ type: http, request: /health }",
        )
        .default("[]"),
        key(
            "fallback",
            Form::Either(&[Form::Mapping(&FALLBACK), Form::Word(&["local"]), Form::Just(false)]),
            "Who serves while too few real servers are up; `local` is the director's own kernel.",
            "{ address: 192.0.2.99 }",
        )
        .default("false"),
        key("quiescent", Form::Flag, "With `true`, `on_down` is `keep` unless it is given, too.", "true")
            .default("false"),
        key(
            "on_down",
            Form::Word(&["keep", "reset", "reschedule"]),
            "What becomes of the flows of a real server that is down.",
            "keep",
        )
        .default("reset"),
        key(
            "quorum",
            Form::Whole(1, 65535),
            "With fewer real servers up than these, the fallback serves.",
            "2",
        )
        .default("1"),
        key(
            "hysteresis",
            Form::Whole(0, 65535),
            "So many more must be up before the real servers serve again.",
            "1",
        )
        .default("0"),
        key(
            "slow_start",
            Form::Duration("0s", "8h"),
            "How long a real server that comes back takes to its whole weight.",
            "30s",
        )
        .default("0s"),
        key(
            "panic_threshold",
            Form::Whole(1, 99),
            "If more than this share of the real servers, in percent, would be down, none is.",
            "60",
        )
        .without("no limit"),
    ],
    rules: &[Rule::NotBoth("port", "ports")],
};

static PERSISTENCE: Section = Section {
    path: "services.persistence",
    says: "Persistence. `false` in a service undoes what `defaults` gives.",
    keys: &[
        key(
            "timeout",
            IDLE,
            "For how long after the last new flow, or the last packet of an established one.",
            "10m",
        )
        .default("5m"),
        key(
            "netmask",
            Form::Either(&[Form::Whole(0, 128), Form::Text("an IPv4 mask", "^[0-9.]+$")]),
            "How many bits of a client's address count.",
            "24",
        )
        .without("all"),
    ],
    rules: &[],
};

static TIMEOUTS: Section = Section {
    path: "services.timeouts",
    says: "Idle times after which a flow is forgotten. They are rounded up to ticks of about a second.",
    keys: &[
        key("syn", IDLE, "TCP, only SYNs so far.", "30s").default("60s"),
        key("established", IDLE, "TCP, established.", "1h").default("15m"),
        key("fin", IDLE, "TCP, after a FIN.", "30s").default("2m"),
        key("close", IDLE, "TCP, after a RST.", "5s").default("10s"),
        key("udp", IDLE, "UDP.", "30s").default("5m"),
    ],
    rules: &[],
};

static REAL: Section = Section {
    path: "services.reals",
    says: "A real server, or a range of them that are alike.",
    keys: &[
        key("address", RANGE, "Where it is.", "192.0.2.31-192.0.2.38").needed(),
        key("port", PORT, "Its port; only under `nat`, and only where the service has one port.", "8080")
            .without("as the client sent it"),
        key("weight", Form::Whole(0, 65535), "Its share, compared with the others'; 0 drains.", "10")
            .default("1"),
    ],
    rules: &[],
};

static FALLBACK: Section = Section {
    path: "services.fallback",
    says: "The server that serves while too few real servers are up.",
    keys: &[
        key("address", ADDRESS, "Where it is.", "192.0.2.99").needed(),
        key("port", PORT, "Its port; only under `nat`, and only where the service has one port.", "8080")
            .without("as the client sent it"),
    ],
    rules: &[],
};
