//! The settings that determine a client's rustls configuration.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::identity::Identity;
use super::parameters::Parameters;
use super::peer_certificates::Verifier;
use super::roots::{RevocationPolicy, Roots};
use crate::error::{Error, Result};

/// The settings that determine a rustls configuration. Equal settings share one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) trust: Trust,
    pub(super) client_auth: Option<ClientIdentity>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) parameters: Parameters,
    pub(super) ech_config_list: Option<Vec<u8>>,
    pub(super) no_resumption: bool,
    pub(super) key_log: bool,
}

/// What makes a server trusted.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) roots: Roots,
    pub(super) added_roots: Vec<CertificateDer<'static>>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) revocation: RevocationPolicy,
    /// The only certificates to accept, unless there is none.
    pub(super) only: Vec<CertificateDer<'static>>,
    pub(super) pins: Vec<[u8; 32]>,
    pub(super) verifiers: Vec<Hook>,
    /// The program's check that replaces those of chain and name.
    pub(super) replacement: Option<Hook>,
    pub(super) accept_any_name: bool,
    pub(super) accept_invalid_certs: bool,
}

/// The identity of a client. It equals those with the same chain and key.
#[derive(Clone)]
pub(super) struct ClientIdentity(pub(super) Identity);

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

impl Eq for ClientIdentity {}

/// A verifier of the program. It equals its clones only.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<Verifier>);

impl PartialEq for Hook {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hook {}

impl Settings {
    /// Returns whether both can share one configuration. The pointer comparison makes this free for sockets of one
    /// connector.
    pub(super) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || **self == **other
    }

    /// Returns whether a handshake may run the program's code, write to a file, or wait for the system.
    pub(super) fn runs_foreign_code(&self) -> bool {
        self.key_log || self.trust.runs_foreign_code()
    }

    /// Returns the name of one setter that was used, if any was.
    pub(super) fn first_conflict(&self) -> Option<&'static str> {
        let Settings {
            trust,
            client_auth,
            alpn,
            parameters,
            ech_config_list,
            no_resumption,
            key_log,
        } = self;
        let setters = [
            ("alpn", !alpn.is_empty()),
            ("identity or client_auth_pem", client_auth.is_some()),
            ("min_version", parameters.min_version.is_some()),
            ("max_version", parameters.max_version.is_some()),
            ("cipher_suites", parameters.cipher_suites.is_some()),
            ("key_exchange_groups", parameters.groups.is_some()),
            ("ech_config_list", ech_config_list.is_some()),
            ("resumption", *no_resumption),
            ("key_log_from_env", *key_log),
        ];
        trust.setters().into_iter().chain(setters).find_map(|(name, is_set)| is_set.then_some(name))
    }
}

impl Trust {
    /// Returns the names of the setters, and which of them were used.
    fn setters(&self) -> [(&'static str, bool); 10] {
        let Trust {
            roots,
            added_roots,
            crls,
            revocation,
            only,
            pins,
            verifiers,
            replacement,
            accept_any_name,
            accept_invalid_certs,
        } = self;
        [
            ("add_root_pem", !added_roots.is_empty()),
            ("roots or only_added_roots", *roots != Roots::default()),
            ("add_crl_pem", !crls.is_empty()),
            ("revocation", *revocation != RevocationPolicy::default()),
            ("trust_only_pem", !only.is_empty()),
            ("pin_spki_sha256", !pins.is_empty()),
            ("add_verifier", !verifiers.is_empty()),
            ("danger_replace_verifier", replacement.is_some()),
            ("danger_accept_any_name", *accept_any_name),
            ("danger_accept_invalid_certs", *accept_invalid_certs),
        ]
    }

    fn runs_foreign_code(&self) -> bool {
        #[cfg(feature = "platform-verifier")]
        if self.roots == Roots::Platform && super::platform_verifier::EXISTS {
            return true;
        }
        !self.verifiers.is_empty() || self.replacement.is_some()
    }

    /// Checks that the settings can be combined.
    pub(super) fn check(&self) -> Result<()> {
        let conflict = |one: &str, other: &str| {
            Err(Error::invalid_options(format!("{one} can't be combined with {other}")))
        };
        if !self.only.is_empty() {
            let other = self.setters().into_iter().find(|(name, is_set)| {
                *is_set && !["trust_only_pem", "pin_spki_sha256", "add_verifier"].contains(name)
            });
            if let Some((name, _)) = other {
                return conflict("trust_only_pem", name);
            }
        }
        #[cfg(feature = "platform-verifier")]
        if self.roots == Roots::Platform {
            if !self.crls.is_empty() {
                return conflict("add_crl_pem", "Roots::Platform");
            }
            if self.accept_any_name && super::platform_verifier::EXISTS {
                return conflict("danger_accept_any_name", "Roots::Platform on this system");
            }
        }
        Ok(())
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
