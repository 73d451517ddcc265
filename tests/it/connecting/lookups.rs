//! Lookups with a user's resolver: the names it is asked for, its possible behaviour, and the result.

use std::error::Error as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sockeye::{Connector, Error, ErrorKind, Phase, Resolver, SocketOptions};

use crate::support::peer::{closed_port, listen};
use crate::support::{
    PROMPT, Peer, WATCHDOG, assert_fails, at_once, eventually, ms, read, spawn_blocked, timed,
    with_watchdog,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn connector(resolver: impl Resolver) -> Connector {
    Connector::builder().resolver(resolver).build().expect("the rules are valid")
}

#[track_caller]
fn failure(resolver: impl Resolver) -> Error {
    let socket = connector(resolver).connect(("name.test", 4321)).expect("the address is valid");
    socket.opened_timeout(WATCHDOG).expect_err("the lookup fails")
}

// -------------------------------------------------------------------- requested names

/// The names that a resolver was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[test]
fn the_resolver_gets_the_host_as_written_once_per_socket() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let asked = Asked::default();
        let notes = asked.clone();
        let connector = connector(move |name: &str| {
            notes.note(name);
            Ok(vec![HERE])
        });
        // Old spellings of IPv4 addresses are names too.
        let hosts = [
            "db.test",
            "DB.Example.Test",
            "dotted.test.",
            "under_score",
            "127.1",
            "0177.0.0.1",
            "0x7f000001",
            "2130706433",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.0.0.1.",
            "db.test",
        ];
        for host in hosts {
            let socket = connector.connect((host, port)).expect("the address is valid");
            let info = socket.opened().expect("it listens");
            assert_eq!(info.requested().hostname(), host);
            assert_eq!(info.remote_address(), Some((HERE, port).into()));
            socket.abort();
        }
        assert_eq!(asked.names(), hosts);
    });
}

#[test]
fn literal_addresses_are_never_asked_for() {
    with_watchdog(|| {
        let asked = Asked::default();
        let notes = asked.clone();
        let connector = connector(move |name: &str| {
            notes.note(name);
            Err(io::ErrorKind::NotFound.into())
        });
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let nothing = closed_port();
        let port = nothing.address.port();
        let literals = ["127.0.0.1", "::1", "[::1]", "::ffff:127.0.0.1"];
        let mut sockets: Vec<_> = literals
            .iter()
            .map(|host| connector.connect((*host, port)).expect("the address is valid"))
            .collect();
        sockets.push(connector.connect(nothing.address).expect("the address is valid"));
        sockets.push(
            connector.connect(format!("[::1]:{port}").as_str()).expect("the address is valid"),
        );
        for socket in &sockets {
            let error = socket.opened().expect_err("nothing listens");
            assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
            assert_eq!(error.attempts().len(), 1);
        }
        let socket = connector.connect(address).expect("the address is valid");
        socket.opened().expect("it listens");
        assert_eq!(asked.names(), [""; 0]);
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        assert_fails(socket.opened(), ErrorKind::Resolve);
        assert_eq!(asked.names(), ["name.test"], "only the name needs the resolver");
    });
}

#[test]
fn the_default_connector_asks_the_system() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let socket =
            Connector::global().connect(("localhost", port)).expect("the address is valid");
        let info = socket.opened().expect("it listens on IPv4");
        assert_eq!(info.remote_address(), Some((HERE, port).into()));
    });
}

/// Lookups use neither the caller's thread nor the event loop, on which other sockets depend.
#[test]
fn the_resolver_runs_in_a_thread_of_its_own() {
    with_watchdog(|| {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let connector = connector(move |_: &str| {
            let thread = thread::current();
            let name = thread.name().unwrap_or_default().to_owned();
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
            sender.send((thread.id(), name)).expect("the test waits for it");
            Ok(vec![HERE])
        });
        let nothing = closed_port();
        let port = nothing.address.port();
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        let (id, name) = receiver.recv_timeout(WATCHDOG).expect("the resolver is called");
        assert_ne!(id, thread::current().id());
        assert_eq!(name, "sockeye-names");
        assert_fails(socket.opened(), ErrorKind::Connect);
    });
}

// -------------------------------------------------------------------- results

