//! Log records and `Debug` output: they show the life of a socket and none of its payload.

use std::fmt::Debug;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, Once};
use std::thread;
use std::time::Instant;

use log::Level::{self, Debug as Says, Trace as Details};
use log::{LevelFilter, Log, Metadata, Record};
use sockeye::machine::{RecvBuf, Transmit};
use sockeye::{Connector, EgressRules, ErrorKind, SocketOptions};

use crate::support::peer::closed_port;
use crate::support::tls::{
    Opening, TlsPeer, ask, authority, open as open_tls, server_config, upgradable,
};
use crate::support::{PROMPT, Peer, assert_fails, open, read_exactly, with_watchdog};

const SENT: &str = "a secret that was sent";
const RECEIVED: &str = "a secret that was received";

/// A logger that keeps all records of the crate, from all tests of this process.
struct Records(Mutex<Vec<(Level, String)>>);

impl Records {
    fn lines(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.0.lock().expect("no thread panics while it holds the lock")
    }
}

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sockeye")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            self.lines().push((record.level(), line));
        }
    }

    fn flush(&self) {}
}

static RECORDS: Records = Records(Mutex::new(Vec::new()));

/// Counts only records from now on: a later test may get the port of an earlier one.
fn listen() -> Since {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&RECORDS).expect("no other test sets one");
        log::set_max_level(LevelFilter::Trace);
    });
    Since(RECORDS.lines().len())
}

/// The number of records before a test began.
#[derive(Clone, Copy)]
struct Since(usize);

/// Checks that the records of sockets to this address are exactly these, in this order.
#[track_caller]
fn check(Since(begin): Since, address: impl ToString, expected: &[(Level, String)]) {
    let prefix = format!("{}: ", address.to_string());
    let begun = Instant::now();
    loop {
        let lines = RECORDS.lines();
        let of_it = |(level, line): &(Level, String)| {
            line.strip_prefix(&prefix).map(|text| (*level, text.to_owned()))
        };
        let found: Vec<_> = lines[begin..].iter().filter_map(of_it).collect();
        drop(lines);
        if found == expected {
            break;
        }
        // The event loop may not have logged the last record yet.
        assert!(begun.elapsed() < PROMPT, "{found:#?}");
        thread::yield_now();
    }
    is_discreet(&*RECORDS.lines());
}

/// Checks that the output contains no payload, in any spelling.
#[track_caller]
fn is_discreet(shown: &dyn Debug) {
    let shown = format!("{shown:?} {shown:#?}");
    for secret in [SENT, RECEIVED] {
        let bytes = format!("{:?}", &secret.as_bytes()[..8]);
        for spelling in [secret, bytes.trim_matches(['[', ']'])] {
            assert!(!shown.contains(spelling), "{shown}");
        }
    }
}

#[test]
fn the_life_of_a_socket_is_logged_without_payload() {
    let since = listen();
    with_watchdog(move || {
        let peer = Peer::scripted(|wire| {
            wire.receive(SENT.len());
            wire.send(RECEIVED.as_bytes());
        });
        let address = peer.address();
        let socket = open(&peer);
        (&socket).write_all(SENT.as_bytes()).expect("the peer reads");
        let received = read_exactly(&socket, RECEIVED.len()).expect("the peer sends");
        assert_eq!(received, RECEIVED.as_bytes());
        let open = [(Details, format!("dialling {address}")), (Says, format!("open to {address}"))];
        check(since, address, &open);
        socket.writer().close().expect("the close succeeds");
        socket.close().expect("the close succeeds");
        let end = [(Details, "sent FIN".to_owned()), (Says, "closed".to_owned())];
        check(since, address, &[open, end].concat());
        peer.assert_received(SENT.as_bytes());
    });
}

#[test]
fn a_failure_is_logged_with_the_text_of_its_error() {
    let since = listen();
    with_watchdog(move || {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        let error = socket.opened().expect_err("nothing listens");
        let dialling = (Details, format!("dialling {}", nothing.address));
        check(since, nothing.address, &[dialling, (Says, format!("failed to open: {error}"))]);

        let peer = Peer::resetting();
        let address = peer.address();
        let socket = open(&peer);
        peer.signal();
        let error = socket.closed().expect_err("it is reset");
        assert_eq!(error.kind(), ErrorKind::Reset);
        let dialling = (Details, format!("dialling {address}"));
        let open = (Says, format!("open to {address}"));
        check(since, address, &[dialling, open, (Says, format!("failed: {error}"))]);
    });
}

