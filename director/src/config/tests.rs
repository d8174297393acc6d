use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Forward, Http, Limits, Persistence, Ports, Protocol, Real, Scheduler, Timeouts, Unserved,
};

const EXAMPLE: &str = include_str!("../../../deploy/director.example.yaml");

/// A small configuration; the tables below replace one of its lines (counted from 1).
const BASE: &str = "\
interfaces: [eth0]
vips:
  - { address: 192.0.2.10/24, interface: eth0 }
  - { address: \"2001:db8::10/64\", interface: eth0 }
socket: /run/d.sock
limits: { flows: 1024 }
defaults: { forward: nat }
services:
  - name: web
    address: 192.0.2.10
    port: 80
    scheduler: mh
    reals:
      - { address: 192.0.2.21 }
      - { address: 192.0.2.31-192.0.2.33 }
  - name: six
    address: 2001:db8::10
    port: 80
    reals: [{ address: \"2001:db8::21\", port: 8080, weight: 0 }]
";

fn with_line(number: usize, line: &str) -> String {
    let mut lines: Vec<&str> = BASE.lines().collect();
    lines[number - 1] = line;
    lines.join("\n") + "\n"
}

fn loaded(text: &str) -> Loaded {
    parse(text).unwrap_or_else(|problems| {
        panic!("{}\n{text}", render(Path::new("test"), text, &problems, Severity::Error))
    })
}

/// A line of [`BASE`], what to put there, then line, column and a part of each error.
type Case<'c> = (usize, &'c str, &'c [(u32, u32, &'c str)]);

#[track_caller]
fn refused(cases: &[Case]) {
    for (number, line, expected) in cases {
        let text = with_line(*number, line);
        let problems = parse(&text).err().unwrap_or_default();
        let fits = problems.len() == expected.len()
            && problems.iter().zip(*expected).all(|(problem, (line, column, part))| {
                (problem.line, problem.column) == (*line, *column) && problem.message.contains(part)
            });
        let shown = render(Path::new("test"), &text, &problems, Severity::Error);
        assert!(fits, "line {number}: {line}\nexpected {expected:?}, found\n{shown}");
    }
}

#[test]
fn the_example_is_a_configuration() {
    let Loaded { config, notes, .. } = loaded(EXAMPLE);
    assert_eq!(config.interfaces, ["eth0"]);
    assert_eq!(config.vips.len(), 2);
    assert_eq!(config.socket, Path::new("/run/director/director.sock"));
    assert_eq!(config.limits, Limits::default());
    let [web, dns] = &config.services[..] else { panic!("{config:?}") };
    assert_eq!((web.name.as_str(), web.protocol, web.forward), ("web", Protocol::Tcp, Forward::Direct));
    assert_eq!(web.scheduler, Scheduler::Mh);
    assert_eq!(web.persistence, Some(Persistence { timeout: Duration::from_secs(600), prefix: 24 }));
    assert_eq!((web.unserved, web.sloppy, web.timeouts), (Unserved::Drop, false, Timeouts::default()));
    assert_eq!(web.reals.len(), 10);
    assert_eq!(web.reals[9], Real { address: "192.0.2.38".parse().unwrap(), port: None, weight: 1 });
    assert_eq!(
        (dns.protocol, dns.scheduler, &dns.ports),
        (Protocol::Udp, Scheduler::Rr, &Ports::List(vec![53]))
    );
    assert_eq!(dns.reals, [Real { address: "2001:db8::21".parse().unwrap(), port: Some(5353), weight: 1 }]);

    assert_eq!(config.http, Some(Http { listen: "127.0.0.1:9694".parse().unwrap(), hosts: vec![] }));
    assert_eq!(notes, []);
}

