//! Makes what is so what is wanted: plans, acts, announces, and tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

use super::announcer::{Announcer, held};
use super::journal::{Journal, Line};
use super::netlink::Kernel;
use super::observed::Observed;
use super::patience::Patience;
use super::plan::{Action, by_address, device_of, macvlan, obstacle, plan};
use super::report::{GroupReport, Report, Taken};
use super::{May, Setup, Wanted, sysctl};
use crate::model::Vip;
use crate::model::heartbeat::Group;
use crate::neighbours::netlink::Channel;
use crate::neighbours::wire::Mac;

const NOTIFICATIONS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];

/// How often in a row is planned and acted, before others have their turn.
const MOST_PASSES: usize = 4;

/// In the place of an address, where a change is of the device.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// An address on a device.
type Place = (String, IpAddr);

/// What takes and releases.
pub struct Taker {
    pub(super) kernel: Kernel,
    pub(super) notifications: Channel,
    pub(super) announcer: Announcer,
    pub(super) observed: Observed,
    pub(super) setup: Arc<Setup>,
    wanted: Arc<Wanted>,
    /// VIPs of an earlier setup that are in none of this one's groups.
    gone: Vec<Vip>,
    states: BTreeMap<String, State>,
    /// The MACs of active groups' devices, of those that are running.
    carriers: BTreeMap<String, Option<Mac>>,
    patience: Patience,
    /// What failed last, by place.
    errors: BTreeMap<Place, String>,
    /// What is wrong with devices, by name.
    devices: BTreeMap<String, String>,
    /// Why the kernel's state cannot be read.
    blind: Option<String>,
    lines: Vec<Line>,
    journal: Journal,
}

/// What is known of an active group.
#[derive(Debug, Default)]
struct State {
    active: bool,
    announce: u64,
    /// All of it is to be announced from the beginning.
    fresh: bool,
    told: Option<Instant>,
    /// When its last VIP was there and announced.
    done: Option<Instant>,
    taken: Option<Taken>,
}

impl Taker {
    /// Opens its sockets in the caller's network namespace, and reads what there is.
    ///
    /// # Errors
    /// The kernel cannot be asked, or there is no socket to be had.
    pub fn open(setup: Arc<Setup>, may: Arc<May>, journal: Journal) -> Result<Taker> {
        let notifications =
            Channel::open(&NOTIFICATIONS).context("cannot subscribe to netlink notifications")?;
        let (mut kernel, announcer) = (Kernel::open()?, Announcer::open(may)?);
        let observed = kernel.observe()?;
        let wanted = Arc::new(Wanted { groups: BTreeMap::new(), told: Instant::now() });
        Ok(Taker {
            kernel,
            notifications,
            announcer,
            observed,
            setup,
            wanted,
            gone: Vec::new(),
            states: BTreeMap::new(),
            carriers: BTreeMap::new(),
            patience: Patience::default(),
            errors: BTreeMap::new(),
            devices: BTreeMap::new(),
            blind: None,
            lines: Vec::new(),
            journal,
        })
    }

    /// Notes what is wanted now. [`Taker::settle`] acts upon it.
    pub fn want(&mut self, wanted: Arc<Wanted>) {
        if wanted.groups != self.wanted.groups {
            self.patience = Patience::default();
        }
        for group in self.setup.groups.iter().filter(|group| by_address(group)) {
            let want = wanted.groups.get(&group.name).copied().unwrap_or_default();
            let state = self.states.entry(group.name.clone()).or_default();
            if want.active && (!state.active || state.announce != want.announce) {
                state.fresh = true;
                state.told = (!state.active).then_some(wanted.told);
                state.done = None;
            }
            if state.active && !want.active {
                (state.fresh, state.told) = (false, None);
                self.announcer.end(&group.name);
                self.lines.push(Line::Info(format!("gives the group {} up", group.name)));
            }
            (state.active, state.announce) = (want.active, want.announce);
        }
        self.wanted = wanted;
    }

    /// Notes another configuration. [`Taker::settle`] acts upon it.
    pub fn set_up(&mut self, setup: Arc<Setup>) {
        let before = std::mem::replace(&mut self.setup, setup);
        for group in before.groups.iter().filter(|group| by_address(group)) {
            self.announcer.end(&group.name);
            self.gone.extend(group.vips.iter().cloned());
        }
        // All that is active is announced as the new configuration says.
        self.states.retain(|name, _| self.setup.groups.iter().any(|group| group.name == *name));
        self.states.values_mut().for_each(|state| state.fresh = state.active);
        self.want(Arc::clone(&self.wanted));
    }

