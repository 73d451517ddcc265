//! Reading and writing, by the caller's own thread: straight into or out of the caller's buffer.
//!
//! This is about plaintext, and about what TLS has in common with it; the rest of that is in `sealed`.
//!
//! A call takes the turn of its direction, asks the machine for a pass, and makes the system call. When
//! that would block it waits, by poll(2) with the wake handle of its thread, or else by the condition
//! variable, and tries again. The loop takes no part in the first; in the second it reports when the
//! wire is ready.
//!
//! No wake-up is lost: a thread announces under the state lock that it is going to wait, having
//! looked there at all that could end its wait; whoever changes one of these does so under the lock
//! too, sees the announcement, and wakes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::deeds::Deeds;
use super::patience::{Passed, Patience};
use super::shared::{Core, Guard, Shared};
use super::wait::{Side, Waited, WakeHandle};
use super::wire::{End, Load, Room, Wire, code, fault};
use super::{Driver, Job, Urgency, fork};
use crate::error::{Deadline, Error, Fault, Result};
use crate::machine::{Input, ReadStep, Received, RecvPass, SendPass, Sent, WriteStep};

/// How long a party at the wire waits for what the other one may have been told. It is much longer than
/// that takes.
const HEARSAY: Duration = Duration::from_millis(10);

impl Shared {
    /// Receives as soon as there is something.
    pub(crate) fn read(self: &Arc<Self>, room: &mut Room<'_, '_>) -> Result<usize> {
        fork::check()?;
        if room.len() == 0 {
            return self.read_nothing();
        }
        let mut patience = Patience::default();
        let mut core = self.take_turn(Side::Read, &mut patience, |core| {
            core.machine.refuses_read().map(|fault| core.error_for(fault))
        })?;
        loop {
            let pass = match core.machine.read() {
                ReadStep::Receive(pass) => pass,
                ReadStep::Ingest(pass) => {
                    core = match self.ingest_with(core, pass, &mut patience) {
                        Called::Done(result) => return result,
                        Called::Ask(core) => core,
                    };
                    continue;
                }
                ReadStep::Take(pass) => return self.take_with(core, pass, room),
                ReadStep::End => return self.leave(core, Side::Read, Ok(0)),
                ReadStep::Fail(fault) => {
                    let error = core.error_for(fault);
                    return self.leave(core, Side::Read, Err(error));
                }
                ReadStep::Wait => match patience.left(core.limit(Side::Read)) {
                    Ok(left) => {
                        core = self.wait_opening(core, left);
                        continue;
                    }
                    Err(Passed) => return self.time_out(core, Side::Read),
                },
            };
            core = match self.receive_with(core, pass, room, &mut patience) {
                Came::Bytes { core, pass, bytes, wire } => {
                    let result = self.deliver(core, pass, bytes);
                    drop(wire);
                    return result;
                }
                Came::Nothing(Called::Done(result)) => return result,
                Came::Nothing(Called::Ask(core)) => core,
            };
        }
    }

