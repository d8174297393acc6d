//! The thread: waits for what is wanted, for what the kernel tells, and for the time of the next announcement.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_route::neighbour::NeighbourState;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::announcer::interfaces;
use super::netlink::{Kernel, Known};
use super::plan::by_address;
use super::report::Report;
use super::rounds::MOST_SHARED;
use super::taker::{CHECK_EVERY, Taker};
use super::{End, Inputs, Setup, Wanted};
use crate::heartbeat::message::Neighbour;

/// Where the thread tells what it knows.
pub struct Outputs {
    pub reports: watch::Sender<Arc<Report>>,
    pub links: watch::Sender<Arc<BTreeMap<String, bool>>>,
    pub neighbours: watch::Sender<Arc<Vec<Neighbour>>>,
}

/// A reading of the kernel's neighbours that is under way on another thread: there may be many.
type Reading = JoinHandle<io::Result<Vec<Known>>>;

/// Runs until it is told to end, or nobody is there to tell it.
pub async fn run(
    mut taker: Taker,
    mut inputs: Inputs,
    outputs: Outputs,
    mut end: watch::Receiver<Option<End>>,
) {
    let mut reading: Option<Reading> = None;
    let mut next_check = Instant::now();
    let mut next_share = Instant::now();
    let wanted = inputs.wanted.borrow_and_update().clone();
    taker.want(wanted);
    loop {
        // Before what is wanted is acted upon: what was told before that counts for it.
        taker.announcer.set_shared(inputs.shared.borrow_and_update().clone());
        taker.settle();
        let now = Instant::now();
        if next_check <= now {
            next_check = now + CHECK_EVERY;
            taker.check();
            taker.settle();
            let setup = Arc::clone(&taker.setup);
            taker.announcer.look_up(&mut taker.kernel, &taker.observed, &setup);
        }
        let share = taker.setup.announce.share;
        if let Some(share) = share.filter(|_| next_share <= now && reading.is_none()) {
            next_share = now + share.max(LEAST_SHARE);
            reading = Some(tokio::task::spawn_blocking(|| {
                Kernel::open().map_err(io::Error::other).and_then(|mut kernel| kernel.neighbours())
            }));
        }
        let setup = Arc::clone(&taker.setup);
        taker.announcer.send_due(&mut taker.kernel, &taker.observed, &setup);
        publish(&taker, &outputs);
        let sharing = share.filter(|_| reading.is_none()).map(|_| next_share);
        let times = [Some(next_check), taker.announcer.next(), taker.retry(), sharing];
        let wake = times.into_iter().flatten().min().unwrap_or(next_check);
        tokio::select! {
            biased;
            told = end.changed() => {
                if told.is_ok() && *end.borrow() == Some(End::Release) {
                    taker.want(Arc::new(Wanted { groups: BTreeMap::new(), told: Instant::now() }));
                    taker.settle();
                    publish(&taker, &outputs);
                }
                return;
            }
            Ok(()) = inputs.wanted.changed() => {
                let wanted = inputs.wanted.borrow_and_update().clone();
                taker.want(wanted);
            }
            received = taker.notifications.receive() => match received {
                Ok(()) => taker.take_received(),
                Err(error) => taker.missed(&error),
            },
            Ok(()) = inputs.setups.changed() => {
                let setup = inputs.setups.borrow_and_update().clone();
                taker.set_up(setup);
                (next_check, next_share) = (Instant::now(), Instant::now());
            }
            Some(read) = finished(&mut reading) => {
                reading = None;
                let known = known(&taker, read);
                outputs.neighbours.send_if_modified(|before| replace(before, known));
            }
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

/// The shortest time from one reading of the neighbours to the next.
const LEAST_SHARE: Duration = Duration::from_millis(100);

/// The result of a reading that is under way; nobody where it failed. None: none is.
async fn finished(reading: &mut Option<Reading>) -> Option<Vec<Known>> {
    Some(reading.as_mut()?.await.ok().and_then(Result::ok).unwrap_or_default())
}

fn publish(taker: &Taker, outputs: &Outputs) {
    outputs.links.send_if_modified(|before| replace(before, taker.links()));
    outputs.reports.send_if_modified(|before| replace(before, taker.report()));
}

fn replace<T: PartialEq>(before: &mut Arc<T>, now: T) -> bool {
    let changed = **before != now;
    if changed {
        *before = Arc::new(now);
    }
    changed
}

/// Whom other directors are told about: neighbours on the VIPs' interfaces, the ones first that are known best.
fn known(taker: &Taker, mut read: Vec<Known>) -> Vec<Neighbour> {
    let (setup, observed): (&Setup, _) = (&taker.setup, &taker.observed);
    let groups = || setup.groups.iter().filter(|group| by_address(group));
    let indices: Vec<u32> =
        interfaces(groups()).into_iter().filter_map(|name| observed.index(name)).collect();
    let is_vip = |address: IpAddr| groups().any(|group| group.vips.iter().any(|vip| vip.address == address));
    read.retain(|known| indices.contains(&known.index) && !is_vip(known.address));
    read.sort_by_key(|known| (rank(known.state), known.address));
    read.dedup_by_key(|known| known.address);
    read.truncate(MOST_SHARED);
    read.into_iter().map(|Known { address, mac, .. }| Neighbour { address, mac }).collect()
}

fn rank(state: NeighbourState) -> u8 {
    match state {
        NeighbourState::Permanent => 0,
        NeighbourState::Reachable => 1,
        NeighbourState::Delay | NeighbourState::Probe => 2,
        _ => 3,
    }
}
