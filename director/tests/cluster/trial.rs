//! One trial: a while in which everything may go wrong, a while in which nothing does, and then one thing that does.

use std::time::Duration;

use director::heartbeat::message::Role;
use director::model::heartbeat::Failback;

use crate::host::{Real, Stage};
use crate::plan::Plan;
use crate::random::Random;
use crate::world::World;

/// Makes the trial of a seed. What failed, and with `told` the story.
pub fn run(seed: u64, told: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    let about = plan.describe();
    let mut world = World::new(plan, random, told);
    let result = trial(&mut world);
    result.map_err(|what| format!("seed {seed}: {what}\n  {about}\n{}", world.story()))
}

fn trial(world: &mut World) -> Result<(), String> {
    if world.random.percent(70) {
        rough(world)?;
    }
    calm(world)?;
    match world.random.below(3) {
        0 => hand_over(world),
        1 => death(world),
        _ => Ok(()),
    }
}

/// Everything may go wrong.
fn rough(world: &mut World) -> Result<(), String> {
    let dead_after = world.plan.heartbeat.dead_after;
    let often = world.random.pick(&[4, 2, 1]);
    for _ in 0..world.random.below(30) {
        let wait = world.random.between(Duration::ZERO, dead_after * 2 / often);
        world.run(wait)?;
        trouble(world);
    }
    Ok(())
}

fn trouble(world: &mut World) {
    let dead_after = world.plan.heartbeat.dead_after;
    let host = world.random.below(world.hosts.len());
    let span = match world.random.below(3) {
        // About as long as promises last.
        0 => world.random.between(dead_after * 3 / 4, dead_after * 5 / 4),
        _ => world.random.between(Duration::ZERO, dead_after * 3),
    };
    match world.random.below(18) {
        0 | 1 => world.pause(host, span, Stage::Waiting),
        2 => world.hosts[host].trip = Some((world.random.pick(&[Stage::Deciding, Stage::Renewing]), span)),
        3 => {
            let power = world.random.percent(50);
            world.kill(host, power, Some(span));
        }
        4 => {
            // So fast that its leases still run.
            world.kill(host, false, Some(dead_after / 16));
        }
        5 => cut_one(world, host),
        6 | 7 => partition(world),
        8 | 9 => {
            world.tell(|_| "all links work again".to_owned());
            world.network.cut.iter_mut().flatten().flatten().for_each(|cut| *cut = false);
            world.network.loss = 0;
        }
        10 => world.network.loss = world.random.pick(&[0, 5, 30, 70]),
        11 => world.network.delay = world.random.pick(&[world.plan.delay, dead_after / 2, dead_after * 2]),
        12 => world.network.twice = world.random.pick(&[0, 10, 50]),
        13 => facts(world, host),
        14 => order(world, host),
        15 | 16 => (0..1 + world.random.below(40)).for_each(|_| world.replay()),
        _ => neighbours(world, host),
    }
}

fn cut_one(world: &mut World, host: usize) {
    let to = world.random.below(world.hosts.len());
    let link = world.random.below(world.plan.links);
    let all = world.random.percent(50);
    world.tell(|world| {
        format!(
            "{} is no longer heard by {} (all links: {all})",
            world.hosts[host].name, world.hosts[to].name
        )
    });
    for (i, cut) in world.network.cut[host][to].iter_mut().enumerate() {
        *cut |= all || i == link;
    }
}

fn partition(world: &mut World) {
    let side: Vec<bool> = world.hosts.iter().map(|_| world.random.percent(50)).collect();
    world.tell(|_| format!("a partition: {side:?}"));
    for from in 0..side.len() {
        for to in 0..side.len() {
            world.network.cut[from][to].iter_mut().for_each(|cut| *cut |= side[from] != side[to]);
        }
    }
}

