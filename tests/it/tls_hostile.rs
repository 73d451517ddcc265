//! TLS connections under attack: peers that stall, break off or corrupt data, and callers that race.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use sockeye::{
    ErrorKind, SecureTransport, Socket, SocketOptions, TcpOptions, TlsOptions, connect_with,
};

use crate::support::net::{self, TcpListener};
use crate::support::subprocess::in_subprocess;
use crate::support::tls::provider;
use crate::support::{
    SpawnedCall, WATCHDOG, crate_kind, eventually, ms, spawn_blocked, spawn_call, timed,
    with_limit, with_watchdog,
};

struct Site {
    pem: String,
    config: Arc<ServerConfig>,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Site { pem: certificate.pem(), config: Arc::new(config) }
    })
}

fn tls() -> TlsOptions {
    provider();
    TlsOptions::new().server_name("localhost").add_root_pem(&site().pem).unwrap().only_added_roots()
}

fn options(mode: SecureTransport) -> SocketOptions {
    SocketOptions::new()
        .secure_transport(mode)
        .tls(tls())
        .tcp(TcpOptions::new().send_buffer_size(8 * 1024))
}

type Stream = rustls::StreamOwned<ServerConnection, TcpStream>;

/// Starts a server for one connection, with a small receive buffer.
fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, SpawnedCall<T>) {
    let listener = net::listen_on((Ipv4Addr::LOCALHOST, 0).into(), 128, Some(4096)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = spawn_call(move || {
        let (stream, _) = listener.accept().unwrap();
        script(stream)
    });
    (address, thread)
}

fn secured(stream: TcpStream) -> Stream {
    let mut connection = ServerConnection::new(Arc::clone(&site().config)).unwrap();
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    while connection.wants_write() {
        connection.write_tls(&mut stream).unwrap();
    }
    Stream::new(connection, stream)
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn fill(socket: &Socket) -> usize {
    socket.set_write_timeout(Some(ms(100))).unwrap();
    let mut all = 0;
    loop {
        match socket.writer().write(&[7; 10_000]) {
            Ok(bytes) => all += bytes,
            Err(error) => {
                assert_eq!(crate_kind(&error), ErrorKind::TimedOut);
                socket.set_write_timeout(None).unwrap();
                return all;
            }
        }
    }
}

fn cpu_of_the_loop() -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("sockeye") && !name.contains("name") {
            let stat = std::fs::read_to_string(path.join("schedstat")).unwrap();
            let nanos: u64 = stat.split(' ').next().unwrap().parse().unwrap();
            return Duration::from_nanos(nanos);
        }
    }
    Duration::ZERO
}

fn cpu_of_all() -> Duration {
    let mut all = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        all += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(all)
}

// ------------------------------------------------------------- writes that fail

#[test]
fn a_write_to_a_reset_connection_with_unread_data_ends() {
    with_watchdog(|| {
        let (address, peer) = serve(|stream| {
            let mut stream = secured(stream);
            stream.write_all(&[1; 100]).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            reset(stream.sock);
        });
        let socket = connect_with(address, options(SecureTransport::On)).unwrap();
        socket.reader().read_exact(&mut [0; 10]).unwrap();
        socket.writer().write_all(&[1]).unwrap();
        peer.join();
        let error = with_limit(Duration::from_secs(5), move || {
            loop {
                if let Err(error) = socket.writer().write(&[1; 100]) {
                    return error;
                }
            }
        });
        assert_eq!(crate_kind(&error), ErrorKind::Reset);
    });
}

#[test]
fn unsent_data_of_one_connection_is_never_sent_on_another() {
    with_watchdog(|| {
        let (go, wait) = std::sync::mpsc::channel();
        let (stuck, other) = serve(move |stream| {
            let mut stream = secured(stream);
            wait.recv().unwrap();
            stream.read_exact(&mut [0; 30_000]).unwrap();
            wait.recv().unwrap();
            let mut rest = Vec::new();
            let end = stream.read_to_end(&mut rest);
            end.map(|_| rest.len() + 30_000).map_err(|error| error.to_string())
        });
        let other_socket = connect_with(stuck, options(SecureTransport::On)).unwrap();
        other_socket.opened().unwrap();
        let mut accepted = fill(&other_socket);
        // From now on the wire is writable and data is queued.
        go.send(()).unwrap();
        std::thread::sleep(ms(1500));

        let (address, peer) = serve(|stream| {
            let mut stream = secured(stream);
            stream.read_exact(&mut [0]).unwrap();
            reset(stream.sock);
        });
        let socket = connect_with(address, options(SecureTransport::On)).unwrap();
        socket.writer().write_all(&[1]).unwrap();
        peer.join();
        // The same thread writes to the broken connection, and then to the other one.
        while socket.writer().write(&[2; 3000]).is_ok() {}
        accepted += other_socket.writer().write(&[3; 500]).unwrap();
        go.send(()).unwrap();
        other_socket.close().unwrap();
        assert_eq!(other.join(), Ok(accepted));
    });
}

