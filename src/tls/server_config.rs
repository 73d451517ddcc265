//! Builds the rustls configuration of a server.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{KeyLogFile, RootCertStore, ServerConfig};

use super::bound_sessions::BoundSessions;
use super::certificate_message::own_fault;
use super::client_auth::ClientAuth;
use super::client_verifier::VerifyingClients;
use super::config::SystemClock;
#[cfg(feature = "rustls-0_23")]
use super::hello::ReportingResolver;
use super::identities::{Identities, IdentityResolver};
use super::parameters::Parameters;
use super::peer_certificates::Verifier;
use super::revocation::{check_revocation_lists, newest_lists};
use crate::error::{Error, Result};

/// The settings that determine a rustls configuration, besides the identities.
#[derive(Clone, Default)]
pub(super) struct ServerSettings {
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) client_auth: ClientAuth,
    pub(super) client_roots: Vec<CertificateDer<'static>>,
    pub(super) client_crls: Vec<CertificateRevocationListDer<'static>>,
    pub(super) client_verifiers: Vec<Arc<Verifier>>,
    pub(super) no_resumption: bool,
    pub(super) parameters: Parameters,
    pub(super) key_log: bool,
}

impl ServerSettings {
    /// Returns the name of one setter that was used, if any was.
    pub(super) fn first_conflict(&self) -> Option<&'static str> {
        let ServerSettings {
            alpn,
            client_auth,
            client_roots,
            client_crls,
            client_verifiers,
            no_resumption,
            parameters,
            key_log,
        } = self;
        [
            ("alpn", !alpn.is_empty()),
            ("client_auth", *client_auth != ClientAuth::None),
            ("add_client_root_pem", !client_roots.is_empty()),
            ("add_client_crl_pem", !client_crls.is_empty()),
            ("add_client_verifier", !client_verifiers.is_empty()),
            ("resumption", *no_resumption),
            ("min_version", parameters.min_version.is_some()),
            ("max_version", parameters.max_version.is_some()),
            ("cipher_suites", parameters.cipher_suites.is_some()),
            ("key_exchange_groups", parameters.groups.is_some()),
            ("key_log_from_env", *key_log),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }
}

/// Builds a configuration with ticket keys of its own.
///
/// # Errors
/// `InvalidOptions` if the provider does not support the settings.
pub(super) fn build(
    settings: &ServerSettings,
    identities: &Identities,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig> {
    let (restricted, versions) = settings.parameters.apply(provider)?;
    let builder = ServerConfig::builder_with_details(restricted, Arc::new(SystemClock))
        .with_protocol_versions(&versions)
        .map_err(|error| {
            Error::invalid_options(format!("the installed cryptography can't be used: {error}"))
        })?;
    let builder = match settings.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let roots = Arc::new(client_roots(settings)?);
            builder.with_client_cert_verifier(Arc::new(VerifyingClients {
                webpki: client_verifier(settings, &roots, provider)?,
                roots,
                verifiers: settings.client_verifiers.clone(),
                provider: Arc::clone(provider),
            }))
        }
    };
    let resolver =
        IdentityResolver { identities: identities.clone(), provider: Arc::clone(provider) };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols.clone_from(&settings.alpn);
    // Scanners of TLS demand that a server has an order of its own.
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match settings.no_resumption {
        true => config.send_tls13_tickets = 0,
        false => enable_tickets(&mut config, provider)?,
    }
    if settings.key_log {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    Ok(config)
}

/// Adapts a complete configuration of the program: it accepts no early data, sends nothing before the client's
/// Finished, and reports what its resolver sees.
#[cfg(feature = "rustls-0_23")]
pub(super) fn adapt(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(config);
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.cert_resolver = Arc::new(ReportingResolver(config.cert_resolver));
    Arc::new(config)
}

/// Enables stateless tickets, whose keys rotate every 6 hours and live for 12.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn enable_tickets(config: &mut ServerConfig, provider: &CryptoProvider) -> Result<()> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::Ticketer;
    #[cfg(not(feature = "aws-lc-rs"))]
    use rustls::crypto::ring::Ticketer;

    let tickets = Ticketer::new().map_err(|error| {
        Error::invalid_options(format!("no key for session tickets can be made: {error}"))
    })?;
    match BoundSessions::new(tickets, provider) {
        Some(bound) => config.ticketer = Arc::new(bound),
        None => config.send_tls13_tickets = 0,
    }
    Ok(())
}

/// Keeps sessions in memory: rustls makes stateless tickets only with its own providers.
#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as with a built-in provider")]
fn enable_tickets(config: &mut ServerConfig, provider: &CryptoProvider) -> Result<()> {
    let sessions: Arc<dyn rustls::server::StoresServerSessions> =
        rustls::server::ServerSessionMemoryCache::new(MAX_SESSIONS);
    match BoundSessions::new(sessions, provider) {
        Some(bound) => config.session_storage = Arc::new(bound),
        None => config.send_tls13_tickets = 0,
    }
    Ok(())
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
const MAX_SESSIONS: usize = 4096;

pub(super) fn client_roots(settings: &ServerSettings) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in &settings.client_roots {
        roots.add(root.clone()).map_err(|error| {
            let fault = own_fault(&error);
            Error::invalid_options(format!("a client root can't be used: {fault}"))
        })?;
    }
    Ok(roots)
}

pub(super) fn client_verifier(
    settings: &ServerSettings,
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    check_revocation_lists(&settings.client_crls, provider)?;
    let lists = newest_lists(&settings.client_crls)?;
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .with_crls(lists)
            .enforce_revocation_expiration();
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map_err(|error| Error::invalid_options(format!("the client roots can't be used: {error}")))
}