    /// Ends a pass that took bytes.
    fn deliver<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        bytes: usize,
    ) -> Result<usize> {
        let deeds = Deeds::of(core.machine.delivered(pass, bytes));
        if deeds.is_none() {
            return self.leave(core, Side::Read, Ok(bytes));
        }
        core = self.settle(core, deeds);
        // They are not the reader's where the connection was being upgraded.
        let result = match core.machine.refuses_read() {
            Some(fault @ Fault::UnreadPlaintext) => Err(core.error_for(fault)),
            Some(_) | None => Ok(bytes),
        };
        self.leave(core, Side::Read, result)
    }

    /// Receives with a pass, which it ends where nothing came.
    pub(super) fn receive_with<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        room: &mut Room<'_, '_>,
        patience: &mut Patience,
    ) -> Came<'a> {
        let wire = Arc::clone(core.wire.as_ref().expect("who has a pass has a wire"));
        // Of a connection that has failed only what came before that is left, for which nobody waits.
        let mut wait_first = core.waits_first(Side::Read) && core.failure().is_none();
        let mut waited = wait_first;
        let what = loop {
            let brisk = core.reading.forecast.is_brisk()
                && !core.attended
                && patience.outlasts_a_tick(core.limit(Side::Read));
            let result = if brisk {
                drop(core);
                if wire.let_block() { wire.receive_briskly(room) } else { Err(would_block()) }
            } else if wait_first {
                match self.wait_ready(core, &wire, Side::Read, patience) {
                    Ended::Ready => wire.receive(room),
                    Ended::Look(back) => {
                        core = back;
                        if core.machine.still_receives(&pass) {
                            wait_first = core.failure().is_none();
                            continue;
                        }
                        break Received::Nothing;
                    }
                    Ended::Broken(back, fault) => {
                        core = back;
                        break Received::Failed(fault);
                    }
                    Ended::Passed(mut core) => {
                        let now = clock::now();
                        let deeds = Deeds::of(core.machine.received(pass, Received::Nothing, now));
                        core = self.settle(core, deeds);
                        let timed_out = self.time_out(core, Side::Read);
                        return Came::Nothing(Called::Done(timed_out));
                    }
                }
            } else {
                core.reading.ready = false;
                drop(core);
                wire.receive(room)
            };
            let wait = if wait_first && !brisk { patience.waited() } else { None };
            patience.recheck();
            let end = if matches!(result, Ok(0)) { wire.judge_end() } else { End::Clean };
            core = self.lock();
            core.reading.asleep = false;
            match result {
                Ok(0) => match end {
                    End::Failed(fault) => break Received::Failed(fault),
                    End::HungUp if core.machine.sends() => {
                        core = self.await_hearsay(core, Side::Write);
                        break Received::Failed(Fault::Reset(None));
                    }
                    End::HungUp | End::Clean => break Received::Eof,
                },
                Ok(bytes) => {
                    core.reading.forecast.took(bytes < room.len(), waited);
                    if let Some(wait) = wait {
                        core.reading.forecast.waited(wait);
                    }
                    return Came::Bytes { core, pass, bytes, wire };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let (Some(fault), true) =
                        (core.failure(), core.machine.still_receives(&pass))
                    {
                        break Received::Failed(fault);
                    }
                    if !waited {
                        core.reading.forecast.missed();
                        waited = true;
                    }
                    if brisk {
                        core.reading.forecast.dragged();
                    }
                    // It may have become ready since.
                    wait_first = !core.reading.ready;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => wait_first = false,
                Err(error) => break Received::Failed(fault(&error)),
            }
            if !core.machine.still_receives(&pass) {
                break Received::Nothing;
            }
        };
        let deeds = Deeds::of(core.machine.received(pass, what, clock::now()));
        Came::Nothing(Called::Ask(self.settle_without(core, deeds, wire)))
    }

    /// Sends as soon as there is room.
    pub(crate) fn write(self: &Arc<Self>, load: &Load<'_, '_>) -> Result<usize> {
        fork::check()?;
        if load.len() == 0 {
            return self.write_nothing();
        }
        let mut patience = Patience::default();
        let mut core = self.take_turn(Side::Write, &mut patience, |core| {
            // It does not wait for one that began before, and that may go on.
            core.machine.refuses_write().map(|fault| core.error_for(fault))
        })?;
        loop {
            let pass = match core.machine.write() {
                WriteStep::Send(pass) => pass,
                WriteStep::Seal(pass) => {
                    core = match self.seal_with(core, pass, load, &mut patience) {
                        Called::Done(result) => return result,
                        Called::Ask(core) => core,
                    };
                    continue;
                }
                WriteStep::Fail(fault) => {
                    let error = core.error_for(fault);
                    return self.leave(core, Side::Write, Err(error));
                }
                WriteStep::Wait => match patience.left(core.limit(Side::Write)) {
                    Ok(left) => {
                        core = self.wait_opening(core, left);
                        continue;
                    }
                    Err(Passed) => return self.time_out(core, Side::Write),
                },
            };
            core = match self.send_with(core, pass, load, &mut patience) {
                Called::Done(result) => return result,
                Called::Ask(core) => core,
            };
        }
    }

    /// Sends with a pass, which it ends.
    fn send_with<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: SendPass,
        load: &Load<'_, '_>,
        patience: &mut Patience,
    ) -> Called<'a> {
        let wire = Arc::clone(core.wire.as_ref().expect("who has a pass has a wire"));
        let mut wait_first = core.waits_first(Side::Write);
        let mut waited = wait_first;
        let what = loop {
            if wait_first {
                match self.wait_ready(core, &wire, Side::Write, patience) {
                    Ended::Ready => {}
                    Ended::Look(back) => {
                        core = self.expire_if_due(back);
                        if core.machine.still_sends(&pass) {
                            continue;
                        }
                        break Sent::Nothing;
                    }
                    Ended::Broken(back, fault) => {
                        core = back;
                        break Sent::Failed(fault);
                    }
                    Ended::Passed(mut core) => {
                        let deeds = Deeds::of(core.machine.sent(pass, Sent::Nothing));
                        core = self.settle(core, deeds);
                        return Called::Done(self.time_out(core, Side::Write));
                    }
                }
            } else {
                core.writing.ready = false;
                drop(core);
            }
            let result = wire.send(load);
            patience.recheck();
            core = self.lock();
            core.writing.asleep = false;
            match result {
                Ok(accepted) => {
                    core.writing.forecast.took(accepted < load.len(), waited);
                    let deeds = Deeds::of(core.machine.accepted(pass, accepted));
                    core = self.settle(core, deeds);
                    return Called::Done(self.leave(core, Side::Write, Ok(accepted)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !waited {
                        core.writing.forecast.missed();
                        waited = true;
                    }
                    wait_first = !core.writing.ready;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => wait_first = false,
                Err(error) => {
                    // A broken pipe is all that it says to those whom it does not tell why.
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        core = self.await_hearsay(core, Side::Read);
                    }
                    break Sent::Failed(fault(&error));
                }
            }
            if !core.machine.still_sends(&pass) {
                break Sent::Nothing;
            }
        };
        let deeds = Deeds::of(core.machine.sent(pass, what));
        Called::Ask(self.settle_without(core, deeds, wire))
    }

    /// Settles, and lets go of the wire, which may close its descriptor, outside the lock.
    fn settle_without<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        deeds: Option<Deeds>,
        wire: Arc<Wire>,
    ) -> Guard<'a> {
        drop(self.settle(core, deeds));
        drop(wire);
        self.lock()
    }

    /// Waits for what who is at the wire in the other direction may have been told of its failure, and
    /// has not said yet. The failure wakes them too.
    pub(super) fn await_hearsay<'a>(&'a self, mut core: Guard<'a>, other: Side) -> Guard<'a> {
        let until = clock::now() + HEARSAY;
        while core.is_at_work(other) && core.machine.outcome().is_none() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            core = self.wait_change(core, Some(left));
        }
        core
    }

    /// Half-closes, once the connection is made and the writes before it have ended.
    pub(crate) fn finish_writing(self: &Arc<Self>) -> Result<()> {
        fork::check()?;
        let core = self.lock();
        if !core.is_opening() && !core.machine.sends() {
            return core.check();
        }
        drop(core);
        let mut patience = Patience::default();
        let mut core = self.take_turn(Side::Write, &mut patience, |core| {
            // An upgrade has the turn.
            core.machine
                .refuses_write()
                .filter(|fault| *fault == Fault::Upgraded)
                .map(|fault| core.error_for(fault))
        })?;
        while core.is_opening() {
            match patience.left(core.limit(Side::Write)) {
                Ok(left) => core = self.wait_opening(core, left),
                Err(Passed) => {
                    let _ = self.leave(core, Side::Write, Ok(0));
                    return Err(Side::Write.timed_out());
                }
            }
        }
        if let Some(fault @ Fault::Upgraded) = core.machine.refuses_write() {
            let error = core.error_for(fault);
            return self.leave(core, Side::Write, Err(error)).map(drop);
        }
        // What was accepted goes first, and while it can't the side stays open. Then what ends it.
        core = match self.await_drained(core, &mut patience) {
            Ok(core) => self.tell(core, Input::FinishWriting),
            Err(core) => return self.time_out(core, Side::Write).map(drop),
        };
        core = match self.await_drained(core, &mut patience) {
            Ok(core) => core,
            Err(core) => return self.time_out(core, Side::Write).map(drop),
        };
        let result = core.check();
        self.leave(core, Side::Write, Ok(0))?;
        result
    }

    /// Waits until the system has all that was accepted, as it always has in plaintext.
    pub(crate) fn flush(self: &Arc<Self>) -> Result<()> {
        fork::check()?;
        let core = self.lock();
        if !core.machine.has_unsent() {
            return core.check();
        }
        drop(core);
        let mut patience = Patience::default();
        let core = self.take_turn(Side::Write, &mut patience, |_| None)?;
        match self.await_drained(core, &mut patience) {
            Ok(core) => {
                let result = core.check();
                self.leave(core, Side::Write, Ok(0))?;
                result
            }
            Err(core) => self.time_out(core, Side::Write).map(drop),
        }
    }

    fn read_nothing(&self) -> Result<usize> {
        let mut core = self.lock();
        match core.machine.read() {
            ReadStep::Receive(pass) | ReadStep::Ingest(pass) | ReadStep::Take(pass) => {
                let outputs = core.machine.received(pass, Received::Nothing, clock::now());
                drop(outputs);
                Ok(0)
            }
            ReadStep::Wait | ReadStep::End => Ok(0),
            ReadStep::Fail(fault) => Err(core.error_for(fault)),
        }
    }

    fn write_nothing(&self) -> Result<usize> {
        let mut core = self.lock();
        match core.machine.write() {
            WriteStep::Send(pass) | WriteStep::Seal(pass) => {
                drop(core.machine.sent(pass, Sent::Nothing));
                Ok(0)
            }
            WriteStep::Wait => Ok(0),
            WriteStep::Fail(fault) => Err(core.error_for(fault)),
        }
    }

    // ------------------------------------------------------------- waiting for the wire

    pub(super) fn wait_ready<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        wire: &Wire,
        side: Side,
        patience: &mut Patience,
    ) -> Ended<'a> {
        let Ok(mut left) = patience.left(core.limit(side)) else { return Ended::Passed(core) };
        if let (Side::Write, Some((at, Deadline::Close))) = (side, core.machine.deadline()) {
            let until = at.saturating_duration_since(clock::now());
            left = Some(left.map_or(until, |left| left.min(until)));
        }
        match WakeHandle::of_this_thread() {
            Some(handle) => self.wait_by_poll(core, &handle, wire, side, left),
            None => self.wait_by_condvar(core, side, left),
        }
    }

    fn wait_by_poll<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        handle: &Arc<WakeHandle>,
        wire: &Wire,
        side: Side,
        left: Option<Duration>,
    ) -> Ended<'a> {
        let lane = core.lane(side);
        lane.asleep = true;
        if lane.sleeper.as_ptr() != Arc::as_ptr(handle) {
            lane.sleeper = Arc::downgrade(handle);
        }
        drop(core);
        match handle.wait(wire, side, left) {
            // Whoever makes the call next takes the announcement back.
            Ok(Waited::Ready) => Ended::Ready,
            Ok(Waited::Look) => {
                let mut core = self.lock();
                core.lane(side).asleep = false;
                Ended::Look(core)
            }
            Err(error) => {
                let mut core = self.lock();
                core.lane(side).asleep = false;
                Ended::Broken(core, Fault::Io(code(&error)))
            }
        }
    }

    fn wait_by_condvar<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        side: Side,
        left: Option<Duration>,
    ) -> Ended<'a> {
        if !core.attended {
            core.attended = true;
            drop(core);
            match Driver::running() {
                Ok(driver) => driver.post(Job::Register(Arc::clone(self)), Urgency::Now),
                Err(fault) => return Ended::Broken(self.lock(), fault),
            }
            return Ended::Look(self.lock());
        }
        if !core.lane(side).ready {
            core = self.wait_change(core, left);
        }
        // Where reading has ended meanwhile, what is at the wire is no reader's any more.
        let ended = side == Side::Read && !core.machine.receives();
        if !ended && std::mem::take(&mut core.lane(side).ready) {
            Ended::Ready
        } else {
            Ended::Look(core)
        }
    }
}

