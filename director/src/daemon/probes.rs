//! The way of probes: marks by which they reach VIPs at real servers, and addresses that they come from.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use pnet::ipnetwork::IpNetwork;

use crate::dataplane::{Error, Probes};
use crate::model::{Config, Service, Via};
use crate::pool::NextHops;

/// The programs for probes, while any are wanted.
#[derive(Default)]
pub(super) struct Way {
    programs: Option<Arc<Mutex<Probes>>>,
    marks: HashMap<IpAddr, u32>,
    interfaces: BTreeSet<u32>,
}

/// How real servers are asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// The mark of each VIP.
    pub(super) marks: HashMap<IpAddr, u32>,
    /// Addresses of ours, by real server.
    sources: HashMap<IpAddr, Source>,
}

/// An address of ours that is no VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    address: IpAddr,
    /// Whether the kernel would choose it by itself.
    natural: bool,
}

impl Ways {
    /// Where packets to a real server come from. A socket that is bound takes a port for itself, so it is bound only where the
    /// kernel would choose a VIP, and where it is marked.
    pub(super) fn source(&self, real: IpAddr, marked: bool) -> Option<IpAddr> {
        let source = self.sources.get(&real)?;
        (marked || !source.natural).then_some(source.address)
    }
}

impl Way {
    /// Makes the VIPs reachable that the configuration's checks go to.
    ///
    /// # Errors
    /// The programs cannot be loaded. Then there are no marks, and real servers' own addresses are asked.
    pub(super) async fn follow(&mut self, config: &Config) -> Result<(), Error> {
        let vips: BTreeSet<IpAddr> = through(config).map(|service| service.address).collect();
        self.marks.clear();
        if vips.is_empty() {
            self.programs = None;
            return Ok(());
        }
        let programs = match &self.programs {
            Some(programs) => Arc::clone(programs),
            None => Arc::new(Mutex::new(blocking(Probes::open).await?)),
        };
        let job = Arc::clone(&programs);
        let marks = move || {
            let mut probes = job.lock().unwrap_or_else(PoisonError::into_inner);
            probes.set_vips(&vips).map(|marks| marks.iter().map(|(vip, mark)| (*vip, *mark)).collect())
        };
        self.marks = blocking(marks).await?;
        self.programs = Some(programs);
        Ok(())
    }

    /// Has the programs on the interfaces by which those real servers are reached. Nothing is done and returned where these are
    /// the same as the last time, unless `all` are to be looked after.
    ///
    /// # Errors
    /// The first that occurred; the other interfaces are looked after.
    pub(super) async fn attach(
        &mut self,
        config: &Config,
        hops: &NextHops,
        all: bool,
    ) -> Option<Result<(), Error>> {
        let programs = self.programs.as_ref()?;
        let reals = through(config).flat_map(|service| &service.reals);
        let hops = reals.filter_map(|real| hops.get(&real.address)).map(|hop| hop.ifindex);
        let configured =
            pnet::datalink::interfaces().into_iter().filter(|found| config.interfaces.contains(&found.name));
        let interfaces: BTreeSet<u32> = hops.chain(configured.map(|found| found.index)).collect();
        if !all && interfaces == self.interfaces {
            return None;
        }
        self.interfaces = interfaces.clone();
        let programs = Arc::clone(programs);
        let attach = move || programs.lock().unwrap_or_else(PoisonError::into_inner).attach(&interfaces);
        Some(blocking(attach).await)
    }

    /// How the configuration's real servers are asked.
    pub(super) async fn ways(&self, config: &Config) -> Ways {
        let vips: HashSet<IpAddr> = config.vips.iter().map(|vip| vip.address).collect();
        let watched = config.services.iter().filter(|service| !service.health.checks.is_empty());
        let reals: HashSet<IpAddr> =
            watched.flat_map(|service| &service.reals).map(|real| real.address).collect();
        let own: Vec<IpNetwork> =
            pnet::datalink::interfaces().into_iter().flat_map(|found| found.ips).collect();
        let sources = move || {
            let source = |real: IpAddr| Some((real, source(real, &vips, &own)?));
            Ok(reals.into_iter().filter_map(source).collect())
        };
        // Should the thread die, the kernel chooses.
        let sources = blocking(sources).await.unwrap_or_default();
        Ways { marks: self.marks.clone(), sources }
    }
}

/// Services whose checks go to the VIP at each real server.
fn through(config: &Config) -> impl Iterator<Item = &Service> {
    config.services.iter().filter(|service| service.health.checks.iter().any(|check| check.via == Via::Vip))
}

/// Runs what waits for the kernel where nobody else waits for it.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(job).await {
        Ok(result) => result,
        Err(error) => Err(Error::Load(format!("a thread died: {error}"))),
    }
}

/// The address of ours that packets to a real server come from. Never a VIP: a real server that holds it too would answer
/// itself. IPv6 prefers one at times (RFC 6724, 5, rule 8), so then another one is chosen: of the real server's own network, if
/// there is one.
fn source(real: IpAddr, vips: &HashSet<IpAddr>, own: &[IpNetwork]) -> Option<Source> {
    let any: IpAddr = if real.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    // Connecting a datagram socket sends nothing, and has the kernel choose.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(real, 9)).ok()?;
    let chosen = socket.local_addr().ok()?.ip();
    if !vips.contains(&chosen) {
        return Some(Source { address: chosen, natural: true });
    }
    let local = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    let fits = |net: &&IpNetwork| {
        net.ip().is_ipv4() == real.is_ipv4() && !vips.contains(&net.ip()) && !local(&net.ip())
    };
    let near = own.iter().filter(fits).find(|net| net.contains(real));
    let found = near.or_else(|| own.iter().find(fits))?;
    Some(Source { address: found.ip(), natural: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_is_never_where_probes_come_from() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let natural = Source { address: loopback, natural: true };
        assert_eq!(source(loopback, &HashSet::new(), &[]), Some(natural));
        let own: Vec<IpNetwork> = ["127.0.0.1/8", "10.0.0.9/8", "127.0.0.5/8", "2001:db8::1/64"]
            .map(|net| net.parse().unwrap())
            .into();
        let vips = HashSet::from([loopback]);
        let other = Source { address: [10, 0, 0, 9].into(), natural: false };
        assert_eq!(source(loopback, &vips, &own), Some(other), "a real address rather than a local one");
        assert_eq!(source(loopback, &vips, &[]), None);
        let ways = Ways { marks: HashMap::new(), sources: HashMap::from([(loopback, natural)]) };
        assert_eq!((ways.source(loopback, true), ways.source(loopback, false)), (Some(loopback), None));
    }
}
