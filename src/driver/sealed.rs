//! Reading and writing over TLS, by the caller's own thread: what is received is decrypted by the machine,
//! and what the machine has sealed is sent.
//!
//! A write that was sealed is accepted. The caller's thread hands it to the system as far as that goes at
//! once, and leaves the rest to the loop, which sends it when there is room. So no more than one thread
//! sends at a time, and nobody waits for another to do so but who has to: the writer who finds too much
//! waiting already, `flush`, and a close.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::attend::Called;
use super::buffers;
use super::clock;
use super::deeds::Deeds;
use super::errno::{Failure, judge};
use super::event_loop::{self, REGISTERED_ONCE};
use super::patience::{Passed, Patience};
use super::readiness::Ended;
use super::reading::Came;
use super::shared::{Core, Guard, Handed, Shared};
use super::slices::{Load, Room};
use super::wait::{Side, Waited, WakeHandle};
use super::watch::QUIET;
use super::wire::Wire;
use super::{Driver, Job, Urgency};
use crate::error::{Fault, Result};
use crate::machine::{Input, Parcel, Received, RecvPass, SendPass, Watch};

/// What came of an attempt to send.
enum Went<'a> {
    /// There may be room for more.
    On(Guard<'a>),
    /// There is no room now.
    Blocked(Guard<'a>),
    /// The system can't send now, and does not tell when it can.
    Unable(Guard<'a>),
    /// Another thread is sending.
    Elsewhere(Guard<'a>),
}

impl Shared {
    // ------------------------------------------------------------- reading

    /// Receives ciphertext with a pass, which it ends.
    pub(super) fn ingest_with<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        pass: RecvPass,
        patience: &mut Patience,
    ) -> Called<'a> {
        let mut buffers = buffers::borrow();
        let intake = &mut buffers.get().intake;
        match self.receive_with(core, pass, &mut Room::One(intake.space()), patience) {
            Came::Bytes { mut core, pass, bytes, wire } => {
                intake.filled(bytes);
                let (back, deeds) = self.feed(core, pass, intake);
                core = self.settle(back, deeds);
                Called::Ask(self.put_back(core, Side::Read, wire))
            }
            Came::Nothing(called) => called,
        }
    }

    /// Moves data that is here already, as much as fits.
    pub(super) fn take_with<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        room: &mut Room<'_, '_>,
    ) -> Result<usize> {
        let (bytes, outputs) = core.machine.take(pass, room.first(), clock::now);
        let deeds = Deeds::of(outputs);
        core = self.settle(core, deeds);
        self.leave(core, Side::Read, Ok(bytes))
    }

    // ------------------------------------------------------------- the handshake

    /// Waits for a change, at most for `limit`. Where that is the end of a handshake, and nobody else is at
    /// it, this thread makes it meanwhile: that saves waking the loop, and being woken by it.
    pub(super) fn wait_opening<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        limit: Option<Duration>,
    ) -> Guard<'a> {
        let handshaking = core.is_opening() && core.machine.watch() == Watch::Ingest;
        if !handshaking || (core.handed != Handed::Nothing && self.is_for_workers(&core)) {
            return self.wait_change(core, limit);
        }
        if let Some(loan) = core.machine.lend_to_begin() {
            drop(core);
            return self.begin(loan);
        }
        let may_attend = planted!(HandshakeSpins) || core.may_attend();
        if core.attended || core.reading.asleep || !may_attend {
            return self.wait_change(core, limit);
        }
        let (Some(handle), Some(wire)) = (WakeHandle::of_this_thread(), core.wire.cloned()) else {
            return self.wait_change(core, limit);
        };
        // Nobody is at the wire by a lane of their own; whatever ends the wait wakes one of them.
        for side in [Side::Read, Side::Write] {
            let lane = core.lane(side);
            lane.asleep = true;
            lane.sleeper = Arc::downgrade(&handle);
        }
        drop(core);
        let waited = handle.wait(&wire, Side::Read, limit);
        let mut core = self.lock();
        core.reading.asleep = false;
        core.writing.asleep = false;
        if matches!(waited, Ok(Waited::Ready)) {
            let elsewhere = self.is_for_workers(&core);
            drop(core);
            match elsewhere {
                true => self.leave_to_workers(),
                false => drop(self.ingest_all(&wire, None, None)),
            }
            core = self.lock();
        }
        // Another may go on with it.
        self.notify(&core);
        if core.is_opening() && core.registration.token().is_none() {
            // It may not come back.
            let gives_up = limit.is_some() && !matches!(waited, Ok(Waited::Ready));
            if let (true, Ok(driver)) = (gives_up || waited.is_err(), Driver::running()) {
                drop(core);
                driver.post(Job::Register(Arc::clone(self)), Urgency::Soon);
                core = self.lock();
            }
        }
        self.without(core, wire)
    }

    /// Has somebody make the handshake: a thread that waits for it anyway, or else the loop, soon.
    pub(super) fn await_attendance(self: &Arc<Self>, driver: &Driver) {
        let mut core = self.lock();
        let registered = REGISTERED_ONCE || core.registration.token().is_some();
        if registered || !core.is_opening() || event_loop::is_this_thread() {
            drop(core);
            driver.post(Job::Register(Arc::clone(self)), Urgency::Now);
        } else if self.list(&mut core, driver) {
            drop(core);
            driver.post(Job::Young, Urgency::Soon);
        }
    }

    // ------------------------------------------------------------- writing

    /// Seals with a pass, which it ends, when there is room, and sends as far as that goes at once.
    pub(super) fn seal_with<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: SendPass,
        load: &Load<'_, '_>,
        patience: &mut Patience,
    ) -> Called<'a> {
        if core.machine.still_sends(&pass) && !core.machine.has_room() {
            let enough = |core: &Core| !core.machine.still_sends(&pass) || core.machine.has_room();
            core = match self.send_until(core, patience, enough) {
                Ok(core) => core,
                Err(core) => return Called::Done(self.give_up_sending(core, pass)),
            };
        }
        let mut buffers = buffers::borrow();
        let parcel = &mut buffers.get().parcel;
        let (bytes, outputs) = core.machine.seal(pass, &load.gather(), parcel, clock::now);
        let deeds = Deeds::of(outputs);
        let mut blocked = false;
        if !parcel.is_empty() {
            core = match self.send_parcel(core, parcel) {
                Went::Blocked(core) => {
                    blocked = !core.writing.ready;
                    core
                }
                Went::On(core) | Went::Elsewhere(core) | Went::Unable(core) => core,
            };
        }
        core = self.settle(core, deeds);
        if core.machine.has_unsent() {
            core = match blocked {
                true => self.leave_to_the_loop(core),
                false => self.transmit_from(core),
            };
        }
        // Where nothing was accepted the machine says why when it is asked again.
        match bytes {
            0 => Called::Ask(core),
            bytes => Called::Done(self.leave(core, Side::Write, Ok(bytes))),
        }
    }

    /// Sends what waits, as far as that goes at once, and leaves the rest to the loop.
    pub(super) fn transmit(self: &Arc<Self>) {
        let core = self.transmit_from(self.lock());
        self.tell_of_room(core);
    }

    /// The same, on the loop; says whether to come back for it without an event.
    pub(super) fn transmit_on_the_loop(self: &Arc<Self>) -> bool {
        let (core, unable) = match self.send_waiting(self.lock()) {
            Went::On(core) | Went::Elsewhere(core) => (core, false),
            Went::Blocked(core) => (self.leave_to_the_loop(core), false),
            Went::Unable(core) => (core, true),
        };
        self.tell_of_room(core);
        unable
    }

    /// Somebody may wait for just that.
    fn tell_of_room(&self, core: Guard<'_>) {
        if planted!(LoopSendsSilently) {
            return;
        }
        let wake = core.writing.whom_to_wake();
        self.notify(&core);
        drop(core);
        if let Some(handle) = wake {
            handle.wake();
        }
    }

    pub(super) fn transmit_from<'a>(self: &'a Arc<Self>, core: Guard<'a>) -> Guard<'a> {
        match self.send_waiting(core) {
            Went::On(core) | Went::Elsewhere(core) => core,
            Went::Blocked(core) => self.leave_to_the_loop(core),
            Went::Unable(mut core) => {
                // It may have been told before, and has to look again.
                core.flushing = false;
                self.leave_to_the_loop(core)
            }
        }
    }

    /// Sends what waits, as far as that goes at once.
    fn send_waiting<'a>(self: &'a Arc<Self>, mut core: Guard<'a>) -> Went<'a> {
        while core.wire.is_some() {
            let Some(mut parcel) = core.machine.transmit() else {
                let elsewhere = core.machine.has_unsent();
                return if elsewhere { Went::Elsewhere(core) } else { Went::On(core) };
            };
            core = match self.send_parcel(core, &mut parcel) {
                Went::Blocked(core) if !core.writing.ready => return Went::Blocked(core),
                Went::Unable(core) => return Went::Unable(core),
                Went::On(core) | Went::Blocked(core) | Went::Elsewhere(core) => core,
            };
        }
        Went::On(core)
    }

    /// Sends what waits until it is enough; an error where the call's limit passed. Who waits here sends by
    /// itself, and leaves the rest to the loop only where it goes.
    fn send_until<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        patience: &mut Patience,
        enough: impl Fn(&Core) -> bool,
    ) -> Result<Guard<'a>, Guard<'a>> {
        loop {
            let went = self.send_waiting(core);
            let (back, pause) = match went {
                // A session that is lent comes back, whether there is room or not.
                Went::On(core) | Went::Blocked(core)
                    if core.machine.is_lent() && !planted!(LentSessionSpins) =>
                {
                    (core, Some(Duration::MAX))
                }
                Went::On(core) | Went::Blocked(core) => (core, None),
                Went::Elsewhere(core) => (core, Some(Duration::MAX)),
                Went::Unable(core) => (core, Some(QUIET)),
            };
            core = back;
            if enough(&core) {
                return Ok(core);
            }
            let waited = match pause {
                None => self.await_room(core, patience),
                // There is room, and to wait for that would be to spin until the other is done, or the system is
                // able to send.
                Some(pause) => match patience.left(core.limit(Side::Write)) {
                    Ok(None) if pause == Duration::MAX => Ok(self.wait_change(core, None)),
                    Ok(left) => {
                        let left = left.map_or(pause, |left| left.min(pause));
                        Ok(self.wait_change(core, Some(left)))
                    }
                    Err(Passed) => Err(core),
                },
            };
            core = match waited {
                Ok(core) => core,
                Err(core) if core.machine.has_unsent() => return Err(self.leave_to_the_loop(core)),
                Err(core) => return Err(core),
            };
        }
    }

    /// Sends a parcel and gives it back.
    fn send_parcel<'a>(self: &'a Arc<Self>, mut core: Guard<'a>, parcel: &mut Parcel) -> Went<'a> {
        let Some(wire) = core.wire.lend(Side::Write) else {
            // It was let go of; the machine knows why.
            drop(core.machine.transmitted(parcel));
            return Went::On(core);
        };
        core.writing.ready = false;
        drop(core);
        let result = wire.send(&Load::One(parcel.bytes()));
        core = self.lock();
        let mut went: fn(Guard<'a>) -> Went<'a> = Went::On;
        let deeds = match result {
            Ok(bytes) => {
                parcel.sent(bytes);
                Deeds::of(core.machine.transmitted(parcel))
            }
            Err(error) => match judge(&error) {
                Failure::Connection(fault) => {
                    // A broken pipe is all that it says to those whom it does not tell why.
                    let known = (error.kind() != io::ErrorKind::BrokenPipe).then_some(fault);
                    core = self.hear_out(core, &wire, known);
                    Deeds::of(core.machine.not_transmitted(parcel, fault, clock::now()))
                }
                failure => {
                    went = match failure {
                        Failure::WouldBlock => Went::Blocked,
                        Failure::Call(_) => Went::Unable,
                        _ => Went::On,
                    };
                    Deeds::of(core.machine.transmitted(parcel))
                }
            },
        };
        core = self.settle(core, deeds);
        core = self.put_back(core, Side::Write, wire);
        if core.flushing && !core.machine.has_unsent() {
            core = self.take_from_the_loop(core);
        }
        went(core)
    }

    /// The wire failed while something was sent. What the peer said before, such as an alert, tells more
    /// than that.
    fn hear_out<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        wire: &Arc<Wire>,
        known: Option<Fault>,
    ) -> Guard<'a> {
        if core.machine.runs_foreign_code() {
            // Whoever closes it does not wait for that.
            let mut core = core;
            core.looking = true;
            drop(core);
            self.leave_to_workers();
        } else {
            drop(core);
            self.ingest_all(wire, Some(Side::Write), known);
        }
        let own = known.is_none().then_some(Side::Write);
        self.await_hearsay(self.lock(), Side::Read, own)
    }

    /// Has the loop send the rest when there is room.
    fn leave_to_the_loop<'a>(self: &'a Arc<Self>, mut core: Guard<'a>) -> Guard<'a> {
        if core.flushing || core.wire.is_none() {
            return core;
        }
        core.flushing = true;
        drop(core);
        match Driver::running() {
            Ok(driver) => driver.post(Job::Register(Arc::clone(self)), Urgency::Now),
            Err(fault) => drop(self.tell(self.lock(), Input::WireFailed(fault))),
        }
        self.lock()
    }

    /// Nothing waits for room any more, and the loop is not to be woken by it.
    #[cold]
    fn take_from_the_loop<'a>(self: &'a Arc<Self>, mut core: Guard<'a>) -> Guard<'a> {
        core.flushing = false;
        drop(core);
        if let Ok(driver) = Driver::running() {
            driver.post(Job::Register(Arc::clone(self)), Urgency::Soon);
        }
        self.lock()
    }

    /// Waits until more can be sent, or something has changed. An error where the call's limit passed.
    pub(super) fn await_room<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        patience: &mut Patience,
    ) -> Result<Guard<'a>, Guard<'a>> {
        let Some(wire) = core.wire.cloned() else {
            return match patience.left(core.limit(Side::Write)) {
                Ok(left) => Ok(self.wait_change(core, left)),
                Err(_) => Err(core),
            };
        };
        let core = match self.wait_ready(core, &wire, Side::Write, patience) {
            Ended::Ready => {
                let mut core = self.lock();
                core.writing.asleep = false;
                core
            }
            Ended::Look(core) => self.expire_if_due(core),
            // Nobody else would wait for it.
            Ended::Broken(core, fault) => self.tell(core, Input::WireFailed(fault)),
            Ended::Passed(core) => return Err(core),
        };
        Ok(self.without(core, wire))
    }

    /// Waits until the system has all that was accepted; an error where the call's limit passed.
    pub(super) fn await_drained<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        patience: &mut Patience,
    ) -> Result<Guard<'a>, Guard<'a>> {
        self.send_until(core, patience, |core| !core.machine.has_unsent())
    }

    /// Gives back the wire that a call was lent.
    #[inline(always)]
    fn put_back<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        side: Side,
        wire: Arc<Wire>,
    ) -> Guard<'a> {
        match core.wire.give_back(side, wire) {
            None => core,
            Some(wire) => self.without_lock(core, wire),
        }
    }

    /// Lets go of a wire outside the lock, where that may close its descriptor.
    pub(super) fn without<'a>(self: &'a Arc<Self>, core: Guard<'a>, wire: Arc<Wire>) -> Guard<'a> {
        if core.wire.is_some() {
            drop(wire);
            return core;
        }
        self.without_lock(core, wire)
    }

    #[cold]
    fn without_lock<'a>(self: &'a Arc<Self>, core: Guard<'a>, wire: Arc<Wire>) -> Guard<'a> {
        drop(core);
        drop(wire);
        self.lock()
    }
}

impl Core {
    /// Whether who finds the wire ready may receive. While another does, or sends what has to go first, it stays
    /// ready, and to wait for that would be to spin.
    fn may_attend(&mut self) -> bool {
        let Some(pass) = self.machine.attend() else { return false };
        drop(self.machine.received(pass, Received::Nothing, clock::now()));
        true
    }
}
