//! A client whose packets carry a mark: the director's health checks, without the director.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Host, WHERE};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Sockets with this mark (0: none) and this address of our own.
#[derive(Clone, Copy, Debug)]
pub struct Marked {
    /// `SO_MARK`.
    pub mark: u32,
    /// What they are bound to, before they connect.
    pub local: IpAddr,
}

impl Marked {
    /// Asks a TCP echo server where it was asked.
    pub fn tcp(&self, host: &Host, server: SocketAddr) -> Result<String> {
        host.within(|| {
            let socket = self.socket(Type::STREAM, Protocol::TCP)?;
            socket.connect_timeout(&server.into(), PATIENCE).context("no connection")?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(format!("{WHERE}\n").as_bytes())?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).context("no answer")?;
            Ok(answer.trim_end().to_owned())
        })
    }

    /// Sends this many bytes to a TCP echo server in one line, and gives what comes back.
    pub fn tcp_line(&self, host: &Host, server: SocketAddr, line: &str) -> Result<String> {
        host.within(|| {
            let socket = self.socket(Type::STREAM, Protocol::TCP)?;
            socket.connect_timeout(&server.into(), PATIENCE).context("no connection")?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut sender = stream.try_clone()?;
            let mut answer = String::new();
            std::thread::scope(|scope| {
                scope.spawn(move || sender.write_all(format!("{line}\n").as_bytes()));
                BufReader::new(&mut stream).read_line(&mut answer).context("no answer")
            })?;
            Ok(answer.trim_end().to_owned())
        })
    }

    /// Asks a UDP echo server where it was asked.
    pub fn udp(&self, host: &Host, server: SocketAddr) -> Result<String> {
        host.within(|| {
            let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
            socket.connect(&server.into())?;
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(WHERE.as_bytes())?;
            let mut answer = [0; 256];
            let length = socket.recv(&mut answer).context("no answer")?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        })
    }

    /// Sends an ICMP echo.
    pub fn ping(&self, host: &Host, to: IpAddr) -> Result<()> {
        let (mark, local, to) = (self.mark.to_string(), self.local.to_string(), to.to_string());
        host.run(&["ping", "-n", "-c", "1", "-W", "1", "-m", &mark, "-I", &local, &to]).map(drop)
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> Result<Socket> {
        let at = SocketAddr::new(self.local, 0);
        let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
        socket.set_mark(self.mark)?;
        socket.bind(&at.into())?;
        Ok(socket)
    }
}