// ------------------------------------------------------------- writes that are blocked

#[test]
fn close_abort_and_deadlines_end_a_blocked_write() {
    for how in 0..4 {
        with_watchdog(move || {
            let (address, peer) = serve(|stream| {
                let stream = secured(stream);
                std::thread::sleep(ms(1200));
                drop(stream);
            });
            let mut options = options(SecureTransport::On);
            options = options.close_timeout(ms(300));
            let socket = connect_with(address, options).unwrap();
            socket.opened().unwrap();
            fill(&socket);
            let writer = socket.writer();
            let write = spawn_blocked(move || (&writer).write(&[1; 10]));
            let reader = socket.reader();
            let read = spawn_blocked(move || (&reader).read(&mut [0; 10]));
            let expected = match how {
                0 => {
                    let (result, took) = timed(|| socket.close());
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
                    assert!(took < ms(600), "{took:?}");
                    ErrorKind::Closed
                }
                1 => {
                    socket.abort();
                    ErrorKind::Closed
                }
                2 => {
                    socket.set_write_deadline(Some(Instant::now()));
                    ErrorKind::TimedOut
                }
                _ => {
                    socket.writer().abort();
                    ErrorKind::Closed
                }
            };
            let error = write.join_within(ms(1000)).unwrap_err();
            let kind = crate_kind(&error);
            assert!(kind == expected || kind == ErrorKind::TimedOut, "{how} {error}");
            if how != 2 {
                let error = read.join_within(ms(1000)).unwrap_err();
                assert_eq!(crate_kind(&error), ErrorKind::Closed);
            } else {
                socket.abort();
            }
            drop(peer);
        });
    }
}

#[test]
fn a_flush_ends_when_a_slow_peer_has_read_and_costs_little() {
    in_subprocess(
        "tls_hostile::a_flush_ends_when_a_slow_peer_has_read_and_costs_little",
        2 * WATCHDOG,
        || {
            let (address, peer) = serve(|stream| {
                SockRef::from(&stream).set_recv_buffer_size(100_000).unwrap();
                let mut stream = secured(stream);
                let mut all = 0;
                let mut buf = [0; 2000];
                loop {
                    match stream.read(&mut buf) {
                        Ok(0) => return all,
                        Ok(bytes) => all += bytes,
                        Err(error) => panic!("{error}"),
                    }
                    std::thread::sleep(ms(5));
                }
            });
            let socket = connect_with(address, options(SecureTransport::On)).unwrap();
            socket.opened().unwrap();
            let before = cpu_of_the_loop();
            let mut written = fill(&socket);
            socket.writer().flush().unwrap();
            for _ in 0..10 {
                socket.writer().write_all(&[1; 20_000]).unwrap();
                written += 20_000;
            }
            socket.writer().flush().unwrap();
            let (result, took) = timed(|| socket.close());
            result.unwrap();
            let spent = cpu_of_the_loop() - before;
            eprintln!("flush with a slow peer: loop {spent:?}; close {took:?}");
            assert_eq!(peer.join(), written);
            assert!(spent < ms(400), "{spent:?}");
        },
    );
}

#[test]
fn dropping_the_last_handle_still_delivers_unsent_data_to_a_slow_peer() {
    with_watchdog(|| {
        for slow in [0, 3] {
            let (address, peer) = serve(move |stream| {
                let mut stream = secured(stream);
                let mut all = 0;
                let mut buf = [0; 3000];
                std::thread::sleep(ms(100));
                loop {
                    match stream.read(&mut buf) {
                        Ok(0) => return all,
                        Ok(bytes) => all += bytes,
                        Err(error) => panic!("{error} after {all}"),
                    }
                    std::thread::sleep(ms(slow));
                }
            });
            let socket = connect_with(address, options(SecureTransport::On)).unwrap();
            let mut written = 0;
            socket.opened().unwrap();
            while written < 60_000 {
                written += socket.writer().write(&[1; 20_000]).unwrap();
            }
            drop(socket);
            assert_eq!(peer.join(), written);
        }
    });
}

