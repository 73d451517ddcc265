//! TLS over a Unix-domain socket.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned};
use sockeye::{
    Connector, ErrorKind, ListenOptions, SecureTransport, Socket, SocketOptions, connect_unix,
};

use super::OwnServer;
use crate::support::tls::{authority, options, provider, server_config, trust_only, upgradable};
use crate::support::{
    assert_bytes_eq, assert_fails, crate_kind, ms, random_bytes, read_exactly, read_to_end,
    spawn_call, with_watchdog,
};
use crate::tls::serving::{server_tls, serving};

/// A server of rustls, whose handshake is done.
type Server = StreamOwned<ServerConnection, UnixStream>;

/// Returns a socket with TLS, and its server.
fn pair(options: SocketOptions) -> (Socket, Server) {
    let (ours, theirs) = UnixStream::pair().expect("two descriptors are free");
    let server = spawn_call(move || {
        let config = server_config().tickets(0).config();
        let connection = ServerConnection::new(config).expect("the configuration is valid");
        let mut server = StreamOwned::new(connection, theirs);
        server.conn.complete_io(&mut server.sock).expect("the client is one");
        while server.conn.is_handshaking() {
            server.conn.complete_io(&mut server.sock).expect("the client is one");
        }
        server
    });
    let socket = Connector::global().adopt_unix(ours, options).expect("the options are valid");
    socket.opened().expect("the server is trusted");
    (socket, server.join())
}

fn client() -> SocketOptions {
    options(authority())
}

/// Sends these bytes and close_notify, and closes.
fn end_cleanly(mut server: Server, last: &[u8]) {
    server.write_all(last).expect("there is room");
    server.conn.send_close_notify();
    server.conn.complete_io(&mut server.sock).expect("there is room");
}

#[test]
fn both_roles_carry_data_both_ways() {
    with_watchdog(|| {
        let options = serving(server_tls());
        let server = OwnServer::new(ListenOptions::new().socket(options));
        let client = connect_unix(server.folder.address("s"), client().allow_half_open(true));
        let client = client.expect("the options are valid");
        let socket = server.accept();
        let echoing = spawn_call(move || {
            let info = socket.opened().expect("the client is one");
            assert_eq!(info.server_name(), Some("localhost"));
            std::io::copy(&mut socket.reader(), &mut socket.writer()).expect("the client reads");
            socket.close().expect("the client reads");
        });
        let sent = random_bytes(5, 1 << 20);
        let writing = spawn_call({
            let (client, sent) = (client.clone(), sent.clone());
            move || {
                client.writer().write_all(&sent).expect("the server reads");
                client.writer().close().expect("the server reads");
            }
        });
        assert_bytes_eq(&read_to_end(&client).expect("a clean end"), &sent);
        writing.join();
        echoing.join();
        client.closed().expect("both directions ended cleanly");
        assert!(client.opened().unwrap().tls().is_some());
    });
}

#[test]
fn an_upgrade_works_and_refuses_injected_bytes() {
    with_watchdog(|| {
        let injected = |extra: &'static [u8]| {
            let (ours, mut theirs) = UnixStream::pair().expect("two descriptors are free");
            let socket = Connector::global().adopt_unix(ours, upgradable(authority())).unwrap();
            theirs.write_all(&[b"GO", extra].concat()).expect("there is room");
            assert_eq!(read_exactly(&socket, 2).unwrap(), b"GO");
            let server = spawn_call(move || {
                let config = server_config().config();
                let connection = ServerConnection::new(config).unwrap();
                let mut server = StreamOwned::new(connection, theirs);
                let _ = server.write_all(b"secret");
                let _ = server.flush();
                server
            });
            (socket.start_tls(), server)
        };
        let (upgraded, server) = injected(b"");
        let upgraded = upgraded.expect("nothing is unread");
        assert_eq!(read_exactly(&upgraded, 6).expect("the server writes"), b"secret");
        assert_eq!(upgraded.secure_transport(), SecureTransport::On);
        drop(server.join());
        let (upgraded, _server) = injected(b"!");
        assert_fails(upgraded, ErrorKind::UnreadPlaintext);
    });
}

