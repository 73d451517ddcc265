//! Checks revocation lists before they are used.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

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
            return Err(Error::invalid_options(format!(
                "revocation list {place} can't be used: {}",
                rustls::Error::from(error)
            )));
        }
    }
    Ok(())
}
