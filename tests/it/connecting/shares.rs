//! Lookups that hang delay neither those of other connectors nor those that need no server.
//! Each test fills pools of its process, so each runs in a process of its own.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{Connector, ConnectorBuilder, Error, ErrorKind, Socket, SocketOptions, Step};

use crate::support::peer::listen;
use crate::support::subprocess::in_subprocess;
use crate::support::{PROMPT, WATCHDOG, assert_fails, at_once, eventually, ms, spawn_call};

const LONG: Duration = Duration::from_secs(60);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A gate at which lookups wait.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    asked: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Returns a connector whose lookups wait at the gate.
fn hanging(gate: &Arc<Gate>, builder: ConnectorBuilder) -> Connector {
    let gate = Arc::clone(gate);
    let resolver = move |_: &str| {
        gate.pass();
        Ok(vec![HERE])
    };
    builder.resolver(resolver).build().expect("the rules are valid")
}

fn dial(connector: &Connector, count: usize) -> Vec<Socket> {
    let dial = |_| connector.connect(("hangs.test", 9)).expect("the address is valid");
    (0..count).map(dial).collect()
}

fn threads_for_names() -> usize {
    let names = fs::read_dir("/proc/self/task").expect("Linux has the file").filter_map(|entry| {
        // The thread may have ended since it was listed.
        fs::read_to_string(entry.expect("it stays readable").path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("sockeye-names")).count()
}

#[test]
fn lookups_of_one_connector_never_delay_those_of_another() {
    const NAME: &str = "connecting::shares::lookups_of_one_connector_never_delay_those_of_another";
    in_subprocess(NAME, LONG, || {
        let gate = Arc::new(Gate::default());
        let stuck = hanging(&gate, Connector::builder());
        let sockets = dial(&stuck, 100);
        eventually(WATCHDOG, "the maximum number of lookups hang", || gate.asked() == 16);
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        for _ in 0..20 {
            let other = Connector::builder().resolver(|_: &str| Ok(vec![HERE])).build();
            let other = other.expect("the rules are valid");
            for connector in [&other, Connector::global()] {
                let socket = connector.connect(("localhost", port)).expect("the address is valid");
                at_once(|| socket.opened()).expect("it listens");
                socket.abort();
            }
        }
        assert_eq!(gate.asked(), 16);
        drop(sockets);
        gate.open();
    });
}

#[test]
fn max_lookups_bounds_concurrent_lookups() {
    in_subprocess("connecting::shares::max_lookups_bounds_concurrent_lookups", LONG, || {
        for most in [1, 3, 40] {
            let gate = Arc::new(Gate::default());
            let connector = hanging(&gate, Connector::builder().max_lookups(most));
            let sockets = dial(&connector, most + 5);
            eventually(WATCHDOG, "the maximum number of lookups hang", || gate.asked() == most);
            // No event shows that no further lookup begins.
            thread::sleep(ms(300));
            assert_eq!(gate.asked(), most);
            gate.open();
            for socket in sockets {
                assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::Connect);
            }
            assert_eq!(gate.asked(), most + 5);
        }
    });
}

#[test]
fn max_lookups_of_zero_is_invalid() {
    let error = Connector::builder().max_lookups(0).build().expect_err("zero is refused");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("max_lookups"), "{error}");
}

#[test]
fn a_lookup_without_its_socket_frees_its_share_after_five_seconds() {
    const NAME: &str =
        "connecting::shares::a_lookup_without_its_socket_frees_its_share_after_five_seconds";
    in_subprocess(NAME, LONG, || {
        let [given_up, waited_for] = [(), ()].map(|()| Arc::new(Gate::default()));
        let [one, other] = [&given_up, &waited_for].map(|gate| hanging(gate, Connector::builder()));
        let begun = Instant::now();
        let gone = dial(&one, 16);
        let kept = dial(&other, 17);
        eventually(WATCHDOG, "the maximum number of lookups hang", || {
            given_up.asked() == 16 && waited_for.asked() == 16
        });
        drop(gone);
        let next = dial(&one, 1);
        eventually(WATCHDOG, "another begins", || given_up.asked() == 17);
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(8), "{took:?}");
        assert_eq!(waited_for.asked(), 16, "lookups of open sockets keep their share");
        drop((kept, next));
        given_up.open();
        waited_for.open();
    });
}

/// 40 connectors repeatedly start 16 lookups each, whose sockets are then dropped.
#[test]
fn lookups_of_all_connectors_are_bounded() {
    const NAME: &str = "connecting::shares::lookups_of_all_connectors_are_bounded";
    in_subprocess(NAME, LONG, || {
        let gate = Arc::new(Gate::default());
        let connectors: Vec<_> =
            (0..40).map(|_| hanging(&gate, Connector::builder().max_lookups(100))).collect();
        for round in 0..8 {
            let sockets: Vec<_> = connectors.iter().flat_map(|one| dial(one, 16)).collect();
            // Lookups begin during this time, and after some rounds they lose their shares.
            thread::sleep(ms(900));
            drop(sockets);
            let threads = threads_for_names();
            assert!(threads <= 64, "{threads} threads in round {round}");
        }
        assert!(gate.asked() > 40, "{} began", gate.asked());
        // The system's resolver has threads of its own.
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let socket = sockeye::connect(("localhost", port)).expect("the address is valid");
        at_once(|| socket.opened()).expect("it listens");
        gate.open();
    });
}