#[test]
fn what_is_left_out_comes_from_defaults() {
    let text = "\
interfaces: [eth0]
vips: [{ address: 192.0.2.10/24, interface: eth0 }]
defaults:
  address: 192.0.2.10
  forward: direct
  scheduler: rr
  unserved: reject
  sloppy: true
  persistence: { timeout: 1m, netmask: 255.255.255.0 }
  timeouts: { syn: 5s, udp: 6s }
  reals: [{ address: 192.0.2.21 }]
services:
  - { name: a, port: 1 }
  - { name: b, port: 2, persistence: false, timeouts: { udp: 7s }, sloppy: false, reals: [{ address: 192.0.2.22 }] }
  - { name: c, port: any, persistence: { netmask: 8 }, forward: nat, protocol: udp }
  - { name: d, port: [3, 5-6], persistence: {} }
";
    let Loaded { config, notes, .. } = loaded(text);
    assert_eq!(notes, []);
    let [a, b, c, d] = &config.services[..] else { panic!("{config:?}") };
    let minute = Duration::from_secs(60);
    assert_eq!((a.unserved, a.sloppy, a.scheduler), (Unserved::Reject, true, Scheduler::Rr));
    assert_eq!(a.persistence, Some(Persistence { timeout: minute, prefix: 24 }));
    assert_eq!((a.timeouts.syn, a.timeouts.udp), (Duration::from_secs(5), Duration::from_secs(6)));
    assert_eq!(a.timeouts.fin, Timeouts::default().fin);
    assert_eq!((b.persistence, b.sloppy), (None, false));
    assert_eq!((b.timeouts.syn, b.timeouts.udp), (Duration::from_secs(5), Duration::from_secs(7)));
    assert_eq!(b.reals[0].address.to_string(), "192.0.2.22");
    assert_eq!((&c.ports, c.forward, c.protocol), (&Ports::Any, Forward::Nat, Protocol::Udp));
    assert_eq!(c.persistence, Some(Persistence { timeout: minute, prefix: 8 }));
    assert_eq!((&d.ports, d.persistence), (&Ports::List(vec![3, 5, 6]), a.persistence));
}

#[test]
fn a_real_servers_port_is_kept_only_where_it_differs() {
    let port = |line: &str| loaded(&with_line(14, line)).config.services[0].reals[0].port;
    assert_eq!(port("      - { address: 192.0.2.21, port: 80 }"), None);
    assert_eq!(port("      - { address: 192.0.2.21, port: 81 }"), Some(81));
    let direct = with_line(14, "      - { address: 192.0.2.21, port: 80 }")
        .replace("mh\n", "mh\n    forward: direct\n");
    assert_eq!(loaded(&direct).config.services[0].reals[0].port, None);
}

#[test]
fn advice_is_a_note() {
    let unused = loaded(&with_line(
        3,
        "  - { address: 192.0.2.10/24, interface: eth0 }\n  - { address: 192.0.2.9/32, interface: lo }",
    ));
    assert_eq!(unused.notes.len(), 1);
    assert!(
        unused.notes[0].to_string().starts_with("4:16: VIP 192.0.2.9 has no service"),
        "{}",
        unused.notes[0]
    );
    let alone = loaded(&with_line(19, "    reals: []"));
    assert!(
        alone.notes[0].to_string().starts_with("19:12: service `six` has no real servers"),
        "{}",
        alone.notes[0]
    );
    assert_eq!(loaded(&with_line(19, "")).notes[0].line, 16);
}

#[test]
fn wrong_keys_and_types() {
    refused(&[
        (1, "interface: [eth0]", &[(1, 1, "needs `interfaces`"), (1, 1, "unknown key `interface`")]),
        (1, "interfaces: eth0", &[(1, 13, "must be a list, found the text `eth0`")]),
        (1, "interfaces: []", &[(1, 13, "must name one at least")]),
        (1, "interfaces:", &[(1, 11, "must be a list, found nothing")]),
        (1, "interfaces: [eth0, eth0, a/b, 5]", &[(1, 20, "twice"), (1, 26, "a/b"), (1, 31, "the number 5")]),
        (3, "  - { address: 192.0.2.10, interface: eth0 }", &[(3, 16, "prefix length")]),
        (
            3,
            "  - { adress: 192.0.2.10/24, interface: eth0 }",
            &[(3, 5, "needs its `address`"), (3, 7, "unknown key `adress`")],
        ),
        (3, "  - 192.0.2.10/24", &[(3, 5, "must be a mapping")]),
        (
            3,
            "  - { address: 2001:db8::10/64, interface: eth0 }",
            &[(4, 16, "twice, first on line 3"), (10, 14, "none of the VIPs")],
        ),
        (5, "socket: run/d.sock", &[(5, 9, "absolute path")]),
        (6, "limits: { flows: 1000 }", &[(6, 18, "from 1024 to 134217728, found the number 1000")]),
        (6, "limits: { flow: 1024 }", &[(6, 11, "unknown key `flow`")]),
        (6, "limits: { reals: 3 }", &[(6, 18, "5 real servers together, more than the limit of 3")]),
        (6, "limits: { services: 1 }", &[(6, 21, "2 services")]),
        (6, "limits: { keys: 1 }", &[(6, 17, "2 address and port keys")]),
        (7, "defaults: nat", &[(7, 11, "must be a mapping, found the text `nat`")]),
        (7, "defaults: { forward: nat, name: web }", &[(7, 33, "cannot give a `name`")]),
        (
            8,
            "services: 5\nx:",
            &[(8, 11, "must be a list, found the number 5"), (9, 1, "unknown key `x` in the configuration")],
        ),
    ]);
}

