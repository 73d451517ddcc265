//! The checked input of one TLS handshake: a rustls configuration, and a client's server name to verify.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::config;
use super::options::TlsOptions;
use super::provider::provider;
use super::role::Role;
use super::server_name::{explain_invalid, parse_name};
use super::server_options::ServerTlsOptions;
use crate::error::{Error, Result};

/// The validated settings of a TLS handshake as the client of one host, with the name that the certificate must match,
/// or as the server. Cheap to clone.
///
/// Sockets create their own; this type is for programs that drive the [`machine`](crate::machine) directly.
#[derive(Clone)]
pub struct TlsSetup {
    handshake: Handshake,
    require_close_notify: bool,
    runs_foreign_code: bool,
    offers_ech: bool,
}

/// What a handshake needs in each role.
#[derive(Clone)]
pub(crate) enum Handshake {
    Client { config: Arc<ClientConfig>, server_name: ServerName<'static> },
    Server { config: Arc<ServerConfig>, may_ask_for_certificate: bool },
}

impl TlsSetup {
    /// Prepares a handshake with `hostname`, which is a name or an IP address, with or without brackets.
    /// [`TlsOptions::server_name`] takes precedence over it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) in these cases:
    ///
    /// - The options are invalid.
    /// - No certificate can match the host (such as `127.1`), and no server name is set.
    /// - There is no crypto provider: neither of the features `aws-lc-rs` and `ring` is enabled, and the program
    ///   installed none.
    pub fn new(options: &TlsOptions, hostname: &str) -> Result<Self> {
        let server_name = check(options, hostname)?;
        let config = match options.full_config() {
            Some(config) => Arc::clone(config),
            None => config::shared_config(options.settings())?,
        };
        Ok(TlsSetup {
            handshake: Handshake::Client { config, server_name },
            require_close_notify: options.requires_close_notify(),
            runs_foreign_code: options.runs_foreign_code(),
            offers_ech: options.offers_ech(),
        })
    }

    /// Checks options for TLS with a proxy, without a crypto provider.
    pub(crate) fn check_proxy(options: &TlsOptions, hostname: &str) -> Result<()> {
        let alpn = match options.full_config() {
            Some(config) => &config.alpn_protocols,
            None => &options.settings().alpn,
        };
        if alpn.iter().any(|protocol| protocol != b"http/1.1") {
            let message = "a proxy speaks HTTP/1.1: ALPN must offer nothing, or only http/1.1";
            return Err(Error::invalid_options(message));
        }
        check(options, hostname).map(drop)
    }

    /// Checks that a handshake with these options can be prepared, if there is a crypto provider yet.
    pub(crate) fn check_usable(options: &TlsOptions, hostname: &str) -> Result<()> {
        let needs_provider = options.full_config().is_none();
        match provider() {
            // The program may install one later.
            Err(_) if needs_provider => check(options, hostname).map(drop),
            Ok(_) | Err(_) => TlsSetup::new(options, hostname).map(drop),
        }
    }

    /// Prepares a handshake as the server.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) if the options are invalid, or if there is no
    /// crypto provider.
    pub fn server(options: &ServerTlsOptions) -> Result<Self> {
        let may_ask_for_certificate = options.may_ask_for_certificate();
        Ok(TlsSetup {
            handshake: Handshake::Server { config: options.config()?, may_ask_for_certificate },
            require_close_notify: options.requires_close_notify(),
            runs_foreign_code: options.runs_foreign_code(),
            offers_ech: false,
        })
    }

    /// Creates a setup with a configuration from the simulator, or from a test.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn with_config(
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
        require_close_notify: bool,
    ) -> Self {
        let handshake = Handshake::Client { config, server_name };
        TlsSetup { handshake, require_close_notify, runs_foreign_code: false, offers_ech: false }
    }

    /// Creates a server's setup with a configuration from the simulator.
    #[cfg(feature = "sim")]
    pub(crate) fn with_server_config(
        config: Arc<ServerConfig>,
        require_close_notify: bool,
    ) -> Self {
        let handshake = Handshake::Server { config, may_ask_for_certificate: false };
        TlsSetup { handshake, require_close_notify, runs_foreign_code: false, offers_ech: false }
    }

