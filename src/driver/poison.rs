//! What becomes of a socket if a panic interrupts the work on it, which is a bug of this crate.
//!
//! The state may be half changed by then, so nothing that it says is believed any more, least of all a clean
//! end: every call fails with [`Fault::Internal`], the peer sees a reset, and the socket gives its place back.
//! The thread that panics sees to that while it unwinds, so that nobody need call again; and whichever thread
//! takes the lock before finds the lock poisoned, and does it.

use std::any::Any;
use std::sync::{Arc, Weak};

use super::roster::Roster;
use super::shared::{Core, Errand, Guard, Shared, admit};
use super::sync::mio::Token;
use super::wait::WakeHandle;
use super::wire::Wire;
use super::workers::discard;
use super::young::Spot;
use super::{Driver, Job, Urgency, harmless};
use crate::error::{Error, Fault};

impl Shared {
    /// Runs a call, or a part of the loop's work. If it panics, the socket fails.
    #[inline(always)]
    pub(crate) fn fail_on_panic<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        let unwinding = Unwinding(self);
        let result = work();
        std::mem::forget(unwinding);
        result
    }

    /// Notes that this thread carries something out on the wire. If it panics the socket fails, and nobody
    /// waits for it any more. To be forgotten when it is done.
    pub(super) fn perform_or_fail(&self) -> Performing<'_> {
        Performing(self)
    }

    /// Fails the socket: ends every wait, gives back its place, and lets go of its wire, outside the lock.
    #[cold]
    #[inline(never)]
    pub(super) fn fail_internally<'a>(&'a self, mut core: Guard<'a>) -> Guard<'a> {
        self.core.clear_poison();
        let remains = core.break_off(self.roster());
        self.changed.notify_all();
        drop(core);
        remains.let_go(self);
        self.lock()
    }
}

/// Dropped only if a panic unwinds through the work on a socket.
struct Unwinding<'a>(&'a Arc<Shared>);

impl Drop for Unwinding<'_> {
    #[cold]
    fn drop(&mut self) {
        // Under the model a panic ends the run. In a forked child the lock may never be released.
        if cfg!(sockeye_shuttle) || self.0.is_forked() {
            return;
        }
        harmless(|| {
            // A panic under the lock is found there.
            let core = self.0.lock();
            if core.machine.outcome().is_none() {
                drop(self.0.fail_internally(core));
            }
        });
    }
}

/// A thread that carries something out on the wire. Dropped only if it panics.
pub(super) struct Performing<'a>(&'a Shared);

impl Drop for Performing<'_> {
    #[cold]
    fn drop(&mut self) {
        if cfg!(sockeye_shuttle) || self.0.is_forked() {
            return;
        }
        let mut core = self.0.lock();
        core.performing -= 1;
        drop(self.0.fail_internally(core));
    }
}

/// What a socket that failed still had.
struct Remains {
    /// In these may be some of the program's, which run its code when they are dropped.
    objects: (Box<dyn Any + Send>, Option<Error>),
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    registration: Option<Token>,
    spot: Option<Spot>,
    errand: Option<Box<Errand>>,
    /// Who has its place now.
    next: Option<Weak<Shared>>,
}

impl Core {
    /// Has every query answered by the failure, and takes out what has to be let go of without the lock.
    fn break_off(&mut self, roster: &Roster) -> Remains {
        let state = self.machine.poison();
        let error = self.error.replace(Error::from_fault(Fault::Internal));
        let wake = [self.reading.whom_to_wake(), self.writing.whom_to_wake()];
        // Who had a turn may not be there to give it back, and gets nowhere if they are.
        self.reading.busy = false;
        self.writing.busy = false;
        self.claimed = false;
        let next = self.free_slot(roster);
        Remains {
            objects: (state, error),
            wake,
            wire: self.wire.take(),
            registration: self.registration.take(),
            spot: self.take_spot(),
            errand: self.errand.take(),
            next,
        }
    }
}