fn facts(world: &mut World, host: usize) {
    let witnesses = world.random.below(world.plan.heartbeat.ping.len() + 1) as u8;
    let unable = world.random.percent(30);
    let services = world.random.below(4) as u16;
    let group = world.random.below(world.plan.heartbeat.groups.len());
    world.tell(|world| {
        format!("{}: {witnesses} witnesses, {services} services, unable: {unable}", world.hosts[host].name)
    });
    let this = &mut world.hosts[host];
    this.facts.witnesses = witnesses;
    let of_group = &mut this.facts.groups[group].1;
    (of_group.services, of_group.unable) = (services, unable.then(|| "a link is down".to_owned()));
    if let Some(machine) = this.machine.as_mut().filter(|_| this.paused.is_none()) {
        machine.know(&this.facts);
    }
    world.step(host);
}

/// An operator's order.
fn order(world: &mut World, host: usize) {
    if !world.hosts[host].runs() {
        return;
    }
    let own = world.hosts[host].clock.at(world.now);
    let what = world.random.below(4);
    let group = world.random.below(world.plan.heartbeat.groups.len());
    let group = world.plan.heartbeat.groups[group].name.clone();
    let end = world.now + (world.plan.heartbeat.dead_after * 3).as_nanos() as Real;
    let this = &mut world.hosts[host];
    let Some(machine) = &mut this.machine else { return };
    let word = match what {
        0 => {
            let given = machine.node_mut().hand_over(own, &group, None);
            if let Ok((_, moved)) = given {
                world.note(host, &[moved]);
            }
            "hand over"
        }
        1 => {
            let _ = machine.node_mut().hold(own, true);
            "hold"
        }
        2 => {
            let _ = machine.node_mut().hold(own, false);
            "hold no more"
        }
        _ => {
            machine.node_mut().leave();
            this.leaves = Some(end);
            "leave"
        }
    };
    world.tell(|world| format!("{} is told: {word}", world.hosts[host].name));
    world.step(host);
}

fn neighbours(world: &mut World, host: usize) {
    let known: Vec<_> = (0..world.random.below(100) as u8)
        .map(|i| director::heartbeat::message::Neighbour {
            address: [10, 0, 0, i].into(),
            mac: [2, 0, 0, 0, 0, i],
        })
        .collect();
    if let Some(machine) = world.hosts[host].machine.as_mut() {
        machine.tell_neighbours(&known);
    }
}

/// Nothing is wrong from now on: each group has an owner soon, and keeps it.
fn calm(world: &mut World) -> Result<(), String> {
    world.heal();
    world.watch.well = Some(world.now);
    let plan = &world.plan.heartbeat;
    let (interval, dead_after, delay) = (plan.interval, plan.dead_after, world.plan.delay);
    let hop = interval * 106 / 100 + delay;
    let groups = plan.groups.len() as u32;
    // Those who start listen; promises given before end; an heir that does not take a group is waited for.
    let taken = (dead_after.max(plan.initial_wait) + dead_after.max(interval * 4)) * 106 / 100
        + hop * (8 + 2 * groups);
    let failback = plan.groups.iter().filter_map(|group| match group.failback {
        Failback::Never => None,
        Failback::After(delay) => Some(delay),
    });
    let mut moves = (plan.settle + failback.max().unwrap_or_default() + hop * 6) * 2;
    if let Some(balance) = plan.balance {
        // What another one has given is said, and counts, for as long as its silence would.
        moves += (balance.mature + (balance.every + dead_after + hop * 4) * (groups + 2)) * 106 / 100;
    }
    let quiet = dead_after * 2 + interval * 10;
    world.run(taken)?;
    for group in 0..groups as usize {
        let (owners, yields) = (world.who(group, Role::Active), world.who(group, Role::Yielding));
        if owners.len() > 1 || owners.len() + yields.len() == 0 {
            return Err(format!(
                "liveness: g{group} is held by {owners:?}, given away by {yields:?}, {taken:?} after all was well"
            ));
        }
    }
    world.run(moves)?;
    let owners = owners(world)?;
    world.watch.settled(&owners)?;
    world.watch.quiet = true;
    world.run(quiet)?;
    world.watch.quiet = false;
    let beats = (quiet.as_nanos() * 106 / 100 / interval.as_nanos()) as u64 + 2;
    if let Some(sent) = world.watch.most_sent().filter(|sent| *sent > beats) {
        return Err(format!(
            "noise: a director has sent {sent} messages in {quiet:?}, and {beats} are enough"
        ));
    }
    if world.plan.even() && !world.watch.reluctant() {
        let load = |host: usize| owners.iter().filter(|owner| **owner == host).count();
        let loads: Vec<usize> = (0..world.hosts.len()).map(load).collect();
        if loads.iter().max() > loads.iter().min().map(|least| least + 1).as_ref() {
            return Err(format!("balance: the directors hold {loads:?} groups"));
        }
    }
    Ok(())
}

