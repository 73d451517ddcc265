//! The TLS options of a server and their validation.

use std::fmt;
use std::sync::Arc;

use once_cell::race::OnceBox;
use rustls::ServerConfig;

use super::client_auth::ClientAuth;
use super::identities::Identities;
use super::info::TlsVersion;
use super::peer_certificates::PeerCertificates;
use super::pem::{self, Purpose};
use super::provider::provider;
use super::revocation::check_revocation_lists;
use super::server_config::{self, ServerSettings};
use super::settings::check_alpn;
use crate::error::{Error, Result};
use crate::process::PerProcess;

/// TLS settings of the server side. Each setter takes and returns `self`.
///
/// Default: TLS 1.2 and 1.3, no ALPN, no client certificates, and stateless session tickets. Ticket keys rotate every 6
/// hours and live for 12. Early data is never accepted. `Debug` never prints keys.
///
/// ```no_run
/// use sockeye::{Identity, SecureTransport, ServerTlsOptions, SocketOptions};
///
/// let identity = Identity::from_pem_files("site.pem", "site.key")?;
/// let options = SocketOptions::new()
///     .secure_transport(SecureTransport::On)
///     .server_tls(ServerTlsOptions::new(identity).alpn(["h2", "http/1.1"]));
/// # let _ = options;
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias("ServerConfig", "createServer", "TlsAcceptor", "tls.Config"))]
pub struct ServerTlsOptions {
    source: Source,
    settings: Arc<ServerSettings>,
    require_close_notify: bool,
    /// The configuration, once it was needed. A setter begins a new one, which has ticket keys of its own. A forked
    /// child builds its own, because a thread of its parent may have held a lock in it.
    built: Arc<PerProcess<OnceBox<Arc<ServerConfig>>>>,
}

#[derive(Clone)]
enum Source {
    Identities(Identities),
    /// A complete configuration of the program.
    #[cfg(feature = "rustls-0_23")]
    Whole(Arc<ServerConfig>),
}

impl ServerTlsOptions {
    /// Presents the identity that `identities` holds for the requested name when a handshake begins. An [`Identity`]
    /// is the default of a new [`Identities`].
    ///
    /// [`Identity`]: crate::Identity
    #[must_use]
    pub fn new(identities: impl Into<Identities>) -> Self {
        ServerTlsOptions::from_source(Source::Identities(identities.into()))
    }

    fn from_source(source: Source) -> Self {
        ServerTlsOptions {
            source,
            settings: Arc::default(),
            require_close_notify: true,
            built: Arc::new(PerProcess::new()),
        }
    }

    /// Sets the ALPN protocols (RFC 7301), preferred first. Default: none.
    ///
    /// A client that offers only others is refused (alert `no_application_protocol`). A client that offers none is
    /// accepted, and [`SocketInfo::alpn`](crate::SocketInfo::alpn) is `None`.
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options are used if a protocol is not 1 to 255
    /// bytes long, or if the list exceeds 16 KiB.
    #[must_use]
    #[doc(alias("ALPNProtocols", "NextProtos"))]
    pub fn alpn<I, P>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item = P>,
        P: Into<Vec<u8>>,
    {
        let protocols = protocols.into_iter().map(Into::into).collect();
        self.change(|settings| settings.alpn = protocols)
    }

    /// Sets whether to ask clients for a certificate. Default [`ClientAuth::None`].
    ///
    /// Anything but `None` needs a root from [`add_client_root_pem`](Self::add_client_root_pem). Without one,
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options are used.
    #[must_use]
    pub fn client_auth(self, auth: ClientAuth) -> Self {
        self.change(|settings| settings.client_auth = auth)
    }

    /// Adds every certificate of a PEM text to the roots that verify client certificates. No effect with
    /// [`ClientAuth::None`].
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text has no certificate, or one that is malformed or
    /// can't be a root. The message says which.
    #[doc(alias("ca", "ClientCAs"))]
    pub fn add_client_root_pem(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let roots = pem::roots(pem.as_ref(), Purpose::Clients)?;
        Ok(self.change(|settings| settings.client_roots.extend(roots)))
    }