    /// Takes in the notifications that have come.
    pub fn drain(&mut self) {
        loop {
            match self.notifications.receive_now() {
                Ok(true) => self.take_received(),
                Ok(false) => return,
                Err(error) => return self.missed(&error),
            }
        }
    }

    /// Takes in the datagram of notifications that was received last.
    pub fn take_received(&mut self) {
        for message in self.notifications.messages() {
            // What cannot be read is found by the next check.
            if let Ok(NetlinkPayload::InnerMessage(inner)) = message.parse() {
                self.observed.take(&inner);
            }
        }
    }

    /// Notifications were lost: reads everything.
    pub fn missed(&mut self, error: &io::Error) {
        self.lines.push(Line::Warn(format!("netlink notifications were lost ({error}): reads everything")));
        self.check();
    }

    /// Reads everything anew.
    pub fn check(&mut self) {
        self.blind = match self.kernel.observe() {
            Ok(observed) => {
                self.observed = observed;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
    }

    /// Makes what is so what is wanted, as far as it can be. What is worth a line in the log is written at the end.
    pub fn settle(&mut self) {
        self.patience.forget(Instant::now());
        self.drain();
        self.note_carriers();
        let setup = Arc::clone(&self.setup);
        for group in self.fresh(&setup) {
            for (vip, index) in held(&self.observed, group) {
                self.announcer.announce(&self.observed, index, vip, None);
            }
            self.note_done(&group.name);
        }
        self.act_until_done(&setup);
        for group in self.fresh(&setup) {
            self.announcer.begin(&mut self.kernel, &self.observed, &setup, group);
            self.finish(group);
        }
        let (observed, groups) = (&self.observed, &self.setup.groups);
        let there =
            |vip: &Vip| observed.index(&vip.interface).is_some_and(|index| observed.has(index, vip.address));
        self.gone.retain(|vip| there(vip) && !groups.iter().any(|group| group.vips.contains(vip)));
        self.add_carriers();
        self.journal.log(self.lines.drain(..));
    }

    /// Acts, and again where the kernel has told of other changes in the meantime. What is to be done a second time
    /// has failed, and waits for something to change.
    fn act_until_done(&mut self, setup: &Setup) {
        let mut before = Vec::new();
        for _ in 0..MOST_PASSES {
            let states = &self.states;
            let active = |name: &str| states.get(name).is_some_and(|state| state.active);
            let actions = plan(&self.observed, &setup.groups, active, &self.gone);
            if actions.is_empty() || actions == before {
                let open: BTreeSet<Place> =
                    actions.iter().filter_map(|action| place(setup, action)).collect();
                self.errors.retain(|place, _| open.contains(place));
                return;
            }
            actions.iter().for_each(|action| self.act(setup, action.clone()));
            self.drain();
            before = actions;
        }
    }

    fn fresh<'a>(&self, setup: &'a Setup) -> Vec<&'a Group> {
        setup.groups.iter().filter(|group| self.is_fresh(&group.name)).collect()
    }

    fn is_fresh(&self, group: &str) -> bool {
        self.states.get(group).is_some_and(|state| state.fresh)
    }

    fn note_done(&mut self, group: &str) {
        if let Some(state) = self.states.get_mut(group) {
            state.done = Some(Instant::now());
        }
    }

    /// A fresh group is announced: measures.
    fn finish(&mut self, group: &Group) {
        let Some(state) = self.states.get_mut(&group.name) else { return };
        state.fresh = false;
        let (Some(told), Some(done)) = (state.told.take(), state.done) else { return };
        let took = done.saturating_duration_since(told);
        state.taken = Some(Taken { at: SystemTime::now(), took });
        let there = held(&self.observed, group).count();
        let (name, all) = (&group.name, group.vips.len());
        self.lines
            .push(Line::Info(format!("has taken {there} of {all} VIPs of the group {name} in {took:?}")));
    }

