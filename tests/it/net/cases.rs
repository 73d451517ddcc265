//! The cases of `library/std/src/net/tcp/tests.rs` in other words, without those of unstable methods: `read_buf` and
//! `linger`. `super::net` is the module under test.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::NODELAY;
use super::net::{Shutdown, TcpListener, TcpStream};
use crate::support::{ms, spawn_blocked, spawn_call, with_watchdog};

const BOTH: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// Runs a case over IPv4 and over IPv6, with a listener and its address.
fn over_both(case: fn(TcpListener, SocketAddr)) {
    with_watchdog(move || {
        for address in BOTH {
            let listener = TcpListener::bind(address).expect("a port is free");
            let bound = listener.local_addr().expect("it listens");
            case(listener, bound);
        }
    });
}

/// Returns both ends of a connection.
fn pair(listener: &TcpListener, address: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(address).expect("it listens");
    let (server, _) = listener.accept().expect("one has come");
    (client, server)
}

// -------------------------------------------------------------------- binding and connecting

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    let error = TcpListener::bind("203.0.113.7:9999").expect_err("it is not local");
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_port_is_bound_once() {
    over_both(|first, address| {
        let error = TcpListener::bind(address).expect_err("it is in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(first);
        TcpListener::bind(address).expect("it is free again");
    });
}

#[test]
fn a_port_without_a_listener_refuses() {
    with_watchdog(|| {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = gone.local_addr().expect("it listens");
        drop(gone);
        let error = TcpStream::connect(address).expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = TcpStream::connect("0.0.0.0:1").expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_limit_that_no_clock_can_represent_is_none() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        for limit in [Duration::MAX, Duration::from_secs(2)] {
            TcpStream::connect_timeout(&address, limit).expect("it listens");
        }
        drop(listener);
        let error = TcpStream::connect_timeout(&address, Duration::MAX).expect_err("it is gone");
        assert_ne!(error.kind(), ErrorKind::TimedOut);
        let error = TcpStream::connect_timeout(&address, Duration::ZERO).expect_err("no time");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_name_and_a_numeric_host_connect() {
    with_watchdog(|| {
        for (bound, hosts) in [(BOTH[0], ["localhost", "127.0.0.1"]), (BOTH[1], ["::1", "::1"])] {
            let listener = TcpListener::bind(bound).expect("a port is free");
            let port = listener.local_addr().expect("it listens").port();
            for host in hosts {
                let client = thread::spawn(move || {
                    let mut client = TcpStream::connect((host, port)).expect("it listens");
                    client.write_all(&[144]).expect("it is open");
                });
                let (mut server, _) = listener.accept().expect("one comes");
                let mut byte = [0];
                server.read_exact(&mut byte).expect("one byte comes");
                assert_eq!(byte, [144]);
                client.join().expect("it has not panicked");
            }
        }
    });
}

#[test]
fn both_ends_know_both_addresses() {
    over_both(|listener, address| {
        let client = TcpStream::connect(address).expect("it listens");
        let (server, from) = listener.accept().expect("one has come");
        assert_eq!(client.peer_addr().expect("it is open"), address);
        assert_eq!(client.local_addr().expect("it is open"), from);
        assert_eq!(server.peer_addr().expect("it is open"), from);
        assert_eq!(server.local_addr().expect("it is open"), address);
    });
}

#[test]
fn many_connect_one_after_another() {
    over_both(|listener, address| {
        const MANY: usize = 10;
        let clients = thread::spawn(move || {
            for _ in 0..MANY {
                let mut client = TcpStream::connect(address).expect("it listens");
                client.write_all(&[99]).expect("it is open");
            }
        });
        for stream in listener.incoming().take(MANY) {
            let mut byte = [0];
            stream.expect("one comes").read_exact(&mut byte).expect("one byte comes");
            assert_eq!(byte, [99]);
        }
        clients.join().expect("it has not panicked");
    });
}

/// Each client connects before the one before it writes.
#[test]
fn many_connect_inside_each_other() {
    fn connect(number: u8, address: SocketAddr) {
        if number < 10 {
            let mut client = TcpStream::connect(address).expect("it listens");
            connect(number + 1, address);
            client.write_all(&[number]).expect("it is open");
        }
    }
    over_both(|listener, address| {
        let server = thread::spawn(move || {
            let handlers: Vec<_> = (0..10)
                .zip(listener.incoming())
                .map(|(number, stream)| {
                    thread::spawn(move || {
                        let mut byte = [0];
                        stream.expect("one comes").read_exact(&mut byte).expect("one byte comes");
                        assert_eq!(byte, [number]);
                    })
                })
                .collect();
            handlers.into_iter().for_each(|handler| handler.join().expect("it has not panicked"));
        });
        connect(0, address);
        server.join().expect("it has not panicked");
    });
}

// -------------------------------------------------------------------- reading and writing

#[test]
fn a_read_returns_what_is_there_and_then_eof_again_and_again() {
    over_both(|listener, address| {
        let (mut client, mut server) = pair(&listener, address);
        server.write_all(&[10]).expect("it is open");
        let mut buf = [0; 10];
        assert_eq!(client.read(&mut buf).expect("it is open"), 1);
        client.write_all(&[1]).expect("it is open");
        assert_eq!(server.read(&mut buf).expect("it is open"), 1);
        drop(server);
        for _ in 0..3 {
            assert_eq!(client.read(&mut buf).expect("a clean end"), 0);
        }
    });
}

#[test]
fn a_write_after_the_peers_end_is_accepted_or_fails_as_broken() {
    over_both(|listener, address| {
        let (client, mut server) = pair(&listener, address);
        drop(client);
        assert_eq!(server.read(&mut [0]).expect("a clean end"), 0);
        server.write_all(&[0]).expect("half-open: the first goes out");
        let begun = Instant::now();
        let error = loop {
            match server.write_all(&[0]) {
                Ok(()) => assert!(begun.elapsed() < Duration::from_secs(5), "the peer is gone"),
                Err(error) => break error,
            }
        };
        let kinds =
            [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
        assert!(kinds.contains(&error.kind()), "{error}");
    });
}

#[test]
fn reads_and_writes_take_several_buffers() {
    over_both(|listener, address| {
        let (mut client, mut server) = pair(&listener, address);
        let parts: [&[u8]; 3] = [&[], &[10], &[11, 12]];
        let sent = client.write_vectored(&parts.map(IoSlice::new)).expect("it is open");
        assert_eq!(sent, 3);
        let (mut first, mut second, mut third) = ([], [0], [0; 3]);
        let mut bufs = [&mut first[..], &mut second, &mut third].map(IoSliceMut::new);
        assert_eq!(server.read_vectored(&mut bufs).expect("it is open"), 3);
        assert_eq!((second, third), ([10], [11, 12, 0]));
    });
}

#[test]
fn a_peek_takes_nothing() {
    over_both(|listener, address| {
        let (client, mut server) = pair(&listener, address);
        server.write_all(&[1, 3, 3, 7]).expect("it is open");
        let mut buf = [0; 10];
        for _ in 0..3 {
            assert_eq!(client.peek(&mut buf).expect("it is open"), 4);
            assert_eq!(buf[..4], [1, 3, 3, 7]);
        }
        assert_eq!((&client).read(&mut buf).expect("it is open"), 4);
        client.set_nonblocking(true).expect("every stream can");
        let error = client.peek(&mut buf).expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        server.write_all(&[9]).expect("it is open");
        while client.peek(&mut buf).is_err() {}
        assert_eq!((&client).read(&mut buf).expect("it is there"), 1);
        drop(server);
        client.set_nonblocking(false).expect("every stream can");
        assert_eq!(client.peek(&mut buf).expect("a clean end"), 0);
    });
}

// -------------------------------------------------------------------- shutting down

#[test]
fn after_its_write_side_a_stream_still_reads() {
    over_both(|listener, address| {
        let (mut client, mut server) = pair(&listener, address);
        client.shutdown(Shutdown::Write).expect("it is open");
        let error = client.write(&[1]).expect_err("the side is closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(server.read(&mut [0]).expect("a clean end"), 0);
        server.write_all(&[1]).expect("half-open");
        let mut buf = [0, 0];
        assert_eq!(client.read(&mut buf).expect("it is open"), 1);
        assert_eq!(buf[0], 1);
    });
}

#[test]
fn a_shutdown_holds_for_every_clone() {
    over_both(|listener, address| {
        let (client, _server) = pair(&listener, address);
        let before = client.try_clone().expect("a descriptor is free");
        client.shutdown(Shutdown::Write).expect("it is open");
        client.shutdown(Shutdown::Read).expect("it is open");
        let after = client.try_clone().expect("a descriptor is free");
        for mut clone in [&client, &before, &after] {
            clone.write(&[0]).expect_err("the side is closed");
            assert_eq!(clone.read(&mut [0]).expect("the side has ended"), 0);
        }
        // The result depends on the system.
        let _ = before.shutdown(Shutdown::Read);
        let _ = after.shutdown(Shutdown::Both);
    });
}

/// On Windows a shutdown ends no read of `std`.
#[cfg(unix)]
#[test]
fn a_shutdown_of_the_read_side_ends_a_blocked_read() {
    over_both(|listener, address| {
        let (client, _server) = pair(&listener, address);
        let mut reading = client.try_clone().expect("a descriptor is free");
        let blocked = spawn_blocked(move || reading.read(&mut [0]));
        client.shutdown(Shutdown::Read).expect("it is open");
        assert_eq!(blocked.join().expect("the side has ended"), 0);
    });
}

// -------------------------------------------------------------------- clones

#[test]
fn clones_read_and_write_at_once() {
    over_both(|listener, address| {
        let (mut client, mut server) = pair(&listener, address);
        let mut writing = server.try_clone().expect("a descriptor is free");
        let reader = spawn_blocked(move || {
            let mut buf = [0, 0];
            (server.read(&mut buf).expect("it is open"), buf[0])
        });
        writing.write_all(&[1]).expect("a read does not hold it up");
        let mut buf = [0, 0];
        assert_eq!(client.read(&mut buf).expect("it is open"), 1);
        client.write_all(&[2]).expect("it is open");
        assert_eq!(reader.join(), (1, 2));
    });
}

#[test]
fn two_clones_read_one_byte_each() {
    over_both(|listener, address| {
        let (mut client, server) = pair(&listener, address);
        let (tell, read) = channel();
        let readers =
            [server.try_clone().expect("a descriptor is free"), server].map(|mut clone| {
                let tell = tell.clone();
                spawn_call(move || {
                    clone.read_exact(&mut [0]).expect("it is open");
                    tell.send(()).expect("the test waits");
                })
            });
        for _ in 0..2 {
            client.write_all(&[1]).expect("it is open");
            read.recv().expect("one of them reads");
        }
        readers.into_iter().for_each(|reader| reader.join());
    });
}

#[test]
fn two_clones_write() {
    over_both(|listener, address| {
        let (mut client, server) = pair(&listener, address);
        let writers = [server.try_clone().expect("a descriptor is free"), server]
            .map(|mut clone| spawn_call(move || clone.write_all(&[1]).expect("it is open")));
        writers.into_iter().for_each(|writer| writer.join());
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("a clean end");
        assert_eq!(all, [1, 1]);
    });
}

#[test]
fn a_stream_can_be_cloned_during_a_read() {
    over_both(|listener, address| {
        let (mut client, server) = pair(&listener, address);
        let mut reading = server.try_clone().expect("a descriptor is free");
        let reader = spawn_blocked(move || reading.read(&mut [0]));
        let another = server.try_clone().expect("a descriptor is free");
        drop(server);
        client.write_all(&[0]).expect("it is open");
        assert_eq!(reader.join().expect("it is open"), 1);
        drop(another);
    });
}

#[test]
fn clones_of_a_listener_accept() {
    over_both(|listener, address| {
        let clone = listener.try_clone().expect("a descriptor is free");
        let accepting = [listener, clone].map(|listener| spawn_call(move || listener.accept()));
        let _clients = [(); 2].map(|()| TcpStream::connect(address).expect("it listens"));
        for accept in accepting {
            accept.join().expect("one has come");
        }
    });
}

// -------------------------------------------------------------------- settings

#[test]
fn timeouts_are_none_at_first_and_can_be_read_back() {
    over_both(|listener, address| {
        let (client, _server) = pair(&listener, address);
        let limit = Duration::from_secs(15_410);
        assert_eq!(client.read_timeout().expect("it is open"), None);
        assert_eq!(client.write_timeout().expect("it is open"), None);
        for limit in [Some(limit), None] {
            client.set_read_timeout(limit).expect("it is valid");
            client.set_write_timeout(limit).expect("it is valid");
            assert_eq!(client.read_timeout().expect("it is open"), limit);
            assert_eq!(client.write_timeout().expect("it is open"), limit);
        }
        let zero = Some(Duration::ZERO);
        let error = client.set_read_timeout(zero).expect_err("no read could succeed");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = client.set_write_timeout(zero).expect_err("no write could succeed");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_read_times_out_and_the_stream_lives_on() {
    over_both(|listener, address| {
        let (mut client, mut server) = pair(&listener, address);
        client.set_read_timeout(Some(ms(300))).expect("it is valid");
        let kind = if cfg!(unix) { ErrorKind::WouldBlock } else { ErrorKind::TimedOut };
        let mut buf = [0; 11];
        let begun = Instant::now();
        let error = client.read_exact(&mut buf).expect_err("nothing comes");
        assert_eq!(error.kind(), kind);
        assert!(begun.elapsed() > ms(200));
        server.write_all(b"hello world").expect("it is open");
        client.read_exact(&mut buf).expect("it is there");
        assert_eq!(&buf, b"hello world");
        let error = client.peek(&mut buf).expect_err("nothing comes");
        assert_eq!(error.kind(), kind);
    });
}

#[test]
fn a_write_times_out() {
    over_both(|listener, address| {
        let (mut client, _server) = pair(&listener, address);
        client.set_write_timeout(Some(ms(300))).expect("it is valid");
        let kind = if cfg!(unix) { ErrorKind::WouldBlock } else { ErrorKind::TimedOut };
        let error = client.write_all(&vec![0; 64_000_000]).expect_err("no peer reads");
        assert_eq!(error.kind(), kind);
    });
}

#[test]
fn nodelay_can_be_changed() {
    over_both(|listener, address| {
        let (client, _server) = pair(&listener, address);
        assert_eq!(client.nodelay().expect("it is open"), NODELAY);
        for on in [true, false, true] {
            client.set_nodelay(on).expect("it is open");
            assert_eq!(client.nodelay().expect("it is open"), on);
        }
    });
}

#[test]
fn the_time_to_live_can_be_changed() {
    with_watchdog(|| {
        let listener = TcpListener::bind(BOTH[0]).expect("a port is free");
        listener.set_ttl(100).expect("it is valid");
        assert_eq!(listener.ttl().expect("it listens"), 100);
        let (client, _server) = pair(&listener, listener.local_addr().expect("it listens"));
        client.set_ttl(101).expect("it is valid");
        assert_eq!(client.ttl().expect("it is open"), 101);
    });
}

#[test]
fn non_blocking_calls_would_block() {
    over_both(|listener, address| {
        listener.set_nonblocking(true).expect("every listener can");
        let error = listener.accept().expect_err("no client connects");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error =
            listener.incoming().next().expect("it is open").expect_err("no client connects");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        listener.set_nonblocking(false).expect("every listener can");

        let (client, mut server) = pair(&listener, address);
        client.set_nonblocking(true).expect("every stream can");
        let mut clone = client.try_clone().expect("a descriptor is free");
        let error = clone.read(&mut [0]).expect_err("nothing is there");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = loop {
            if let Err(error) = clone.write(&[0; 100_000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        client.set_nonblocking(false).expect("every stream can");
        server.write_all(&[7]).expect("it is open");
        let mut byte = [0];
        clone.read_exact(&mut byte).expect("it waits again");
        assert_eq!(byte, [7]);
    });
}

#[test]
fn a_stream_without_a_failure_has_none_to_take() {
    over_both(|listener, address| {
        let (client, server) = pair(&listener, address);
        assert!(client.take_error().expect("it is open").is_none());
        assert!(listener.take_error().expect("it listens").is_none());
        drop(server);
        assert!(client.take_error().expect("it is open").is_none());
    });
}

#[cfg(unix)]
#[test]
fn debug_shows_addresses_and_the_descriptor() {
    use std::os::fd::AsRawFd;

    over_both(|listener, address| {
        let fd = listener.as_raw_fd();
        let expected = format!("TcpListener {{ addr: {address:?}, fd: {fd} }}");
        assert_eq!(format!("{listener:?}"), expected);
        let (client, _server) = pair(&listener, address);
        let (local, fd) = (client.local_addr().expect("it is open"), client.as_raw_fd());
        let expected = format!("TcpStream {{ addr: {local:?}, peer: {address:?}, fd: {fd} }}");
        assert_eq!(format!("{client:?}"), expected);
    });
}
