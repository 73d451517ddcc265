//! Certificates and a crypto provider for the tests of the TLS module.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::der::CertificateNames;

/// Ensures that there is a crypto provider, even if the crate is built without one.
pub(super) fn crypto() {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // Fails if another test installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A certificate authority, either a root or an intermediate.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let (params, key) = (authority_params(name), key());
        let certificate = params.self_signed(&key).expect("it can sign");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn below(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), key());
        let certificate = params.signed_by(&key, &self.issuer).expect("it can sign");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Creates an intermediate with this serial number.
    pub(super) fn below_with_serial(&self, name: &str, serial: u64) -> Self {
        let (mut params, key) = (authority_params(name), key());
        params.serial_number = Some(rcgen::SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).expect("it can sign");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn leaf<const N: usize>(&self, names: [&str; N]) -> Leaf {
        self.leaf_of(leaf_params(&names))
    }

    pub(super) fn leaf_of(&self, params: CertificateParams) -> Leaf {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("it can sign");
        Leaf { certificate, key }
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn names(&self) -> CertificateNames<'_> {
        CertificateNames::of(self.der()).expect("it has names")
    }
}

/// An end-entity certificate and its key.
pub(super) struct Leaf {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

impl Leaf {
    pub(super) fn self_signed(params: &CertificateParams) -> Self {
        let key = key();
        Leaf { certificate: params.self_signed(&key).expect("it can sign"), key }
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        self.key.serialize_der().try_into().expect("it is PKCS #8")
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(super) fn names(&self) -> CertificateNames<'_> {
        CertificateNames::of(self.der()).expect("it has names")
    }
}

/// Returns parameters for a leaf; its common name is the first of the names.
pub(super) fn leaf_params(names: &[&str]) -> CertificateParams {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(owned).expect("these are names");
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("unnamed"));
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}