/// Our close_notify meets a server that has gone after a clean end, in each order of this side's calls.
#[test]
fn a_clean_end_stays_clean_although_close_notify_meets_nobody() {
    with_watchdog(|| {
        let (socket, server) = pair(client());
        end_cleanly(server, b"last");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"last");
        socket.closed().expect("a clean end");

        let (socket, server) = pair(client());
        end_cleanly(server, b"last");
        socket.close().expect("nothing of this side is lost");
        socket.closed().expect("nothing of this side is lost");

        for half_open in [false, true] {
            let (socket, server) = pair(client().allow_half_open(half_open));
            end_cleanly(server, b"last");
            socket.writer().close().expect("nothing of this side is lost");
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"last");
            socket.closed().expect("a clean end");
        }

        let (socket, server) = pair(client().allow_half_open(true));
        end_cleanly(server, b"");
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        socket.writer().close().expect("nothing of this side is lost");
        socket.closed().expect("a clean end");
    });
}

#[test]
fn data_that_meets_nobody_is_a_failure_and_what_came_before_stays() {
    with_watchdog(|| {
        let (mut socket, server) = pair(client());
        end_cleanly(server, b"last");
        // The end is behind data that is unread, so the write is accepted.
        assert_eq!(socket.write(b"lost").expect("it is encrypted"), 4);
        assert_eq!(crate_kind(&socket.flush().expect_err("the server has gone")), ErrorKind::Reset);
        assert_eq!(read_to_end(&socket).expect("a clean end"), b"last");
        assert_fails(socket.closed(), ErrorKind::Reset);
    });
}

/// rustls sends its answer to a key update with close_notify.
#[test]
fn the_answer_to_a_key_update_may_meet_nobody() {
    with_watchdog(|| {
        for half_open in [false, true] {
            let (socket, mut server) = pair(client().allow_half_open(half_open));
            server.conn.refresh_traffic_keys().expect("the handshake is done");
            end_cleanly(server, b"last");
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"last");
            socket.close().expect("nothing of this side is lost");
            socket.closed().expect("a clean end");
        }
    });
}

/// A client whose handshake is done, except that its last flight is not sent.
struct LastFlight {
    session: ClientConnection,
    stream: UnixStream,
}

impl LastFlight {
    /// Returns a socket that is the server, and its client. The server sends session tickets once it has the last flight.
    fn new(options: SocketOptions) -> (Socket, LastFlight) {
        let (ours, mut stream) = UnixStream::pair().expect("two descriptors are free");
        let socket = Connector::global().adopt_unix(ours, options).expect("the options are valid");
        let opening = spawn_call({
            let socket = socket.clone();
            move || socket.opened_timeout(ms(1)).map(drop)
        });
        provider();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("there are suites")
            .with_root_certificates(authority().roots())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("it is a name");
        let mut session = ClientConnection::new(Arc::new(config), name).expect("it is valid");
        while session.is_handshaking() {
            while session.wants_write() {
                session.write_tls(&mut stream).expect("there is room");
            }
            session.read_tls(&mut stream).expect("the server answers");
            session.process_new_packets().expect("the server is trusted");
        }
        // The event loop does the rest.
        assert_fails(opening.join(), ErrorKind::TimedOut);
        (socket, LastFlight { session, stream })
    }

    /// Sends the last flight, these bytes and close_notify, and closes.
    fn end(mut self, last: &[u8]) {
        self.session.writer().write_all(last).expect("there is room");
        self.session.send_close_notify();
        while self.session.wants_write() {
            self.session.write_tls(&mut self.stream).expect("there is room");
        }
    }

    /// The same, and what the server sends from now on meets a client that has gone.
    fn end_deaf(self, last: &[u8]) {
        self.stream.shutdown(Shutdown::Read).expect("it is connected");
        self.end(last);
    }
}

#[test]
fn session_tickets_that_meet_nobody_leave_the_end_clean() {
    with_watchdog(|| {
        for (half_open, last) in [(false, "last"), (true, "last"), (false, ""), (true, "")] {
            // Without the pause, the tickets are sent by the thread that reads.
            for pause in [ms(0), ms(300)] {
                let (socket, client) =
                    LastFlight::new(serving(server_tls()).allow_half_open(half_open));
                client.end_deaf(last.as_bytes());
                std::thread::sleep(pause);
                assert_eq!(read_to_end(&socket).expect("a clean end"), last.as_bytes());
                socket.writer().flush().expect("nothing of this side is lost");
                socket.close().expect("nothing of this side is lost");
                socket.closed().expect("a clean end");
            }
        }
    });
}

