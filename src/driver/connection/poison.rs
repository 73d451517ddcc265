//! Fails a socket if a panic interrupts work on it, which is a bug of this crate.
//!
//! The state may be half changed by then, so nothing in it can be trusted, least of all a clean EOF. Every call fails
//! with [`Fault::Internal`], the peer sees a reset, and the socket frees its slot. The panicking thread does this while
//! it unwinds, so no further call is needed. If another thread takes the lock first, it finds the lock poisoned and
//! does it.

use std::any::Any;
use std::sync::Arc;

use super::direction::TurnState;
use super::transfer::{NewOwner, TakenWire};
use super::{Connection, ConnectionState, Establishing, SocketRegistry, StateGuard, start_next};
use crate::driver::event_loop::handle::drop_off_loop;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::registry::NextInQueue;
use crate::driver::sys;
use crate::driver::sys::wake::WakeHandle;
use crate::error::{Error, Fault};
use crate::panic::catch_panic;
use crate::poll::Ready;

impl Connection {
    /// Runs a call or work of the event loop. If it panics, the socket fails.
    #[inline(always)]
    pub(crate) fn fail_on_panic<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        let unwinding = FailOnUnwind(self);
        let result = work();
        std::mem::forget(unwinding);
        result
    }

    /// Fails the socket while a panic unwinds through work on it.
    #[cold]
    pub(crate) fn fail_on_unwind(&self) {
        // Under the model a panic ends the run. In a forked child the lock may stay locked forever.
        if sys::IS_MODEL || self.is_forked() {
            return;
        }
        catch_panic(|| {
            // If the panic happened under the lock, `state` finds it poisoned and fails the socket.
            let state = self.state();
            if state.machine.outcome().is_none() {
                drop(self.fail_internally(state));
            }
        });
    }

    /// Guards the execution of actions by this thread. If it panics, the socket fails, and no thread waits for these
    /// actions. The caller must forget the guard when the actions are done.
    pub(crate) fn executor_guard(&self) -> ExecutorGuard<'_> {
        ExecutorGuard(self)
    }

    /// Fails the socket: ends every wait, frees its slot, and releases its wire without the lock.
    #[cold]
    #[inline(never)]
    pub(crate) fn fail_internally<'a>(&'a self, mut state: StateGuard<'a>) -> StateGuard<'a> {
        self.state.clear_poison();
        let parts = state.fail_all(self.registry());
        self.changed.notify_all();
        let notify = state.report(Ready::NOTHING);
        drop(state);
        notify.notify();
        parts.release(self);
        self.state()
    }
}

/// A guard that is dropped only if a panic unwinds through work on a socket.
struct FailOnUnwind<'a>(&'a Arc<Connection>);

impl Drop for FailOnUnwind<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.fail_on_unwind();
    }
}

/// A guard for a thread that executes actions. It is dropped only if that thread panics.
pub(crate) struct ExecutorGuard<'a>(&'a Connection);

impl Drop for ExecutorGuard<'_> {
    #[cold]
    fn drop(&mut self) {
        if sys::IS_MODEL || self.0.is_forked() {
            return;
        }
        let mut state = self.0.state();
        state.executors -= 1;
        drop(self.0.fail_internally(state));
    }
}

/// The resources of a failed socket.
struct FailedParts {
    /// These may hold values of the program's, whose drop runs its code.
    objects: (Box<dyn Any + Send>, Option<Error>),
    wake: [Option<Arc<WakeHandle>>; 2],
    taken: TakenWire,
    establishing: Option<Box<Establishing>>,
    /// The queued socket that got its slot.
    next_queued: Option<NextInQueue<Connection>>,
}

impl ConnectionState {
    /// Makes every query report the failure. Takes out the resources that must be released without the lock.
    fn fail_all(&mut self, registry: &SocketRegistry) -> FailedParts {
        let state = self.machine.poison();
        let error = self.error.replace(Error::from_fault(Fault::Internal));
        let wake = [self.reader_to_wake(), self.send.parker_to_wake()];
        // The holder of a turn may have panicked. If it did not, its next call fails.
        self.recv.turn = TurnState::Free;
        self.send.turn = TurnState::Free;
        self.end_upgrade();
        let next_queued = self.free_slot(registry);
        FailedParts {
            objects: (state, error),
            wake,
            taken: self.take_wire(),
            establishing: self.establishing.take(),
            next_queued,
        }
    }
}

