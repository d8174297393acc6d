use super::resolve::*;
use super::*;
use crate::model::{Assume, CheckPlan, HealthPolicy, Via};
use healthcheck::State;
use std::time::{Duration, Instant};

/// Where nothing is watched.
fn desired(config: &Config, overrides: &Overrides, hops: &NextHops) -> Desired {
    super::desired(config, overrides, Health::unknown(Instant::now()), hops)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn real(address: &str, port: Option<u16>, weight: u16) -> Real {
    Real { address: address.parse().unwrap(), port, weight }
}

fn service(name: &str, scheduler: Scheduler, ports: &[u16], reals: Vec<Real>) -> Service {
    Service {
        name: name.to_owned(),
        address: address("198.51.100.1"),
        protocol: Protocol::Tcp,
        ports: if ports.is_empty() { Ports::Any } else { Ports::List(ports.to_vec()) },
        forward: Forward::Nat,
        scheduler,
        persistence: None,
        timeouts: Timeouts::default(),
        unserved: Unserved::Reject,
        sloppy: true,
        reals,
        health: HealthPolicy::default(),
    }
}

fn config(services: Vec<Service>) -> Config {
    Config {
        interfaces: vec!["eth0".to_owned()],
        services,
        socket: "/run/director.sock".into(),
        ..Config::default()
    }
}

fn sample() -> Config {
    let web = vec![real("10.0.0.1", None, 10), real("10.0.0.2", None, 20), real("10.0.0.3", None, 0)];
    let app = vec![
        real("10.0.0.1", Some(8080), 1),
        real("10.0.0.1", Some(8081), 1),
        real("10.0.0.2", Some(8080), 1),
        real("2001:db8::1", Some(8080), 1),
        real("2001:db8::2", None, 1),
    ];
    let any = vec![real("10.0.0.1", None, 1)];
    config(vec![
        service("web", Scheduler::Wrr, &[80, 443], web),
        service("app", Scheduler::Mh, &[8000], app),
        service("any", Scheduler::Fo, &[], any),
    ])
}

fn key(service: &str, address: &str, port: Option<u16>) -> RealKey {
    RealKey { service: service.to_owned(), address: address.parse().unwrap(), port }
}

fn weights(desired: &Desired, service: usize) -> Vec<u16> {
    desired.services[service].reals.iter().map(|real| real.weight).collect()
}

#[test]
fn the_configuration_comes_through_in_its_order() {
    let config = sample();
    let desired = desired(&config, &Overrides::default(), &NextHops::new());
    assert_eq!(desired.services.len(), 3);
    for (service, desired) in config.services.iter().zip(&desired.services) {
        assert_eq!((&service.name, &service.ports), (&desired.name, &desired.ports));
        assert!(desired.sloppy && desired.unserved == Unserved::Reject && desired.forward == Forward::Nat);
        let reals: Vec<Real> = desired
            .reals
            .iter()
            .map(|&DesiredReal { address, port, weight, .. }| Real { address, port, weight })
            .collect();
        assert_eq!(reals, service.reals);
    }
    let sizes: Vec<u32> = desired.services.iter().map(|service| service.table_size).collect();
    assert_eq!(sizes, [1024, 65_537, 1]);
}

#[test]
fn overrides_win_until_taken_back() {
    let config = sample();
    let mut overrides = Overrides::default();
    let weights = |overrides: &Overrides| weights(&desired(&config, overrides, &NextHops::new()), 0);
    assert_eq!(overrides.set(key("web", "10.0.0.1", None), 0), None);
    assert_eq!(overrides.set(key("web", "10.0.0.3", None), 5), None);
    assert_eq!(weights(&overrides), [0, 20, 5]);
    assert_eq!(overrides.set(key("web", "10.0.0.1", None), 7), Some(0));
    assert_eq!(overrides.weight(&key("web", "10.0.0.1", None)), Some(7));
    assert_eq!(weights(&overrides), [7, 20, 5]);
    assert_eq!(overrides.clear(&key("web", "10.0.0.1", None)), Some(7));
    assert_eq!(overrides.clear(&key("web", "10.0.0.1", None)), None);
    assert_eq!(weights(&overrides), [10, 20, 5]);
}

#[test]
fn only_a_service_without_any_usable_real_server_waits_for_hops() {
    let [a, b, c, d] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(address);
    let web = vec![real("10.0.0.1", None, 1), real("10.0.0.2", None, 1), real("10.0.0.3", None, 0)];
    let app = vec![real("10.0.0.1", None, 1), real("10.0.0.4", None, 1)];
    let config =
        config(vec![service("web", Scheduler::Wrr, &[80], web), service("app", Scheduler::Wrr, &[81], app)]);
    let fresh = BTreeSet::from([a, b, c, d]);
    let awaited = |hops: &[IpAddr], fresh: &BTreeSet<IpAddr>| {
        let hop = NextHop { mac: [2; 6], source_mac: [4; 6], ifindex: 2 };
        let hops = hops.iter().map(|&address| (address, hop)).collect();
        desired(&config, &Overrides::default(), &hops).awaited(fresh)
    };
    assert_eq!(awaited(&[], &fresh), BTreeSet::from([a, b, d]), "one of weight 0 takes nothing");
    assert_eq!(awaited(&[b, c], &fresh), BTreeSet::from([a, d]), "web has one");
    assert_eq!(awaited(&[a], &fresh), BTreeSet::new(), "both have one");
    assert_eq!(awaited(&[], &BTreeSet::from([d])), BTreeSet::from([d]), "the others are down");
}

#[test]
fn an_override_of_nobody_waits() {
    let mut overrides = Overrides::default();
    overrides.set(key("web", "10.0.0.9", None), 0);
    overrides.set(key("web", "10.0.0.1", Some(80)), 0);
    overrides.set(key("gone", "10.0.0.1", None), 0);
    let before = desired(&sample(), &Overrides::default(), &NextHops::new());
    assert_eq!(desired(&sample(), &overrides, &NextHops::new()), before);

    let mut config = sample();
    config.services[0].reals.push(real("10.0.0.9", None, 3));
    assert_eq!(weights(&desired(&config, &overrides, &NextHops::new()), 0), [10, 20, 0, 0]);
}

#[test]
fn overrides_change_no_table_size() {
    let config = sample();
    let before = desired(&config, &Overrides::default(), &NextHops::new());
    let mut overrides = Overrides::default();
    overrides.set(key("web", "10.0.0.1", None), 65_535);
    overrides.set(key("app", "10.0.0.2", Some(8080)), 0);
    let after = desired(&config, &overrides, &NextHops::new());
    for (before, after) in before.services.iter().zip(&after.services) {
        assert_eq!(before.table_size, after.table_size);
    }
}

#[test]
fn hops_are_those_known() {
    let hop = NextHop { mac: [2, 0, 0, 0, 0, 1], source_mac: [2, 0, 0, 0, 0, 2], ifindex: 3 };
    let hops = NextHops::from([(address("10.0.0.2"), hop), (address("10.9.9.9"), hop)]);
    let desired = desired(&sample(), &Overrides::default(), &hops);
    let known = |service: usize| -> Vec<bool> {
        desired.services[service].reals.iter().map(|real| real.hop == Some(hop)).collect()
    };
    assert_eq!(known(0), [false, true, false]);
    assert_eq!(known(1), [false, false, true, false, false]);
}

#[test]
fn overrides_survive_json() {
    let mut overrides = Overrides::default();
    overrides.set(key("web", "10.0.0.1", None), 0);
    overrides.set(key("app", "2001:db8::1", Some(8080)), 7);
    let json = serde_json::to_string(&overrides).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"[{"service":"app","address":"2001:db8::1","port":8080,"weight":7},"#,
            r#"{"service":"web","address":"10.0.0.1","port":null,"weight":0}]"#
        )
    );
    assert_eq!(serde_json::from_str::<Overrides>(&json).unwrap(), overrides);
}

