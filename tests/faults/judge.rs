//! The conditions that a case must meet to survive.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sockeye::{ErrorKind, Socket};

use crate::support::peer::Server;
use crate::support::process::descriptors;
use crate::support::{
    HasErrorKind, PROMPT, SpawnedCall, WATCHDOG, assert_fails, eventually, read, read_exactly,
    spawn_blocked, spawn_call, write_until_error,
};

/// The delay that a busy machine may add to any deadline.
pub const SLACK: Duration = Duration::from_millis(1500);

/// The descriptors that the library keeps for good: the poll, its duplicate, and the waker.
const KEPT: usize = 3;

/// The prefix of the panic messages of a case's own resolver.
pub const OWN_PANIC: &str = "the case's own";

/// The assertion in debug builds of rustls that fails if an alert follows a `close_notify`. The library catches the
/// panic.
const RUSTLS_PANIC: &str = "assertion failed: !self.sent_fatal_alert";

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

// -------------------------------------------------------------------- before and after

/// The descriptors and threads before the case.
pub struct LeakCheck {
    descriptors: usize,
    threads: BTreeMap<String, usize>,
}

impl LeakCheck {
    pub fn begin(warm: bool) -> LeakCheck {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let words = info.to_string();
            if !words.contains(OWN_PANIC) && !words.contains(RUSTLS_PANIC) {
                PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(words);
                usual(info);
            }
        }));
        if warm {
            works();
            // The event loop closes the wire after it has drained it for a while.
            eventually(WATCHDOG, "the event loop closes the first socket", || sockets() == 0);
        }
        let kept = if warm { 0 } else { KEPT };
        LeakCheck { descriptors: descriptors().len() + kept, threads: threads() }
    }

    /// Checks that a later socket works, and that no descriptor or thread is left over.
    pub fn end(self) {
        works();
        let begun = Instant::now();
        loop {
            let (descriptors, threads) = (descriptors().len(), threads());
            let mine = |name: &&String| !name.starts_with("sockeye-loop");
            let more: Vec<_> = threads
                .iter()
                .filter(|(name, count)| {
                    mine(name) && **count > self.threads.get(*name).copied().unwrap_or_default()
                })
                .collect();
            if descriptors <= self.descriptors && more.is_empty() && loops(&threads) <= 1 {
                break;
            }
            assert!(
                begun.elapsed() < WATCHDOG,
                "{} descriptors became {descriptors}; left over: {more:?}",
                self.descriptors
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let panics = std::mem::take(&mut *panics);
        assert!(panics.is_empty(), "panics: {panics:?}");
    }
}

/// Checks that a socket to a peer in this process works from connect to close.
pub fn works() {
    spawn_call(live).join();
}

fn live() {
    let server = Server::echoes();
    let mut socket = sockeye::connect(server.address()).expect("the address is fine");
    socket.opened_timeout(WATCHDOG).expect("the server listens");
    socket.write_all(b"well").expect("the server reads");
    assert_eq!(read_exactly(&socket, 4).expect("the server sends"), b"well");
    socket.writer().close().expect("the server reads");
    assert_eq!(read(&socket, 1).expect("a clean end"), b"");
    fails_not(socket.closed_timeout(WATCHDOG));
}

/// Counts the threads of this process by name.
fn threads() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").expect("Linux has it") {
        let path = entry.expect("it stays readable").path().join("comm");
        // The thread may have ended since it was listed.
        if let Ok(name) = fs::read_to_string(path) {
            *names.entry(name.trim_end().to_owned()).or_default() += 1;
        }
    }
    names
}

fn loops(threads: &BTreeMap<String, usize>) -> usize {
    threads.get("sockeye-loop").copied().unwrap_or_default()
}

