//! Virtual addresses on the director's interfaces. This is the only module that changes addresses.
//!
//! Without a heartbeat a director is alone, so it holds its VIPs always: [`hold`] adds what is missing, again and
//! again. With one, [`start`] makes a thread that takes and releases groups of VIPs as it is told and announces
//! them, and does nothing else, so that nothing delays it.
//!
//! The thread is told all that is wanted, each time anew, and keeps it so: by the kernel's notifications, what
//! someone else removes is back within milliseconds, and what someone else adds to a group that is not held here is
//! gone as fast. [`plan`](mod@plan) decides what is to be done and [`rounds`] when is announced what; both are pure.
//!
//! A group with a virtual MAC has its VIPs on a macvlan with that MAC. Their neighbours then never have to learn
//! another MAC, only switches another port. While it exists, `arp_ignore` and `arp_announce` are raised on the
//! interface under it, because Linux answers and asks for any of its addresses on any of its interfaces otherwise;
//! and where the removal of a VIP would take addresses along that are not ours, `promote_secondaries` is switched on
//! for that interface. These are the only settings of the operator's interfaces that are changed. They are left so.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::watch;

use crate::heartbeat::message::Neighbour;
use crate::model::Vip;
use crate::model::heartbeat::{Announce, Group};
use announcer::Announcer;
use journal::{Journal, Line};
use netlink::Kernel;
use observed::Observed;
use plan::Action;
pub use report::{GroupReport, Report, Taken};
use taker::Taker;

mod announcer;
pub mod command;
pub mod dns;
mod journal;
mod netlink;
pub mod observed;
mod patience;
pub mod plan;
mod report;
pub mod rounds;
mod sysctl;
mod taker;
#[cfg(test)]
mod tests;
mod thread;

/// What the thread works by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// All groups. Those that are not taken by addresses are left alone.
    pub groups: Vec<Group>,
    /// How VIPs are announced.
    pub announce: Announce,
}

/// All that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// By the group's name. Groups that are not named are not held.
    pub groups: BTreeMap<String, Want>,
    /// When that was decided; [`Taken::took`] counts from here.
    pub told: Instant,
}

/// What is wanted of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// It is held here.
    pub active: bool,
    /// Whenever this differs from what it was before, a group that is held is announced from the beginning.
    pub announce: u64,
}

/// Whether a VIP may be announced at this moment.
pub type May = dyn Fn(IpAddr) -> bool + Send + Sync;

/// What the thread is told. Senders of [`watch`] never wait for it. Without a sender, what was told last stays in
/// force.
pub struct Inputs {
    /// Whether a VIP may be announced at this moment. It is asked before each frame: a process that was stopped goes on where it
    /// was, and what it was about to say may be wrong by then.
    pub may: Arc<May>,
    /// What is wanted.
    pub wanted: watch::Receiver<Arc<Wanted>>,
    /// The configuration, at the start and after each reload.
    pub setups: watch::Receiver<Arc<Setup>>,
    /// Neighbours that other directors know, the best known ones first; the first [`rounds::MOST_SHARED`] on an
    /// interface count.
    pub shared: watch::Receiver<Arc<Vec<Neighbour>>>,
}

/// How the thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Leave,
    Release,
}

/// The thread that takes and releases. Dropped, it ends and leaves everything as it is.
#[derive(Debug)]
pub struct Takeover {
    /// How the groups are.
    pub reports: watch::Receiver<Arc<Report>>,
    /// Which of the VIPs' interfaces exist, are switched on and have a carrier, by name.
    pub links: watch::Receiver<Arc<BTreeMap<String, bool>>>,
    /// The neighbours that this machine knows on the VIPs' interfaces, read every [`Announce::share`]; the best known
    /// ones first, at most [`rounds::MOST_SHARED`].
    pub neighbours: watch::Receiver<Arc<Vec<Neighbour>>>,
    end: watch::Sender<Option<End>>,
    thread: JoinHandle<()>,
}

impl Takeover {
    /// Ends the thread and leaves everything as it is. Waits for its end, which comes at once.
    ///
    /// # Errors
    /// The thread has panicked.
    pub fn leave(self) -> Result<()> {
        self.finish(End::Leave).map(|_| ())
    }

    /// Releases all groups, then ends the thread. Waits for that, some milliseconds.
    ///
    /// # Errors
    /// Some VIPs could not be removed, or the thread has panicked.
    pub fn release(self) -> Result<()> {
        let report = self.finish(End::Release)?;
        let left = report.groups.values().flat_map(|group| &group.present);
        let left: Vec<String> = left.map(|vip| format!("{} on {}", vip.address, vip.interface)).collect();
        if !left.is_empty() {
            let problems: Vec<&str> =
                report.groups.values().flat_map(|group| &group.problems).map(String::as_str).collect();
            bail!("these VIPs are still there: {}. {}", left.join(", "), problems.join("; "));
        }
        Ok(())
    }

    fn finish(self, end: End) -> Result<Arc<Report>> {
        self.end.send_replace(Some(end));
        self.thread.join().map_err(|_| anyhow!("the thread that takes VIPs has panicked"))?;
        Ok(Arc::clone(&self.reports.borrow()))
    }
}

