//! Connections that come from streams of `std`, and go to them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use sockeye::{
    Connector, EgressRules, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TcpOptions,
};

use crate::support::tls::{TlsPeer, ask, authority, options, terms, upgradable};
use crate::support::{AT_ONCE, Peer, fails, open, read, read_exactly, read_to_end, story};

#[track_caller]
fn stream_to(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("the peer listens")
}

#[track_caller]
fn adopt(address: SocketAddr, options: SocketOptions) -> Socket {
    Connector::global().adopt(stream_to(address), options).expect("it is connected")
}

// ------------------------------------------------------------------------------------------------ taken

#[test]
fn an_adopted_stream_is_a_socket_like_any_other() {
    story(|| {
        let peer = Peer::plays(|peer| {
            peer.send(b"before");
            peer.read_to_end();
            peer.send(b"after");
        });
        let stream = stream_to(peer.address());
        let local = stream.local_addr().expect("it has one");
        let socket = Socket::try_from(stream).expect("it is connected");
        let info = socket.opened().expect("it was connected before");
        assert_eq!(info.local_address(), Some(local));
        assert_eq!(info.remote_address(), Some(peer.address()));
        assert_eq!(read_exactly(&socket, 6).expect("the peer sends"), b"before");
        let half = socket.writer();
        (&socket).write_all(b"hello").expect("the peer reads");
        half.close().expect("nothing is in the way");
        assert_eq!(read_to_end(&socket).expect("the peer sends, then ends"), b"after");
        socket.closed().expect("both sides ended cleanly");
        peer.gets(b"hello");
    });
}

#[test]
fn it_is_noticed_when_the_peer_of_an_adopted_stream_ends() {
    story(|| {
        let peer = Peer::plays(|peer| {
            peer.await_cue();
            peer.fin();
        });
        let socket = adopt(peer.address(), SocketOptions::new());
        peer.cue();
        socket.closed_timeout(AT_ONCE).expect("nobody has to read for that");
        peer.gets(b"");
    });
}

#[test]
fn an_adopted_stream_can_be_secured_from_the_start_and_by_an_upgrade() {
    story(|| {
        let peer = TlsPeer::echoes(&terms());
        let socket = adopt(peer.address(), options(authority()));
        (&socket).write_all(b"secret").expect("the peer is trusted");
        assert_eq!(read_exactly(&socket, 6).expect("the peer echoes"), b"secret");
        socket.close().expect("the peer reads");

        let peer = TlsPeer::plays(&terms(), |peer| {
            peer.agrees();
            peer.handshake();
            peer.send(b"secret");
        });
        let plain = adopt(peer.address(), upgradable(authority()));
        ask(&plain);
        let secure = plain.start_tls().expect("nothing is in the way");
        assert_eq!(read_exactly(&secure, 6).expect("the peer sends"), b"secret");
    });
}

#[test]
fn adopted_streams_count_and_end_with_their_scope_but_are_not_judged() {
    story(|| {
        let connector = Connector::builder()
            .egress(EgressRules::deny_all())
            .max_open_sockets(1)
            .build()
            .expect("the rules are fine");
        let peer = Peer::reads();
        let kept = connector.scope(|scope| {
            let socket = scope.adopt(stream_to(peer.address()), SocketOptions::new());
            let socket = socket.expect("it is connected");
            socket.opened().expect("nothing is dialled");
            let other = Peer::reads();
            let stream = stream_to(other.address());
            fails(connector.adopt(stream, SocketOptions::new()), ErrorKind::Limit);
            other.gets(b"");
            (&socket).write_all(b"hello").expect("the peer reads");
            socket
        });
        assert_eq!(kept.phase(), Phase::Closed);
        assert_eq!(connector.open_sockets(), 0);
        peer.gets(b"hello");
    });
}

/// It waits with the socket, and is closed with it.
#[test]
fn a_stream_that_waits_for_a_place_is_let_go_of_with_its_socket() {
    story(|| {
        let connector = Connector::builder().max_open_sockets(1).wait_at_limit(true);
        let connector = connector.build().expect("the rules are fine");
        let (first, second) = (Peer::reads(), Peer::reads());
        let socket = connector.adopt(stream_to(first.address()), SocketOptions::new());
        let socket = socket.expect("it is connected");
        let waiting = |peer: &Peer| {
            let stream = stream_to(peer.address());
            connector.adopt(stream, SocketOptions::new()).expect("it is connected")
        };
        waiting(&second).close().expect("nothing is in the way");
        second.gets(b"");

        let third = Peer::reads();
        let queued = waiting(&third);
        socket.close().expect("nothing is in the way");
        (&queued).write_all(b"its turn").expect("there is a place now");
        queued.close().expect("nothing is in the way");
        third.gets(b"its turn");
    });
}

