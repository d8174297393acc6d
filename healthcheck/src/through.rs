//! What a library needs to speak its protocol through a connection of ours: a stream that does not go on for ever, and the failure
//! that lies beneath its errors.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls;

use crate::attempt::MOST;
use crate::outcome::Failure;

/// A stream that fails with [`Failure::TooLong`] when more than [`MOST`] bytes were read of it: libraries that keep what they
/// read have no such limit, or a far larger one.
#[derive(Debug)]
pub struct Limited<S> {
    stream: S,
    left: usize,
}

impl<S> Limited<S> {
    /// Puts the limit on a stream.
    pub fn new(stream: S) -> Limited<S> {
        Limited { stream, left: MOST }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(Failure::TooLong)));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The failure of the connection that made a library's call fail. None: the connection is well, it is something else.
pub fn beneath(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Some(failure.clone());
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(Failure::Tls(crate::tls::words(error)));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.get_ref() {
                // `source` of an I/O error passes over the error that it wraps.
                Some(inner) => return beneath(inner).or_else(|| of_connection(error.kind())),
                None => return of_connection(error.kind()),
            }
        }
        next = error.source();
    }
    None
}

/// Other kinds are what libraries make of answers they do not understand.
fn of_connection(kind: io::ErrorKind) -> Option<Failure> {
    match Failure::from(io::Error::from(kind)) {
        Failure::Local(_) | Failure::Protocol(_) => None,
        failure => Some(failure),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_at_the_limit() {
        let mut stream = Limited::new(tokio::io::join(tokio::io::repeat(7), tokio::io::sink()));
        let mut read = Vec::new();
        let error = stream.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(beneath(&error), Some(Failure::TooLong));
        assert!(read.len() >= MOST && read.len() < 2 * MOST, "{}", read.len());
    }

    #[test]
    fn the_failure_beneath_is_found() {
        let wrapped = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(beneath(&wrapped), Some(Failure::Closed));
        assert_eq!(beneath(&io::Error::from(io::ErrorKind::ConnectionRefused)), Some(Failure::Refused));
        assert_eq!(beneath(&io::Error::other("cannot be parsed")), None);
    }
}
