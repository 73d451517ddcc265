//! Connections that come from `std` streams, and go to them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use sockeye::{
    Connector, EgressRules, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions,
};

use crate::support::net;
use crate::support::tls::{TlsPeer, ask, authority, options, server_config, upgradable};
use crate::support::{
    PROMPT, Peer, assert_fails, open, read, read_exactly, read_to_end, with_watchdog,
};

#[track_caller]
fn stream_to(address: SocketAddr) -> TcpStream {
    net::connect(address).expect("the peer listens")
}

#[track_caller]
fn adopt(address: SocketAddr, options: SocketOptions) -> Socket {
    Connector::global().adopt(stream_to(address), options).expect("the stream is connected")
}

// ------------------------------------------------------------------------------------------------ adopt

#[test]
fn an_adopted_stream_is_a_socket_like_any_other() {
    with_watchdog(|| {
        let peer = Peer::scripted(|peer| {
            peer.send(b"before");
            peer.read_to_end();
            peer.send(b"after");
        });
        let stream = stream_to(peer.address());
        let local = stream.local_addr().expect("a bound socket has an address");
        let socket = Socket::try_from(stream).expect("it is connected");
        let info = socket.opened().expect("it was connected before");
        assert_eq!(info.local_address(), Some(local));
        assert_eq!(info.remote_address(), Some(peer.address()));
        assert_eq!(read_exactly(&socket, 6).expect("the peer sends"), b"before");
        let half = socket.writer();
        (&socket).write_all(b"hello").expect("the peer reads");
        half.close().expect("the close succeeds");
        assert_eq!(read_to_end(&socket).expect("the peer sends, then ends"), b"after");
        socket.closed().expect("both sides ended cleanly");
        peer.assert_received(b"hello");
    });
}

#[test]
fn the_end_of_an_adopted_streams_peer_is_noticed() {
    with_watchdog(|| {
        let peer = Peer::scripted(|peer| {
            peer.wait_signal();
            peer.fin();
        });
        let socket = adopt(peer.address(), SocketOptions::new());
        peer.signal();
        socket.closed_timeout(PROMPT).expect("the end is noticed without a reader");
        peer.assert_received(b"");
    });
}

#[test]
fn an_adopted_stream_can_be_secured_from_the_start_and_by_an_upgrade() {
    with_watchdog(|| {
        let peer = TlsPeer::echoes(&server_config());
        let socket = adopt(peer.address(), options(authority()));
        (&socket).write_all(b"secret").expect("the peer is trusted");
        assert_eq!(read_exactly(&socket, 6).expect("the peer echoes"), b"secret");
        socket.close().expect("the peer reads");

        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.send(b"secret");
        });
        let plain = adopt(peer.address(), upgradable(authority()));
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        assert_eq!(read_exactly(&secure, 6).expect("the peer sends"), b"secret");
    });
}

#[test]
fn adopted_streams_count_and_end_with_their_scope_but_skip_egress_rules() {
    with_watchdog(|| {
        let connector = Connector::builder()
            .egress(EgressRules::deny_all())
            .max_open_sockets(1)
            .build()
            .expect("the settings are valid");
        let peer = Peer::reading();
        let kept = connector.scope(|scope| {
            let socket = scope.adopt(stream_to(peer.address()), SocketOptions::new());
            let socket = socket.expect("it is connected");
            socket.opened().expect("an adopted stream is open");
            let other = Peer::reading();
            let stream = stream_to(other.address());
            assert_fails(connector.adopt(stream, SocketOptions::new()), ErrorKind::Limit);
            other.assert_received(b"");
            (&socket).write_all(b"hello").expect("the peer reads");
            socket
        });
        assert_eq!(kept.phase(), Phase::Closed);
        assert_eq!(connector.open_sockets(), 0);
        peer.assert_received(b"hello");
    });
}

/// The stream waits with its socket for a slot, and is closed with it.
#[test]
fn a_stream_that_waits_for_a_slot_is_closed_with_its_socket() {
    with_watchdog(|| {
        let connector = Connector::builder().max_open_sockets(1).wait_at_limit(true);
        let connector = connector.build().expect("the rules are valid");
        let (first, second) = (Peer::reading(), Peer::reading());
        let socket = connector.adopt(stream_to(first.address()), SocketOptions::new());
        let socket = socket.expect("it is connected");
        let waiting = |peer: &Peer| {
            let stream = stream_to(peer.address());
            connector.adopt(stream, SocketOptions::new()).expect("it is connected")
        };
        waiting(&second).close().expect("the close succeeds");
        second.assert_received(b"");

        let aborted = Peer::reading();
        waiting(&aborted).abort();
        aborted.assert_reset();

        let third = Peer::reading();
        let queued = waiting(&third);
        socket.close().expect("the close succeeds");
        (&queued).write_all(b"its turn").expect("a slot is free now");
        queued.close().expect("the close succeeds");
        third.assert_received(b"its turn");
    });
}

