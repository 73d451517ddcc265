//! The roots of the system.

use std::env;

use once_cell::race::OnceBox;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::error::{Error, Result};
use crate::process::PerProcess;

/// Returns the roots of the system, or those that the environment names. Reads them once per process, unless it fails.
pub(super) fn load() -> Result<&'static [TrustAnchor<'static>]> {
    static LOADED: PerProcess<OnceBox<Vec<TrustAnchor<'static>>>> = PerProcess::new();
    let loaded = LOADED.get(|_| OnceBox::new()).get_or_try_init(|| {
        let named = VARIABLES.into_iter().find(|variable| env::var_os(variable).is_some());
        usable(load_native_certs(), named).map(Box::new)
    })?;
    Ok(loaded)
}

/// Returns what can be used of the roots. `named` is the variable that names them, if there is one.
fn usable(
    found: CertificateResult,
    named: Option<&'static str>,
) -> Result<Vec<TrustAnchor<'static>>> {
    if let (Some(variable), Some(error)) = (named, found.errors.first()) {
        return Err(Error::invalid_options(format!(
            "the roots that {variable} names can't be used: {error}"
        )));
    }
    for error in found.errors.iter().take(MAX_LOGGED) {
        log::warn!("a part of the system's roots is left out: {error}");
    }
    let (roots, unusable) = parse(found.certs);
    if unusable > 0 {
        log::warn!("{unusable} of the system's roots are left out, because they are malformed");
    }
    if roots.is_empty() {
        return Err(Error::invalid_options(match named {
            Some(variable) => format!("no roots to trust: {variable} names none"),
            None => String::from(
                "no roots to trust: the system has none. Install its package of certificates, or \
                 set SSL_CERT_FILE",
            ),
        }));
    }
    Ok(roots)
}

/// Returns the well-formed roots and the number of the others.
fn parse(certificates: Vec<CertificateDer<'static>>) -> (Vec<TrustAnchor<'static>>, usize) {
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(certificates);
    (store.roots, unusable)
}

const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The maximum number of errors to log. A directory may have thousands of unreadable files.
const MAX_LOGGED: usize = 8;