#[test]
fn what_cannot_be_adopted_says_why() {
    story(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a port");
        let address = listener.local_addr().expect("it has one");
        let bound = TcpOptions::new().bind("127.0.0.1:0".parse().expect("it is an address"));
        let bound = Connector::global().adopt(stream_to(address), SocketOptions::new().tcp(bound));
        fails(bound, ErrorKind::InvalidOptions);

        let reset = stream_to(address);
        let (_, _) = listener.accept().expect("the first has come");
        let (theirs, _) = listener.accept().expect("the second has come");
        socket2::SockRef::from(&theirs)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("it can");
        drop(theirs);
        let mut byte = [0];
        (&reset).read_exact(&mut byte).expect_err("the peer has reset it");
        fails(Connector::global().adopt(reset, SocketOptions::new()), ErrorKind::Connect);
    });
}

/// Any descriptor can be made a stream of `std`.
#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_that_is_no_tcp_connection_is_told_for_what_it_is() {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use socket2::{Domain, Type};

    let told = |descriptor: OwnedFd, kind: ErrorKind, sort: &str| {
        let stream = TcpStream::from(descriptor);
        let error = Connector::global()
            .adopt(stream, SocketOptions::new())
            .expect_err(&format!("it is {sort}"));
        assert_eq!(error.kind(), kind, "{sort}: {error}");
        let text = error.to_string();
        assert!(text.contains(sort), "no {sort:?}: {text}");
        assert!(!text.contains("os error 0") && !text.contains("Success"), "{text}");
    };
    story(move || {
        use ErrorKind::{Connect, InvalidState};
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a port");
        let address = listener.local_addr().expect("it has one");
        let udp = || UdpSocket::bind("127.0.0.1:0").expect("the system has a port");
        let connected = udp();
        connected.connect(address).expect("nothing is sent");
        told(udp().into(), InvalidState, "a UDP socket");
        told(connected.into(), InvalidState, "a UDP socket");
        told(listener.into(), InvalidState, "a listening socket");
        let (one, other) = UnixStream::pair().expect("the system has them");
        told(one.into(), InvalidState, "a Unix-domain socket");
        told(other.into(), InvalidState, "a Unix-domain socket");
        let datagrams = UnixDatagram::unbound().expect("the system has them");
        told(datagrams.into(), InvalidState, "a Unix-domain socket");
        let (reads, writes) = rustix::pipe::pipe().expect("the system has them");
        told(reads, InvalidState, "not a socket");
        told(writes, InvalidState, "not a socket");
        let file = File::open("/dev/null").expect("it is there");
        told(file.into(), InvalidState, "not a socket");
        for domain in [Domain::IPV4, Domain::IPV6] {
            let socket = socket2::Socket::new(domain, Type::STREAM, None).expect("it can be");
            told(socket.into(), Connect, "not connected");
        }
        let bound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("it can be");
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
        told(bound.into(), Connect, "not connected");
        let hole = crate::support::peer::black_hole();
        let connecting = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("it can be");
        connecting.set_nonblocking(true).expect("it can be");
        connecting.connect(&hole.address.into()).expect_err("nobody answers");
        told(connecting.into(), Connect, "still connecting");
    });
}

/// Waits until the system has taken notice of the end.
#[cfg(target_os = "linux")]
#[track_caller]
fn await_end(stream: &TcpStream) {
    let text = "the connection is over";
    crate::support::eventually(crate::support::PATIENCE, text, || stream.peer_addr().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_stream_that_was_reset_before_is_read_out_and_then_reset() {
    story(|| {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).expect("the system has a port");
            let stream = stream_to(listener.local_addr().expect("it has one"));
            let (mut theirs, _) = listener.accept().expect("it has come");
            theirs.write_all(b"last words").expect("there is room");
            let gone = std::time::Duration::ZERO;
            socket2::SockRef::from(&theirs).set_linger(Some(gone)).expect("it can");
            drop(theirs);
            await_end(&stream);
            let socket = Connector::global()
                .adopt(stream, SocketOptions::new())
                .expect("there is something to read");
            let info = socket.opened().expect("it was connected before");
            assert_eq!(info.remote_address(), None);
            assert_eq!(info.requested().port(), 0);
            assert_eq!(read_exactly(&socket, 10).expect("it is there"), b"last words");
            fails(read(&socket, 1), ErrorKind::Reset);
            fails(socket.closed_timeout(AT_ONCE), ErrorKind::Reset);
        }
    });
}

