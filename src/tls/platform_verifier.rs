//! The certificate verifier of the system, where there is one.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

#[cfg(any(windows, target_vendor = "apple", target_os = "android"))]
use crate::error::Error;
use crate::error::Result;

/// Whether the system has a verifier of its own. It may block.
pub(super) const EXISTS: bool = cfg!(any(windows, target_vendor = "apple", target_os = "android"));

/// Returns the system's verifier, which also trusts the added roots. `None` if the system has none.
#[cfg(not(any(windows, target_vendor = "apple", target_os = "android")))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on other systems")]
pub(super) fn verifier(
    _provider: &Arc<CryptoProvider>,
    _added: &[CertificateDer<'static>],
) -> Result<Option<Arc<dyn ServerCertVerifier>>> {
    Ok(None)
}

/// Returns the system's verifier, which also trusts the added roots.
#[cfg(any(windows, target_vendor = "apple"))]
pub(super) fn verifier(
    provider: &Arc<CryptoProvider>,
    added: &[CertificateDer<'static>],
) -> Result<Option<Arc<dyn ServerCertVerifier>>> {
    use rustls_platform_verifier::Verifier;

    let verifier = match added {
        [] => Verifier::new(Arc::clone(provider)),
        added => Verifier::new_with_extra_roots(added.iter().cloned(), Arc::clone(provider)),
    };
    Ok(Some(Arc::new(verifier.map_err(unusable)?)))
}

/// Returns the system's verifier.
#[cfg(target_os = "android")]
pub(super) fn verifier(
    provider: &Arc<CryptoProvider>,
    added: &[CertificateDer<'static>],
) -> Result<Option<Arc<dyn ServerCertVerifier>>> {
    use rustls_platform_verifier::Verifier;

    if !added.is_empty() {
        return Err(Error::invalid_options(
            "add_root_pem can't be combined with Roots::Platform: Android's verifier takes no \
             further roots",
        ));
    }
    Ok(Some(Arc::new(Verifier::new(Arc::clone(provider)).map_err(unusable)?)))
}

#[cfg(any(windows, target_vendor = "apple", target_os = "android"))]
fn unusable(error: rustls::Error) -> Error {
    Error::invalid_options(format!("the system's verifier can't be used: {error}"))
}
