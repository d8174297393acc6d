//! Probes through the data path: a socket of ours that reaches a VIP at one given real server, though we hold the VIP
//! ourselves.
//!
//! The socket is connected to the real server's own address, with the VIP's mark (`SO_MARK`). Programs behind and before the
//! network stack put the VIP in that address's place and back; see [`director_ebpf::probe`]. What a prober has to do:
//!
//! - set the mark before the socket sends anything;
//! - bind the socket to an own address that is no VIP, and to port 0 of it *before* it connects. The kernel otherwise gives
//!   one port to connections to several real servers, whose answers, all from the VIP, could not be told apart. A ping's
//!   identifier must be one real server's alone for the same reason; the kernel's ping sockets see to it;
//! - have the programs on the interface by which the real server is reached. A marked packet that leaves by another one
//!   reaches the real server's own address.
//!
//! Unlike the data plane's, these programs end with the process: nobody probes then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLinkId, TcAttachOptions, TcAttachType, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use director_ebpf::probe::{Count, MARKS, MAX_VIPS, Words, names, words};
use rustix::net::{AddressFamily, SocketType, netdevice};

use super::error::Error;
use super::{object, tcx};
use crate::model::mapped;

/// The programs, as built with this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/director-probes"));

/// Where filters stand among others of the interface. A fixed place, since each new one at a place of the kernel's choosing
/// stands before all others.
const PRIORITY: u16 = 0x0d1e;

/// Both programs and where they stand.
const PROGRAMS: [(&str, TcAttachType); 2] =
    [(names::OUT, TcAttachType::Egress), (names::IN, TcAttachType::Ingress)];

/// How a program is held to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// By a TCX link, which ends with the process however that ends (Linux 6.6).
    Link,
    /// By a filter of the `clsact` queueing discipline. A process that is killed leaves it; without a marked socket it does
    /// nothing, and the next process replaces it.
    Filter,
}

/// What the programs counted. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// Packets of probes sent to a VIP.
    pub sent: u64,
    /// Answers from a VIP that were recognized.
    pub answered: u64,
    /// ICMP errors about probes.
    pub errors: u64,
    /// Marked packets that could not be sent to a VIP, and were dropped.
    pub refused: u64,
}

/// The programs, and the VIPs that they know. Dropping it detaches them.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    hook: Hook,
    vips: HashMap<MapData, u32, Words>,
    marks: BTreeMap<IpAddr, u32>,
    /// The number last given: one that was taken back is the last to be given again, for a probe may still be on its way.
    last: u32,
    attached: BTreeMap<u32, Vec<(&'static str, SchedClassifierLinkId)>>,
}

impl Probes {
    /// Loads the programs.
    ///
    /// # Errors
    /// No permission, or the kernel refuses a program.
    pub fn open() -> Result<Probes, Error> {
        Probes::open_with(Hook::Link)
    }

