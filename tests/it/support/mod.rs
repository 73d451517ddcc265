//! Shared test support: a watchdog, checks of errors, calls that run in a thread, and test data. Peers are in `peer`,
//! and tests that need a process for themselves are in `alone`.

#[cfg(unix)]
pub mod example;
#[cfg(target_os = "linux")]
pub mod flood;
pub mod net;
pub mod peer;
#[cfg(target_os = "linux")]
pub mod process;
mod skips;
#[cfg(target_os = "linux")]
pub mod strace;
#[cfg(target_os = "linux")]
pub mod subprocess;
pub mod tls;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use sockeye::{Connector, Error, ErrorKind, Phase, Socket, SocketOptions, TcpOptions};

pub use peer::{EndKind, Peer};

/// The longest time that a whole test may take before it is considered hung.
pub const WATCHDOG: Duration = Duration::from_secs(30);

/// The meaning of "at once" on a machine that is busy with other tests.
pub const PROMPT: Duration = Duration::from_secs(1);

pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs `work` and panics if it takes longer than `limit`.
#[track_caller]
pub fn with_limit<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match spawn_call(work).outcome(limit) {
        Some(value) => value,
        None => panic!("still running after {limit:?}"),
    }
}

/// Runs a test that has to end by itself.
#[track_caller]
pub fn with_watchdog(work: impl FnOnce() + Send + 'static) {
    with_limit(WATCHDOG, work);
}

/// Records why a test cannot run here; the process prints all reasons when it exits.
pub fn skip(id: &str, reason: &str) {
    skips::note(id, reason);
}

// -------------------------------------------------------------------- calls in threads

/// A call that runs in a thread of its own.
pub struct SpawnedCall<T> {
    result: Receiver<thread::Result<T>>,
}

/// Starts `work` in a thread.
pub fn spawn_call<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> SpawnedCall<T> {
    let (send, result) = mpsc::channel();
    thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // The receiver is gone if the test has already failed.
        let _ = send.send(outcome);
    });
    SpawnedCall { result }
}

/// Starts `work` in a thread and returns once that thread sleeps in a wait.
#[track_caller]
pub fn spawn_blocked<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> SpawnedCall<T> {
    let (sender, receiver) = mpsc::channel();
    let running = spawn_call(move || {
        sender.send(whoami()).expect("the starter waits for this");
        work()
    });
    let thread = receiver.recv().expect("the thread sends its id first");
    wait_until_asleep(thread);
    running
}

impl<T> SpawnedCall<T> {
    /// Returns the result, which has to arrive within `WATCHDOG`.
    #[track_caller]
    pub fn join(self) -> T {
        self.join_within(WATCHDOG)
    }

    #[track_caller]
    pub fn join_within(self, limit: Duration) -> T {
        match self.outcome(limit) {
            Some(value) => value,
            None => panic!("the call has not returned within {limit:?}"),
        }
    }

    /// Returns `None` if the call is still running after `limit`. A panic of the call resumes here.
    fn outcome(&self, limit: Duration) -> Option<T> {
        match self.result.recv_timeout(limit) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the thread sends before it ends"),
        }
    }

    /// Resumes the panic of the call if it has panicked.
    pub fn panic_if_it_has(self) {
        if let Ok(Err(panic)) = self.result.try_recv() {
            resume_unwind(panic);
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.result.try_recv(), Err(mpsc::TryRecvError::Empty))
    }
}

#[cfg(target_os = "linux")]
fn whoami() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[cfg(not(target_os = "linux"))]
fn whoami() -> i32 {
    0
}

/// Waits until the thread sleeps in five checks in a row: a thread that only waits for a lock wakes in between.
#[cfg(target_os = "linux")]
fn wait_until_asleep(thread: i32) {
    let begun = Instant::now();
    let mut looks = 0;
    while looks < 5 {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else {
            return;
        };
        let state = stat.rsplit(") ").next().expect("a state follows the name");
        looks = if state.starts_with('S') { looks + 1 } else { 0 };
        assert!(begun.elapsed() < WATCHDOG, "thread {thread} never waits");
        thread::sleep(ms(2));
    }
}

/// Waits for a fixed time on systems that do not report the state of a thread.
#[cfg(not(target_os = "linux"))]
fn wait_until_asleep(_thread: i32) {
    thread::sleep(ms(100));
}

/// Polls until `holds` returns true, for changes that cause no event a test could wait for.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not after {limit:?}: {what}");
        thread::sleep(ms(5));
    }
}

