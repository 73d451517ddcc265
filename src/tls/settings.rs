//! The settings that determine a rustls configuration.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::pem::ChainAndKey;
use crate::error::{Error, Result};

/// The client certificate in messages.
pub(super) const CLIENT_CERTIFICATE: &str = "the client certificate";

/// The settings that determine a rustls configuration. Equal settings share one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) only_added_roots: bool,
    pub(super) client_auth: Option<Arc<ChainAndKey>>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) accept_invalid_certs: bool,
    pub(super) key_log: bool,
}

impl Settings {
    /// Returns whether both can share one configuration. The pointer comparison makes this free for sockets of one
    /// connector.
    pub(super) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || **self == **other
    }

    /// Returns the name of one setter that was used, if any was.
    pub(super) fn first_conflict(&self) -> Option<&'static str> {
        let Settings { roots, only_added_roots, client_auth, alpn, accept_invalid_certs, key_log } =
            self;
        [
            ("add_root_pem", !roots.is_empty()),
            ("only_added_roots", *only_added_roots),
            ("client_auth_pem", client_auth.is_some()),
            ("alpn", !alpn.is_empty()),
            ("danger_accept_invalid_certs", *accept_invalid_certs),
            ("key_log_from_env", *key_log),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }
}

/// Checks the length of each protocol and of all of them.
pub(super) fn check_alpn(alpn: &[Vec<u8>]) -> Result<()> {
    for name in alpn {
        if name.is_empty() || name.len() > MAX_ALPN_NAME {
            let (name, length) = (name.escape_ascii(), name.len());
            return Err(Error::invalid_options(format!(
                "alpn protocol \"{name}\" is {length} bytes long, not 1 to {MAX_ALPN_NAME}"
            )));
        }
    }
    let total: usize = alpn.iter().map(|name| 1 + name.len()).sum();
    if total > MAX_ALPN_TOTAL {
        return Err(Error::invalid_options(format!(
            "the alpn protocols take {total} bytes, more than {MAX_ALPN_TOTAL}"
        )));
    }
    Ok(())
}

/// The maximum length of a protocol, in bytes: the length field has one byte (RFC 7301, section 3.1).
const MAX_ALPN_NAME: usize = 255;
/// The maximum size of all protocols, in bytes. All extensions of a ClientHello, including a session ticket, must
/// fit in 64 KiB.
const MAX_ALPN_TOTAL: usize = 16 * 1024;
