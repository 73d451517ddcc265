//! The roots that verify servers, and how revocation lists apply.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::certificate_message::own_fault;
#[cfg(any(feature = "native-roots", feature = "platform-verifier"))]
use super::native_roots;
use crate::error::{Error, Result};

/// The base set of trusted roots, for [`TlsOptions::roots`](crate::TlsOptions::roots).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Roots {
    /// Mozilla's roots, which the `webpki-roots` crate compiles in. They are the same on every system, and as old as
    /// the build.
    #[default]
    WebPki,
    /// The system's roots, read once per process. Requires the feature `native-roots`.
    ///
    /// If `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, the roots that it names replace those of the system. Parts of the
    /// system's store that cannot be read are logged, and the rest is used.
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options are used, if a file or directory that the
    /// environment names cannot be read, or if there is no root at all. The message names the variable and the path.
    #[cfg(feature = "native-roots")]
    Native,
    /// The system's own verifier, with the administrator's settings, and with revocation where the system checks it.
    /// Requires the feature `platform-verifier`.
    ///
    /// It exists on macOS, iOS, Windows and Android. On other systems this is the same as `Native`. The verifier may
    /// block, so it never runs on the event loop. Its errors are less precise. On Android, the program first has to initialise the
    /// `rustls-platform-verifier` crate.
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) together with
    /// [`add_root_pem`](crate::TlsOptions::add_root_pem) on Android, whose verifier takes no further roots.
    #[cfg(feature = "platform-verifier")]
    Platform,
    /// Only the roots that [`add_root_pem`](crate::TlsOptions::add_root_pem) adds.
    OnlyAdded,
}

/// How revocation lists are applied, for [`TlsOptions::revocation`](crate::TlsOptions::revocation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RevocationPolicy {
    /// Every certificate but the root must be covered by a list that has not expired.
    #[default]
    Chain,
    /// The leaf must be covered by a list that has not expired.
    Leaf,
    /// Certificates that no list covers are accepted; revoked ones are refused. A list that has expired still refuses
    /// what it revokes.
    AllowUnknown,
}

/// Returns the base set with the added roots. There is at least one.
pub(super) fn root_store(base: Roots, added: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match base {
        Roots::WebPki => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        #[cfg(feature = "native-roots")]
        Roots::Native => roots.extend(native_roots::load()?.iter().cloned()),
        #[cfg(feature = "platform-verifier")]
        Roots::Platform => roots.extend(native_roots::load()?.iter().cloned()),
        Roots::OnlyAdded => {}
    }
    for root in added {
        roots.add(root.clone()).map_err(|error| {
            let fault = own_fault(&error);
            Error::invalid_options(format!("an added root can't be used: {fault}"))
        })?;
    }
    if roots.is_empty() {
        return Err(Error::invalid_options(match base {
            Roots::OnlyAdded => {
                "no roots to trust: the base set is Roots::OnlyAdded, and none was added"
            }
            _ => {
                "no roots to trust: the system has none. Install its package of certificates, or set \
                 SSL_CERT_FILE"
            }
        }));
    }
    Ok(roots)
}