#[test]
fn wrong_services() {
    refused(&[
        (7, "", &[(9, 5, "service `web` needs `forward`"), (16, 5, "service `six` needs `forward`")]),
        (7, "defaults: { forward: tunnel }", &[(7, 22, "`forward: tunnel` is known, but not implemented")]),
        (7, "defaults: { forward: masq }", &[(7, 22, "unknown word `masq`")]),
        (9, "  - name: 80", &[(9, 11, "must be a text, found the number 80")]),
        (9, "  - name: a b", &[(9, 11, "cannot be a service's name")]),
        (9, "  - sloppy: yes", &[(9, 5, "a service needs a `name`"), (9, 13, "must be `true` or `false`")]),
        (9, "  - name: six", &[(16, 11, "two services are named `six`, the first on line 9")]),
        (10, "    address: 192.0.2.11", &[(10, 14, "192.0.2.11, which is none of the VIPs")]),
        (10, "", &[(9, 5, "service `web` needs `address`")]),
        (11, "", &[(9, 5, "service `web` needs `port`")]),
        (11, "    port: 0", &[(11, 11, "from 1 to 65535, found the number 0")]),
        (
            11,
            "    ports: [80, x, 90-80]",
            &[(11, 17, "found the text `x`"), (11, 20, "ends before it begins")],
        ),
        (11, "    ports: [80, 70-90]", &[(11, 12, "names port 80 twice")]),
        (11, "    port: 80\n    ports: [80]", &[(12, 5, "two words for one thing")]),
        (11, "    port: any", &[(11, 11, "needs `persistence`")]),
        (12, "    protocol: TCP", &[(12, 15, "unknown word `TCP`")]),
        (12, "    scheduler: wlc", &[(12, 16, "`scheduler: wlc` is known, but not implemented")]),
        (12, "    scheduler: wr", &[(12, 16, "unknown word `wr`")]),
        (12, "    scheduler: [rr]", &[(12, 16, "must be one of `rr`")]),
        (12, "    unserved: refuse", &[(12, 15, "unknown word")]),
        (12, "    persistence: { timeout: 10 }", &[(12, 29, "needs a unit, found the number 10")]),
        (12, "    persistence: { timeout: 9h }", &[(12, 29, "from 1s to 8h")]),
        (12, "    persistence: { netmask: 33 }", &[(12, 29, "33 bits does not fit service `web`")]),
        (12, "    persistence: { netmask: 255.0.255.0 }", &[(12, 29, "ones and then zeros")]),
        (12, "    persistence: true", &[(12, 18, "must be a mapping, found true")]),
        (
            12,
            "    timeouts: { sin: 1s, udp: 1.5 }",
            &[(12, 17, "unknown key `sin`"), (12, 31, "needs a unit")],
        ),
        (
            18,
            "    port: 80\n    persistence: { netmask: 255.255.255.0 }",
            &[(19, 29, "dotted netmask does not fit")],
        ),
        (
            17,
            "    address: 192.0.2.10",
            &[
                (
                    18,
                    11,
                    "service `six` claims 192.0.2.10 tcp port 80, but service `web` (line 9) has it already",
                ),
                (19, 24, "families differ"),
            ],
        ),
    ]);
}

