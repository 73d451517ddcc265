//! Builds rustls configurations and shares one among all sockets with equal settings.
//!
//! rustls resumes sessions only within one configuration, and building one is slow, so the last [`MAX_CACHED`] are
//! cached. Configurations share no sessions: a session that was established without certificate checks can't be
//! resumed by a socket that checks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, KeyLogFile};

use super::ech;
use super::info::TlsVersion;
#[cfg(feature = "platform-verifier")]
use super::platform_verifier;
use super::provider::provider;
use super::revocation::{check_revocation_lists, newest_lists};
#[cfg(feature = "platform-verifier")]
use super::roots::Roots;
use super::roots::{RevocationPolicy, root_store};
use super::session_cache::SessionCache;
use super::settings::{ClientIdentity, Hook, Settings, Trust};
use super::verify::{ChainCheck, ServerVerifier};
use crate::error::{Error, Result};
use crate::process::PerProcess;

/// Returns the cached configuration for these settings, or builds one.
///
/// # Errors
/// `InvalidOptions` if there is no crypto provider, if it does not support the settings, or if there are no roots.
pub(super) fn shared_config(settings: &Arc<Settings>) -> Result<Arc<ClientConfig>> {
    CONFIG_CACHE.get(|_| ConfigCache::new()).get(settings, provider()?)
}

