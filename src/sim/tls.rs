//! Deterministic TLS: random numbers from the scenario, a fixed clock, and an in-memory rustls server.
//!
//! Encryption and signatures are real. Only the key exchange is fake: the secret is computed from the two public
//! shares. So a run is the same every time, byte for byte.

use std::cell::Cell;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, NamedGroup, PeerMisbehaved, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::scenario::{ServerSetup, splitmix64};
use crate::machine::TlsSetup;
use crate::tls;

/// Returns the setup of the machine.
pub(super) fn setup(server: ServerSetup) -> TlsSetup {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let setup = if server.serves {
        // Only the peer's records are short.
        let config = server_config(ServerSetup { short_records: false, ..server });
        TlsSetup::with_server_config(config, server.require_close_notify)
    } else {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let config = CONFIG.get_or_init(|| Arc::new(client_config(&versions, false)));
        TlsSetup::with_config(Arc::clone(config), server_name(), server.require_close_notify)
    };
    if server.foreign { setup.foreign() } else { setup }
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("sim.test").expect("a valid name")
}

/// Restarts the random numbers of this thread with a seed.
pub(super) fn seed(rng_seed: u64) {
    SEED.set(rng_seed);
}

/// The TLS of the scripted peer: the server, or the client of a machine that is the server.
#[derive(Debug)]
pub(super) struct TlsPeer {
    connection: Connection,
    peer_ended: bool,
}

impl TlsPeer {
    pub(super) fn new(setup: ServerSetup) -> Self {
        let connection = if setup.serves {
            let config = Arc::new(client_config(&[version(setup)], setup.short_records));
            ClientConnection::new(config, server_name()).map(Connection::Client)
        } else {
            ServerConnection::new(server_config(setup)).map(Connection::Server)
        };
        let mut connection = connection.expect("the configuration is valid");
        connection.set_buffer_limit(None);
        TlsPeer { connection, peer_ended: false }
    }

    /// Processes ciphertext, and appends the decrypted bytes to `data`. Returns the error if there is one.
    pub(super) fn read_tls(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) -> Result<(), String> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).map_err(|error| error.to_string())?;
            // After its close_notify, a debug build of rustls panics when it would send an alert.
            let connection = AssertUnwindSafe(&mut self.connection);
            let state = catch_unwind(|| { connection }.process_new_packets())
                .map_err(|_| "a panic".to_owned())?
                .map_err(|error| error.to_string())?;
            self.peer_ended |= state.peer_has_closed();
            let waiting = state.plaintext_bytes_to_read();
            let before = data.len();
            data.resize(before + waiting, 0);
            let read = self.connection.reader().read(&mut data[before..]);
            data.truncate(before + read.unwrap_or(0));
            if self.peer_ended {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        self.connection.writer().write_all(data).expect("the buffer is unlimited");
    }

    /// Updates the keys of both directions, in TLS 1.3.
    pub(super) fn change_keys(&mut self) {
        // This fails in TLS 1.2 and during a handshake.
        let _ = self.connection.refresh_traffic_keys();
    }

    pub(super) fn end(&mut self) {
        self.connection.send_close_notify();
    }

    /// Appends the ciphertext to send.
    pub(super) fn write_tls(&mut self, into: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(into).expect("memory takes all");
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Returns whether the peer sent close_notify.
    pub(super) fn has_peer_ended(&self) -> bool {
        self.peer_ended
    }
}

fn version(setup: ServerSetup) -> &'static SupportedProtocolVersion {
    if setup.tls13 { &rustls::version::TLS13 } else { &rustls::version::TLS12 }
}

fn client_config(
    versions: &[&'static SupportedProtocolVersion],
    short_records: bool,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("the certificate is valid");
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(FixedClock))
        .with_protocol_versions(versions)
        .expect("there is a suite for each version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A scenario must not depend on earlier ones.
    config.resumption = Resumption::disabled();
    if short_records {
        config.max_fragment_size = Some(64);
    }
    config
}

fn server_config(setup: ServerSetup) -> Arc<ServerConfig> {
    static CONFIGS: OnceLock<[Arc<ServerConfig>; 4]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        [(false, false), (false, true), (true, false), (true, true)].map(
            |(tls13, short_records)| {
                let setup = ServerSetup { tls13, short_records, ..setup };
                Arc::new(new_server_config(setup))
            },
        )
    });
    let index = usize::from(setup.tls13) * 2 + usize::from(setup.short_records);
    Arc::clone(&configs[index])
}

fn new_server_config(setup: ServerSetup) -> ServerConfig {
    let (version, short_records) = (version(setup), setup.short_records);
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(FixedClock))
        .with_protocol_versions(&[version])
        .expect("there is a suite for this version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key())
        .expect("the key belongs to the certificate");
    if short_records {
        config.max_fragment_size = Some(64);
    }
    config
}

/// Returns the certificate: self-signed for `sim.test`, valid until 2120.
fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_slice(include_bytes!("site/certificate.der"))
}

/// Returns the certificate's private key, which is public.
fn key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&include_bytes!("site/key.der")[..]))
}

/// Returns the crypto provider, with deterministic random numbers and key exchange.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        let base = tls::provider()
            .expect("TLS needs a crypto provider: enable a feature of this crate, or install one");
        Arc::new(CryptoProvider {
            kx_groups: vec![&FakeKeyExchange],
            secure_random: &SeededRandom,
            ..CryptoProvider::clone(&base)
        })
    });
    Arc::clone(provider)
}

/// 2026-01-01 00:00 UTC, in seconds since 1970.
const TODAY: u64 = 1_767_225_600;

#[derive(Debug)]
struct FixedClock;

impl TimeProvider for FixedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(TODAY)))
    }
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug)]
struct SeededRandom;

impl SecureRandom for SeededRandom {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        let mut state = SEED.get();
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&splitmix64(&mut state).to_le_bytes()[..chunk.len()]);
        }
        SEED.set(state);
        Ok(())
    }
}

/// A fake key exchange with the name and share size of X25519.
#[derive(Debug)]
struct FakeKeyExchange;

struct FakeShare([u8; 32]);

impl SupportedKxGroup for FakeKeyExchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut share = [0; 32];
        SeededRandom.fill(&mut share)?;
        Ok(Box::new(FakeShare(share)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for FakeShare {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let secret: Vec<u8> = self.0.iter().zip(peer).map(|(own, other)| own ^ other).collect();
        Ok(SharedSecret::from(secret))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
