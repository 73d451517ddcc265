//! Generated certificates: an authority, the certificates that it signs, and certificates that no client should trust.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

// -------------------------------------------------------------------- authorities

/// A certificate authority: a root, or an intermediate below one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The chain from this authority up to the root, without the root.
    above: Vec<Certificate>,
}

impl Authority {
    /// Creates a root with a unique name, so that it is not mistaken for another.
    pub fn new() -> Authority {
        let issuer = CertifiedIssuer::self_signed(authority_params(), key());
        Authority { issuer: issuer.expect("the parameters are valid"), above: Vec::new() }
    }

    /// Creates an authority whose certificate this one has signed.
    pub fn intermediate(&self) -> Authority {
        let issuer = CertifiedIssuer::signed_by(authority_params(), key(), &self.issuer);
        let issuer = issuer.expect("the parameters are valid");
        let own: &Certificate = issuer.as_ref();
        let above = [vec![own.clone()], self.above.clone()].concat();
        Authority { issuer, above }
    }

    /// Returns the authority's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        roots
    }

    /// Signs a certificate and returns it with the complete chain.
    pub fn issues(&self, draft: &CertSpec) -> Identity {
        let key = draft.key();
        let leaf = draft.params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Identity::new([vec![leaf], self.above.clone()].concat(), &key)
    }

    /// Signs a client certificate.
    pub fn client(&self, name: &str) -> Identity {
        self.issues(&CertSpec::new(&[name]).usage(ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// Returns the authority's own certificate for use as a server certificate.
    pub fn identity(&self) -> Identity {
        let own: &Certificate = self.issuer.as_ref();
        Identity::new(vec![own.clone()], self.issuer.key())
    }
}

fn authority_params() -> CertificateParams {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut params = CertificateParams::default();
    let name = format!("sockeye test authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has a random source")
}

// -------------------------------------------------------------------- certificates

/// The contents of a certificate for a server or a client.
#[derive(Clone)]
pub struct CertSpec {
    params: CertificateParams,
    even: bool,
}

impl CertSpec {
    /// Creates a template for these names and addresses, with a long validity.
    pub fn new(names: &[&str]) -> CertSpec {
        let names: Vec<String> = names.iter().copied().map(String::from).collect();
        let mut params = CertificateParams::new(names).expect("they are names or addresses");
        params.distinguished_name.push(DnType::CommonName, "a test's own");
        params.use_authority_key_identifier_extension = true;
        CertSpec { params, even: false }
    }

    /// Creates a template with this text as a DNS name, even if it is the text of an address.
    pub fn dns_name(text: &str) -> CertSpec {
        let mut draft = CertSpec::new(&[]);
        let name = text.try_into().expect("it is ASCII");
        draft.params.subject_alt_names = vec![SanType::DnsName(name)];
        draft
    }

    /// Creates a template with only the common name.
    pub fn common_name(name: &str) -> CertSpec {
        let mut draft = CertSpec::new(&[]);
        draft.params.distinguished_name.push(DnType::CommonName, name);
        draft
    }

    /// Sets the validity, from the first day of one year to the first day of another.
    pub fn valid(mut self, from: i32, to: i32) -> CertSpec {
        self.params.not_before = date_time_ymd(from, 1, 1);
        self.params.not_after = date_time_ymd(to, 1, 1);
        self
    }

    /// Sets the only allowed use.
    pub fn usage(mut self, usage: ExtendedKeyUsagePurpose) -> CertSpec {
        self.params.extended_key_usages = vec![usage];
        self
    }

    /// Uses a key whose signatures all have the same length.
    pub fn even(mut self) -> CertSpec {
        self.even = true;
        self
    }

    /// Signs the certificate with its own key instead of an authority's.
    pub fn self_signed(&self) -> Identity {
        let key = self.key();
        Identity::new(vec![self.params.self_signed(&key).expect("the parameters are valid")], &key)
    }

    fn key(&self) -> KeyPair {
        if self.even {
            KeyPair::generate_for(&PKCS_ED25519).expect("the system has a random source")
        } else {
            key()
        }
    }
}

// -------------------------------------------------------------------- identities

/// A chain, leaf first, and the leaf's private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<Certificate>,
    key: Vec<u8>,
    key_pem: String,
}

impl Identity {
    fn new(chain: Vec<Certificate>, key: &KeyPair) -> Identity {
        Identity { chain, key: key.serialize_der(), key_pem: key.serialize_pem() }
    }

    /// Removes the intermediates between the leaf and the root.
    pub fn incomplete(mut self) -> Identity {
        self.chain.truncate(1);
        self
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der().clone()).collect()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub fn chain_pem(&self) -> String {
        self.chain.iter().fold(String::new(), |mut text, certificate| {
            writeln!(text, "{}", certificate.pem()).expect("writes to a string succeed");
            text
        })
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Returns the bytes of the private key, which no output may contain.
    pub fn key_der(&self) -> &[u8] {
        &self.key
    }
}
