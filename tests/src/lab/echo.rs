//! Echo servers: threads of this process with sockets in a host's namespace.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};

use crate::background::{Background, Stopped};

use super::host::Host;

/// What both servers answer with `<host>:` and the address that they were asked at.
pub const WHERE: &str = "where?";

/// A UDP server that answers each datagram with `<host>:<payload>`, until it is dropped.
#[derive(Debug)]
pub struct UdpEcho {
    _thread: Background<()>,
}

impl UdpEcho {
    pub(super) fn start(host: &Host, port: u16) -> Result<UdpEcho> {
        // One socket for each address: what a socket bound to all of them sends has the route's source address, and
        // a client that asked the VIP would be answered by someone else.
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let addresses = host.addresses().iter().copied().chain(loopback);
        let bind =
            || addresses.map(|ip| UdpSocket::bind((ip, port)).with_context(|| format!("{ip}"))).collect();
        let sockets: Vec<UdpSocket> =
            host.within(bind).with_context(|| format!("UDP port {port} on {}", host.name()))?;
        let name = host.name().to_owned();
        let thread = Background::start(move |stopped| serve_datagrams(&name, &sockets, stopped))?;
        Ok(UdpEcho { _thread: thread })
    }
}

fn serve_datagrams(name: &str, sockets: &[UdpSocket], stopped: &Stopped) {
    let mut buffer = vec![0; 65_536];
    let prefix = format!("{name}:").into_bytes();
    loop {
        let all = sockets.iter().map(AsFd::as_fd).chain([stopped.as_fd()]);
        let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if poll(&mut polled, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        if ready[sockets.len()] {
            return;
        }
        for (socket, _) in sockets.iter().zip(&ready).filter(|(_, ready)| **ready) {
            // An error here is an ICMP message about an earlier answer: the client has gone.
            if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let asked = &buffer[..length];
                let here =
                    socket.local_addr().map_or_else(|error| error.to_string(), |at| at.ip().to_string());
                let answer = if asked == WHERE.as_bytes() { here.as_bytes() } else { asked };
                let _ = socket.send_to(&[&prefix, answer].concat(), client);
            }
        }
    }
}

/// A TCP server that answers each line with `<host>:<line>`, until it is dropped.
#[derive(Debug)]
pub struct TcpEcho {
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpEcho {
    pub(super) fn start(host: &Host, port: u16) -> Result<TcpEcho> {
        let bind = || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?);
        let listener = host.within(bind).with_context(|| format!("TCP port {port} on {}", host.name()))?;
        let listener = Arc::new(listener);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (name, accepting, open) =
            (host.name().to_owned(), Arc::clone(&listener), Arc::clone(&connections));
        let thread = thread::spawn(move || accept(&name, &accepting, &open));
        Ok(TcpEcho { listener, connections, thread: Some(thread) })
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        // A listener that is shut down makes the waiting accept fail.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(name: &str, listener: &TcpListener, open: &Mutex<Vec<TcpStream>>) {
    while let Ok((stream, _)) = listener.accept() {
        let (Ok(kept), name) = (stream.try_clone(), name.to_owned()) else { continue };
        open.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        thread::spawn(move || {
            // A client that breaks off is its own affair.
            let _ = serve_lines(&name, stream);
        });
    }
}

fn serve_lines(name: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let here = stream.local_addr()?.ip().to_canonical().to_string();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let answer = if line == WHERE { &here } else { &line };
        stream.write_all(format!("{name}:{answer}\n").as_bytes())?;
    }
    // The clone that `open` keeps would hold the connection open.
    stream.shutdown(Shutdown::Both)
}
