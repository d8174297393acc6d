//! A single HTTP request from a chosen port.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

use crate::lab::Host;

/// How long a part of the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for `/` from the given port and gives the answer's body. The server closes first, and the port can be used again at
/// once; a client that closed first would keep it in TIME_WAIT.
pub fn fetch_from_port(host: &Host, server: SocketAddr, port: u16) -> Result<String> {
    let mut stream = host
        .within(|| connect_from(server, port))
        .with_context(|| format!("cannot connect to {server} from port {port} of {}", host.name()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no whole answer from {server}"))?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{server} answered {answer:?}"))?;
    Ok(body.trim_end().to_owned())
}

fn connect_from(server: SocketAddr, port: u16) -> Result<TcpStream> {
    let (family, any): (_, IpAddr) = match server {
        SocketAddr::V4(_) => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Bounds the handshake too, which has no timeout of its own here.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    bind(&socket, &SocketAddr::new(any, port))?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}
