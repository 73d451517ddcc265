//! Connections whose first SYN is lost, so that connect(2) does not finish at once as it does on loopback, and the
//! event loop completes them. The peer ends each connection half a second after it was made. The program makes no call
//! at that time, and the end has to be noticed nevertheless.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustls::ServerConnection;
use sockeye::{Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions};

use super::space::{OTHER_V4, Space, V4, V6};
use super::{befall, in_a_space_with, ip};
use crate::support::peer::reset;
use crate::support::subprocess::{next_line, say};
use crate::support::{
    HasErrorKind, PROMPT, WATCHDOG, assert_fails, eventually, ms, read, spawn_call, tls,
};

/// The time between the connection and the peer's end.
const DELAY: Duration = ms(500);
/// The number of concurrent tries of each case.
const TRIES: usize = 4;

#[test]
fn an_end_in_plaintext_is_noticed() {
    const NAME: &str = "network_faults::late::an_end_in_plaintext_is_noticed";
    in_a_space_with(NAME, &[&lose_each_first_syn], end_connections, |port| {
        all_are_noticed(port, Opening::Plain, &[End::Fin, End::Reset]);
    });
}

#[test]
fn an_end_over_tls_is_noticed() {
    const NAME: &str = "network_faults::late::an_end_over_tls_is_noticed";
    in_a_space_with(NAME, &[&lose_each_first_syn], end_connections, |port| {
        all_are_noticed(port, Opening::Tls, &End::ALL);
    });
}

#[test]
fn an_end_after_an_upgrade_is_noticed() {
    const NAME: &str = "network_faults::late::an_end_after_an_upgrade_is_noticed";
    in_a_space_with(NAME, &[&lose_each_first_syn], end_connections, |port| {
        all_are_noticed(port, Opening::Upgrade, &End::ALL);
    });
}

/// Drops the first SYN of each connection, which the client retransmits after a second.
fn lose_each_first_syn(space: &Space, _port: u16) {
    let syn = "tcp flags & (fin | syn | rst | ack) == syn";
    let rules = [
        "add set inet filter seen { type inet_service; flags dynamic,timeout; timeout 60s; }",
        &format!("add rule inet filter input {syn} tcp sport @seen accept"),
        &format!("add rule inet filter input {syn} add @seen {{ tcp sport }} drop"),
    ];
    for rule in rules {
        space.at_peer(&format!("nft '{rule}'")).expect("a rule is added");
    }
}

// -------------------------------------------------------------------- this side

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Plain,
    Tls,
    Upgrade,
}

/// The threads that wait while the connection is made and secured.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    NoThread,
    One,
    Many,
    /// One thread that waits for short times, with breaks.
    Briefly,
    /// One thread that reads with short timeouts.
    Reader,
}

impl Waiting {
    const ALL: [Waiting; 5] =
        [Waiting::NoThread, Waiting::One, Waiting::Many, Waiting::Briefly, Waiting::Reader];
}

impl Opening {
    /// Returns the address that the peer uses for this way.
    fn address(self) -> &'static str {
        match self {
            Opening::Plain => V6,
            Opening::Tls => V4,
            Opening::Upgrade => OTHER_V4,
        }
    }
}

fn all_are_noticed(port: u16, way: Opening, ends: &'static [End]) {
    tls::provider();
    befall();
    let connector = Connector::builder().build().expect("the rules are valid");
    let mut calls = Vec::new();
    for &end in ends {
        for waiting in Waiting::ALL {
            for number in 0..TRIES {
                let connector = connector.clone();
                calls.push(spawn_call(move || {
                    let name = format!("{way:?}, {waiting:?}, {end:?}");
                    is_noticed(
                        &connector,
                        &connect(&connector, port, way, end, waiting, number),
                        end,
                        &name,
                    );
                }));
            }
        }
    }
    for call in calls {
        call.join();
    }
    assert_eq!(connector.open_sockets(), 0);
}

/// Opens a socket to a peer that will end the connection.
fn connect(
    connector: &Connector,
    port: u16,
    way: Opening,
    end: End,
    waiting: Waiting,
    number: usize,
) -> Socket {
    let tls = TlsOptions::new().danger_accept_invalid_certs(true).server_name(end.name());
    let options = match way {
        Opening::Plain => SocketOptions::new(),
        Opening::Tls => tls::with(SecureTransport::On, tls),
        Opening::Upgrade => tls::with(SecureTransport::StartTls, tls),
    };
    let socket = connector
        .connect_with((way.address(), port), options)
        .expect("the address and the options are valid");
    wait_open(&socket, waiting);
    match way {
        Opening::Plain => {
            (&socket).write_all(end.name().as_bytes()).expect("the peer reads");
            socket
        }
        Opening::Tls => socket,
        Opening::Upgrade => {
            // The test covers upgrades with and without an earlier read.
            if number % 2 == 0 {
                tls::ask(&socket);
            }
            let socket = socket.start_tls().expect("the upgrade may start");
            wait_open(&socket, waiting);
            socket
        }
    }
}

