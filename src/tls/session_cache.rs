//! A cache of resumable TLS sessions with bounded memory, one for each configuration.
//!
//! A session holds its ticket and a copy of the server's certificates. The server decides how large these are and how
//! many tickets it sends. rustls' own cache bounds only the number of sessions: 256 tickets could take 128 KiB each.
//! This cache also bounds the memory, per server and in total. If a session is not cached, the next connection needs
//! a full handshake, and nothing else changes.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName};

/// The maximum size of a cached session, in bytes. Tickets usually take hundreds of bytes, certificates thousands.
const MAX_SESSION: usize = 32 * 1024;
/// The maximum number of TLS 1.3 sessions per server; each is used once. For TLS 1.2 it is one.
const MAX_SESSIONS: usize = 8;
/// The maximum size of one server's sessions, in bytes.
const MAX_SERVER_BYTES: usize = 64 * 1024;
/// The maximum number of servers.
const MAX_SERVERS: usize = 256;
/// The maximum size of the cache, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The estimated size of a server's entry without its sessions, in bytes: its name and map slot.
const SERVER_OVERHEAD: usize = 512;
/// The estimated size of a session without its ticket and certificates, in bytes.
const SESSION_OVERHEAD: usize = 512;
/// The overhead of a certificate, in bytes.
const CERTIFICATE_OVERHEAD: usize = 64;

/// The session cache. It evicts the least recently used server first.
pub(super) struct SessionCache {
    /// Guards the sessions only; no callback runs while the lock is held.
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    by_name: HashMap<ServerName<'static>, Server>,
    /// The size of all entries.
    bytes: usize,
    /// A counter of uses, which orders the servers by last use.
    clock: u64,
}

#[derive(Default)]
struct Server {
    last_used: u64,
    kx_hint: Option<NamedGroup>,
    tls12: Option<StoredSession<Tls12ClientSessionValue>>,
    /// Oldest first.
    tls13: VecDeque<StoredSession<Tls13ClientSessionValue>>,
}

struct StoredSession<T> {
    session: T,
    bytes: usize,
}