#[test]
fn a_stalled_peer_costs_the_loop_nothing() {
    in_subprocess("tls_hostile::a_stalled_peer_costs_the_loop_nothing", 2 * WATCHDOG, || {
        let (address, peer) = serve(|stream| {
            let stream = secured(stream);
            std::thread::sleep(ms(1500));
            drop(stream);
        });
        let socket = connect_with(address, options(SecureTransport::On)).unwrap();
        socket.opened().unwrap();
        fill(&socket);
        let writer = socket.writer();
        let flush = spawn_blocked(move || (&writer).flush());
        let before = cpu_of_all();
        std::thread::sleep(ms(800));
        let spent = cpu_of_all() - before;
        eprintln!("stalled: {spent:?}");
        socket.abort();
        let _ = flush.join();
        drop(peer);
    });
}

#[test]
fn every_blocked_call_reports_a_reset() {
    with_watchdog(|| {
        for _ in 0..10 {
            let (address, peer) = serve(|stream| {
                let stream = secured(stream);
                std::thread::sleep(ms(200));
                reset(stream.sock);
            });
            let socket = connect_with(address, options(SecureTransport::On)).unwrap();
            socket.opened().unwrap();
            let (one, two, three) = (socket.clone(), socket.clone(), socket.clone());
            let read = spawn_call(move || one.reader().read(&mut [0; 100]));
            let write = spawn_call(move || {
                loop {
                    if let Err(error) = two.writer().write(&[0; 10_000]) {
                        return error;
                    }
                }
            });
            let closed = spawn_call(move || three.closed());
            peer.join();
            assert_eq!(crate_kind(&read.join_within(ms(2000)).unwrap_err()), ErrorKind::Reset);
            assert_eq!(crate_kind(&write.join_within(ms(2000))), ErrorKind::Reset);
            assert_eq!(closed.join_within(ms(2000)).unwrap_err().kind(), ErrorKind::Reset);
            with_limit(ms(2000), move || socket.writer().flush()).unwrap_err();
        }
    });
}

#[test]
fn a_peer_that_closes_right_after_its_close_notify_has_ended_cleanly() {
    with_watchdog(|| {
        for quiet in [0, 250] {
            for round in 0..if quiet == 0 { 150 } else { 20 } {
                let (address, peer) = serve(move |stream| {
                    let mut stream = secured(stream);
                    stream.read_exact(&mut [0]).unwrap();
                    std::thread::sleep(ms(quiet));
                    stream.write_all(b"bye").unwrap();
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                });
                let socket = connect_with(address, options(SecureTransport::On)).unwrap();
                socket.writer().write_all(&[1]).unwrap();
                peer.join();
                std::thread::sleep(ms(if round % 2 == 0 { quiet / 10 } else { 0 }));
                let mut got = Vec::new();
                let result = socket.reader().read_to_end(&mut got);
                assert!(result.is_ok(), "{quiet} {round}: {result:?} after {got:?}");
                assert_eq!(got, b"bye");
                socket.closed().unwrap();
            }
        }
    });
}