/// Starts the thread, named `takeover`. It has its sockets when this returns.
///
/// The thread calls `prepare` first: there the caller may give it a real-time priority. It starts others now and then
/// that read the kernel's neighbours, so the priority should not be inherited (SCHED_RESET_ON_FORK). Its log is
/// written by yet another thread, which is started before and so has an ordinary priority.
///
/// # Errors
/// `prepare` fails, the kernel cannot be asked, or there are no sockets or threads to be had: root's rights may be
/// missing (CAP_NET_ADMIN, CAP_NET_RAW).
pub fn start(inputs: Inputs, prepare: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Takeover> {
    let (reports_sender, reports) = watch::channel(Arc::default());
    let (links_sender, links) = watch::channel(Arc::default());
    let (neighbours_sender, neighbours) = watch::channel(Arc::default());
    let outputs =
        thread::Outputs { reports: reports_sender, links: links_sender, neighbours: neighbours_sender };
    let (end, ended) = watch::channel(None);
    let journal = Journal::start().context("cannot start a thread")?;
    let (ready_sender, ready) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        let mut inputs = inputs;
        let setup = inputs.setups.borrow_and_update().clone();
        let may = Arc::clone(&inputs.may);
        let opened = prepare().and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let taker = runtime.block_on(async { Taker::open(setup, may, journal) })?;
            Ok((runtime, taker))
        });
        match opened {
            Ok((runtime, taker)) => {
                // Who started this waits for it.
                _ = ready_sender.send(Ok(()));
                runtime.block_on(thread::run(taker, inputs, outputs, ended));
            }
            Err(error) => _ = ready_sender.send(Err(error)),
        }
    };
    let thread = std::thread::Builder::new().name("takeover".to_owned()).spawn(body);
    let thread = thread.context("cannot start a thread")?;
    ready.recv().context("the thread that takes VIPs has ended")??;
    Ok(Takeover { reports, links, neighbours, end, thread })
}

/// What [`hold`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// VIPs that were missing and are there now.
    pub added: Vec<Vip>,
    /// VIPs that are not there, and why.
    pub failed: Vec<(Vip, String)>,
}

/// Adds those of `vips` that are missing on their interfaces, and announces those once. For a director without a heartbeat.
///
/// # Errors
/// The kernel cannot be asked. What it refuses for one VIP is in the report.
pub async fn hold(vips: &[Vip]) -> Result<Held> {
    let mut kernel = Kernel::open()?;
    let observed = kernel.observe()?;
    let mut held = Held::default();
    for (vip, index) in missing(vips, &observed) {
        let added = match index {
            Some(index) => kernel.add(index, vip),
            None => Err(anyhow!("there is no interface {}", vip.interface)),
        };
        match added {
            Ok(_) => held.added.push(vip.clone()),
            Err(error) => held.failed.push((vip.clone(), format!("{error:#}"))),
        }
    }
    if !held.added.is_empty() {
        announce(&kernel.observe()?, &held.added)?;
    }
    Ok(held)
}

/// Tells all neighbours where these VIPs are: whoever had them before, caches follow.
fn announce(observed: &Observed, vips: &[Vip]) -> Result<()> {
    let mut announcer = Announcer::open(Arc::new(|_| true))?;
    for vip in vips {
        if let Some((index, _)) = observed.links().find(|(_, link)| link.name == vip.interface) {
            announcer.announce(observed, index, vip, None);
        }
    }
    Ok(())
}

/// Removes those of `vips` that are there with their prefix length. For VIPs that the director had added itself, and
/// that are not its own any more.
///
/// # Errors
/// The kernel cannot be asked, or refuses; the others are removed.
pub async fn release(vips: &[Vip]) -> Result<()> {
    let exactly = |device: &str, address: IpAddr, prefix: u8| {
        vips.iter().any(|vip| (vip.interface.as_str(), vip.address, vip.prefix) == (device, address, prefix))
    };
    remove(&mut Kernel::open()?, vips, exactly)
}

/// Removes all of `vips` that are on their interfaces, whoever put them there and with whatever prefix length, and
/// all macvlans of ours: what a director that crashed has left. For a director that is about to join others.
///
/// # Errors
/// The kernel cannot be asked, or refuses; the others are removed.
pub async fn clear(vips: &[Vip]) -> Result<()> {
    let mut kernel = Kernel::open()?;
    let mut result = remove(&mut kernel, vips, |_, _, _| true);
    let observed = kernel.observe()?;
    for (index, link) in observed.links().filter(|(_, link)| plan::is_ours(link)) {
        let deleted = kernel.delete(index).with_context(|| format!("cannot delete {}", link.name));
        result = result.and(deleted);
    }
    result
}

fn remove(kernel: &mut Kernel, vips: &[Vip], which: impl Fn(&str, IpAddr, u8) -> bool) -> Result<()> {
    let observed = kernel.observe()?;
    let places = vips.iter().map(|vip| (vip.interface.clone(), vip.address));
    let mut result = Ok(());
    let mut lines = Vec::new();
    for action in plan::removals(&observed, places) {
        let Action::Remove { index, device, address, prefix, promote } = action else { continue };
        if !which(&device, address, prefix) {
            continue;
        }
        if promote && let Err(error) = taker::promote_secondaries(&device, &mut lines) {
            result = result.and(Err(error));
        }
        let removed = kernel.remove(index, address, prefix);
        result = result.and(removed.with_context(|| format!("on {device}")).map(|_| ()));
    }
    lines.into_iter().for_each(Line::write);
    result
}

/// The VIPs that are on none of their interface's addresses, whatever the prefix length there, and the interface's
/// index.
fn missing<'a>(vips: &'a [Vip], observed: &Observed) -> Vec<(&'a Vip, Option<u32>)> {
    let with_index = vips.iter().map(|vip| (vip, observed.index(&vip.interface)));
    with_index.filter(|(vip, index)| index.is_none_or(|index| !observed.has(index, vip.address))).collect()
}
