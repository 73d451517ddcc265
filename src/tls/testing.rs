//! Certificates and a crypto provider for the tests of the TLS module.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::der::CertificateNames;
use super::verify::{ChainCheck, ServerVerifier};

/// Ensures that there is a crypto provider, even if the crate is built without one.
pub(super) fn crypto() {
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        // Fails if another test installed it first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Returns a verifier of servers without pins and checks of the program.
pub(super) fn server_verifier(chain: ChainCheck) -> ServerVerifier {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerVerifier { chain, pins: Vec::new(), verifiers: Vec::new(), provider }
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

    /// Creates an intermediate that has expired.
    pub(super) fn below_expired(&self, name: &str) -> Self {
        let (mut params, key) = (authority_params(name), key());
        params.not_after = date_time_ymd(2020, 5, 30);
        let certificate = params.signed_by(&key, &self.issuer).expect("it can sign");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Creates an intermediate with this serial number.
    pub(super) fn below_with_serial(&self, name: &str, serial: u64) -> Self {
        let (mut params, key) = (authority_params(name), key());
        params.serial_number = Some(SerialNumber::from(serial));
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

    /// Returns a list that revokes these serial numbers and is valid until the first day of a year, in PEM.
    pub(super) fn revocation_list(&self, revoked: &[u64], until: i32) -> String {
        self.revocation_list_of(2019, revoked, until)
    }

    /// Returns a list that was made on the first day of a year.
    pub(super) fn revocation_list_of(&self, year: i32, revoked: &[u64], until: i32) -> String {
        let revoked_certs = revoked
            .iter()
            .map(|&serial| RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(self.issuer()).and_then(|list| list.pem()).expect("it can sign")
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

/// A root, an intermediate with serial number 2, and a leaf with serial number 3.
pub(super) struct Chain {
    pub(super) root: Authority,
    pub(super) middle: Authority,
    pub(super) leaf: Leaf,
}

impl Chain {
    pub(super) fn new(mut params: CertificateParams) -> Self {
        crypto();
        let root = Authority::new("CRL Root");
        let middle = root.below_with_serial("CRL Middle", 2);
        params.serial_number = Some(SerialNumber::from(3));
        let leaf = middle.leaf_of(params);
        Chain { root, middle, leaf }
    }

    /// A chain of a client.
    pub(super) fn of_client() -> Self {
        let mut params = leaf_params(&["client.test"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Chain::new(params)
    }
}

/// An end-entity certificate and its key.
pub(super) struct Leaf {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

impl Leaf {
    pub(super) fn self_signed(params: &CertificateParams) -> Self {
        Leaf::with_key(params, key())
    }

    pub(super) fn with_key(params: &CertificateParams, key: KeyPair) -> Self {
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

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, i| word << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