/// Who holds each group, if everybody else is standby.
fn owners(world: &World) -> Result<Vec<usize>, String> {
    let owner = |group: usize| {
        let roles: Vec<_> = (0..world.hosts.len()).map(|host| world.hosts[host].role(group)).collect();
        let active: Vec<usize> = world.who(group, Role::Active);
        let rest = world.who(group, Role::Standby).len();
        match active[..] {
            [owner] if rest == world.hosts.len() - 1 => Ok(owner),
            _ => Err(format!(
                "liveness: the directors are {roles:?} for g{group}, and should be one owner and standbys"
            )),
        }
    };
    (0..world.plan.heartbeat.groups.len()).map(owner).collect()
}

/// An operator has a group handed over: there is a holder all the time, and then it is the one that was named.
fn hand_over(world: &mut World) -> Result<(), String> {
    let group = world.random.below(world.plan.heartbeat.groups.len());
    let owner = owners(world)?[group];
    let heir = (owner + 1 + world.random.below(world.hosts.len() - 1)) % world.hosts.len();
    let (name, to) = (format!("g{group}"), world.hosts[heir].name.clone());
    world.tell(|world| format!("{} is told to hand {name} over to {to}", world.hosts[owner].name));
    world.watch.held = Some(group);
    let own = world.hosts[owner].clock.at(world.now);
    let Some(machine) = &mut world.hosts[owner].machine else { return Ok(()) };
    let (_, moved) =
        machine.node_mut().hand_over(own, &name, Some(&to)).map_err(|error| format!("handover: {error}"))?;
    world.note(owner, &[moved]);
    world.step(owner);
    let hop = world.plan.delay + Duration::from_millis(1);
    let most = world.plan.services.iter().copied().max().unwrap_or_default();
    // The heir learns it; with a quorum it asks, and is answered; the owner learns it.
    let hops = if world.plan.majority() { 8 } else { 4 };
    let end = world.now + (hop * hops).as_nanos() as Real;
    while world.now < end {
        world.run(hop / 16)?;
        if world.hosts[owner].role(group) == Some(Role::Standby) {
            world.watch.held = None;
            return match world.hosts[heir].role(group) {
                Some(Role::Active) => Ok(()),
                // The one that was named is not the one that is best off, and `settle` is short.
                Some(_) if world.plan.services[heir] < most => Ok(()),
                role => Err(format!("handover: {to} is {role:?} of {name} after it was given that")),
            };
        }
    }
    Err(format!("handover: {name} was not taken by {to} in time"))
}

/// An owner dies: another one takes its groups in time.
fn death(world: &mut World) -> Result<(), String> {
    let owners = owners(world)?;
    let dead = owners[world.random.below(owners.len())];
    let left = world.hosts.len() - 1;
    if world.plan.majority() && left < world.hosts.len() / 2 + 1 {
        return Ok(());
    }
    let plan = &world.plan.heartbeat;
    let hop = (plan.interval + world.plan.delay) * 106 / 100;
    let more = if plan.balance.is_some() { plan.groups.len() as u32 } else { 0 };
    let round_trip = if world.plan.majority() { world.plan.delay * 2 } else { Duration::ZERO };
    let span =
        (plan.dead_after + plan.interval * 2) * 106 / 100 + world.plan.delay * 2 + round_trip + hop * more;
    world.kill(dead, true, None);
    world.run(span)?;
    for (group, _) in owners.iter().enumerate().filter(|(_, owner)| **owner == dead) {
        if world.who(group, Role::Active).len() + world.who(group, Role::Yielding).len() == 0 {
            return Err(format!("death: nobody has taken g{group} {span:?} after its owner died"));
        }
    }
    Ok(())
}
