//! What rustls says, in an operator's words. Pure.

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Why TLS failed: the rest of a sentence that begins with "TLS: ".
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoCertificatesPresented => "the server has no certificate".into(),
        Error::InvalidMessage(_) => "the server's answer is not TLS".into(),
        Error::PeerIncompatible(_) => "no common version or cipher suite".into(),
        Error::NoApplicationProtocol => "no common protocol (ALPN)".into(),
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::InconsistentKeys(_) => "the key does not belong to the certificate".into(),
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError::*;
    let what = match error {
        Expired | ExpiredContext { .. } => "has expired",
        NotValidYet | NotValidYetContext { .. } => "is not valid yet",
        Revoked => "is revoked",
        UnknownIssuer => "is signed by nobody trusted",
        BadSignature => "has a signature that is wrong",
        BadEncoding => "cannot be read",
        NotValidForName => "is for another name",
        NotValidForNameContext { expected, .. } => {
            return format!("certificate is not for {}", expected.to_str());
        }
        InvalidPurpose | InvalidPurposeContext { .. } => "is not meant for servers",
        // Self-signed certificates are often made so.
        Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            "is an authority's own (CA:TRUE), not a server's"
        }
        other => return format!("certificate: {other}"),
    };
    format!("certificate {what}")
}

/// The server ended it (RFC 8446, 6.2).
fn alert_received(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::HandshakeFailure => "nothing in common, or it wants a certificate of ours",
        AlertDescription::ProtocolVersion => "no common version of TLS",
        AlertDescription::UnrecognisedName => "it does not know the name it was asked for (SNI)",
        AlertDescription::CertificateRequired => "it wants a certificate of ours",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "it does not accept our certificate",
        AlertDescription::CertificateExpired => "our certificate has expired",
        AlertDescription::CertificateRevoked => "our certificate is revoked",
        AlertDescription::UnknownCA => "our certificate is signed by nobody it trusts",
        AlertDescription::NoApplicationProtocol => "no common protocol (ALPN)",
        other => return format!("the server refused: {other:?}"),
    };
    format!("the server refused: {why}")
}
