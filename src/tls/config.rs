//! Makes configurations of rustls, and shares one between all sockets of equal settings.
//!
//! Sessions are resumed only within one configuration, and making one takes long, so the last few are
//! kept. What is made by one configuration is never used by another: a session that was begun without
//! checks can't be resumed by a socket that checks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, KeyLogFile, RootCertStore};

use super::options::{Settings, invalid};
use super::sessions::SessionCache;
use super::verify::{AcceptAny, Diagnose};
use crate::error::Result;
use crate::process::PerProcess;

/// The configuration for these settings, made where none is kept.
///
/// # Errors
/// `InvalidOptions` where there is no cryptography or it can't do this, and where nothing is trusted.
pub(super) fn shared(settings: &Arc<Settings>) -> Result<Arc<ClientConfig>> {
    SHARED.get(|_| Shared::new()).get(settings, provider()?)
}

/// The cryptography: what the program installed, or what was compiled in.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    choose(CryptoProvider::get_default())
}

fn choose(installed: Option<&Arc<CryptoProvider>>) -> Result<Arc<CryptoProvider>> {
    installed.cloned().or_else(built_in).ok_or_else(|| {
        invalid(
            "no cryptography: enable the feature aws-lc-rs or ring, install a provider with \
             rustls::crypto::CryptoProvider::install_default, or give a whole configuration",
        )
    })
}

/// Always the same one, so that its address tells it.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(not(feature = "aws-lc-rs"))]
    use rustls::crypto::ring::default_provider;

    static BUILT_IN: once_cell::race::OnceBox<Arc<CryptoProvider>> =
        once_cell::race::OnceBox::new();
    Some(Arc::clone(BUILT_IN.get_or_init(|| Box::new(Arc::new(default_provider())))))
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    None
}

