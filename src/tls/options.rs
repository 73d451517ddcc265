//! The user's TLS options and their validation.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use super::ech;
use super::identity::Identity;
use super::info::TlsVersion;
use super::peer_certificates::PeerCertificates;
use super::pem::{self, ChainAndKey, Purpose};
use super::provider::provider;
use super::revocation::check_revocation_lists;
use super::roots::{RevocationPolicy, Roots};
use super::server_name::{explain_invalid, parse_name};
use super::settings::{ClientIdentity, Hook, Settings, Trust, check_alpn};
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
    pub fn alpn<I, P>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item = P>,
        P: Into<Vec<u8>>,
    {
        let protocols = protocols.into_iter().map(Into::into).collect();
        self.change(|settings| settings.alpn = protocols)
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
    pub fn add_root_pem(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let roots = pem::roots(pem.as_ref(), Purpose::Servers)?;
        Ok(self.change_trust(|trust| trust.added_roots.extend(roots)))
    }

    /// Sets the base set of trusted roots, to which [`add_root_pem`](Self::add_root_pem) adds. Default
    /// [`Roots::WebPki`]. The last call of this and [`only_added_roots`](Self::only_added_roots) wins.
    #[must_use]
    #[doc(alias("rustls-native-certs", "rustls-platform-verifier", "tls_built_in_native_certs"))]
    pub fn roots(self, roots: Roots) -> Self {
        self.change_trust(|trust| trust.roots = roots)
    }

    /// Trusts only the roots that [`add_root_pem`](Self::add_root_pem) adds: [`Roots::OnlyAdded`].
    ///
    /// If none was added, [`connect_with`](crate::connect_with) or [`start_tls_with`](crate::Socket::start_tls_with)
    /// fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    pub fn only_added_roots(self) -> Self {
        self.roots(Roots::OnlyAdded)
    }

    /// Adds certificate revocation lists (RFC 5280, section 5), in PEM. With any list, every certificate but the root
    /// must be covered by a list that has not expired, unless [`revocation`](Self::revocation) relaxes that.
    ///
    /// Of several lists of one issuer and scope, the newest applies. A resumed session is not checked again: use
    /// [`resumption(false)`](Self::resumption) if that matters.
    ///
    /// With [`Roots::Platform`](Roots#variant.Platform), connecting fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions): the system has lists of its own.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text has no list, or one that is malformed. The
    /// message says which. Without a crypto provider, the contents are checked when a socket connects.
    #[doc(alias("crl", "ssl_crl_file", "RevocationOptions"))]
    pub fn add_crl_pem(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let lists = pem::revocation_lists(pem.as_ref())?;
        if let Ok(provider) = provider() {
            check_revocation_lists(&lists, &provider)?;
        }
        Ok(self.change_trust(|trust| trust.crls.extend(lists)))
    }

    /// Sets how revocation lists are applied. Default [`RevocationPolicy::Chain`]. No effect without lists.
    #[must_use]
    pub fn revocation(self, policy: RevocationPolicy) -> Self {
        self.change_trust(|trust| trust.revocation = policy)
    }

    /// Trusts exactly the certificates of a PEM text, and nothing else. The server must present one of them as its own,
    /// and prove that it has the key. Further calls add to them.
    ///
    /// This is for servers whose certificate no authority has signed, such as a database with the certificate of its
    /// installation. Its name, dates and issuer do not matter, nor whether it is marked as an authority's (`CA:TRUE`).
    ///
    /// Only [`pin_spki_sha256`](Self::pin_spki_sha256) and [`add_verifier`](Self::add_verifier) can be combined with
    /// it. With roots, revocation lists or a relaxation, connecting fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) as of [`add_root_pem`](Self::add_root_pem). The
    /// certificates need not be fit for roots.
    #[doc(alias("self-signed", "sslrootcert", "checkServerIdentity"))]
    pub fn trust_only_pem(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let servers = pem::servers(pem.as_ref())?;
        Ok(self.change_trust(|trust| trust.only.extend(servers)))
    }

    /// Pins the server's public key: SHA-256 of the leaf's SubjectPublicKeyInfo (RFC 7469, section 2.4). Of several
    /// pins one must match.
    ///
    /// Pins are checked in addition to everything else, and also with
    /// [`danger_accept_invalid_certs`](Self::danger_accept_invalid_certs). A session is resumed only by sockets with
    /// the same pins, so a resumed session satisfies them too. The error of a wrong key states its hash. Compare that
    /// with a hash from the server's owner before you use it.
    #[must_use]
    #[doc(alias("pinning", "pinnedpubkey", "HPKP", "tls_certs_only"))]
    pub fn pin_spki_sha256(self, hash: [u8; 32]) -> Self {
        self.change_trust(|trust| trust.pins.push(hash))
    }

    /// Adds a check that runs after all built-in checks have passed, and after the server has proven that it has the
    /// key. It can only reject; its text becomes part of the error. Several checks run in order, and all must accept.
    ///
    /// It runs once per full handshake, not for resumed sessions. It never runs on the event loop, and no lock is held.
    /// So it may block, and may use other sockets. It must not wait for this one. `close`, `abort` and the connect
    /// timeout take effect while it runs; its verdict is then ignored. A panic rejects.
    ///
    /// Sockets share sessions only if they have the same value of options, or clones of it. So make the options once:
    /// each new closure costs a configuration of its own.
    #[must_use]
    #[doc(alias("checkServerIdentity", "VerifyConnection", "VerifyPeerCertificate"))]
    pub fn add_verifier<F>(self, verify: F) -> Self
    where
        F: Fn(&PeerCertificates<'_>) -> std::result::Result<(), String> + Send + Sync + 'static,
    {
        self.change_trust(|trust| trust.verifiers.push(Hook(Arc::new(verify))))
    }

    /// Replaces all checks of chain and name by `verify`. The last call wins. Pins and added verifiers still apply.
    ///
    /// Dangerous: whatever it accepts is trusted. The server must still prove that it has the key. It runs as
    /// [`add_verifier`](Self::add_verifier) does.
    #[must_use]
    #[doc(alias("ServerCertVerifier", "InsecureSkipVerify"))]
    pub fn danger_replace_verifier<F>(self, verify: F) -> Self
    where
        F: Fn(&PeerCertificates<'_>) -> std::result::Result<(), String> + Send + Sync + 'static,
    {
        self.change_trust(|trust| trust.replacement = Some(Hook(Arc::new(verify))))
    }

    /// Accepts a certificate for any name, if the chain is in order. Default: `false`.
    ///
    /// Dangerous: anyone with a certificate from one of the trusted authorities can read and modify the traffic. Use it
    /// only with [`only_added_roots`](Self::only_added_roots) and an authority that signs for trusted servers alone.
    /// This is `sslmode=verify-ca` of PostgreSQL and `VERIFY_CA` of MySQL.
    ///
    /// With [`Roots::Platform`](Roots#variant.Platform) on a system that has a verifier of its own, connecting fails
    /// with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    #[doc(alias("danger_accept_invalid_hostnames", "verify-ca", "check_hostname"))]
    pub fn danger_accept_any_name(self, accept: bool) -> Self {
        self.change_trust(|trust| trust.accept_any_name = accept)
    }

    /// Accepts every certificate: from any issuer, for any name, at any time. Default: `false`.
    ///
    /// Dangerous: an attacker on the path can read and modify the traffic. The server must still prove that it has the
    /// certificate's key. Every certificate is accepted whose key the crypto provider can use, of any version and with
    /// any extensions.
    #[must_use]
    #[doc(alias("rejectUnauthorized", "InsecureSkipVerify"))]
    pub fn danger_accept_invalid_certs(self, accept: bool) -> Self {
        self.change_trust(|trust| trust.accept_invalid_certs = accept)
    }

    /// Sets the lowest version. Default TLS 1.2. If it is above [`max_version`](Self::max_version), connecting fails
    /// with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
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

    /// Restricts the cipher suites, by IANA code point, preferred first. Default: those of the crypto provider.
    ///
    /// Connecting fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for a suite that the provider lacks,
    /// and for a list that leaves an allowed version without any.
    #[must_use]
    #[doc(alias("ciphers", "CipherSuites"))]
    pub fn cipher_suites(self, suites: impl IntoIterator<Item = u16>) -> Self {
        let suites = suites.into_iter().collect();
        self.change(|settings| settings.parameters.cipher_suites = Some(suites))
    }

    /// Restricts the key exchange groups, by IANA code point, preferred first. Default: those of the crypto provider.
    /// With aws-lc-rs the first is X25519MLKEM768 (4588), which protects against later decryption by a quantum
    /// computer.
    ///
    /// Connecting fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for a group that the provider lacks,
    /// and for a list that leaves an allowed version without any.
    #[must_use]
    #[doc(alias("ecdhCurve", "CurvePreferences"))]
    pub fn key_exchange_groups(self, groups: impl IntoIterator<Item = u16>) -> Self {
        let groups = groups.into_iter().collect();
        self.change(|settings| settings.parameters.groups = Some(groups))
    }

    /// Hides the server name with Encrypted Client Hello (RFC 9849). `list` is the ECHConfigList from the `ech`
    /// parameter of a DNS HTTPS record (RFC 9460); it must come from a trusted resolver.
    ///
    /// If the server rejects it, the handshake fails: the name is never sent in the clear by a retry. Before that, the
    /// server proves the public name of the list. So pins and verifiers see that name's certificate, and may fail first.
    ///
    /// [`TlsInfo::ech`](crate::TlsInfo::ech) reports acceptance. TLS 1.2 is not offered. With a
    /// [`max_version`](Self::max_version) of TLS 1.2, or for an IP address, connecting fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the list is malformed, if it has no configuration that
    /// this side supports, or without the feature `aws-lc-rs`.
    #[doc(alias("ECH", "ESNI", "EncryptedClientHelloConfigList"))]
    pub fn ech_config_list(self, list: impl Into<Vec<u8>>) -> Result<Self> {
        let list = list.into();
        ech::mode(&list)?;
        Ok(self.change(|settings| settings.ech_config_list = Some(list)))
    }

    /// Sets whether sessions can be resumed. Default `true`. Use `false` if two connections must not be linkable
    /// (RFC 8446, section C.4).
    #[must_use]
    #[doc(alias("SSL_OP_NO_TICKET", "SessionTicketsDisabled"))]
    pub fn resumption(self, on: bool) -> Self {
        self.change(|settings| settings.no_resumption = !on)
    }

    /// Sets the client certificate and its key, as [`client_auth_pem`](Self::client_auth_pem) does. The last call of
    /// both wins.
    #[must_use]
    pub fn identity(self, identity: Identity) -> Self {
        self.change(|settings| settings.client_auth = Some(ClientIdentity(identity)))
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
    pub fn client_auth_pem(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let source = ChainAndKey::from_pem(chain.as_ref(), key.as_ref())?;
        Ok(self.identity(Identity::from_source(source, "the client certificate")?))
    }

    /// Appends the secrets of every session to the file named by the environment variable `SSLKEYLOGFILE`, for tools
    /// such as Wireshark. Default: `false`.
    ///
    /// Dangerous: anyone with the file can decrypt the traffic. When the first socket with these settings connects, it
    /// reads the variable and opens the file.
    #[must_use]
    #[doc(alias("SSLKEYLOGFILE", "keylog", "KeyLogWriter"))]
    pub fn key_log_from_env(self, log: bool) -> Self {
        self.change(|settings| settings.key_log = log)
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
                let (reason, name) = explain_invalid(name);
                return Err(Error::invalid_options(format!("server_name {name:?} {reason}")));
            }
        }
        if let (Some(_), Some(set)) = (&self.whole_config, self.settings.first_conflict()) {
            return Err(Error::invalid_options(format!(
                "{set} can't be combined with rustls_0_23_config: set it in that configuration"
            )));
        }
        self.settings.trust.check()?;
        self.settings.parameters.check()?;
        if self.settings.ech_config_list.is_some()
            && self.settings.parameters.max_version == Some(TlsVersion::Tls12)
        {
            return Err(Error::invalid_options(
                "ech_config_list can't be combined with max_version TLS 1.2: it needs TLS 1.3",
            ));
        }
        check_alpn(&self.settings.alpn)
    }

    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    pub(crate) fn server_name_override(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(super) fn full_config(&self) -> Option<&Arc<ClientConfig>> {
        self.whole_config.as_ref()
    }

    /// Returns whether a handshake with these options may run the program's code or write to a file.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        self.whole_config.is_some() || self.settings.runs_foreign_code()
    }

    pub(super) fn offers_ech(&self) -> bool {
        self.settings.ech_config_list.is_some()
    }

    pub(super) fn requires_close_notify(&self) -> bool {
        self.require_close_notify
    }

    fn change(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    fn change_trust(self, change: impl FnOnce(&mut Trust)) -> Self {
        self.change(|settings| change(&mut settings.trust))
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
        let trust = &settings.trust;
        let alpn: Vec<String> =
            settings.alpn.iter().map(|name| name.escape_ascii().to_string()).collect();
        f.debug_struct("TlsOptions")
            .field("server_name", &self.server_name)
            .field("alpn", &alpn)
            .field("roots", &trust.roots)
            .field("added_roots", &trust.added_roots.len())
            .field("trusted_only", &trust.only.len())
            .field("revocation_lists", &trust.crls.len())
            .field("pins", &trust.pins.len())
            .field("verifiers", &trust.verifiers.len())
            .field("replaced_verifier", &set(trust.replacement.is_some()))
            .field("client_auth", &set(settings.client_auth.is_some()))
            .field("accept_any_name", &trust.accept_any_name)
            .field("accept_invalid_certs", &trust.accept_invalid_certs)
            .field("key_log_from_env", &settings.key_log)
            .field("rustls_config", &set(self.whole_config.is_some()))
            .field("require_close_notify", &self.require_close_notify)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod chains;
#[cfg(test)]
mod site;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust;
