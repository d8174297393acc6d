//! Asks by ARP requests and neighbour solicitations who has an address, and collects everybody who says so.
//!
//! No question claims anything: its sender is an address of this machine that is not asked for and no VIP, or 0.0.0.0 as in
//! a probe of RFC 5227.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::super::facts::Answers;
use crate::neighbours::hop::{Heard, HopKey};
use crate::neighbours::interfaces::Interfaces;
use crate::neighbours::packet::PacketSocket;
use crate::neighbours::wire::{self, BROADCAST};

/// How often everybody is asked: a frame may be lost.
const ROUNDS: usize = 3;
/// How long each time is listened. Neighbours answer within a millisecond, machines that sleep within tens of them.
const LISTEN: Duration = Duration::from_millis(150);
/// So many questions go out at once, then it is listened for a moment: bursts overrun queues.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(2);

/// Who answers for these addresses on these interfaces. Those that cannot be asked for (the interface is down, or has no
/// address to ask from) are not in the answer; those that nobody answered for are.
pub(super) async fn ask(
    interfaces: &Interfaces,
    targets: &[(u32, IpAddr)],
    vips: &BTreeSet<IpAddr>,
) -> io::Result<Answers> {
    let mut answers = Answers::default();
    let (mut arp, mut discovery) = (PacketSocket::arp()?, PacketSocket::neighbour_discovery()?);
    for _ in 0..ROUNDS {
        for burst in targets.chunks(BURST) {
            for (index, address) in burst {
                let socket = if address.is_ipv4() { &arp } else { &discovery };
                if question(socket, interfaces, *index, *address, vips) {
                    answers.0.entry((*index, *address)).or_default();
                }
            }
            listen(&mut arp, &mut discovery, interfaces, &mut answers, Instant::now() + PAUSE).await?;
        }
        listen(&mut arp, &mut discovery, interfaces, &mut answers, Instant::now() + LISTEN).await?;
    }
    Ok(answers)
}

/// Asks for an address. Says whether a frame was sent.
fn question(
    socket: &PacketSocket,
    interfaces: &Interfaces,
    index: u32,
    target: IpAddr,
    vips: &BTreeSet<IpAddr>,
) -> bool {
    let Some(mac) = interfaces.sender(index) else { return false };
    let mut avoid = vips.clone();
    avoid.insert(target);
    match target {
        IpAddr::V4(target) => {
            let source = interfaces.source_v4(index, target, None, &avoid);
            socket.send(index, BROADCAST, &wire::arp_request(mac, source, target)).is_ok()
        }
        IpAddr::V6(target) => {
            let Some(source) = interfaces.source_v6(index, &avoid) else { return false };
            let group = wire::solicited_node(target);
            let bytes = wire::neighbour_solicitation(mac, source, target, group);
            socket.send(index, wire::multicast_mac(group), &bytes).is_ok()
        }
    }
}

async fn listen(
    arp: &mut PacketSocket,
    discovery: &mut PacketSocket,
    interfaces: &Interfaces,
    answers: &mut Answers,
    end: Instant,
) -> io::Result<()> {
    loop {
        let heard = async {
            tokio::select! {
                heard = arp.receive() => heard,
                heard = discovery.receive() => heard,
            }
        };
        let Ok(heard) = timeout_at(end, heard).await else { return Ok(()) };
        let Some((HopKey { ifindex, address }, Heard { named, sender })) = heard? else { continue };
        let mac = named.unwrap_or(sender);
        if let Some(macs) = answers.0.get_mut(&(ifindex, address)).filter(|_| !interfaces.own(mac)) {
            macs.insert(mac);
        }
    }
}
