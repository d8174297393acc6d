//! Virtual addresses on the director's interfaces. This is the only module that changes addresses.
//!
//! Without a heartbeat a director is alone, so it holds its VIPs always: what is missing is added, again and again.

pub mod command;
pub mod dns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::Handle;

use crate::model::Vip;

/// A lifetime without an end (linux/addrconf.h, INFINITY_LIFE_TIME).
const FOREVER: u32 = u32::MAX;

/// What [`hold`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// VIPs that were missing and are there now.
    pub added: Vec<Vip>,
    /// VIPs that are not there, and why.
    pub failed: Vec<(Vip, String)>,
}

/// Adds those of `vips` that are missing on their interfaces.
///
/// # Errors
/// The kernel cannot be asked. What it refuses for one VIP is in the report.
pub async fn hold(vips: &[Vip]) -> Result<Report> {
    let netlink = Netlink::open()?;
    let (indices, present) = (netlink.interfaces().await?, netlink.addresses().await?);
    let mut report = Report::default();
    for (vip, index) in missing(vips, &indices, &present) {
        let added = match index {
            Some(index) => netlink.add(vip, index).await,
            None => Err(anyhow::anyhow!("there is no interface {}", vip.interface)),
        };
        match added {
            Ok(()) => report.added.push(vip.clone()),
            Err(error) => report.failed.push((vip.clone(), format!("{error:#}"))),
        }
    }
    Ok(report)
}

/// Removes those of `vips` that are there. For VIPs that the director had added itself, and that are not its own any more.
///
/// # Errors
/// The kernel cannot be asked, or refuses; the others are removed.
pub async fn release(vips: &[Vip]) -> Result<()> {
    let netlink = Netlink::open()?;
    let indices = netlink.interfaces().await?;
    let mut result = Ok(());
    for message in netlink.messages().await? {
        let Some(address) = address(&message) else { continue };
        let ours = |vip: &Vip| {
            let Vip { address: vip_address, prefix, interface } = vip;
            (*vip_address, *prefix) == (address, message.header.prefix_len)
                && indices.get(interface) == Some(&message.header.index)
        };
        if let Some(vip) = vips.iter().find(|vip| ours(vip)) {
            let removed = netlink.handle.address().del(message).execute().await;
            let removed =
                removed.with_context(|| format!("cannot remove {} from {}", vip.address, vip.interface));
            result = result.and(removed);
        }
    }
    result
}

/// The VIPs that are on none of their interface's addresses, whatever the prefix length there, and the interface's index.
fn missing<'a>(
    vips: &'a [Vip],
    indices: &BTreeMap<String, u32>,
    present: &BTreeSet<(u32, IpAddr)>,
) -> Vec<(&'a Vip, Option<u32>)> {
    let with_index = vips.iter().map(|vip| (vip, indices.get(&vip.interface).copied()));
    with_index
        .filter(|(vip, index)| index.is_none_or(|index| !present.contains(&(index, vip.address))))
        .collect()
}

/// The interface's own address in a message: of a point-to-point one, not the peer's.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = || message.attributes.iter();
    let local = attributes().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// A connection to the kernel, as long as this lives.
struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    fn open() -> Result<Netlink> {
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
        Ok(Netlink { handle, connection: tokio::spawn(connection) })
    }

    async fn interfaces(&self) -> Result<BTreeMap<String, u32>> {
        use netlink_packet_route::link::LinkAttribute;
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.context("cannot list interfaces")?;
        let name = |attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        };
        let named = links
            .into_iter()
            .filter_map(|link| Some((link.attributes.into_iter().find_map(name)?, link.header.index)));
        Ok(named.collect())
    }

    async fn messages(&self) -> Result<Vec<AddressMessage>> {
        self.handle.address().get().execute().try_collect().await.context("cannot list addresses")
    }

    async fn addresses(&self) -> Result<BTreeSet<(u32, IpAddr)>> {
        let messages = self.messages().await?;
        Ok(messages.iter().filter_map(|message| Some((message.header.index, address(message)?))).collect())
    }

    async fn add(&self, vip: &Vip, index: u32) -> Result<()> {
        let mut request = self.handle.address().add(index, vip.address, vip.prefix);
        if vip.address.is_ipv6() {
            let message = request.message_mut();
            // Real servers under direct routing have the same address: duplicate address detection could find one of them.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            // Deprecated from the start, so that connections of the director's own do not come from a VIP.
            let mut lifetimes = CacheInfo::default();
            (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        }
        match request.execute().await {
            // Someone else added it in the meantime.
            Err(rtnetlink::Error::NetlinkError(error))
                if error.to_io().kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            other => other.with_context(|| format!("cannot add {}/{}", vip.address, vip.prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_is_not_missing() {
        let vip = |address: &str, interface: &str| Vip {
            address: address.parse().unwrap(),
            prefix: 24,
            interface: interface.to_owned(),
        };
        let vips = [
            vip("192.0.2.1", "eth0"),
            vip("192.0.2.2", "eth0"),
            vip("192.0.2.1", "eth1"),
            vip("::1", "eth9"),
        ];
        let indices = BTreeMap::from([("eth0".to_owned(), 2), ("eth1".to_owned(), 3)]);
        let present = BTreeSet::from([(2, vips[0].address), (3, vips[1].address)]);
        let found = missing(&vips, &indices, &present);
        assert_eq!(found, [(&vips[1], Some(2)), (&vips[2], Some(3)), (&vips[3], None)]);
    }
}
