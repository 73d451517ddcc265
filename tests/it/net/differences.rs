//! Each difference to `std` that the documentation lists, and the way from and to sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use sockeye::net::{Shutdown, TcpListener, TcpStream};
use sockeye::{
    AcceptWhen, Error, ListenOptions, Listener, SecureTransport, ServerTlsOptions, Socket,
    SocketOptions, connect_with, listen_with,
};

use crate::support::tls::{authority, options as tls_options, valid_cert};
use crate::support::{PROMPT, ms, spawn_blocked, spawn_call, with_watchdog};

/// A stream of this crate, and the peer's stream of `std`.
fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let stream = TcpStream::connect(address).expect("it listens");
    (stream, listener.accept().expect("it has come").0)
}

fn reset(peer: std::net::TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("it can be set");
}

#[track_caller]
fn crate_kind(error: &std::io::Error) -> sockeye::ErrorKind {
    Error::from_io(error).expect("it contains the crate's error").kind()
}

// -------------------------------------------------------------------- connecting

#[test]
fn addresses_race_and_the_error_names_all() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let good = listener.local_addr().expect("it listens");
        let gone = || {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
            gone.local_addr().expect("it listens")
        };
        let bad = [gone(), gone()];
        let stream = TcpStream::connect(&[bad[0], good][..]).expect("one of them listens");
        assert_eq!(stream.peer_addr().expect("it is open"), good);
        let error = TcpStream::connect(&bad[..]).expect_err("none of them listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(error.raw_os_error(), None);
        let error = Error::from_io(&error).expect("it contains the crate's error");
        assert_eq!(error.attempts().len(), 2, "{error}");
        let none: &[SocketAddr] = &[];
        let error = TcpStream::connect(none).expect_err("there is no address");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = TcpStream::connect("127.0.0.1:0").expect_err("port 0 is no port");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

// -------------------------------------------------------------------- ends

/// `std` resets the connection, and the peer loses what it has not read.
#[test]
fn a_drop_with_unread_data_is_an_end_for_the_peer() {
    with_watchdog(|| {
        let (mut stream, mut peer) = pair();
        stream.write_all(b"last words").expect("it is open");
        peer.write_all(&[0; 1000]).expect("it is open");
        stream.peek(&mut [0]).expect("it has arrived");
        drop(stream);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("a clean end");
        assert_eq!(all, b"last words");
    });
}

#[test]
fn a_reset_is_reported_by_every_call_and_taken_once_by_each_clone() {
    with_watchdog(|| {
        let (mut stream, peer) = pair();
        let clone = stream.try_clone().expect("it never fails");
        reset(peer);
        for _ in 0..3 {
            let error = stream.read(&mut [0]).expect_err("it is no end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let error = stream.write(&[0]).expect_err("it is reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        for stream in [stream, clone] {
            let error = stream.take_error().expect("no call failed").expect("it has failed");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(stream.take_error().expect("no call failed").is_none());
            let error = stream.shutdown(Shutdown::Write).expect_err("it has ended");
            assert_eq!(error.kind(), ErrorKind::NotConnected);
            stream.peer_addr().expect("it is known");
            stream.nodelay().expect("the descriptor is kept");
        }
    });
}

#[test]
fn a_cancelled_read_side_drops_what_has_arrived_before() {
    with_watchdog(|| {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"unread").expect("it is open");
        stream.peek(&mut [0]).expect("it has arrived");
        stream.shutdown(Shutdown::Read).expect("it is open");
        assert_eq!(stream.read(&mut [0; 10]).expect("the side has ended"), 0);
        // More than any buffer holds.
        peer.set_write_timeout(Some(PROMPT)).expect("it is valid");
        peer.write_all(&vec![0; 8_000_000]).expect("it is dropped there");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let error = stream.shutdown(Shutdown::Both).expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    });
}

/// A write of another thread delays only the end of the write side.
#[test]
fn a_shutdown_of_both_sides_ends_a_read_although_a_write_is_blocked() {
    with_watchdog(|| {
        let (stream, peer) = pair();
        let [mut reading, mut writing, ending] =
            [(); 3].map(|()| stream.try_clone().expect("it never fails"));
        let writer = spawn_blocked(move || writing.write_all(&vec![0; 64_000_000]));
        let reader = spawn_blocked(move || reading.read(&mut [0]));
        let shutdown = spawn_call(move || ending.shutdown(Shutdown::Both));
        assert_eq!(reader.join_within(PROMPT).expect("the side has ended"), 0);
        assert!(writer.is_running() && shutdown.is_running());
        stream.socket().abort();
        writer.join_within(PROMPT).expect_err("the peer does not read");
        shutdown.join_within(PROMPT).expect_err("the stream was aborted");
        drop(peer);
    });
}

/// Another thread ends every call, and the kinds are those of an ended stream.
#[test]
fn a_close_ends_blocked_calls() {
    with_watchdog(|| {
        let (stream, _peer) = pair();
        let mut reading = stream.try_clone().expect("it never fails");
        let mut writing = stream.try_clone().expect("it never fails");
        let reader = spawn_blocked(move || reading.read(&mut [0]));
        let writer = spawn_blocked(move || writing.write_all(&vec![0; 64_000_000]));
        stream.socket().abort();
        let error = reader.join_within(PROMPT).expect_err("it was aborted");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(crate_kind(&error), sockeye::ErrorKind::Closed);
        let error = writer.join_within(PROMPT).expect_err("it was aborted");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(stream.take_error().expect("no call failed").is_none(), "this side did it");
    });
}

#[test]
fn a_timeout_contains_the_error_of_the_crate() {
    with_watchdog(|| {
        let (mut stream, _peer) = pair();
        stream.set_read_timeout(Some(ms(50))).expect("it is valid");
        let error = stream.read(&mut [0]).expect_err("nothing comes");
        assert_eq!(crate_kind(&error), sockeye::ErrorKind::TimedOut);
        // The turn of another reader counts.
        let mut first = stream.try_clone().expect("it never fails");
        stream.set_read_timeout(None).expect("it is valid");
        let reader = spawn_blocked(move || first.read(&mut [0]));
        stream.set_read_timeout(Some(ms(50))).expect("it is valid");
        stream.read(&mut [0]).expect_err("the other one has the turn, or nothing comes");
        stream.set_nonblocking(true).expect("it never fails");
        let error = stream.read(&mut [0]).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        stream.socket().abort();
        reader.join().expect_err("it timed out or was aborted");
    });
}

// -------------------------------------------------------------------- addresses

#[test]
fn an_ipv4_client_of_a_listener_for_both_has_an_ipv4_address() {
    with_watchdog(|| {
        let listener = TcpListener::bind("[::]:0").expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let client = TcpStream::connect(("127.0.0.1", port)).expect("it takes both families");
        let (server, from) = listener.accept().expect("one has come");
        assert_eq!(from, client.local_addr().expect("it is open"));
        assert!(from.is_ipv4() && server.peer_addr().expect("it is open").is_ipv4());
    });
}

#[test]
fn the_hop_limit_of_ipv6_is_set() {
    with_watchdog(|| {
        let listener = TcpListener::bind("[::1]:0").expect("a port is free");
        listener.set_ttl(90).expect("it is valid");
        assert_eq!(listener.ttl().expect("it listens"), 90);
        let address = listener.local_addr().expect("it listens");
        let client = TcpStream::connect(address).expect("it listens");
        client.set_ttl(91).expect("it is valid");
        assert_eq!(client.ttl().expect("it is open"), 91);
        let descriptor = client.socket().descriptor().expect("it is open");
        let system = socket2::SockRef::from(&descriptor).unicast_hops_v6();
        assert_eq!(system.expect("the system reports it"), 91);
    });
}

// -------------------------------------------------------------------- listeners

#[test]
fn incoming_ends_when_the_listener_is_closed() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let clone = listener.try_clone().expect("it never fails");
        let iterating = spawn_blocked(move || {
            clone.incoming().map(|stream| stream.is_ok()).collect::<Vec<_>>()
        });
        let address = listener.local_addr().expect("it listens");
        let _client = TcpStream::connect(address).expect("it listens");
        crate::support::eventually(PROMPT, "it is taken", || {
            listener.listener().stats().accepted == 1
        });
        listener.listener().close();
        assert_eq!(iterating.join_within(PROMPT), [true]);
        let error = listener.accept().expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(listener.incoming().next().is_none());
        assert!(listener.take_error().expect("no call failed").is_none());
        assert_eq!(listener.local_addr().expect("it is known"), address);
    });
}

