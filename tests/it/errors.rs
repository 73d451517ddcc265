//! Kinds, causes, attempts and messages of errors.

use std::error::Error as _;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sockeye::{Connector, EgressRules, Error, ErrorKind, SecureTransport, SocketOptions};

use crate::support::peer::{black_hole, closed_port};
use crate::support::{Peer, assert_fails, io_kind, ms, open, open_with, read, with_watchdog};

// -------------------------------------------------------------------- errors before anything is sent

#[test]
fn port_0_is_invalid() {
    for result in [
        sockeye::connect("127.0.0.1:0"),
        sockeye::connect(("127.0.0.1", 0)),
        sockeye::connect((IpAddr::from(Ipv4Addr::LOCALHOST), 0)),
        sockeye::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        sockeye::connect(String::from("localhost:0")),
    ] {
        let error = result.expect_err("nothing can be reached at port 0");
        assert_eq!(error.kind(), ErrorKind::InvalidAddress);
        assert!(error.to_string().contains("port"), "{error}");
        assert!(error.attempts().is_empty());
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_bad_address_is_reported_before_bad_options() {
    let bad = || SocketOptions::new().connect_timeout(Duration::ZERO);
    let both = sockeye::connect_with("127.0.0.1:0", bad());
    assert_fails(both.map(drop), ErrorKind::InvalidAddress);
    let error = sockeye::connect_with("127.0.0.1:9", bad()).expect_err("zero is invalid");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("connect"), "which option: {error}");
}

// -------------------------------------------------------------------- a refused connection

#[test]
fn a_refused_connection_names_the_attempt() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        let error = socket.opened().expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
        let [attempt] = error.attempts() else {
            panic!("expected one attempt: {:?}", error.attempts());
        };
        assert_eq!(attempt.address(), nothing.address);
        let refused: io::Error = attempt.error().clone().into();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&nothing.address.to_string()), "which address: {error}");
        let refused = io::Error::from(error);
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_systems_error_is_the_source() {
    use crate::support::system_code;
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        let error = socket.opened().expect_err("nothing listens");
        assert_eq!(system_code(error.attempts()[0].error()), Some(libc::ECONNREFUSED), "{error:?}");
    });
}

#[test]
fn every_waiter_gets_the_same_cause() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        let opened = socket.opened().expect_err("nothing listens");
        let closed = socket.closed().expect_err("nothing listens");
        let read = read(&socket, 1).expect_err("nothing listens");
        let written = (&socket).write(b"x").expect_err("nothing listens");
        let causes = [
            &closed,
            Error::from_io(&read).expect("it carries the cause"),
            Error::from_io(&written).expect("it carries the cause"),
        ];
        for cause in causes {
            assert_eq!(cause.kind(), opened.kind());
            assert_eq!(cause.to_string(), opened.to_string());
            assert_eq!(cause.attempts().len(), 1);
            assert_eq!(cause.attempts()[0].address(), nothing.address);
        }
    });
}

// -------------------------------------------------------------------- errors in io::Error

#[test]
fn an_io_error_contains_the_error() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open_with(&peer, SocketOptions::new().read_timeout(ms(10)));
        let error = read(&socket, 1).expect_err("the peer sends nothing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let inner = Error::from_io(&error).expect("it carries the cause");
        assert_eq!(inner.kind(), ErrorKind::TimedOut);
        assert!(inner.is_retryable());
        let text = inner.to_string();
        assert_eq!(error.to_string(), text);
        let owned: Error = error.downcast().expect("it carries the cause");
        assert_eq!((owned.kind(), owned.to_string()), (ErrorKind::TimedOut, text));
    });
}

#[test]
fn other_io_errors_contain_none() {
    assert!(Error::from_io(&io::Error::other("elsewhere")).is_none());
    assert!(Error::from_io(&io::Error::from(io::ErrorKind::TimedOut)).is_none());
}