impl Core {
    /// Whether somebody is at the wire in this direction, or was just now.
    fn is_at_work(&mut self, side: Side) -> bool {
        self.lane(side).busy || side == Side::Read && self.machine.is_received_from()
    }

    /// Whether to wait before the first try. The loop reports changes only, so where it is waited for,
    /// only a call that would have blocked makes sure that there is one to come.
    fn waits_first(&mut self, side: Side) -> bool {
        !self.attended && self.lane(side).forecast.waits()
    }

    /// What an established connection has failed by.
    fn failure(&self) -> Option<Fault> {
        self.machine.outcome().and_then(Result::err)
    }

    /// Fails where the socket has failed.
    fn check(&self) -> Result<()> {
        let fault = match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => fault,
            (Some(Ok(())) | None, Some(Ok(())) | None) => return Ok(()),
        };
        Err(self.error_for(fault))
    }
}

pub(super) fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// What came of a receive.
pub(super) enum Came<'a> {
    /// So many bytes, and the pass is still out.
    Bytes { core: Guard<'a>, pass: RecvPass, bytes: usize, wire: Arc<Wire> },
    /// The pass has ended.
    Nothing(Called<'a>),
}

/// What came of a pass.
pub(super) enum Called<'a> {
    /// The call has its result, and has left.
    Done(Result<usize>),
    /// The machine has to be asked again.
    Ask(Guard<'a>),
}

/// Why a wait for the wire ended.
pub(super) enum Ended<'a> {
    /// The wire is ready.
    Ready,
    /// Something may have changed.
    Look(Guard<'a>),
    /// The call's limit passed.
    Passed(Guard<'a>),
    /// The system can't wait.
    Broken(Guard<'a>, Fault),
}

impl Side {
    pub(super) fn timed_out(self) -> Error {
        Error::call_timed_out(match self {
            Side::Read => Deadline::Read,
            Side::Write => Deadline::Write,
        })
    }
}