#[test]
fn an_accept_deadline_would_block() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let at = std::time::Instant::now() + ms(50);
        listener.listener().set_accept_deadline(Some(at));
        let error = listener.accept().expect_err("no client connects");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_listener_that_accepts_later_is_no_listener_of_std() {
    let options = ListenOptions::new().accept_when(AcceptWhen::Opened);
    let listener = listen_with("127.0.0.1:0", options).expect("a port is free");
    let error = TcpListener::try_from(listener).expect_err("it waits for handshakes");
    assert_eq!(error.kind(), sockeye::ErrorKind::InvalidState);
    let listener = sockeye::listen("127.0.0.1:0").expect("a port is free");
    listener.abort();
    listener.closed().expect("it was closed here");
    let error = TcpListener::try_from(listener).expect_err("it is closed");
    assert_eq!(error.kind(), sockeye::ErrorKind::InvalidState);
}

// -------------------------------------------------------------------- from and to sockets

fn tls_listener() -> TcpListener {
    let identity = authority().issues(&valid_cert());
    let identity = sockeye::Identity::from_pem(identity.chain_pem(), identity.key_pem());
    let tls = ServerTlsOptions::new(identity.expect("it is a certificate with its key"));
    let socket = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls);
    let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(socket));
    TcpListener::try_from(listener.expect("a port is free")).expect("it fits")
}

