//! The chapter with two directors: what moves when, and what it costs the client.

use std::time::Duration;

use ::tests::clients::{Prober, Probes};
use ::tests::lab::DIRECT_VIPS;
use ::tests::pair::{DEFAULT, Pair};
use ::tests::wait;
use anyhow::{Context, Result};

use super::remove_on_interrupt;
use super::story::Story;

/// Who was silent for so long is dead.
const DEAD_AFTER: Duration = Duration::from_millis(350);
/// A loaded machine may hold a takeover up by so much more.
const SLACK: Duration = Duration::from_millis(400);
/// What follows a takeover belongs to it: the burst of announcements lasts for about so long.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long a takeover may take until it is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The whole chapter, in a lab of its own.
pub fn two_directors(story: &mut Story) -> Result<()> {
    story.chapter("Two directors");
    story.say(
        "Another lab: two directors, lb1 and lb2, with the same configuration file. They hear each other on two \
         networks, every\n100 ms, and who is silent for 350 ms is dead. Real servers are chosen by Maglev hashing, so \
         that either director\nchooses the same one. From here on the client sends a datagram to a VIP every \
         millisecond.",
    );
    let mut pair = Pair::prepare(2, |cluster| cluster, |config| config)?;
    remove_on_interrupt(pair.lab().name())?;
    pair.start_one(1)?;
    pair.start_one(2)?;
    pair.await_steady()?;
    let owner = pair.owner(DEFAULT)?;
    story.expect(owner == 1, &format!("lb{owner} holds the VIPs: it has the higher priority"));
    await_figures(&pair)?;
    story.say("director status, of lb2:");
    story.show(&cluster_of(&pair.cli(2, &["status"])?));

    handover(story, &mut pair)?;
    killed_daemon(story, &mut pair)?;
    dead_machine(story, &mut pair)
}

fn handover(story: &mut Story, pair: &mut Pair) -> Result<()> {
    story.say("\nlb1 shall be given a new kernel, say. On lb1: director handover");
    let seen = watched(pair, |pair| {
        story.show(&pair.cli(1, &["handover"])?);
        pair.await_owner(2, DEFAULT)?;
        story.say("And back. On lb2: director handover");
        story.show(&pair.cli(2, &["handover"])?);
        pair.await_owner(1, DEFAULT)
    })?;
    story.expect(seen.lost() == 0, &told(&seen));
    Ok(())
}

fn killed_daemon(story: &mut Story, pair: &mut Pair) -> Result<()> {
    story.say(
        "\nThe daemon of lb1 is killed (SIGKILL). Its XDP program goes on forwarding, but its host answers no ARP for \
         the VIPs\nany more, since nobody renews the lease; lb2 takes them.",
    );
    let seen = watched(pair, |pair| {
        pair.director(1).kill9();
        await_role(pair, 2, "active")
    })?;
    story.expect(seen.lost() == 0, &told(&seen));
    story.say("It is started again:");
    let seen = watched(pair, |pair| {
        pair.director(1).run()?;
        pair.await_steady()
    })?;
    let owner = pair.owner(DEFAULT)?;
    story.expect(owner == 2 && seen.lost() == 0, &format!("the VIPs stay with lb{owner}; {}", told(&seen)));
    Ok(())
}

fn dead_machine(story: &mut Story, pair: &mut Pair) -> Result<()> {
    story.say(
        "\nThe machine of lb2 stops as a whole: nobody forwards, until lb1 has heard nothing of it for 350 ms.",
    );
    let mut fault = None;
    let seen = watched(pair, |pair| {
        fault = Some(pair.lab().freeze_host(&Pair::host(2))?);
        await_role(pair, 1, "active")
    })?;
    let out = seen.longest_gap();
    story.expect(
        seen.lost() > 0 && out <= DEAD_AFTER + SLACK,
        &format!("the VIPs are out for {} ms; {}", out.as_millis(), told(&seen)),
    );
    story.say(
        "It goes on where it stopped, as a paused virtual machine does, and believes that it holds the VIPs:",
    );
    let seen = watched(pair, |pair| {
        fault.take().context("no fault")?.heal()?;
        pair.await_steady()
    })?;
    let owner = pair.owner(DEFAULT)?;
    story.expect(owner == 1 && seen.lost() == 0, &format!("they stay with lb{owner}; {}", told(&seen)));
    story.say("director events, of lb2:");
    story.show(&pair.cli(2, &["events"])?);
    Ok(())
}

/// What a client sees of a VIP while something happens.
fn watched(pair: &mut Pair, act: impl FnOnce(&mut Pair) -> Result<()>) -> Result<Probes> {
    let prober: Prober = pair.probe(DIRECT_VIPS[0])?;
    act(pair)?;
    std::thread::sleep(AFTERMATH);
    prober.stop()
}

/// Waits for what one director says of itself; the other one may not answer.
fn await_role(pair: &Pair, number: u8, role: &str) -> Result<()> {
    let waited = wait::until(&format!("lb{number} to be {role}"), PATIENCE, || {
        Ok((pair.role(number, DEFAULT).as_deref() == Some(role)).then_some(()))
    });
    waited.with_context(|| pair.story())
}

/// Waits until both links of lb2 are measured.
fn await_figures(pair: &Pair) -> Result<()> {
    wait::until("figures of both links", PATIENCE, || {
        let status = pair.status(2).context("lb2 does not answer")?;
        let links = status["pair"]["cluster"]["peers"][0]["links"].as_array().context("no links")?;
        Ok(links.iter().all(|link| link["jitter_milliseconds"].is_f64()).then_some(()))
    })
}

fn told(seen: &Probes) -> String {
    format!("{} of {} datagrams lost", seen.lost(), seen.sent())
}

/// The cluster's part of what `director status` prints.
fn cluster_of(status: &str) -> String {
    let lines = status.lines().skip_while(|line| !line.starts_with("cluster"));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("SERVICE")).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_cut_out_of_the_status() {
        let status =
            "director 1\nflows       0\n\ncluster     this is lb1\n\nGROUP\nblue\n\nSERVICE / REAL\nweb\n";
        assert_eq!(cluster_of(status), "cluster     this is lb1\n\nGROUP\nblue");
    }
}