impl FailedParts {
    fn release(self, connection: &Connection) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
        drop_off_loop(self.objects);
        let acceptance = self.establishing.as_ref().and_then(|it| it.acceptance.clone());
        if let Some(establishing) = self.establishing {
            if let (Some(ticket), Ok(loop_handle)) = (establishing.ticket, LoopHandle::get()) {
                loop_handle.post(Command::Forget(ticket), Urgency::Now);
            }
            // A resolver is the user's code, and so is its drop.
            drop_off_loop(establishing);
        }
        if let Some(wire) = connection.transfer(self.taken, NewOwner::Caller) {
            // The sent data may be incomplete, and FIN would mean to the peer that it is complete.
            wire.reset_and_close();
        }
        start_next(self.next_queued);
        // The listener waits for the socket to open or to fail.
        if let Some(listener) = acceptance.and_then(|listener| listener.upgrade()) {
            listener.on_opened(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::address::SocketAddress;
    use crate::driver::{ConnectContext, LookupQuota, Origin, RecvBufs, SendBufs, SocketLimit};
    use crate::error::{ErrorKind, Result};
    use crate::info::{Health, Phase};
    use crate::machine::Input;
    use crate::options::{SecureTransport, SocketOptions};
    use crate::resolver::Resolver;

    const WATCHDOG: Duration = Duration::from_secs(20);

    struct TestSocket {
        connection: Arc<Connection>,
        registry: Arc<SocketRegistry>,
        listener: TcpListener,
    }

    impl TestSocket {
        fn new(host: &str, resolver: Option<&Arc<dyn Resolver>>) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let port = listener.local_addr().expect("the listener has an address").port();
            let limit = SocketLimit { max: None, wait: false };
            let registry = Arc::new(SocketRegistry::new(limit));
            let context = ConnectContext {
                resolver,
                egress: None,
                registry: &registry,
                lookup_quota: &Arc::new(LookupQuota::new(1)),
                scope: None,
                proxy: None,
            };
            let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
            let address = SocketAddress::try_from((host, port)).expect("the address is valid");
            let connection = Connection::connect(address.into(), options, Origin::Dial, context)
                .expect("the socket is created");
            TestSocket { connection, registry, listener }
        }

        /// Creates an open socket and its peer.
        fn open() -> (Self, TcpStream) {
            let test = TestSocket::new("127.0.0.1", None);
            let (peer, _) = test.listener.accept().expect("the socket connects");
            peer.set_read_timeout(Some(WATCHDOG)).expect("the timeout is not zero");
            test.connection.opened(Some(WATCHDOG)).expect("the socket opens");
            (test, peer)
        }

        fn panic_after(&self, transitions: u8) {
            self.connection.state().machine.panic_after(transitions);
        }

        /// Runs a call on another thread. It ends even if the socket fails.
        fn spawn_call<T: Send + 'static>(
            &self,
            call: impl FnOnce(&Arc<Connection>) -> T + Send + 'static,
        ) -> mpsc::Receiver<T> {
            let (send, result) = mpsc::channel();
            let connection = Arc::clone(&self.connection);
            thread::spawn(move || send.send(connection.fail_on_panic(|| call(&connection))));
            result
        }

        /// Waits until the socket has freed its slot, without a call on it that could cause that.
        #[track_caller]
        fn assert_slot_freed(&self) {
            let begun = Instant::now();
            while self.registry.open_sockets() > 0 {
                assert!(begun.elapsed() < WATCHDOG, "the socket still has its slot");
                thread::sleep(Duration::from_millis(5));
            }
        }

        /// Checks that every call reports the internal error.
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
            connection.close().expect("the socket has ended, and close waits for no executor");
            connection.abort(Input::Abort);
            assert_internal(connection.closed(None));
            assert!(connection.state().wire.is_none());
        }
    }

    #[track_caller]
    fn assert_internal<T>(result: Result<T>) {
        let Err(error) = result else { panic!("the call must not succeed") };
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "internal error: please report");
        assert!(!error.is_retryable());
    }

    #[track_caller]
    fn assert_reset(mut peer: TcpStream) {
        let error = peer
            .read_to_end(&mut Vec::new())
            .expect_err("the peer must not read FIN as a clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[track_caller]
    fn assert_panics<T>(connection: &Arc<Connection>, call: impl FnOnce() -> T) {
        let result = catch_unwind(AssertUnwindSafe(|| connection.fail_on_panic(call)));
        assert!(result.is_err(), "the call did not panic");
    }

    #[test]
    fn a_panic_in_a_transition_ends_every_wait_and_is_not_a_clean_end() {
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
    fn a_panic_on_the_event_loop_fails_the_socket_without_a_call() {
        let (test, peer) = TestSocket::open();
        let closing = test.spawn_call(|connection| connection.closed(None));
        test.panic_after(0);
        // The event loop handles the EOF.
        drop(peer);
        test.assert_slot_freed();
        assert_internal(closing.recv_timeout(WATCHDOG).expect("the wait ends"));
        test.assert_failed();
        // The event loop keeps serving other sockets.
        let (other, peer) = TestSocket::open();
        drop(peer);
        other.assert_slot_freed();
        other.connection.closed(Some(WATCHDOG)).expect("the peer has closed the connection");
    }

    #[test]
    fn a_panic_after_a_lookup_fails_the_socket_without_a_call() {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let resolver: Arc<dyn Resolver> = Arc::new(move |_: &str| -> io::Result<Vec<IpAddr>> {
            gone.lock().expect("only one lookup runs").recv().expect("the test sends");
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        });
        let test = TestSocket::new("name.test", Some(&resolver));
        let opening = test.spawn_call(|connection| connection.opened(None).map(drop));
        test.panic_after(0);
        go.send(()).expect("the resolver runs");
        test.assert_slot_freed();
        assert_internal(opening.recv_timeout(WATCHDOG).expect("the wait ends"));
        test.assert_failed();
    }

    /// The panic is in each transition of an upgrade in turn, on whichever thread makes it. The socket that has the
    /// slot at that time fails.
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
                // The machine has ended cleanly, but none of its actions was executed.
                drop(state.machine.handle(Input::Close, Instant::now()));
                resume_unwind(Box::new("a panic for a test"));
            };
            if is_guarded {
                assert_panics::<()>(connection, panic_locked);
            } else {
                catch_unwind(AssertUnwindSafe(panic_locked)).expect_err("the closure panics");
                // The next call, whichever it is, finds the poisoned lock.
                assert_eq!(connection.phase(), Phase::Closed);
            }
            assert_internal(reading.recv_timeout(WATCHDOG).expect("the read ends"));
            assert_internal(closing.recv_timeout(WATCHDOG).expect("the wait ends"));
            test.assert_failed();
            assert_reset(peer);
        }
    }

    #[test]
    fn a_panic_while_actions_are_executed_ends_every_wait() {
        let (test, peer) = TestSocket::open();
        let connection = &test.connection;
        connection.state().executors += 1;
        let closing = test.spawn_call(|connection| connection.close());
        assert_panics::<()>(connection, || {
            let _guard = connection.executor_guard();
            resume_unwind(Box::new("a panic for a test"));
        });
        closing.recv_timeout(WATCHDOG).expect("the wait ends").expect("the socket has ended");
        assert_eq!(connection.state().executors, 0);
        assert_internal(connection.closed(Some(WATCHDOG)));
        test.assert_slot_freed();
        drop(peer);
    }

    #[test]
    fn a_panic_of_a_turn_holder_fails_the_socket() {
        let (test, peer) = TestSocket::open();
        let connection = &test.connection;
        assert_panics::<()>(connection, || {
            connection.state().send.turn = TurnState::Held;
            resume_unwind(Box::new("a panic for a test"));
        });
        test.assert_failed();
        assert_reset(peer);
    }
}
