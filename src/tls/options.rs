//! The user's TLS options and their validation.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use super::pem::{self, ChainAndKey};
use super::provider::provider;
use super::server_name::{MAX_NAME_IN_MESSAGE, parse_name};
use super::settings::{CLIENT_CERTIFICATE, Settings, check_alpn};
use crate::error::{Error, Result};

/// TLS settings: trusted roots, client certificate, ALPN and server name. Each setter takes and returns `self`.
///
/// By default, sockets offer TLS 1.2 and 1.3, and verify the server's certificate for the requested host. They trust
/// Mozilla's root certificates, which the `webpki-roots` crate compiles in. `Debug` never prints keys.
///
/// Sockets with equal settings share their sessions, so that a second connection to a server resumes if the server
/// allows it. For that, the 32 most recently used settings stay in memory, including a client's private key.
///
/// The session cache of each configuration holds at most 256 servers and 1 MiB. Each server gets at most 8 sessions
/// and 64 KiB. A session of more than 32 KiB, including the server's certificates, is not cached. A
/// [complete rustls configuration](#method.rustls_0_23_config) brings its own store and bounds.
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
    /// Creates the default options.
    #[must_use]
    pub fn new() -> Self {
        TlsOptions {
            settings: Arc::default(),
            server_name: None,
            require_close_notify: true,
            whole_config: None,
        }
    }

    /// Sets the name or IP address that the certificate must match. A name is also sent as SNI; an IP address is not
    /// (RFC 6066, section 3). Case and a trailing dot are ignored. Default: the requested host.
    ///
    /// If the text is not a name or address, [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    #[doc(alias("SNI", "servername", "expectedServerHostname", "ServerName"))]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the protocols to offer via ALPN (RFC 7301), in order of preference. Default: none, and no ALPN extension.
    /// [`SocketInfo::alpn`](crate::SocketInfo::alpn) returns the negotiated protocol.
    ///
    /// If a protocol is not 1 to 255 bytes long, or the list exceeds 16 KiB, [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    #[doc(alias("ALPNProtocols", "NextProtos"))]
    pub fn alpn<I, P>(mut self, protocols: I) -> Self
    where
        I: IntoIterator<Item = P>,
        P: Into<Vec<u8>>,
    {
        self.settings_mut().alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Adds every certificate of a PEM text to the trusted roots.
    ///
    /// A server's own certificate can be added too, if it is self-signed and not marked as an authority's (`CA:TRUE`).
    ///
    /// The lines may begin with blanks, end in any way, and have other text between the sections. Sections labelled
    /// `X509 CERTIFICATE` and `TRUSTED CERTIFICATE` are read too. Keys, revocation lists and parameters are ignored.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text has no certificate, or one that is malformed or
    /// can't be a root. The message says which, or what the text is instead, such as DER. No section is passed over in
    /// silence.
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
        self.settings_mut().roots.extend(roots);
        Ok(self)
    }

    /// Trusts only the roots that [`add_root_pem`](Self::add_root_pem) adds, not the built-in ones.
    ///
    /// If none was added, [`connect_with`](crate::connect_with) or [`start_tls_with`](crate::Socket::start_tls_with)
    /// fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn only_added_roots(mut self) -> Self {
        self.settings_mut().only_added_roots = true;
        self
    }

    /// Sets the client certificate chain, leaf first, and its private key, both as PEM. The chain is sent if the server
    /// requests a client certificate. A second call replaces the first.
    ///
    /// The key is in PKCS #8, PKCS #1 or SEC 1 format, and not encrypted. The certificates and the key may be in one
    /// text, which is then both arguments.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the certificate or the private key is missing, malformed
    /// or unusable, or if they do not belong together. Without a crypto provider (see the crate's features), the key is
    /// checked when a socket first needs it.
    #[doc(alias("cert", "key", "mTLS", "Certificates"))]
    pub fn client_auth_pem(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let auth = ChainAndKey::from_pem(chain.as_ref(), key.as_ref())?;
        if let Ok(provider) = provider() {
            auth.certified_key(&provider, CLIENT_CERTIFICATE)?;
        }
        self.settings_mut().client_auth = Some(Arc::new(auth));
        Ok(self)
    }

    /// Accepts every certificate: from any issuer, for any name, at any time. Default: `false`.
    ///
    /// Dangerous: an attacker on the path can read and modify the traffic. The server must still prove that it has the
    /// certificate's key.
    #[must_use]
    #[doc(alias("rejectUnauthorized", "InsecureSkipVerify"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.settings_mut().accept_invalid_certs = accept;
        self
    }

    /// Appends the secrets of every session to the file named by the environment variable `SSLKEYLOGFILE`, for tools
    /// such as Wireshark. Default: `false`.
    ///
    /// Dangerous: anyone with the file can decrypt the traffic. When the first socket with these settings connects, it
    /// reads the variable and opens the file.
    #[must_use]
    #[doc(alias("SSLKEYLOGFILE", "keylog", "KeyLogWriter"))]
    pub fn key_log_from_env(mut self, log: bool) -> Self {
        self.settings_mut().key_log = log;
        self
    }

    /// Sets a complete rustls 0.23 configuration, which replaces these settings. Requires the feature `rustls-0_23`.
    ///
    /// Only [`server_name`](Self::server_name) and [`require_close_notify`](Self::require_close_notify) can be combined
    /// with it. With any other setting, [`connect_with`](crate::connect_with) or
    /// [`start_tls_with`](crate::Socket::start_tls_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions). Sockets never send early data, even if the configuration
    /// enables it.
    ///
    /// Its verifier, session store and key log may block and use sockets: see the guide on
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

    /// Sets whether an EOF without `close_notify` is an error of kind [`Truncated`](crate::ErrorKind::Truncated).
    /// Default: `true`, because an attacker on the path can forge a FIN (RFC 8446, section 6.1).
    ///
    /// Use `false` for servers that omit `close_notify`, if the protocol marks its own end, as HTTP does with a content
    /// length. An EOF inside a TLS record or handshake message is always `Truncated`.
    #[must_use]
    pub fn require_close_notify(mut self, require: bool) -> Self {
        self.require_close_notify = require;
        self
    }

    /// Validates the options before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(name) = &self.server_name {
            if parse_name(name).is_none() {
                let name: String = name.chars().take(MAX_NAME_IN_MESSAGE).collect();
                return Err(Error::invalid_options(format!(
                    "server_name {name:?} is not a DNS name or an IP address"
                )));
            }
        }
        if let (Some(_), Some(set)) = (&self.whole_config, self.settings.first_conflict()) {
            return Err(Error::invalid_options(format!(
                "{set} can't be combined with rustls_0_23_config: set it in that configuration"
            )));
        }
        check_alpn(&self.settings.alpn)
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(super) fn server_name_override(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(super) fn full_config(&self) -> Option<&Arc<ClientConfig>> {
        self.whole_config.as_ref()
    }

    /// Returns whether a handshake with these options may run the program's code or write to a file.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        self.whole_config.is_some() || self.settings.key_log
    }

    pub(super) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }

    fn settings_mut(&mut self) -> &mut Settings {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, crypto};
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn invalid_options_are_named_in_the_error() {
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
    fn an_invalid_root_is_named_by_its_position() {
        let good = Authority::new("roots").pem();
        let broken = good.replace("MII", "!!!");
        let add = |pem: &str| TlsOptions::new().add_root_pem(pem);
        refused(add(""), "no certificate in the PEM text");
        let list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----";
        refused(add(list), "no certificate in the PEM text: it holds a revocation list");
        refused(add(&broken), "certificate 1 of the PEM text is broken: its base64");
        refused(add(&(good.clone() + &broken)), "certificate 2 of the PEM text is broken");
        refused(add(good.trim_end().trim_end_matches('-')), "its END line is malformed");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        refused(
            add(&(good.clone() + no_certificate)),
            "certificate 2 of the PEM text is broken: it is not well-formed",
        );
        assert_eq!(add(&(good.clone() + &good)).unwrap().settings.roots.len(), 2);
    }

    #[test]
    fn client_auth_errors_say_whether_certificate_or_key_is_at_fault() {
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
        refused(auth(&leaf.pem(), &broken), "private key 1 of the PEM text is broken");
        let wrong = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        refused(auth(&leaf.pem(), wrong), "the private key can't be used");
        let both = leaf.pem() + &leaf.key_pem();
        assert!(auth(&both, &both).is_ok());
    }

    #[test]
    fn debug_shows_the_settings_but_never_the_key() {
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
    fn changing_a_clone_does_not_change_the_original() {
        let first = TlsOptions::new().alpn(["h2"]);
        let second = first.clone();
        assert!(first.settings.is_same(&second.settings));
        let second = second.only_added_roots();
        assert!(!first.settings.is_same(&second.settings));
        assert!(!first.settings.only_added_roots);
        assert_eq!(second.settings.alpn, [b"h2"]);
    }

    #[cfg(feature = "rustls-0_23")]
    #[test]
    fn a_complete_configuration_combines_only_with_server_name_and_close_notify() {
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
            refused(options.check(), &format!("{name} can't be combined with rustls_0_23_config"));
        }
    }

    fn refused<T>(outcome: Result<T>, says: &str) {
        let Err(error) = outcome else { panic!("accepted, not refused with {says:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(says), "{error}, not {says:?}");
    }
}
