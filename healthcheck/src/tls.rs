//! TLS for probes, by rustls.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::outcome::Failure;
use crate::spec::Tls;

/// Puts TLS over a stream. `protocols`: for ALPN, in order of preference.
///
/// # Errors
/// The handshake fails, or the certificate is not good.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    _tls: &Tls,
    _address: IpAddr,
    _protocols: &[&str],
    _stream: S,
) -> Result<TlsStream<S>, Failure> {
    Err(Failure::Local("not built yet".into()))
}