#[test]
fn wrong_reals() {
    refused(&[
        (14, "      - { weight: 1 }", &[(14, 9, "a real server needs an `address`")]),
        (14, "      - { address: 192.0.2.10 }", &[(14, 20, "192.0.2.10 is a VIP")]),
        (14, "      - { address: 192.0.2.9-192.0.2.11 }", &[(14, 20, "192.0.2.10 is a VIP")]),
        (
            14,
            "      - { address: 192.0.2.32 }",
            &[(15, 20, "192.0.2.32 is in service `web` twice, first on line 14")],
        ),
        (14, "      - { address: 192.0.2.9-192.0.2.8 }", &[(14, 20, "ends before it begins")]),
        (14, "      - { address: 10.0.0.0-10.0.4.0 }", &[(14, 20, "at most 1024 addresses")]),
        (14, "      - { address: \"2001:db8::5\" }", &[(14, 20, "families differ")]),
        (
            14,
            "      - { address: 192.0.2.21, weight: 65536, port: 0 }",
            &[(14, 40, "0 to 65535"), (14, 53, "1 to 65535")],
        ),
        (14, "      - 192.0.2.21", &[(14, 9, "must be a mapping")]),
        (
            14,
            "      - { adress: 192.0.2.21 }",
            &[(14, 9, "needs an `address`"), (14, 11, "unknown key `adress`")],
        ),
        (18, "    port: [80, 81]", &[(19, 46, "only where the service has one port")]),
        (18, "    port: 80\n    forward: direct", &[(20, 46, "port 8080 needs `forward: nat`")]),
    ]);
}

#[test]
fn some_values_are_refused_where_they_are() {
    refused(&[
        (5, "http: {}", &[(5, 1, "`http` needs `listen`")]),
        (5, "http: { listen: 9694 }", &[(5, 17, "must be a text")]),
        (5, "http: { listen: localhost }", &[(5, 17, "must be an address and a port")]),
        (
            5,
            "http: { listen: '[::]:1', hosts: [lb.example.org, 'a:80', ''] }",
            &[(5, 51, "must be a name without a port"), (5, 59, "must not be empty")],
        ),
        (
            12,
            "    check: { type: http, interval: 2, rise: x, sort: 1 }",
            &[(12, 36, "needs a unit"), (12, 45, "whole number"), (12, 48, "unknown key `sort`")],
        ),
        (12, "    fallback: 192.0.2.99", &[(12, 15, "must be a mapping")]),
    ]);
}

#[test]
fn checks_are_checked() {
    refused(&[
        (12, "    check: { interval: 2s }", &[(12, 12, "the check of service `web` needs a `type`")]),
        (12, "    check: { type: htp }", &[(12, 20, "`type`")]),
        (12, "    check: { type: dns }", &[(12, 12, "needs `request`")]),
        (12, "    check: { type: http, receive: \"(\" }", &[(12, 35, "no regular expression")]),
        (12, "    check: { type: http, status: 99 }", &[(12, 34, "a status or a range")]),
        (12, "    check: { type: http, headers: { \"a b\": c } }", &[(12, 44, "no header's name")]),
        (12, "    check: { type: http, header_files: { X: /none } }", &[(12, 45, "cannot read /none")]),
        (12, "    check: { type: tcp, verify: false }", &[(12, 25, "is for TLS")]),
        (12, "    check: { type: https, cert_file: /etc/passwd }", &[(12, 12, "go together")]),
        (12, "    check: { type: https, ca_file: /none }", &[(12, 36, "cannot read /none")]),
        (12, "    check: { type: external, command: /etc/passwd }", &[(12, 39, "is no program")]),
        (12, "    check: { type: http, request: \"a b\" }", &[(12, 35, "is no path")]),
        (12, "    check: { type: http, virtualhost: \"a\\nb\" }", &[(12, 39, "cannot stand in a header")]),
        (12, "    check: { type: dns, request: x, record: B }", &[(12, 45, "a type of DNS records")]),
        (12, "    fallback: { address: 192.0.2.32 }", &[(12, 15, "is one of the real servers")]),
        (5, "notify: { mail: { to: a@b@c, from: a@b } }", &[(5, 23, "is no e-mail address")]),
        (12, "    check: { type: external, command: check }", &[(12, 39, "absolute path")]),
        (12, "    check: { type: ping, via: vip }", &[(12, 31, "do not hold the VIP")]),
        (
            12,
            "    check: { type: ping, interval: 1s, fast_interval: 2s }",
            &[(12, 12, "is above `interval`")],
        ),
        (12, "    check: { type: radius, user: u }", &[(12, 12, "needs `secret_file`")]),
        (12, "    check: [{ type: ping }, { type: tcp, port: 0 }]", &[(12, 48, "whole number")]),
        (12, "    fallback: { address: 2001:db8::9 }", &[(12, 15, "the families differ")]),
        (5, "notify: {}", &[(5, 9, "needs `command` or `mail`")]),
        (5, "maintenance_dir: x", &[(5, 18, "absolute path")]),
        (7, "defaults: { forward: nat, check: [{ type: ping }, { type: on }] }", &[(7, 34, "one mapping")]),
    ]);
}

