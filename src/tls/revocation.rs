//! Checks revocation lists before they are used, and selects the ones that apply.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertRevocationListError, RootCertStore};

use super::der::{BIT_STRING, INTEGER, Reader, SEQUENCE, VERSION, extension_parts};
use super::leaf_details::time;
use crate::error::{Error, Result};

/// Parses each revocation list, so that the error names the faulty one.
pub(super) fn check_revocation_lists(
    lists: &[CertificateRevocationListDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<()> {
    // rustls parses lists only for a verifier, and a verifier needs a root. Any root will do.
    let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().take(1).cloned().collect();
    let roots = Arc::new(roots);
    for (place, list) in (1..).zip(lists) {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .with_crls([list.clone()])
                .build();
        if let Err(VerifierBuilderError::InvalidCrl(error)) = verifier {
            let fault = fault(&error);
            return Err(Error::invalid_options(format!(
                "revocation list {place} can't be used: {fault}"
            )));
        }
    }
    Ok(())
}

fn fault(error: &CertRevocationListError) -> &'static str {
    match error {
        CertRevocationListError::ParseError => "it is not well-formed",
        CertRevocationListError::UnsupportedCrlVersion => "it is not of version 2",
        CertRevocationListError::UnsupportedDeltaCrl => {
            "it is a delta list, which is not supported"
        }
        CertRevocationListError::UnsupportedIndirectCrl => {
            "it is an indirect list, which is not supported"
        }
        CertRevocationListError::UnsupportedCriticalExtension => {
            "it has a critical extension that is not supported"
        }
        CertRevocationListError::UnsupportedRevocationReason => {
            "it states a reason that is not supported"
        }
        CertRevocationListError::InvalidCrlNumber => "its number is malformed",
        CertRevocationListError::InvalidRevokedCertSerialNumber => {
            "it has a serial number that is malformed"
        }
        _ => "it is of a kind that is not supported",
    }
}

/// Returns the newest list of each issuer and scope. webpki would use the first one that it finds, and an older list may
/// lack what a newer one revokes.
pub(super) fn newest_lists(
    lists: &[CertificateRevocationListDer<'static>],
) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let mut newest: Vec<(&CertificateRevocationListDer<'static>, usize, Scope<'_>)> = Vec::new();
    for (place, list) in (1..).zip(lists) {
        let Some(scope) = Scope::of(list) else {
            return Err(Error::invalid_options(format!(
                "revocation list {place} can't be used: it is not well-formed"
            )));
        };
        let same = newest.iter_mut().find(|(_, _, other)| {
            (other.issuer, other.distribution_point) == (scope.issuer, scope.distribution_point)
        });
        match same {
            None => newest.push((list, place, scope)),
            Some((_, first, other)) if other.key != scope.key => {
                return Err(Error::invalid_options(format!(
                    "revocation lists {first} and {place} are of one issuer but signed with \
                     different keys: only one of its keys can be used"
                )));
            }
            Some(other) if other.2.this_update <= scope.this_update => {
                *other = (list, place, scope)
            }
            Some(_) => {}
        }
    }
    Ok(newest.into_iter().map(|(list, ..)| list.clone()).collect())
}

/// What a list covers, and since when (RFC 5280, section 5.1).
struct Scope<'a> {
    issuer: &'a [u8],
    /// The extension issuingDistributionPoint.
    distribution_point: &'a [u8],
    /// The extension authorityKeyIdentifier.
    key: &'a [u8],
    this_update: SystemTime,
}

impl<'a> Scope<'a> {
    fn of(list: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(Reader(list).expect(SEQUENCE)?);
        let mut fields = Reader(outer.expect(SEQUENCE)?);
        fields.expect(INTEGER)?;
        let _algorithm = fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let (tag, text) = fields.next()?;
        let this_update = time(tag, text)?;
        let (mut distribution_point, mut key): (&[u8], &[u8]) = (&[], &[]);
        while let Some((tag, content)) = fields.next() {
            if tag != VERSION {
                continue;
            }
            let mut extensions = Reader(Reader(content).expect(SEQUENCE)?);
            while let Some(extension) = extensions.expect(SEQUENCE) {
                let (identifier, value) = extension_parts(extension)?;
                match identifier {
                    ISSUING_DISTRIBUTION_POINT => distribution_point = value,
                    AUTHORITY_KEY_IDENTIFIER => key = value,
                    _ => {}
                }
            }
        }
        // The signature.
        outer.expect(SEQUENCE)?;
        outer.expect(BIT_STRING)?;
        Some(Scope { issuer, distribution_point, key, this_update })
    }
}

const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 29, 35];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 29, 28];