    /// The same, beginning with a given way to attach. Where the kernel has no TCX links, filters are used all the same.
    ///
    /// # Errors
    /// As for [`Probes::open`].
    pub fn open_with(hook: Hook) -> Result<Probes, Error> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(object::load_error)?;
        for (name, _) in PROGRAMS {
            let program = program(&mut ebpf, name)?;
            object::undisturbed(|| program.load()).map_err(|error| Error::Load(object::chain(&error)))?;
        }
        let vips = object::take(&mut ebpf, names::VIPS)?;
        Ok(Probes { ebpf, hook, vips, marks: BTreeMap::new(), last: 0, attached: BTreeMap::new() })
    }

    /// How the programs are attached.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Attaches the programs to these interfaces of the caller's network namespace and to no others. Where they are already,
    /// they are looked after: what somebody else removed comes back. All are tried, whatever happens to one.
    ///
    /// # Errors
    /// The first that occurred.
    pub fn attach(&mut self, interfaces: &BTreeSet<u32>) -> Result<(), Error> {
        let gone: Vec<u32> =
            self.attached.keys().filter(|index| !interfaces.contains(index)).copied().collect();
        for index in gone {
            self.detach(index);
        }
        let mut result = Ok(());
        for index in interfaces {
            result = result.and(self.attach_one(*index));
        }
        result
    }

    /// Makes these the VIPs that can be probed, and says which mark stands for each. A VIP that was there keeps its mark.
    ///
    /// # Errors
    /// There are too many, or the map cannot be written.
    pub fn set_vips(&mut self, vips: &BTreeSet<IpAddr>) -> Result<&BTreeMap<IpAddr, u32>, Error> {
        let gone: Vec<IpAddr> = self.marks.keys().filter(|vip| !vips.contains(vip)).copied().collect();
        for vip in gone {
            if let Some(mark) = self.marks.remove(&vip) {
                self.vips.remove(&mark)?;
            }
        }
        let used: BTreeSet<u32> = self.marks.values().copied().collect();
        for vip in vips {
            if self.marks.contains_key(vip) {
                continue;
            }
            if self.marks.len() >= MAX_VIPS as usize {
                return Err(Error::Load(format!("more than {MAX_VIPS} VIPs to probe")));
            }
            let mark = loop {
                self.last = self.last % MAX_VIPS + 1;
                let mark = MARKS | self.last;
                if !used.contains(&mark) {
                    break mark;
                }
            };
            self.vips.insert(mark, words(mapped(*vip)), 0)?;
            self.marks.insert(*vip, mark);
        }
        Ok(&self.marks)
    }

    /// The mark of each VIP.
    pub fn marks(&self) -> &BTreeMap<IpAddr, u32> {
        &self.marks
    }

    /// What the programs counted, on all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counts(&self) -> Result<ProbeCounts, Error> {
        let map = self.ebpf.map(names::COUNTS).ok_or_else(|| object::missing(names::COUNTS))?;
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map)?;
        let sum = |what: Count| -> Result<u64, Error> { Ok(map.get(&(what as u32), 0)?.iter().sum()) };
        Ok(ProbeCounts {
            sent: sum(Count::Sent)?,
            answered: sum(Count::Answered)?,
            errors: sum(Count::Errors)?,
            refused: sum(Count::Refused)?,
        })
    }

    fn attach_one(&mut self, index: u32) -> Result<(), Error> {
        let interface = name_of(index)?;
        if self.hook == Hook::Link && self.attached.contains_key(&index) {
            if self.holds(index)? {
                return Ok(());
            }
            tracing::warn!(interface, "somebody removed the probes' programs; attaching them again");
            self.detach(index);
        }
        if self.hook == Hook::Link {
            match self.link(index, &interface) {
                Err(Error::Program(ProgramError::SyscallError(error)))
                    if error.io_error.raw_os_error() == Some(libc::EINVAL) && self.attached.is_empty() =>
                {
                    tracing::info!("this kernel has no TCX links; probes use filters");
                    self.hook = Hook::Filter;
                }
                result => return result.map_err(|error| attach_error(&interface, error)),
            }
        }
        self.filter(index, &interface).map_err(|error| attach_error(&interface, error))
    }

    /// Whether links still hold both programs to an interface.
    fn holds(&mut self, index: u32) -> Result<bool, Error> {
        for (name, kind) in PROGRAMS {
            let own = program(&mut self.ebpf, name)?.info()?.id();
            let there = tcx::programs(index, kind).map_err(Error::Tcx)?;
            if !there.contains(&own) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Answers first: once a probe is sent, they are recognized.
    fn link(&mut self, index: u32, interface: &str) -> Result<(), Error> {
        for (name, kind) in PROGRAMS.into_iter().rev() {
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let link = program(&mut self.ebpf, name)?.attach_with_options(interface, kind, options);
            match link {
                Ok(link) => self.attached.entry(index).or_default().push((name, link)),
                Err(error) => {
                    self.detach(index);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Nobody says whether a filter of ours still stands. So another one is put beside it each time, and the old one goes
    /// afterwards: two of them do what one does. A predecessor's filters are known by their names.
    fn filter(&mut self, index: u32, interface: &str) -> Result<(), Error> {
        // It may be there already. If it is not, and cannot be, attaching says so.
        let _ = qdisc_add_clsact(interface);
        let old = self.attached.remove(&index);
        if old.is_none() {
            for (name, kind) in PROGRAMS {
                // There is none, in general.
                let _ = qdisc_detach_program(interface, kind, name);
            }
        }
        let mut result = Ok(());
        for (name, kind) in PROGRAMS.into_iter().rev() {
            let options = NlOptions { priority: PRIORITY, ..NlOptions::default() };
            let options = TcAttachOptions::Netlink(options);
            match program(&mut self.ebpf, name)?.attach_with_options(interface, kind, options) {
                Ok(link) => self.attached.entry(index).or_default().push((name, link)),
                Err(error) => result = Err(error.into()),
            }
        }
        self.release(old.into_iter().flatten());
        result
    }

    fn detach(&mut self, index: u32) {
        let links = self.attached.remove(&index);
        self.release(links.into_iter().flatten());
    }

    fn release(&mut self, links: impl Iterator<Item = (&'static str, SchedClassifierLinkId)>) {
        for (name, link) in links {
            // A link whose interface went away, or a filter that someone removed, is gone already.
            if let Ok(program) = program(&mut self.ebpf, name) {
                let _ = program.detach(link);
            }
        }
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Error> {
    Ok(ebpf.program_mut(name).ok_or_else(|| object::missing(name))?.try_into()?)
}

/// The name of an interface in the caller's network namespace.
fn name_of(index: u32) -> Result<String, Error> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    let name = socket.and_then(|socket| netdevice::index_to_name(socket, index));
    name.map_err(|_| Error::NoInterface(format!("with index {index}")))
}

fn attach_error(interface: &str, error: Error) -> Error {
    Error::Attach {
        interface: interface.into(),
        why: format!("the programs of health checks: {}", object::chain(&error)),
        help: "",
    }
}
