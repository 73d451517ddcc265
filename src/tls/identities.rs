//! The identities of a server, which it selects by the name that the client asks for.

mod table;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use self::table::Current;
use super::hello::{normalize_server_name, report};
use super::identity::Identity;
use super::server_name::MAX_NAME_IN_MESSAGE;
use crate::error::{Error, Result};
use crate::process::PerProcess;

/// The identities of a server, selected by the server name that a client asks for (SNI; RFC 6066, section 3).
///
/// A shared handle: clones share their identities. A change applies to every handshake that begins later, in all
/// sockets and listeners that use it. Handshakes in progress keep the old identity. No lock is held during a handshake.
///
/// Names ignore case and a trailing dot. The exact name wins over a wildcard, and a wildcard over the default.
///
/// ```no_run
/// use sockeye::{Identities, Identity};
///
/// let identities = Identities::new(Identity::from_pem_files("site.pem", "site.key")?);
/// identities.insert("*.example.com", Identity::from_pem_files("wild.pem", "wild.key")?)?;
/// // Later, when the files have changed:
/// identities.set_default(Identity::from_pem_files("site.pem", "site.key")?);
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias("SNI", "SNICallback", "GetCertificate", "setSecureContext"))]
pub struct Identities {
    shared: Arc<Shared>,
}

struct Shared {
    /// A forked child cannot use a lock that a thread of its parent held, so it has its own.
    current: PerProcess<Current>,
}

impl Identities {
    /// Presents `default`, unless an identity was inserted for the requested name.
    #[must_use]
    pub fn new(default: Identity) -> Self {
        let identities = Identities::without_default();
        identities.set_default(default);
        identities
    }

    /// Presents only identities that were inserted by name. A client that asks for another name, or for none, is
    /// refused. The alert is `access_denied`: rustls 0.23 does not send `unrecognized_name` (RFC 6066, section 3).
    #[must_use]
    pub fn without_default() -> Self {
        Identities { shared: Arc::new(Shared { current: PerProcess::new() }) }
    }

    /// Sets the default identity.
    pub fn set_default(&self, identity: Identity) {
        self.current().change(|table| table.set_default(identity));
    }

    /// Inserts or replaces the identity for `name`, or for `*.example.com`, which covers one label.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `name` is not a DNS name or a wildcard, or if the
    /// certificate does not cover it.
    pub fn insert(&self, name: &str, identity: Identity) -> Result<()> {
        let Some(name) = parse(name) else {
            let name: String = name.chars().take(MAX_NAME_IN_MESSAGE).collect();
            return Err(Error::invalid_options(format!(
                "{name:?} is not a DNS name or a wildcard such as *.example.com"
            )));
        };
        if !identity.covers(&name) {
            let names = identity.names().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid_options(format!(
                "the certificate is not for {name}, but for {}",
                if names.is_empty() { "no name" } else { &names }
            )));
        }
        self.current().change(|table| table.insert(&name, identity));
        Ok(())
    }

    /// Removes the identity for `name`, as it was inserted. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let Some(name) = parse(name) else { return false };
        self.current().change(|table| table.remove(&name))
    }

    /// Returns the identity for a name in lower case, without a trailing dot.
    fn select(&self, name: Option<&str>) -> Option<Identity> {
        let table = self.current().get();
        let by_name = name.and_then(|name| {
            table.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                table.get(&format!("*.{parent}"))
            })
        });
        by_name.or(table.default.as_ref()).cloned()
    }

    fn current(&self) -> &Current {
        self.shared.current.get(|parents| match parents {
            Some(parent) => Current::of_parent(parent),
            None => Current::new(Arc::default()),
        })
    }
}

impl From<Identity> for Identities {
    fn from(default: Identity) -> Self {
        Identities::new(default)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.current().get();
        f.debug_struct("Identities")
            .field("default", &table.default)
            .field("by_name", &table.named())
            .finish()
    }
}

/// Parses a DNS name or a wildcard: returns it in lower case, without a trailing dot.
fn parse(name: &str) -> Option<String> {
    let name = normalize_server_name(name);
    let host = name.strip_prefix("*.").unwrap_or(&name);
    let is_name = !host.ends_with('.') && DnsName::try_from(host).is_ok();
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    (is_name && !is_address).then_some(name)
}

