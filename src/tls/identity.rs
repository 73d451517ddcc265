//! A certificate chain and its private key, as one value.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use once_cell::race::OnceBox;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::hello::normalize_server_name;
use super::leaf_details::LeafDetails;
use super::pem::ChainAndKey;
use super::provider::provider;
use super::subject_key::SubjectKey;
use crate::error::{Error, Result};

/// A certificate chain and its private key, checked to belong together. Cheap to clone. `Debug` prints names and
/// validity, never the key.
///
/// ```no_run
/// use sockeye::Identity;
///
/// let identity = Identity::from_pem_files("/etc/ssl/site.pem", "/etc/ssl/site.key")?;
/// println!("valid for {:?}", identity.names().collect::<Vec<_>>());
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias("Certificate", "KeyPair", "Pkcs12", "X509KeyPair"))]
pub struct Identity {
    parts: Arc<Parts>,
}

struct Parts {
    source: ChainAndKey,
    details: LeafDetails,
    /// The key as the provider uses it, from the first time that there was a provider.
    certified: OnceBox<Certified>,
}

/// The rustls types of an identity.
pub(super) struct Certified {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: Arc<CertificateDer<'static>>,
}

impl Identity {
    /// Parses PEM texts (RFC 7468): the chain, leaf first, and an unencrypted key in PKCS #8, PKCS #1 or SEC 1. Other
    /// sections are ignored, so both may be the same text.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions), with a message for each fault and the number of the
    /// certificate, counted from 1. If no crypto provider is available yet, the key is checked when it is first used.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        Identity::from_source(ChainAndKey::from_pem(chain.as_ref(), key.as_ref())?, LEAF)
    }

    /// Checks a chain and its key, whose leaf messages call `what`.
    pub(super) fn from_source(source: ChainAndKey, what: &str) -> Result<Self> {
        for (place, certificate) in (1..).zip(source.chain()) {
            if SubjectKey::of(certificate).is_none() {
                return Err(Error::invalid_options(format!(
                    "certificate {place} can't be used: it is not well-formed"
                )));
            }
        }
        let details = LeafDetails::of(source.leaf()).ok_or_else(|| {
            Error::invalid_options("certificate 1 can't be used: its validity is malformed")
        })?;
        let identity =
            Identity { parts: Arc::new(Parts { source, details, certified: OnceBox::new() }) };
        if let Ok(provider) = provider() {
            identity.certified_as(&provider, what)?;
        }
        Ok(identity)
    }

    /// Reads and parses PEM files, as [`from_pem`](Self::from_pem) does.
    ///
    /// # Errors
    /// Those of `from_pem`, and [`Io`](crate::ErrorKind::Io) if a file cannot be read. The message names the file.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let text = read(chain)?;
        let key_text = read(key)?;
        Identity::from_pem(text, key_text).map_err(|error| {
            let (chain, key) = (chain.display(), key.display());
            Error::invalid_options(format!("{error} (chain {chain}, key {key})"))
        })
    }

    /// Returns the DNS names and IP addresses that the leaf is valid for, as its subjectAltName lists them (RFC 5280,
    /// section 4.2.1.6). Names are in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.details.names.iter().map(String::as_str)
    }

    /// Returns the end of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.parts.details.not_after
    }

    /// Returns whether the leaf is valid for a name in lower case, or for all names of a wildcard.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.names().any(|own| own == name || covers_by_wildcard(own, name))
    }

    /// Returns whether both have the same chain and key.
    pub(super) fn is_same(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts) || self.parts.source == other.parts.source
    }

    /// Returns the rustls types. Checks the key at the first call.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<&Certified> {
        self.certified_as(provider, LEAF)
    }

    fn certified_as(&self, provider: &CryptoProvider, what: &str) -> Result<&Certified> {
        self.parts.certified.get_or_try_init(|| {
            let source = &self.parts.source;
            let key = source.certified_key(provider, what)?;
            let leaf = Arc::new(source.leaf().clone());
            Ok(Box::new(Certified { key: Arc::new(key), leaf }))
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.parts.details.names)
            .field("certificates", &self.parts.source.chain().len())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// The leaf in messages.
const LEAF: &str = "certificate 1";

/// Returns whether `pattern` is a wildcard that covers `name`: it stands for one label (RFC 6125, section 6.4.3).
pub(super) fn covers_by_wildcard(pattern: &str, name: &str) -> bool {
    let Some(parent) = pattern.strip_prefix("*.") else { return false };
    name.split_once('.').is_some_and(|(label, rest)| {
        !label.is_empty() && label != "*" && rest == normalize_server_name(parent)
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::with_io_source(format!("cannot read {}: {error}", path.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, crypto, leaf_params};
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_identity_shows_names_and_validity_and_no_key() {
        crypto();
        let mut params = leaf_params(&["A.test", "192.0.2.1"]);
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let leaf = Authority::new("identity").leaf_of(params);
        let identity = Identity::from_pem(leaf.pem(), leaf.key_pem()).unwrap();
        assert_eq!(identity.names().collect::<Vec<_>>(), ["a.test", "192.0.2.1"]);
        let not_after = identity.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(not_after.as_secs(), 1_927_843_200);
        let shown = format!("{identity:?}");
        assert!(shown.starts_with("Identity { names: [\"a.test\", \"192.0.2.1\"]"), "{shown}");
        assert!(shown.contains("certificates: 1") && shown.len() < 160, "{shown}");
    }

    #[test]
    fn each_fault_has_its_own_message_with_the_number_of_the_certificate() {
        crypto();
        let root = Authority::new("faults");
        let middle = root.below("middle");
        let (leaf, other) = (middle.leaf(["a.test"]), middle.leaf(["b.test"]));
        let chain = leaf.pem() + &middle.pem();
        let key = leaf.key_pem();
        assert!(Identity::from_pem(&chain, &key).is_ok());
        assert!(Identity::from_pem(chain.clone() + &key, chain.clone() + &key).is_ok());
        let no_certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        let wrong_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (chain, key, says) in [
            ("", &*key, "no certificate in the PEM text"),
            (
                &*(leaf.pem() + &middle.pem().replace("MII", "!!!")),
                &key,
                "certificate 2 of the PEM",
            ),
            (&(leaf.pem() + no_certificate), &key, "certificate 2 can't be used: it is not well"),
            (no_certificate, &key, "certificate 1 can't be used: it is not well-formed"),
            (&chain, "", "no private key in the PEM text"),
            (&chain, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "the private key is encrypted"),
            (&chain, &key.replace("MI", "!!"), "private key 1 of the PEM text is broken"),
            (&chain, wrong_key, "the private key can't be used"),
            (&chain, &other.key_pem(), "the private key does not belong to certificate 1"),
            (
                &(middle.pem() + &leaf.pem()),
                &key,
                "does not belong to certificate 1, but to certificate 2: the leaf must come first",
            ),
        ] {
            let error = Identity::from_pem(chain, key).expect_err(says);
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(says), "{error}, not {says:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        crypto();
        let error = Identity::from_pem_files("/nonexistent/a.pem", "/nonexistent/a.key");
        let error = error.expect_err("there is no file");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("/nonexistent/a.pem"), "{error}");
        let source = std::error::Error::source(&error).expect("the system's error");
        let source = source.downcast_ref::<std::io::Error>().expect("it is an I/O error");
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        assert!(covers_by_wildcard("*.a.test", "b.a.test"));
        for name in ["a.test", "c.b.a.test", ".a.test", "*.a.test", "b.a.test2", "ba.test"] {
            assert!(!covers_by_wildcard("*.a.test", name), "{name}");
        }
        assert!(!covers_by_wildcard("a.test", "a.test"));
    }
}
