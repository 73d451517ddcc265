//! What a user may choose for TLS, and the check that it can be.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::config::provider;
use super::name::parse_name;
use super::pem::{self, ClientAuth};
use crate::error::{Error, ErrorKind, Result};

/// TLS settings: whom to trust, what to offer, and as whom; each setter takes and returns `self`.
///
/// The default trusts the authorities that Mozilla trusts (as compiled in by the `webpki-roots`
/// crate), offers TLS 1.2 and 1.3, and verifies the certificate for the host that was connected to.
/// `Debug` never prints keys.
///
/// Sockets with equal settings share their sessions: a second connection to a server is resumed where
/// the server allows it. For that the settings, a client's key included, are kept in memory until 32
/// others were used since. Of each configuration, sessions of at most 256 servers are kept, 8 of each, and 1 MiB
/// in all, of which a server has at most 64 KiB. A session of more than 32 KiB, with the server's certificates, is
/// not kept. A whole configuration of rustls brings a store, and bounds, of its own.
///
/// ```
/// use sockeye::{SecureTransport, SocketOptions, TlsOptions};
///
/// let tls = TlsOptions::new().alpn(["h2", "http/1.1"]).server_name("example.com");
/// let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(tls);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct TlsOptions {
    settings: Arc<Settings>,
    server_name: Option<String>,
    require_close_notify: bool,
    whole_config: Option<Arc<ClientConfig>>,
}

