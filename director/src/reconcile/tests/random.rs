//! Random configurations one after another, and random damage in between.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Weight choices that make equal tables and all the kinds of change likely.
fn any_real() -> impl Strategy<Value = DesiredReal> {
    let port = prop_oneof![3 => Just(None), 1 => Just(Some(8080))];
    (1u8..6, port, select(vec![0u16, 1, 1, 3]), prop_oneof![1 => Just(None), 5 => (0u8..9).prop_map(Some)])
        .prop_map(|(last, port, weight, n)| DesiredReal { port, hop: n.map(hop), ..real(last, weight) })
}

fn any_service() -> impl Strategy<Value = DesiredService> {
    let ports = prop_oneof![1 => Just(vec![]), 6 => vec(1u16..8, 1..4)];
    let schedulers =
        vec![Scheduler::Rr, Scheduler::Wrr, Scheduler::Mh, Scheduler::Sh, Scheduler::Dh, Scheduler::Fo];
    (
        (0u8..3, any::<bool>(), ports),
        select(schedulers),
        any::<(bool, bool)>(),
        select(vec![37u32, 61]),
        vec(any_real(), 0..6),
    )
        .prop_map(|((vip, udp, ports), scheduler, (nat, sloppy), table_size, reals)| DesiredService {
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            forward: if nat { Forward::Nat } else { Forward::Direct },
            scheduler,
            sloppy,
            table_size,
            ..service("", vip, &ports, reals)
        })
}

/// A configuration as the checks would let it through: no key twice, no name twice, no real server twice in a service.
fn any_desired() -> impl Strategy<Value = Desired> {
    let names = Just(["a", "b", "c", "d", "e", "f", "g", "h"]).prop_shuffle();
    (vec(any_service(), 0..8), names).prop_map(|(mut services, names)| {
        let (mut taken, mut kept) = (HashSet::new(), Vec::new());
        for (mut service, name) in services.drain(..).zip(names) {
            service.name = name.to_owned();
            if let Ports::List(ports) = &mut service.ports {
                ports.sort_unstable();
                ports.dedup();
            }
            let mut reals = HashSet::new();
            service.reals.retain(|real| reals.insert((real.address, real.port)));
            if service_keys(&service).all(|key| taken.insert(key)) {
                kept.push(service);
            }
        }
        Desired { services: kept }
    })
}

/// Someone else's hand in the maps.
#[derive(Clone, Debug)]
enum Damage {
    Service(usize),
    Backend(usize),
    Key(usize),
    MoveKey(usize, u32),
    StrangeKey(u16),
    Filter(usize),
    Table(usize, u32, u32),
    Device(usize),
    Rename(usize),
    Mac(usize),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let n = 0usize..64;
    prop_oneof![
        n.clone().prop_map(Damage::Service),
        n.clone().prop_map(Damage::Backend),
        n.clone().prop_map(Damage::Key),
        (n.clone(), 0u32..10).prop_map(|(n, id)| Damage::MoveKey(n, id)),
        (1u16..20).prop_map(Damage::StrangeKey),
        n.clone().prop_map(Damage::Filter),
        (n.clone(), 0u32..20_000, 0u32..100).prop_map(|(n, offset, len)| Damage::Table(n, offset, len)),
        n.clone().prop_map(Damage::Device),
        n.clone().prop_map(Damage::Rename),
        n.prop_map(Damage::Mac),
    ]
}

fn nth<K: Copy + Ord>(keys: impl Iterator<Item = K>, n: usize) -> Option<K> {
    let mut keys: Vec<K> = keys.collect();
    keys.sort();
    (!keys.is_empty()).then(|| keys[n % keys.len()])
}