#[test]
fn a_real_server_goes_by_its_address_and_port() {
    let config = sample();
    for (service, text, address, port) in [
        ("web", "10.0.0.1", "10.0.0.1", None),
        ("app", "10.0.0.1:8081", "10.0.0.1", Some(8081)),
        ("app", "10.0.0.2", "10.0.0.2", Some(8080)),
        ("app", "[2001:db8::1]:8080", "2001:db8::1", Some(8080)),
        ("app", "2001:db8::1", "2001:db8::1", Some(8080)),
        ("app", "[2001:DB8:0::1]", "2001:db8::1", Some(8080)),
        ("app", "[2001:db8::2]:8000", "2001:db8::2", None),
    ] {
        assert_eq!(resolve(&config, service, text), Ok(key(service, address, port)), "{text}");
    }
    for service in &config.services {
        for real in &service.reals {
            let key = RealKey::new(&service.name, real);
            assert_eq!(resolve(&config, &service.name, &key.real()), Ok(key));
        }
    }
}

#[test]
fn errors_name_what_there_is() {
    let mut config = sample();
    let error = |config: &Config, service, real| resolve(config, service, real).unwrap_err().to_string();
    assert_eq!(
        error(&config, "wbe", "10.0.0.1"),
        r#"there is no service "wbe"; did you mean web? known: web, app, any"#
    );
    assert_eq!(
        error(&config, "database", "10.0.0.1"),
        r#"there is no service "database"; known: web, app, any"#
    );
    for text in ["", "web1", "10.0.0", "10.0.0.1:", "10.0.0.1:70000", "[10.0.0.1", "[2001:db8::1]8080"] {
        assert!(matches!(resolve(&config, "web", text), Err(ResolveError::NotAnAddress { .. })), "{text}");
    }
    assert_eq!(
        error(&config, "web", "10.0.0.12"),
        r#"service "web" has no real server 10.0.0.12; did you mean 10.0.0.1? known: 10.0.0.1, 10.0.0.2, 10.0.0.3"#
    );
    assert_eq!(
        error(&config, "web", "10.0.0.1:80"),
        r#"service "web" has no real server 10.0.0.1:80; did you mean 10.0.0.1? known: 10.0.0.1, 10.0.0.2, 10.0.0.3"#
    );
    assert_eq!(
        error(&config, "app", "10.0.0.1"),
        concat!(
            r#"service "app" has several real servers 10.0.0.1, so name the port; "#,
            "known: 10.0.0.1:8080, 10.0.0.1:8081"
        )
    );
    config.services[2].reals = (1..=20).map(|i| real(&format!("10.0.0.{i}"), None, 1)).collect();
    assert!(error(&config, "any", "192.0.2.1").ends_with(" and 12 more"));
    config.services[2].reals.clear();
    assert_eq!(
        error(&config, "any", "192.0.2.1"),
        r#"service "any" has no real server 192.0.2.1; there is none at all"#
    );
    config.services.clear();
    assert_eq!(error(&config, "any", "192.0.2.1"), r#"there is no service "any"; there is none at all"#);
}

#[test]
#[ignore = "measures; run with --release --nocapture"]
fn ten_thousand_real_servers() {
    let name = |i: usize| format!("10.{}.{}.{}", i / 65_536, i / 256 % 256, i % 256);
    let reals = |s: usize| (0..10).map(|r| real(&name(s * 10 + r), None, 10)).collect();
    let config =
        config((0..1000).map(|s| service(&format!("service-{s}"), Scheduler::Mh, &[80], reals(s))).collect());
    let hop = NextHop { mac: [2; 6], source_mac: [4; 6], ifindex: 3 };
    let hops: NextHops = (0..10_000).map(|i| (address(&name(i)), hop)).collect();
    let mut overrides = Overrides::default();
    (0..1000).for_each(|s| _ = overrides.set(key(&format!("service-{s}"), &name(s * 10), None), 0));
    let start = std::time::Instant::now();
    let desired = desired(&config, &overrides, &hops);
    println!("{:?} for {} services", start.elapsed(), desired.services.len());
}

/// A service of three real servers that are watched.
fn watched(policy: HealthPolicy) -> Config {
    let check = CheckPlan {
        check: healthcheck::Check::Ping,
        port: None,
        via: Via::Real,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        limits: healthcheck::Limits { rise: 2, fall: 3 },
        assume: Assume::Down,
    };
    let reals = (1..=3).map(|last| real(&format!("10.0.0.{last}"), None, 10)).collect();
    let mut web = service("web", Scheduler::Wrr, &[80], reals);
    web.health = HealthPolicy { checks: vec![check], ..policy };
    config(vec![web])
}

fn standings(states: &[State]) -> Standings {
    let one = |(i, state): (usize, &State)| {
        let key = key("web", &format!("10.0.0.{}", i + 1), None);
        (key, Standing { state: *state, back: None, weight: None, maintenance: false, suspect: false })
    };
    states.iter().enumerate().map(one).collect()
}

/// Weight, and whether it is out, of each real server (and of the fallback), as things stand.
fn parts(config: &Config, standings: &Standings, serving: &HashMap<String, Serving>) -> Vec<(u16, bool)> {
    let health = Health { standings, serving, now: Instant::now() };
    let desired = super::desired(config, &Overrides::default(), health, &NextHops::new());
    desired.services[0].reals.iter().map(|real| (real.weight, real.out)).collect()
}

#[test]
fn who_is_not_up_is_out_or_takes_nothing_new() {
    use crate::model::OnDown;
    let states = standings(&[State::Up, State::Down, State::Unknown]);
    for (on_down, expected) in [
        (OnDown::Reset, [(10, false), (0, true), (0, true)]),
        (OnDown::Reschedule, [(10, false), (0, true), (0, true)]),
        (OnDown::Keep, [(10, false), (0, false), (0, false)]),
    ] {
        let config = watched(HealthPolicy { on_down, ..HealthPolicy::default() });
        assert_eq!(parts(&config, &states, &HashMap::new()), expected, "{on_down:?}");
        let health = Health { standings: &states, serving: &HashMap::new(), now: Instant::now() };
        let service = &super::desired(&config, &Overrides::default(), health, &NextHops::new()).services[0];
        assert_eq!(service.reset, on_down == OnDown::Reset);
    }
}

#[test]
fn an_operators_weight_stays_on_top_of_what_checks_say() {
    let config = watched(HealthPolicy::default());
    let mut states = standings(&[State::Up, State::Up, State::Down]);
    states.get_mut(&key("web", "10.0.0.1", None)).unwrap().weight = Some(7);
    states.get_mut(&key("web", "10.0.0.2", None)).unwrap().weight = Some(7);
    let mut overrides = Overrides::default();
    overrides.set(key("web", "10.0.0.2", None), 0);
    overrides.set(key("web", "10.0.0.3", None), 5);
    let health = Health { standings: &states, serving: &HashMap::new(), now: Instant::now() };
    let desired = super::desired(&config, &overrides, health, &NextHops::new());
    assert_eq!(weights(&desired, 0), [7, 0, 0], "a weight does not make a dead one alive");
}

#[test]
fn the_fallback_serves_below_the_quorum_and_until_well_above() {
    let fallback = Some(Fallback::Real { address: address("10.0.0.9"), port: None });
    let config = watched(HealthPolicy { quorum: 2, hysteresis: 1, fallback, ..HealthPolicy::default() });
    let mut before = HashMap::new();
    let mut steps = Vec::new();
    for up in [3, 2, 1, 2, 3, 2] {
        let states: Vec<State> = (0..3).map(|i| if i < up { State::Up } else { State::Down }).collect();
        let states = standings(&states);
        before = serving(&config, &Overrides::default(), &states, &before);
        let weights: Vec<u16> =
            parts(&config, &states, &before).into_iter().map(|(weight, _)| weight).collect();
        steps.push((before["web"].fallback, weights[0], weights[3]));
    }
    assert_eq!(
        steps,
        [(false, 10, 0), (false, 10, 0), (true, 0, 1), (true, 0, 1), (false, 10, 0), (false, 10, 0)]
    );
}

#[test]
fn a_local_fallback_gives_the_service_to_the_kernel() {
    let config = watched(HealthPolicy { fallback: Some(Fallback::Local), ..HealthPolicy::default() });
    let states = standings(&[State::Down; 3]);
    let before = serving(&config, &Overrides::default(), &states, &HashMap::new());
    let health = Health { standings: &states, serving: &before, now: Instant::now() };
    assert!(super::desired(&config, &Overrides::default(), health, &NextHops::new()).services[0].local);
}

#[test]
fn nobody_is_taken_out_when_too_many_would_be() {
    let config = watched(HealthPolicy { panic_threshold: Some(50), ..HealthPolicy::default() });
    for (down, expected) in [(1, [(10, false), (10, false), (0, true)]), (2, [(10, false); 3])] {
        let states: Vec<State> = (0..3).map(|i| if i < 3 - down { State::Up } else { State::Down }).collect();
        let states = standings(&states);
        let serving = serving(&config, &Overrides::default(), &states, &HashMap::new());
        assert_eq!(parts(&config, &states, &serving), expected, "{down} down");
    }
    let unknown = standings(&[State::Unknown; 3]);
    let serving = serving(&config, &Overrides::default(), &unknown, &HashMap::new());
    assert_eq!(parts(&config, &unknown, &serving), [(0, true); 3], "who was never up is not let in by panic");
}

#[test]
fn panic_lets_nobody_out_of_maintenance_and_gives_way_to_a_fallback() {
    let fallback = Some(Fallback::Local);
    for (fallback, panics) in [(None, true), (fallback, false)] {
        let config = watched(HealthPolicy { panic_threshold: Some(50), fallback, ..HealthPolicy::default() });
        let mut states = standings(&[State::Down; 3]);
        states.get_mut(&key("web", "10.0.0.1", None)).unwrap().maintenance = true;
        let serving = serving(&config, &Overrides::default(), &states, &HashMap::new());
        assert_eq!((serving["web"].panic, serving["web"].fallback), (panics, !panics));
        if panics {
            assert_eq!(parts(&config, &states, &serving), [(0, true), (10, false), (10, false)]);
        }
    }
}

#[test]
fn panic_comes_before_the_first_is_out_where_all_fail_together() {
    let config = watched(HealthPolicy { panic_threshold: Some(50), ..HealthPolicy::default() });
    let mut states = standings(&[State::Down, State::Up, State::Up]);
    for last in 2..=3 {
        states.get_mut(&key("web", &format!("10.0.0.{last}"), None)).unwrap().suspect = true;
    }
    let serving = serving(&config, &Overrides::default(), &states, &HashMap::new());
    assert_eq!(parts(&config, &states, &serving), [(10, false); 3]);
}

#[test]
fn the_fallback_waits_for_first_verdicts() {
    let config = watched(HealthPolicy { fallback: Some(Fallback::Local), ..HealthPolicy::default() });
    let none = HashMap::new();
    for (states, falls) in [
        ([State::Unknown, State::Down, State::Down], false),
        ([State::Unknown; 3], false),
        ([State::Down; 3], true),
    ] {
        let serving = serving(&config, &Overrides::default(), &standings(&states), &none);
        assert_eq!(serving["web"].fallback, falls, "{states:?}");
    }
}

#[test]
fn a_slow_start_grows_in_steps() {
    let config = watched(HealthPolicy { slow_start: Duration::from_secs(30), ..HealthPolicy::default() });
    let start = Instant::now();
    let mut states = standings(&[State::Up; 3]);
    states.get_mut(&key("web", "10.0.0.1", None)).unwrap().back = Some(start);
    let at = |seconds| {
        let now = start + Duration::from_secs(seconds);
        let health = Health { standings: &states, serving: &HashMap::new(), now };
        let desired = super::desired(&config, &Overrides::default(), health, &NextHops::new());
        (weights(&desired, 0), next_step(&config, &states, now).map(|step| (step - start).as_secs()))
    };
    assert_eq!(at(0), (vec![100, 1000, 1000], Some(3)));
    assert_eq!(at(3), (vec![200, 1000, 1000], Some(6)));
    assert_eq!(at(15), (vec![600, 1000, 1000], Some(18)));
    assert_eq!(at(30), (vec![10, 10, 10], None));
}