#[test]
fn the_resolvers_error_is_the_source_of_the_error() {
    with_watchdog(|| {
        let kinds =
            [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::Other];
        for kind in kinds {
            let error = failure(move |_: &str| Err(io::Error::new(kind, "the oracle is asleep")));
            assert_eq!(error.kind(), ErrorKind::Resolve);
            assert!(!error.is_retryable());
            assert!(error.attempts().is_empty());
            let text = error.to_string();
            assert!(text.contains("name.test") && !text.contains("the oracle is asleep"), "{text}");
            let source = error.source().expect("the resolver's error");
            assert_eq!(source.to_string(), "the oracle is asleep");
            let source = source.downcast_ref::<io::Error>().expect("it is the same error");
            assert_eq!(source.kind(), kind);
            assert_eq!(io::Error::from(error).kind(), kind);
        }
    });
}

/// `write_all`, `read_exact` and similar functions retry after an interruption. A failed socket must not look like one,
/// whatever error the resolver returned.
#[test]
fn an_interrupted_lookup_does_not_make_callers_retry() {
    for interrupted in [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock] {
        with_watchdog(move || {
            let connector = connector(move |_: &str| Err(interrupted.into()));
            let mut socket = connector.connect(("name.test", 4321)).expect("the address is valid");
            let failure = socket.write_all(b"words").expect_err("the lookup fails");
            assert_fails(Err::<(), _>(failure), ErrorKind::Resolve);
            let failure = socket.read_exact(&mut [0]).expect_err("the lookup fails");
            assert_eq!(
                failure.kind(),
                io::ErrorKind::Other,
                "the error does not say whether the name exists"
            );
        });
    }
}

#[test]
fn the_kind_of_a_failure_decides_whether_it_is_transient() {
    use io::ErrorKind as Kind;
    with_watchdog(|| {
        let passing = [
            Kind::Interrupted,
            Kind::TimedOut,
            Kind::WouldBlock,
            Kind::ResourceBusy,
            Kind::HostUnreachable,
            Kind::NetworkUnreachable,
            Kind::NetworkDown,
            Kind::BrokenPipe,
            Kind::UnexpectedEof,
            Kind::NotConnected,
            Kind::ConnectionRefused,
            Kind::ConnectionReset,
            Kind::ConnectionAborted,
        ];
        let other = [Kind::NotFound, Kind::PermissionDenied, Kind::InvalidData, Kind::Other];
        let all = passing.map(|kind| (kind, true)).into_iter();
        for (kind, passes) in all.chain(other.map(|kind| (kind, false))) {
            let error = failure(move |_: &str| Err(kind.into()));
            assert_eq!(
                (error.kind(), error.is_transient()),
                (ErrorKind::Resolve, passes),
                "{kind}"
            );
            assert_eq!(io::Error::from(error).kind() == Kind::NotFound, kind == Kind::NotFound);
        }
        // The error comes from the crate itself, if a resolver connects through it.
        let error = failure(|_: &str| {
            let silent = connector(|_: &str| Err(Kind::WouldBlock.into()));
            silent.connect(("server.test", 53))?.opened()?;
            Ok(vec![HERE])
        });
        assert!(!error.is_retryable(), "the socket has failed");
        assert!(error.kind() == ErrorKind::Resolve && error.is_transient(), "{error:?}");
    });
}

/// The error says nothing about the name: neither that it exists nor that it does not.
#[cfg(unix)]
#[test]
fn a_lack_of_resources_in_a_resolver_is_not_a_failure_of_the_name() {
    with_watchdog(|| {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
            let bare = move |_: &str| Err(io::Error::from_raw_os_error(code));
            let wrapped = move |_: &str| {
                let error = io::Error::from_raw_os_error(code);
                Err(io::Error::new(io::ErrorKind::NotFound, io::Error::other(error)))
            };
            let through = move |_: &str| {
                let inner = connector(move |_: &str| Err(io::Error::from_raw_os_error(code)));
                inner.connect(("server.test", 53))?.opened()?;
                Ok(vec![HERE])
            };
            for error in [failure(bare), failure(wrapped), failure(through)] {
                assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
                assert!(!error.is_retryable(), "{error:?}");
            }
        }
        // The missing file is one of the resolver's.
        let error = failure(|_: &str| Err(io::Error::from_raw_os_error(libc::ENOENT)));
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
    });
}

