//! The step at which a call or a connection failed, and the duration of the earlier steps.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use sockeye::{
    Connector, EgressRules, Error, ErrorKind, SecureTransport, Socket, SocketOptions, Step,
    TcpOptions,
};

use crate::support::peer::{black_hole, closed_port, listen};
use crate::support::tls::{Opening, authority, options};
use crate::support::{
    Peer, fill_send_buffer, ms, open, open_with, read, small_send_buffer, with_watchdog,
    write_until_error,
};

/// The longest time that a step takes on loopback, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn of_io<T: std::fmt::Debug>(result: io::Result<T>) -> Error {
    let error = result.expect_err("the call fails");
    Error::from_io(&error).expect("it carries the crate's error").clone()
}

#[track_caller]
fn unopened(connector: &Connector, address: impl ToString, options: SocketOptions) -> Error {
    let socket =
        connector.connect_with(address.to_string(), options).expect("the address is valid");
    let error = socket.opened().expect_err("it never opens");
    // All waiting calls get the same error.
    for later in [
        of_io(read(&socket, 1)),
        of_io((&socket).write(b"x")),
        socket.closed().expect_err("it never opened"),
    ] {
        assert_eq!((later.step(), later.timings()), (error.step(), error.timings()));
    }
    error
}

fn within(limit: Duration) -> SocketOptions {
    SocketOptions::new().connect_timeout(limit)
}

#[test]
fn a_refused_connection_failed_at_connect() {
    with_watchdog(|| {
        let nothing = closed_port();
        let error = unopened(Connector::global(), nothing.address, SocketOptions::new());
        assert_eq!(error.step(), Some(Step::Connect));
        let timings = error.timings().expect("it never opened");
        assert_eq!((timings.resolve, timings.handshake), (Duration::ZERO, Duration::ZERO));
        assert!(!timings.connect.is_zero() && timings.connect < SOON, "{timings:?}");
        let [attempt] = error.attempts() else { panic!("{error:?}") };
        assert_eq!(attempt.error().step(), Some(Step::Connect));
        assert!(!attempt.elapsed().is_zero() && attempt.elapsed() <= timings.connect);
    });
}

#[test]
fn an_unanswered_attempt_lasted_until_the_limit() {
    with_watchdog(|| {
        let hole = black_hole();
        let error = unopened(Connector::global(), hole.address, within(ms(120)));
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Connect)));
        let lasted = error.attempts()[0].elapsed();
        assert!(lasted >= ms(110) && lasted < SOON, "{lasted:?}");
        let timings = error.timings().expect("it never opened");
        assert!(timings.connect >= lasted && timings.resolve.is_zero(), "{timings:?}");
    });
}

#[test]
fn a_name_that_does_not_resolve_failed_at_lookup() {
    with_watchdog(|| {
        let slow = |answer: fn() -> io::Result<Vec<IpAddr>>| {
            Connector::builder()
                .resolver(move |_: &str| {
                    std::thread::sleep(ms(60));
                    answer()
                })
                .build()
                .expect("the rules are valid")
        };
        let unknown = slow(|| Err(io::Error::from(io::ErrorKind::NotFound)));
        let error = unopened(&unknown, "name.test:1", SocketOptions::new());
        assert_eq!((error.kind(), error.step()), (ErrorKind::Resolve, Some(Step::Lookup)));
        let timings = error.timings().expect("it never opened");
        assert!(timings.resolve >= ms(60) && timings.connect.is_zero(), "{timings:?}");

        let late = unopened(&unknown, "name.test:1", within(ms(20)));
        assert_eq!((late.kind(), late.step()), (ErrorKind::TimedOut, Some(Step::Lookup)));
        let timings = late.timings().expect("it never opened");
        assert!(timings.resolve >= ms(20) && timings.connect.is_zero(), "{timings:?}");

        let nothing = closed_port();
        let found = slow(|| Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        let port = nothing.address.port();
        let error = unopened(&found, format!("name.test:{port}"), SocketOptions::new());
        assert_eq!(error.step(), Some(Step::Connect));
        let timings = error.timings().expect("it never opened");
        assert!(timings.resolve >= ms(60), "{timings:?}");
        assert!(error.attempts()[0].elapsed() <= timings.connect, "{error:?}");
    });
}

#[test]
fn a_socket_that_waits_at_the_limit_failed_at_its_slot() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let connector = Connector::builder().max_open_sockets(1).wait_at_limit(true);
        let connector = connector.build().expect("the rules are valid");
        let first = connector.connect(peer.address()).expect("the address is valid");
        first.opened().expect("the peer accepts");
        let error = unopened(&connector, peer.address(), within(ms(50)));
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::WaitForSlot)));
        assert_eq!(error.timings(), Some(sockeye::Timings::default()));
    });
}

#[test]
fn a_handshake_that_is_never_answered_failed_at_the_handshake() {
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let tls = within(ms(150)).secure_transport(SecureTransport::On);
        let error = unopened(Connector::global(), address, tls);
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Handshake)));
        let timings = error.timings().expect("it never opened");
        assert!(!timings.connect.is_zero(), "{timings:?}");
        assert!(timings.handshake > ms(50) && timings.handshake < SOON, "{timings:?}");
        assert!(error.attempts().is_empty(), "the connection was made");
    });
}