#[test]
fn refused_streams_give_the_reason() {
    with_watchdog(|| {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let bound = TcpOptions::new().bind("127.0.0.1:0".parse().expect("the address is valid"));
        let bound = Connector::global().adopt(stream_to(address), SocketOptions::new().tcp(bound));
        assert_fails(bound, ErrorKind::InvalidOptions);

        let reset = stream_to(address);
        let (_, _) = listener.accept().expect("the first connection has arrived");
        let (theirs, _) = listener.accept().expect("the second connection has arrived");
        socket2::SockRef::from(&theirs)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("every socket has the option");
        drop(theirs);
        let mut byte = [0];
        (&reset).read_exact(&mut byte).expect_err("the peer has reset it");
        assert_fails(Connector::global().adopt(reset, SocketOptions::new()), ErrorKind::Connect);
    });
}

/// Any descriptor can be turned into a stream of `std`.
#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_that_is_no_tcp_connection_is_named_in_the_error() {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use socket2::{Domain, Type};

    let assert_refused = |descriptor: OwnedFd, kind: ErrorKind, sort: &str| {
        let stream = TcpStream::from(descriptor);
        let error = Connector::global()
            .adopt(stream, SocketOptions::new())
            .expect_err(&format!("it is {sort}"));
        assert_eq!(error.kind(), kind, "{sort}: {error}");
        let text = error.to_string();
        assert!(text.contains(sort), "no {sort:?}: {text}");
        assert!(!text.contains("os error 0") && !text.contains("Success"), "{text}");
    };
    with_watchdog(move || {
        use ErrorKind::{Connect, InvalidState};
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let udp = || UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let connected = udp();
        connected.connect(address).expect("connecting a UDP socket sends nothing");
        assert_refused(udp().into(), InvalidState, "a UDP socket");
        assert_refused(connected.into(), InvalidState, "a UDP socket");
        assert_refused(listener.into(), InvalidState, "a listening socket");
        let (one, other) = UnixStream::pair().expect("a socket pair can be created");
        assert_refused(one.into(), InvalidState, "a Unix-domain socket");
        assert_refused(other.into(), InvalidState, "a Unix-domain socket");
        let datagrams = UnixDatagram::unbound().expect("a socket can be created");
        assert_refused(datagrams.into(), InvalidState, "a Unix-domain socket");
        let (reads, writes) = rustix::pipe::pipe().expect("a pipe can be created");
        assert_refused(reads, InvalidState, "not a socket");
        assert_refused(writes, InvalidState, "not a socket");
        let file = File::open("/dev/null").expect("the file exists");
        assert_refused(file.into(), InvalidState, "not a socket");
        for domain in [Domain::IPV4, Domain::IPV6] {
            let socket = socket2::Socket::new(domain, Type::STREAM, None)
                .expect("the system supports the family");
            assert_refused(socket.into(), Connect, "not connected");
        }
        let bound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)
            .expect("a socket can be created");
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
        assert_refused(bound.into(), Connect, "not connected");
        let hole = crate::support::peer::black_hole();
        let connecting = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)
            .expect("a socket can be created");
        connecting.set_nonblocking(true).expect("every socket has the option");
        connecting.connect(&hole.address.into()).expect_err("the peer does not answer");
        assert_refused(connecting.into(), Connect, "still connecting");
    });
}

/// Waits until the kernel has received the peer's end.
#[cfg(target_os = "linux")]
#[track_caller]
fn await_end(stream: &TcpStream) {
    let text = "the connection is over";
    crate::support::eventually(crate::support::WATCHDOG, text, || stream.peer_addr().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_stream_that_was_reset_before_yields_its_data_and_then_the_reset() {
    with_watchdog(|| {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = net::TcpListener::bind(host).expect("a port is free");
            let stream = stream_to(listener.local_addr().expect("a bound socket has an address"));
            let (mut theirs, _) = listener.accept().expect("it has arrived");
            theirs.write_all(b"last words").expect("the send buffer has room");
            let gone = std::time::Duration::ZERO;
            socket2::SockRef::from(&theirs)
                .set_linger(Some(gone))
                .expect("every socket has the option");
            drop(theirs);
            await_end(&stream);
            let socket =
                Connector::global().adopt(stream, SocketOptions::new()).expect("data is unread");
            let info = socket.opened().expect("it was connected");
            assert_eq!(info.remote_address(), None);
            assert_eq!(info.requested().port(), 0);
            assert_eq!(read_exactly(&socket, 10).expect("the data is unread"), b"last words");
            assert_fails(read(&socket, 1), ErrorKind::Reset);
            assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Reset);
        }
    });
}

