//! The reasons why a certificate is not trusted, as far as the certificates show them.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError, RootCertStore};

use super::chain_limit::are_tangled;
use super::der::{CertificateNames, display_name};
use super::role::Role;
use super::subject_key::{MIN_RSA_BITS, SubjectKey};

/// A reason why a peer's certificate is refused, beyond those of rustls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UntrustedReason {
    /// The certificate is its own issuer.
    SelfSigned,
    /// The chain leads to an issuer that the server did not send and that is not a trusted root. It may be a missing
    /// intermediate or a missing root.
    Incomplete {
        /// The issuer's name, sanitised for a message.
        issuer: String,
    },
    /// A trusted root has the issuer's name, but another key.
    OtherKey {
        /// The issuer's name, sanitised for a message.
        issuer: String,
    },
    /// The certificates allow more paths than the verifier tries.
    Tangled,
    /// An RSA key is too short to verify anything with.
    ShortKey {
        bits: usize,
        /// The name of the issuer that has the key, sanitised for a message. `None` for the peer's own key.
        issuer: Option<String>,
    },
    /// The certificate is none of the only ones that are trusted.
    NotTheOnly,
    /// The key matches no pin.
    NotPinned { spki_sha256: [u8; 32] },
    /// A verifier of the program refused the certificate, for this reason.
    Refused(String),
}

impl UntrustedReason {
    /// Returns the message for a certificate of a peer in this role.
    pub(super) fn describe(&self, owner: Role) -> String {
        let owner = owner.name();
        match self {
            UntrustedReason::SelfSigned => {
                format!("{owner}'s certificate is self-signed, and not a trusted root")
            }
            UntrustedReason::Tangled => {
                format!("{owner}'s certificates issue each other in too many ways")
            }
            UntrustedReason::Incomplete { issuer } => format!(
                "{owner}'s certificates end before \"{issuer}\", which is not a trusted root: \
                 {owner} leaves out an intermediate certificate, or this root has to be added"
            ),
            UntrustedReason::OtherKey { issuer } => format!(
                "{owner}'s certificate is not signed by the trusted root \"{issuer}\", but by \
                 another key of that name: if the authority has a new certificate, add that one"
            ),
            UntrustedReason::ShortKey { bits, issuer: None } => format!(
                "{owner}'s certificate can't be used: its key is too short (RSA with {bits} bits, \
                 at least {MIN_RSA_BITS} are needed)"
            ),
            UntrustedReason::ShortKey { bits, issuer: Some(issuer) } => format!(
                "{owner}'s certificate can't be used: the key of its issuer \"{issuer}\" is too \
                 short (RSA with {bits} bits, at least {MIN_RSA_BITS} are needed)"
            ),
            UntrustedReason::NotTheOnly => {
                format!("{owner}'s certificate is not one of those that are trusted exclusively")
            }
            UntrustedReason::NotPinned { spki_sha256 } => {
                let hash: String = spki_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{owner}'s certificate matches no pin: the SHA-256 of its key is {hash}")
            }
            UntrustedReason::Refused(reason) => {
                format!("{owner}'s certificate is refused: {reason}")
            }
        }
    }
}

impl fmt::Display for UntrustedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(Role::Server))
    }
}

impl std::error::Error for UntrustedReason {}

impl From<UntrustedReason> for Error {
    fn from(reason: UntrustedReason) -> Error {
        CertificateError::Other(OtherError(Arc::new(reason))).into()
    }
}

/// Refuses certificates that allow too many paths.
pub(super) fn check_not_tangled(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    match are_tangled(end_entity, intermediates) {
        true => Err(UntrustedReason::Tangled.into()),
        false => Ok(()),
    }
}

/// Replaces webpki's error about a chain by a more specific one, as far as the certificates show it. An error stays
/// an error.
pub(super) fn explain_untrusted(
    error: Error,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Error {
    let reason = match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => diagnose(leaf, others),
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            short_issuer_key(others).or_else(|| unfit_root(leaf, others, roots))
        }
        // webpki checks this first, so most self-signed certificates end here: `openssl req -x509` marks
        // them as an authority's. If the certificate is a trusted root, the mark itself is the fault.
        Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
            if is_authority_as_leaf(other.as_ref()) =>
        {
            CertificateNames::of(leaf)
                .filter(|names| names.is_self_issued() && !is_root(names.subject, roots))
                .map(|_| UntrustedReason::SelfSigned)
        }
        _ => None,
    };
    reason.map_or(error, Error::from)
}

