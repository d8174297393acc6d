//! Takes a group by the DNS: the addresses of a name are those of the director that holds it (RFC 2136, RFC 8945).
//!
//! The new owner writes; the old one writes nothing, so there is nothing that a dead director must still do. Before it writes, the
//! new owner makes sure that the old one is gone, three times over: the election said so before it was asked at all; the record is
//! read from the zone's primary server, and if it has the addresses of a director that is still heard claiming the group, nothing
//! is written; and the update has as its prerequisite that the record is still what was read, so of two that write at once only
//! one succeeds, and the other one reads again. Where the group is active, the record is read again and again, and put right.
//!
//! **The library** is hickory-proto: it was the codec of the DNS checks before, and what it needs for TSIG (its feature for DNSSEC
//! with ring) was in the program, too. It signs any message and verifies the answer with the request's signature in it, as RFC
//! 8945, 5.3 asks for: key, algorithm, full length of the MAC, time. hickory-client has no release of this version, and hickory-net
//! would add a machinery of connections for what is one message over TCP, and sign updates, but not questions. The crate
//! `domain` has as good a TSIG, with BADTIME and truncated MACs beside, but would be a second DNS codec. What it says of an answer's
//! TSIG error, `exchange` reads from the record. **TCP** and not UDP, because an update whose datagram is lost can only be sent
//! again by somebody who knows whether it was made; and nobody can forge an answer that would stop us.

mod exchange;
mod key;
mod message;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::watch;

use self::exchange::Server;
use self::message::{Place, Records, TYPES};
use crate::follow::{Journal, Report, Wait, turn, turn_within};
use crate::model::heartbeat::DnsTakeover;

/// So often an owner looks whether the record is still its own; more often if resolvers keep it for less.
const CHECK: Duration = Duration::from_secs(60);
/// Never more often than this.
const CHECK_AT_MOST: Duration = Duration::from_secs(5);

/// Follows the group's role by the DNS, until nobody holds the other end of `wanted`.
///
/// `alive` says of a director's name whether that director is still heard claiming the group. `node` is this director's name.
/// With `false`, `reached` of the report is `Some(false)` at once, and what was under way is given up, as at the end. The key's file is read before each look, so a new key counts
/// without a reload.
pub async fn follow(
    group: String,
    takeover: DnsTakeover,
    node: String,
    alive: impl Fn(&str) -> bool + Send + Sync,
    mut wanted: watch::Receiver<bool>,
    report: watch::Sender<Report>,
) {
    let journal = Journal::new(report);
    let owner = Owner { group, takeover, node, alive };
    let every = Duration::from_secs(owner.takeover.ttl.into()).clamp(CHECK_AT_MOST, CHECK);
    loop {
        let active = *wanted.borrow_and_update();
        if !active {
            journal.done(false, "standby, nothing is written", None);
            if turn(&mut wanted, active).await == Wait::Over {
                return;
            }
            continue;
        }
        if journal.reached() != Some(true) {
            journal.at(&format!("writing {}", owner.takeover.name));
        }
        // An update that is given up on its way may be made or not; of it and the next owner's only one can be, and who comes
        // second reads again.
        let settled = tokio::select! {
            biased;
            wait = turn(&mut wanted, active) => if wait == Wait::Over { return } else { continue },
            settled = owner.settle() => settled,
        };
        let pause = match settled {
            Ok(()) => {
                journal.done(true, &format!("{} has this director's addresses", owner.takeover.name), None);
                every
            }
            Err(error) => {
                journal.at(&format!("writing {}", owner.takeover.name));
                journal.failed(&format!("{error:#}"));
                owner.takeover.retry
            }
        };
        if turn_within(&mut wanted, active, pause).await == Wait::Over {
            return;
        }
    }
}

struct Owner<F> {
    group: String,
    takeover: DnsTakeover,
    node: String,
    alive: F,
}

impl<F: Fn(&str) -> bool> Owner<F> {
    /// Sees to it that the record has this director's addresses.
    async fn settle(&self) -> Result<()> {
        let DnsTakeover { server, zone, name, ttl, tsig_file, timeout, .. } = &self.takeover;
        let ours = Records::new(self.addresses()?, *ttl);
        let key = key::load(tsig_file)?;
        let place = Place::new(zone, name)?;
        let mut server = Server::connect(*server, &key, *timeout).await?;
        let found = read(&mut server, &place).await?;
        if found == ours {
            return Ok(());
        }
        if let Some(holder) = self.holder(&found, &ours) {
            bail!("{holder} has {name} and is still heard holding the group: nothing is written");
        }
        let answer = server.ask(place.update(&found, &ours, *ttl)).await?;
        place.updated(&answer, key.signer_name())?;
        let after = read(&mut server, &place).await?;
        ensure!(
            after.addresses == ours.addresses,
            "the server took the change, but {name} has {} now: who else writes it?",
            after.text()
        );
        tracing::info!(group = self.group, "{name} had {}, and has {} now", found.text(), after.text());
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut all = self.takeover.addresses.iter();
        let ours = all.find(|(director, _)| *director == self.node).map(|(_, addresses)| addresses.clone());
        ours.with_context(|| {
            format!("there are no addresses for {}: see `addresses` of the takeover", self.node)
        })
    }

    /// Another director that has some of the record and is heard holding the group.
    fn holder(&self, found: &Records, ours: &Records) -> Option<&str> {
        let has = |address: &IpAddr| found.addresses.contains(address) && !ours.addresses.contains(address);
        let others = self.takeover.addresses.iter().filter(|(director, _)| *director != self.node);
        let holders =
            others.filter(|(_, addresses)| addresses.iter().any(has)).map(|(director, _)| director.as_str());
        holders.into_iter().find(|director| (self.alive)(director))
    }
}

/// What the name has now, as the server says that is asked.
async fn read(server: &mut Server<'_>, place: &Place) -> Result<Records> {
    let mut records = Records::default();
    for kind in TYPES {
        let answer = server.ask(place.question(kind)).await?;
        place.take(&answer, kind, &mut records)?;
    }
    Ok(records)
}