#[test]
fn a_lookup_and_a_denied_address_are_logged() {
    let since = listen();
    with_watchdog(move || {
        let resolver = |_: &str| Ok(vec![[127, 0, 0, 1].into()]);
        let builder = Connector::builder().egress(EgressRules::public_only());
        let connector = builder.resolver(resolver).build().expect("the settings are valid");
        let socket = connector.connect("records.test:80").expect("the name is not denied");
        let error = socket.opened().expect_err("the address is denied");
        let looking = (Details, "looking up the name".to_owned());
        check(since, "records.test:80", &[looking, (Says, format!("failed to open: {error}"))]);

        let error = connector.connect("192.168.211.17:80").expect_err("it is denied");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(RECORDS.lines().contains(&(Says, error.to_string())));
    });
}

#[test]
fn an_upgrade_is_logged_without_secrets() {
    let since = listen();
    with_watchdog(move || {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.receive(SENT.len());
            peer.send(RECEIVED.as_bytes());
        });
        let address = peer.address();
        let plain = open_tls(&peer, upgradable(authority()));
        ask(&plain);
        let secure = plain.start_tls().expect("the upgrade may start");
        secure.opened().expect("the peer is trusted");
        (&secure).write_all(SENT.as_bytes()).expect("the peer reads");
        read_exactly(&secure, RECEIVED.len()).expect("the peer sends");
        secure.close().expect("the peer reads");
        check(
            since,
            address,
            &[
                (Details, format!("dialling {address}")),
                (Says, format!("open to {address}")),
                (Says, "upgraded to TLS".to_owned()),
                (Says, format!("open to {address}, using TLS 1.3")),
                (Details, "sent FIN".to_owned()),
                (Says, "closed".to_owned()),
            ],
        );
        peer.assert_received(SENT.as_bytes());
    });
}

#[test]
fn handles_show_phase_peer_mode_and_counters_and_no_payload() {
    for way in [Opening::Plain, Opening::On, Opening::Upgraded] {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
                peer.receive(SENT.len());
                peer.send(RECEIVED.as_bytes());
            });
            let socket = way.open(&peer, SocketOptions::new());
            let before = socket.stats();
            (&socket).write_all(SENT.as_bytes()).expect("the peer reads");
            // The rest has arrived and is unread.
            read_exactly(&socket, 1).expect("the peer sends");
            let (read, written) = (before.bytes_read + 1, before.bytes_written + SENT.len() as u64);
            let inside = format!(
                "{{ address: {address}, remote: {address}, phase: Open, secure_transport: {mode:?}, \
                 bytes_read: {read}, bytes_written: {written}, .. }}",
                address = peer.address(),
                mode = socket.secure_transport(),
            );
            assert_eq!(format!("{socket:?}"), format!("Socket {inside}"));
            assert_eq!(format!("{:?}", socket.reader()), format!("Reader {inside}"));
            assert_eq!(format!("{:?}", socket.writer()), format!("Writer {inside}"));
            is_discreet(&(&socket, socket.reader(), socket.writer(), socket.opened()));
            is_discreet(&Connector::global());
        });
    }
}

#[test]
fn a_socket_without_a_connection_shows_no_peer() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        assert_fails(socket.opened(), ErrorKind::Connect);
        assert!(format!("{socket:?}").contains("remote: none, phase: Closed"), "{socket:?}");
    });
}

#[test]
fn buffers_do_not_show_their_contents() {
    let mut recv_buf = RecvBuf::new();
    recv_buf.spare_mut()[..SENT.len()].copy_from_slice(SENT.as_bytes());
    recv_buf.advance(SENT.len());
    is_discreet(&recv_buf);
    assert_eq!(format!("{recv_buf:?}"), format!("RecvBuf {{ filled: {}, .. }}", SENT.len()));
    assert_eq!(format!("{:?}", Transmit::default()), "Transmit { len: 0, .. }");
}
