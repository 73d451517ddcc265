//! An authority for one test, with certificates for its server and its client.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::harness::Scratch;

/// The certificates and keys as PEM.
pub struct Certificates {
    pub authority: String,
    /// The server's certificate, followed by the authority's. It is for the names `localhost` and `db.test` and the
    /// addresses 127.0.0.1 and ::1.
    pub server_chain: String,
    pub server_key: String,
    /// The certificate of the user `salmon`.
    pub client_chain: String,
    pub client_key: String,
}

impl Certificates {
    pub fn new() -> Self {
        // Each authority has a unique name, so that it is not mistaken for another.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("Authority {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let names = ["localhost", "db.test", "127.0.0.1", "::1"].map(String::from);
        let (server, server_key) = issue(&issuer, "localhost", &names);
        let (client_chain, client_key) = issue(&issuer, "salmon", &[]);
        let server_chain = server + &authority;
        Certificates { authority, server_chain, server_key, client_chain, client_key }
    }

    /// Writes the server's files: `ca.pem`, `chain.pem` and `key.pem`, which belongs to this user.
    pub fn write(&self, files: &Scratch, owner: Option<(u32, u32)>) {
        fs::write(files.0.join("ca.pem"), &self.authority).unwrap();
        fs::write(files.0.join("chain.pem"), &self.server_chain).unwrap();
        files.write_private("key.pem", &self.server_key, owner);
    }
}

/// Issues a certificate with its key.
fn issue(issuer: &Issuer<'_, KeyPair>, subject: &str, names: &[String]) -> (String, String) {
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}