#[test]
fn every_call_reports_a_failed_lookup() {
    with_watchdog(|| {
        let socket = connector(|_: &str| Err(io::Error::from(io::ErrorKind::PermissionDenied)))
            .connect(("name.test", 4321))
            .expect("the address is valid");
        let failure = read(&socket, 1).expect_err("the lookup fails");
        assert_eq!(failure.kind(), io::ErrorKind::PermissionDenied);
        assert_fails(socket.opened(), ErrorKind::Resolve);
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Resolve);
        assert_fails(socket.writer().close(), ErrorKind::Resolve);
        socket.close().expect("it had failed");
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

#[test]
fn a_resolver_that_panics_fails_its_socket_and_no_other() {
    with_watchdog(|| {
        let nothing = closed_port();
        let port = nothing.address.port();
        let connector = connector(|name: &str| match name {
            // This bypasses the panic hook, which would print the panic.
            "panic.test" => resume_unwind(Box::new("out of luck")),
            _ => Ok(vec![HERE]),
        });
        // More panics than resolver threads.
        for _ in 0..40 {
            let socket = connector.connect(("panic.test", port)).expect("the address is valid");
            let error = socket.opened_timeout(WATCHDOG).expect_err("the lookup fails");
            assert_eq!(error.kind(), ErrorKind::Resolve);
            let source = error.source().expect("the error has a source").to_string();
            assert!(source.contains("panicked"), "{source}");
        }
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::Connect);
    });
}

#[test]
fn an_empty_answer_is_a_failed_lookup() {
    with_watchdog(|| {
        let error = failure(|_: &str| Ok(Vec::new()));
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert!(error.to_string().contains("no address"), "{error}");
        assert!(error.attempts().is_empty());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn duplicates_are_dialled_once() {
    with_watchdog(|| {
        let nothing = closed_port();
        let port = nothing.address.port();
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for answer in [vec![HERE, HERE, mapped, HERE, mapped], [HERE, mapped].repeat(500)] {
            let connector = connector(move |_: &str| Ok(answer.clone()));
            let socket = connector.connect(("name.test", port)).expect("the address is valid");
            let error = socket.opened().expect_err("nothing listens");
            let attempts: Vec<_> = error.attempts().iter().map(|one| one.address()).collect();
            assert_eq!(attempts, [HERE, mapped].map(|ip| SocketAddr::new(ip, port)));
        }
        let connector = connector(move |_: &str| Ok(vec![six, HERE, six]));
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        let error = socket.opened().expect_err("nothing listens");
        assert_eq!(error.attempts().len(), 2, "{error:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn only_the_first_of_ten_thousand_addresses_are_dialled() {
    use crate::support::net::TcpListener;
    use sockeye::machine::MAX_ADDRESSES;

    with_watchdog(|| {
        // No other process can take the port on any of the addresses, and nothing listens on it.
        let all = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a descriptor is free");
        all.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).expect("a port is free");
        let port =
            all.local_addr().expect("it is bound").as_socket().expect("an IP address").port();
        let many: Vec<IpAddr> = (0..10_000_u16)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                IpAddr::from([127, 77, high, low])
            })
            .collect();
        let answer = many.clone();
        let connector = connector(move |_: &str| Ok(answer.clone()));
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        let error = at_once(|| socket.opened()).expect_err("nothing listens");
        let attempts: Vec<_> = error.attempts().iter().map(|one| one.address().ip()).collect();
        assert_eq!(attempts, many[..MAX_ADDRESSES]);
        assert!(error.to_string().len() < 1000, "the message is short: {error}");
        // The last dialled address may be the one that listens.
        drop(all);
        let listener = TcpListener::bind((many[MAX_ADDRESSES - 1], 0)).expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let socket = connector.connect(("name.test", port)).expect("the address is valid");
        let info = socket.opened().expect("the last one listens");
        assert_eq!(info.remote_address().map(|remote| remote.ip()), Some(many[MAX_ADDRESSES - 1]));
    });
}

// -------------------------------------------------------------------- duration

/// A resolver that answers `HERE` at each signal.
struct Gate {
    open: Sender<()>,
    asked: Receiver<()>,
}

fn gated() -> (Connector, Gate) {
    let (open, opened) = mpsc::channel::<()>();
    let (ask, asked) = mpsc::channel();
    let both = Mutex::new((ask, opened));
    let connector = connector(move |_: &str| {
        let both = both.lock().unwrap_or_else(PoisonError::into_inner);
        // The receiver is gone once the test is over.
        let _ = both.0.send(());
        let _ = both.1.recv();
        Ok(vec![HERE])
    });
    (connector, Gate { open, asked })
}

#[test]
fn a_slow_lookup_delays_only_its_own_socket() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let (slow, gate) = gated();
        let port = peer.address().port();
        let socket = at_once(|| slow.connect(("slow.test", port))).expect("the address is valid");
        gate.asked.recv_timeout(WATCHDOG).expect("the resolver is called");
        assert_eq!(socket.phase(), Phase::Connecting);
        let error = socket.opened_timeout(ms(50)).expect_err("the lookup is in progress");
        assert!(error.is_retryable(), "{error:?}");
        let other = listen();
        let address = other.local_addr().expect("it listens");
        sockeye::connect(address).expect("the address is valid").opened().expect("it listens");
        let quick = connector(|_: &str| Ok(vec![HERE]));
        let second = quick.connect(("name.test", address.port())).expect("the address is valid");
        second.opened().expect("it listens");
        assert_eq!(socket.phase(), Phase::Connecting);
        gate.open.send(()).expect("the lookup waits for it");
        let info = socket.opened().expect("the peer listens");
        assert_eq!(info.remote_address(), Some(peer.address()));
        socket.close().expect("the close succeeds");
        peer.assert_received(b"");
    });
}

#[test]
fn a_timeout_during_the_lookup_names_the_lookup() {
    const LIMIT: std::time::Duration = ms(300);
    with_watchdog(|| {
        let (slow, gate) = gated();
        let options = SocketOptions::new().connect_timeout(LIMIT);
        let (error, took) = timed(|| {
            let socket =
                slow.connect_with(("slow.test", 4321), options).expect("the address is valid");
            socket.opened().expect_err("the lookup hangs")
        });
        assert!(took >= LIMIT && took < LIMIT + PROMPT, "took {took:?}");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("lookup"), "{error}");
        assert!(error.attempts().is_empty());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
        drop(gate);
    });
}

