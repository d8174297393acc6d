//! One behaviour a test.

use super::*;

fn desired(services: &[DesiredService]) -> Desired {
    Desired { services: services.to_vec() }
}

#[test]
fn timeouts_round_up_and_stay_within_half_a_turn() {
    let units = units();
    assert_eq!(units.ticks(Duration::ZERO), 1);
    assert_eq!(units.ticks(Duration::from_millis(1024)), 1);
    assert_eq!(units.ticks(Duration::from_millis(1025)), 2);
    assert_eq!(units.ticks(Duration::from_secs(900)), 879);
    assert_eq!(units.ticks(Duration::from_secs(1 << 40)), Units::MOST_TICKS);
}

#[test]
fn an_empty_data_plane_gets_everything_before_the_keys() {
    let mut world = World::new(units());
    let plan = world.settle(&desired(&[service("web", 10, &[80, 443], vec![real(1, 1), real(2, 2)])]));
    let order: Vec<&str> = plan
        .ops
        .iter()
        .map(|op| match op {
            MapOp::PutDevice { .. } => "device",
            MapOp::WriteBackend { .. } => "backend",
            MapOp::WriteSlots { .. } => "slots",
            MapOp::WriteService { .. } => "service",
            MapOp::WriteFilter(_) => "filter",
            MapOp::PutKey { .. } => "key",
            _ => "removal",
        })
        .collect();
    let expected = ["device", "device", "filter", "backend", "backend", "slots", "service", "key", "key"];
    assert_eq!(order, expected);
}

#[test]
fn a_record_says_what_the_service_says() {
    let mut web = service("web", 10, &[80], vec![DesiredReal { port: Some(8080), ..real(1, 5) }]);
    web.forward = Forward::Nat;
    web.scheduler = Scheduler::Mh;
    web.unserved = Unserved::Reject;
    web.sloppy = true;
    web.persistence = Some(crate::model::Persistence { timeout: Duration::from_secs(600), prefix: 24 });
    let mut world = World::new(units());
    world.settle(&desired(&[web]));
    let record = &world.observed.services[&1];
    assert_eq!((record.rule, record.proto), (abi::index_rule::FLOW_HASH, abi::proto::TCP));
    assert_eq!(record.flags, 15);
    assert_eq!(record.persist_prefix, 120);
    assert_eq!(
        world.observed.backends[&1].flags & abi::backend_flag::PLAIN,
        0,
        "its flows refresh templates"
    );
    assert_eq!(record.persist_ticks, 586);
    assert_eq!((record.syn_ticks, record.close_ticks), (59, 10));
    assert_eq!(table_range(record.table).len(), 61);
    let backend = &world.observed.backends[&1];
    assert_eq!((backend.port_be, backend.vport_be), (8080u16.to_be(), 80u16.to_be()));
    assert_eq!((backend.forward, backend.weight, backend.service), (abi::forward::NAT, 5, 1));
    let set: u32 = world.observed.filter.iter().map(|word| word.count_ones()).sum();
    assert_eq!(set, 2, "the VIP and the real server behind NAT");
}

#[test]
fn a_weight_rewrites_its_backend_and_its_services_table() {
    let mut world = World::new(units());
    let web = service("web", 10, &[80], vec![real(1, 1), real(2, 1)]);
    let dns = service("dns", 11, &[53], vec![real(1, 1), real(2, 1)]);
    world.settle(&desired(&[web.clone(), dns.clone()]));
    let mut heavier = web;
    heavier.reals[1].weight = 3;
    let plan = world.settle(&desired(&[heavier, dns]));
    assert!(matches!(
        plan.ops.as_slice(),
        [MapOp::WriteBackend { id: 2, .. }, MapOp::WriteSlots { .. }, MapOp::WriteService { id: 1, .. }]
    ));
}

