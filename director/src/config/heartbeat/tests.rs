use std::net::SocketAddr;
use std::path::Path;

use super::*;
use crate::config::{Loaded, Problem, Severity, parse, render};
use crate::heartbeat::message::{Key, MOST_GROUPS};
use crate::model::Vip;
use crate::model::heartbeat::{DnsTakeover, Group, Link, Means, Member, Resource, TakeoverCommand};

const EXAMPLE: &str = include_str!("../../../../deploy/director.example.yaml");

/// A small cluster; the tables below replace one of its lines (counted from 1).
const BASE: &str = "\
interfaces: [eth0]
vips:
  - { address: 192.0.2.10/24, interface: eth0 }
  - { address: \"2001:db8::10/64\", interface: eth0, group: blue }
services: []
heartbeat:
  key_file: /etc/director/heartbeat.key
  settle: 3s
  directors:
    - name: lb1
      priority: 200
      links: [{ udp: \"192.0.2.11:694\" }, { multicast: 239.255.0.1, interface: eth1 }]
    - name: lb2
      links: [{ udp: 192.0.2.12 }, { multicast: 239.255.0.1, interface: eth1, ttl: 2 }]
  groups:
    - name: blue
";

/// Everything that can be said, none of it as it would be if left out.
const WHOLE: &str = "\
interfaces: [eth0]
vips:
  - { address: 192.0.2.10/24, interface: eth0, group: red }
  - { address: 192.0.2.13/24, interface: eth1 }
  - { address: 192.0.2.14/24, interface: eth0, group: blue }
  - { address: 192.0.2.15/24, interface: eth0, group: red }
services: []
heartbeat:
  key_file: /k
  interval: 10ms
  dead_after: 30ms
  initial_wait: 0s
  settle: 1m
  quorum: majority
  failback: 5s
  ping: [192.0.2.1, \"2001:db8::1\"]
  ping_interval: 500ms
  track:
    - { name: nginx, command: [/usr/bin/pgrep, nginx], interval: 3s, timeout: 2s, weight: -50 }
    - { name: disk, command: [/bin/true] }
  balance: { moves: 2, every: 1s, mature: 0s }
  announce: { burst: 20, spacing: 50ms, refresh: false, neighbours: [192.0.2.1], share: false }
  directors:
    - { name: lb1, priority: 255, links: [{ udp: 192.0.2.11 }, { multicast: \"[ff05::694]:700\", interface: eth1, ttl: 3 }] }
    - { name: lb2, priority: 1, links: [{ udp: \"192.0.2.12:695\" }, { multicast: \"[ff05::694]:700\", interface: eth2 }] }
    - { name: lb3, links: [{ udp: 192.0.2.16 }, { multicast: \"[ff05::694]:700\", interface: eth1 }] }
  groups:
    - name: blue
      prefer: [lb3, lb1]
      failback: false
      virtual_mac: \"02:00:5E:00:00:01\"
      takeover: address
      resources:
        - { name: route, start: [/sbin/ip, route, add], stop: [/sbin/ip, route, delete], timeout: 1s }
        - { name: mail, start: [/m, start], stop: [/m, stop] }
    - name: green
      failback: true
      takeover: { command: [/usr/local/sbin/move, now], timeout: 1s, retry: 2s }
    - name: names
      takeover:
        dns:
          server: 192.0.2.53
          zone: example.org.
          name: WWW.Example.org.
          ttl: 0
          tsig_file: /t
          addresses: { lb1: [192.0.2.11], lb2: [192.0.2.12, \"2001:db8::12\"], lb3: [192.0.2.16] }
          timeout: 1s
          retry: 3s
";

fn loaded(text: &str) -> Loaded {
    parse(text).unwrap_or_else(|problems| {
        panic!("{}\n{text}", render(Path::new("test"), text, &problems, Severity::Error))
    })
}

fn heartbeat(text: &str) -> Heartbeat {
    loaded(text).config.heartbeat.expect("a heartbeat")
}

fn with_line(number: usize, line: &str) -> String {
    let mut lines: Vec<&str> = BASE.lines().collect();
    lines[number - 1] = line;
    lines.join("\n") + "\n"
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn udp(address: &str) -> Link {
    Link::Udp(address.parse().unwrap())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A line of [`BASE`], what to put there, then line, column, message and hint of each error.
type Case<'c> = (usize, &'c str, &'c [&'c str]);

/// Each must be refused with just these errors, as `12:7: message (hint)`.
#[track_caller]
fn refused(cases: &[Case]) {
    for (number, line, expected) in cases {
        let text = with_line(*number, line);
        assert_eq!(errors(&text), *expected, "line {number}: {line}");
    }
}

fn errors(text: &str) -> Vec<String> {
    parse(text).err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

#[test]
fn the_example_is_a_cluster() {
    let Loaded { config, notes, .. } = loaded(EXAMPLE);
    let heartbeat = config.heartbeat.expect("a heartbeat");
    let member = |name: &str, priority, links: [&str; 2]| Member {
        name: name.to_owned(),
        priority,
        links: links.map(udp).to_vec(),
    };
    let expected = Heartbeat {
        key_file: "/etc/director/heartbeat.key".into(),
        interval: 100 * MS,
        dead_after: 350 * MS,
        initial_wait: 1_050 * MS,
        settle: 3 * SECOND,
        quorum: Quorum::None,
        ping: vec!["192.0.2.1".parse().unwrap()],
        ping_interval: SECOND,
        track: Vec::new(),
        balance: None,
        announce: announce_as_left_out(),
        directors: vec![
            member("lb1", 200, ["192.0.2.11:694", "198.51.100.11:694"]),
            member("lb2", 100, ["192.0.2.12:694", "198.51.100.12:694"]),
        ],
        groups: vec![Group::new("default", config.vips)],
    };
    assert_eq!(heartbeat, expected);
    assert_eq!(notes, []);
}

#[test]
fn what_the_example_has_in_comments_is_accepted() {
    let (_, comments) = EXAMPLE.split_once("  # What else there may be:\n").unwrap();
    let comments: Vec<&str> = comments.lines().take_while(|line| line.starts_with("  # ")).collect();
    let spoken: Vec<String> = comments.iter().map(|line| line.replacen("# ", "", 1)).collect();
    let text = EXAMPLE
        .replace(&comments.join("\n"), &spoken.join("\n"))
        .replace("interface: eth0 }   # group", "interface: eth0, group: blue }   # group");
    let two = errors(&text);
    assert!(matches!(&two[..], [one] if one.contains("`quorum: majority` needs three directors")), "{two:?}");
    let heartbeat = heartbeat(&text.replace("  quorum: majority", "  quorum: none"));
    assert_eq!(
        (heartbeat.groups[0].prefer.as_slice(), heartbeat.track.len()),
        (&strings(&["lb2", "lb1"])[..], 1)
    );
}

#[test]
fn everything_that_can_be_said() {
    let config = loaded(WHOLE).config;
    let heartbeat = config.heartbeat.expect("a heartbeat");
    let group_of = |address: &str| -> SocketAddr { address.parse().unwrap() };
    let links = |address: &str, interface: &str, ttl| {
        let multicast =
            Link::Multicast { group: group_of("[ff05::694]:700"), interface: interface.to_owned(), ttl };
        vec![udp(address), multicast]
    };
    let member = |name: &str, priority, links| Member { name: name.to_owned(), priority, links };
    let expected = Heartbeat {
        key_file: "/k".into(),
        interval: 10 * MS,
        dead_after: 30 * MS,
        initial_wait: Duration::ZERO,
        settle: 60 * SECOND,
        quorum: Quorum::Majority,
        ping: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ping_interval: 500 * MS,
        track: vec![
            Track {
                name: "nginx".into(),
                command: strings(&["/usr/bin/pgrep", "nginx"]),
                interval: 3 * SECOND,
                timeout: 2 * SECOND,
                weight: Some(-50),
            },
            Track {
                name: "disk".into(),
                command: strings(&["/bin/true"]),
                interval: 2 * SECOND,
                timeout: SECOND,
                weight: None,
            },
        ],
        balance: Some(Balance { moves: 2, every: SECOND, mature: Duration::ZERO }),
        announce: Announce {
            burst: 20,
            spacing: 50 * MS,
            refresh: None,
            neighbours: vec!["192.0.2.1".parse().unwrap()],
            share: None,
        },
        directors: vec![
            member("lb1", 255, links("192.0.2.11:694", "eth1", 3)),
            member("lb2", 1, links("192.0.2.12:695", "eth2", 1)),
            member("lb3", 100, links("192.0.2.16:694", "eth1", 1)),
        ],
        groups: whole_groups(&config.vips),
    };
    assert_eq!(heartbeat, expected);
}

/// The groups of [`WHOLE`].
fn whole_groups(vips: &[Vip]) -> Vec<Group> {
    let resource = |name: &str, start: &[&str], stop: &[&str], timeout| Resource {
        name: name.to_owned(),
        start: strings(start),
        stop: strings(stop),
        timeout,
    };
    let own = Failback::After(5 * SECOND);
    let command = TakeoverCommand {
        command: strings(&["/usr/local/sbin/move", "now"]),
        timeout: SECOND,
        retry: 2 * SECOND,
    };
    let at = |name: &str, addresses: &[&str]| {
        (name.to_owned(), addresses.iter().map(|address| address.parse().unwrap()).collect())
    };
    let dns = DnsTakeover {
        server: "192.0.2.53:53".parse().unwrap(),
        zone: "example.org.".into(),
        name: "WWW.Example.org.".into(),
        ttl: 0,
        addresses: vec![
            at("lb1", &["192.0.2.11"]),
            at("lb2", &["192.0.2.12", "2001:db8::12"]),
            at("lb3", &["192.0.2.16"]),
        ],
        tsig_file: "/t".into(),
        timeout: SECOND,
        retry: 3 * SECOND,
    };
    vec![
        Group {
            prefer: strings(&["lb3", "lb1"]),
            virtual_mac: Some([2, 0, 0x5e, 0, 0, 1]),
            resources: vec![
                resource("route", &["/sbin/ip", "route", "add"], &["/sbin/ip", "route", "delete"], SECOND),
                resource("mail", &["/m", "start"], &["/m", "stop"], 10 * SECOND),
            ],
            ..Group::new("blue", vec![vips[2].clone()])
        },
        Group {
            failback: Failback::After(Duration::ZERO),
            takeover: Means::Command(command),
            ..Group::new("green", Vec::new())
        },
        Group { failback: own, takeover: Means::Dns(dns), ..Group::new("names", Vec::new()) },
        Group { failback: own, ..Group::new("red", vec![vips[0].clone(), vips[3].clone()]) },
        Group { failback: own, ..Group::new("default", vec![vips[1].clone()]) },
    ]
}

#[test]
fn what_is_left_out_follows_from_the_rest() {
    let times = |line: &str| {
        let heartbeat = heartbeat(&with_line(8, line));
        (heartbeat.interval, heartbeat.dead_after, heartbeat.initial_wait)
    };
    assert_eq!(times(""), (100 * MS, 350 * MS, 1_050 * MS));
    assert_eq!(times("  interval: 20ms"), (20 * MS, 70 * MS, SECOND));
    assert_eq!(times("  dead_after: 2s"), (100 * MS, 2 * SECOND, 6 * SECOND));
    assert_eq!(times("  initial_wait: 2s"), (100 * MS, 350 * MS, 2 * SECOND));
    let said = |line: &str| heartbeat(&with_line(8, line));
    assert_eq!(said("").balance, None);
    assert_eq!(said("  balance: false").balance, None);
    let usual = Balance { moves: 1, every: 4 * SECOND, mature: 5 * SECOND };
    assert_eq!(said("  balance: true").balance, Some(usual));
    assert_eq!(said("  balance: { moves: 2 }").balance, Some(Balance { moves: 2, ..usual }));
    let announce = Announce {
        burst: 5,
        spacing: 200 * MS,
        refresh: Some(60 * SECOND),
        neighbours: Vec::new(),
        share: Some(60 * SECOND),
    };
    assert_eq!(said("").announce, announce);
    assert_eq!(said("  announce: {}").announce, announce);
    assert_eq!(said("  announce: { burst: 1 }").announce, Announce { burst: 1, ..announce });
    let base = heartbeat(BASE);
    assert_eq!(base.directors.iter().map(|member| member.priority).collect::<Vec<_>>(), [200, 100]);
    assert_eq!(base.directors[1].links[0], udp("192.0.2.12:694"));
    let multicast =
        |ttl| Link::Multicast { group: "239.255.0.1:694".parse().unwrap(), interface: "eth1".into(), ttl };
    assert_eq!([&base.directors[0].links[1], &base.directors[1].links[1]], [&multicast(1), &multicast(2)]);
}

#[test]
fn what_a_takeover_leaves_out() {
    let takeover = |yaml: &str| {
        let text = with_line(16, &format!("    - {{ name: blue, takeover: {yaml} }}"));
        heartbeat(&text).groups[0].takeover.clone()
    };
    assert_eq!(takeover("address"), Means::Address);
    let command = TakeoverCommand { command: strings(&["/a"]), timeout: 5 * SECOND, retry: 5 * SECOND };
    assert_eq!(takeover("{ command: [/a] }"), Means::Command(command));
    let dns = "{ dns: { server: \"::1\", zone: example.org., name: example.org., tsig_file: /t, \
               addresses: { lb1: [192.0.2.11], lb2: [192.0.2.12] } } }";
    let Means::Dns(dns) = takeover(dns) else { panic!("DNS") };
    assert_eq!((dns.server, dns.ttl), ("[::1]:53".parse().unwrap(), 10));
    assert_eq!((dns.timeout, dns.retry), (2 * SECOND, 2 * SECOND));
}

#[test]
fn serial_lines() {
    let text = with_line(12, "      links: [{ serial: /dev/ttyS0 }]").replace(
        "[{ udp: 192.0.2.12 }, { multicast: 239.255.0.1, interface: eth1, ttl: 2 }]",
        "[{ serial: /dev/ttyUSB1, baud: 9600 }]",
    );
    let directors = heartbeat(&text).directors;
    let serial = |device: &str, baud| vec![Link::Serial { device: device.into(), baud }];
    assert_eq!(directors[0].links, serial("/dev/ttyS0", 115_200));
    assert_eq!(directors[1].links, serial("/dev/ttyUSB1", 9_600));
}

#[test]
fn vips_find_their_groups() {
    let names = |text: &str| -> Vec<(String, usize)> {
        heartbeat(text).groups.into_iter().map(|group| (group.name, group.vips.len())).collect()
    };
    let pair = |name: &str, vips| (name.to_owned(), vips);
    assert_eq!(names(BASE), [pair("blue", 1), pair("default", 1)]);
    let unlisted = BASE.replace("  groups:\n    - name: blue\n", "");
    assert_eq!(names(&unlisted), [pair("default", 1), pair("blue", 1)]);
    assert_eq!(names(&unlisted.replace(", group: blue", "")), [pair("default", 2)]);
    let listed = with_line(16, "    - name: blue\n    - { name: default, prefer: [lb2] }");
    assert_eq!(names(&listed), [pair("blue", 1), pair("default", 1)]);
    assert_eq!(heartbeat(&listed).groups[1].prefer, ["lb2"]);
}

#[test]
fn a_virtual_mac_of_a_name_stays_the_same() {
    let mac = |line: &str| heartbeat(&with_line(16, line)).groups[0].virtual_mac;
    assert_eq!(mac("    - { name: blue, virtual_mac: false }"), None);
    assert_eq!(mac("    - { name: blue, virtual_mac: 02:ab:00:00:00:01 }"), Some([2, 0xab, 0, 0, 0, 1]));
    let [_, a, b, c] = Key::of("blue").0.to_be_bytes();
    assert_eq!(mac("    - { name: blue, virtual_mac: true }"), Some([0x02, 0x64, 0x72, a, b, c]));
    // FNV-1a of "blue": all versions must have the same, as directors of two versions may run side by side.
    assert_eq!([a, b, c], [0xfb, 0xf5, 0xcd]);
}

#[test]
fn a_group_without_a_heartbeat_is_a_note() {
    let alone = BASE.lines().take(5).collect::<Vec<_>>().join("\n");
    let Loaded { config, notes, .. } = loaded(&alone);
    assert_eq!(config.heartbeat, None);
    let notes: Vec<String> = notes.iter().map(Problem::to_string).collect();
    let note = "4:59: `group` does nothing without `heartbeat` (a director by itself holds all its VIPs)";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");
    assert!(!notes.iter().any(|found| found.starts_with("3:") && found.contains("group")), "{notes:?}");
}

#[test]
fn directors_are_two_to_sixteen() {
    let (before, after) = BASE.split_once("  directors:\n").unwrap();
    let (_, after) = after.split_once("  groups:").unwrap();
    let with = |directors: &str| errors(&format!("{before}{directors}  groups:{after}"));
    assert_eq!(
        with(""),
        ["7:3: `heartbeat` needs `directors` (write directors: and a list of them, 2 to 16)",]
    );
    let some = |count: u8| -> String {
        let one = |n| format!("    - {{ name: lb{n}, links: [{{ udp: 192.0.3.{n} }}] }}\n");
        "  directors:\n".to_owned() + &(1..=count).map(one).collect::<String>()
    };
    let hint = "(a director by itself needs no `heartbeat`)";
    assert_eq!(with(&some(1)), [format!("10:5: `directors` must be 2 to 16, found 1 {hint}")]);
    assert_eq!(with(&some(2)), [""; 0]);
    assert_eq!(with(&some(16)), [""; 0]);
    assert_eq!(with(&some(17)), [format!("10:5: `directors` must be 2 to 16, found 17 {hint}")]);
}

#[test]
fn lists_have_an_end() {
    let ping = |count: u8| {
        let list: Vec<String> = (1..=count).map(|n| format!("192.0.3.{n}")).collect();
        errors(&with_line(8, &format!("  ping: [{}]", list.join(", "))))
    };
    assert_eq!(ping(64), [""; 0]);
    assert_eq!(ping(65), ["8:9: `ping` has 65 entries, more than the limit of 64"]);
    let groups = |count: usize| {
        let vip = |n| format!("  - {{ address: 192.0.3.{n}/24, interface: eth0, group: g{n} }}\n");
        // With `default` and `blue`.
        let vips: String = (3..=count).map(vip).collect();
        errors(&BASE.replace("services:", &format!("{vips}services:")))
    };
    assert_eq!(groups(MOST_GROUPS), [""; 0]);
    assert_eq!(
        groups(MOST_GROUPS + 1),
        [
            "79:5: there are 65 groups, more than the limit of 64 (put VIPs that may move together into one group)"
        ]
    );
}

#[test]
fn names_with_the_same_hash_are_refused() {
    assert_eq!(Key::of("costarring"), Key::of("liquid"));
    let directors = BASE.replace("name: lb1", "name: costarring").replace("name: lb2", "name: liquid");
    let complaint = |place: &str, of: &str| {
        format!(
            "{place}: the {of} `costarring` and `liquid` cannot be told apart: messages name them by a hash, \
             which is the same (rename one of them)"
        )
    };
    assert_eq!(errors(&directors), [complaint("13:13", "directors")]);
    let groups = BASE.replace("name: blue", "name: costarring").replace("group: blue", "group: liquid");
    let none = "16:7: no VIP is in group `costarring` (write group: costarring with a VIP in `vips`, or remove the group)";
    assert_eq!(errors(&groups), [complaint("4:59", "groups"), none.to_owned()]);
}

#[test]
fn without_vips_there_is_nothing_to_hold() {
    let (_, rest) = BASE.split_once("services:").unwrap();
    let text = format!("interfaces: [eth0]\nvips: []\nservices:{rest}");
    let text = text.replace("  groups:\n    - name: blue\n", "");
    assert_eq!(
        errors(&text),
        [
            "5:3: `heartbeat` has nothing to hold: there are no VIPs (add one to `vips`, or remove `heartbeat`)"
        ]
    );
}

#[test]
fn a_majority_can_be_had_of_three() {
    let third =
        "    - name: lb3\n      links: [{ udp: 192.0.2.13 }, { multicast: 239.255.0.1, interface: eth1 }]\n";
    let text = with_line(8, "  quorum: majority").replace("  groups:", &format!("{third}  groups:"));
    assert_eq!(heartbeat(&text).quorum, Quorum::Majority);
    assert_eq!(heartbeat(&with_line(8, "  quorum: none")).quorum, Quorum::None);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = WHOLE
        .replace("group: red }", "group: r/d }")
        .replace("interval: 10ms", "interval: 1ms")
        .replace("settle: 1m", "settle: 2h")
        .replace("weight: -50", "weight: -500")
        .replace("moves: 2", "moves: many")
        .replace("burst: 20", "burst: 0")
        .replace("priority: 255", "priority: 256")
        .replace("udp: 192.0.2.16", "udp: router")
        .replace("[lb3, lb1]", "[lb4]")
        .replace("start: [/m", "start: [m")
        .replace("[/usr/local/sbin/move, now]", "move")
        .replace("tsig_file: /t", "tsig_file: t");
    let lines: Vec<u32> = parse(&text).unwrap_err().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 6, 10, 13, 19, 21, 22, 24, 26, 29, 35, 38, 46]);
}

#[test]
fn the_hash_is_that_of_the_text() {
    // The first 8 bytes of what `sha256sum` says of BASE.
    assert_eq!(loaded(BASE).hash, 0x2c35_b81e_445f_2d69);
    assert_ne!(loaded(&format!("{BASE}# more\n")).hash, 0x2c35_b81e_445f_2d69);
}

#[test]
fn a_director_finds_its_name() {
    let heartbeat = heartbeat(BASE);
    assert_eq!(heartbeat.member("lb2").map(|member| member.priority), Some(100));
    assert_eq!(heartbeat.member("lb3"), None);
    assert_eq!(named(None, "lb1", &heartbeat).as_deref(), Ok("lb1"));
    assert_eq!(named(None, "lb2.example.org", &heartbeat).as_deref(), Ok("lb2"));
    assert_eq!(named(Some("lb1"), "lb2", &heartbeat).as_deref(), Ok("lb1"));
    let refused = named(Some("lb3"), "lb1", &heartbeat).unwrap_err();
    assert_eq!(refused, "`lb3`, as --node has it, is none of the directors `lb1`, `lb2` in `heartbeat`");
    let refused = named(None, "www.example.org", &heartbeat).unwrap_err();
    assert_eq!(
        refused,
        "this host is named `www.example.org`, which is none of the directors `lb1`, `lb2` in `heartbeat`: \
         say which of them it is with --node NAME"
    );
    let mut dotted = heartbeat.clone();
    dotted.directors[1].name = "lb1.example.org".to_owned();
    assert_eq!(named(None, "lb1.example.org", &dotted).as_deref(), Ok("lb1.example.org"));
}

#[test]
fn wrong_keys() {
    refused(WRONG_KEYS);
}

const WRONG_KEYS: &[Case] = &[
    (
        6,
        "heartbeat: 5\nx:",
        &[
            "6:12: `heartbeat` must be a mapping, found the number 5 (it has the keys `key_file`, `interval`, `dead_after`, `initial_wait`, `settle`, `quorum`, `failback`, `ping`, `ping_interval`, `track`, `balance`, `announce`, `directors`, `groups`)",
            "7:1: unknown key `x` in the configuration (the known keys are `interfaces`, `vips`, `heartbeat`, `defaults`, `services`, `http`, `socket`, `limits`, `probes`, `maintenance_dir`, `notify`)",
        ],
    ),
    (
        6,
        "heartbeat:\n  colour: red",
        &[
            "7:3: unknown key `colour` in `heartbeat` (the known keys are `key_file`, `interval`, `dead_after`, `initial_wait`, `settle`, `quorum`, `failback`, `ping`, `ping_interval`, `track`, `balance`, `announce`, `directors`, `groups`)",
        ],
    ),
    (7, "", &["8:3: `heartbeat` needs `key_file` (write key_file: /etc/director/heartbeat.key)"]),
    (7, "  key_file: heartbeat.key", &["7:13: `key_file` must be an absolute path, found `heartbeat.key`"]),
];

#[test]
fn wrong_times_and_words() {
    refused(WRONG_TIMES_AND_WORDS);
}

const WRONG_TIMES_AND_WORDS: &[Case] = &[
    (8, "  interval: 4ms", &["8:13: `interval` must be from 5ms to 10s, found `4ms`"]),
    (8, "  interval: 11s", &["8:13: `interval` must be from 5ms to 10s, found `11s`"]),
    (
        8,
        "  dead_after: 199ms",
        &[
            "8:15: `dead_after` must be at least twice the interval of 100ms, found 199ms (write 350ms, or make `interval` shorter)",
        ],
    ),
    (8, "  dead_after: 61s", &["8:15: `dead_after` must be from 10ms to 60s, found `61s`"]),
    (
        8,
        "  interval: 1s\n  dead_after: 1500ms",
        &[
            "9:15: `dead_after` must be at least twice the interval of 1s, found 1500ms (write 3500ms, or make `interval` shorter)",
        ],
    ),
    (8, "  initial_wait: 11m", &["8:17: `initial_wait` must be from 0ms to 600s, found `11m`"]),
    (
        8,
        "  settle: 3",
        &["8:11: `settle` needs a unit, found the number 3 (write 3s for seconds; others are ms, m, h)"],
    ),
    (8, "  quorum: all", &["8:11: unknown word `all` for `quorum` (it is one of `none`, `majority`)"]),
    (
        8,
        "  quorum: majority",
        &[
            "8:11: `quorum: majority` needs three directors or more: of two, neither could take over when the other one dies (remove it, or add a third director; witnesses in `ping` also help two directors to decide)",
        ],
    ),
    (
        8,
        "  failback: yes",
        &[
            "8:13: `failback` must be `true`, `false` or a duration, found the text `yes` (write 30s to have a director heard for so long before VIPs return to it)",
        ],
    ),
    (
        8,
        "  failback: [true]",
        &[
            "8:13: `failback` must be `true`, `false` or a duration, found a list (write 30s to have a director heard for so long before VIPs return to it)",
        ],
    ),
    (8, "  failback: 25h", &["8:13: `failback` must be from 0ms to 24h, found `25h`"]),
    (8, "  ping_interval: 99ms", &["8:18: `ping_interval` must be from 100ms to 60s, found `99ms`"]),
];

#[test]
fn wrong_lists() {
    refused(WRONG_LISTS);
}

const WRONG_LISTS: &[Case] = &[
    (
        8,
        "  ping: [192.0.2.1, x, 192.0.2.1]",
        &[
            "8:21: `ping` must be an IPv4 or IPv6 address, found the text `x`",
            "8:24: 192.0.2.1 is in `ping` twice (list it once)",
        ],
    ),
    (
        8,
        "  ping: 192.0.2.1",
        &[
            "8:9: `ping` must be a list, found the text `192.0.2.1` (write `ping: []` for an empty list, or items that begin with `- `)",
        ],
    ),
    (
        8,
        "  track: [{ interval: 99ms, timeout: 9ms, weight: 101 }]",
        &[
            "8:11: a tracked command needs `command` (write command: [/usr/bin/pgrep, nginx])",
            "8:11: a tracked command needs `name` (write name: nginx)",
            "8:23: `interval` must be from 100ms to 1h, found `99ms`",
            "8:38: `timeout` must be from 10ms to 1h, found `9ms`",
            "8:51: `weight` must be a whole number from -100 to 100, found the number 101",
        ],
    ),
    (
        8,
        "  track: [{ name: a, command: [/a], weight: 0 }, { name: a, command: [a] }]",
        &[
            "8:45: `weight` must not be 0: the command would say nothing (write -50, or leave it out to have a director where it fails not take part)",
            "8:58: two tracked commands are named `a`, the first on line 8 (rename one of them)",
            "8:71: `command` must begin with the absolute path of a program, found `a` (write a list, as [/usr/bin/pgrep, nginx])",
        ],
    ),
    (
        8,
        "  track: [{ name: a b, command: /a }, { name: b, command: [] }, { name: c, command: [/a, 5, \"\\0\"] }]",
        &[
            "8:19: `a b` cannot be a tracked command's name (a name is 1 to 63 letters, digits, `.`, `_` or `-`)",
            "8:33: `command` must be a list of a program and its arguments, found the text `/a` (write a list, as [/usr/bin/pgrep, nginx])",
            "8:59: `command` must name a program (write a list, as [/usr/bin/pgrep, nginx])",
            "8:90: `command` must be a text, found the number 5 (put it in quotes if it is meant as it stands)",
            "8:93: `command` must be without the character NUL",
        ],
    ),
    (
        8,
        "  balance: 5",
        &[
            "8:12: `balance` must be `true`, `false` or a mapping, found the number 5 (write { moves: 1, every: 4s, mature: 5s })",
        ],
    ),
    (
        8,
        "  balance: { moves: 0, every: 99ms, mature: 61m, much: 1 }",
        &[
            "8:21: `moves` must be a whole number from 1 to 64, found the number 0",
            "8:31: `every` must be from 100ms to 1h, found `99ms`",
            "8:45: `mature` must be from 0ms to 1h, found `61m`",
            "8:50: unknown key `much` in `balance` (the known keys are `moves`, `every`, `mature`)",
        ],
    ),
    (
        8,
        "  announce: { burst: 21, spacing: 0ms, refresh: true, share: 100ms, neighbours: [224.0.0.1] }",
        &[
            "8:22: `burst` must be a whole number from 1 to 20, found the number 21",
            "8:35: `spacing` must be from 1ms to 10s, found `0ms`",
            "8:49: `refresh` must be a duration or `false`, found true (write 60s)",
            "8:62: `share` must be from 1s to 24h, found `100ms`",
            "8:82: `neighbours` must be the address of one host, but 224.0.0.1 is a multicast address",
        ],
    ),
];

#[test]
fn wrong_directors() {
    refused(WRONG_DIRECTORS);
}

const WRONG_DIRECTORS: &[Case] = &[
    (
        9,
        "  directors: lb1\n  x:",
        &[
            "9:14: `directors` must be a list, found the text `lb1` (write `directors: []` for an empty list, or items that begin with `- `)",
            "10:3: unknown key `x` in `heartbeat` (the known keys are `key_file`, `interval`, `dead_after`, `initial_wait`, `settle`, `quorum`, `failback`, `ping`, `ping_interval`, `track`, `balance`, `announce`, `directors`, `groups`)",
        ],
    ),
    (10, "    - ", &["11:7: a director needs `name` (write name: lb1)"]),
    (
        10,
        "    - name: lb2",
        &["13:13: two directors are named `lb2`, the first on line 10 (rename one of them)"],
    ),
    (
        10,
        "    - name: -a/b",
        &["10:13: `-a/b` cannot be a director's name (a name is 1 to 63 letters, digits, `.`, `_` or `-`)"],
    ),
    (
        11,
        "      priority: 0",
        &["11:17: `priority` must be a whole number from 1 to 255, found the number 0"],
    ),
];

#[test]
fn wrong_links() {
    refused(WRONG_LINKS);
}

const WRONG_LINKS: &[Case] = &[
    (
        12,
        "      prio: 5",
        &[
            "10:7: a director needs `links` (write links: [{ udp: \"192.0.2.11:694\" }])",
            "12:7: unknown key `prio` in `directors` (the known keys are `name`, `priority`, `links`)",
        ],
    ),
    (
        12,
        "      links: []",
        &[
            "12:14: `links` must be 1 to 8, found 0 (write { udp: \"192.0.2.11:694\" }, { multicast: \"239.255.0.1:694\", interface: eth1 } or { serial: /dev/ttyS0 })",
        ],
    ),
    (
        12,
        "      links: 192.0.2.11",
        &[
            "12:14: `links` must be a list, found the text `192.0.2.11` (write `links: []` for an empty list, or items that begin with `- `)",
        ],
    ),
    (
        12,
        "      links: [192.0.2.11, {}, { udp: 192.0.2.1, serial: /dev/ttyS0 }, { udp: 192.0.2.1, ttl: 1 }]",
        &[
            "12:15: `links` must be a mapping, found the text `192.0.2.11` (it has the keys `udp`, `multicast`, `serial`)",
            "12:27: a link is one of `udp`, `multicast` and `serial` (write { udp: \"192.0.2.11:694\" }, { multicast: \"239.255.0.1:694\", interface: eth1 } or { serial: /dev/ttyS0 })",
            "12:31: a link is one of `udp`, `multicast` and `serial` (write { udp: \"192.0.2.11:694\" }, { multicast: \"239.255.0.1:694\", interface: eth1 } or { serial: /dev/ttyS0 })",
            "12:89: unknown key `ttl` in a link by udp (the known keys are `udp`)",
            "14:14: director `lb2` has 2 links, but director `lb1` (line 12) has 4 links (the same place in each list is the same link: give every director as many)",
        ],
    ),
    (
        12,
        "      links: [{ udp: lb1 }, { multicast: 192.0.2.1 }]",
        &[
            "12:22: `udp` must be an address with or without a port, found the text `lb1` (write \"192.0.2.11:694\" or \"[2001:db8::11]:694\", in quotes)",
            "12:29: a link by multicast needs `interface` (write interface: eth1)",
            "12:42: `multicast` must be a multicast group, but 192.0.2.1 is none (write \"239.255.0.1:694\" or \"[ff05::694]:694\")",
        ],
    ),
    (
        12,
        "      links: [{ udp: 224.0.0.1 }, { multicast: 239.255.0.1, interface: a/b, ttl: 0, baud: 1 }]",
        &[
            "12:22: `udp` must be the address of one host, but 224.0.0.1 is a multicast address",
            "12:72: `a/b` cannot be an interface's name (a name is 1 to 15 characters without `/`, `:`, `%` and spaces)",
            "12:82: `ttl` must be a whole number from 1 to 255, found the number 0",
            "12:85: unknown key `baud` in a link by multicast (the known keys are `multicast`, `interface`, `ttl`)",
        ],
    ),
    (
        12,
        "      links: [{ udp: \"192.0.2.11:0\" }, { multicast: 239.255.0.2, interface: eth1 }]",
        &[
            "12:22: `udp` must be an address with or without a port, found the text `192.0.2.11:0` (write \"192.0.2.11:694\" or \"[2001:db8::11]:694\", in quotes)",
            "14:36: link 2 of director `lb2` is in the group 239.255.0.1:694, but that of director `lb1` in 239.255.0.2:694 (write the same group and port for all directors)",
        ],
    ),
    (
        12,
        "      links: [{ udp: \"fe80::1\" }, { udp: \"[fe80::1%2]:694\" }]",
        &[
            "12:22: `udp` must say where it is reached, but fe80::1 is a link-local address (give the host an address of the site, as one of fd00::/8)",
            "12:42: `udp` must be an address with or without a port, found the text `[fe80::1%2]:694` (write \"192.0.2.11:694\" or \"[2001:db8::11]:694\", in quotes)",
        ],
    ),
    (
        12,
        "      links: [{ udp: 192.0.2.12 }, { multicast: 239.255.0.1, interface: eth1 }]",
        &[
            "14:15: director `lb2` has the address 192.0.2.12:694, which director `lb1` has already (line 12) (write each director's own address)",
        ],
    ),
    (
        12,
        "      links: [{ udp: 192.0.2.10 }, { multicast: 239.255.0.1, interface: eth1 }]",
        &[
            "12:15: 192.0.2.10 is a VIP, and VIPs move between directors (write an address that this director always has)",
        ],
    ),
    (
        12,
        "      links: [{ udp: \"2001:db8::11\" }, { udp: 192.0.2.11 }]",
        &[
            "14:15: link 1 of director `lb2` goes by udp over IPv4, but that of director `lb1` by udp over IPv6 (the same place in each list is the same link: keep to one order)",
            "14:36: link 2 of director `lb2` goes by multicast, but that of director `lb1` by udp over IPv4 (the same place in each list is the same link: keep to one order)",
        ],
    ),
    (
        12,
        "      links: [{ udp: 192.0.2.11 }]",
        &[
            "14:14: director `lb2` has 2 links, but director `lb1` (line 12) has 1 link (the same place in each list is the same link: give every director as many)",
        ],
    ),
    (
        12,
        "      links: [{ multicast: 239.255.0.1, interface: eth1 }, { multicast: 239.255.0.1, interface: eth1, ttl: 9 }]",
        &[
            "12:60: links 1 and 2 of a director are one and the same (a second link must go another way)",
            "14:15: link 1 of director `lb2` goes by udp over IPv4, but that of director `lb1` by multicast (the same place in each list is the same link: keep to one order)",
        ],
    ),
    (
        12,
        "      links: [{ serial: ttyS0 }, { serial: /dev/ttyS0, baud: 5 }, { serial: /dev/ttyS0 }]",
        &[
            "12:25: `serial` must be an absolute path, found `ttyS0`",
            "12:62: `baud` must be a speed of serial lines, found the number 5 (it is one of 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)",
            "14:14: director `lb2` has 2 links, but director `lb1` (line 12) has 3 links (the same place in each list is the same link: give every director as many)",
        ],
    ),
    (
        12,
        "      links: [{ serial: /dev/ttyS0 }, { serial: /dev/ttyS0 }]",
        &[
            "12:39: links 1 and 2 of a director are one and the same (a second link must go another way)",
            "14:15: link 1 of director `lb2` goes by udp over IPv4, but that of director `lb1` by serial line (the same place in each list is the same link: keep to one order)",
            "14:36: link 2 of director `lb2` goes by multicast, but that of director `lb1` by serial line (the same place in each list is the same link: keep to one order)",
        ],
    ),
    (
        15,
        "    - name: lb3\n      links: [{ serial: /dev/ttyS0 }, { multicast: 239.255.0.1, interface: eth1 }]\n  groups:",
        &[
            "16:15: a serial line joins two directors, and there are 3 (use udp or multicast)",
            "16:15: link 1 of director `lb3` goes by serial line, but that of director `lb1` by udp over IPv4 (the same place in each list is the same link: keep to one order)",
        ],
    ),
];

#[test]
fn wrong_groups() {
    refused(WRONG_GROUPS);
}

const WRONG_GROUPS: &[Case] = &[
    (
        15,
        "  groups: blue\n  x:",
        &[
            "15:11: `groups` must be a list, found the text `blue` (write `groups: []` for an empty list, or items that begin with `- `)",
            "16:3: unknown key `x` in `heartbeat` (the known keys are `key_file`, `interval`, `dead_after`, `initial_wait`, `settle`, `quorum`, `failback`, `ping`, `ping_interval`, `track`, `balance`, `announce`, `directors`, `groups`)",
        ],
    ),
    (
        16,
        "    - name: blue\n    - name: blue",
        &["17:13: two groups are named `blue`, the first on line 16 (rename one of them)"],
    ),
    (16, "    - prefer: []", &["16:7: a group needs `name` (write name: blue)"]),
    (
        16,
        "    - name: blue/1",
        &["16:13: `blue/1` cannot be a group's name (a name is 1 to 63 letters, digits, `.`, `_` or `-`)"],
    ),
    (
        16,
        "    - name: red",
        &["16:7: no VIP is in group `red` (write group: red with a VIP in `vips`, or remove the group)"],
    ),
    (
        16,
        "    - { name: blue, prefer: [lb3, lb1, lb1, router] }",
        &[
            "16:30: `lb3` in `prefer` is none of the directors (did you mean `lb1`?)",
            "16:40: `lb1` is in `prefer` twice (name it once, where it comes first)",
            "16:45: `router` in `prefer` is none of the directors (the directors are `lb1`, `lb2`)",
        ],
    ),
    (
        16,
        "    - { name: blue, failback: never }",
        &[
            "16:31: `failback` must be `true`, `false` or a duration, found the text `never` (write 30s to have a director heard for so long before VIPs return to it)",
        ],
    ),
    (
        16,
        "    - { name: blue, virtual_mac: \"02:00:5e:00:00\" }",
        &[
            "16:34: `virtual_mac` must be `true`, `false` or a MAC address, found the text `02:00:5e:00:00` (write \"02:00:5e:00:00:01\", or true for one made from the group's name)",
        ],
    ),
    (
        16,
        "    - { name: blue, virtual_mac: \"01:00:5e:00:00:01\" }",
        &[
            "16:34: `virtual_mac` must be the MAC address of one station, but 01:00:5e:00:00:01 is none (its first byte must be even, as in \"02:00:5e:00:00:01\")",
        ],
    ),
    (
        16,
        "    - { name: blue, virtual_mac: \"00:00:00:00:00:00\" }",
        &[
            "16:34: `virtual_mac` must be the MAC address of one station, but 00:00:00:00:00:00 is none (its first byte must be even, as in \"02:00:5e:00:00:01\")",
        ],
    ),
    (
        16,
        "    - { name: blue, virtual_mac: 5 }",
        &[
            "16:34: `virtual_mac` must be `true`, `false` or a MAC address, found the number 5 (write \"02:00:5e:00:00:01\", or true for one made from the group's name)",
        ],
    ),
    (
        16,
        "    - { name: blue, virtual_mac: \"02:00:5e:00:00:01\" }\n    - { name: default, virtual_mac: \"02:00:5E:00:00:01\" }",
        &[
            "17:37: group `default` has the virtual MAC 02:00:5e:00:00:01, which group `blue` has already (line 16) (give each group its own)",
        ],
    ),
    (
        4,
        "  - { address: \"2001:db8::10/64\", interface: eth0, group: a b }",
        &["4:59: `a b` cannot be a group's name (a name is 1 to 63 letters, digits, `.`, `_` or `-`)"],
    ),
    (
        2,
        "vips: []\nx:",
        &[
            "3:1: unknown key `x` in the configuration (the known keys are `interfaces`, `vips`, `heartbeat`, `defaults`, `services`, `http`, `socket`, `limits`, `probes`, `maintenance_dir`, `notify`)",
            "17:7: no VIP is in group `blue` (write group: blue with a VIP in `vips`, or remove the group)",
        ],
    ),
];

#[test]
fn wrong_takeovers_and_resources() {
    refused(WRONG_TAKEOVERS_AND_RESOURCES);
}

const WRONG_TAKEOVERS_AND_RESOURCES: &[Case] = &[
    (
        16,
        "    - { name: blue, virtual_mac: true, takeover: { command: [/a] } }",
        &[
            "16:34: `virtual_mac` goes with addresses on interfaces, and group `blue` is taken in another way (remove it, or write takeover: address)",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: dns }",
        &[
            "16:31: `takeover` must be `address`, or a mapping with `command` or `dns`, found the text `dns` (write { command: [/usr/local/sbin/move-group] })",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: {} }",
        &["16:31: `takeover` needs `command` (write command: [/usr/local/sbin/move-group])"],
    ),
    (
        16,
        "    - { name: blue, takeover: { command: [a], timeout: 9ms, retry: 5 } }",
        &[
            "16:43: `command` must begin with the absolute path of a program, found `a` (write a list, as [/usr/bin/pgrep, nginx])",
            "16:56: `timeout` must be from 10ms to 600s, found `9ms`",
            "16:68: `retry` needs a unit, found the number 5 (write 5s for seconds; others are ms, m, h)",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: { command: [/a], timeout: 5s, dns: {} } }",
        &[
            "16:33: `command` does not go with `dns` (keep one of them)",
            "16:48: `timeout` does not go with `dns` (write it within `dns`)",
            "16:66: `dns` needs `addresses` (write addresses: { lb1: [192.0.2.11], lb2: [192.0.2.12] })",
            "16:66: `dns` needs `name` (write name: www.example.org.)",
            "16:66: `dns` needs `server` (write server: \"192.0.2.53:53\")",
            "16:66: `dns` needs `tsig_file` (write tsig_file: /etc/director/tsig.key)",
            "16:66: `dns` needs `zone` (write zone: example.org.)",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: { dns: { server: 224.0.0.1, zone: example.org, name: x..y., ttl: -1, tsig_file: t, addresses: {} } } }",
        &[
            "16:48: `server` must be the address of one host, but 224.0.0.1 is a multicast address",
            "16:65: `zone` must end with a dot, found `example.org` (write example.org.)",
            "16:84: `name` must be a domain name, found the text `x..y.` (write it like www.example.org.)",
            "16:96: `ttl` must be a whole number from 0 to 86400, found the number -1",
            "16:111: `tsig_file` must be an absolute path, found `t`",
            "16:125: `addresses` has nothing for director `lb1` (add lb1: [192.0.2.11])",
            "16:125: `addresses` has nothing for director `lb2` (add lb2: [192.0.2.11])",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: { dns: { server: 127.0.0.1, zone: example.org., name: www.example.com., tsig_file: /t, addresses: { lb1: [], lb3: [x], lb2: 192.0.2.1 } } } }",
        &[
            "16:85: `name` must be in the zone example.org., found `www.example.com.` (write it like www.example.org.)",
            "16:136: `lb1` must name an address (write [192.0.2.11])",
            "16:140: `lb3` in `addresses` is none of the directors (did you mean `lb1`?)",
            "16:146: `lb3` must be an IPv4 or IPv6 address, found the text `x`",
            "16:155: `lb2` must be a list, found the text `192.0.2.1` (write `lb2: []` for an empty list, or items that begin with `- `)",
        ],
    ),
    (
        16,
        "    - { name: blue, takeover: { dns: { server: x, zone: example.org., name: badexample.org., tsig_file: /t, addresses: [] } } }",
        &[
            "16:48: `server` must be an address with or without a port, found the text `x` (write \"192.0.2.11:53\" or \"[2001:db8::11]:53\", in quotes)",
            "16:77: `name` must be in the zone example.org., found `badexample.org.` (write it like www.example.org.)",
            "16:120: `addresses` must be a mapping of directors to addresses, found a list (write { lb1: [192.0.2.11], lb2: [192.0.2.12] })",
        ],
    ),
    (
        16,
        "    - { name: blue, resources: [{}, { name: a, start: [/a], stop: [/a] }, { name: a, start: [/a], stop: a, timeout: 0s }] }",
        &[
            "16:33: a resource needs `name` (write name: route)",
            "16:33: a resource needs `start` (write start: [/sbin/ip, route, add, default, via, 192.0.2.1])",
            "16:33: a resource needs `stop` (write stop: [/sbin/ip, route, delete, default, via, 192.0.2.1])",
            "16:83: two resources of the group are named `a`, the first on line 16 (rename one of them)",
            "16:105: `stop` must be a list of a program and its arguments, found the text `a` (write a list, as [/usr/bin/pgrep, nginx])",
            "16:117: `timeout` must be from 10ms to 600s, found `0s`",
        ],
    ),
];