    /// Adds certificate revocation lists (RFC 5280, section 5) for client certificates, in PEM. With any list, every
    /// certificate but the root must be covered by a list that has not expired. Of several lists of one issuer and scope,
    /// the newest applies.
    ///
    /// A resumed session is not verified again. If the lists change while clients are connected, use
    /// [`resumption(false)`](Self::resumption), or new options, which accept no earlier ticket.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text has no list, or one that is malformed. The
    /// message says which. Without a crypto provider, the contents are checked when the options are used.
    #[doc(alias("crl", "VerifyPeerCertificate"))]
    pub fn add_client_crl_pem(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let lists = pem::revocation_lists(pem.as_ref())?;
        if let Ok(provider) = provider() {
            check_revocation_lists(&lists, &provider)?;
        }
        Ok(self.change(|settings| settings.client_crls.extend(lists)))
    }

    /// Adds a check that runs after a client's chain was verified. It can only reject; its text becomes part of the
    /// error. Several checks run in order, and all must accept. No effect with [`ClientAuth::None`], and for a client
    /// without a certificate.
    ///
    /// It runs once per full handshake, not for resumed sessions. It never runs on the event loop, and no lock is held.
    /// So it may block, and may use other sockets. It must not wait for this one. `close`, `abort` and the handshake's
    /// limit take effect while it runs; its verdict is then ignored. A panic rejects.
    #[must_use]
    #[doc(alias("checkServerIdentity", "VerifyConnection"))]
    pub fn add_client_verifier<F>(self, verify: F) -> Self
    where
        F: Fn(&PeerCertificates<'_>) -> std::result::Result<(), String> + Send + Sync + 'static,
    {
        self.change(|settings| settings.client_verifiers.push(Arc::new(verify)))
    }

    /// Sets whether sessions can be resumed. Default `true`.
    ///
    /// Ticket keys belong to this value and its clones, as long as no setter is called on them. Other settings, such as
    /// new ones with other roots or revocation lists, do not accept its tickets. Nor does a forked child, which makes
    /// its own keys. With a crypto provider that the program installed, and neither of the [features](crate#features)
    /// `aws-lc-rs` and `ring`, the last 4096 sessions are kept in memory instead.
    #[must_use]
    #[doc(alias("SSL_OP_NO_TICKET", "SessionTicketsDisabled"))]
    pub fn resumption(self, on: bool) -> Self {
        self.change(|settings| settings.no_resumption = !on)
    }

    /// Sets the lowest version. Default TLS 1.2. [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options
    /// are used if it is above [`max_version`](Self::max_version).
    #[must_use]
    #[doc(alias("minVersion", "MinVersion"))]
    pub fn min_version(self, version: TlsVersion) -> Self {
        self.change(|settings| settings.parameters.min_version = Some(version))
    }

    /// Sets the highest version. Default TLS 1.3.
    #[must_use]
    #[doc(alias("maxVersion", "MaxVersion"))]
    pub fn max_version(self, version: TlsVersion) -> Self {
        self.change(|settings| settings.parameters.max_version = Some(version))
    }

    /// Restricts the cipher suites, by IANA code point, preferred first. Default: those of the crypto provider, in its
    /// order. The server's order decides, not the client's.
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options are used, for a suite that the provider
    /// lacks, and for a list that leaves an allowed version without any.
    #[must_use]
    #[doc(alias("ciphers", "CipherSuites"))]
    pub fn cipher_suites(self, suites: impl IntoIterator<Item = u16>) -> Self {
        let suites = suites.into_iter().collect();
        self.change(|settings| settings.parameters.cipher_suites = Some(suites))
    }

    /// Restricts the key exchange groups, by IANA code point, preferred first. Errors are those of
    /// [`cipher_suites`](Self::cipher_suites). Default: those of the provider. With the feature `aws-lc-rs`, the first
    /// is X25519MLKEM768 (4588), which protects against later decryption by a quantum computer.
    #[must_use]
    #[doc(alias("ecdhCurve", "CurvePreferences"))]
    pub fn key_exchange_groups(self, groups: impl IntoIterator<Item = u16>) -> Self {
        let groups = groups.into_iter().collect();
        self.change(|settings| settings.parameters.groups = Some(groups))
    }

    /// Sets whether an EOF without `close_notify` is an error of kind [`Truncated`](crate::ErrorKind::Truncated).
    /// Default `true`, because an attacker on the path can forge a FIN (RFC 8446, section 6.1).
    #[must_use]
    pub fn require_close_notify(mut self, require: bool) -> Self {
        self.require_close_notify = require;
        self
    }

    /// Appends the secrets of every session to the file named by the environment variable `SSLKEYLOGFILE`, for tools
    /// such as Wireshark. Default `false`.
    ///
    /// Dangerous: anyone with the file can decrypt the traffic. When the first socket uses these settings, it reads the
    /// variable and opens the file.
    #[must_use]
    #[doc(alias("SSLKEYLOGFILE", "keylog", "KeyLogWriter"))]
    pub fn key_log_from_env(self, log: bool) -> Self {
        self.change(|settings| settings.key_log = log)
    }

    /// Uses a complete rustls 0.23 configuration. Requires the feature `rustls-0_23`.
    ///
    /// Only [`require_close_notify`](Self::require_close_notify) can be set besides it. With any other setting,
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) when the options are used. Sockets accept no early data and
    /// send none before the client's Finished, even if the configuration enables it.
    ///
    /// Its verifier, resolver, session store and key log may block and use sockets: see the guide on
    /// [threads](crate::guide::threads_and_fork#code-of-the-program).
    #[cfg(feature = "rustls-0_23")]
    #[must_use]
    pub fn from_rustls_0_23_config(config: Arc<ServerConfig>) -> Self {
        ServerTlsOptions::from_source(Source::Whole(server_config::adapt(&config)))
    }

