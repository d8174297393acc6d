//! The flow table as userspace has it: memory-mapped, walked without system calls, never locked. See the program's `flow`
//! module for the protocol that both sides follow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use director_ebpf::abi::{Backend, FlowCold, FlowSet, Service, WAYS, backend_flag, proto};
use director_ebpf::flowword::{BUSY, FREE, Val, kind};
use director_ebpf::state;
use serde::{Deserialize, Serialize};

use super::clock::Tick;
use super::mapped::Mapped;
use crate::model::{Protocol, unmapped};

/// Ticks that later fragments may lag behind the first one (Linux's ipfrag_time, 30 s).
const FRAGMENT_TICKS: u16 = 30;

/// What a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A client's connection.
    Client,
    /// A real server's replies, under NAT.
    Reply,
    /// A client's persistence.
    Template,
    /// Fragments of one datagram.
    Fragment,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Only SYNs, or one datagram.
    Embryonic,
    /// The client went on.
    Established,
    /// A FIN was seen.
    Closing,
    /// A RST was seen.
    Closed,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends (of replies: the real server).
    pub client: SocketAddr,
    /// Where to (of replies: the client).
    pub vip: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The backend's id.
    pub backend: u32,
    /// The service's id.
    pub service: u32,
    /// How far it is.
    pub state: State,
    /// What it is.
    pub kind: Kind,
    /// Since its last packet, to a tick.
    pub idle: Duration,
    /// Since its first packet, to a tick.
    pub age: Duration,
}

/// What a sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows by backend: (active: established; inactive: all others).
    pub by_backend: BTreeMap<u32, (u64, u64)>,
    /// Entries by what they are and how far.
    pub by_kind: BTreeMap<(u8, u8), u64>,
    /// Entries removed: past their timeout.
    pub expired: u64,
    /// Entries removed: their backend is gone.
    pub orphaned: u64,
}

impl SweepReport {
    /// Places taken.
    pub fn used(&self) -> u64 {
        self.by_kind.values().sum()
    }
}

/// The mapped table, and the records its entries point to.
pub struct FlowTable {
    sets: Mapped<FlowSet>,
    cold: Mapped<FlowCold>,
    backends: Arc<Mapped<Backend>>,
    services: Arc<Mapped<Service>>,
    tick: Tick,
}

impl FlowTable {
    pub(super) fn new(
        sets: Mapped<FlowSet>,
        cold: Mapped<FlowCold>,
        backends: Arc<Mapped<Backend>>,
        services: Arc<Mapped<Service>>,
        tick: Tick,
    ) -> FlowTable {
        FlowTable { sets, cold, backends, services, tick }
    }

    /// Places in the table.
    pub fn places(&self) -> u64 {
        self.sets.len() as u64 * u64::from(WAYS)
    }

    /// Bytes of memory the table takes, hot and cold.
    pub fn bytes(&self) -> u64 {
        (self.sets.len() * size_of::<FlowSet>() + self.cold.len() * size_of::<FlowCold>()) as u64
    }