#[test]
fn a_peer_that_speaks_no_tls_failed_at_the_handshake_of_an_upgrade_too() {
    with_watchdog(|| {
        let garbage = || {
            Peer::scripted(|wire| {
                wire.wait_signal();
                wire.send(b"220 welcome\r\n");
                wire.read_to_end();
            })
        };
        let peer = garbage();
        let tls = SocketOptions::new().secure_transport(SecureTransport::On);
        let socket = sockeye::connect_with(peer.address(), tls).expect("the address is valid");
        peer.signal();
        let error = socket.opened().expect_err("it speaks no TLS");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Tls, Some(Step::Handshake)));
        assert!(!error.timings().expect("it never opened").connect.is_zero());

        let peer = garbage();
        let upgradable = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        let plain = open_with(&peer, upgradable);
        let socket = plain.start_tls().expect("nothing is unread");
        peer.signal();
        let error = socket.opened().expect_err("it speaks no TLS");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Tls, Some(Step::Handshake)));
        assert!(!error.timings().expect("it never opened").handshake.is_zero());
    });
}

#[test]
fn a_denied_address_failed_at_connect_before_and_after_a_lookup() {
    with_watchdog(|| {
        let resolver = |_: &str| Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        let connector =
            Connector::builder().egress(EgressRules::public_only()).resolver(resolver).build();
        let connector = connector.expect("the rules are valid");
        let literal = connector.connect("127.0.0.1:80").expect_err("it is denied");
        assert_eq!((literal.kind(), literal.step()), (ErrorKind::Denied, Some(Step::Connect)));
        let named = unopened(&connector, "name.test:80", SocketOptions::new());
        assert_eq!((named.kind(), named.step()), (ErrorKind::Denied, Some(Step::Connect)));
        assert_eq!(named.attempts()[0].elapsed(), Duration::ZERO, "it was not dialled");
    });
}

#[test]
fn a_wait_for_the_connection_names_the_current_step() {
    with_watchdog(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        let error = socket.opened_timeout(ms(10)).expect_err("the peer does not answer");
        assert!(error.is_retryable());
        assert_eq!((error.step(), error.timings()), (Some(Step::Connect), None));
        let tls = SocketOptions::new().secure_transport(SecureTransport::On);
        let peer = Peer::reading();
        let socket = sockeye::connect_with(peer.address(), tls).expect("the address is valid");
        // The connection is made at once, but the peer never answers the handshake.
        crate::support::eventually(SOON, "it handshakes", || {
            let error = socket.opened_timeout(ms(10)).expect_err("the peer does not answer");
            error.step() == Some(Step::Handshake)
        });
    });
}

#[test]
fn an_aborted_connect_names_its_step() {
    with_watchdog(|| {
        let hole = black_hole();
        let socket = sockeye::connect(hole.address).expect("the address is valid");
        socket.abort();
        let error = socket.opened().expect_err("it was aborted");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Closed, Some(Step::Connect)));
        assert!(error.timings().is_some());
    });
}

#[test]
fn errors_of_calls_name_the_call() {
    with_watchdog(|| {
        type SpawnedCall = fn(&Socket) -> Error;
        let calls: [(SpawnedCall, Step); 6] = [
            (|socket| of_io(read(socket, 1)), Step::Read),
            (|socket| of_io(read(socket.reader(), 1)), Step::Read),
            (|mut socket| of_io(socket.write(b"x")), Step::Write),
            (|socket| of_io(socket.writer().write(b"x")), Step::Write),
            (|mut socket| of_io(socket.flush()), Step::Write),
            (|socket| socket.writer().close().expect_err("it was aborted"), Step::Close),
        ];
        let peer = Peer::reading();
        let socket = open(&peer);
        socket.abort();
        for (spawn_call, step) in calls {
            let error = spawn_call(&socket);
            assert_eq!((error.kind(), error.step()), (ErrorKind::Closed, Some(step)));
            assert_eq!(error.timings(), None, "it was open");
        }
        let closed = socket.closed().expect_err("it was aborted");
        assert_eq!(closed.step(), None, "the error is the connection's, not a call's");
    });
}

#[test]
fn limits_of_calls_name_the_call() {
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let limits = small_send_buffer().read_timeout(ms(10)).write_timeout(ms(50));
        let socket = open_with(&peer, limits.close_timeout(ms(50)));
        let error = of_io(read(&socket, 1));
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Read)));
        let (_, error) = write_until_error(&socket, b'w', usize::MAX);
        let error = of_io(Err::<(), _>(error.expect("the peer does not read")));
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Write)));
        let error = socket.closed_timeout(ms(10)).expect_err("it is open");
        assert_eq!(error.step(), None, "only the wait has ended");
    });
}

#[test]
fn a_close_that_cannot_hand_over_failed_at_close() {
    with_watchdog(|| {
        let peer = Opening::On.not_reading();
        let limits = options(authority())
            .tcp(TcpOptions::new().send_buffer_size(4096))
            .close_timeout(ms(100));
        let socket = sockeye::connect_with(peer.address(), limits).expect("they are valid");
        socket.opened().expect("the peer accepts");
        fill_send_buffer(&socket);
        let error = socket.close().expect_err("the peer does not read");
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Close)));
        assert_eq!(socket.closed().expect_err("the peer does not read").step(), Some(Step::Close));
        peer.signal();
    });
}
