//! Connections over TLS.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::server::StoresServerSessions;
use rustls::{ServerConfig, ServerConnection};
use shuttle::sync::mpsc;
use sockeye::model::{self, Peer, PeerSaw, Reachability, pass_time};
use sockeye::{ErrorKind, SecureTransport, SocketOptions, TlsOptions};

use crate::explore::explore;
use crate::support::{TestSocket, options, read, read_all, spawn, write, write_all};

/// A send window smaller than a handshake message or a record.
const NARROW: usize = 90;
/// A server name for which the peer sends no tickets.
const NO_TICKETS: &str = "no-tickets.test";

fn secure(mode: SecureTransport) -> SocketOptions {
    with_tls(mode, "localhost")
}

/// Returns options with which the peer sends no tickets. Otherwise the length of the first message would depend on a
/// ticket from an earlier run.
pub fn without_tickets() -> SocketOptions {
    with_tls(SecureTransport::On, NO_TICKETS)
}

fn with_tls(mode: SecureTransport, server_name: &str) -> SocketOptions {
    let tls = TlsOptions::new().danger_accept_invalid_certs(true).server_name(server_name);
    options().secure_transport(mode).tls(tls)
}

#[test]
fn waiting_threads_share_the_handshake() {
    explore("waiting threads share the handshake", || {
        let test = TestSocket::connecting(secure(SecureTransport::On));
        let socket = test.socket.clone();
        let opener = spawn(move || socket.opened().map(drop).map_err(|error| error.kind()));
        let socket = test.socket.clone();
        let reader = spawn(move || read_all(&socket));
        let (bytes, seen) = TlsPeer::new(test.peer, 2).serve(b"hello");
        assert_eq!(opener.join().unwrap(), Ok(()));
        assert_eq!(reader.join().unwrap(), (b"hello".to_vec(), None));
        assert_eq!((&bytes[..], seen), (&b""[..], PeerSaw::Fin));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

/// The event loop takes part in a pending connect, and no thread uses the socket after the handshake.
#[test]
fn eof_is_noticed_whichever_thread_completed_the_handshake() {
    explore("EOF is noticed whichever thread completed the handshake", || {
        model::set_reachability(Reachability::Deferred);
        let test = TestSocket::connecting(secure(SecureTransport::On));
        let socket = test.socket.clone();
        let opener = spawn(move || socket.opened().map(drop).map_err(|error| error.kind()));
        test.peer.complete_connect();
        let (bytes, seen) = TlsPeer::new(test.peer, 0).serve(b"");
        assert_eq!(opener.join().unwrap(), Ok(()));
        assert_eq!((&bytes[..], seen), (&b""[..], PeerSaw::Fin));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn one_thread_reads_while_another_writes_through_a_narrow_connection() {
    explore("one thread reads while another writes through a narrow connection", || {
        let options = without_tickets().allow_half_open(true);
        let TestSocket { connector, socket, peer } =
            TestSocket::connecting_with_send_window(NARROW, options);
        let reading = socket.clone();
        let reader = spawn(move || read_all(&reading));
        let writer = spawn(move || {
            assert_eq!(write_all(&socket, &[b'w'; 100]), (100, None));
            socket.writer().close().unwrap();
        });
        let (bytes, seen) = TlsPeer::new(peer, 0).serve(b"hello");
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), (b"hello".to_vec(), None));
        assert_eq!((bytes, seen), (vec![b'w'; 100], PeerSaw::Fin));
        assert_eq!(connector.open_sockets(), 0);
    });
}

#[test]
fn close_ends_a_handshake_or_an_open_connection() {
    explore("close ends a handshake or an open connection", || {
        let test = TestSocket::connecting_with_send_window(NARROW, without_tickets());
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let socket = test.socket.clone();
        let writer = spawn(move || write(&socket, b"data"));
        let socket = test.socket.clone();
        let closer = spawn(move || socket.close().map_err(|error| error.kind()));
        let (bytes, _) = TlsPeer::new(test.peer, 0).serve(b"");
        assert_eq!(closer.join().unwrap(), Ok(()));
        let message = reader.join().unwrap();
        assert!(matches!(message.as_deref(), Ok([]) | Err(ErrorKind::Closed)), "{message:?}");
        let accepted = writer.join().unwrap().unwrap_or_else(|kind| {
            assert_eq!(kind, ErrorKind::Closed);
            0
        });
        assert_eq!(bytes, b"data"[..accepted], "exactly what was accepted");
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn an_upgrade_succeeds_during_a_read_and_a_write() {
    explore("an upgrade succeeds during a read and a write", || {
        let test = TestSocket::open(secure(SecureTransport::StartTls).allow_half_open(true));
        let socket = test.socket.clone();
        let reader = spawn(move || read(&socket));
        let socket = test.socket.clone();
        let upgrader = spawn(move || {
            let secured = socket.start_tls().unwrap();
            assert_eq!(write(&secured, b"data"), Ok(4));
            read_all(&secured)
        });
        assert_eq!(reader.join().unwrap(), Err(ErrorKind::Upgraded));
        let (bytes, seen) = TlsPeer::new(test.peer, 2).serve(b"hello");
        assert_eq!(upgrader.join().unwrap(), (b"hello".to_vec(), None));
        assert_eq!((&bytes[..], seen), (&b"data"[..], PeerSaw::Fin));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

/// The event loop monitors the idle socket, and leaves its events to a thread that ingests records at that moment.
#[test]
fn a_check_of_the_health_hides_no_end() {
    explore("a check of the health hides no end", || {
        let TestSocket { connector, socket, peer } = TestSocket::connecting(without_tickets());
        let (send, soon) = mpsc::channel();
        let serving = spawn(move || TlsPeer::new(peer, 0).close_after_data(&send));
        socket.opened().unwrap();
        // The event loop begins to monitor it.
        assert!(socket.closed_timeout(Duration::from_millis(500)).is_err());
        assert_eq!(write(&socket, b"x"), Ok(1));
        soon.recv().unwrap();
        let _ = socket.health();
        assert_eq!(socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(serving.join().unwrap(), PeerSaw::Fin);
        assert_eq!(connector.open_sockets(), 0);
    });
}

// -------------------------------------------------------------------- foreign code

/// Options with a key log, which may write to a file. The driver runs such code outside the state lock.
fn foreign() -> SocketOptions {
    let tls = TlsOptions::new()
        .danger_accept_invalid_certs(true)
        .server_name(NO_TICKETS)
        .key_log_from_env(true);
    options().secure_transport(SecureTransport::On).tls(tls)
}

#[test]
fn a_handshake_with_foreign_code_completes() {
    explore("a handshake with foreign code completes", || {
        let test = TestSocket::connecting(foreign());
        let socket = test.socket.clone();
        let opener = spawn(move || socket.opened().map(drop).map_err(|error| error.kind()));
        let (bytes, seen) = TlsPeer::new(test.peer, 2).serve(b"");
        assert_eq!(opener.join().unwrap(), Ok(()));
        assert_eq!((&bytes[..], seen), (&b""[..], PeerSaw::Fin));
        assert_eq!(test.socket.closed().map_err(|error| error.kind()), Ok(()));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn close_abort_or_a_limit_ends_a_handshake_with_foreign_code() {
    explore("close, abort or a limit ends a handshake with foreign code", || {
        let limit = Duration::from_millis(500);
        let test = TestSocket::connecting(foreign().connect_timeout(limit));
        let socket = test.socket.clone();
        let opener = spawn(move || socket.opened().map(drop).map_err(|error| error.kind()));
        let socket = test.socket.clone();
        let closer = spawn(move || socket.close().map_err(|error| error.kind()));
        let socket = test.socket.clone();
        let aborter = spawn(move || {
            pass_time(limit);
            socket.abort();
        });
        TlsPeer::new(test.peer, 0).serve(b"");
        let message = opener.join().unwrap();
        assert!(
            matches!(message, Ok(()) | Err(ErrorKind::Closed | ErrorKind::TimedOut)),
            "{message:?}"
        );
        assert_eq!(closer.join().unwrap(), Ok(()));
        aborter.join().unwrap();
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

#[test]
fn a_write_waits_for_a_session_that_runs_foreign_code_for_a_read() {
    explore("a write waits for a session that runs foreign code for a read", || {
        let test = TestSocket::connecting(foreign().allow_half_open(true));
        let reading = test.socket.clone();
        let reader = spawn(move || read_all(&reading));
        let socket = test.socket.clone();
        let writer = spawn(move || {
            socket.opened().unwrap();
            assert_eq!(write_all(&socket, b"data"), (4, None));
            socket.writer().close().unwrap();
        });
        let (bytes, seen) = TlsPeer::new(test.peer, 0).serve_after_some(b"hello");
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), (b"hello".to_vec(), None));
        assert_eq!((bytes, seen), (b"data".to_vec(), PeerSaw::Fin));
        assert_eq!(test.connector.open_sockets(), 0);
    });
}

// -------------------------------------------------------------------- the peer

pub struct TlsPeer {
    peer: Peer,
    tls: ServerConnection,
    received: Vec<u8>,
}

impl TlsPeer {
    pub fn new(peer: Peer, tickets: usize) -> Self {
        static CONFIG: LazyLock<ServerConfig> = LazyLock::new(config);
        let mut config = CONFIG.clone();
        config.send_tls13_tickets = tickets;
        let tls = ServerConnection::new(Arc::new(config)).expect("the configuration is good");
        TlsPeer { peer, tls, received: Vec::new() }
    }

    /// Sends these bytes and close_notify as soon as it can, and receives up to EOF.
    fn serve(mut self, bytes: &[u8]) -> (Vec<u8>, PeerSaw) {
        let mut sent = false;
        loop {
            let (came, peer_saw) = self.peer.wait_any();
            self.take(&came);
            if !sent && !self.tls.is_handshaking() {
                sent = true;
                self.tls.writer().write_all(bytes).expect("it is buffered");
                self.tls.send_close_notify();
            }
            self.flush();
            if sent || peer_saw.is_some() {
                self.peer.end();
            }
            if let Some(peer_saw) = peer_saw {
                return (self.received, peer_saw);
            }
        }
    }

    /// Sends these bytes as soon as it can, and close_notify after the peer's EOF.
    pub fn serve_after_some(self, bytes: &[u8]) -> (Vec<u8>, PeerSaw) {
        self.serve_after_records(&[bytes])
    }

    /// The same with several records, each sent by itself.
    pub fn serve_after_records(mut self, records: &[&[u8]]) -> (Vec<u8>, PeerSaw) {
        let mut sent = false;
        loop {
            let (came, peer_saw) = self.peer.wait_any();
            self.take(&came);
            if !sent && !self.tls.is_handshaking() {
                sent = true;
                for record in records {
                    self.tls.writer().write_all(record).expect("it is buffered");
                    self.flush();
                }
            }
            if peer_saw.is_some() {
                self.tls.send_close_notify();
            }
            self.flush();
            if let Some(peer_saw) = peer_saw {
                self.peer.end();
                return (self.received, peer_saw);
            }
        }
    }

    /// Sends close_notify once it has received data. Says so right before, and ends after the peer's EOF.
    fn close_after_data(mut self, soon: &mpsc::Sender<()>) -> PeerSaw {
        let mut closed = false;
        loop {
            let (came, peer_saw) = self.peer.wait_any();
            self.take(&came);
            if !closed && !self.received.is_empty() {
                closed = true;
                self.tls.send_close_notify();
                soon.send(()).expect("it is awaited");
            }
            self.flush();
            if let Some(peer_saw) = peer_saw {
                self.peer.end();
                return peer_saw;
            }
        }
    }

    fn take(&mut self, mut came: &[u8]) {
        while !came.is_empty() {
            self.tls.read_tls(&mut came).expect("there is room");
            let state = self.tls.process_new_packets().expect("the socket speaks TLS");
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut plain).expect("they are there");
            self.received.extend(plain);
        }
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).expect("it is buffered");
        }
        if !out.is_empty() {
            self.peer.send(&out);
        }
    }
}

fn config() -> ServerConfig {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("it has them")
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key.into())
            .expect("the key fits");
    config.session_storage = Arc::new(Forgetful);
    config
}

/// Sends tickets but accepts none, so that every run has a full handshake.
#[derive(Debug)]
struct Forgetful;

impl StoresServerSessions for Forgetful {
    fn put(&self, _key: Vec<u8>, _value: Vec<u8>) -> bool {
        true
    }

    fn get(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}