#[test]
fn a_drained_backend_closes_after_the_table_turned_away_from_it() {
    let mut world = World::new(units());
    let mut web = service("web", 10, &[80], vec![real(1, 1), real(2, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    web.reals[0].weight = 0;
    let plan = world.settle(&desired(&[web]));
    assert!(matches!(
        plan.ops.as_slice(),
        [MapOp::WriteSlots { .. }, MapOp::WriteService { .. }, MapOp::WriteBackend { id: 1, .. }]
    ));
}

#[test]
fn a_real_server_that_is_out_has_no_backend_until_it_is_back() {
    let mut world = World::new(units());
    let mut web = service("web", 10, &[80], vec![real(1, 1), real(2, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    web.reals[0].out = true;
    let plan = world.settle(&desired(std::slice::from_ref(&web)));
    assert_eq!(plan.placements[0].as_ref().unwrap().backends, [None, Some(2)]);
    assert_eq!(world.observed.backends.keys().copied().collect::<Vec<_>>(), [2], "its flows end");
    web.reals[0].out = false;
    let plan = world.settle(&desired(&[web]));
    assert!(plan.placements[0].as_ref().unwrap().backends.iter().all(Option::is_some));
}

#[test]
fn a_local_service_leaves_its_packets_to_the_kernel() {
    let mut world = World::new(units());
    let mut web = service("web", 10, &[80], vec![real(1, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    web.local = true;
    world.settle(&desired(std::slice::from_ref(&web)));
    assert!(world.observed.keys.is_empty());
    web.local = false;
    world.settle(&desired(&[web]));
    assert_eq!(world.observed.keys.len(), 1);
}

#[test]
fn a_lost_next_hop_keeps_its_last_mac_without_use() {
    let mut world = World::new(units());
    let mut web = service("web", 10, &[80], vec![real(1, 1), real(2, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    web.reals[0].hop = None;
    world.settle(&desired(std::slice::from_ref(&web)));
    let backend = &world.observed.backends[&1];
    let flags = abi::backend_flag::VALID | abi::backend_flag::PLAIN;
    assert_eq!((backend.mac, backend.flags), (hop(1).mac, flags));
    assert_eq!(world.observed.devices, BTreeSet::from([hop(2).ifindex]), "its interface may be gone");
    web.reals[1].hop = None;
    world.settle(&desired(&[web]));
    assert_eq!(world.observed.services[&1].table, 0);
}

#[test]
fn a_renamed_service_and_one_with_other_ports_keep_their_ids() {
    let mut world = World::new(units());
    let web = service("web", 10, &[80, 443], vec![real(1, 1)]);
    let mail = service("mail", 10, &[25], vec![real(1, 1)]);
    world.settle(&desired(&[web.clone(), mail.clone()]));
    // Listed the other way round; one renamed, one with other ports altogether.
    let renamed = DesiredService { name: "site".to_owned(), ports: Ports::List(vec![443, 8443]), ..web };
    let moved = DesiredService { ports: Ports::List(vec![587]), ..mail };
    let plan = world.settle(&desired(&[moved, renamed]));
    assert_eq!(plan.placements[0].as_ref().map(|p| p.id), Some(2));
    assert_eq!(plan.placements[1].as_ref().map(|p| p.id), Some(1));
    assert!(!plan.ops.iter().any(|op| matches!(op, MapOp::WriteSlots { .. } | MapOp::WriteBackend { .. })));
}

#[test]
fn of_services_that_trade_ports_each_keeps_its_name() {
    let mut world = World::new(units());
    let a = service("a", 10, &[1, 2], vec![real(1, 1)]);
    let b = service("b", 10, &[3, 4], vec![real(2, 1)]);
    world.settle(&desired(&[a.clone(), b.clone()]));
    let a = DesiredService { ports: Ports::List(vec![2, 3]), ..a };
    let b = DesiredService { ports: Ports::List(vec![1, 4]), ..b };
    let plan = world.settle(&desired(&[b, a]));
    assert_eq!(plan.placements.iter().flatten().map(|p| p.id).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_removed_backends_id_waits_for_its_flows() {
    let mut world = World::new(units());
    let web = service("web", 10, &[80], vec![real(1, 1), real(2, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    world.settle(&desired(&[DesiredService { reals: vec![real(2, 1)], ..web.clone() }]));
    assert_eq!(world.observed.quarantined_backends, BTreeSet::from([1]));
    world.settle(&desired(&[DesiredService { reals: vec![real(2, 1), real(3, 1)], ..web.clone() }]));
    assert!(world.observed.backends.contains_key(&3));
    world.observed.quarantined_backends.clear();
    world.settle(&desired(&[DesiredService { reals: vec![real(2, 1), real(3, 1), real(4, 1)], ..web }]));
    assert_eq!(world.observed.backends.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_service_going_to_any_port_is_never_without_a_key() {
    let mut world = World::new(units());
    let web = service("web", 10, &[80], vec![real(1, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    let plan = world.settle(&desired(&[DesiredService { ports: Ports::Any, ..web }]));
    let put = plan.ops.iter().position(|op| matches!(op, MapOp::PutKey { .. }));
    let delete = plan.ops.iter().position(|op| matches!(op, MapOp::DeleteKey { .. }));
    assert!(put.unwrap() < delete.unwrap());
}

#[test]
fn a_full_key_map_is_emptied_first() {
    let mut units = units();
    units.limits.keys = 2;
    let mut world = World::new(units);
    let web = service("web", 10, &[80, 81], vec![real(1, 1)]);
    world.settle(&desired(std::slice::from_ref(&web)));
    let other = DesiredService { ports: Ports::List(vec![81, 82]), ..web.clone() };
    let plan = world.settle(&desired(&[other]));
    let put = plan.ops.iter().position(|op| matches!(op, MapOp::PutKey { .. }));
    let delete = plan.ops.iter().position(|op| matches!(op, MapOp::DeleteKey { .. }));
    assert!(delete.unwrap() < put.unwrap());
    let plan = world.plan(&desired(&[DesiredService { ports: Ports::List(vec![81, 82, 83]), ..web }]));
    assert_eq!(plan.problems, [Problem::NoKeys { service: "web".to_owned(), missing: 1 }]);
}

#[test]
fn attached_interfaces_may_be_redirected_to() {
    let mut world = World::new(units());
    world.observed.attached = BTreeSet::from([9]);
    world.settle(&desired(&[service("web", 10, &[80], vec![real(3, 1)])]));
    assert_eq!(world.observed.devices, BTreeSet::from([1, 9]));
    world.observed.attached.clear();
    world.settle(&desired(&[]));
    assert_eq!(world.observed.devices, BTreeSet::new());
}

#[test]
fn short_slots_give_a_coarser_table_until_there_is_room() {
    let mut units = units();
    units.limits.slots = 256;
    let mut world = World::new(units);
    let hashed = |name, vip| DesiredService {
        scheduler: Scheduler::Mh,
        table_size: 127,
        ..service(name, vip, &[80], vec![real(1, 1), real(2, 1)])
    };
    let (a, b, c) = (hashed("a", 10), hashed("b", 11), hashed("c", 12));
    world.settle(&desired(&[a.clone(), b.clone()]));

    // A third one finds nothing.
    let three = desired(&[a.clone(), b.clone(), c.clone()]);
    let plan = world.plan(&three);
    let nothing = Problem::NoSlots { service: "c".to_owned(), wanted: 127, fallback: Fallback::Nothing };
    assert_eq!(plan.problems, std::slice::from_ref(&nothing));
    world.apply(&plan);
    let plan = world.plan(&three);
    assert_eq!((plan.ops.len(), plan.problems.as_slice()), (0, std::slice::from_ref(&nothing)));

    // A weight that cannot be followed leaves the table as it was; a real server that leaves does not.
    let mut heavier = a.clone();
    heavier.reals[0].weight = 2;
    let plan = world.plan(&desired(&[heavier, b.clone()]));
    let old = Problem::NoSlots { service: "a".to_owned(), wanted: 127, fallback: Fallback::Old };
    assert_eq!(plan.problems, [old]);
    let mut smaller = a.clone();
    smaller.reals.pop();
    let without_one = desired(&[smaller, b, c]);
    world.apply(&world.plan(&without_one));
    // By now its range is free, and goes to the first in need; the other one takes what is left.
    let plan = world.plan(&without_one);
    world.apply(&plan);
    assert_eq!(plan.problems.len(), 1);

    // Room comes back, for the plan after the one that makes it: everyone gets what it should have.
    let alone = desired(&[a]);
    world.apply(&world.plan(&alone));
    world.settle(&alone);
}

#[test]
fn half_a_gap_holds_half_a_table() {
    let mut units = units();
    units.limits.slots = 192;
    let mut world = World::new(units);
    let hashed = |name, vip| DesiredService {
        scheduler: Scheduler::Mh,
        table_size: 127,
        ..service(name, vip, &[80], vec![real(1, 1), real(2, 1)])
    };
    let both = desired(&[hashed("a", 10), hashed("b", 11)]);
    for _ in 0..3 {
        let plan = world.plan(&both);
        world.apply(&plan);
        let coarser =
            Problem::NoSlots { service: "b".to_owned(), wanted: 127, fallback: Fallback::Smaller(61) };
        assert_eq!(plan.problems, [coarser]);
    }
    assert_eq!(world.plan(&both).ops, []);
    // The place of the one that leaves is free for the plan after.
    let alone = desired(&[hashed("b", 11)]);
    world.apply(&world.plan(&alone));
    let plan = world.settle(&alone);
    assert!(matches!(plan.ops.as_slice(), [MapOp::WriteSlots { offset: 0, .. }, MapOp::WriteService { .. }]));
}

#[test]
fn two_services_on_one_key_are_reported() {
    let both =
        desired(&[service("a", 10, &[80], vec![real(1, 1)]), service("b", 10, &[80], vec![real(1, 1)])]);
    let plan = World::new(units()).plan(&both);
    assert_eq!(plan.problems, [Problem::KeyTaken { service: "b".to_owned(), port: 80 }]);
}

#[test]
fn too_small_limits_are_reported() {
    let mut units = units();
    (units.limits.services, units.limits.reals) = (1, 2);
    let mut world = World::new(units);
    let reals = vec![real(1, 1), real(2, 1), real(3, 1)];
    let two = desired(&[service("a", 10, &[80], reals.clone()), service("b", 10, &[81], reals)]);
    let plan = world.plan(&two);
    world.apply(&plan);
    assert_eq!(plan.problems.len(), 2);
    assert_eq!(plan.placements[0], Some(Placement { id: 1, backends: vec![Some(1), Some(2), None] }));
    assert_eq!(plan.placements[1], None);
    assert_eq!(world.plan(&two).ops, []);
}

#[test]
fn a_thousand_services_of_ten() {
    let units = Units { tick: Duration::from_millis(1024), limits: Limits::default() };
    let mut world = World::new(units);
    let services = (0..1000u16)
        .map(|n| DesiredService {
            scheduler: Scheduler::Mh,
            table_size: 1021,
            ..service(&format!("s{n}"), (n % 250) as u8, &[1000 + n], (0..10).map(|r| real(r, 1)).collect())
        })
        .collect();
    let mut desired = Desired { services };
    let start = std::time::Instant::now();
    let plan = world.plan(&desired);
    println!("from nothing: {:?} for {} operations", start.elapsed(), plan.ops.len());
    plan.ops.iter().for_each(|op| world.step(op));
    let start = std::time::Instant::now();
    assert_eq!(world.plan(&desired).ops, []);
    println!("no change: {:?}", start.elapsed());
    desired.services[500].reals[3].weight = 7;
    assert_eq!(world.plan(&desired).ops.len(), 3);
}
