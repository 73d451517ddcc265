//! The certificates that a verifier of the program judges.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, SupportedCipherSuite};

use super::subject_key::SubjectKey;
use super::untrusted::UntrustedReason;
use crate::panic::catch_panic;

/// The certificates that a peer presented, for verifiers such as
/// [`TlsOptions::add_verifier`](crate::TlsOptions::add_verifier) and
/// [`ServerTlsOptions::add_client_verifier`](crate::ServerTlsOptions::add_client_verifier).
pub struct PeerCertificates<'a> {
    leaf: &'a CertificateDer<'a>,
    others: &'a [CertificateDer<'a>],
    server_name: Option<&'a str>,
    spki_sha256: [u8; 32],
}

impl PeerCertificates<'_> {
    /// Returns the chain as the peer sent it, leaf first, in DER. Only the leaf is proven: what follows may be
    /// anything.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..1 + self.others.len()).map(|index| match index.checked_sub(1) {
            None => self.leaf.as_ref(),
            Some(index) => self.others[index].as_ref(),
        })
    }

    /// Returns the name that this side verifies. `None` on the server side.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name
    }

    /// Returns SHA-256 of the leaf's SubjectPublicKeyInfo (RFC 7469, section 2.4).
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }
}

impl fmt::Debug for PeerCertificates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificates")
            .field("certificates", &self.iter().len())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// A verifier of the program: an error is its reason to refuse.
pub(super) type Verifier = dyn Fn(&PeerCertificates<'_>) -> Result<(), String> + Send + Sync;

/// Runs the program's verifiers in order, until one refuses. A panic refuses too.
pub(super) fn run_verifiers(
    verifiers: &[Arc<Verifier>],
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    server_name: Option<&str>,
    provider: &CryptoProvider,
) -> Result<(), rustls::Error> {
    if verifiers.is_empty() {
        return Ok(());
    }
    let spki_sha256 = spki_sha256(leaf, provider)?;
    let certificates = PeerCertificates { leaf, others, server_name, spki_sha256 };
    for verify in verifiers {
        let verdict = catch_panic(|| verify(&certificates))
            .unwrap_or_else(|| Err(String::from("a verifier of this program panicked")));
        verdict.map_err(UntrustedReason::Refused)?;
    }
    Ok(())
}

/// Returns SHA-256 of a certificate's SubjectPublicKeyInfo.
pub(super) fn spki_sha256(
    leaf: &CertificateDer<'_>,
    provider: &CryptoProvider,
) -> Result<[u8; 32], rustls::Error> {
    let key = SubjectKey::of(leaf).ok_or(CertificateError::BadEncoding)?;
    let hash = sha256(provider).map(|hash| hash.hash(key.encoded));
    hash.and_then(|hash| hash.as_ref().try_into().ok()).ok_or_else(|| {
        let reason = "the crypto provider has no SHA-256 to hash its key";
        UntrustedReason::Refused(String::from(reason)).into()
    })
}

/// Returns the provider's SHA-256.
pub(super) fn sha256(provider: &CryptoProvider) -> Option<&'static dyn Hash> {
    provider.cipher_suites.iter().find_map(|suite| {
        let hash = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        };
        (hash.algorithm() == HashAlgorithm::SHA256).then_some(hash)
    })
}