/// The event loop finds the reset if no caller reads first.
#[cfg(target_os = "linux")]
#[test]
fn a_reset_of_an_adopted_stream_is_noticed_without_a_reader_and_keeps_all_data() {
    with_watchdog(|| {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let stream = stream_to(listener.local_addr().expect("a bound socket has an address"));
        let (mut theirs, _) = listener.accept().expect("it has arrived");
        theirs.write_all(&[7; 100_000]).expect("the send buffer has room");
        socket2::SockRef::from(&theirs)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("every socket has the option");
        crate::support::eventually(crate::support::WATCHDOG, "all data has arrived", || {
            stream.peek(&mut [0; 100_000]).is_ok_and(|count| count == 100_000)
        });
        drop(theirs);
        await_end(&stream);
        let socket = Socket::try_from(stream).expect("data is unread");
        assert_fails(socket.closed_timeout(crate::support::WATCHDOG), ErrorKind::Reset);
        assert_eq!(read_exactly(&socket, 100_000).expect("the data is unread"), [7; 100_000]);
        assert_fails(read(&socket, 1), ErrorKind::Reset);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_stream_that_had_ended_before_yields_its_data_and_ends() {
    with_watchdog(|| {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let pair = || {
            let stream = stream_to(listener.local_addr().expect("a bound socket has an address"));
            (stream, listener.accept().expect("it has arrived").0)
        };
        let (stream, mut theirs) = pair();
        stream.shutdown(Shutdown::Write).expect("it is connected");
        theirs.write_all(b"last words").expect("the send buffer has room");
        drop(theirs);
        await_end(&stream);
        let socket = Socket::try_from(stream).expect("data is unread");
        assert_eq!(read_to_end(&socket).expect("the data is unread"), b"last words");

        let (stream, theirs) = pair();
        stream.shutdown(Shutdown::Write).expect("it is connected");
        drop(theirs);
        await_end(&stream);
        let error = Socket::try_from(stream).expect_err("the connection is over");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("has ended"), "{error}");
    });
}

// ------------------------------------------------------------------------------------------------ detach

#[test]
fn a_detached_connection_keeps_all_unread_data() {
    with_watchdog(|| {
        let peer = Peer::scripted(|peer| {
            peer.send(b"one, two");
            peer.read_to_end();
            peer.send(b", three");
        });
        let connector = Connector::builder().build().expect("the rules are valid");
        let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        let socket = connector.connect_with(peer.address(), options).expect("the address is valid");
        (&socket).write_all(b"a").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 3).expect("the peer sends"), b"one");
        let mut stream = socket.detach().expect("the socket is idle");

        assert_eq!(socket.phase(), Phase::Closed);
        assert!(!socket.upgraded());
        socket.closed().expect("it has not failed");
        assert_fails(read(&socket, 1), ErrorKind::Upgraded);
        assert_fails((&socket).write(b"x"), ErrorKind::Upgraded);
        assert_fails(socket.detach(), ErrorKind::Upgraded);
        let error = socket.start_tls().expect_err("the stream has the connection");
        assert!(error.to_string().contains("the connection was detached"), "{error}");
        let message =
            read(socket.reader(), 1).expect_err("the stream has the connection").to_string();
        assert!(message.contains("detached"), "{message}");
        assert_eq!(connector.open_sockets(), 0);
        drop(socket);

        assert_eq!(stream.read_timeout().expect("it is a socket"), None);
        stream.write_all(b"b").expect("the peer reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(read_to_end(&stream).expect("the peer ends"), b", two, three");
        peer.assert_received(b"ab");
    });
}

/// A fast dialogue, in which receives block in the kernel with a short timeout, must leave no timeout on the stream.
#[test]
fn a_detached_stream_has_no_timeout() {
    with_watchdog(|| {
        let peer = Peer::scripted(|peer| {
            for _ in 0..100 {
                peer.receive(1);
                peer.send(b"x");
            }
            peer.wait_signal();
            peer.send(b"late");
        });
        let socket = open(&peer);
        for _ in 0..100 {
            (&socket).write_all(b"y").expect("the peer reads");
            read_exactly(&socket, 1).expect("the peer answers");
        }
        let stream = socket.detach().expect("the socket is idle");
        let reading = crate::support::spawn_blocked(move || read(&stream, 10));
        peer.signal();
        assert_eq!(reading.join().expect("the peer sends"), b"late");
    });
}

#[test]
fn a_socket_that_cannot_be_detached_is_unchanged() {
    use crate::support::peer::black_hole;
    use crate::support::spawn_blocked;

    with_watchdog(|| {
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is valid");
        assert_fails(connecting.detach(), ErrorKind::InvalidState);

        let peer = Peer::scripted(|peer| {
            peer.wait_signal();
            peer.send(b"answer");
            peer.read_to_end();
        });
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = spawn_blocked(move || read(reader, 10));
        assert_fails(socket.detach(), ErrorKind::InvalidState);
        peer.signal();
        assert_eq!(reading.join().expect("the peer sends"), b"answer");
        socket.writer().close().expect("the close succeeds");
        assert_fails(socket.detach(), ErrorKind::InvalidState);
        peer.assert_received(b"");

        let peer = TlsPeer::echoes(&server_config());
        let secure = crate::support::tls::open(&peer, options(authority()));
        assert_eq!(secure.secure_transport(), SecureTransport::On);
        assert_fails(secure.detach(), ErrorKind::InvalidState);
        (&secure).write_all(b"still").expect("the socket is unchanged");
        assert_eq!(read_exactly(&secure, 5).expect("the peer echoes"), b"still");
        secure.close().expect("the peer reads");

        let peer = Peer::resetting();
        let socket = open(&peer);
        peer.signal();
        assert_fails(socket.closed(), ErrorKind::Reset);
        assert_fails(socket.detach(), ErrorKind::Reset);
    });
}