    /// Marks the setup as one that runs the program's code.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn foreign(self) -> Self {
        TlsSetup { runs_foreign_code: true, ..self }
    }

    pub(crate) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Returns the role of this side.
    pub(crate) fn role(&self) -> Role {
        match self.handshake {
            Handshake::Client { .. } => Role::Client,
            Handshake::Server { .. } => Role::Server,
        }
    }

    /// Returns whether this side may ask its client for a certificate.
    pub(crate) fn may_ask_for_certificate(&self) -> bool {
        match self.handshake {
            Handshake::Client { .. } => false,
            Handshake::Server { may_ask_for_certificate, .. } => may_ask_for_certificate,
        }
    }

    /// Returns whether a handshake with this setup may run the program's code or do I/O. Such code is a key log, or the
    /// verifier, session store or client certificate resolver of a complete rustls configuration. The crypto provider
    /// does not count: it only computes.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        self.runs_foreign_code
    }

    /// Returns whether this side is a client whose first message has a post-quantum key. Then it does not fit into one
    /// packet.
    pub(crate) fn sends_long_hello(&self) -> bool {
        match &self.handshake {
            Handshake::Client { config, .. } => {
                let first = config.crypto_provider().kx_groups.first();
                first.is_some_and(|group| LONG_GROUPS.contains(&group.name().into()))
            }
            Handshake::Server { .. } => false,
        }
    }

    /// Returns whether this side offers Encrypted Client Hello, and nothing else.
    pub(crate) fn offers_ech(&self) -> bool {
        self.offers_ech
    }

    /// Returns whether an EOF without `close_notify` is a truncation.
    pub(crate) fn require_close_notify(&self) -> bool {
        self.require_close_notify
    }
}

impl fmt::Debug for TlsSetup {
    /// Omits the configuration, which is long and may hold the program's own signer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsSetup");
        match &self.handshake {
            Handshake::Client { server_name, .. } => {
                shown.field("server_name", &server_name.to_str());
            }
            Handshake::Server { .. } => {
                shown.field("role", &Role::Server);
            }
        }
        shown.field("require_close_notify", &self.require_close_notify).finish_non_exhaustive()
    }
}

/// Checks options without a crypto provider. Returns the name that the certificate must match.
fn check(options: &TlsOptions, hostname: &str) -> Result<ServerName<'static>> {
    options.check()?;
    let server_name = server_name(options, hostname)?;
    if options.offers_ech() && !matches!(server_name, ServerName::DnsName(_)) {
        return Err(Error::invalid_options(format!(
            "ech_config_list can't hide {}: it is not a DNS name",
            server_name.to_str()
        )));
    }
    Ok(server_name)
}

/// Returns the name that the certificate must match.
fn server_name(options: &TlsOptions, hostname: &str) -> Result<ServerName<'static>> {
    let server_name = match options.server_name_override() {
        Some(name) => parse_name(name),
        None => parse_name(hostname),
    };
    server_name.ok_or_else(|| {
        let (reason, host) = explain_invalid(hostname);
        Error::invalid_options(format!(
            "no certificate can match {host:?}, which {reason}: set the server_name of the TLS options"
        ))
    })
}

/// SecP256r1MLKEM768, X25519MLKEM768 and SecP384r1MLKEM1024.
const LONG_GROUPS: [u16; 3] = [4587, 4588, 4589];

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, crypto};
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_server_name_takes_precedence_over_the_host() {
        crypto();
        let name =
            |options: &TlsOptions, host| match TlsSetup::new(options, host).unwrap().handshake {
                Handshake::Client { server_name, .. } => server_name.to_str().into_owned(),
                Handshake::Server { .. } => unreachable!("these are the options of a client"),
            };
        assert_eq!(name(&TlsOptions::new(), "Example.COM."), "example.com");
        assert_eq!(name(&TlsOptions::new(), "[::1]"), "::1");
        assert_eq!(name(&TlsOptions::new().server_name("Other.test"), "127.1"), "other.test");
    }

    #[test]
    fn a_host_that_no_certificate_can_match_needs_a_server_name() {
        crypto();
        for host in ["127.1", &"a".repeat(64), ""] {
            let error = TlsSetup::new(&TlsOptions::new(), host).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains("set the server_name"), "{error}");
        }
    }

    #[test]
    fn equal_options_share_one_configuration_and_debug_shows_no_key() {
        crypto();
        let leaf = Authority::new("setup").leaf(["a.test"]);
        let options = || {
            TlsOptions::new().client_auth_pem(leaf.pem(), leaf.key_pem()).unwrap().alpn(["setup"])
        };
        let setup = TlsSetup::new(&options(), "a.test").unwrap();
        let other = TlsSetup::new(&options().require_close_notify(false), "b.test").unwrap();
        assert!(Arc::ptr_eq(config_of(&setup), config_of(&other)));
        assert!(setup.require_close_notify() && !other.require_close_notify());
        assert_eq!(
            format!("{setup:?}"),
            "TlsSetup { server_name: \"a.test\", require_close_notify: true, .. }"
        );
    }

    #[cfg(feature = "rustls-0_23")]
    #[test]
    fn a_complete_configuration_is_used_unchanged() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let config = Arc::new(config);
        let options = TlsOptions::new().rustls_0_23_config(Arc::clone(&config));
        let setup = TlsSetup::new(&options, "a.test").unwrap();
        assert!(Arc::ptr_eq(config_of(&setup), &config));
    }

    fn config_of(setup: &TlsSetup) -> &Arc<ClientConfig> {
        match &setup.handshake {
            Handshake::Client { config, .. } => config,
            Handshake::Server { .. } => unreachable!("these are the options of a client"),
        }
    }
}
