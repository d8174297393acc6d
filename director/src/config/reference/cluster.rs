//! `heartbeat`: the directors of a cluster, and what they agree on.

use super::forms::{ADDRESS, ADDRESSES, COMMAND, DOMAIN, ENDPOINT, INTERFACE, NAME, NAMED, PATH};
use super::{Form, Rule, Section, key};

/// `true`, `false`, or after how long.
const FAILBACK: Form = Form::Either(&[Form::Flag, Form::Duration("0s", "24h")]);
/// Every so often, or never.
const NOW_AND_THEN: Form = Form::Either(&[Form::Duration("1s", "24h"), Form::Just(false)]);

pub(super) static HEARTBEAT: Section = Section {
    path: "heartbeat",
    says: "Two to sixteen directors with the same file agree on who holds which VIPs.",
    keys: &[
        key("key_file", PATH, "The file with the keys that messages are authenticated with.", "/etc/director/heartbeat.key").needed(),
        key("directors", Form::List(&Form::Mapping(&DIRECTOR), 2, Some(16)), "All directors.", "[{ name: lb1, links: [{ udp: 192.0.2.1 }] }, { name: lb2, links: [{ udp: 192.0.2.2 }] }]").needed(),
        key("interval", Form::Duration("5ms", "10s"), "From one message to the next.", "50ms").default("100ms"),
        key("dead_after", Form::Duration("10ms", "1m"), "A director that was not heard for so long counts as dead; at least twice the interval, with a quorum three times.", "500ms").without("3.5 times the interval"),
        key("initial_wait", Form::Duration("0s", "10m"), "How long a director that starts listens before it takes anything, unless it has heard all others before.", "5s").without("3 times `dead_after`, at least `1s`"),
        key("settle", Form::Duration("0s", "1h"), "For how long another director must be better off before VIPs move to it because of that.", "10s").default("3s"),
        key("quorum", Form::Word(&["none", "majority"]), "Whether more than half of all directors must agree; that needs three.", "none").default("none"),
        key("failback", FAILBACK, "Whether VIPs move when a director returns that would come before the present owner: at once, never, or after it was heard for so long.", "30s").default("false"),
        key("ping", ADDRESSES, "Witnesses outside of the cluster.", "[192.0.2.1]").default("[]"),
        key("ping_interval", Form::Duration("100ms", "1m"), "From one ping to the next.", "500ms").default("1s"),
        key("track", Form::List(&Form::Mapping(&TRACK), 0, Some(64)), "Commands that say how fit a director is.", "[{ name: nginx, command: [/usr/bin/pgrep, nginx] }]").default("[]"),
        key("balance", Form::Either(&[Form::Mapping(&BALANCE), Form::Flag]), "How groups are spread over the directors.", "true").default("false"),
        key("announce", Form::Mapping(&ANNOUNCE), "How VIPs are announced.", "{ burst: 3 }"),
        key("groups", Form::List(&Form::Mapping(&GROUP), 0, None), "Groups of VIPs that move together. Those that only VIPs name need no entry. At most 64 in all.", "[{ name: default, failback: 30s }]").default("[]"),
    ],
    rules: &[],
};

static DIRECTOR: Section = Section {
    path: "heartbeat.directors",
    says: "One director, and how it is reached. All have as many links, of the same kinds in the same order.",
    keys: &[
        key("name", NAME, "Its host name, whole or up to the first dot, or what `--node` says.", "lb1")
            .needed(),
        key("priority", Form::Whole(1, 255), "The higher one holds VIPs, where nothing else decides.", "200")
            .default("100"),
        key(
            "links",
            Form::List(
                &Form::Either(&[Form::Mapping(&UDP), Form::Mapping(&MULTICAST), Form::Mapping(&SERIAL)]),
                1,
                Some(8),
            ),
            "How it is reached. All links are used side by side.",
            "[{ udp: \"192.0.2.11:694\" }]",
        )
        .needed(),
    ],
    rules: &[],
};

