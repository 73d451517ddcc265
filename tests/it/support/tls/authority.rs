//! Certificates made on the spot: an authority, what it signs, and what nobody should trust.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

// -------------------------------------------------------------------- who signs

/// Signs certificates: a root, or an intermediate below one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// From this one up to, and without, the root: what a complete chain carries.
    above: Vec<Certificate>,
}

impl Authority {
    /// A root of its own name, so that nobody takes it for another.
    pub fn new() -> Authority {
        let issuer = CertifiedIssuer::self_signed(authority_params(), key());
        Authority { issuer: issuer.expect("the parameters are fine"), above: Vec::new() }
    }

    /// An authority whose certificate this one has signed.
    pub fn intermediate(&self) -> Authority {
        let issuer = CertifiedIssuer::signed_by(authority_params(), key(), &self.issuer);
        let issuer = issuer.expect("the parameters are fine");
        let own: &Certificate = issuer.as_ref();
        let above = [vec![own.clone()], self.above.clone()].concat();
        Authority { issuer, above }
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        roots
    }

    /// A certificate as drafted, with the complete chain.
    pub fn issues(&self, draft: &Draft) -> Identity {
        let key = draft.key();
        let leaf = draft.params.signed_by(&key, &self.issuer).expect("the draft is fine");
        Identity::new([vec![leaf], self.above.clone()].concat(), &key)
    }

    /// A certificate by which a client can be known.
    pub fn client(&self, name: &str) -> Identity {
        self.issues(&Draft::new(&[name]).usage(ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// Its own certificate, in place of one for a server.
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
    KeyPair::generate().expect("the system has random numbers")
}

// -------------------------------------------------------------------- what is signed

/// What a certificate for a server or a client says.
#[derive(Clone)]
pub struct Draft {
    params: CertificateParams,
    even: bool,
}

impl Draft {
    /// For these names and addresses, valid for a long time.
    pub fn new(names: &[&str]) -> Draft {
        let names: Vec<String> = names.iter().copied().map(String::from).collect();
        let mut params = CertificateParams::new(names).expect("they are names or addresses");
        params.distinguished_name.push(DnType::CommonName, "a test's own");
        params.use_authority_key_identifier_extension = true;
        Draft { params, even: false }
    }

    /// For this text as a DNS name, also where it spells an address.
    pub fn dns_name(text: &str) -> Draft {
        let mut draft = Draft::new(&[]);
        let name = text.try_into().expect("it is ASCII");
        draft.params.subject_alt_names = vec![SanType::DnsName(name)];
        draft
    }

    /// For nothing but the common name.
    pub fn common_name(name: &str) -> Draft {
        let mut draft = Draft::new(&[]);
        draft.params.distinguished_name.push(DnType::CommonName, name);
        draft
    }

    /// Valid from the first day of one year to the first day of another.
    pub fn valid(mut self, from: i32, to: i32) -> Draft {
        self.params.not_before = date_time_ymd(from, 1, 1);
        self.params.not_after = date_time_ymd(to, 1, 1);
        self
    }

    /// For this use only.
    pub fn usage(mut self, usage: ExtendedKeyUsagePurpose) -> Draft {
        self.params.extended_key_usages = vec![usage];
        self
    }

    /// With a key whose signatures all have the same length.
    pub fn even(mut self) -> Draft {
        self.even = true;
        self
    }

    /// Signed by its own key, and by no authority.
    pub fn self_signed(&self) -> Identity {
        let key = self.key();
        Identity::new(vec![self.params.self_signed(&key).expect("the draft is fine")], &key)
    }

    fn key(&self) -> KeyPair {
        if self.even {
            KeyPair::generate_for(&PKCS_ED25519).expect("the system has random numbers")
        } else {
            key()
        }
    }
}

// -------------------------------------------------------------------- what one shows

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

    /// Without what leads from the leaf to the root.
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
            writeln!(text, "{}", certificate.pem()).expect("a string takes everything");
            text
        })
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The bytes of the private key, which no output may show.
    pub fn key_der(&self) -> &[u8] {
        &self.key
    }
}