    /// Removes what is past its timeout or whose backend is gone, and counts the rest. `now` in ticks.
    pub fn sweep(&self, now: u32) -> SweepReport {
        let mut report = SweepReport::default();
        let mut counts: Vec<(u64, u64)> = vec![(0, 0); self.backends.len()];
        let mut kinds = [[0u64; 4]; 4];
        for place in 0..self.places() as usize {
            let Some((tag, val)) = self.hot(place) else { continue };
            match self.fate(val, now as u16) {
                Fate::Stays => {}
                fate => {
                    if self.remove(place, tag, val) {
                        let count = match fate {
                            Fate::Expired => &mut report.expired,
                            _ => &mut report.orphaned,
                        };
                        *count += 1;
                    }
                    continue;
                }
            }
            kinds[usize::from(val.kind)][usize::from(val.state)] += 1;
            if val.kind == kind::CLIENT {
                let (active, inactive) = &mut counts[val.backend as usize];
                *(if val.state == state::ESTABLISHED { active } else { inactive }) += 1;
            }
        }
        let used = counts.into_iter().enumerate().filter(|(_, count)| *count != (0, 0));
        report.by_backend = used.map(|(id, count)| (id as u32, count)).collect();
        for (kind, states) in kinds.into_iter().enumerate() {
            for (state, count) in states.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                report.by_kind.insert((kind as u8, state as u8), count);
            }
        }
        report
    }

    /// Makes every entry look as if its last packet had come so many ticks earlier. For tests, which cannot wait for timeouts.
    pub fn age(&self, ticks: u16) {
        for place in 0..self.places() as usize {
            let Some((_, val)) = self.hot(place) else { continue };
            let earlier = Val { last_seen: val.last_seen.wrapping_sub(ticks), ..val }.pack();
            let word = self.word(place, 1);
            let _ = word.compare_exchange(val.pack(), earlier, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Every entry, as it is when the walk passes by. `now` in ticks.
    pub fn iter(&self, now: u32) -> impl Iterator<Item = Flow> + '_ {
        (0..self.places() as usize).filter_map(move |place| self.flow(place, now))
    }

    /// The entry in one place, if there is one. `now` in ticks.
    pub fn flow(&self, place: usize, now: u32) -> Option<Flow> {
        let (tag, val) = self.hot(place)?;
        let cold = self.cold.get(place);
        if self.word(place, 0).load(Ordering::Acquire) != tag {
            return None; // another flow took the place while we read
        }
        let end = |addr, port_be| SocketAddr::new(unmapped(addr), u16::from_be(port_be));
        Some(Flow {
            client: end(cold.src, cold.sport_be),
            vip: end(cold.dst, cold.dport_be),
            protocol: if cold.proto == proto::TCP { Protocol::Tcp } else { Protocol::Udp },
            backend: val.backend,
            service: cold.service,
            state: match val.state {
                state::EMBRYONIC => State::Embryonic,
                state::ESTABLISHED => State::Established,
                state::CLOSING => State::Closing,
                _ => State::Closed,
            },
            kind: match val.kind {
                kind::CLIENT => Kind::Client,
                kind::REPLY => Kind::Reply,
                kind::TEMPLATE => Kind::Template,
                _ => Kind::Fragment,
            },
            idle: self.tick.length() * u32::from(val.idle(now as u16)),
            age: self.tick.length() * now.wrapping_sub(cold.created),
        })
    }

    /// The address of a backend's real server and its port, where it has its own.
    pub fn real(&self, backend: u32) -> Option<(IpAddr, Option<u16>)> {
        let record =
            ((backend as usize) < self.backends.len()).then(|| self.backends.get(backend as usize))?;
        let port = u16::from_be(record.port_be);
        Some((unmapped(record.addr), (port != 0).then_some(port)))
    }

    /// Takes an entry out, unless a packet has refreshed it since its value was read. The way is ours while its tag is
    /// [`BUSY`]: packets meanwhile do not find the flow, as if they had come a moment later.
    fn remove(&self, place: usize, tag: u64, val: Val) -> bool {
        let (tag_word, val_word) = (self.word(place, 0), self.word(place, 1));
        if tag_word.compare_exchange(tag, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let unchanged = val_word.load(Ordering::Acquire) == val.pack();
        tag_word.store(if unchanged { FREE } else { tag }, Ordering::Release);
        unchanged
    }

    /// Tag and value of a place that is in use.
    fn hot(&self, place: usize) -> Option<(u64, Val)> {
        let tag = self.word(place, 0).load(Ordering::Acquire);
        if tag <= BUSY {
            return None;
        }
        Some((tag, Val::unpack(self.word(place, 1).load(Ordering::Acquire))))
    }

    fn word(&self, place: usize, word: usize) -> &std::sync::atomic::AtomicU64 {
        let ways = WAYS as usize;
        self.sets.word(place / ways, place % ways * 2 + word)
    }

    fn fate(&self, val: Val, now: u16) -> Fate {
        let id = val.backend as usize;
        if id >= self.backends.len() {
            return Fate::Orphaned;
        }
        let backend = self.backends.get(id);
        if backend.flags & backend_flag::VALID == 0 || backend.service as usize >= self.services.len() {
            return Fate::Orphaned;
        }
        let service = self.services.get(backend.service as usize);
        let timeout = match val.kind {
            kind::TEMPLATE => service.persist_ticks,
            kind::FRAGMENT => FRAGMENT_TICKS,
            _ => state::timeout(&service, service.proto, val.state),
        };
        if val.idle(now) > timeout { Fate::Expired } else { Fate::Stays }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Expired,
    Orphaned,
}