static UDP: Section = Section {
    path: "heartbeat.directors.links: udp",
    says: "A link by UDP.",
    keys: &[key(
        "udp",
        ENDPOINT,
        "That director's own address; without a port, it is 694.",
        "\"192.0.2.12:695\"",
    )
    .needed()],
    rules: &[],
};

static MULTICAST: Section = Section {
    path: "heartbeat.directors.links: multicast",
    says: "A link by multicast.",
    keys: &[
        key("multicast", ENDPOINT, "The group; without a port, it is 694.", "239.255.0.1").needed(),
        key("interface", INTERFACE, "That director's interface.", "eth1").needed(),
        key("ttl", Form::Whole(1, 255), "How far messages go; 1 stays on the segment.", "2").default("1"),
    ],
    rules: &[],
};

static SERIAL: Section = Section {
    path: "heartbeat.directors.links: serial",
    says: "A link by serial line, between two directors.",
    keys: &[
        key("serial", PATH, "That director's device.", "/dev/ttyS0").needed(),
        key(
            "baud",
            Form::Numbers(&[9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600]),
            "Its speed.",
            "9600",
        )
        .default("115200"),
    ],
    rules: &[],
};

static TRACK: Section = Section {
    path: "heartbeat.track",
    says: "A command that says how fit a director is.",
    keys: &[
        key("name", NAME, "What status calls it.", "nginx").needed(),
        key("command", COMMAND, "What is run.", "[/usr/bin/pgrep, nginx]").needed(),
        key("interval", Form::Duration("100ms", "1h"), "From one run to the next.", "5s").default("2s"),
        key("timeout", Form::Duration("10ms", "1h"), "How long a run may take.", "500ms").default("1s"),
        key("weight", Form::Whole(-100, 100), "Not 0. A positive one adds to the director's score while the command succeeds, a negative one while it fails.", "-50").without("a director where it fails takes no part"),
    ],
    rules: &[],
};

static BALANCE: Section = Section {
    path: "heartbeat.balance",
    says: "How groups are spread over the directors. `true` is all defaults.",
    keys: &[
        key("moves", Form::Whole(1, 64), "The most groups that move in a round.", "2").default("1"),
        key("every", Form::Duration("100ms", "1h"), "From one round to the next.", "10s").default("4s"),
        key(
            "mature",
            Form::Duration("0s", "1h"),
            "How long a director must have been heard before it is given anything.",
            "30s",
        )
        .default("5s"),
    ],
    rules: &[],
};

static ANNOUNCE: Section = Section {
    path: "heartbeat.announce",
    says: "How VIPs are announced: gratuitous ARP, unsolicited neighbour advertisements.",
    keys: &[
        key("burst", Form::Whole(1, 20), "How many announcements of each VIP a takeover begins with.", "3")
            .default("5"),
        key("spacing", Form::Duration("1ms", "10s"), "From one of them to the next.", "100ms")
            .default("200ms"),
        key("refresh", NOW_AND_THEN, "From one later announcement to the next.", "false").default("60s"),
        key("neighbours", ADDRESSES, "Neighbours that are told by unicast, too.", "[192.0.2.1]")
            .default("[]"),
        key("share", NOW_AND_THEN, "How often directors tell each other which neighbours they know.", "5m")
            .default("60s"),
    ],
    rules: &[],
};