#[test]
fn close_abort_or_the_last_handle_end_a_lookup_for_its_socket() {
    with_watchdog(|| {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let (slow, gate) = gated();
        for round in 0..3 {
            let socket = slow.connect(("slow.test", port)).expect("the address is valid");
            gate.asked.recv_timeout(WATCHDOG).expect("the resolver is called");
            if round < 2 {
                let waiter = socket.clone();
                let waiting = spawn_blocked(move || waiter.opened());
                let reader = socket.reader();
                let reading = spawn_blocked(move || read(reader, 1));
                match round {
                    0 => at_once(|| socket.close()).expect("nothing prevents it"),
                    _ => at_once(|| socket.abort()),
                }
                assert_fails(waiting.join_within(PROMPT), ErrorKind::Closed);
                assert_fails(reading.join_within(PROMPT), ErrorKind::Closed);
            }
            drop(socket);
            gate.open.send(()).expect("the lookup waits for it");
        }
        // The answers came too late to be dialled, so the next connection is the first in the backlog.
        let socket = slow.connect(("slow.test", port)).expect("the address is valid");
        gate.open.send(()).expect("the lookup will wait for it");
        let local = socket.opened().expect("it listens").local_address();
        let (_, from) = listener.accept().expect("the connection is in the backlog");
        assert_eq!(Some(from), local);
    });
}

/// Closed sockets do not keep the resources of their lookups.
#[test]
fn a_resolver_is_dropped_with_its_last_user() {
    with_watchdog(|| {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let connector = connector(move |_: &str| {
            let _held = &held;
            Ok(vec![HERE])
        });
        let nothing = closed_port();
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let failed =
            connector.connect(("name.test", nothing.address.port())).expect("the address is valid");
        let open = connector.connect(("name.test", address.port())).expect("the address is valid");
        assert_fails(failed.opened(), ErrorKind::Connect);
        open.opened().expect("it listens");
        assert!(weak.upgrade().is_some(), "the connector holds it");
        drop(connector);
        eventually(PROMPT, "the resolver is dropped", || weak.upgrade().is_none());
        assert_eq!(open.phase(), Phase::Open);
    });
}