#[test]
fn each_kind_has_its_io_kind() {
    with_watchdog(|| {
        let closed = {
            let peer = Peer::reading();
            let socket = open(&peer);
            socket.close().expect("the close succeeds");
            read(&socket, 1).expect_err("it was closed")
        };
        let reset = {
            let peer = Peer::resetting();
            let socket = open(&peer);
            peer.signal();
            read(&socket, 1).expect_err("the peer resets")
        };
        let errors = [
            (ErrorKind::InvalidAddress, io(sockeye::connect("127.0.0.1"))),
            (ErrorKind::InvalidOptions, {
                let options = SocketOptions::new().close_timeout(Duration::ZERO);
                io(sockeye::connect_with("127.0.0.1:9", options))
            }),
            (ErrorKind::TimedOut, {
                let hole = black_hole();
                let socket = sockeye::connect(hole.address).expect("the address is valid");
                io(socket.opened_timeout(ms(10)))
            }),
            (ErrorKind::Closed, closed),
            (ErrorKind::Reset, reset),
        ];
        for (kind, error) in errors {
            assert_eq!(Error::from_io(&error).map(Error::kind), Some(kind));
            assert_eq!(Some(error.kind()), io_kind(kind), "{kind:?}");
        }
    });
}

fn io<T: std::fmt::Debug>(result: Result<T, Error>) -> io::Error {
    result.expect_err("it fails").into()
}

// -------------------------------------------------------------------- texts

#[test]
fn messages_are_short_sentences_without_a_full_stop() {
    with_watchdog(|| {
        let nothing = closed_port();
        let hole = black_hole();
        let refused = sockeye::connect(nothing.address).expect("the address is valid");
        let stuck =
            sockeye::connect_with(hole.address, SocketOptions::new().connect_timeout(ms(50)))
                .expect("the address is valid");
        let peer = Peer::reading();
        let gone = open(&peer);
        gone.abort();
        for error in [
            refused.opened().expect_err("nothing listens"),
            stuck.opened().expect_err("the peer does not answer"),
            gone.closed().expect_err("it was aborted"),
            sockeye::connect("no-port").expect_err("no port"),
        ] {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('\n'), "{text:?}");
            assert!(text.starts_with(|first: char| !first.is_uppercase()), "{text:?}");
        }
    });
}

#[test]
fn a_timeout_names_the_limit_that_passed() {
    with_watchdog(|| {
        let hole = black_hole();
        let options = SocketOptions::new().connect_timeout(ms(50));
        let socket = sockeye::connect_with(hole.address, options).expect("the address is valid");
        let error = socket.opened().expect_err("the peer does not answer");
        assert!(error.to_string().contains("connect"), "{error}");
        let peer = Peer::reading();
        let socket = open_with(&peer, SocketOptions::new().read_timeout(ms(10)));
        let error = read(&socket, 1).expect_err("the peer sends nothing");
        assert!(error.to_string().contains("read"), "{error}");
    });
}

/// Chains are printed as `anyhow` prints them with `{:#}`: the error and its sources in one line.
#[test]
fn a_printed_chain_has_no_repetitions() {
    with_watchdog(|| {
        let nothing = closed_port();
        let hole = black_hole();
        let timeout = || SocketOptions::new().connect_timeout(ms(50));
        let tls = || SocketOptions::new().secure_transport(SecureTransport::On);
        let garbage = Peer::scripted(|wire| {
            wire.send(b"220 welcome\r\n");
            wire.read_to_end();
        });
        let silent = Connector::builder()
            .resolver(|_: &str| Err(io::Error::other("the oracle is asleep")))
            .build()
            .expect("the rules are valid");
        let public = Connector::builder().egress(EgressRules::public_only()).build();
        let public = public.expect("the rules are valid");
        let open = |connector: &Connector, address: String, options| {
            let socket = connector.connect_with(address, options)?;
            socket.opened().map(drop)
        };
        let global = Connector::global();
        let refused = nothing.address.to_string();
        let failures = [
            (open(global, refused.clone(), SocketOptions::new()), "the connection was refused"),
            (
                open(global, format!("localhost:{}", nothing.address.port()), timeout()),
                "the connection was refused",
            ),
            (open(global, hole.address.to_string(), timeout()), "before an address answered"),
            (open(global, garbage.address().to_string(), tls()), "did not answer in TLS"),
            (open(&silent, "name.test:1".to_owned(), timeout()), "the oracle is asleep"),
            (open(&public, refused, timeout()), "127.0.0.0/8"),
        ];
        for (result, reason) in failures {
            let error = result.expect_err("it cannot open");
            let mut printed = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                assert!(!printed.contains(&error.to_string()), "{error} twice: {printed}");
                printed.push_str(&format!(": {error}"));
                source = error.source();
            }
            assert_eq!(printed.matches(reason).count(), 1, "{reason:?}: {printed}");
            let mut addresses: Vec<_> = printed
                .split([' ', '(', ')', ','])
                .filter_map(|word| word.trim_end_matches(':').parse::<SocketAddr>().ok())
                .collect();
            let all = addresses.len();
            addresses.dedup();
            assert_eq!(addresses.len(), all, "{printed}");
        }
    });
}

