//! Listeners whose accepted sockets are TLS servers.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{
    AcceptWhen, ErrorKind, Identity, ListenOptions, Listener, Phase, SecureTransport,
    ServerTlsOptions, Socket, SocketOptions, TlsOptions, connect_with,
};

use super::{accept, address_of, client_of, local, local_with};
use crate::support::net;
use crate::support::tls::{authority, valid_cert};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, crate_kind, eventually, ms, read, spawn_call, with_limit,
    with_watchdog,
};

fn server_tls() -> ServerTlsOptions {
    let identity = authority().issues(&valid_cert());
    let identity = Identity::from_pem(identity.chain_pem(), identity.key_pem());
    ServerTlsOptions::new(identity.expect("the certificate is valid"))
}

fn securing(mode: SecureTransport) -> ListenOptions {
    let socket = SocketOptions::new().secure_transport(mode).server_tls(server_tls());
    ListenOptions::new().socket(socket)
}

/// Starts a client that trusts the listener.
fn secure_client(address: SocketAddr, mode: SecureTransport) -> Socket {
    let tls = TlsOptions::new().add_root_pem(authority().pem()).unwrap().server_name("localhost");
    connect_with(address, SocketOptions::new().secure_transport(mode).tls(tls)).unwrap()
}

#[track_caller]
fn assert_echoes(mut client: &Socket, mut socket: &Socket) {
    let mut buf = [0; 4];
    client.write_all(b"ping").unwrap();
    socket.read_exact(&mut buf).unwrap();
    socket.write_all(&buf).unwrap();
    client.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"ping");
}

#[test]
fn a_tls_listener_serves_tls() {
    with_watchdog(|| {
        for when in [AcceptWhen::Connected, AcceptWhen::Opened] {
            let listener = local_with(securing(SecureTransport::On).accept_when(when));
            let client = secure_client(address_of(&listener), SecureTransport::On);
            let socket = accept(&listener);
            if when == AcceptWhen::Opened {
                assert_eq!(socket.phase(), Phase::Open);
            }
            assert_echoes(&client, &socket);
            assert!(socket.opened().unwrap().tls().is_some());
            client.close().unwrap();
            assert_eq!(read(&socket, 1).unwrap(), b"");
            let stats = listener.stats();
            assert_eq!((stats.accepted, stats.opened, stats.failed), (1, 1, 0));
        }
    });
}

#[test]
fn an_accepted_socket_is_upgraded_as_the_server() {
    with_watchdog(|| {
        let listener = local_with(securing(SecureTransport::StartTls));
        let plain = secure_client(address_of(&listener), SecureTransport::StartTls);
        let accepted = accept(&listener);
        plain.writer().write_all(b"STARTTLS").unwrap();
        assert_eq!(read(&accepted, 8).unwrap(), b"STARTTLS");
        let server = spawn_call(move || accepted.start_tls().unwrap());
        let client = plain.start_tls().unwrap();
        assert_echoes(&client, &server.join());
    });
}

/// A client's fault is an error of its socket, and ends no accept.
#[test]
fn a_client_that_speaks_no_tls_fails_alone() {
    with_watchdog(|| {
        let listener = local_with(securing(SecureTransport::On));
        let mut plain = client_of(&listener);
        plain.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let socket = accept(&listener);
        let error = socket.opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert_eq!(crate_kind(&read(&socket, 1).unwrap_err()), ErrorKind::Tls);
        let client = secure_client(address_of(&listener), SecureTransport::On);
        assert_echoes(&client, &accept(&listener));
        assert_eq!(listener.stats().failed, 1);
    });
}

#[test]
fn replaced_settings_apply_to_the_next_connection() {
    with_watchdog(|| {
        let listener = local_with(securing(SecureTransport::On));
        let protocol = |name: &str| server_tls().alpn([name.to_owned()]);
        let negotiated = |listener: &Listener, offers: &[&str]| {
            let tls = TlsOptions::new()
                .add_root_pem(authority().pem())
                .unwrap()
                .server_name("localhost")
                .alpn(offers.iter().map(|name| (*name).to_owned()));
            let options = SocketOptions::new().secure_transport(SecureTransport::On).tls(tls);
            let client = connect_with(address_of(listener), options).unwrap();
            let socket = accept(listener);
            assert_echoes(&client, &socket);
            client.opened().unwrap().alpn().map(<[u8]>::to_vec)
        };
        for name in ["one", "two"] {
            listener.set_server_tls(protocol(name)).unwrap();
            assert_eq!(negotiated(&listener, &["one", "two"]).as_deref(), Some(name.as_bytes()));
        }
        assert_fails(local().set_server_tls(server_tls()), ErrorKind::InvalidOptions);
        let clients = SocketOptions::new().secure_transport(SecureTransport::On);
        let clients = ListenOptions::new().socket(clients.tls(TlsOptions::new()));
        assert_fails(local_with(clients).set_server_tls(server_tls()), ErrorKind::InvalidOptions);
    });
}

/// Clients that send a part of a ClientHello and then nothing delay no other client.
#[test]
fn a_thousand_stalled_clients_delay_no_other() {
    for (number, times) in times_beside_stalled_clients(100).enumerate() {
        println!("{number}: opened within {:?} (p99), {:?} (median)", times[98], times[50]);
    }
}

/// Returns how long good clients take to open beside a thousand stalled ones, sorted, for every way to accept.
pub(super) fn times_beside_stalled_clients(good: usize) -> impl Iterator<Item = Vec<Duration>> {
    const STALLED: usize = 1_000;
    let ways = if crate::support::raise_descriptor_limit(4 * STALLED as u64) {
        vec![AcceptWhen::Connected, AcceptWhen::Opened]
    } else {
        crate::support::skip("stalled clients", "the descriptor limit is too low");
        Vec::new()
    };
    ways.into_iter().map(move |way| {
        let options = securing(SecureTransport::On).accept_when(way).max_pending(2 * STALLED);
        with_limit(3 * WATCHDOG, move || {
            let listener = local_with(options.handshake_timeout(Duration::from_secs(600)));
            let address = address_of(&listener);
            let hello = client_hello();
            thread::scope(|scope| {
                // With `Connected` the handler of each client makes its handshake.
                scope.spawn(|| {
                    for socket in &listener {
                        scope.spawn(move || drop((socket.opened(), socket)));
                    }
                });
                let stalled: Vec<_> = (0..STALLED)
                    .map(|number| {
                        let mut client = net::connect(address).unwrap();
                        client.write_all(&hello[..number % hello.len()]).unwrap();
                        client
                    })
                    .collect();
                eventually(WATCHDOG, "all are accepted", || {
                    listener.stats().accepted == STALLED as u64
                });
                let mut times: Vec<_> = (0..good)
                    .map(|_| {
                        let begun = Instant::now();
                        let good = secure_client(address, SecureTransport::On);
                        good.opened_timeout(2 * PROMPT).expect("it opens");
                        let took = begun.elapsed();
                        good.close().expect("nothing is unsent");
                        took
                    })
                    .collect();
                times.sort();
                listener.abort();
                drop(stalled);
                times
            })
        })
    })
}

/// Returns the first bytes that a client sends.
fn client_hello() -> Vec<u8> {
    let catcher = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = secure_client(catcher.local_addr().unwrap(), SecureTransport::On);
    let (mut stream, _) = catcher.accept().unwrap();
    stream.set_read_timeout(Some(ms(5_000))).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut body).unwrap();
    client.abort();
    [&head[..], &body].concat()
}