/// Returns the result of `work` and its duration.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let value = work();
    (value, begun.elapsed())
}

#[track_caller]
pub fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let (value, took) = timed(work);
    assert!(took < PROMPT, "took {took:?}");
    value
}

/// Checks that a call that should not block takes less than 100 ms; `measure` returns its duration. A busy machine may
/// delay one try, but not several.
#[track_caller]
pub fn within_100_ms(mut measure: impl FnMut() -> Duration) {
    let mut tries = Vec::new();
    while tries.len() < 5 {
        let took = measure();
        assert!(took < PROMPT, "took {took:?}");
        if took < ms(100) {
            return;
        }
        tries.push(took);
    }
    panic!("took {tries:?}");
}

// -------------------------------------------------------------------- checks of errors

/// A result that may carry an error of the crate.
pub trait HasErrorKind {
    /// Returns `None` for a success. A failed `io::Result` has to carry the crate's error, with the matching
    /// `io::ErrorKind`.
    fn failure(&self) -> Option<ErrorKind>;
}

impl<T> HasErrorKind for Result<T, Error> {
    fn failure(&self) -> Option<ErrorKind> {
        self.as_ref().err().map(Error::kind)
    }
}

impl<T> HasErrorKind for Result<T, io::Error> {
    #[track_caller]
    fn failure(&self) -> Option<ErrorKind> {
        self.as_ref().err().map(crate_kind)
    }
}

/// Returns the crate's kind inside an `io::Error`.
#[track_caller]
pub fn crate_kind(error: &io::Error) -> ErrorKind {
    let Some(inner) = Error::from_io(error) else {
        panic!("not an error of the crate: {error:?}");
    };
    if let Some(expected) = io_kind(inner.kind()) {
        assert_eq!(error.kind(), expected, "the io kind of {inner:?}");
    }
    inner.kind()
}

/// Returns the `io::ErrorKind` of a kind, or `None` if the system's own kind is kept.
pub fn io_kind(kind: ErrorKind) -> Option<io::ErrorKind> {
    match kind {
        ErrorKind::InvalidAddress | ErrorKind::InvalidOptions | ErrorKind::InvalidState => {
            Some(io::ErrorKind::InvalidInput)
        }
        ErrorKind::Denied | ErrorKind::Loop => Some(io::ErrorKind::PermissionDenied),
        ErrorKind::Limit => Some(io::ErrorKind::ResourceBusy),
        ErrorKind::Tls | ErrorKind::UnreadPlaintext => Some(io::ErrorKind::InvalidData),
        ErrorKind::Truncated => Some(io::ErrorKind::UnexpectedEof),
        ErrorKind::TimedOut => Some(io::ErrorKind::TimedOut),
        ErrorKind::Lost => Some(io::ErrorKind::ConnectionAborted),
        ErrorKind::Reset => Some(io::ErrorKind::ConnectionReset),
        ErrorKind::Closed | ErrorKind::Upgraded => Some(io::ErrorKind::NotConnected),
        // A reply of a proxy has a kind of its own.
        ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::Proxy | ErrorKind::Io => None,
        other => panic!("unexpected kind: {other:?}"),
    }
}

/// Checks that the result is a failure of this kind.
#[track_caller]
pub fn assert_fails(result: impl HasErrorKind, kind: ErrorKind) {
    assert_eq!(result.failure(), Some(kind));
}

/// Like [`fails`], for a call whose own limit passed while the socket stays open.
#[track_caller]
pub fn assert_times_out<T: Debug>(result: io::Result<T>) {
    let error = result.expect_err("the call times out");
    assert_eq!(crate_kind(&error), ErrorKind::TimedOut);
    let inner = Error::from_io(&error).expect("kind_of found it");
    assert!(inner.is_retryable(), "{inner}");
}

/// Checks that the socket has ended: reads, writes and `closed` report this cause every time.
#[track_caller]
pub fn assert_ended_with(mut socket: &Socket, cause: ErrorKind) {
    for _ in 0..2 {
        assert_fails(socket.closed_timeout(PROMPT), cause);
        assert_fails(read(socket, 10), cause);
        assert_fails(socket.write(b"late"), cause);
    }
    assert_eq!(socket.phase(), Phase::Closed);
}

/// Returns the system's error number at the end of an error's chain of sources.
#[cfg(target_os = "linux")]
pub fn system_code(error: &Error) -> Option<i32> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        cause = error.source();
    }
    None
}

