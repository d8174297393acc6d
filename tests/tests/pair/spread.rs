//! Groups spread over directors (`balance`): how many each holds, and how they move.

use std::time::{Duration, Instant};

use crate::failover::cost_nothing;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::lab::{Cluster, Config, DIRECT_VIPS, GATEWAY_VIPS, MORE_VIPS, NAT_VIPS};
use tests::pair::{Pair, group_of, with_vip};
use tests::wait;

const GROUPS: [&str; 6] = ["g1", "g2", "g3", "g4", "g5", "g6"];
const PATIENCE: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_secs(1);
const MATURE: Duration = Duration::from_secs(2);
/// Nothing here depends on how fast a death is found out: a loaded machine must not be taken for a dead one.
const BALANCE: &str = "balance: { moves: 1, every: 1s, mature: 2s }";

fn cluster(cluster: Cluster) -> Cluster {
    cluster.dead_after("1s").line(BALANCE)
}

/// One VIP in each group, but for the last, whose VIPs need each other: NAT's answers come by the gateway.
fn six_groups(config: Config) -> Config {
    let direct = DIRECT_VIPS.into_iter().zip(GROUPS);
    let config = direct.fold(config, |config, (vip, group)| config.group(vip, group));
    let nat = NAT_VIPS.into_iter().chain(GATEWAY_VIPS);
    let config = nat.fold(config, |config, vip| config.group(vip, GROUPS[5]));
    let more = MORE_VIPS.into_iter().zip(&GROUPS[2..]);
    more.fold(config, |config, (vip, group)| with_vip(config, vip, group))
}

/// The VIPs that are probed: one of each group.
fn vips() -> impl Iterator<Item = &'static str> {
    DIRECT_VIPS.into_iter().chain(MORE_VIPS).chain([NAT_VIPS[0]])
}

/// Who holds each of the groups, where exactly one does.
fn owners(pair: &Pair, directors: &[u8]) -> Option<Vec<u8>> {
    let status: Vec<_> =
        directors.iter().map(|number| Some((*number, pair.status(*number)?))).collect::<Option<_>>()?;
    let owner = |group: &&str| {
        let holds = |status: &Value| group_of(status, group).is_some_and(|group| group["role"] == "active");
        let holders: Vec<u8> =
            status.iter().filter(|(_, status)| holds(status)).map(|(number, _)| *number).collect();
        if let [one] = holders[..] { Some(one) } else { None }
    };
    GROUPS.iter().map(owner).collect()
}

fn loads(owners: &[u8], directors: &[u8]) -> Vec<usize> {
    directors.iter().map(|number| owners.iter().filter(|owner| *owner == number).count()).collect()
}

/// Waits until these directors hold so many.
fn await_loads(pair: &Pair, directors: &[u8], wanted: &[usize]) -> Result<Vec<u8>> {
    let waited = wait::until(&format!("{directors:?} to hold {wanted:?}"), PATIENCE, || {
        let owners = owners(pair, directors);
        Ok(owners.filter(|owners| loads(owners, directors) == wanted))
    });
    waited.with_context(|| pair.story())
}

/// When groups were given away for balance's sake, in the order of time.
fn moves(pair: &Pair, directors: &[u8]) -> Result<Vec<Duration>> {
    let mut moves = Vec::new();
    for number in directors {
        for line in pair.cli(*number, &["events", "--json"])?.lines() {
            let event: Value = serde_json::from_str(line)?;
            if event["to"] == "yielding" && event["reason"].to_string().contains("holds fewer groups") {
                moves.push(time_of_day(event["time"].as_str().context("no time")?)?);
            }
        }
    }
    moves.sort();
    Ok(moves)
}

/// The time in `2026-01-31T12:34:56.789Z`.
fn time_of_day(stamp: &str) -> Result<Duration> {
    let clock = stamp.split_once('T').context("no time")?.1.trim_end_matches('Z');
    let parts: Vec<f64> = clock.split(':').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]))
}

#[test]
fn three_directors_share_six_groups_evenly_through_a_death_and_a_return() -> Result<()> {
    let mut pair = Pair::start(3, cluster, six_groups)?;
    await_loads(&pair, &[1, 2, 3], &[2, 2, 2])?;
    pair.director(3).kill9();
    await_loads(&pair, &[1, 2], &[3, 3])?;
    let before = moves(&pair, &[1, 2])?.len();
    let probers = vips().map(|vip| Ok((vip, pair.probe(vip)?))).collect::<Result<Vec<_>>>()?;
    let back = Instant::now();
    pair.director(3).run()?;
    await_loads(&pair, &[1, 2, 3], &[2, 2, 2])?;
    ensure!(back.elapsed() >= MATURE, "after {:?}", back.elapsed());
    pair.await_steady()?;
    let seen =
        probers.into_iter().map(|(vip, prober)| Ok((vip, prober.stop()?))).collect::<Result<Vec<_>>>()?;
    cost_nothing(&pair, &seen)?;
    let moves = moves(&pair, &[1, 2])?;
    let moves = &moves[before..];
    ensure!(moves.len() == 2, "{moves:?}: no more than needed\n{}", pair.story());
    // Messages take their time, and stamps are rounded.
    let slack = Duration::from_millis(100);
    ensure!(moves[1] - moves[0] + slack >= EVERY, "two in a round: {moves:?}\n{}", pair.story());
    // And then there is quiet.
    let owners_then = owners(&pair, &[1, 2, 3]);
    std::thread::sleep(2 * EVERY);
    ensure!(owners(&pair, &[1, 2, 3]) == owners_then, "they go on to move\n{}", pair.story());
    Ok(())
}

#[test]
fn a_group_is_not_moved_from_whom_it_prefers() -> Result<()> {
    let preferred = GROUPS[..4].iter().map(|group| format!("  - {{ name: {group}, prefer: [lb2] }}\n"));
    let lines = format!("groups:\n{}", preferred.collect::<String>());
    let mut pair = Pair::start(3, |given| cluster(given).line(&lines), six_groups)?;
    let even = await_loads(&pair, &[1, 2, 3], &[1, 4, 1])?;
    ensure!(even[..4] == [2; 4], "{even:?}");
    // It dies, and its groups are spread. It returns, and loads are evened out with groups that prefer it.
    pair.director(2).kill9();
    await_loads(&pair, &[1, 3], &[3, 3])?;
    pair.director(2).run()?;
    await_loads(&pair, &[1, 2, 3], &[2, 2, 2])?;
    let owners = owners(&pair, &[1, 2, 3]).context("no owners")?;
    ensure!(owners[4..] == even[4..], "{owners:?} after {even:?}");
    Ok(())
}