fn build(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<ClientConfig> {
    let unfit = |error| invalid(format!("the installed cryptography can't be used: {error}"));
    let builder = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(SystemClock))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(settings, provider)?);
    let mut config = match &settings.client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => {
            let key = auth.certified_key(provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols.clone_from(&settings.alpn);
    config.resumption = Resumption::store(Arc::new(SessionCache::new()));
    if settings.key_log {
        config.key_log = Arc::new(KeyLogFile::new());
    }
    Ok(config)
}

fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    if settings.accept_invalid_certs {
        return Ok(Arc::new(AcceptAny::new(provider.signature_verification_algorithms)));
    }
    let mut roots = RootCertStore::empty();
    if !settings.only_added_roots {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for root in &settings.roots {
        roots
            .add(root.clone())
            .map_err(|error| invalid(format!("an added root can't be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("no roots to trust: only_added_roots is set, and none was added"));
    }
    let roots = Arc::new(roots);
    let webpki =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .build()
            .map_err(|error| invalid(format!("the roots can't be used: {error}")))?;
    Ok(Arc::new(Diagnose::new(webpki, roots)))
}

/// The time by which certificates are valid. A clock that stands before 1970 is no time, and fails
/// the handshake, where rustls' own would panic.
#[derive(Debug)]
struct SystemClock;

impl TimeProvider for SystemClock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(now))
    }
}

/// A forked child makes its own: a thread of the parent may have had a lock, of the list or of a session store,
/// and a ticket is not for two processes (RFC 8446, appendix C.4).
static SHARED: PerProcess<Shared> = PerProcess::new();

/// Configurations by what they were made of.
struct Shared {
    /// Guards the list alone, the most recently used last. Nothing is made, dropped or called back
    /// while it is held.
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    settings: Arc<Settings>,
    /// By its address: providers can't be compared.
    provider: Arc<CryptoProvider>,
    config: Arc<ClientConfig>,
}

impl Shared {
    fn new() -> Self {
        Shared { entries: Mutex::new(Vec::new()) }
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
            self.insert(Entry { settings: Arc::clone(settings), provider, config });
        Ok(config)
    }

    /// The configuration that all use from now on, another thread's where that was faster, and the
    /// entry that is not kept.
    fn insert(&self, entry: Entry) -> (Arc<ClientConfig>, Option<Entry>) {
        let mut entries = self.lock();
        if let Some(config) = find(&mut entries, &entry.settings, &entry.provider) {
            return (config, Some(entry));
        }
        let oldest = (entries.len() >= KEPT).then(|| entries.remove(0));
        let config = Arc::clone(&entry.config);
        entries.push(entry);
        (config, oldest)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds an entry and makes it the last to go.
fn find(
    entries: &mut Vec<Entry>,
    settings: &Arc<Settings>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<ClientConfig>> {
    let place = entries.iter().rposition(|entry| {
        Arc::ptr_eq(&entry.provider, provider) && entry.settings.same(settings)
    })?;
    let entry = entries.remove(place);
    let config = Arc::clone(&entry.config);
    entries.push(entry);
    Some(config)
}

/// How many configurations are kept.
const KEPT: usize = 32;

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
        ];
        let shared = Shared::new();
        let get =
            |options: &TlsOptions| shared.get(&rebuilt(options), provider().unwrap()).unwrap();
        let configs: Vec<_> = different.iter().map(get).collect();
        for (place, config) in configs.iter().enumerate() {
            for (other, options) in different.iter().enumerate() {
                assert_eq!(Arc::ptr_eq(config, &get(options)), place == other, "{place} {other}");
            }
        }
    }

    #[test]
    fn another_provider_has_configurations_of_its_own() {
        let shared = Shared::new();
        let ring = || Arc::new(rustls::crypto::ring::default_provider());
        let (one, other) = (ring(), ring());
        let settings = Arc::new(Settings::default());
        let first = shared.get(&settings, Arc::clone(&one)).unwrap();
        assert!(Arc::ptr_eq(first.crypto_provider(), &one));
        assert!(Arc::ptr_eq(&first, &shared.get(&settings, one).unwrap()));
        assert!(!Arc::ptr_eq(&first, &shared.get(&settings, other).unwrap()));
    }

    #[test]
    fn threads_that_build_at_once_end_with_one_configuration() {
        let (shared, ring) = (Shared::new(), Arc::new(rustls::crypto::ring::default_provider()));
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
        // The same without chance: both have found nothing, both have built.
        let build = || Entry {
            settings: Arc::new(Settings { alpn: vec![b"late".to_vec()], ..Settings::default() }),
            provider: Arc::clone(&ring),
            config: Arc::new(build(&Settings::default(), &ring).unwrap()),
        };
        let (first, second) = (build(), build());
        let (kept, none) = shared.insert(first);
        assert!(none.is_none());
        let (used, dropped) = shared.insert(second);
        assert!(Arc::ptr_eq(&kept, &used));
        assert!(!Arc::ptr_eq(&kept, &dropped.expect("its own is not kept").config));
    }

    #[test]
    fn the_least_recently_used_configuration_goes_first() {
        let (shared, ring) = (Shared::new(), Arc::new(rustls::crypto::ring::default_provider()));
        let get = |number: usize| {
            let alpn = vec![number.to_string().into_bytes()];
            // Without roots, which take the time.
            let settings = Settings { alpn, accept_invalid_certs: true, ..Settings::default() };
            shared.get(&Arc::new(settings), Arc::clone(&ring)).unwrap()
        };
        let first: Vec<_> = (0..KEPT).map(get).collect();
        assert!(Arc::ptr_eq(&first[0], &get(0)));
        get(KEPT);
        assert_eq!(shared.lock().len(), KEPT);
        assert!(Arc::ptr_eq(&first[0], &get(0)), "it was used since");
        assert!(!Arc::ptr_eq(&first[1], &get(1)), "it was the oldest");
    }

    #[test]
    fn no_roots_are_refused_unless_none_are_needed() {
        crypto();
        let none = TlsOptions::new().only_added_roots();
        let error = shared(none.settings()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("no roots to trust"), "{error}");
        assert!(shared(none.danger_accept_invalid_certs(true).settings()).is_ok());
    }

    #[test]
    fn an_installed_provider_goes_before_the_built_in_one() {
        let installed = Arc::new(rustls::crypto::ring::default_provider());
        assert!(Arc::ptr_eq(&choose(Some(&installed)).unwrap(), &installed));
        assert_eq!(choose(None).is_ok(), cfg!(any(feature = "aws-lc-rs", feature = "ring")));
        match (choose(None), choose(None)) {
            (Ok(first), Ok(second)) => assert!(Arc::ptr_eq(&first, &second)),
            (first, _) => {
                let error = first.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                assert!(error.to_string().contains("no cryptography"), "{error}");
            }
        }
    }

    #[test]
    fn a_configuration_is_what_was_set() {
        crypto();
        let config = shared(TlsOptions::new().alpn(["h2", "x"]).settings()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"x".to_vec()]);
        assert!(!config.enable_early_data && config.enable_sni);
        assert!(format!("{:?}", config.key_log).contains("NoKeyLog"));
        assert!(format!("{:?}", config.time_provider).contains("SystemClock"));
        let config = shared(TlsOptions::new().key_log_from_env(true).settings()).unwrap();
        assert!(format!("{:?}", config.key_log).contains("KeyLogFile"));
    }

    /// Equal settings elsewhere in memory.
    fn rebuilt(options: &TlsOptions) -> Arc<Settings> {
        Arc::new(Settings::clone(options.settings()))
    }
}
