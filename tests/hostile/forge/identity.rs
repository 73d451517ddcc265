//! The server's identity: certificates, good and bad, and the key that signs.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

/// A chain of certificates and the key of the first.
#[derive(Clone)]
pub struct Identity {
    pub chain: Vec<Vec<u8>>,
    key: Arc<EcdsaKeyPair>,
}

impl Identity {
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&SystemRandom::new(), bytes);
        signature.expect("there is randomness").as_ref().to_vec()
    }

    /// Replaces the chain and keeps the key.
    pub fn with_chain(&self, chain: Vec<Vec<u8>>) -> Identity {
        Identity { chain, key: Arc::clone(&self.key) }
    }
}

fn ring_key(key: &KeyPair) -> Arc<EcdsaKeyPair> {
    let random = SystemRandom::new();
    let bytes = key.serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &bytes, &random);
    Arc::new(key.expect("it is a P-256 key"))
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

type Root = CertifiedIssuer<'static, KeyPair>;

fn new_root(name: &str) -> Root {
    CertifiedIssuer::self_signed(authority(name), new_key()).expect("the parameters are fine")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Returns the authority that the client trusts.
fn root() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| new_root("trusted"))
}

pub fn root_pem() -> String {
    root().pem()
}

fn params(names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(names.to_vec()).expect("they are names");
    params.distinguished_name.push(DnType::CommonName, "a server");
    params
}

fn issued(issuer: &Root, params: &CertificateParams) -> Identity {
    let key = new_key();
    let leaf = params.signed_by(&key, issuer).expect("the parameters are fine");
    Identity { chain: vec![leaf.der().to_vec()], key: ring_key(&key) }
}

/// Returns the identity that the client expects.
pub fn good() -> Identity {
    static GOOD: OnceLock<Identity> = OnceLock::new();
    GOOD.get_or_init(|| issued(root(), &params(&["localhost".to_owned()]))).clone()
}

/// Makes a certificate for `count` other names, and for the right one if `right`.
pub fn of_many_names(count: usize, right: bool) -> Identity {
    let mut names: Vec<String> =
        (0..count).map(|number| format!("host-{number}.example.test")).collect();
    if right {
        names.push("localhost".to_owned());
    }
    issued(root(), &params(&names))
}

pub fn of_another_name() -> Identity {
    issued(root(), &params(&["elsewhere.test".to_owned()]))
}

pub fn expired() -> Identity {
    let mut params = params(&["localhost".to_owned()]);
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    issued(root(), &params)
}

pub fn not_yet_valid() -> Identity {
    let mut params = params(&["localhost".to_owned()]);
    params.not_before = date_time_ymd(3001, 1, 1);
    params.not_after = date_time_ymd(3002, 1, 1);
    issued(root(), &params)
}

/// Makes a certificate of an authority that the client does not trust.
pub fn of_unknown_authority() -> Identity {
    issued(&new_root("unknown"), &params(&["localhost".to_owned()]))
}

/// Makes a certificate with CA:TRUE in place of a server's.
pub fn of_an_authority() -> Identity {
    let mut params = params(&["localhost".to_owned()]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    issued(root(), &params)
}

/// Makes unrelated certificates of about `bytes` bytes in total.
pub fn strangers(bytes: usize) -> Vec<Vec<u8>> {
    let names: Vec<String> =
        (0..60).map(|number| format!("a-name-of-no-use-{number}.example.test")).collect();
    let one = issued(&new_root("stranger"), &params(&names)).chain.remove(0);
    vec![one.clone(); bytes / (one.len() + 5)]
}

/// Makes a certificate below a maze of `count` authorities of one name. Each is signed by another of them, and none by
/// a root. The number of paths through the maze is exponential.
pub fn maze(count: usize) -> Identity {
    let roots: Vec<Root> = (0..count).map(|_| new_root("maze")).collect();
    let mut identity = issued(&roots[0], &params(&["localhost".to_owned()]));
    for (number, one) in roots.iter().enumerate() {
        let next = &roots[(number + 1) % count];
        let certificate = authority("maze").signed_by(one.key(), next);
        identity.chain.push(certificate.expect("the parameters are fine").der().to_vec());
    }
    identity
}

/// Makes a certificate below `count` authorities of one name. All of them claim that the trusted root has signed them.
pub fn impostors(count: usize) -> Identity {
    let impostor = new_root("trusted");
    let below: Vec<Root> = (0..count)
        .map(|_| {
            CertifiedIssuer::signed_by(authority("below"), new_key(), &impostor)
                .expect("the parameters are fine")
        })
        .collect();
    let mut identity = issued(&below[0], &params(&["localhost".to_owned()]));
    identity.chain.extend(below.iter().map(|one| one.der().to_vec()));
    identity
}
