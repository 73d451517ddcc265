//! `AcceptWhen::Opened`: the event loop accepts, and opens connections. Here accepted sockets are the TLS clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use sockeye::{
    AcceptWhen, ErrorKind, ListenOptions, Listener, Phase, SecureTransport, SocketOptions,
};

use super::{accept, assert_client_reset, assert_talks, client_of, local_with};
use crate::support::tls::{authority, server_config};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, eventually, ms, read, spawn_blocked, spawn_call, timed,
    with_watchdog,
};

fn opened() -> ListenOptions {
    ListenOptions::new().accept_when(AcceptWhen::Opened)
}

/// Accepted sockets are TLS clients of the peers that connect.
pub(super) fn secured(options: ListenOptions) -> ListenOptions {
    let tls = sockeye::TlsOptions::new()
        .add_root_pem(authority().pem())
        .unwrap()
        .server_name("localhost");
    options.socket(SocketOptions::new().secure_transport(SecureTransport::On).tls(tls))
}

/// Plays the TLS server on a connection that it dialled.
pub(super) fn serve_tls(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let session = ServerConnection::new(Arc::clone(&server_config().config())).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

#[test]
fn plaintext_connections_are_returned_at_once() {
    with_watchdog(|| {
        let listener = local_with(opened());
        for _ in 0..20 {
            let acceptor = listener.clone();
            let accepting = spawn_call(move || acceptor.accept());
            let client = client_of(&listener);
            let socket = accepting.join().expect("a client has connected");
            assert_eq!(socket.phase(), Phase::Open);
            assert_talks(&client, &socket);
        }
        let clients: Vec<_> = (0..10).map(|_| client_of(&listener)).collect();
        eventually(PROMPT, "the event loop accepts", || listener.stats().pending == 10);
        for client in &clients {
            assert_talks(client, &accept(&listener));
        }
        assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::TimedOut);
    });
}

#[test]
fn sockets_are_returned_once_they_are_open_and_in_that_order() {
    with_watchdog(|| {
        let listener = local_with(secured(opened()));
        let slow = client_of(&listener);
        let quick = client_of(&listener);
        let quick_address = quick.local_addr().unwrap();
        let serving = spawn_call(move || serve_tls(quick));
        let socket = accept(&listener);
        assert_eq!(socket.phase(), Phase::Open);
        assert_eq!(socket.opened().unwrap().remote_address(), Some(quick_address));
        assert!(socket.opened().unwrap().tls().is_some());
        let mut server = serving.join();
        server.write_all(b"hello").unwrap();
        assert_eq!(read(&socket, 5).unwrap(), b"hello");
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_eq!(listener.stats().pending, 1);
        let serving = spawn_call(move || serve_tls(slow));
        let socket = accept(&listener);
        assert_eq!(socket.phase(), Phase::Open);
        drop(serving.join());
    });
}

#[test]
fn a_failed_handshake_is_counted_and_not_returned() {
    with_watchdog(|| {
        let listener = local_with(secured(opened()));
        let mut bad = client_of(&listener);
        bad.write_all(b"this is no TLS server").unwrap();
        assert_fails(listener.accept_timeout(ms(200)), ErrorKind::TimedOut);
        eventually(PROMPT, "it failed", || listener.stats().failed == 1);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.opened, stats.pending, stats.open), (1, 0, 0, 0));
    });
}

#[test]
fn a_silent_client_fails_at_the_handshake_timeout() {
    with_watchdog(|| {
        let listener = local_with(secured(opened()).handshake_timeout(ms(100)));
        let mut silent = client_of(&listener);
        let (count, took) = timed(|| {
            let mut all = Vec::new();
            let _ = silent.read_to_end(&mut all);
            all.len()
        });
        assert!(count > 0, "it got a ClientHello");
        assert!(took >= ms(90) && took < PROMPT, "{took:?}");
        eventually(PROMPT, "it failed", || listener.stats().failed == 1);
    });
}