#[test]
fn data_behind_session_tickets_that_meets_nobody_is_a_failure() {
    with_watchdog(|| {
        for pause in [ms(0), ms(300)] {
            let (mut socket, client) = LastFlight::new(serving(server_tls()).allow_half_open(true));
            client.end_deaf(b"last");
            std::thread::sleep(pause);
            socket.opened().expect("the handshake is done");
            assert_eq!(socket.write(b"lost").expect("it is encrypted"), 4);
            let error = socket.flush().expect_err("the client has gone");
            assert_eq!(crate_kind(&error), ErrorKind::Reset);
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"last");
            assert_fails(socket.closed(), ErrorKind::Reset);
        }
    });
}

/// Whether the tickets come before or after the close of the client. If before, the kernel tells of unread data.
#[test]
fn a_client_that_reads_no_session_tickets_ends_cleanly() {
    with_watchdog(|| {
        let mut random = fastrand::Rng::with_seed(7);
        for life in 0..300 {
            let half_open = random.bool();
            let (socket, client) =
                LastFlight::new(serving(server_tls()).allow_half_open(half_open));
            let delay = Duration::from_micros(random.u64(0..300));
            let reading = spawn_call({
                let socket = socket.clone();
                move || read_to_end(&socket)
            });
            let LastFlight { mut session, mut stream } = client;
            session.writer().write_all(b"last").expect("there is room");
            session.send_close_notify();
            session.write_tls(&mut stream).expect("there is room");
            assert!(!session.wants_write(), "one call sends all of it");
            if random.bool() {
                std::thread::sleep(delay);
            }
            drop(stream);
            assert_eq!(reading.join().expect("a clean end"), b"last", "life {life}");
            if life % 50 == 0 {
                // The event loop may find the failure.
                std::thread::sleep(ms(150));
            }
            socket.close().expect("nothing of this side is lost");
            socket.closed().expect("a clean end");
        }
    });
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    with_watchdog(|| {
        let (mut socket, mut server) = pair(client());
        server.write_all(b"partial").unwrap();
        drop(server);
        let mut got = Vec::new();
        let error = socket.read_to_end(&mut got).expect_err("it is not authenticated");
        assert_eq!(crate_kind(&error), ErrorKind::Truncated);
        assert_eq!(got, b"partial");

        // Also if this side's close_notify has met no peer before.
        let (mut socket, mut server) = pair(client());
        server.write_all(b"partial").unwrap();
        drop(server);
        let _ = socket.writer().close();
        let mut got = Vec::new();
        socket.read_to_end(&mut got).expect_err("it is not authenticated");
        assert_eq!(got, b"partial");
        assert!(socket.closed().is_err());
    });
}

/// There is no reset, and the missing close_notify still tells an abort from an end.
#[test]
fn an_abort_is_a_truncation_for_the_peer() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new().socket(serving(server_tls())));
        let client = connect_unix(server.folder.address("s"), client()).unwrap();
        let aborting = spawn_call(move || {
            let socket = server.accept();
            socket.writer().write_all(b"partial").expect("the client reads");
            assert_eq!(read_exactly(&socket, 2).expect("the client writes"), b"ok");
            socket.abort();
        });
        assert_eq!(read_exactly(&client, 7).expect("it came before"), b"partial");
        client.writer().write_all(b"ok").expect("the server reads");
        let error = read_exactly(&client, 1).expect_err("there is no close_notify");
        assert_eq!(crate_kind(&error), ErrorKind::Truncated);
        assert_fails(client.closed(), ErrorKind::Truncated);
        aborting.join();
    });
}

#[test]
fn the_name_is_verified() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new().socket(serving(server_tls())));
        let tls = trust_only(authority()).server_name("other.test");
        let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(tls);
        let client = connect_unix(server.folder.address("s"), options).unwrap();
        let serving = spawn_call(move || server.accept().opened().map(drop));
        let error = client.opened().expect_err("the certificate has another name");
        assert_eq!(error.tls_failure(), Some(sockeye::TlsFailure::NameMismatch));
        assert!(error.to_string().contains("unix:/"), "{error}");
        assert_fails(serving.join(), ErrorKind::Tls);
    });
}