/// Counts the sockets of this process.
fn sockets() -> usize {
    let links = descriptors()
        .into_iter()
        .filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

// -------------------------------------------------------------------- waiting calls

/// Blocked calls, each in its own thread.
#[derive(Default)]
pub struct BlockedCalls(Vec<(&'static str, SpawnedCall<CallReport>)>);

/// The result of a call, and the time when it returned.
pub struct CallReport {
    kind: Option<ErrorKind>,
    at: Instant,
}

impl CallReport {
    fn now(result: impl HasErrorKind) -> CallReport {
        CallReport { kind: result.failure(), at: Instant::now() }
    }
}

impl BlockedCalls {
    pub fn opened(mut self, socket: &Socket) -> BlockedCalls {
        let socket = socket.clone();
        self.0.push(("opened", spawn_blocked(move || CallReport::now(socket.opened()))));
        self
    }

    /// Adds a read that has to fail, or to return the peer's EOF.
    pub fn read(mut self, socket: &Socket) -> BlockedCalls {
        let reader = socket.reader();
        let call = move || {
            let result = read(reader, 64);
            let message = CallReport::now(result.as_ref().map(drop).map_err(copy));
            assert!(
                result.is_err() || result.is_ok_and(|bytes| bytes.is_empty()),
                "the read returned bytes"
            );
            message
        };
        self.0.push(("read", spawn_blocked(call)));
        self
    }

    /// Adds writes that are repeated until one fails.
    pub fn write(mut self, socket: &Socket) -> BlockedCalls {
        let writer = socket.writer();
        let call = move || {
            let (_, failure) = write_until_error(writer, b'w', usize::MAX);
            CallReport::now(Err::<(), _>(failure.expect("it stops only after a failure")))
        };
        self.0.push(("write", spawn_blocked(call)));
        self
    }

    pub fn closed(mut self, socket: &Socket) -> BlockedCalls {
        let socket = socket.clone();
        self.0.push(("closed", spawn_blocked(move || CallReport::now(socket.closed()))));
        self
    }

    /// Adds any other call that must end with the same error.
    pub fn call<R: HasErrorKind + Send>(
        mut self,
        name: &'static str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> BlockedCalls {
        self.0.push((name, spawn_blocked(move || CallReport::now(work()))));
        self
    }

    /// Checks that each call ends with this error, or cleanly if it is `None`, soon after the cause.
    #[track_caller]
    pub fn at_once(self, cause: Instant, kind: impl Into<Option<ErrorKind>>) {
        self.assert_ended(cause, Duration::ZERO, kind);
    }

    /// Checks that each call ends with this error, no earlier than the deadline and within twice that time.
    #[track_caller]
    pub fn assert_ended(
        self,
        since: Instant,
        deadline: Duration,
        kind: impl Into<Option<ErrorKind>>,
    ) {
        let kind = kind.into();
        // The kernel counts its own deadlines in ticks of at most 10 ms.
        let earliest = deadline.saturating_sub(Duration::from_millis(10));
        let latest = 2 * deadline + SLACK;
        for (name, call) in self.0 {
            let left = (latest + SLACK).saturating_sub(since.elapsed());
            let message = call.join_within(left.max(PROMPT));
            let after = message.at.saturating_duration_since(since);
            assert_eq!(message.kind, kind, "the error of {name}, after {after:?}");
            assert!(
                earliest <= after && after <= latest,
                "{name} returned after {after:?}, with a deadline of {deadline:?}"
            );
        }
    }

    /// Does the same as [`assert_ended`](Self::assert_ended) for a deadline of the kernel, which may end early.
    #[track_caller]
    pub fn told_by_the_system(self, since: Instant, deadline: Duration, kind: ErrorKind) {
        // The kernel counts from the last segment of the peer, which came a little before the fault.
        let before = since.checked_sub(deadline).expect("the clock has run for longer");
        let latest = 3 * deadline + SLACK;
        for (name, call) in self.0 {
            let message = call.join_within((latest + SLACK).saturating_sub(before.elapsed()));
            let after = message.at.saturating_duration_since(since);
            assert_eq!(message.kind, Some(kind), "the error of {name}, after {after:?}");
            assert!(message.at.duration_since(before) <= latest, "{name} returned after {after:?}");
        }
    }
}

/// Checks that later calls fail with the same error.
#[track_caller]
pub fn told_ever_after(socket: &Socket, kind: ErrorKind) {
    for _ in 0..2 {
        assert_fails(socket.closed_timeout(PROMPT), kind);
        assert_fails(read(socket, 64), kind);
        let (_, failure) = write_until_error(socket, b'w', 1);
        assert_fails(Err::<(), _>(failure.expect("it has failed")), kind);
    }
}

#[track_caller]
pub fn fails_not(result: impl HasErrorKind) {
    assert_eq!(result.failure(), None);
}

/// Copies an error's kind and the crate's error in it; nothing else of it is compared.
fn copy(error: &std::io::Error) -> std::io::Error {
    match sockeye::Error::from_io(error) {
        Some(inner) => inner.clone().into(),
        None => error.kind().into(),
    }
}