/// With `Connected` the socket itself has the limit, even if no thread uses it.
#[test]
fn an_unused_socket_has_its_handshake_limit() {
    with_watchdog(|| {
        let listener = local_with(secured(ListenOptions::new()).handshake_timeout(ms(100)));
        let _silent = client_of(&listener);
        let socket = accept(&listener);
        assert_eq!(socket.phase(), Phase::Connecting);
        let error = socket.closed_timeout(PROMPT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(listener.stats().failed, 1);
    });
}

/// Silent clients give way after a second, so that others get in.
#[test]
fn silent_clients_cannot_keep_others_out() {
    with_watchdog(|| {
        let listener = local_with(secured(opened()).max_pending(2));
        let silent = [client_of(&listener), client_of(&listener)];
        eventually(PROMPT, "both are opening", || listener.stats().pending == 2);
        let good = client_of(&listener);
        let serving = spawn_call(move || serve_tls(good));
        let (socket, took) = timed(|| accept(&listener));
        assert!(took >= ms(700) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(socket.phase(), Phase::Open);
        drop(serving.join());
        let [first, second] = silent;
        let mut first = first;
        let error = std::iter::repeat_with(|| first.read(&mut [0; 4096]))
            .find_map(Result::err)
            .expect("the oldest is reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(listener.stats().failed >= 1);
        drop(second);
    });
}

#[test]
fn at_most_max_pending_connections_are_taken_ahead() {
    with_watchdog(|| {
        let listener = local_with(opened().max_pending(3));
        let clients: Vec<_> = (0..8).map(|_| client_of(&listener)).collect();
        eventually(PROMPT, "three are taken", || listener.stats().pending == 3);
        std::thread::sleep(ms(50));
        assert_eq!(listener.stats().accepted, 3);
        for client in &clients {
            assert_talks(client, &accept(&listener));
        }
    });
}

#[test]
fn handshakes_that_have_begun_finish_after_a_close() {
    with_watchdog(|| {
        let listener = local_with(secured(opened()));
        let client = client_of(&listener);
        eventually(PROMPT, "it is opening", || listener.stats().pending == 1);
        listener.close();
        let waiter = listener.clone();
        let waiting = spawn_blocked(move || waiter.closed());
        let serving = spawn_call(move || serve_tls(client));
        let socket = listener.accept().expect("its handshake had begun");
        assert_eq!(socket.phase(), Phase::Open);
        assert_fails(listener.accept(), ErrorKind::Closed);
        waiting.join_within(PROMPT).expect("nothing is left");
        drop(serving.join());
    });
}

/// A close takes it from the system, and its handshake has not begun.
#[test]
fn a_connection_that_is_opening_is_pending_once() {
    with_watchdog(|| {
        let listener = local_with(secured(ListenOptions::new()));
        let clients = [client_of(&listener), client_of(&listener)];
        listener.close();
        assert_eq!((listener.stats().pending, listener.stats().accepted), (2, 2));
        let socket = accept(&listener);
        assert_eq!(listener.stats().pending, 2, "one waits for an accept, and both are opening");
        drop((socket, clients));
    });
}

/// The client that is silent has a handshake that no abort waits for.
#[test]
fn abort_and_shutdown_reset_a_handshake_in_progress() {
    let ends: [fn(&Listener); 2] =
        [Listener::abort, |listener| assert_eq!(listener.shutdown(WATCHDOG), 0)];
    for end in ends {
        with_watchdog(move || {
            let listener = local_with(secured(opened()));
            let mut silent = client_of(&listener);
            eventually(PROMPT, "it is opening", || listener.stats().pending == 1);
            let waiter = listener.clone();
            let waiting = spawn_blocked(move || waiter.closed());
            let acceptor = listener.clone();
            let accepting = spawn_blocked(move || acceptor.accept());
            end(&listener);
            waiting.join_within(PROMPT).expect("the program ended it");
            assert_fails(accepting.join_within(PROMPT), ErrorKind::Closed);
            let error = silent.read_to_end(&mut Vec::new()).expect_err("it is reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!((listener.stats().pending, listener.open_sockets()), (0, 0));
        });
    }
}

#[test]
fn abort_resets_what_is_opening_or_waits() {
    with_watchdog(|| {
        let listener = local_with(opened());
        let waiting = client_of(&listener);
        eventually(PROMPT, "it is open", || listener.stats().pending == 1);
        listener.abort();
        assert_client_reset(waiting);
        assert_eq!(listener.stats().pending, 0);
        assert_fails(listener.accept_timeout(WATCHDOG), ErrorKind::Closed);
    });
}

#[test]
fn slots_limit_connections_that_are_opening() {
    with_watchdog(|| {
        let listener = local_with(opened().max_open_sockets(2));
        let clients: Vec<_> = (0..4).map(|_| client_of(&listener)).collect();
        let mut sockets = [accept(&listener), accept(&listener)].to_vec();
        assert_fails(listener.accept_timeout(ms(50)), ErrorKind::TimedOut);
        assert_talks(&clients[0], &sockets[0]);
        sockets.remove(0).close().unwrap();
        assert_talks(&clients[2], &accept(&listener));
    });
}
