//! Resolvers that hang, fail, panic, or return no address.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{Connector, ErrorKind, Resolver, Socket, SocketOptions};

use super::connecting::everyone;
use crate::case::FaultCase;
use crate::judge::{OWN_PANIC, fails_not, told_ever_after};
use crate::support::peer::{Server, closed_port};
use crate::support::{WATCHDOG, assert_fails, at_once, ms};

const LIMIT: Duration = ms(700);

pub fn cases() -> Vec<FaultCase> {
    vec![
        FaultCase::new("names/hangs", || {
            let gate = Arc::new(Gate::default());
            let begun = Instant::now();
            let socket = dial(gate.resolver(), 9, SocketOptions::new().connect_timeout(LIMIT));
            everyone(&socket).assert_ended(begun, LIMIT, ErrorKind::TimedOut);
            told_ever_after(&socket, ErrorKind::TimedOut);
            gate.open();
        }),
        FaultCase::new("names/hangs-close", || {
            let gate = Arc::new(Gate::default());
            let socket = dial(gate.resolver(), 9, SocketOptions::new());
            let waiters = crate::judge::BlockedCalls::default().opened(&socket).read(&socket);
            let begun = Instant::now();
            at_once(|| socket.close()).expect("it cancels the attempt");
            waiters.at_once(begun, ErrorKind::Closed);
            fails_not(socket.closed());
            gate.open();
        }),
        FaultCase::new("names/many-hang-others-go-on", || {
            let gate = Arc::new(Gate::default());
            let hang: Vec<Socket> = (0..100)
                .map(|_| dial(gate.resolver(), 9, SocketOptions::new().connect_timeout(LIMIT)))
                .collect();
            crate::judge::works();
            for socket in &hang {
                assert_fails(socket.opened_timeout(WATCHDOG), ErrorKind::TimedOut);
            }
            gate.open();
        }),
        FaultCase::new("names/fails-slowly", || {
            let begun = Instant::now();
            let resolver = |_: &str| {
                // A slow resolver is the fault of this case.
                thread::sleep(LIMIT);
                Err(io::ErrorKind::NotFound.into())
            };
            let socket = dial(resolver, 9, SocketOptions::new());
            everyone(&socket).assert_ended(begun, LIMIT, ErrorKind::Resolve);
            told_ever_after(&socket, ErrorKind::Resolve);
        }),
        fails_at_once("panics", |_| panic!("{OWN_PANIC} resolver panics")),
        fails_at_once("knows-no-address", |_| Ok(Vec::new())),
        fails_at_once("fails-with-an-odd-error", |_| Err(io::Error::from_raw_os_error(0))),
        fails_at_once("ends-its-thread-badly", |_| {
            std::panic::resume_unwind(Box::new(PanicsWhenDropped))
        }),
        FaultCase::new("names/answers-late-with-a-dead-address", || {
            let nothing = closed_port();
            let resolver = |_: &str| {
                thread::sleep(ms(300));
                Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
            };
            let begun = Instant::now();
            let socket = dial(resolver, nothing.address.port(), SocketOptions::new());
            everyone(&socket).assert_ended(begun, ms(300), ErrorKind::Connect);
        }),
        FaultCase::new("names/answers-with-thousands-of-dead-addresses", || {
            let server = Server::echoes();
            let resolver = |_: &str| {
                // Nothing listens on that port of these addresses; the last address is the server's.
                let dead = (1..2000_u16).map(|n| {
                    let [high, low] = n.to_be_bytes();
                    IpAddr::V4(Ipv4Addr::new(127, 9, high, low))
                });
                Ok(dead.chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).collect())
            };
            let socket = dial(resolver, server.address().port(), SocketOptions::new());
            // The socket opens, or fails after too many attempts. It has no connect timeout.
            if let Err(error) = socket.opened_timeout(WATCHDOG) {
                assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
            }
        }),
    ]
}

/// Makes a case in which the resolver fails and every waiting call fails at once.
fn fails_at_once(
    name: &str,
    resolver: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Clone + Send + Sync + 'static,
) -> FaultCase {
    FaultCase::new(format!("names/{name}"), move || {
        let gate = Arc::new(Gate::default());
        let (passes, resolver) = (Arc::clone(&gate), resolver.clone());
        let then = move |name: &str| {
            passes.pass();
            resolver(name)
        };
        let socket = dial(then, 9, SocketOptions::new());
        let waiters = everyone(&socket);
        let begun = Instant::now();
        gate.open();
        waiters.at_once(begun, ErrorKind::Resolve);
        assert_fails(socket.opened(), ErrorKind::Resolve);
        told_ever_after(&socket, ErrorKind::Resolve);
    })
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("{OWN_PANIC} payload panics");
    }
}

fn dial(resolver: impl Resolver, port: u16, options: SocketOptions) -> Socket {
    Connector::builder()
        .resolver(resolver)
        .build()
        .expect("the rules are fine")
        .connect_with(("name.test", port), options)
        .expect("the address is fine")
}

/// Blocks resolvers until it opens.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn resolver(self: &Arc<Self>) -> impl Resolver {
        let gate = Arc::clone(self);
        move |_: &str| {
            gate.pass();
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        }
    }

    fn pass(&self) {
        let mut is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            is_open = self.changed.wait(is_open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}
