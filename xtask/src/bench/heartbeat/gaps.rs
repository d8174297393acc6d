//! Heartbeats as they arrive at the other director, seen from outside: how far they are apart.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ::tests::lab::Host;
use anyhow::{Context, Result, anyhow};
use director::realtime;
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto, recvfrom, socket, sockopt};

const PORT: u16 = 694;
/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Listens until it is stopped.
pub struct Gaps {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Gaps {
    /// Hears what `from` sends to this host.
    pub fn watch(host: &Host, from: Ipv4Addr) -> Result<Gaps> {
        let stop = Arc::new(AtomicBool::new(false));
        let (host, told) = (host.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || host.within(|| listen(from, &told)));
        Ok(Gaps { stop, thread })
    }

    /// All gaps, the shortest first.
    pub fn stop(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut gaps = self.thread.join().map_err(|_| anyhow!("the listener panicked"))??;
        gaps.sort_unstable();
        Ok(gaps)
    }
}

fn listen(from: Ipv4Addr, stop: &AtomicBool) -> Result<Vec<Duration>> {
    // Above the heartbeat: what is late shall be what is measured, not who measures.
    realtime::prioritize(realtime::HEARTBEAT + 5).context("cannot measure at real-time priority")?;
    // It gets a copy of each datagram, with its header (raw(7)).
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LOOK))?;
    let (mut gaps, mut last, mut packet) = (Vec::new(), None, [0; 2048]);
    while !stop.load(Ordering::Relaxed) {
        let length = match recvfrom(&socket, &mut packet[..], RecvFlags::empty()) {
            Ok((length, ..)) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot listen"),
        };
        let now = Instant::now();
        if is_heartbeat(&packet[..length.min(packet.len())], from) {
            gaps.extend(last.replace(now).map(|last| now.duration_since(last)));
        }
    }
    Ok(gaps)
}

fn is_heartbeat(packet: &[u8], from: Ipv4Addr) -> bool {
    let Some(first) = packet.first() else { return false };
    let header = usize::from(first & 0xf) * 4;
    let source = packet.get(12..16).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let to = packet.get(header + 2..header + 4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    source.is_some_and(|source| IpAddr::from(source) == from) && to == Some(PORT)
}