fn wait_open(socket: &Socket, waiting: Waiting) {
    let is_opening = || matches!(socket.phase(), Phase::Connecting | Phase::Upgrading);
    match waiting {
        Waiting::NoThread => eventually(WATCHDOG, "the connection is made", || !is_opening()),
        Waiting::One => drop(socket.opened()),
        Waiting::Many => {
            let calls: Vec<_> = (0..4)
                .map(|_| {
                    let socket = socket.clone();
                    spawn_call(move || drop(socket.opened()))
                })
                .collect();
            calls.into_iter().for_each(|call| call.join());
        }
        Waiting::Briefly => {
            while socket.opened_timeout(ms(7)).failure() == Some(ErrorKind::TimedOut) {}
        }
        Waiting::Reader => {
            socket.set_read_timeout(Some(ms(3))).expect("not zero");
            while is_opening() {
                assert_fails(read(socket, 1), ErrorKind::TimedOut);
            }
            socket.set_read_timeout(None).expect("`None` removes the limit");
        }
    }
    socket.opened_timeout(PROMPT).expect("the peer accepts");
}

/// Checks that the end of the connection is noticed and its slot freed, although no call waits for it.
#[track_caller]
fn is_noticed(connector: &Connector, socket: &Socket, end: End, name: &str) {
    let what = format!("{name}: the end is noticed, with {} open", connector.open_sockets());
    eventually(ms(8000), &what, || socket.phase() == Phase::Closed);
    let message = socket.closed_timeout(PROMPT);
    assert_eq!(message.failure(), end.tells(), "{name}: {message:?}");
}

// -------------------------------------------------------------------- the peer

/// The peer's way to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With FIN, over TLS after `close_notify`.
    Fin,
    /// With a fatal alert.
    Alert,
    /// Without `close_notify`.
    Truncation,
    Reset,
    /// Like `Fin`, behind a key update.
    KeyUpdate,
}

impl End {
    const ALL: [End; 5] = [End::Fin, End::Alert, End::Truncation, End::Reset, End::KeyUpdate];

    /// Returns the name with which the client requests this end.
    fn name(self) -> &'static str {
        match self {
            End::Fin => "fin.test",
            End::Alert => "alert.test",
            End::Truncation => "truncation.test",
            End::Reset => "reset.test",
            End::KeyUpdate => "update.test",
        }
    }

    fn named(name: &str) -> End {
        *End::ALL.iter().find(|end| end.name() == name).expect("the name is known")
    }

    fn tells(self) -> Option<ErrorKind> {
        match self {
            End::Fin | End::KeyUpdate => None,
            End::Alert => Some(ErrorKind::Tls),
            End::Truncation => Some(ErrorKind::Truncated),
            End::Reset => Some(ErrorKind::Reset),
        }
    }
}

fn end_connections() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
    say(&format!("listens {}", listener.local_addr().expect("it listens").port()));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // The connection may end in any way, at the latest with this process.
            thread::spawn(move || end_connection(stream));
        }
    });
    assert_eq!(next_line(), None, "the test is over");
}

fn end_connection(mut stream: TcpStream) {
    let local = stream.local_addr().expect("it is connected").ip().to_canonical();
    if local == ip(V6) {
        let mut name = [0; 16];
        let bytes = stream.read(&mut name).expect("the client sends the name");
        if bytes == 0 {
            return;
        }
        let name = std::str::from_utf8(&name[..bytes]).expect("it is a name");
        thread::sleep(DELAY);
        return match End::named(name) {
            End::Reset => reset(stream),
            _ => finish(stream),
        };
    }
    let mut first = [0];
    if local == ip(OTHER_V4) && stream.peek(&mut first).is_ok_and(|_| first[0] == tls::ASK[0]) {
        stream.read_exact(&mut [0; tls::ASK.len()]).expect("the request arrives");
        stream.write_all(tls::GO).expect("the client reads");
    }
    let mut server =
        ServerConnection::new(tls::server_config().config()).expect("the configuration is valid");
    if server.complete_io(&mut stream).is_err() {
        // A connection that only checks that the network is up.
        return;
    }
    let end = End::named(server.server_name().expect("the client sends the name"));
    thread::sleep(DELAY);
    match end {
        End::Fin => server.send_close_notify(),
        End::Alert => {
            let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
            server.read_tls(&mut &forged[..]).expect("the session has room");
            server.process_new_packets().expect_err("the record is forged");
        }
        End::Truncation => {}
        End::Reset => return reset(stream),
        End::KeyUpdate => {
            server.refresh_traffic_keys().expect("it is TLS 1.3");
            server.send_close_notify();
        }
    }
    flush(&mut server, &mut stream);
    finish(stream);
}

fn flush(server: &mut ServerConnection, stream: &mut TcpStream) {
    while server.wants_write() {
        server.write_tls(stream).expect("the client reads");
    }
}

fn finish(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("the client is connected");
    // The read may end in any way.
    let _ = stream.read_to_end(&mut Vec::new());
}