impl TlsOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        TlsOptions {
            settings: Arc::default(),
            server_name: None,
            require_close_notify: true,
            whole_config: None,
        }
    }

    /// The name, or IP address, that is sent as SNI and that the certificate has to be for. Case and
    /// a trailing dot don't count; an address is verified but never sent (RFC 6066, section 3).
    /// Default: the host that was connected to.
    ///
    /// What is empty or not a name gives [`ErrorKind::InvalidOptions`] from
    /// [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with).
    #[must_use]
    #[doc(alias("SNI", "servername", "expectedServerHostname", "ServerName"))]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Protocols offered by ALPN (RFC 7301), most wanted first. Default: none, and no ALPN. The one
    /// agreed on is [`SocketInfo::alpn`](crate::SocketInfo::alpn).
    ///
    /// A protocol that is not 1 to 255 bytes long, or more than 16 KiB of them, give
    /// [`ErrorKind::InvalidOptions`] from [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with).
    #[must_use]
    #[doc(alias("ALPNProtocols", "NextProtos"))]
    pub fn alpn<I, P>(mut self, protocols: I) -> Self
    where
        I: IntoIterator<Item = P>,
        P: Into<Vec<u8>>,
    {
        self.change().alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Adds every certificate of a PEM text to the trusted roots.
    ///
    /// A server's own certificate may be added too, where it is self-signed and not marked as an
    /// authority's (`CA:TRUE`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`] where the text has no certificate, or one that is broken or can't
    /// be a root; the message tells which.
    ///
    /// ```
    /// # let key = rcgen::KeyPair::generate()?;
    /// # let pem = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?.pem();
    /// # let (folder, file) = (std::env::temp_dir(), format!("sockeye-{}.pem", std::process::id()));
    /// # std::fs::write(folder.join(&file), pem)?;
    /// # let path = folder.join(&file);
    /// use sockeye::TlsOptions;
    ///
    /// let tls = TlsOptions::new().add_root_pem(std::fs::read(&path)?)?.only_added_roots();
    /// # std::fs::remove_file(&path)?;
    /// # let _ = tls;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ca", "RootCAs", "SSL_CERT_FILE"))]
    pub fn add_root_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let roots = pem::roots(pem.as_ref())?;
        self.change().roots.extend(roots);
        Ok(self)
    }

    /// Trusts only the roots that [`add_root_pem`](Self::add_root_pem) adds, not the built-in ones.
    ///
    /// Without any such root [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with) gives [`ErrorKind::InvalidOptions`].
    #[must_use]
    pub fn only_added_roots(mut self) -> Self {
        self.change().only_added_roots = true;
        self
    }

    /// Client certificate chain, leaf first, and its private key, as PEM: sent where the server asks
    /// for one. The key is PKCS #8, PKCS #1 or SEC 1, and not encrypted; other sections are passed
    /// over, so that both may be in one text. A second call replaces the first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`] where there is no certificate or no private key, or one that is
    /// broken, can't be used, or does not belong to the other. Without cryptography at this
    /// moment (see the crate's features) the key is judged when a socket first needs it.
    #[doc(alias("cert", "key", "mTLS", "Certificates"))]
    pub fn client_auth_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let auth = ClientAuth::from_pem(chain.as_ref(), key.as_ref())?;
        if let Ok(provider) = provider() {
            auth.certified_key(&provider)?;
        }
        self.change().client_auth = Some(Arc::new(auth));
        Ok(self)
    }

    /// Accepts every certificate: of anyone, for any name, at any time. Dangerous: whoever is in
    /// between can read and change the traffic. Default `false`.
    ///
    /// The server still has to prove that it has the certificate's key.
    #[must_use]
    #[doc(alias("rejectUnauthorized", "InsecureSkipVerify"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.change().accept_invalid_certs = accept;
        self
    }

    /// Appends the secrets of every session to the file that the environment variable `SSLKEYLOGFILE`
    /// names, for Wireshark and its like. Dangerous: whoever has the file can read the traffic. Default
    /// `false`.
    ///
    /// The variable is read, and the file opened, when the first socket with such settings connects.
    #[must_use]
    #[doc(alias("SSLKEYLOGFILE", "keylog", "KeyLogWriter"))]
    pub fn key_log_from_env(mut self, log: bool) -> Self {
        self.change().key_log = log;
        self
    }

    /// A complete configuration of rustls 0.23, in place of one made of these settings. With the
    /// feature `rustls-0_23` only.
    ///
    /// Beside it only [`server_name`](Self::server_name) and
    /// [`require_close_notify`](Self::require_close_notify) may be set, else
    /// [`connect_with`](crate::connect_with) or [`start_tls_with`](crate::Socket::start_tls_with) gives
    /// [`ErrorKind::InvalidOptions`]. Early data is not sent, whatever the configuration says.
    ///
    /// Its verifier, session store and key log may block, and use sockets: see the guide on
    /// [threads](crate::guide::threads_and_fork#code-of-the-program).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rustls::{ClientConfig, RootCertStore};
    /// use sockeye::TlsOptions;
    ///
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let config = ClientConfig::builder_with_provider(provider)
    ///     .with_protocol_versions(&[&rustls::version::TLS13])?
    ///     .with_root_certificates(RootCertStore::empty())
    ///     .with_no_client_auth();
    /// let tls = TlsOptions::new().rustls_0_23_config(Arc::new(config));
    /// # let _ = tls;
    /// # Ok::<(), rustls::Error>(())
    /// ```
    #[cfg(feature = "rustls-0_23")]
    #[must_use]
    pub fn rustls_0_23_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.whole_config = Some(config);
        self
    }

    /// Whether an end without `close_notify` is an error,
    /// [`Truncated`](ErrorKind::Truncated), because anyone in between could have made it (RFC 8446,
    /// section 6.1). Default `true`; for protocols that tell their own end, such as HTTP with a
    /// length, and servers that leave it out, `false`. An end in the middle of a record or of a message is
    /// `Truncated` in any case.
    #[must_use]
    pub fn require_close_notify(mut self, require: bool) -> Self {
        self.require_close_notify = require;
        self
    }

    /// Refuses what can't be, before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(name) = &self.server_name {
            if parse_name(name).is_none() {
                let name: String = name.chars().take(NAME_IN_MESSAGE).collect();
                return Err(invalid(format!(
                    "server_name {name:?} is not a DNS name or an IP address"
                )));
            }
        }
        if let (Some(_), Some(set)) = (&self.whole_config, self.settings.first_set()) {
            return Err(invalid(format!(
                "{set} can't be set beside rustls_0_23_config: the configuration says it all"
            )));
        }
        self.settings.check_alpn()
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(super) fn chosen_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(super) fn whole_config(&self) -> Option<&Arc<ClientConfig>> {
        self.whole_config.as_ref()
    }

    /// Whether a handshake by these options may run code that is not this crate's, or write to a file.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        self.whole_config.is_some() || self.settings.key_log
    }

    pub(super) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }

    fn change(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions::new()
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |is_set: bool| if is_set { "set" } else { "none" };
        let settings = &*self.settings;
        let alpn: Vec<String> =
            settings.alpn.iter().map(|name| name.escape_ascii().to_string()).collect();
        f.debug_struct("TlsOptions")
            .field("server_name", &self.server_name)
            .field("alpn", &alpn)
            .field("added_roots", &settings.roots.len())
            .field("only_added_roots", &settings.only_added_roots)
            .field("client_auth", &set(settings.client_auth.is_some()))
            .field("accept_invalid_certs", &settings.accept_invalid_certs)
            .field("key_log_from_env", &settings.key_log)
            .field("rustls_config", &set(self.whole_config.is_some()))
            .field("require_close_notify", &self.require_close_notify)
            .finish()
    }
}

