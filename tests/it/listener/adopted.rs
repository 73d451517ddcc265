//! Listeners that the program or a service manager made.

use std::net::{TcpListener, TcpStream};

use sockeye::{AcceptWhen, ErrorKind, ListenOptions, Listener, Phase, SocketOptions, TcpOptions};

use super::opened::{secured, serve_tls};
use super::{accept, address_of, assert_talks, client};
use crate::support::{
    PROMPT, assert_fails, eventually, ms, spawn_blocked, spawn_call, with_watchdog,
};

#[test]
fn an_adopted_listener_accepts() {
    with_watchdog(|| {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let early = client(address);
        let listener = Listener::try_from(bound).expect("it listens");
        assert_eq!(address_of(&listener), address);
        assert_talks(&early, &accept(&listener));
        let late = client(address);
        let socket = accept(&listener);
        assert!(socket.nodelay().unwrap(), "the options apply");
        assert_talks(&late, &socket);
    });
}

/// As at a restart under a service manager: the queue passes to the successor.
#[test]
fn a_close_leaves_the_queue_to_the_successor() {
    with_watchdog(|| {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let successor = bound.try_clone().unwrap();
        let listener = Listener::adopt(bound, ListenOptions::new()).unwrap();
        let blocked = listener.clone();
        let blocked = spawn_blocked(move || blocked.accept());
        listener.close();
        assert_fails(blocked.join_within(PROMPT), ErrorKind::Closed);
        listener.closed_timeout(PROMPT).expect("nothing is left to return");
        let queued: Vec<_> = (0..5).map(|_| client(address)).collect();
        let next = Listener::try_from(successor).unwrap();
        for client in &queued {
            assert_talks(client, &accept(&next));
        }
        drop(next);
        TcpStream::connect(address).expect_err("the last descriptor is closed");
    });
}

/// The queue is the successor's, and what the event loop has taken is returned.
#[test]
fn handshakes_that_have_begun_finish_after_a_close() {
    with_watchdog(|| {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let successor = bound.try_clone().unwrap();
        let options = secured(ListenOptions::new().accept_when(AcceptWhen::Opened));
        let listener = Listener::adopt(bound, options).unwrap();
        let begun = client(address);
        eventually(PROMPT, "it is opening", || listener.stats().pending == 1);
        listener.close();
        let queued = client(address);
        assert_fails(listener.closed_timeout(ms(20)), ErrorKind::TimedOut);
        let serving = spawn_call(move || serve_tls(begun));
        let socket = listener.accept().expect("its handshake had begun");
        assert_eq!(socket.phase(), Phase::Open);
        drop(serving.join());
        assert_fails(listener.accept(), ErrorKind::Closed);
        listener.closed_timeout(PROMPT).expect("nothing is left to return");
        let next = Listener::try_from(successor).unwrap();
        assert_talks(&queued, &accept(&next));
    });
}

#[test]
fn options_from_before_binding_are_refused() {
    let bound = || TcpListener::bind("127.0.0.1:0").unwrap();
    let new = ListenOptions::new;
    let tcp = |tcp| new().socket(SocketOptions::new().tcp(tcp));
    for (options, name) in [
        (new().backlog(16), "backlog"),
        (new().reuse_port(true), "reuse_port"),
        (new().only_v6(true), "only_v6"),
        (tcp(TcpOptions::new().recv_buffer_size(4096)), "recv_buffer_size"),
        (tcp(TcpOptions::new().send_buffer_size(4096)), "send_buffer_size"),
    ] {
        let error = Listener::adopt(bound(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_that_does_not_listen_is_refused() {
    use std::os::fd::OwnedFd;
    let address = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(address.local_addr().unwrap()).unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind_addr(
        &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            b"sockeye-test",
        )
        .unwrap(),
    )
    .unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    for (descriptor, what) in [
        (OwnedFd::from(stream), "does not listen"),
        (OwnedFd::from(bound), "does not listen"),
        (OwnedFd::from(udp), "UDP"),
        (OwnedFd::from(unix), "Unix-domain"),
        (OwnedFd::from(file), "not a socket"),
    ] {
        let error = Listener::try_from(TcpListener::from(descriptor)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{what}: {error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