fn build(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<ClientConfig> {
    let provider_error = |error| {
        Error::invalid_options(format!("the installed cryptography can't be used: {error}"))
    };
    let mut parameters = settings.parameters.clone();
    if settings.ech_config_list.is_some() {
        // Nothing else is offered, so TLS 1.2 needs no suite.
        parameters.min_version = Some(TlsVersion::Tls13);
    }
    let (restricted, versions) = parameters.apply(provider)?;
    let builder = ClientConfig::builder_with_details(restricted, Arc::new(SystemClock));
    let builder = match &settings.ech_config_list {
        None => builder.with_protocol_versions(&versions),
        Some(list) => builder.with_ech(ech::mode(list)?),
    }
    .map_err(provider_error)?
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier(&settings.trust, provider)?));
    let mut config = match &settings.client_auth {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity(identity)) => {
            let key = CertifiedKey::clone(&identity.certified(provider)?.key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    config.resumption = match settings.no_resumption {
        true => Resumption::disabled(),
        false => Resumption::store(Arc::new(SessionCache::new())),
    };
    if settings.key_log {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    Ok(config)
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<ServerVerifier> {
    let checks_nothing = trust.accept_invalid_certs || trust.replacement.is_some();
    let chain = match (&*trust.only, checks_nothing) {
        (_, true) => ChainCheck::Nothing,
        ([], false) => chain_check(trust, provider)?,
        (only, false) => ChainCheck::Only(only.to_vec()),
    };
    let verifiers = trust.replacement.iter().chain(&trust.verifiers);
    Ok(ServerVerifier {
        chain,
        pins: trust.pins.clone(),
        verifiers: verifiers.map(|Hook(verify)| Arc::clone(verify)).collect(),
        provider: Arc::clone(provider),
    })
}

fn chain_check(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<ChainCheck> {
    #[cfg(feature = "platform-verifier")]
    if trust.roots == Roots::Platform {
        if let Some(verifier) = platform_verifier::verifier(provider, &trust.added_roots)? {
            return Ok(ChainCheck::System(verifier));
        }
    }
    let roots = Arc::new(root_store(trust.roots, &trust.added_roots)?);
    check_revocation_lists(&trust.crls, provider)?;
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(newest_lists(&trust.crls)?);
    let builder = match trust.revocation {
        RevocationPolicy::Chain => builder.enforce_revocation_expiration(),
        RevocationPolicy::Leaf => {
            builder.enforce_revocation_expiration().only_check_end_entity_revocation()
        }
        RevocationPolicy::AllowUnknown => builder.allow_unknown_revocation_status(),
    };
    let webpki = builder
        .build()
        .map_err(|error| Error::invalid_options(format!("the roots can't be used: {error}")))?;
    Ok(ChainCheck::WebPki { webpki, roots, any_name: trust.accept_any_name })
}

/// The clock for certificate validity. If the system clock is before 1970, the handshake fails; rustls' own
/// clock would panic.
#[derive(Debug)]
pub(super) struct SystemClock;

impl TimeProvider for SystemClock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// The cache of this process. A forked child gets its own: another thread of the parent may hold the lock of the
/// list or of a session store at the fork. Also, two processes must not use the same ticket (RFC 8446,
/// appendix C.4).
static CONFIG_CACHE: PerProcess<ConfigCache> = PerProcess::new();

/// A cache of configurations, with settings and provider as the key.
struct ConfigCache {
    /// Guards the list only; the most recently used entry is last. Nothing is built, dropped or called back while
    /// the lock is held.
    entries: Mutex<Vec<CacheEntry>>,
}

struct CacheEntry {
    settings: Arc<Settings>,
    /// Compared by address, because providers do not implement `PartialEq`.
    provider: Arc<CryptoProvider>,
    config: Arc<ClientConfig>,
}

impl ConfigCache {
    fn new() -> Self {
        ConfigCache { entries: Mutex::new(Vec::new()) }
    }

    fn get(
        &self,
        settings: &Arc<Settings>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<ClientConfig>> {
        if let Some(config) = find(&mut self.lock(), settings, &provider) {
            return Ok(config);
        }
        let config = Arc::new(build(settings, &provider)?);
        let (config, _dropped_unlocked) =
            self.insert(CacheEntry { settings: Arc::clone(settings), provider, config });
        Ok(config)
    }

    /// Adds an entry. Returns the configuration that all sockets use from now on, and the entry to drop after
    /// unlocking. If another thread added an equal entry first, its configuration wins.
    fn insert(&self, entry: CacheEntry) -> (Arc<ClientConfig>, Option<CacheEntry>) {
        let mut entries = self.lock();
        if let Some(config) = find(&mut entries, &entry.settings, &entry.provider) {
            return (config, Some(entry));
        }
        let oldest = (entries.len() >= MAX_CACHED).then(|| entries.remove(0));
        let config = Arc::clone(&entry.config);
        entries.push(entry);
        (config, oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CacheEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds an entry and moves it to the end of the list, so that it is evicted last.
fn find(
    entries: &mut Vec<CacheEntry>,
    settings: &Arc<Settings>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<ClientConfig>> {
    let index = entries.iter().rposition(|entry| {
        Arc::ptr_eq(&entry.provider, provider) && entry.settings.is_same(settings)
    })?;
    let entry = entries.remove(index);
    let config = Arc::clone(&entry.config);
    entries.push(entry);
    Some(config)
}

/// The maximum number of cached configurations.
const MAX_CACHED: usize = 32;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::super::options::TlsOptions;
    use super::super::testing::{Authority, crypto};
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn equal_settings_share_a_configuration_and_others_do_not() {
        crypto();
        let authority = Authority::new("shared");
        let (a, b) = (authority.leaf(["a.test"]), authority.leaf(["b.test"]));
        let different: Vec<TlsOptions> = vec![
            TlsOptions::new(),
            TlsOptions::new().alpn(["x", "y"]),
            TlsOptions::new().alpn(["y", "x"]),
            TlsOptions::new().danger_accept_invalid_certs(true),
            TlsOptions::new().add_root_pem(authority.pem()).unwrap(),
            TlsOptions::new().add_root_pem(authority.pem()).unwrap().only_added_roots(),
            TlsOptions::new().client_auth_pem(a.pem(), a.key_pem()).unwrap(),
            TlsOptions::new().client_auth_pem(b.pem(), b.key_pem()).unwrap(),
            TlsOptions::new().key_log_from_env(true),
            TlsOptions::new().revocation(RevocationPolicy::Leaf),
            TlsOptions::new().add_crl_pem(authority.revocation_list(&[], 4000)).unwrap(),
            TlsOptions::new().trust_only_pem(a.pem()).unwrap(),
            TlsOptions::new().trust_only_pem(b.pem()).unwrap(),
            TlsOptions::new().pin_spki_sha256([1; 32]),
            TlsOptions::new().pin_spki_sha256([2; 32]),
            TlsOptions::new().add_verifier(|_| Ok(())),
            TlsOptions::new().add_verifier(|_| Err(String::new())),
            TlsOptions::new().danger_replace_verifier(|_| Ok(())),
            TlsOptions::new().danger_accept_any_name(true),
            TlsOptions::new().min_version(TlsVersion::Tls13),
            TlsOptions::new().max_version(TlsVersion::Tls12),
            TlsOptions::new().cipher_suites([0x1301, 0xc02f]),
            TlsOptions::new().key_exchange_groups([29]),
            TlsOptions::new().key_exchange_groups([23]),
            TlsOptions::new().resumption(false),
        ];
        let shared = ConfigCache::new();
        let get =
            |options: &TlsOptions| shared.get(&rebuilt(options), provider().unwrap()).unwrap();
        let configs: Vec<_> = different.iter().map(get).collect();
        for (index, config) in configs.iter().enumerate() {
            for (other, options) in different.iter().enumerate() {
                assert_eq!(Arc::ptr_eq(config, &get(options)), index == other, "{index} {other}");
            }
        }
    }

    #[test]
    fn providers_do_not_share_configurations() {
        let shared = ConfigCache::new();
        let ring = || Arc::new(rustls::crypto::ring::default_provider());
        let (one, other) = (ring(), ring());
        let settings = Arc::new(Settings::default());
        let first = shared.get(&settings, Arc::clone(&one)).unwrap();
        assert!(Arc::ptr_eq(first.crypto_provider(), &one));
        assert!(Arc::ptr_eq(&first, &shared.get(&settings, one).unwrap()));
        assert!(!Arc::ptr_eq(&first, &shared.get(&settings, other).unwrap()));
    }

    #[test]
    fn threads_that_build_at_the_same_time_get_one_configuration() {
        let (shared, ring) =
            (ConfigCache::new(), Arc::new(rustls::crypto::ring::default_provider()));
        let together = Barrier::new(4);
        let configs: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        shared.get(&Arc::default(), Arc::clone(&ring)).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
        // The same race, forced: both threads found nothing and built a configuration.
        let build = || CacheEntry {
            settings: Arc::new(Settings { alpn: vec![b"late".to_vec()], ..Settings::default() }),
            provider: Arc::clone(&ring),
            config: Arc::new(build(&Settings::default(), &ring).unwrap()),
        };
        let (first, second) = (build(), build());
        let (kept, none) = shared.insert(first);
        assert!(none.is_none());
        let (used, dropped) = shared.insert(second);
        assert!(Arc::ptr_eq(&kept, &used));
        assert!(!Arc::ptr_eq(&kept, &dropped.expect("the second is returned").config));
    }

    #[test]
    fn the_least_recently_used_configuration_is_evicted_first() {
        let (shared, ring) =
            (ConfigCache::new(), Arc::new(rustls::crypto::ring::default_provider()));
        let get = |number: usize| {
            let alpn = vec![number.to_string().into_bytes()];
            // Loading the roots would make the test slow.
            let trust = Trust { accept_invalid_certs: true, ..Trust::default() };
            let settings = Settings { alpn, trust, ..Settings::default() };
            shared.get(&Arc::new(settings), Arc::clone(&ring)).unwrap()
        };
        let first: Vec<_> = (0..MAX_CACHED).map(get).collect();
        assert!(Arc::ptr_eq(&first[0], &get(0)));
        get(MAX_CACHED);
        assert_eq!(shared.lock().len(), MAX_CACHED);
        assert!(Arc::ptr_eq(&first[0], &get(0)), "recently used entries are kept");
        assert!(!Arc::ptr_eq(&first[1], &get(1)), "the least recently used entry is evicted");
    }

    #[test]
    fn missing_roots_are_an_error_unless_all_certificates_are_accepted() {
        crypto();
        let none = TlsOptions::new().only_added_roots();
        let error = shared_config(none.settings()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("no roots to trust"), "{error}");
        assert!(shared_config(none.danger_accept_invalid_certs(true).settings()).is_ok());
    }

    #[test]
    fn a_configuration_reflects_the_settings() {
        crypto();
        let config = shared_config(TlsOptions::new().alpn(["h2", "x"]).settings()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"x".to_vec()]);
        assert!(!config.enable_early_data && config.enable_sni);
        assert!(format!("{:?}", config.key_log).contains("NoKeyLog"));
        assert!(format!("{:?}", config.time_provider).contains("SystemClock"));
        let config = shared_config(TlsOptions::new().key_log_from_env(true).settings()).unwrap();
        assert!(format!("{:?}", config.key_log).contains("KeyLogFile"));
    }

    /// Returns equal settings in a new allocation.
    fn rebuilt(options: &TlsOptions) -> Arc<Settings> {
        Arc::new(Settings::clone(options.settings()))
    }
}