/// The settings that shape a rustls configuration: equal ones may share one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) only_added_roots: bool,
    pub(super) client_auth: Option<Arc<ClientAuth>>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) accept_invalid_certs: bool,
    pub(super) key_log: bool,
}

impl Settings {
    /// Whether one configuration serves both; at no cost where they are the same, as the settings of
    /// a connector are.
    pub(super) fn same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || **self == **other
    }

    /// A setter that was used, by name.
    fn first_set(&self) -> Option<&'static str> {
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

    fn check_alpn(&self) -> Result<()> {
        for name in &self.alpn {
            if name.is_empty() || name.len() > ALPN_NAME {
                let (name, length) = (name.escape_ascii(), name.len());
                return Err(invalid(format!(
                    "alpn protocol \"{name}\" is {length} bytes long, not 1 to {ALPN_NAME}"
                )));
            }
        }
        let total: usize = self.alpn.iter().map(|name| 1 + name.len()).sum();
        if total > ALPN_TOTAL {
            return Err(invalid(format!(
                "the alpn protocols take {total} bytes, more than {ALPN_TOTAL}"
            )));
        }
        Ok(())
    }
}

/// An option that can't be.
pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::with_message(ErrorKind::InvalidOptions, message)
}

/// How many characters of a wrong name a message repeats.
pub(super) const NAME_IN_MESSAGE: usize = 64;
/// A protocol's length is one byte (RFC 7301, section 3.1).
const ALPN_NAME: usize = 255;
/// All extensions of a ClientHello have to fit in 64 KiB, a session ticket among them.
const ALPN_TOTAL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, crypto};
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let new = TlsOptions::new;
        refused(new().server_name("").check(), "server_name \"\"");
        refused(new().server_name("a b").check(), "server_name \"a b\"");
        refused(new().server_name("127.1").check(), "not a DNS name");
        refused(new().alpn([""]).check(), "is 0 bytes long");
        refused(new().alpn([vec![b'x'; 256]]).check(), "is 256 bytes long");
        refused(new().alpn(vec!["http/1.1"; 4000]).check(), "more than 16384");
        assert!(new().server_name("Example.COM.").alpn([vec![0; 255]]).check().is_ok());
        assert!(new().server_name("::1").check().is_ok());
    }

    #[test]
    fn a_root_that_cannot_be_is_told_by_its_place() {
        let good = Authority::new("roots").pem();
        let broken = good.replace("MII", "!!!");
        let add = |pem: &str| TlsOptions::new().add_root_pem(pem);
        refused(add(""), "no certificate in the PEM text");
        refused(add("-----BEGIN X509 CRL-----\n-----END X509 CRL-----"), "no certificate");
        refused(add(&broken), "certificate 1 of the PEM text is broken: its base64");
        refused(add(&(good.clone() + &broken)), "certificate 2 of the PEM text is broken");
        refused(add(good.trim_end().trim_end_matches('-')), "its end is missing");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        refused(
            add(&(good.clone() + no_certificate)),
            "certificate 2 of the PEM text can't be used as a root: it is not well-formed",
        );
        assert_eq!(add(&(good.clone() + &good)).unwrap().settings.roots.len(), 2);
    }

    #[test]
    fn a_client_certificate_and_its_key_are_told_apart_by_name() {
        crypto();
        let authority = Authority::new("clients");
        let (leaf, other) = (authority.leaf(["a.test"]), authority.leaf(["b.test"]));
        let auth = |chain: &str, key: &str| TlsOptions::new().client_auth_pem(chain, key);
        refused(auth("", &leaf.key_pem()), "no certificate in the PEM text");
        refused(auth(&leaf.pem(), ""), "no private key in the PEM text");
        refused(auth(&leaf.pem(), &leaf.pem()), "no private key in the PEM text");
        refused(auth(&leaf.pem(), &other.key_pem()), "does not belong to the client certificate");
        let encrypted = leaf.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
        refused(auth(&leaf.pem(), &encrypted), "the private key is encrypted");
        let broken = leaf.key_pem().replace("MI", "!!");
        refused(auth(&leaf.pem(), &broken), "the private key is not valid PEM");
        let wrong = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        refused(auth(&leaf.pem(), wrong), "the private key can't be used");
        let both = leaf.pem() + &leaf.key_pem();
        assert!(auth(&both, &both).is_ok());
    }

    #[test]
    fn debug_tells_what_is_set_and_never_the_key() {
        crypto();
        let leaf = Authority::new("debug").leaf(["a.test"]);
        let options = TlsOptions::new()
            .server_name("a.test")
            .alpn([b"h2".to_vec(), b"\x00\xff".to_vec()])
            .client_auth_pem(leaf.pem(), leaf.key_pem())
            .unwrap();
        assert_eq!(
            format!("{options:?}"),
            "TlsOptions { server_name: Some(\"a.test\"), alpn: [\"h2\", \"\\\\x00\\\\xff\"], \
             added_roots: 0, only_added_roots: false, client_auth: \"set\", \
             accept_invalid_certs: false, key_log_from_env: false, rustls_config: \"none\", \
             require_close_notify: true }"
        );
    }

    #[test]
    fn a_clone_that_changes_leaves_the_first_as_it_was() {
        let first = TlsOptions::new().alpn(["h2"]);
        let second = first.clone();
        assert!(first.settings.same(&second.settings));
        let second = second.only_added_roots();
        assert!(!first.settings.same(&second.settings));
        assert!(!first.settings.only_added_roots);
        assert_eq!(second.settings.alpn, [b"h2"]);
    }

    #[cfg(feature = "rustls-0_23")]
    #[test]
    fn a_whole_configuration_bears_nothing_beside_it_but_name_and_end() {
        crypto();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let whole = TlsOptions::new().rustls_0_23_config(Arc::new(config));
        assert!(whole.clone().server_name("a.test").require_close_notify(false).check().is_ok());
        assert!(whole.clone().danger_accept_invalid_certs(false).check().is_ok());
        let leaf = Authority::new("whole").leaf(["a.test"]);
        for (options, name) in [
            (whole.clone().alpn(["h2"]), "alpn"),
            (whole.clone().only_added_roots(), "only_added_roots"),
            (whole.clone().danger_accept_invalid_certs(true), "danger_accept_invalid_certs"),
            (whole.clone().key_log_from_env(true), "key_log_from_env"),
            (whole.clone().add_root_pem(leaf.pem()).unwrap(), "add_root_pem"),
            (whole.clone().client_auth_pem(leaf.pem(), leaf.key_pem()).unwrap(), "client_auth_pem"),
        ] {
            refused(options.check(), &format!("{name} can't be set beside rustls_0_23_config"));
        }
    }

    fn refused<T>(outcome: Result<T>, says: &str) {
        let Err(error) = outcome else { panic!("accepted, not refused with {says:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(says), "{error}, not {says:?}");
    }
}