    fn act(&mut self, setup: &Setup, action: Action) {
        match action {
            Action::Add { group, vip } => {
                let group = &setup.groups[group];
                self.add(group, &group.vips[vip]);
            }
            Action::Remove { index, device, address, prefix, promote } => {
                self.remove(index, &device, (address, prefix), promote);
            }
            Action::Create { name, parent, parent_name, mac } => {
                let made = if self.patience.allows(&(name.clone(), NO_ADDRESS), Instant::now()) {
                    self.create(&name, parent, &parent_name, mac)
                } else {
                    Err(anyhow!("{name} cannot be made, or is deleted again: see the log"))
                };
                self.note_device(name, made);
            }
            Action::Raise { index, name } => {
                let raised = self.kernel.raise(index).with_context(|| format!("cannot switch {name} on"));
                self.drain();
                self.note_device(name, raised);
            }
            Action::Delete { index, name } => {
                let deleted = self.kernel.delete(index).with_context(|| format!("cannot delete {name}"));
                self.drain();
                self.note_device(name, deleted);
            }
        }
    }

    fn add(&mut self, group: &Group, vip: &Vip) {
        let place = (device_of(group, vip), vip.address);
        // Its device could not be made, which is noted there.
        let Some(index) = self.observed.index(&place.0) else { return };
        if !self.may(place.clone()) {
            return;
        }
        if vip.address.is_ipv6() {
            // What is said of it up to here is older than what is noted below.
            self.drain();
        }
        match self.kernel.add(index, vip) {
            Ok(new) => {
                if vip.address.is_ipv6() {
                    self.observed.note_address(index, vip.address, vip.prefix);
                }
                self.announcer.announce(&self.observed, index, vip, None);
                self.note_done(&group.name);
                self.errors.remove(&place);
                if new && !self.is_fresh(&group.name) {
                    let line = format!("{} was missing on {}: added again", vip.address, place.0);
                    self.lines.push(Line::Warn(line));
                    self.states.entry(group.name.clone()).or_default().fresh = true;
                }
            }
            Err(error) => self.note_error(place, format!("{error:#}")),
        }
    }

    fn remove(&mut self, index: u32, device: &str, (address, prefix): (IpAddr, u8), promote: bool) {
        let place = (device.to_owned(), address);
        if !self.may(place.clone()) {
            return;
        }
        if promote {
            let told = promote_secondaries(device, &mut self.lines);
            self.note_device(device.to_owned(), told);
        }
        match self.kernel.remove(index, address, prefix) {
            Ok(removed) => {
                self.errors.remove(&place);
                if removed {
                    self.lines.push(Line::Info(format!("removed {address} from {device}")));
                }
            }
            Err(error) => self.note_error(place, format!("{error:#}")),
        }
    }

    /// Makes a macvlan that is ready for VIPs.
    fn create(&mut self, name: &str, parent: u32, parent_name: &str, mac: Mac) -> Result<()> {
        self.kernel.create_macvlan(name, parent, mac)?;
        self.drain();
        let index =
            self.observed.index(name).with_context(|| format!("{name} was made, but is not there"))?;
        let settings = sysctl::prepare_macvlan(name).and_then(|()| sysctl::prepare_parent(parent_name));
        self.kernel.raise(index).with_context(|| format!("cannot switch {name} on"))?;
        self.drain();
        let changed = settings
            .with_context(|| format!("{parent_name} may answer for the VIPs on {name} with its own MAC"))?;
        for key in changed {
            let line = format!("raised net.ipv4.conf.{parent_name}.{key}: a virtual MAC needs it");
            self.lines.push(Line::Info(line));
        }
        Ok(())
    }

    fn may(&mut self, place: Place) -> bool {
        let may = self.patience.allows(&place, Instant::now());
        if !may {
            let (device, address) = &place;
            let error = format!("someone else keeps changing {address} on {device}: find and stop them");
            self.note_error(place, error);
        }
        may
    }

    fn note_error(&mut self, place: Place, error: String) {
        if self.errors.get(&place) != Some(&error) {
            self.lines.push(Line::Warn(format!("{} on {}: {error}", place.1, place.0)));
            self.errors.insert(place, error);
        }
    }

    fn note_device(&mut self, device: String, result: Result<()>) {
        let error = result.err().map(|error| format!("{error:#}"));
        match error {
            None => _ = self.devices.remove(&device),
            Some(error) if self.devices.get(&device) == Some(&error) => {}
            Some(error) => {
                self.lines.push(Line::Warn(error.clone()));
                self.devices.insert(device, error);
            }
        }
    }