impl Damage {
    fn wreak(&self, o: &mut Observed) {
        let service = |o: &Observed, n| nth(o.services.keys().copied(), n);
        let backend = |o: &Observed, n| nth(o.backends.keys().copied(), n);
        let key = |o: &Observed, n| nth(o.keys.keys().copied(), n);
        match *self {
            Damage::Service(n) => drop(service(o, n).map(|id| o.services.remove(&id))),
            Damage::Backend(n) => drop(backend(o, n).map(|id| o.backends.remove(&id))),
            Damage::Key(n) => drop(key(o, n).map(|key| o.keys.remove(&key))),
            Damage::MoveKey(n, to) => drop(key(o, n).map(|key| o.keys.insert(key, to))),
            Damage::StrangeKey(port) => {
                let key =
                    abi::ServiceKey { addr: [7; 16], port_be: port.to_be(), proto: abi::proto::TCP, zero: 0 };
                o.keys.insert(key, 1);
            }
            Damage::Filter(n) => o.filter[n] = 0,
            Damage::Table(n, offset, len) => {
                if let Some(id) = service(o, n) {
                    // A table of another length or elsewhere: what cannot be right is built anew. (One within the array and clear
                    // of all others is taken at its word: contents are not read back.)
                    let others = o.services.iter().filter(|(other, _)| **other != id);
                    let end = offset + len;
                    let clear =
                        others.map(|(_, s)| table_range(s.table)).all(|r| end <= r.start || r.end <= offset);
                    if len == 0 || !clear || offset % abi::SLOTS_PER_LINE != 0 || end > units().limits.slots {
                        o.services.get_mut(&id).unwrap().table = u64::from(len) << 32 | u64::from(offset);
                    }
                }
            }
            Damage::Device(n) => drop(nth(o.devices.iter().copied(), n).map(|i| o.devices.remove(&i))),
            Damage::Rename(n) => drop(service(o, n).map(|id| o.services.get_mut(&id).unwrap().name_hash = 1)),
            Damage::Mac(n) => drop(backend(o, n).map(|id| o.backends.get_mut(&id).unwrap().mac = [1; 6])),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_follows_any_other(steps in vec((any_desired(), any::<bool>()), 1..5)) {
        let mut world = World::new(units());
        for (desired, swept) in steps {
            if swept {
                world.observed.quarantined_backends.clear();
            }
            world.settle(&desired);
        }
    }

    #[test]
    fn services_that_stay_as_they_were_are_left_alone(a in any_desired(), b in any_desired()) {
        let mut world = World::new(units());
        let before = world.settle(&a);
        // What `b` adds beside `a`.
        let mut both = a.clone();
        for service in b.services {
            let taken: HashSet<_> = both.services.iter().flat_map(service_keys).collect();
            let named = both.services.iter().any(|other| other.name == service.name);
            if !named && service_keys(&service).all(|key| !taken.contains(&key)) {
                both.services.push(service);
            }
        }
        let plan = world.settle(&both);
        prop_assert_eq!(&plan.placements[..a.services.len()], &before.placements[..]);
        for op in &plan.ops {
            let old = match op {
                MapOp::WriteBackend { id, .. } => before.placements.iter().flatten().any(|p| p.backends.contains(&Some(*id))),
                MapOp::WriteService { id, .. } => before.placements.iter().flatten().any(|p| p.id == *id),
                _ => false,
            };
            prop_assert!(!old, "{op:?}");
        }
    }

    #[test]
    fn damage_is_repaired(desired in any_desired(), damages in vec(any_damage(), 1..8)) {
        let mut world = World::new(units());
        world.settle(&desired);
        for damage in &damages {
            damage.wreak(&mut world.observed);
        }
        let plan = world.plan(&desired);
        prop_assert_eq!(&plan.problems, &[]);
        world.repair(&plan);
        world.check_holds(&desired, &plan);
        prop_assert_eq!(world.plan(&desired).ops, []);
    }

    #[test]
    fn short_of_everything_nothing_breaks(steps in vec(any_desired(), 1..6)) {
        let mut units = units();
        units.limits = Limits { flows: 16, services: 4, reals: 9, keys: 6, slots: 160 };
        let mut world = World::new(units);
        for desired in steps {
            for _ in 0..3 {
                let plan = world.plan(&desired);
                world.apply(&plan);
            }
            world.observed.quarantined_backends.clear();
        }
    }
}