/// Selects the certificate of a handshake.
pub(super) struct IdentityResolver {
    pub(super) identities: Identities,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for IdentityResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(normalize_server_name);
        let identity = self.identities.select(name.as_deref());
        let (certified, fault) = match identity.as_ref().map(|it| it.certified(&self.provider)) {
            Some(Ok(certified)) => (Some(certified), None),
            Some(Err(error)) => (None, Some(error.to_string().into_boxed_str())),
            None => (None, None),
        };
        report(name.as_deref(), certified.map(|certified| Arc::clone(&certified.leaf)), fault);
        certified.map(|certified| Arc::clone(&certified.key))
    }
}

impl fmt::Debug for IdentityResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identities.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, crypto};
    use super::*;
    use crate::error::ErrorKind;

    fn identity(names: &[&str]) -> Identity {
        crypto();
        let leaf = Authority::new("names").leaf_of(super::super::testing::leaf_params(names));
        Identity::from_pem(leaf.pem(), leaf.key_pem()).expect("it is valid")
    }

    fn selected(identities: &Identities, name: &str) -> Option<String> {
        let name = (!name.is_empty()).then(|| normalize_server_name(name));
        let identity = identities.select(name.as_deref())?;
        identity.names().next().map(str::to_owned)
    }

    #[test]
    fn the_exact_name_wins_over_a_wildcard_and_a_wildcard_over_the_default() {
        let identities = Identities::new(identity(&["default.test"]));
        identities.insert("*.a.test", identity(&["*.a.test"])).unwrap();
        identities.insert("B.A.test.", identity(&["b.a.test"])).unwrap();
        for (name, expected) in [
            ("b.a.test", "b.a.test"),
            ("B.a.TEST.", "b.a.test"),
            ("c.a.test", "*.a.test"),
            ("a.test", "default.test"),
            ("d.c.a.test", "default.test"),
            ("other.test", "default.test"),
            ("", "default.test"),
        ] {
            assert_eq!(selected(&identities, name).as_deref(), Some(expected), "{name}");
        }
        assert!(identities.remove("b.A.test") && !identities.remove("b.a.test"));
        assert_eq!(selected(&identities, "b.a.test").as_deref(), Some("*.a.test"));
        assert!(identities.remove("*.a.test"));
        assert_eq!(selected(&identities, "b.a.test").as_deref(), Some("default.test"));
    }

    #[test]
    fn without_a_default_only_inserted_names_are_served() {
        let identities = Identities::without_default();
        identities.insert("a.test", identity(&["a.test"])).unwrap();
        assert_eq!(selected(&identities, "a.test").as_deref(), Some("a.test"));
        assert_eq!(selected(&identities, "b.test"), None);
        assert_eq!(selected(&identities, ""), None);
        let clone = identities.clone();
        clone.set_default(identity(&["default.test"]));
        assert_eq!(selected(&identities, "").as_deref(), Some("default.test"), "clones share");
    }

    #[test]
    fn a_certificate_must_cover_the_name_that_it_is_inserted_for() {
        let identities = Identities::without_default();
        let wild = || identity(&["*.a.test", "c.test"]);
        for name in ["*.a.test", "b.a.test", "C.test"] {
            identities.insert(name, wild()).unwrap();
        }
        for (name, says) in [
            ("a.test", "the certificate is not for a.test, but for *.a.test, c.test"),
            ("*.c.test", "is not for *.c.test"),
            ("", "is not a DNS name"),
            ("*", "is not a DNS name"),
            ("*.", "is not a DNS name"),
            ("a.*.test", "is not a DNS name"),
            ("192.0.2.1", "is not a DNS name"),
            ("a b", "is not a DNS name"),
        ] {
            let error = identities.insert(name, wild()).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(says), "{error}, not {says:?}");
        }
        let bare = identity(&[]);
        let error = identities.insert("a.test", bare).unwrap_err();
        assert!(error.to_string().contains("but for no name"), "{error}");
    }
}
