//! A single UDP question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Host;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a datagram from a fresh port of a host, and gives the answer. It counts only if it comes from the address
/// that was asked.
pub fn ask(host: &Host, server: SocketAddr, question: &str) -> Result<String> {
    let socket = host.within(|| {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        Ok(socket)
    })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question.as_bytes())?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).with_context(|| format!("no answer from {server}"))?;
    answer.truncate(length);
    Ok(String::from_utf8(answer)?)
}
