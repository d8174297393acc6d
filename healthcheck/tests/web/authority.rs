//! A certificate authority for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// The name that its servers have.
pub const NAME: &str = "www.example.org";

/// An authority, its PEM file, and where it puts what it signs.
pub struct Authority {
    pub pem: PathBuf,
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new one, of this name.
    pub fn new(directory: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = directory.join(format!("{name}.pem"));
        fs::write(&pem, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { pem, directory: directory.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Its own.
    pub fn itself(&self) -> Pair {
        let key = self.directory.join("authority.key");
        fs::write(&key, self.issuer.key().serialize_pem()).unwrap();
        Pair { certificate: self.pem.clone(), key }
    }

    /// Signs a server's, for [`NAME`] and 127.0.0.1.
    pub fn server(&self) -> Pair {
        self.sign("server", |_| {})
    }

    /// Signs a server's that has expired.
    pub fn expired(&self) -> Pair {
        self.sign("expired", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// Signs a client's.
    pub fn client(&self) -> Pair {
        self.sign("client", |params| {
            params.distinguished_name.push(DnType::CommonName, "prober");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn sign(&self, file: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            certificate: self.directory.join(format!("{file}.crt")),
            key: self.directory.join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}