    /// Validates the options before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        match (&self.source, self.settings.first_conflict()) {
            #[cfg(feature = "rustls-0_23")]
            (Source::Whole(_), Some(set)) => {
                return Err(Error::invalid_options(format!(
                    "{set} can't be combined with from_rustls_0_23_config: set it in that \
                     configuration"
                )));
            }
            _ => {}
        }
        check_alpn(&self.settings.alpn)?;
        self.settings.parameters.check()?;
        if self.settings.client_auth != ClientAuth::None && self.settings.client_roots.is_empty() {
            return Err(Error::invalid_options(
                "client_auth is set, but no root was added with add_client_root_pem",
            ));
        }
        Ok(())
    }

    /// Returns the rustls configuration, which clones share.
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>> {
        match &self.source {
            #[cfg(feature = "rustls-0_23")]
            Source::Whole(config) => {
                self.check()?;
                Ok(Arc::clone(config))
            }
            Source::Identities(identities) => {
                let built = self.built.get(|_| OnceBox::new());
                let config = built.get_or_try_init(|| {
                    self.check()?;
                    let config = server_config::build(&self.settings, identities, &provider()?)?;
                    Ok::<_, Error>(Box::new(Arc::new(config)))
                })?;
                Ok(Arc::clone(config))
            }
        }
    }

    /// Returns whether a handshake may ask the client for a certificate.
    pub(super) fn may_ask_for_certificate(&self) -> bool {
        match self.source {
            Source::Identities(_) => self.settings.client_auth != ClientAuth::None,
            #[cfg(feature = "rustls-0_23")]
            Source::Whole(_) => true,
        }
    }

    /// Returns whether a handshake with these options may run the program's code or write to a file.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        match self.source {
            Source::Identities(_) => {
                self.settings.key_log || !self.settings.client_verifiers.is_empty()
            }
            #[cfg(feature = "rustls-0_23")]
            Source::Whole(_) => true,
        }
    }

    pub(super) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }

    /// Changes the settings of this value only.
    fn change(mut self, change: impl FnOnce(&mut ServerSettings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self.built = Arc::new(PerProcess::new());
        self
    }
}

impl fmt::Debug for ServerTlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ServerTlsOptions");
        match &self.source {
            Source::Identities(identities) => shown.field("identities", identities),
            #[cfg(feature = "rustls-0_23")]
            Source::Whole(_) => shown.field("rustls_config", &"set"),
        };
        let settings = &*self.settings;
        let alpn: Vec<String> =
            settings.alpn.iter().map(|name| name.escape_ascii().to_string()).collect();
        shown
            .field("alpn", &alpn)
            .field("client_auth", &settings.client_auth)
            .field("client_roots", &settings.client_roots.len())
            .field("client_crls", &settings.client_crls.len())
            .field("client_verifiers", &settings.client_verifiers.len())
            .field("resumption", &!settings.no_resumption)
            .field("parameters", &settings.parameters)
            .field("key_log_from_env", &settings.key_log)
            .field("require_close_notify", &self.require_close_notify)
            .finish()
    }
}

#[cfg(test)]
mod tests;