impl SessionCache {
    pub(super) fn new() -> Self {
        SessionCache { servers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for SessionCache {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().update(server_name, |server| server.kx_hint = Some(group));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().by_name.get(server_name)?.kx_hint
    }

    fn set_tls12_session(
        &self,
        server_name: ServerName<'static>,
        session: Tls12ClientSessionValue,
    ) {
        let bytes = size_of_tls12(&session);
        self.lock().update(server_name, |server| {
            server.tls12 = (bytes <= MAX_SESSION).then_some(StoredSession { session, bytes });
        });
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let mut servers = self.lock();
        let server = servers.touch(&server_name.to_owned())?;
        server.tls12.as_ref().map(|stored| stored.session.clone())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        let mut servers = self.lock();
        if let Some(stored) = servers.touch(server_name).and_then(|server| server.tls12.take()) {
            servers.bytes -= stored.bytes;
        }
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        session: Tls13ClientSessionValue,
    ) {
        let bytes = size_of_tls13(&session);
        if bytes <= MAX_SESSION {
            self.lock().update(server_name, |server| {
                if server.tls13.len() == MAX_SESSIONS {
                    server.tls13.pop_front();
                }
                server.tls13.push_back(StoredSession { session, bytes });
            });
        }
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        let mut servers = self.lock();
        let stored = servers.touch(server_name)?.tls13.pop_back()?;
        servers.bytes -= stored.bytes;
        Some(stored.session)
    }
}

impl Servers {
    /// Returns a cached server and marks it as used.
    fn touch(&mut self, name: &ServerName<'static>) -> Option<&mut Server> {
        self.clock += 1;
        let server = self.by_name.get_mut(name)?;
        server.last_used = self.clock;
        Some(server)
    }

    /// Changes a server's entry, and evicts others if the cache exceeds its bounds.
    fn update(&mut self, name: ServerName<'static>, change: impl FnOnce(&mut Server)) {
        self.clock += 1;
        let clock = self.clock;
        let server = self.by_name.entry(name).or_insert_with(|| {
            self.bytes += SERVER_OVERHEAD;
            Server::default()
        });
        let before = server.bytes();
        change(server);
        server.last_used = clock;
        while server.bytes() > MAX_SERVER_BYTES && server.tls13.pop_front().is_some() {}
        self.bytes = self.bytes - before + server.bytes();
        while self.by_name.len() > MAX_SERVERS || self.bytes > MAX_BYTES {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let oldest = self.by_name.iter().min_by_key(|(_, server)| server.last_used);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
        if let Some(server) = self.by_name.remove(&name) {
            self.bytes -= SERVER_OVERHEAD + server.bytes();
        }
    }
}

impl Server {
    /// Returns the size of its sessions.
    fn bytes(&self) -> usize {
        let tls12 = self.tls12.as_ref().map_or(0, |stored| stored.bytes);
        tls12 + self.tls13.iter().map(|stored| stored.bytes).sum::<usize>()
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").finish_non_exhaustive()
    }
}

// -------------------------------------------------------------------- sizes

thread_local! {
    /// The size of the certificates of the connection that this thread processes, if known.
    static CERTIFICATES: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `work` with the size of the server's certificates, which every session cached by `work` includes. rustls shows
/// the certificates to the connection on this thread, but not to the session store.
pub(crate) fn with_certificates<R>(size: Option<usize>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<usize>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CERTIFICATES.set(self.0);
        }
    }
    let _restore = Restore(CERTIFICATES.replace(size));
    work()
}

/// Returns the size of a server's certificates, in bytes.
pub(crate) fn size_of_certificates(certificates: &[CertificateDer<'_>]) -> usize {
    certificates.iter().map(|one| CERTIFICATE_OVERHEAD + one.len()).sum()
}

/// Returns the size of a session, in bytes.
fn size_of_tls12(session: &Tls12ClientSessionValue) -> usize {
    SESSION_OVERHEAD + shown(session, None)
}

/// Returns the size of a session, in bytes. Most servers send several tickets. To measure the certificates each time
/// would take much longer than to create the session, so this uses the known size if there is one.
fn size_of_tls13(session: &Tls13ClientSessionValue) -> usize {
    SESSION_OVERHEAD
        + match CERTIFICATES.get() {
            Some(certificates) => certificates + shown(session, Some(BEHIND_THE_TICKET)),
            None => shown(session, None),
        }
}

/// The field in the `Debug` output after the ticket and before the certificates.
const BEHIND_THE_TICKET: &str = "epoch";

/// Measures a session by its `Debug` output up to the field `end`, in bytes. rustls does not expose the ticket
/// otherwise. The output has two hexadecimal digits for each byte of the ticket and the certificates.
fn shown(session: &dyn fmt::Debug, end: Option<&str>) -> usize {
    struct Count<'a> {
        digits: usize,
        end: Option<&'a str>,
    }
    impl Write for Count<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            // The exact size of a session that is too large does not matter.
            if self.end == Some(text) || self.digits / 2 > MAX_SESSION {
                return Err(fmt::Error);
            }
            self.digits += text.len();
            Ok(())
        }
    }
    let mut count = Count { digits: 0, end };
    let _ = write!(count, "{session:?}");
    count.digits / 2
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::Resumption;
    use rustls::server::ProducesTickets;
    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection,
        SupportedProtocolVersion,
    };

    use super::super::testing::{Authority, server_verifier};
    use super::super::verify::ChainCheck;
    use super::*;

    const VERSIONS: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS12, &rustls::version::TLS13];

    #[test]
    fn sessions_are_resumed() {
        for version in VERSIONS {
            let world = World::new(version, 0, 1000, 2);
            assert_eq!(world.connect("a.test"), HandshakeKind::Full);
            assert_eq!(world.connect("b.test"), HandshakeKind::Full);
            for _ in 0..20 {
                assert_eq!(world.connect("a.test"), HandshakeKind::Resumed);
                assert_eq!(world.connect("b.test"), HandshakeKind::Resumed);
            }
        }
    }

    #[test]
    fn the_size_of_a_session_is_measured() {
        for version in VERSIONS {
            for (ticket, certificate) in [(0, 1000), (8_000, 1000), (0, 12_000), (8_000, 12_000)] {
                let world = World::new(version, ticket, certificate, 1);
                world.connect("a.test");
                let known = world.cache.lock().bytes - SERVER_OVERHEAD;
                let least = ticket + world.certificate;
                assert!(known >= least, "{known} of at least {least}");
                assert!(known <= least + 3000, "{known} of about {least}");
            }
        }
    }

    #[test]
    fn certificates_of_known_size_are_not_measured_again() {
        let world = World::new(&rustls::version::TLS13, 2_000, 9_000, 1);
        world.connect("a.test");
        let session =
            world.cache.take_tls13_ticket(&name("a.test")).expect("the server sent a ticket");
        let counted = size_of_tls13(&session);
        let certificates = [CertificateDer::from(vec![0; world.certificate])];
        let size = size_of_certificates(&certificates);
        let known = with_certificates(Some(size), || size_of_tls13(&session));
        assert!(known.abs_diff(counted) < 200, "{known} and {counted}");
        assert_eq!(size_of_tls13(&session), counted, "the known size is reset");
    }

    #[test]
    fn a_session_that_is_too_large_is_not_cached() {
        for version in VERSIONS {
            for (ticket, certificate) in [(40_000, 1000), (0, 40_000)] {
                let world = World::new(version, ticket, certificate, 1);
                assert_eq!(world.connect("a.test"), HandshakeKind::Full);
                assert_eq!(world.connect("a.test"), HandshakeKind::Full);
                assert_eq!(world.cache.lock().bytes, SERVER_OVERHEAD);
            }
        }
    }

    #[test]
    fn the_sessions_of_one_server_are_bounded() {
        let world = World::new(&rustls::version::TLS13, 0, 1000, 20);
        world.connect("a.test");
        let server = |world: &World| {
            let servers = world.cache.lock();
            let server = &servers.by_name[&name("a.test")];
            (server.tls13.len(), server.bytes())
        };
        assert_eq!(server(&world).0, MAX_SESSIONS);
        world.adds_up();
        let world = World::new(&rustls::version::TLS13, 14_000, 1000, 3);
        for _ in 0..5 {
            world.connect("a.test");
        }
        let (sessions, bytes) = server(&world);
        assert_eq!(sessions, 4);
        assert!(bytes <= MAX_SERVER_BYTES, "{bytes}");
        assert_eq!(world.connect("a.test"), HandshakeKind::Resumed);
    }

    #[test]
    fn the_sessions_of_all_servers_are_bounded() {
        for version in VERSIONS {
            let world = World::new(version, 9_000, 1000, 6);
            for number in 0..150 {
                world.connect(&format!("n{number}.test"));
                let bytes = world.cache.lock().bytes;
                assert!(bytes <= MAX_BYTES, "{bytes}");
            }
            assert_eq!(world.connect("n149.test"), HandshakeKind::Resumed, "the newest is cached");
            assert_eq!(world.connect("n0.test"), HandshakeKind::Full, "the oldest was evicted");
            world.adds_up();
        }
    }

    #[test]
    fn the_least_recently_used_server_is_evicted_first() {
        let cache = SessionCache::new();
        let hint = |number: usize| {
            cache.set_kx_hint(name(&format!("n{number}.test")), NamedGroup::X25519);
        };
        (0..MAX_SERVERS).for_each(hint);
        hint(0);
        hint(MAX_SERVERS);
        let known = |number: usize| cache.kx_hint(&name(&format!("n{number}.test"))).is_some();
        assert!(known(0) && !known(1) && known(2) && known(MAX_SERVERS));
        assert_eq!(cache.lock().by_name.len(), MAX_SERVERS);
        assert_eq!(cache.lock().bytes, MAX_SERVERS * SERVER_OVERHEAD);
    }

    #[test]
    fn removing_a_session_frees_its_memory() {
        let world = World::new(&rustls::version::TLS12, 0, 1000, 1);
        world.connect("a.test");
        world.cache.remove_tls12_session(&name("a.test"));
        world.cache.remove_tls12_session(&name("b.test"));
        assert_eq!(world.cache.lock().bytes, SERVER_OVERHEAD);
        assert_eq!(world.connect("a.test"), HandshakeKind::Full);
        world.adds_up();
    }

    fn name(text: &str) -> ServerName<'static> {
        ServerName::try_from(text.to_owned()).expect("a valid name")
    }

    /// A client with a cache, and a server with tickets and certificates of given sizes.
    struct World {
        cache: Arc<SessionCache>,
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        /// The size of the server's certificate, in bytes.
        certificate: usize,
    }

    /// A ticketer that adds this many bytes of padding to each ticket.
    #[derive(Debug)]
    struct Large(usize);

    impl ProducesTickets for Large {
        fn enabled(&self) -> bool {
            true
        }

        fn lifetime(&self) -> u32 {
            7200
        }

        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            Some([plain, &vec![0; self.0]].concat())
        }

        fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
            Some(cipher[..cipher.len() - self.0].to_vec())
        }
    }

    impl World {
        fn new(
            version: &'static SupportedProtocolVersion,
            ticket: usize,
            certificate: usize,
            tickets: usize,
        ) -> World {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let cache = Arc::new(SessionCache::new());
            let verifier = server_verifier(ChainCheck::Nothing);
            let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            client.resumption = Resumption::store(Arc::clone(&cache) as _);
            let names: Vec<_> = (0..certificate / 20).map(|n| format!("n{n:012}.test")).collect();
            let leaf =
                Authority::new("sessions").leaf_of(rcgen::CertificateParams::new(names).unwrap());
            let key = leaf.key_der();
            let chain = vec![leaf.der().clone()];
            let certificate = chain[0].len();
            let mut server = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
            server.ticketer = Arc::new(Large(ticket));
            server.send_tls13_tickets = tickets;
            World { cache, client: Arc::new(client), server: Arc::new(server), certificate }
        }

        /// Runs one handshake and the messages after it.
        fn connect(&self, host: &str) -> HandshakeKind {
            let mut client = ClientConnection::new(Arc::clone(&self.client), name(host)).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
            loop {
                let mut wire = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut wire).unwrap();
                }
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    server.read_tls(&mut rest).unwrap();
                    server.process_new_packets().unwrap();
                }
                let mut wire = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut wire).unwrap();
                }
                if wire.is_empty() && !client.wants_write() {
                    break;
                }
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    client.read_tls(&mut rest).unwrap();
                    client.process_new_packets().unwrap();
                }
            }
            client.handshake_kind().expect("the handshake is complete")
        }

        /// Checks that the total size is the sum over the servers.
        #[track_caller]
        fn adds_up(&self) {
            let servers = self.cache.lock();
            let parts = servers.by_name.values().map(|server| SERVER_OVERHEAD + server.bytes());
            assert_eq!(servers.bytes, parts.sum::<usize>());
        }
    }
}