#[test]
fn a_half_close_blocked_by_a_stalled_peer_times_out_and_can_be_repeated() {
    with_watchdog(|| {
        let (go, wait) = std::sync::mpsc::channel();
        let (address, peer) = serve(move |stream| {
            let mut stream = secured(stream);
            wait.recv().unwrap();
            SockRef::from(&stream.sock).set_recv_buffer_size(100_000).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(b"later").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            all.len()
        });
        let socket = connect_with(address, options(SecureTransport::On)).unwrap();
        socket.opened().unwrap();
        let written = fill(&socket);
        socket.set_write_timeout(Some(ms(100))).unwrap();
        assert_eq!(socket.writer().close().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(socket.writer().flush().map_err(|e| crate_kind(&e)), Err(ErrorKind::TimedOut));
        go.send(()).unwrap();
        socket.set_write_timeout(None).unwrap();
        socket.writer().close().unwrap();
        let mut got = Vec::new();
        socket.reader().read_to_end(&mut got).unwrap();
        assert_eq!(got, b"later");
        socket.closed().unwrap();
        assert_eq!(peer.join(), written);
    });
}

#[test]
fn bytes_just_before_an_upgrade_end_a_blocking_read_with_the_same_error() {
    with_watchdog(|| {
        for round in 0..40 {
            let (address, peer) = serve(move |mut stream: TcpStream| {
                // After this many pings the client's reads block in the kernel.
                for _ in 0..30 {
                    stream.read_exact(&mut [0]).unwrap();
                    stream.write_all(&[1]).unwrap();
                }
                std::thread::sleep(Duration::from_micros(round * 100));
                let _ = stream.write_all(b"injected");
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                rest
            });
            let socket = connect_with(address, options(SecureTransport::StartTls)).unwrap();
            for _ in 0..30 {
                socket.writer().write_all(&[1]).unwrap();
                socket.reader().read_exact(&mut [0]).unwrap();
            }
            let reader = socket.reader();
            let read =
                spawn_call(move || (&reader).read(&mut [0; 100]).map_err(|e| crate_kind(&e)));
            std::thread::sleep(Duration::from_micros(1500));
            let upgraded = with_limit(ms(8000), {
                let socket = socket.clone();
                move || socket.start_tls()
            });
            let read = read.join_within(ms(2000));
            match (&upgraded, read) {
                (Ok(secure), Err(ErrorKind::Upgraded)) => {
                    assert_eq!(secure.opened().unwrap_err().kind(), ErrorKind::Tls);
                }
                // The read took the bytes before the upgrade began, and the handshake gets no answer.
                (Ok(secure), Ok(8)) => secure.abort(),
                (Err(error), Err(ErrorKind::UnreadPlaintext)) => {
                    assert_eq!(error.kind(), ErrorKind::UnreadPlaintext);
                    assert!(!socket.upgraded());
                }
                (upgraded, read) => panic!("{upgraded:?} {read:?}"),
            }
            drop(upgraded);
            socket.abort();
            let rest = peer.join();
            let _ = rest;
        }
    });
}

// ------------------------------------------------------------- volume in both directions

#[test]
fn bulk_data_in_both_directions_arrives_whole() {
    with_watchdog(|| {
        const ALL: usize = 3_000_000;
        let (address, peer) = serve(|stream| {
            let mut stream = secured(stream);
            let mut buf = [0; 5000];
            let mut all = 0;
            while all < ALL {
                let bytes = stream.read(&mut buf).unwrap();
                for (i, byte) in buf[..bytes].iter().enumerate() {
                    assert_eq!(*byte, ((all + i) % 251) as u8);
                }
                stream.write_all(&buf[..bytes]).unwrap();
                all += bytes;
            }
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        });
        let socket =
            connect_with(address, options(SecureTransport::On).tcp(TcpOptions::new())).unwrap();
        let one = socket.clone();
        let write = spawn_call(move || {
            let load: Vec<u8> = (0..ALL).map(|i| (i % 251) as u8).collect();
            let mut at = 0;
            let mut size = 1;
            while at < ALL {
                size = (size * 7 + 13) % 40_000 + 1;
                at += one.writer().write(&load[at..ALL.min(at + size)]).unwrap();
            }
            one.writer().flush().unwrap();
        });
        let mut got = Vec::new();
        socket.reader().read_to_end(&mut got).unwrap();
        write.join();
        assert_eq!(got.len(), ALL);
        assert!(got.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
        socket.closed().unwrap();
        peer.join();
    });
}

// ------------------------------------------------------------- upgrades

#[test]
fn a_half_close_works_after_a_refused_upgrade() {
    with_watchdog(|| {
        let (address, peer) = serve(|mut stream: TcpStream| {
            std::thread::sleep(ms(700));
            let mut all = Vec::new();
            stream.set_read_timeout(Some(ms(3000))).unwrap();
            match stream.read_to_end(&mut all) {
                Ok(_) => Ok(()),
                Err(error) if matches!(error.kind(), IoKind::WouldBlock) => Err("no FIN"),
                Err(_) => Ok(()),
            }
        });
        let socket = connect_with(address, options(SecureTransport::StartTls)).unwrap();
        socket.opened().unwrap();
        fill(&socket);
        fill(&socket);
        let writer = socket.writer();
        let write = spawn_blocked(move || (&writer).write(&[1; 10]));
        let one = socket.clone();
        let upgrade = spawn_blocked(move || one.start_tls().map(drop));
        socket.reader().cancel();
        upgrade.join().unwrap_err();
        let closed = spawn_call({
            let writer = socket.writer();
            move || writer.close()
        });
        write.join().unwrap();
        closed.join().unwrap();
        // The call has reported that the side is closed.
        let late = (&socket.writer()).write(&[1]);
        assert!(late.is_err(), "a write after Writer::close was accepted");
        assert_eq!(peer.join(), Ok(()));
    });
}

#[test]
fn upgrades_race_with_everything() {
    with_watchdog(|| {
        for round in 0..60_u32 {
            let (address, peer) = serve(move |mut stream: TcpStream| {
                let mut buf = [0; 1];
                if stream.peek(&mut buf).unwrap_or(0) == 0 || buf[0] != 22 {
                    let _ = stream.read(&mut [0; 100]);
                    return;
                }
                let mut connection = ServerConnection::new(Arc::clone(&site().config)).unwrap();
                while connection.is_handshaking() {
                    if connection.complete_io(&mut stream).is_err() {
                        return;
                    }
                }
                let mut stream = Stream::new(connection, stream);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let socket = connect_with(address, options(SecureTransport::StartTls)).unwrap();
            socket.opened().unwrap();
            let reader = socket.reader();
            let read = spawn_call(move || (&reader).read(&mut [0; 10]).map_err(|e| crate_kind(&e)));
            if round % 2 == 0 {
                std::thread::sleep(ms(2));
            }
            let one = socket.clone();
            let upgrade = spawn_call(move || one.start_tls());
            let two = socket.clone();
            let other = spawn_call(move || match round % 5 {
                0 => drop(two.close()),
                1 => two.abort(),
                2 => two.reader().cancel(),
                3 => drop(two.start_tls()),
                _ => drop((&two.writer()).write(b"x")),
            });
            other.join_within(ms(6000));
            let upgraded = upgrade.join_within(ms(6000));
            if let Ok(secure) = &upgraded {
                let opened = secure.opened();
                if let Err(error) = opened {
                    assert!(round % 5 == 4 || round % 5 == 3, "{round} {error}");
                }
                let _ = secure.close();
                let _ = secure.closed();
            }
            socket.abort();
            let _ = read.join_within(ms(6000));
            let _ = socket.closed();
            drop(peer);
        }
    });
}

// ------------------------------------------------------------- costs

#[test]
fn many_connections_leak_no_descriptors_and_no_memory() {
    in_subprocess(
        "tls_hostile::many_connections_leak_no_descriptors_and_no_memory",
        2 * WATCHDOG,
        || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { return };
                    let mut connection = ServerConnection::new(Arc::clone(&site().config)).unwrap();
                    while connection.is_handshaking() {
                        if connection.complete_io(&mut stream).is_err() {
                            break;
                        }
                    }
                    let mut stream = Stream::new(connection, stream);
                    let mut buf = [0; 5];
                    if stream.read_exact(&mut buf).is_ok() {
                        let _ = stream.write_all(&buf);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                }
            });
            let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let resident = || {
                let text = std::fs::read_to_string("/proc/self/statm").unwrap();
                text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
            };
            let once = |round: usize| {
                let socket = connect_with(
                    address,
                    SocketOptions::new().secure_transport(SecureTransport::On).tls(tls()),
                )
                .unwrap();
                match round % 4 {
                    0 => {
                        socket.writer().write_all(b"hello").unwrap();
                        socket.reader().read_to_end(&mut Vec::new()).unwrap();
                        socket.close().unwrap();
                    }
                    1 => {
                        socket.opened().unwrap();
                        socket.abort();
                    }
                    2 => {
                        socket.writer().write_all(b"hello").unwrap();
                        drop(socket);
                    }
                    _ => drop(socket.close()),
                }
            };
            for round in 0..100 {
                once(round);
            }
            std::thread::sleep(ms(300));
            let (fds, memory) = (descriptors(), resident());
            for round in 0..1200 {
                once(round);
            }
            eventually(Duration::from_secs(12), "the descriptors are closed", || {
                descriptors() <= fds + 4
            });
            let grown = resident().saturating_sub(memory);
            eprintln!("1200 connections: descriptors {fds} -> {}, memory +{grown}", descriptors());
            assert!(grown < 8 << 20, "{grown}");
        },
    );
}

#[test]
fn idle_connections_cost_no_cpu_and_little_memory() {
    in_subprocess(
        "tls_hostile::idle_connections_cost_no_cpu_and_little_memory",
        2 * WATCHDOG,
        || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let (send, held) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    let _ = send.send(secured(stream));
                }
            });
            let mut sockets = Vec::new();
            let mut servers = Vec::new();
            for _ in 0..100 {
                let socket = connect_with(address, options(SecureTransport::On)).unwrap();
                socket.opened().unwrap();
                sockets.push(socket);
                servers.push(held.recv().unwrap());
            }
            std::thread::sleep(ms(500));
            let before = cpu_of_the_loop();
            std::thread::sleep(ms(1000));
            let spent = cpu_of_the_loop() - before;
            eprintln!("100 idle: loop {spent:?} in a second");
            assert!(spent < ms(20), "{spent:?}");
        },
    );
}