// -------------------------------------------------------------------- sockets and data

/// Opens a socket that is connected to `peer`.
#[track_caller]
pub fn open(peer: &Peer) -> Socket {
    open_with(peer, SocketOptions::new())
}

#[track_caller]
pub fn open_with(peer: &Peer, options: SocketOptions) -> Socket {
    let socket = sockeye::connect_with(peer.address(), options)
        .expect("the address and the options are valid");
    socket.opened().expect("the peer listens");
    socket
}

/// Returns a connector whose lookups return this answer, one for each signal of the test.
pub fn resolver_on_signal(answer: fn() -> io::Result<Vec<IpAddr>>) -> (Connector, Sender<()>) {
    let (say, go) = mpsc::channel();
    let go = Mutex::new(go);
    let resolver = move |_: &str| {
        let go = go.lock().expect("no thread panics while it holds the lock");
        go.recv_timeout(WATCHDOG).expect("the test sends the signal");
        answer()
    };
    (Connector::builder().resolver(resolver).build().expect("the rules are valid"), say)
}

/// Reads once, at most `most` bytes.
pub fn read(mut from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; most];
    let count = from.read(&mut buf)?;
    buf.truncate(count);
    Ok(buf)
}

/// Reads everything up to the clean end.
pub fn read_to_end(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(all)
}

pub fn read_exactly(mut from: impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; count];
    from.read_exact(&mut buf)?;
    Ok(buf)
}

/// Writes `byte` until a write fails or `most` bytes were accepted. Returns the number of accepted bytes and the
/// failure.
pub fn write_until_error(
    mut into: impl Write,
    byte: u8,
    most: usize,
) -> (usize, Option<io::Error>) {
    let chunk = [byte; 16 * 1024];
    let mut taken = 0;
    while taken < most {
        match into.write(&chunk[..chunk.len().min(most - taken)]) {
            Ok(count) => taken += count,
            Err(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

/// Writes until the socket accepts no more, not even bytes that trickle through, and returns the number of accepted
/// bytes. The peer has to be [`Peer::stuck`]. Removes the write timeout.
#[track_caller]
pub fn fill_send_buffer(socket: &Socket) -> usize {
    let mut all = 0;
    let mut refusals = 0;
    socket.set_write_timeout(Some(ms(50))).expect("not zero");
    while refusals < 3 {
        let (taken, failure) = write_until_error(socket, b'w', usize::MAX);
        assert_times_out::<()>(Err(failure.expect("the peer does not read")));
        all += taken;
        refusals = if taken == 0 { refusals + 1 } else { 0 };
    }
    socket.set_write_timeout(None).expect("`None` removes the limit");
    all
}

/// Returns pseudo-random bytes, of which no two stretches are alike.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Compares long byte strings; a failure shows only the first difference.
#[track_caller]
pub fn assert_bytes_eq(got: &[u8], want: &[u8]) {
    let differ = got.iter().zip(want).position(|(a, b)| a != b);
    assert_eq!(differ, None, "position of the first difference");
    assert_eq!(got.len(), want.len(), "the lengths");
}

/// Returns options with a small send buffer, so that writes block soon.
pub fn small_send_buffer() -> SocketOptions {
    SocketOptions::new().tcp(TcpOptions::new().send_buffer_size(4096))
}

/// The number of accepted bytes, and the error that ended the writing.
pub type WrittenThenError = (usize, Option<io::Error>);

/// Starts a read and a write of this socket, which both block; the peer has to be [`Peer::stuck`].
#[track_caller]
pub fn spawn_blocked_read_and_write(
    socket: &Socket,
) -> (SpawnedCall<io::Result<Vec<u8>>>, SpawnedCall<WrittenThenError>) {
    let (reader, writer) = (socket.reader(), socket.writer());
    (
        spawn_blocked(move || read(reader, 1024)),
        spawn_blocked(move || write_until_error(writer, b'w', usize::MAX)),
    )
}

/// Returns an instant in the past.
pub fn past_instant() -> Instant {
    Instant::now().checked_sub(Duration::from_secs(1)).expect("the clock has run for a second")
}

/// Checks that the process may open this many descriptors, and raises the soft limit if necessary.
#[cfg(unix)]
pub fn raise_descriptor_limit(wanted: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return false;
    }
    let raised = Rlimit { current: limit.maximum.or(Some(wanted)), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).is_ok()
}

#[cfg(not(unix))]
pub fn raise_descriptor_limit(_wanted: u64) -> bool {
    true
}
