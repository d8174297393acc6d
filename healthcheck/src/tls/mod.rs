//! TLS for probes, by rustls. What a probe asks for becomes a configuration in `config`; what goes wrong becomes plain words in
//! `words`.

mod config;
mod words;

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::outcome::Failure;
use crate::spec::Tls;

pub(crate) use words::words;

/// Puts TLS over a stream (TLS 1.2 or 1.3, RFC 8446). `protocols`: for ALPN (RFC 7301), in order of preference; what the server
/// chose of them is to be asked of the stream.
///
/// # Errors
/// [`Failure::Tls`]: the handshake fails, or the certificate is not good. [`Failure::Closed`]: the server hangs up.
/// [`Failure::Local`]: a PEM file cannot be used.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Tls,
    address: IpAddr,
    protocols: &[&str],
    stream: S,
) -> Result<TlsStream<S>, Failure> {
    let name = name(tls, address)?;
    let config = config::get(tls, protocols).await?;
    Ok(TlsConnector::from(config).connect(name, stream).await?)
}

/// Whom the certificate is for. An address is not sent as SNI (RFC 6066, 3).
fn name(tls: &Tls, address: IpAddr) -> Result<ServerName<'static>, Failure> {
    match &tls.name {
        None => Ok(address.into()),
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| Failure::Local(format!("{name} cannot be the name of a TLS server"))),
    }
}