#[test]
fn a_check_takes_from_defaults_what_it_leaves_out() {
    let text = BASE
        .replace(
            "defaults: { forward: nat }",
            "defaults: { forward: direct, check: { interval: 5s, fall: 7 } }",
        )
        .replace(
            "    scheduler: mh",
            "    check: { type: http, virtualhost: \"www.example.org:8080\", timeout: 3s }",
        )
        .replace(", port: 8080, weight: 0", "");
    let config = loaded(&text).config;
    let [web, six] = config.services.as_slice() else { panic!("two") };
    assert!(six.health.checks.is_empty(), "how often alone is no check");
    let [check] = web.health.checks.as_slice() else { panic!("one") };
    let second = Duration::from_secs(1);
    assert_eq!((check.interval, check.fast_interval, check.timeout), (5 * second, second, 3 * second));
    assert_eq!((check.limits.rise, check.limits.fall, check.via), (2, 7, crate::model::Via::Vip));
    let healthcheck::Check::Http(http) = &check.check else { panic!("http") };
    assert_eq!((http.path.as_str(), http.statuses.as_slice()), ("/", &[(200, 299)][..]));
}

#[test]
fn a_text_that_is_no_yaml() {
    for (text, line, column, part) in [
        ("", 1, 1, "empty"),
        ("# nothing\n", 1, 1, "empty"),
        ("a: b: c\n", 1, 5, "not YAML"),
        ("a: [1, 2\n", 2, 1, "not YAML"),
        ("a:\n\t- 1\n", 2, 2, "tab"),
        ("a: *x\n", 1, 4, "aliases"),
        ("[1]\n", 1, 1, "the configuration must be a mapping"),
        ("a\n", 1, 1, "must be a mapping"),
    ] {
        let problems = parse(text).unwrap_err();
        let first = &problems[0];
        assert_eq!((first.line, first.column), (line, column), "{text:?}: {first}");
        assert!(first.message.contains(part), "{text:?}: {first}");
    }
    refused(&[
        (7, "defaults: &x { forward: nat }", &[(7, 11, "anchors (`&name`) are not understood")]),
        (6, "limits: &x {}\nheartbeat: *x", &[(6, 9, "anchors"), (7, 12, "aliases")]),
        (5, "1: 2", &[(5, 1, "unknown key `1`")]),
        (5, "<<: {}", &[(5, 1, "merge keys (`<<`) are not understood")]),
        (5, "? [a]\n: b", &[(5, 3, "a key must be a word")]),
        (5, "socket: !!int x", &[(5, 9, "does not fit its tag")]),
        (5, "socket: !x [a]", &[(5, 9, "tags are not understood")]),
        (19, "---\na: b", &[(20, 1, "one YAML document")]),
    ]);
}

#[test]
fn every_repeated_key_is_named_with_what_else_is_wrong() {
    refused(&[
        (
            5,
            "socket: /a\nsocket: /b\nsocket: /c",
            &[(6, 1, "`socket` is given twice, first on line 5"), (7, 1, "`socket` is given twice")],
        ),
        (
            11,
            "    port: 80\n    \"port\": 81\n    colour: red",
            &[(12, 5, "`port` is given twice, first on line 11"), (13, 5, "unknown key `colour`")],
        ),
        (
            14,
            "      - { address: 192.0.2.21, weight: x, address: y }",
            &[(14, 40, "must be a whole number"), (14, 43, "`address` is given twice, first on line 14")],
        ),
        (5, "\"\": 1\n\"\": 2", &[(5, 1, "unknown key ``"), (6, 1, "`` is given twice")]),
    ]);
    let many = "a: 1\n".repeat(200);
    assert!(parse(&many).unwrap_err().len() > 20);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = BASE
        .replace("[eth0]", "[eth0/1]")
        .replace("port: 80\n", "port: 0\n")
        .replace("scheduler: mh", "scheduler: wlc")
        .replace("192.0.2.21", "192.0.2")
        .replace("weight: 0", "wieght: 0")
        .replace("flows: 1024", "flows: many");
    let problems = parse(&text).unwrap_err();
    let lines: Vec<u32> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 6, 11, 12, 14, 18, 19], "{problems:#?}");
}