#[test]
fn a_client_that_delays_its_handshake_does_not_delay_accept() {
    with_watchdog(|| {
        let listener = tls_listener();
        let address = listener.local_addr().expect("it listens");
        let mut silent = std::net::TcpStream::connect(address).expect("it listens");
        let (mut server, from) = listener.accept().expect("one has come");
        assert_eq!(from, silent.local_addr().expect("it is connected"));
        assert_eq!(server.peer_addr().expect("it is connected"), from);
        server.set_nonblocking(true).expect("a flag");
        let error = server.read(&mut [0]).expect_err("the handshake has not begun");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = server.write(b"x").expect_err("the handshake has not begun");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        server.set_nonblocking(false).expect("a flag");
        server.set_read_timeout(Some(ms(20))).expect("it is not zero");
        let error = server.read(&mut [0]).expect_err("the handshake has not begun");
        let kind = if cfg!(unix) { ErrorKind::WouldBlock } else { ErrorKind::TimedOut };
        assert_eq!(error.kind(), kind);
        // A handshake that fails is an error of its stream.
        silent.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is connected");
        server.set_read_timeout(None).expect("none is valid");
        let error = server.read(&mut [0]).expect_err("the handshake has failed");
        assert_eq!(crate_kind(&error), sockeye::ErrorKind::Tls);
    });
}

#[test]
fn a_socket_over_tls_becomes_a_stream() {
    with_watchdog(|| {
        let listener = tls_listener();
        let address = listener.local_addr().expect("it listens");
        let client = spawn_call(move || {
            let options = tls_options(authority()).allow_half_open(true);
            let socket = connect_with(address, options).expect("the options are valid");
            let mut stream = TcpStream::try_from(socket).expect("the certificate is trusted");
            stream.write_all(b"over TLS").expect("it is open");
            stream.flush().expect("it is open");
            stream.shutdown(Shutdown::Write).expect("it is open");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("close_notify comes");
            answer
        });
        let (mut server, _) = listener.accept().expect("one has come");
        let mut request = Vec::new();
        server.read_to_end(&mut request).expect("close_notify comes");
        assert_eq!(request, b"over TLS");
        server.write_all(b"answer").expect("half-open");
        let socket: Socket = server.into();
        socket.close().expect("it is open");
        assert_eq!(client.join(), b"answer");
    });
}

#[test]
fn a_stream_of_std_is_taken_over_and_half_open() {
    with_watchdog(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        let (mut peer, from) = listener.accept().expect("one has come");
        let mut stream = TcpStream::try_from(stream).expect("it is connected");
        assert_eq!(stream.local_addr().expect("it is open"), from);
        peer.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(stream.read(&mut [0]).expect("a clean end"), 0);
        stream.write_all(b"late").expect("half-open");
        drop(stream);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("a clean end");
        assert_eq!(all, b"late");
    });
}

#[test]
fn a_socket_that_has_failed_or_ended_becomes_no_stream() {
    with_watchdog(|| {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = gone.local_addr().expect("it listens");
        let socket = sockeye::connect(address).expect("the address is valid");
        let (_peer, _) = gone.accept().expect("one has come");
        socket.close().expect("it is open");
        let error = TcpStream::try_from(socket).expect_err("it has ended");
        assert_eq!(error.kind(), sockeye::ErrorKind::Closed);
        drop(gone);
        let socket = sockeye::connect(address).expect("the address is valid");
        let error = TcpStream::try_from(socket).expect_err("nothing listens");
        assert_eq!(error.kind(), sockeye::ErrorKind::Connect);
    });
}

// -------------------------------------------------------------------- panics

/// A panic in the crate ends one socket, and a panic of the program leaves no handle in a broken state.
#[test]
fn handles_and_options_can_cross_a_catch_of_a_panic() {
    fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<TcpStream>();
    check::<TcpListener>();
    check::<Socket>();
    check::<sockeye::Reader>();
    check::<sockeye::Writer>();
    check::<Listener>();
    check::<sockeye::Connector>();
    check::<SocketOptions>();
    check::<sockeye::TcpOptions>();
    check::<sockeye::TlsOptions>();
    check::<ServerTlsOptions>();
    check::<ListenOptions>();
    check::<sockeye::Descriptor>();
    check::<sockeye::SocketInfo>();
    let (stream, mut peer) = pair();
    let caught = std::panic::catch_unwind(|| {
        (&stream).write_all(b"before").expect("it is open");
        // Unlike panic!, this prints nothing.
        std::panic::resume_unwind(Box::new("a panic for a test"));
    });
    caught.expect_err("it has panicked");
    (&stream).write_all(b" and after").expect("it is open");
    drop(stream);
    let mut all = String::new();
    peer.read_to_string(&mut all).expect("a clean end");
    assert_eq!(all, "before and after");
}