    /// Active groups on a device that has begun to run, or that has another MAC now, are announced again.
    fn note_carriers(&mut self) {
        let setup = Arc::clone(&self.setup);
        for group in &setup.groups {
            let Some(state) = self.states.get_mut(&group.name).filter(|state| state.active) else { continue };
            for vip in &group.vips {
                let device = device_of(group, vip);
                let carrier = carrier(&self.observed, &device);
                let known = self.carriers.get(&device);
                state.fresh |= known.is_some_and(|known| carrier.is_some() && *known != carrier);
            }
        }
        let observed = &self.observed;
        self.carriers.iter_mut().for_each(|(device, known)| *known = carrier(observed, device));
    }

    /// Notes devices that are new: what was announced just now is not announced again because of them.
    fn add_carriers(&mut self) {
        let states = &self.states;
        let active = |name: &str| states.get(name).is_some_and(|state| state.active);
        let groups = self.setup.groups.iter().filter(|group| active(&group.name));
        let devices = groups.flat_map(|group| group.vips.iter().map(|vip| device_of(group, vip)));
        let mut before = std::mem::take(&mut self.carriers);
        for device in devices {
            let known = before.remove(&device);
            let now = known.unwrap_or_else(|| carrier(&self.observed, &device));
            self.carriers.entry(device).or_insert(now);
        }
    }

    /// When something is to be tried again that was put off.
    pub fn retry(&self) -> Option<Instant> {
        self.patience.over()
    }

    /// How everything is.
    pub fn report(&self) -> Report {
        let groups = self.setup.groups.iter().filter(|group| by_address(group));
        let groups = groups.map(|group| (group.name.clone(), self.report_group(group))).collect();
        Report { groups, problems: self.blind.iter().cloned().collect() }
    }

    fn report_group(&self, group: &Group) -> GroupReport {
        let state = self.states.get(&group.name);
        let active = state.is_some_and(|state| state.active);
        let mut report =
            GroupReport { active, taken: state.and_then(|state| state.taken), ..GroupReport::default() };
        for vip in &group.vips {
            let devices = [vip.interface.clone(), macvlan(&group.name, &vip.interface)];
            let on = |device: &String| {
                self.observed.index(device).is_some_and(|index| self.observed.has(index, vip.address))
            };
            let device = device_of(group, vip);
            if on(&device) || !active && devices.iter().any(on) {
                report.present.push(vip.clone());
            } else if active {
                let reason = obstacle(&self.observed, group, vip)
                    .or_else(|| self.errors.get(&(device.clone(), vip.address)).cloned())
                    .or_else(|| self.devices.get(&device).cloned());
                report
                    .missing
                    .push((vip.clone(), reason.unwrap_or_else(|| "it was removed just now".to_owned())));
            }
            for device in devices {
                let place = (device, vip.address);
                report.problems.extend(self.errors.get(&place).cloned());
                if let Some(problem) = self.devices.get(&place.0)
                    && !report.problems.contains(problem)
                {
                    report.problems.push(problem.clone());
                }
            }
        }
        report
    }

    /// Which of the VIPs' interfaces are running.
    pub fn links(&self) -> BTreeMap<String, bool> {
        let groups = self.setup.groups.iter().filter(|group| by_address(group));
        let names = super::announcer::interfaces(groups).into_iter();
        names.map(|name| (name.to_owned(), carrier(&self.observed, name).is_some())).collect()
    }
}

/// From one [`Taker::check`] to the next, in case a notification does not exist or was lost.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What an action changes, if that is an address.
fn place(setup: &Setup, action: &Action) -> Option<Place> {
    match action {
        Action::Add { group, vip } => {
            let group = &setup.groups[*group];
            Some((device_of(group, &group.vips[*vip]), group.vips[*vip].address))
        }
        Action::Remove { device, address, .. } => Some((device.clone(), *address)),
        Action::Create { .. } | Action::Raise { .. } | Action::Delete { .. } => None,
    }
}

/// The MAC of a device that is running. One without a MAC (a dummy has one, a tunnel has none) counts as zeros.
fn carrier(observed: &Observed, device: &str) -> Option<Mac> {
    let (_, link) = observed.named(device)?;
    link.running.then(|| link.mac.unwrap_or_default())
}

/// Has an interface keep its secondary addresses when a primary one goes, as systemd has all interfaces do.
pub fn promote_secondaries(device: &str, lines: &mut Vec<Line>) -> Result<()> {
    let told = sysctl::promote_secondaries(device).with_context(|| {
        format!("removing a VIP may take other addresses from {device}: set promote_secondaries there")
    })?;
    if told {
        lines.push(Line::Info(format!("switched net.ipv4.conf.{device}.promote_secondaries on")));
    }
    Ok(())
}