static GROUP: Section = Section {
    path: "heartbeat.groups",
    says: "A group of VIPs that move together.",
    keys: &[
        key("name", NAME, "What VIPs call it in `group`.", "default").needed(),
        key(
            "prefer",
            Form::List(&NAMED, 0, None),
            "Directors that come before all others, the first one first.",
            "[lb2]",
        )
        .default("[]"),
        key("failback", FAILBACK, "As in `heartbeat`, for this group.", "true")
            .without("that of `heartbeat`"),
        key(
            "virtual_mac",
            Form::Either(&[Form::Text("a MAC address", "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"), Form::Flag]),
            "A MAC address that moves with the VIPs; `true` makes one from the group's name.",
            "\"02:00:5e:00:00:01\"",
        )
        .default("false"),
        key(
            "takeover",
            Form::Either(&[Form::Word(&["address"]), Form::Mapping(&TAKEOVER)]),
            "How it is taken: by addresses on interfaces, by a command, or by DNS.",
            "{ command: [/usr/local/sbin/move-group] }",
        )
        .default("address"),
        key(
            "resources",
            Form::List(&Form::Mapping(&RESOURCE), 0, Some(64)),
            "What is started in this order where the group is held, and stopped in the opposite one.",
            "[{ name: route, start: [/bin/true], stop: [/bin/true] }]",
        )
        .default("[]"),
    ],
    rules: &[],
};

/// How long commands may take, and wait for another try.
const COMMAND_TIMEOUT: Form = Form::Duration("10ms", "10m");
const RETRY: Form = Form::Duration("10ms", "1h");

static TAKEOVER: Section = Section {
    path: "heartbeat.groups.takeover",
    says: "How a group is taken otherwise than by addresses: by a command, which gets the group, the role and the addresses as its last arguments, or by DNS.",
    keys: &[
        key("command", COMMAND, "What is run.", "[/usr/local/sbin/move-group]"),
        key("timeout", COMMAND_TIMEOUT, "How long a run may take.", "1s").default("5s"),
        key("retry", RETRY, "From a failure to the next try.", "1s").default("5s"),
        key(
            "dns",
            Form::Mapping(&DNS),
            "A name in DNS that follows the group.",
            "{ server: 192.0.2.53, zone: example.org., name: www.example.org., tsig_file: /etc/director/tsig.key, addresses: { lb1: [192.0.2.11], lb2: [192.0.2.12] } }",
        ),
    ],
    rules: &[
        Rule::AnyOf("command", "dns"),
        Rule::NotBoth("command", "dns"),
        Rule::NotBoth("timeout", "dns"),
        Rule::NotBoth("retry", "dns"),
    ],
};

static DNS: Section = Section {
    path: "heartbeat.groups.takeover.dns",
    says: "A name in DNS that follows the group (RFC 2136).",
    keys: &[
        key(
            "server",
            ENDPOINT,
            "The zone's primary server; without a port, it is 53.",
            "\"192.0.2.53:5353\"",
        )
        .needed(),
        key("zone", DOMAIN, "The zone.", "example.org.").needed(),
        key("name", DOMAIN, "The name in the zone.", "www.example.org.").needed(),
        key(
            "tsig_file",
            PATH,
            "The TSIG key: name, algorithm, and secret in base64, in one line.",
            "/etc/director/tsig.key",
        )
        .needed(),
        key(
            "addresses",
            Form::Named("a director's name", &Form::List(&ADDRESS, 1, Some(64))),
            "The addresses that the name has while a director holds the group, for every director.",
            "{ lb1: [192.0.2.11], lb2: [192.0.2.12] }",
        )
        .needed(),
        key("ttl", Form::Whole(0, 86_400), "How many seconds resolvers may keep them.", "60").default("10"),
        key("timeout", Form::Duration("10ms", "1m"), "How long an exchange may take.", "1s").default("2s"),
        key("retry", RETRY, "From a failure to the next try.", "10s").default("2s"),
    ],
    rules: &[],
};

static RESOURCE: Section = Section {
    path: "heartbeat.groups.resources",
    says: "What is started where the group is held.",
    keys: &[
        key("name", NAME, "What status calls it; unique in the group.", "route").needed(),
        key("start", COMMAND, "What starts it.", "[/sbin/ip, route, add, default, via, 192.0.2.1]").needed(),
        key("stop", COMMAND, "What stops it.", "[/sbin/ip, route, delete, default, via, 192.0.2.1]").needed(),
        key("timeout", COMMAND_TIMEOUT, "How long each of them may take.", "1s").default("10s"),
    ],
    rules: &[],
};