#[test]
fn a_timeout_while_waiting_for_a_thread_says_so() {
    const NAME: &str = "connecting::shares::a_timeout_while_waiting_for_a_thread_says_so";
    in_subprocess(NAME, LONG, || {
        let gate = Arc::new(Gate::default());
        let connector = hanging(&gate, Connector::builder().max_lookups(1));
        let open = || {
            let options = SocketOptions::new().connect_timeout(ms(500));
            connector.connect_with(("hangs.test", 9), options).expect("the address is valid")
        };
        let first = open();
        eventually(WATCHDOG, "the resolver is called", || gate.asked() == 1);
        let second = open();
        let steps = [Step::Lookup, Step::WaitForLookup];
        for (socket, step) in [&first, &second].into_iter().zip(steps) {
            let error = socket.opened_timeout(ms(10)).expect_err("the lookup hangs");
            assert_eq!(error.step(), Some(step), "{error:?}");
        }
        let mut steps = steps.into_iter();
        let [first, second] = [first, second].map(|socket| {
            let error = socket.opened_timeout(WATCHDOG).expect_err("the lookup hangs");
            assert_eq!(error.step(), steps.next(), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(!error.is_retryable(), "{error:?}");
            error.to_string()
        });
        assert!(first.contains("during the name lookup"), "{first}");
        assert!(second.contains("waited for other lookups"), "{second}");
        gate.open();
    });
}

// -------------------------------------------------------------------- resolvers that connect by name

/// Simulates a resolver that queries a name server by the server's name.
fn asks_through(asked: Connector, port: u16) -> impl Fn(&str) -> io::Result<Vec<IpAddr>> {
    move |name| {
        if name == "server.test" {
            return Ok(vec![HERE]);
        }
        let socket = asked.connect(("localhost", port))?;
        socket.opened()?;
        Ok(vec![HERE])
    }
}

#[test]
fn forty_concurrent_resolvers_may_connect_by_name() {
    const NAME: &str = "connecting::shares::forty_concurrent_resolvers_may_connect_by_name";
    in_subprocess(NAME, LONG, || {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        for most in [1, 16, 40] {
            let other = Connector::builder().max_lookups(1).build().expect("the rules are valid");
            let connector = Connector::builder()
                .max_lookups(most)
                .resolver(asks_through(other, port))
                .build()
                .expect("the rules are valid");
            open_forty(&connector, port);
        }
    });
}

/// The resolver asks its own connector, for another name.
#[test]
fn a_resolver_may_ask_its_own_connector() {
    in_subprocess("connecting::shares::a_resolver_may_ask_its_own_connector", LONG, || {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        for most in [1, 16, 40] {
            let own: Arc<Mutex<Option<Connector>>> = Arc::default();
            let asked = Arc::clone(&own);
            let resolver = move |name: &str| {
                if name != "server.test" {
                    let own = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let own = own.expect("the connector is set before the first lookup");
                    own.connect(("server.test", port))?.opened()?;
                }
                Ok(vec![HERE])
            };
            let connector = Connector::builder().max_lookups(most).resolver(resolver).build();
            let connector = connector.expect("the rules are valid");
            *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(connector.clone());
            open_forty(&connector, port);
            *own.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    });
}

#[track_caller]
fn open_forty(connector: &Connector, port: u16) {
    let sockets: Vec<_> = (0..40)
        .map(|_| connector.connect(("name.test", port)).expect("the address is valid"))
        .collect();
    for socket in sockets {
        let opened = spawn_call(move || socket.opened().map(|_| ()));
        opened.join_within(WATCHDOG).expect("the peer listens and its name is known");
    }
}

/// A recursion without an end fails at its maximum depth and leaks nothing.
#[test]
fn endless_recursion_of_a_resolver_fails_at_once() {
    const NAME: &str = "connecting::shares::endless_recursion_of_a_resolver_fails_at_once";
    in_subprocess(NAME, LONG, || {
        let own: Arc<Mutex<Option<Connector>>> = Arc::default();
        let asked = Arc::clone(&own);
        let resolver = move |_: &str| {
            let own = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
            own.expect("the connector is set before the first lookup")
                .connect(("name.test", 9))?
                .opened()?;
            Ok(vec![HERE])
        };
        let connector =
            Connector::builder().resolver(resolver).build().expect("the settings are valid");
        *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(connector.clone());
        let socket = connector.connect(("name.test", 9)).expect("the address is valid");
        let opened = spawn_call(move || socket.opened().map(|_| ()));
        let error: Error = opened.join_within(PROMPT * 5).expect_err("the recursion never ends");
        assert_eq!(error.kind(), ErrorKind::Resolve);
        let mut said = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            said.push_str(&format!(": {error}"));
            source = error.source();
        }
        assert!(said.contains("by resolvers themselves"), "{said}");
        assert!(threads_for_names() <= 65, "{} threads", threads_for_names());
        *own.lock().unwrap_or_else(PoisonError::into_inner) = None;
    });
}