/// Replaces the error about a handshake's signature if the leaf's key is too short to verify any.
pub(super) fn explain_signature(error: Error, leaf: &CertificateDer<'_>) -> Error {
    match &error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            let bits = SubjectKey::of(leaf).and_then(|key| key.short_rsa_bits());
            bits.map_or(error, |bits| UntrustedReason::ShortKey { bits, issuer: None }.into())
        }
        _ => error,
    }
}

/// Returns whether webpki refused a peer's own certificate because it is marked as an authority's. webpki is not a
/// direct dependency, so this compares the printed error, which is the variant's name.
pub(super) fn is_authority_as_leaf(error: &dyn std::error::Error) -> bool {
    error.to_string() == "CaUsedAsEndEntity"
}

fn is_root(subject: &[u8], roots: &RootCertStore) -> bool {
    roots.roots.iter().any(|root| root.subject.as_ref() == subject)
}

fn name_in_message(name: &[u8]) -> String {
    display_name(name).unwrap_or_else(|| String::from("(no name)"))
}

/// Follows the issuers by name, from the leaf through the certificates that the server sent. Returns `None` if the leaf
/// is malformed, or if the issuers lead to a root, which is its own issuer, or into a circle.
fn diagnose(leaf: &[u8], others: &[CertificateDer<'_>]) -> Option<UntrustedReason> {
    let mut names = CertificateNames::of(leaf)?;
    if names.is_self_issued() {
        return Some(UntrustedReason::SelfSigned);
    }
    for _ in 0..LONGEST_PATH {
        let issuer = others
            .iter()
            .filter_map(|other| CertificateNames::of(other))
            .find(|other| other.subject == names.issuer);
        let Some(issuer) = issuer else {
            return Some(UntrustedReason::Incomplete { issuer: name_in_message(names.issuer) });
        };
        names = issuer;
    }
    None
}

/// Finds an issuer among the peer's certificates whose key is too short.
fn short_issuer_key(others: &[CertificateDer<'_>]) -> Option<UntrustedReason> {
    others.iter().find_map(|other| {
        let bits = SubjectKey::of(other)?.short_rsa_bits()?;
        let issuer = Some(name_in_message(CertificateNames::of(other)?.subject));
        Some(UntrustedReason::ShortKey { bits, issuer })
    })
}

/// Finds a certificate of the peer whose issuer has the name of a trusted root. Its signature is the one that did not
/// match, or that the root's key is too short for.
fn unfit_root(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Option<UntrustedReason> {
    std::iter::once(leaf).chain(others).find_map(|certificate| {
        let names = CertificateNames::of(certificate)?;
        let root = roots.roots.iter().find(|root| root.subject.as_ref() == names.issuer)?;
        let issuer = name_in_message(names.issuer);
        let is_own = certificate == leaf && names.is_self_issued();
        Some(match SubjectKey::of_root(root).and_then(|key| key.short_rsa_bits()) {
            Some(bits) => UntrustedReason::ShortKey { bits, issuer: (!is_own).then_some(issuer) },
            None => UntrustedReason::OtherKey { issuer },
        })
    })
}

/// The maximum number of issuers to follow, which also ends a circle. webpki gives up at this length too.
const LONGEST_PATH: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::testing::Authority;
    use super::*;

    #[test]
    fn issuers_in_a_circle_and_garbage_end_the_search() {
        let (a, b) = (Authority::new("A"), Authority::new("B"));
        // Each has the other as its issuer. Only the names match, as in a chain that is meant to confuse.
        let (a_by_b, b_by_a) = (b.below("A"), a.below("B"));
        let leaf = a.leaf(["a.test"]);
        assert_eq!(diagnose(leaf.der(), &[a_by_b.der().clone(), b_by_a.der().clone()]), None);
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(diagnose(&garbage, &[]), None);
        let issuer = String::from("A");
        assert_eq!(diagnose(leaf.der(), &[garbage]), Some(UntrustedReason::Incomplete { issuer }));
    }
}
