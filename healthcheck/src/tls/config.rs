//! rustls configurations, kept: thousands of probes with the same wishes share one, and read its files once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::outcome::Failure;
use crate::spec::Tls;

/// How many configurations are kept. When there are more (after many reloads), all are forgotten and made anew as needed.
const KEPT: usize = 1024;

/// What makes a configuration. Not the server's name: that is said to each connection.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    verify: bool,
    authorities: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    protocols: Vec<Vec<u8>>,
}

/// A configuration, and what its files looked like when it was made.
struct Kept {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

/// Which file it is, when it was last changed (seconds and nanoseconds), and how long it is. A replaced file differs in the first
/// even where the clock is too coarse for the others.
#[derive(PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    changed: (i64, i64),
    length: u64,
}

static CONFIGS: LazyLock<Mutex<HashMap<Key, Kept>>> = LazyLock::new(Mutex::default);
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(crypto::ring::default_provider()));
/// The system's authorities: read once, the first time that they are needed.
static SYSTEM: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);

/// The configuration for what a probe wants: one that is kept, or a new one where there is none or a file has changed.
///
/// # Errors
/// A file cannot be read, or has nothing that can be used.
pub async fn get(tls: &Tls, protocols: &[&str]) -> Result<Arc<ClientConfig>, Failure> {
    let key = Key {
        verify: tls.verify,
        // Who accepts any certificate needs no authorities.
        authorities: tls.authorities.clone().filter(|_| tls.verify),
        certificate: tls.certificate.clone(),
        protocols: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
    };
    if key.files().next().is_none()
        && let Some(config) = kept(&key, &[])
    {
        return Ok(config);
    }
    // Files block, even when they are only looked at.
    tokio::task::spawn_blocking(move || find_or_make(key))
        .await
        .map_err(|error| Failure::Local(format!("reading certificates: {error}")))?
}

fn find_or_make(key: Key) -> Result<Arc<ClientConfig>, Failure> {
    // Looked at before they are read: a change in between is then seen the next time.
    let stamps = key.files().map(Stamp::of).collect::<Result<Vec<Stamp>, Failure>>()?;
    if let Some(config) = kept(&key, &stamps) {
        return Ok(config);
    }
    let config = Arc::new(make(&key)?);
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    if configs.len() >= KEPT {
        configs.clear();
    }
    configs.insert(key, Kept { stamps, config: config.clone() });
    Ok(config)
}

fn kept(key: &Key, stamps: &[Stamp]) -> Option<Arc<ClientConfig>> {
    let configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    configs.get(key).filter(|kept| kept.stamps == stamps).map(|kept| kept.config.clone())
}

fn make(key: &Key) -> Result<ClientConfig, Failure> {
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .map_err(local("TLS"))?;
    let builder = if key.verify {
        builder.with_root_certificates(match &key.authorities {
            Some(path) => Arc::new(authorities(path)?),
            None => system()?,
        })
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate))
    };
    let mut config = match &key.certificate {
        None => builder.with_no_client_auth(),
        Some((path, secret)) => {
            let chain = certificates(path)?;
            let secret_key = PrivateKeyDer::from_pem_file(secret).map_err(|error| unusable(secret, error))?;
            builder.with_client_auth_cert(chain, secret_key).map_err(local(&path.display().to_string()))?
        }
    };
    config.alpn_protocols = key.protocols.clone();
    // A resumed session has no certificate in it: one that has expired since would not be noticed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The authorities in a PEM file.
fn authorities(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(local(&path.display().to_string()))?;
    }
    Ok(roots)
}

/// The certificates in a PEM file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(unusable(path, pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn system() -> Result<Arc<RootCertStore>, Failure> {
    let mut system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = &*system {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    // Single certificates that are broken are no reason to distrust the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Failure::Local("the system trusts no authorities (package ca-certificates)".into()));
    }
    Ok(system.insert(Arc::new(roots)).clone())
}

impl Key {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let ours = self.certificate.iter().flat_map(|(chain, key)| [chain, key]);
        self.authorities.iter().chain(ours).map(PathBuf::as_path)
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, Failure> {
        let found = fs::metadata(path).map_err(|error| unusable(path, pem::Error::Io(error)))?;
        Ok(Stamp {
            file: (found.dev(), found.ino()),
            changed: (found.mtime(), found.mtime_nsec()),
            length: found.len(),
        })
    }
}

/// What is wrong with a PEM file. Its content is never said: it may be a key.
fn unusable(path: &Path, error: pem::Error) -> Failure {
    let why = match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no such file".to_owned()
        }
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "has no PEM section of the kind that is needed".into(),
        _ => "is not a PEM file that can be read".into(),
    };
    Failure::Local(format!("{}: {why}", path.display()))
}

fn local(what: &str) -> impl Fn(rustls::Error) -> Failure {
    move |error| Failure::Local(format!("{what}: {}", super::words(&error)))
}

/// Accepts whatever certificate a server has; but the server must have its key.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
