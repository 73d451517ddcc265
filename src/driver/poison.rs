//! What becomes of a socket if a panic interrupts the work on it, which is a bug of this crate.
//!
//! The state may be half changed by then, so nothing that it says is believed any more, least of all a clean
//! end: every call fails with [`Fault::Internal`], the peer sees a reset, and the socket gives its place back.
//! The thread that panics sees to that while it unwinds, so that nobody need call again; and whichever thread
//! takes the lock before finds the lock poisoned, and does it.

use std::any::Any;
use std::sync::{Arc, Weak};

use super::roster::Registry;
use super::shared::{Connection, ConnectionState, Establishing, StateGuard, start_next};
use super::sync::mio::Token;
use super::wait::WakeHandle;
use super::wire::Wire;
use super::workers::drop_off_loop;
use super::young::IdleSlot;
use super::{Command, LoopHandle, Urgency, catch_panic};
use crate::error::{Error, Fault};

impl Connection {
    /// Runs a call, or a part of the loop's work. If it panics, the socket fails.
    #[inline(always)]
    pub(crate) fn fail_on_panic<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        let unwinding = FailOnUnwind(self);
        let result = work();
        std::mem::forget(unwinding);
        result
    }

    /// Notes that this thread carries something out on the wire. If it panics the socket fails, and nobody
    /// waits for it any more. To be forgotten when it is done.
    pub(super) fn executor_guard(&self) -> ExecutorGuard<'_> {
        ExecutorGuard(self)
    }

    /// Fails the socket: ends every wait, gives back its place, and lets go of its wire, outside the lock.
    #[cold]
    #[inline(never)]
    pub(super) fn fail_internally<'a>(&'a self, mut state: StateGuard<'a>) -> StateGuard<'a> {
        self.state.clear_poison();
        let parts = state.fail_all(self.registry());
        self.changed.notify_all();
        drop(state);
        parts.release(self);
        self.state()
    }
}

/// Dropped only if a panic unwinds through the work on a socket.
struct FailOnUnwind<'a>(&'a Arc<Connection>);

impl Drop for FailOnUnwind<'_> {
    #[cold]
    fn drop(&mut self) {
        // Under the model a panic ends the run. In a forked child the lock may never be released.
        if cfg!(sockeye_shuttle) || self.0.is_forked() {
            return;
        }
        catch_panic(|| {
            // A panic under the lock is found there.
            let state = self.0.state();
            if state.machine.outcome().is_none() {
                drop(self.0.fail_internally(state));
            }
        });
    }
}

/// A thread that carries something out on the wire. Dropped only if it panics.
pub(super) struct ExecutorGuard<'a>(&'a Connection);

impl Drop for ExecutorGuard<'_> {
    #[cold]
    fn drop(&mut self) {
        if cfg!(sockeye_shuttle) || self.0.is_forked() {
            return;
        }
        let mut state = self.0.state();
        state.executors -= 1;
        drop(self.0.fail_internally(state));
    }
}

/// What a socket that failed still had.
struct FailedParts {
    /// In these may be some of the program's, which run its code when they are dropped.
    objects: (Box<dyn Any + Send>, Option<Error>),
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    token: Option<Token>,
    idle_slot: Option<IdleSlot>,
    establishing: Option<Box<Establishing>>,
    /// Who has its place now.
    next_queued: Option<Weak<Connection>>,
}

impl ConnectionState {
    /// Has every query answered by the failure, and takes out what has to be let go of without the lock.
    fn fail_all(&mut self, registry: &Registry) -> FailedParts {
        let state = self.machine.poison();
        let error = self.error.replace(Error::from_fault(Fault::Internal));
        let wake = [self.recv.parker_to_wake(), self.send.parker_to_wake()];
        // Who had a turn may not be there to give it back, and gets nowhere if they are.
        self.recv.turn_held = false;
        self.send.turn_held = false;
        self.upgrading = false;
        let next_queued = self.free_slot(registry);
        FailedParts {
            objects: (state, error),
            wake,
            wire: self.wire.take(),
            token: self.token.take(),
            idle_slot: self.take_idle_slot(),
            establishing: self.establishing.take(),
            next_queued,
        }
    }
}