impl Remains {
    fn let_go(self, shared: &Shared) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
        discard(self.objects);
        let mut tokens: Vec<Token> = self.registration.into_iter().collect();
        if let Some(mut errand) = self.errand {
            tokens.append(&mut errand.attempts);
            tokens.append(&mut errand.timers);
            // A resolver is the user's, and so is what happens when it is dropped.
            discard(errand);
        }
        if let Ok(driver) = Driver::running() {
            if let (Some(wire), Some(_)) = (&self.wire, self.registration) {
                wire.deregister(driver.registry());
            }
            if let Some(spot) = self.spot {
                driver.young().remove(spot, shared);
            }
            if !tokens.is_empty() {
                driver.post(Job::Forget(tokens), Urgency::Now);
            }
        }
        if let Some(wire) = self.wire {
            // What was sent may be cut short: FIN would tell the peer that it is not.
            wire.reset();
        }
        admit(self.next);
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
    use crate::driver::{Load, LookupShare, Quota, Room, Source, Terms};
    use crate::error::{ErrorKind, Result};
    use crate::info::{Health, Phase};
    use crate::machine::Input;
    use crate::options::{SecureTransport, SocketOptions};
    use crate::resolver::Resolver;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        shared: Arc<Shared>,
        roster: Arc<Roster>,
        listener: TcpListener,
    }

    impl Scene {
        fn new(host: &str, resolver: Option<&Arc<dyn Resolver>>) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let port = listener.local_addr().expect("it listens").port();
            let quota = Quota { most: None, wait: false };
            let roster = Arc::new(Roster::new(quota, LookupShare::new(1)));
            let terms = Terms { resolver, egress: None, roster: &roster, scope: None };
            let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
            let address = (host, port).try_into().expect("it is an address");
            let shared = Shared::connect(address, options, Source::Dial, terms).expect("it begins");
            Scene { shared, roster, listener }
        }

        /// An open socket, and its peer.
        fn open() -> (Self, TcpStream) {
            let scene = Scene::new("127.0.0.1", None);
            let (peer, _) = scene.listener.accept().expect("it comes");
            peer.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
            scene.shared.opened(Some(PATIENCE)).expect("the listener is there");
            (scene, peer)
        }

        fn panic_after(&self, transitions: u8) {
            self.shared.lock().machine.panic_after(transitions);
        }

        /// A call on another thread, which comes to its end all the same.
        fn waits<T: Send + 'static>(
            &self,
            call: impl FnOnce(&Arc<Shared>) -> T + Send + 'static,
        ) -> mpsc::Receiver<T> {
            let (send, result) = mpsc::channel();
            let shared = Arc::clone(&self.shared);
            thread::spawn(move || send.send(shared.fail_on_panic(|| call(&shared))));
            result
        }

        /// Without a call that could bring it about.
        #[track_caller]
        fn gives_its_place_back(&self) {
            let begun = Instant::now();
            while self.roster.placed() > 0 {
                assert!(begun.elapsed() < PATIENCE, "the socket still has its place");
                thread::sleep(Duration::from_millis(5));
            }
        }

        /// Every call says so.
        #[track_caller]
        fn has_failed(&self) {
            let shared = &self.shared;
            self.gives_its_place_back();
            is_internal(shared.closed(Some(PATIENCE)));
            is_internal(shared.opened(Some(PATIENCE)));
            is_internal(shared.read(&mut Room::One(&mut [0; 4])));
            is_internal(shared.write(&Load::One(b"data")));
            is_internal(shared.flush());
            is_internal(shared.finish_writing());
            is_internal(shared.start_tls(None));
            assert!(!shared.is_upgraded());
            assert_eq!(shared.phase(), Phase::Closed);
            let health = shared.health();
            assert!(matches!(&health, Health::Failed(error) if error.kind() == ErrorKind::Io));
            shared.close().expect("it has ended, and nobody waits for who is not there");
            shared.abort(Input::Abort);
            is_internal(shared.closed(None));
            assert!(shared.lock().wire.is_none());
        }
    }

    #[track_caller]
    fn is_internal<T>(result: Result<T>) {
        let Err(error) = result else { panic!("it reads as a success") };
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "internal error: please report");
        assert!(!error.is_retryable());
    }

    #[track_caller]
    fn sees_a_reset(mut peer: TcpStream) {
        let error = peer.read_to_end(&mut Vec::new()).expect_err("FIN would read as the end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[track_caller]
    fn panics<T>(shared: &Arc<Shared>, call: impl FnOnce() -> T) {
        let result = catch_unwind(AssertUnwindSafe(|| shared.fail_on_panic(call)));
        assert!(result.is_err(), "there was no panic");
    }

    #[test]
    fn a_panic_in_a_transition_ends_every_wait_and_reads_as_no_clean_end() {
        let calls: [fn(&Arc<Shared>); 5] = [
            |shared| drop(shared.close()),
            |shared| shared.abort(Input::Abort),
            |shared| shared.cancel_reading(),
            |shared| drop(shared.start_tls(None)),
            |shared| shared.drop_handle(),
        ];
        for call in calls {
            let (scene, peer) = Scene::open();
            let reading = scene.waits(|shared| shared.read(&mut Room::One(&mut [0; 4])));
            let closing = scene.waits(|shared| shared.closed(None));
            thread::sleep(Duration::from_millis(20));
            scene.panic_after(0);
            panics(&scene.shared, || call(&scene.shared));
            is_internal(reading.recv_timeout(PATIENCE).expect("the read ends"));
            is_internal(closing.recv_timeout(PATIENCE).expect("the wait ends"));
            scene.has_failed();
            sees_a_reset(peer);
        }
    }

    #[test]
    fn a_panic_on_the_event_loop_needs_no_call_to_show() {
        let (scene, peer) = Scene::open();
        let closing = scene.waits(|shared| shared.closed(None));
        scene.panic_after(0);
        // The loop sees the end.
        drop(peer);
        scene.gives_its_place_back();
        is_internal(closing.recv_timeout(PATIENCE).expect("the wait ends"));
        scene.has_failed();
        // It goes on for others.
        let (other, peer) = Scene::open();
        drop(peer);
        other.gives_its_place_back();
        other.shared.closed(Some(PATIENCE)).expect("the peer has ended");
    }

    #[test]
    fn a_panic_after_a_look_up_needs_no_call_to_show() {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let resolver: Arc<dyn Resolver> = Arc::new(move |_: &str| -> io::Result<Vec<IpAddr>> {
            gone.lock().expect("one asks").recv().expect("the test goes on");
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        });
        let scene = Scene::new("name.test", Some(&resolver));
        let opening = scene.waits(|shared| shared.opened(None).map(drop));
        scene.panic_after(0);
        go.send(()).expect("it is asked");
        scene.gives_its_place_back();
        is_internal(opening.recv_timeout(PATIENCE).expect("the wait ends"));
        scene.has_failed();
    }

    /// At each transition of an upgrade in turn, whichever thread makes it: the socket that has the place then
    /// fails.
    #[test]
    fn a_panic_in_the_middle_of_an_upgrade_upgrades_nothing() {
        for transitions in 0..2 {
            let (scene, peer) = Scene::open();
            scene.panic_after(transitions);
            panics(&scene.shared, || scene.shared.start_tls(None).map(drop));
            scene.has_failed();
            sees_a_reset(peer);
        }
    }

    #[test]
    fn a_panic_of_the_driver_under_the_lock_fails_the_socket() {
        for is_guarded in [true, false] {
            let (scene, peer) = Scene::open();
            let shared = &scene.shared;
            let reading = scene.waits(|shared| shared.read(&mut Room::One(&mut [0; 4])));
            let closing = scene.waits(|shared| shared.closed(None));
            thread::sleep(Duration::from_millis(20));
            let panic_locked = || {
                let mut core = shared.lock();
                // The machine's end is a clean one, and nothing of what it takes has been done.
                drop(core.machine.handle(Input::Close, Instant::now()));
                resume_unwind(Box::new("a panic for a test"));
            };
            if is_guarded {
                panics::<()>(shared, panic_locked);
            } else {
                catch_unwind(AssertUnwindSafe(panic_locked)).expect_err("there is a panic");
                // Whichever call comes next sees it.
                assert_eq!(shared.phase(), Phase::Closed);
            }
            is_internal(reading.recv_timeout(PATIENCE).expect("the read ends"));
            is_internal(closing.recv_timeout(PATIENCE).expect("the wait ends"));
            scene.has_failed();
            sees_a_reset(peer);
        }
    }

    #[test]
    fn a_panic_while_something_is_carried_out_leaves_nobody_waiting() {
        let (scene, peer) = Scene::open();
        let shared = &scene.shared;
        shared.lock().performing += 1;
        let closing = scene.waits(|shared| shared.close());
        panics::<()>(shared, || {
            let _performing = shared.perform_or_fail();
            resume_unwind(Box::new("a panic for a test"));
        });
        closing.recv_timeout(PATIENCE).expect("the wait ends").expect("it has ended");
        assert_eq!(shared.lock().performing, 0);
        is_internal(shared.closed(Some(PATIENCE)));
        scene.gives_its_place_back();
        drop(peer);
    }

    #[test]
    fn a_panic_of_who_has_a_turn_leaves_it_to_nobody() {
        let (scene, peer) = Scene::open();
        let shared = &scene.shared;
        panics::<()>(shared, || {
            shared.lock().writing.busy = true;
            resume_unwind(Box::new("a panic for a test"));
        });
        scene.has_failed();
        sees_a_reset(peer);
    }
}
