//! One run of a probe: its connections, and what is noted on the way. Whatever it opens closes when it is dropped, so a probe
//! that is given up leaves nothing behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::outcome::{Failure, Step};
use crate::spec::{Target, Tls};
use crate::text::Pattern;
use crate::tls;

/// The most bytes of an answer that are read.
pub const MOST: usize = 1 << 20;

/// A byte stream, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Stream for T {}

/// One run of a probe.
#[derive(Debug)]
pub struct Attempt {
    target: Target,
    started: Instant,
    steps: Vec<Step>,
    awaiting: &'static str,
    timeout: Duration,
}

impl Attempt {
    /// Begins one.
    pub fn new(target: Target, timeout: Duration) -> Attempt {
        Attempt { target, started: Instant::now(), steps: Vec::new(), awaiting: "answer", timeout }
    }

    /// Whom it asks.
    pub fn target(&self) -> Target {
        self.target
    }

    /// How long it may take, from its start.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is left of that.
    pub fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    /// Notes that something happened.
    pub fn step(&mut self, what: impl Into<String>) {
        self.steps.push(Step { what: what.into(), at: self.started.elapsed() });
    }

    /// Says what is waited for from here on, for the case that it does not come: "no {what} in 1 s".
    pub fn awaits(&mut self, what: &'static str) {
        self.awaiting = what;
    }

    /// What it is called that the time is up.
    pub fn late(&self) -> Failure {
        Failure::Timeout { awaiting: self.awaiting, after: self.timeout }
    }

    /// What was noted, and how long all of it took.
    pub fn finish(self) -> (Vec<Step>, Duration) {
        (self.steps, self.started.elapsed())
    }

    /// A TCP connection to the real server.
    ///
    /// # Errors
    /// It is refused, there is no way there, or no socket.
    pub async fn tcp(&mut self) -> Result<TcpStream, Failure> {
        self.tcp_at(self.target.real.port()).await
    }

    /// A TCP connection to another port of the real server (FTP's data).
    ///
    /// # Errors
    /// As [`Attempt::tcp`].
    pub async fn tcp_at(&mut self, port: u16) -> Result<TcpStream, Failure> {
        self.awaits("connection");
        let mut real = self.target.real;
        real.set_port(port);
        let socket = if real.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        self.prepare(socket2::SockRef::from(&socket))?;
        socket.set_nodelay(true)?;
        // Thousands of probes would leave as many ports in TIME_WAIT, and soon none would be left: a connection that we close ends
        // with a RST, where the real server has not closed it first.
        socket.set_zero_linger()?;
        let stream = socket.connect(real).await?;
        self.step("connected");
        self.awaits("answer");
        Ok(stream)
    }

    /// A TCP connection to the real server, with TLS where it is asked for; `protocols` for ALPN.
    ///
    /// # Errors
    /// As [`Attempt::tcp`], and those of TLS.
    pub async fn stream(
        &mut self,
        tls: Option<&Tls>,
        protocols: &[&str],
    ) -> Result<Box<dyn Stream>, Failure> {
        let stream = self.tcp().await?;
        match tls {
            None => Ok(Box::new(stream)),
            Some(tls) => Ok(Box::new(self.secure(tls, protocols, stream).await?)),
        }
    }

    /// TLS over a stream.
    ///
    /// # Errors
    /// The handshake fails, or the certificate is not good.
    pub async fn secure<S: Stream>(
        &mut self,
        tls: &Tls,
        protocols: &[&str],
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, Failure> {
        self.awaits("TLS handshake");
        let stream = tls::connect(tls, self.target.address(), protocols, stream).await?;
        self.step("TLS established");
        self.awaits("answer");
        Ok(stream)
    }

    /// A UDP socket, connected to the real server.
    ///
    /// # Errors
    /// There is no way there, or no socket.
    pub async fn udp(&mut self) -> Result<UdpSocket, Failure> {
        let real = self.target.real;
        let socket = Socket::new(Domain::for_address(real), Type::DGRAM, Some(Protocol::UDP))?;
        self.prepare(socket2::SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        socket.connect(&real.into())?;
        self.awaits("answer");
        Ok(UdpSocket::from_std(socket.into())?)
    }

    /// Marks a socket's packets as the target wants, and binds it to the address that they come from, before it connects: marked
    /// packets to several real servers come back from one address, and must differ by our port.
    ///
    /// # Errors
    /// No permission (CAP_NET_ADMIN); the address is not ours (any more).
    pub fn prepare(&self, socket: socket2::SockRef<'_>) -> Result<(), Failure> {
        if self.target.mark != 0 {
            socket.set_mark(self.target.mark)?;
        }
        if let Some(source) = self.target.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(())
    }

    /// Where it is sent to.
    pub fn real(&self) -> SocketAddr {
        self.target.real
    }
}

/// Reads on until `enough` says so or the stream ends; returns all of it.
///
/// # Errors
/// The stream fails, or it goes on for more than [`MOST`] bytes.
pub async fn read_until<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Result<Vec<u8>, Failure> {
    let mut answer = Vec::new();
    loop {
        if enough(&answer) {
            return Ok(answer);
        }
        if answer.len() >= MOST {
            return Err(Failure::TooLong);
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(answer);
        }
        answer.extend_from_slice(&chunk[..count]);
    }
}

/// Fails unless `bytes` match, where there is something to match.
///
/// # Errors
/// They do not; `what` they are is for the reason.
pub fn expect(what: &'static str, pattern: Option<&Pattern>, bytes: &[u8]) -> Result<(), Failure> {
    match pattern {
        Some(pattern) if !pattern.matches(bytes) => {
            Err(Failure::Mismatch { what, pattern: pattern.to_string() })
        }
        _ => Ok(()),
    }
}