impl FailedParts {
    fn release(self, connection: &Connection) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
        drop_off_loop(self.objects);
        let mut tokens: Vec<Token> = self.token.into_iter().collect();
        if let Some(mut establishing) = self.establishing {
            tokens.append(&mut establishing.attempts);
            tokens.append(&mut establishing.timers);
            // A resolver is the user's, and so is what happens when it is dropped.
            drop_off_loop(establishing);
        }
        if let Ok(loop_handle) = LoopHandle::get() {
            if let (Some(wire), Some(_)) = (&self.wire, self.token) {
                wire.deregister(loop_handle.registry());
            }
            if let Some(idle_slot) = self.idle_slot {
                loop_handle.idle_list().remove(idle_slot, connection);
            }
            if !tokens.is_empty() {
                loop_handle.post(Command::DropTokens(tokens), Urgency::Now);
            }
        }
        if let Some(wire) = self.wire {
            // What was sent may be cut short: FIN would tell the peer that it is not.
            wire.reset();
        }
        start_next(self.next_queued);
    }
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use std::io::{self, Read};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::driver::{ConnectContext, LookupShare, Origin, RecvBufs, SendBufs, SocketLimit};
    use crate::error::{ErrorKind, Result};
    use crate::info::{Health, Phase};
    use crate::machine::Input;
    use crate::options::{SecureTransport, SocketOptions};
    use crate::resolver::Resolver;

    const WATCHDOG: Duration = Duration::from_secs(20);

    struct TestSocket {
        connection: Arc<Connection>,
        registry: Arc<Registry>,
        listener: TcpListener,
    }

    impl TestSocket {
        fn new(host: &str, resolver: Option<&Arc<dyn Resolver>>) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let port = listener.local_addr().expect("it listens").port();
            let limit = SocketLimit { max: None, wait: false };
            let registry = Arc::new(Registry::new(limit, LookupShare::new(1)));
            let context =
                ConnectContext { resolver, egress: None, registry: &registry, scope: None };
            let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
            let address = (host, port).try_into().expect("it is an address");
            let connection =
                Connection::connect(address, options, Origin::Dial, context).expect("it begins");
            TestSocket { connection, registry, listener }
        }

        /// An open socket, and its peer.
        fn open() -> (Self, TcpStream) {
            let test = TestSocket::new("127.0.0.1", None);
            let (peer, _) = test.listener.accept().expect("it comes");
            peer.set_read_timeout(Some(WATCHDOG)).expect("it is no zero");
            test.connection.opened(Some(WATCHDOG)).expect("the listener is there");
            (test, peer)
        }

        fn panic_after(&self, transitions: u8) {
            self.connection.state().machine.panic_after(transitions);
        }

        /// A call on another thread, which comes to its end all the same.
        fn spawn_call<T: Send + 'static>(
            &self,
            call: impl FnOnce(&Arc<Connection>) -> T + Send + 'static,
        ) -> mpsc::Receiver<T> {
            let (send, result) = mpsc::channel();
            let connection = Arc::clone(&self.connection);
            thread::spawn(move || send.send(connection.fail_on_panic(|| call(&connection))));
            result
        }

        /// Without a call that could bring it about.
        #[track_caller]
        fn assert_slot_freed(&self) {
            let begun = Instant::now();
            while self.registry.open_sockets() > 0 {
                assert!(begun.elapsed() < WATCHDOG, "the socket still has its place");
                thread::sleep(Duration::from_millis(5));
            }
        }

        /// Every call says so.
        #[track_caller]
        fn assert_failed(&self) {
            let connection = &self.connection;
            self.assert_slot_freed();
            assert_internal(connection.closed(Some(WATCHDOG)));
            assert_internal(connection.opened(Some(WATCHDOG)));
            assert_internal(connection.read(&mut RecvBufs::One(&mut [0; 4])));
            assert_internal(connection.write(&SendBufs::One(b"data")));
            assert_internal(connection.flush());
            assert_internal(connection.close_write());
            assert_internal(connection.start_tls(None));
            assert!(!connection.is_upgraded());
            assert_eq!(connection.phase(), Phase::Closed);
            let health = connection.health();
            assert!(matches!(&health, Health::Failed(error) if error.kind() == ErrorKind::Io));
            connection.close().expect("it has ended, and nobody waits for who is not there");
            connection.abort(Input::Abort);
            assert_internal(connection.closed(None));
            assert!(connection.state().wire.is_none());
        }
    }

    #[track_caller]
    fn assert_internal<T>(result: Result<T>) {
        let Err(error) = result else { panic!("it reads as a success") };
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "internal error: please report");
        assert!(!error.is_retryable());
    }

    #[track_caller]
    fn assert_reset(mut peer: TcpStream) {
        let error = peer.read_to_end(&mut Vec::new()).expect_err("FIN would read as the end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[track_caller]
    fn assert_panics<T>(connection: &Arc<Connection>, call: impl FnOnce() -> T) {
        let result = catch_unwind(AssertUnwindSafe(|| connection.fail_on_panic(call)));
        assert!(result.is_err(), "there was no panic");
    }

    #[test]
    fn a_panic_in_a_transition_ends_every_wait_and_reads_as_no_clean_end() {
        let calls: [fn(&Arc<Connection>); 5] = [
            |connection| drop(connection.close()),
            |connection| connection.abort(Input::Abort),
            |connection| connection.cancel_read(),
            |connection| drop(connection.start_tls(None)),
            |connection| connection.drop_handle(),
        ];
        for call in calls {
            let (test, peer) = TestSocket::open();
            let reading =
                test.spawn_call(|connection| connection.read(&mut RecvBufs::One(&mut [0; 4])));
            let closing = test.spawn_call(|connection| connection.closed(None));
            thread::sleep(Duration::from_millis(20));
            test.panic_after(0);
            assert_panics(&test.connection, || call(&test.connection));
            assert_internal(reading.recv_timeout(WATCHDOG).expect("the read ends"));
            assert_internal(closing.recv_timeout(WATCHDOG).expect("the wait ends"));
            test.assert_failed();
            assert_reset(peer);
        }
    }

    #[test]
    fn a_panic_on_the_event_loop_needs_no_call_to_show() {
        let (test, peer) = TestSocket::open();
        let closing = test.spawn_call(|connection| connection.closed(None));
        test.panic_after(0);
        // The loop sees the end.
        drop(peer);
        test.assert_slot_freed();
        assert_internal(closing.recv_timeout(WATCHDOG).expect("the wait ends"));
        test.assert_failed();
        // It goes on for others.
        let (other, peer) = TestSocket::open();
        drop(peer);
        other.assert_slot_freed();
        other.connection.closed(Some(WATCHDOG)).expect("the peer has ended");
    }

    #[test]
    fn a_panic_after_a_look_up_needs_no_call_to_show() {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let resolver: Arc<dyn Resolver> = Arc::new(move |_: &str| -> io::Result<Vec<IpAddr>> {
            gone.lock().expect("one asks").recv().expect("the test goes on");
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        });
        let test = TestSocket::new("name.test", Some(&resolver));
        let opening = test.spawn_call(|connection| connection.opened(None).map(drop));
        test.panic_after(0);
        go.send(()).expect("it is asked");
        test.assert_slot_freed();
        assert_internal(opening.recv_timeout(WATCHDOG).expect("the wait ends"));
        test.assert_failed();
    }

    /// At each transition of an upgrade in turn, whichever thread makes it: the socket that has the place then
    /// fails.
    #[test]
    fn a_panic_in_the_middle_of_an_upgrade_upgrades_nothing() {
        for transitions in 0..2 {
            let (test, peer) = TestSocket::open();
            test.panic_after(transitions);
            assert_panics(&test.connection, || test.connection.start_tls(None).map(drop));
            test.assert_failed();
            assert_reset(peer);
        }
    }

    #[test]
    fn a_panic_of_the_driver_under_the_lock_fails_the_socket() {
        for is_guarded in [true, false] {
            let (test, peer) = TestSocket::open();
            let connection = &test.connection;
            let reading =
                test.spawn_call(|connection| connection.read(&mut RecvBufs::One(&mut [0; 4])));
            let closing = test.spawn_call(|connection| connection.closed(None));
            thread::sleep(Duration::from_millis(20));
            let panic_locked = || {
                let mut state = connection.state();
                // The machine's end is a clean one, and nothing of what it takes has been done.
                drop(state.machine.handle(Input::Close, Instant::now()));
                resume_unwind(Box::new("a panic for a test"));
            };
            if is_guarded {
                assert_panics::<()>(connection, panic_locked);
            } else {
                catch_unwind(AssertUnwindSafe(panic_locked)).expect_err("there is a panic");
                // Whichever call comes next sees it.
                assert_eq!(connection.phase(), Phase::Closed);
            }
            assert_internal(reading.recv_timeout(WATCHDOG).expect("the read ends"));
            assert_internal(closing.recv_timeout(WATCHDOG).expect("the wait ends"));
            test.assert_failed();
            assert_reset(peer);
        }
    }

    #[test]
    fn a_panic_while_something_is_carried_out_leaves_nobody_waiting() {
        let (test, peer) = TestSocket::open();
        let connection = &test.connection;
        connection.state().executors += 1;
        let closing = test.spawn_call(|connection| connection.close());
        assert_panics::<()>(connection, || {
            let _guard = connection.executor_guard();
            resume_unwind(Box::new("a panic for a test"));
        });
        closing.recv_timeout(WATCHDOG).expect("the wait ends").expect("it has ended");
        assert_eq!(connection.state().executors, 0);
        assert_internal(connection.closed(Some(WATCHDOG)));
        test.assert_slot_freed();
        drop(peer);
    }

    #[test]
    fn a_panic_of_who_has_a_turn_leaves_it_to_nobody() {
        let (test, peer) = TestSocket::open();
        let connection = &test.connection;
        assert_panics::<()>(connection, || {
            connection.state().send.turn_held = true;
            resume_unwind(Box::new("a panic for a test"));
        });
        test.assert_failed();
        assert_reset(peer);
    }
}