#[test]
fn chains_of_sources_are_finite() {
    with_watchdog(|| {
        let nothing = closed_port();
        let socket = sockeye::connect(nothing.address).expect("the address is valid");
        let error = socket.opened().expect_err("nothing listens");
        let mut source = error.source();
        let mut depth = 0;
        while let Some(inner) = source {
            assert!(!inner.to_string().is_empty());
            source = inner.source();
            depth += 1;
            assert!(depth < 10, "the sources form a cycle");
        }
    });
}

// -------------------------------------------------------------------- a lost peer

/// A window that stays closed is like sent data without an acknowledgement.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_stops_answering_is_lost() {
    use crate::support::{WATCHDOG, crate_kind, small_send_buffer, write_until_error};
    use sockeye::TcpOptions;
    with_watchdog(|| {
        let peer = Peer::not_reading();
        let tcp = TcpOptions::new().send_buffer_size(4096).user_timeout(ms(500));
        let socket = open_with(&peer, small_send_buffer().tcp(tcp));
        let (_, failure) = write_until_error(&socket, b'w', usize::MAX);
        let failure = failure.expect("the peer does not read");
        assert_eq!(crate_kind(&failure), ErrorKind::Lost);
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionAborted);
        assert!(!Error::from_io(&failure).expect("kind_of found it").is_retryable());
        assert_fails(socket.closed_timeout(WATCHDOG), ErrorKind::Lost);
        assert_fails(read(&socket, 1), ErrorKind::Lost);
        assert_fails((&socket).write(b"x"), ErrorKind::Lost);
    });
}

// -------------------------------------------------------------------- errors of the system

#[test]
fn converting_an_io_error_recovers_an_error_of_the_crate() {
    fn first(socket: &sockeye::Socket) -> sockeye::Result<u8> {
        let mut byte = [0];
        io::Read::read_exact(&mut &*socket, &mut byte)?;
        Ok(byte[0])
    }
    with_watchdog(|| {
        let peer = Peer::reading();
        let socket = open_with(&peer, SocketOptions::new().read_timeout(ms(20)));
        let error = first(&socket).expect_err("the peer says nothing");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.is_retryable(), "it is the same error");
        socket.abort();
        assert_fails(first(&socket), ErrorKind::Closed);
    });
}

#[test]
fn any_other_io_error_becomes_kind_io_with_its_text_and_source() {
    let refused = io::Error::from_raw_os_error(111);
    let text = refused.to_string();
    let error = Error::from(refused);
    assert_eq!(error.kind(), ErrorKind::Io);
    // Only the source prints the number.
    assert_eq!(text, format!("{error} (os error 111)"));
    assert!(!error.is_retryable());
    let source = error.source().expect("it is the source").downcast_ref::<io::Error>();
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(111));
    assert_eq!(io::Error::from(error).kind(), io::Error::from_raw_os_error(111).kind());
    let error = Error::from(io::Error::other("of the program"));
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Io, "of the program"));
    // No read or write returns a kind that asks the caller to retry.
    for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted] {
        assert_eq!(
            io::Error::from(Error::from(io::Error::from(kind))).kind(),
            io::ErrorKind::Other
        );
    }
}