#[test]
fn deep_nesting_is_refused_or_parsed() {
    for text in [
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "a:\n".repeat(1_000),
        (0..1_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        (0..1_000).map(|n| format!("{}- - - - - - - -\n", " ".repeat(n * 16))).collect(),
    ] {
        assert!(parse(&text).is_err());
    }
    // As deep as it may be, and a level deeper: indentation with a mapping for each column, and brackets.
    let block: String = (0..32).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let deep = |brackets| {
        let text = format!("{block}{}{}{}", " ".repeat(32), "[".repeat(brackets), "]".repeat(brackets));
        parse(&text).unwrap_err()
    };
    let problems = deep(32);
    assert!(problems.iter().any(|problem| problem.message.contains("unknown key `a`")), "{problems:?}");
    let problems = deep(33);
    assert_eq!((problems.len(), problems[0].line, problems[0].column), (1, 33, 65), "{problems:?}");
    assert!(problems[0].message.contains("nested more than 64 deep"), "{problems:?}");
}

#[test]
fn a_file_that_is_not_there_or_no_text() {
    let missing = load(Path::new("/nonexistent/director.yaml")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /nonexistent/director.yaml: "), "{missing}");
    let file = std::env::temp_dir().join(format!("director-config-{}.yaml", std::process::id()));
    std::fs::write(&file, b"a: \xff\n").unwrap();
    let binary = load(&file).unwrap_err().to_string();
    std::fs::write(&file, "a: 1\n").unwrap();
    let wrong = load(&file).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(binary.ends_with("it is not UTF-8 text (byte 4)"), "{binary}");
    assert!(wrong.contains(".yaml:1:1: error: unknown key `a`"), "{wrong}");
    assert!(wrong.ends_with("4 errors"), "{wrong}");
}

/// As many services as asked for, of ten real servers each.
fn large(services: usize) -> String {
    let mut text =
        String::from("interfaces: [eth0]\nvips: [{ address: 192.0.2.10/24, interface: eth0 }]\nservices:\n");
    for n in 0..services {
        text += &format!(
            "  - name: s{n}\n    address: 192.0.2.10\n    port: {}\n    forward: direct\n    reals:\n",
            n + 1
        );
        for real in 1..=10 {
            text += &format!("      - {{ address: 10.0.{}.{real}, weight: 10 }}\n", n % 250);
        }
    }
    text
}

#[test]
fn a_large_configuration_is_checked() {
    let text = large(1_000);
    let start = std::time::Instant::now();
    let config = loaded(&text).config;
    println!("1,000 services of 10 real servers: {:?}", start.elapsed());
    assert_eq!(config.services.len(), 1_000);
    assert_eq!(config.services.iter().map(|service| service.reals.len()).sum::<usize>(), 10_000);
}

proptest! {
    #[test]
    fn arbitrary_text_is_taken_or_refused(text in ".{0,200}") {
        holds(&text)?;
    }

    #[test]
    fn yamlish_text_is_taken_or_refused(text in "([a-z]{1,3}|[ \\n\\t:?\\-\\[\\]{},\"'&*!#|>%@~0-9]){0,60}") {
        holds(&text)?;
    }

    #[test]
    fn a_mutated_example_is_taken_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[ \\n:\\-\\[\\]{},\"'&*!#0-9a-z]{0,4}"), 1..6)
    ) {
        let mut chars: Vec<char> = EXAMPLE.chars().collect();
        for (at, cut, insert) in edits {
            let start = at.index(chars.len().max(1)).min(chars.len());
            let end = (start + cut).min(chars.len());
            chars.splice(start..end, insert.chars());
        }
        holds(&chars.into_iter().collect::<String>())?;
    }
}

/// No panic; a refusal says why, somewhere in the text, in order; and what is said can be shown.
fn holds(text: &str) -> Result<(), TestCaseError> {
    let problems = match parse(text) {
        Ok(loaded) => loaded.notes,
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            problems
        }
    };
    let lines = text.split('\n').count() + text.matches('\r').count();
    for problem in &problems {
        prop_assert!(problem.line >= 1 && problem.column >= 1);
        prop_assert!(problem.line as usize <= lines + 1, "{problem}");
    }
    prop_assert!(problems.is_sorted());
    render(Path::new("x"), text, &problems, Severity::Error);
    Ok(())
}