/// The loop finds it so, if nobody reads before.
#[cfg(target_os = "linux")]
#[test]
fn nobody_has_to_read_for_the_reset_of_an_adopted_stream_and_all_can_be_read_after_it() {
    story(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a port");
        let stream = stream_to(listener.local_addr().expect("it has one"));
        let (mut theirs, _) = listener.accept().expect("it has come");
        theirs.write_all(&[7; 100_000]).expect("there is room");
        socket2::SockRef::from(&theirs)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("it can");
        crate::support::eventually(crate::support::PATIENCE, "all has come", || {
            stream.peek(&mut [0; 100_000]).is_ok_and(|count| count == 100_000)
        });
        drop(theirs);
        await_end(&stream);
        let socket = Socket::try_from(stream).expect("there is something to read");
        fails(socket.closed_timeout(crate::support::PATIENCE), ErrorKind::Reset);
        assert_eq!(read_exactly(&socket, 100_000).expect("it is there"), [7; 100_000]);
        fails(read(&socket, 1), ErrorKind::Reset);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_stream_that_had_ended_before_is_read_out_and_ends() {
    story(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a port");
        let pair = || {
            let stream = stream_to(listener.local_addr().expect("it has one"));
            (stream, listener.accept().expect("it has come").0)
        };
        let (stream, mut theirs) = pair();
        stream.shutdown(Shutdown::Write).expect("it is connected");
        theirs.write_all(b"last words").expect("there is room");
        drop(theirs);
        await_end(&stream);
        let socket = Socket::try_from(stream).expect("there is something to read");
        assert_eq!(read_to_end(&socket).expect("it is there"), b"last words");

        let (stream, theirs) = pair();
        stream.shutdown(Shutdown::Write).expect("it is connected");
        drop(theirs);
        await_end(&stream);
        let error = Socket::try_from(stream).expect_err("nothing is left of it");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("has ended"), "{error}");
    });
}

// ------------------------------------------------------------------------------------------------ given

#[cfg(unix)]
#[test]
fn a_detached_connection_goes_on_with_all_that_is_unread() {
    story(|| {
        let peer = Peer::plays(|peer| {
            peer.send(b"one, two");
            peer.read_to_end();
            peer.send(b", three");
        });
        let connector = Connector::builder().build().expect("the rules are fine");
        let socket = connector.connect(peer.address()).expect("the address is fine");
        (&socket).write_all(b"a").expect("the peer reads");
        assert_eq!(read_exactly(&socket, 3).expect("the peer sends"), b"one");
        let mut stream = socket.detach().expect("nothing is in the way");

        assert_eq!(socket.phase(), Phase::Closed);
        assert!(!socket.upgraded());
        socket.closed().expect("it has not failed");
        fails(read(&socket, 1), ErrorKind::Upgraded);
        fails((&socket).write(b"x"), ErrorKind::Upgraded);
        fails(socket.detach(), ErrorKind::Upgraded);
        let told = read(socket.reader(), 1).expect_err("another has it").to_string();
        assert!(told.contains("detached"), "{told}");
        assert_eq!(connector.open_sockets(), 0);
        drop(socket);

        assert_eq!(stream.read_timeout().expect("it is a socket"), None);
        stream.write_all(b"b").expect("the peer reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(read_to_end(&stream).expect("the peer ends"), b", two, three");
        peer.gets(b"ab");
    });
}

/// As a brisk dialogue leaves it, in which receives themselves wait, but not for long.
#[cfg(unix)]
#[test]
fn a_detached_stream_waits_for_as_long_as_it_takes() {
    story(|| {
        let peer = Peer::plays(|peer| {
            for _ in 0..100 {
                peer.receive(1);
                peer.send(b"x");
            }
            peer.await_cue();
            peer.send(b"late");
        });
        let socket = open(&peer);
        for _ in 0..100 {
            (&socket).write_all(b"y").expect("the peer reads");
            read_exactly(&socket, 1).expect("the peer answers");
        }
        let stream = socket.detach().expect("nothing is in the way");
        let reading = crate::support::blocked(move || read(&stream, 10));
        peer.cue();
        assert_eq!(reading.join().expect("the peer sends"), b"late");
    });
}

#[cfg(unix)]
#[test]
fn what_cannot_be_detached_stays_as_it_is() {
    use crate::support::blocked;
    use crate::support::peer::black_hole;

    story(|| {
        let hole = black_hole();
        let connecting = sockeye::connect(hole.address).expect("the address is fine");
        fails(connecting.detach(), ErrorKind::InvalidState);

        let peer = Peer::plays(|peer| {
            peer.await_cue();
            peer.send(b"answer");
            peer.read_to_end();
        });
        let socket = open(&peer);
        let reader = socket.reader();
        let reading = blocked(move || read(reader, 10));
        fails(socket.detach(), ErrorKind::InvalidState);
        peer.cue();
        assert_eq!(reading.join().expect("the peer sends"), b"answer");
        socket.writer().close().expect("nothing is in the way");
        fails(socket.detach(), ErrorKind::InvalidState);
        peer.gets(b"");

        let peer = TlsPeer::echoes(&terms());
        let secure = crate::support::tls::open(&peer, options(authority()));
        assert_eq!(secure.secure_transport(), SecureTransport::On);
        fails(secure.detach(), ErrorKind::InvalidState);
        (&secure).write_all(b"still").expect("it is as it was");
        assert_eq!(read_exactly(&secure, 5).expect("the peer echoes"), b"still");
        secure.close().expect("the peer reads");

        let peer = Peer::resets();
        let socket = open(&peer);
        peer.cue();
        fails(socket.closed(), ErrorKind::Reset);
        fails(socket.detach(), ErrorKind::Reset);
    });
}
