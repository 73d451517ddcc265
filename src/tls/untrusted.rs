//! The reasons why a certificate is not trusted, as far as the certificates show them.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError, RootCertStore};

use super::calendar::utc;
use super::chain_limit::are_tangled;
use super::der::{CertificateNames, display_name};
use super::leaf_details::LeafDetails;
use super::role::Role;
use super::subject_key::{MAX_RSA_BITS, MIN_RSA_BITS, Signed, SubjectKey};

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
    /// An RSA key is too short or too long to verify anything with.
    RsaSize {
        bits: usize,
        /// The name of the issuer that has the key, sanitised for a message. `None` for the peer's own key.
        issuer: Option<String>,
    },
    /// The certificate of an issuer has expired.
    IssuerExpired {
        /// The issuer's name, sanitised for a message.
        issuer: String,
        not_after: UnixTime,
        now: UnixTime,
    },
    /// The crypto provider cannot verify with keys of this kind.
    UnusableKey,
    /// A signature of the chain does not match, and the certificates do not show why.
    NotSigned,
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
            UntrustedReason::RsaSize { bits, issuer } => {
                let whose = match issuer {
                    None => String::from("its key"),
                    Some(issuer) => format!("the key of its issuer \"{issuer}\""),
                };
                let how = if *bits < MIN_RSA_BITS { "short" } else { "long" };
                format!(
                    "{owner}'s certificate can't be used: {whose} is too {how} (RSA with {bits} \
                     bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS})"
                )
            }
            UntrustedReason::IssuerExpired { issuer, not_after, now } => format!(
                "the certificate of \"{issuer}\", an issuer of {owner}'s, has expired: it was valid \
                 until {}, and this system's clock says {}",
                utc(*not_after),
                utc(*now)
            ),
            UntrustedReason::UnusableKey => format!(
                "{owner}'s certificate can't be used: the crypto provider does not support keys of \
                 its kind"
            ),
            UntrustedReason::NotSigned => format!(
                "{owner}'s certificate or that of an issuer is not signed by the issuer that it names"
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
    algorithms: &WebPkiSupportedAlgorithms,
) -> Error {
    let reason = match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => diagnose(leaf, others),
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            let found = find_bad_signature(leaf, others, roots, algorithms);
            Some(found.unwrap_or(UntrustedReason::NotSigned))
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            expired_issuer(leaf, others, *not_after, *time)
        }
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            let own = CertificateNames::of(leaf).filter(CertificateNames::is_self_issued);
            match other.to_string().as_str() {
                // webpki checks this first, so most self-signed certificates end here: `openssl req -x509` marks
                // them as an authority's. If the certificate is a trusted root, the mark itself is the fault.
                AUTHORITY_AS_LEAF => own
                    .filter(|names| !is_root(names.subject, roots))
                    .map(|_| UntrustedReason::SelfSigned),
                // webpki prefers the faults of other certificates to that of an unknown issuer.
                "UnsupportedCertVersion" | "UnsupportedCriticalExtension"
                    if ParsedCertificate::try_from(leaf).is_ok() =>
                {
                    match diagnose(leaf, others) {
                        None => return CertificateError::UnknownIssuer.into(),
                        reason => reason,
                    }
                }
                _ => None,
            }
        }
        _ => None,
    };
    reason.map_or(error, Error::from)
}

/// Replaces the error about a handshake's signature by a more specific one.
pub(super) fn explain_signature(
    error: Error,
    leaf: &CertificateDer<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Error {
    let Error::InvalidCertificate(
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
    ) = &error
    else {
        return error;
    };
    let key = SubjectKey::of(leaf);
    if let Some(bits) = key.and_then(|key| key.unusable_rsa_bits()) {
        return UntrustedReason::RsaSize { bits, issuer: None }.into();
    }
    match key.is_some_and(|key| key.is_usable(algorithms)) {
        false => UntrustedReason::UnusableKey.into(),
        true => error,
    }
}

/// Returns whether webpki refused a peer's own certificate because it is marked as an authority's.
pub(super) fn is_authority_as_leaf(error: &dyn std::error::Error) -> bool {
    error.to_string() == AUTHORITY_AS_LEAF
}

/// How webpki's error is printed: the variant's name. webpki is not a direct dependency.
const AUTHORITY_AS_LEAF: &str = "CaUsedAsEndEntity";

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

/// Finds the signature that does not match, from the leaf through its issuers. `None` if the certificates do not show
/// the cause.
fn find_bad_signature(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<UntrustedReason> {
    let mut certificate = leaf;
    for _ in 0..LONGEST_PATH {
        let signed = Signed::of(certificate)?;
        let issuer = CertificateNames::of(certificate)?.issuer;
        let named = |subject: &[u8]| subject == issuer;
        let mut unusable = None;
        if let Some(root) = roots.roots.iter().find(|root| named(&root.subject)) {
            // A trust anchor holds only the content.
            let key = SubjectKey::of_content(&root.subject_public_key_info)?;
            if signed.is_by(&key, algorithms) {
                return None;
            }
            let name = name_in_message(issuer);
            let is_own = CertificateNames::of(leaf).is_some_and(|names| names.subject == issuer);
            return Some(match key.unusable_rsa_bits() {
                Some(bits) => UntrustedReason::RsaSize { bits, issuer: (!is_own).then_some(name) },
                None => UntrustedReason::OtherKey { issuer: name },
            });
        }
        let mut candidates = others
            .iter()
            .filter(|other| CertificateNames::of(other).is_some_and(|names| named(names.subject)));
        let next = candidates.find(|other| {
            let Some(key) = SubjectKey::of(other) else { return false };
            unusable = unusable.or(key.unusable_rsa_bits());
            signed.is_by(&key, algorithms)
        });
        match (next, unusable) {
            (Some(next), _) => certificate = next,
            (None, Some(bits)) => {
                let issuer = Some(name_in_message(issuer));
                return Some(UntrustedReason::RsaSize { bits, issuer });
            }
            (None, None) => return None,
        }
    }
    None
}

/// Finds the issuer that has expired, if it is not the leaf.
fn expired_issuer(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    not_after: UnixTime,
    now: UnixTime,
) -> Option<UntrustedReason> {
    let ends = |certificate: &[u8]| {
        let end = LeafDetails::of(certificate)?.not_after.duration_since(SystemTime::UNIX_EPOCH);
        Some(end.ok()?.as_secs() == not_after.as_secs())
    };
    if ends(leaf)? {
        return None;
    }
    let issuer = others.iter().find(|other| ends(other) == Some(true))?;
    let issuer = name_in_message(CertificateNames::of(issuer)?.subject);
    Some(UntrustedReason::IssuerExpired { issuer, not_after, now })
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
