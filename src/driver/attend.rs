//! Reading and writing, by the caller's own thread: straight into or out of the caller's buffer.
//!
//! This is about plaintext, and about what TLS has in common with it; the rest of that is in `sealed`.
//!
//! A call takes the turn of its direction, asks the machine for a pass, and makes the system call. When
//! that would block it waits, by poll(2) with the wake handle of its thread, or else by the condition
//! variable, and tries again. The loop takes no part in the first; in the second it reports when the
//! wire is ready.
//!
//! Mostly the first call is all. That way is written, and forced inline, so that it is one stretch of code, and
//! what follows on a first call in vain is in functions of its own: how many lines of the cache a call runs
//! through counts for more than its instructions.
//!
//! No wake-up is lost: a thread announces under the state lock that it is going to wait, having
//! looked there at all that could end its wait; whoever changes one of these does so under the lock
//! too, sees the announcement, and wakes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::deeds::Deeds;
use super::fork;
use super::patience::{Passed, Patience};
use super::readiness::Ended;
use super::shared::{Core, Guard, Shared};
use super::wait::Side;
use super::wire::{End, Load, Room, Wire, fault};
use super::wires::let_go;
use crate::error::{Deadline, Error, Fault, Result};
use crate::machine::{Input, ReadStep, Received, RecvPass, SendPass, Sent, WriteStep};

/// How long a party at the wire waits for what the other one may have been told. It is much longer than
/// that takes.
const HEARSAY: Duration = Duration::from_millis(10);

impl Shared {
    /// Receives as soon as there is something.
    pub(crate) fn read(self: &Arc<Self>, room: &mut Room<'_, '_>) -> Result<usize> {
        fork::check()?;
        if room.is_empty() {
            return self.read_nothing();
        }
        let mut patience = Patience::default();
        let mut core = self.take_turn(Side::Read, &mut patience, |core| {
            core.machine.refuses_read().map(|fault| core.error_for(fault))
        })?;
        let pass = match core.machine.read() {
            ReadStep::Receive(pass) => pass,
            step => return self.go_on_reading(core, step, room, patience),
        };
        match self.try_to_receive(core, room, &mut patience) {
            Ok((core, wire, bytes)) => self.deliver(core, pass, bytes, wire),
            Err(tried) => self.read_on(tried, pass, room, patience),
        }
    }

    /// Reads where the first call was not all.
    #[inline(never)]
    fn read_on<'a>(
        self: &'a Arc<Self>,
        tried: Tried<'a>,
        pass: RecvPass,
        room: &mut Room<'_, '_>,
        mut patience: Patience,
    ) -> Result<usize> {
        match self.go_on_receiving(tried, pass, room, &mut patience) {
            Came::Bytes { core, pass, bytes, wire } => self.deliver(core, pass, bytes, wire),
            Came::Nothing(Called::Done(result)) => result,
            Came::Nothing(Called::Ask(mut core)) => {
                let step = core.machine.read();
                self.go_on_reading(core, step, room, patience)
            }
        }
    }

    /// Does what the machine says, until that is a result.
    #[inline(never)]
    fn go_on_reading<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        mut step: ReadStep,
        room: &mut Room<'_, '_>,
        mut patience: Patience,
    ) -> Result<usize> {
        loop {
            let called = match step {
                ReadStep::Receive(pass) => {
                    let (core, wire, wait_first) = begin(core, Side::Read);
                    let tried = Tried { wire, wait_first, last: Last::None(core) };
                    match self.go_on_receiving(tried, pass, room, &mut patience) {
                        Came::Bytes { core, pass, bytes, wire } => {
                            return self.deliver(core, pass, bytes, wire);
                        }
                        Came::Nothing(called) => called,
                    }
                }
                ReadStep::Ingest(pass) => self.ingest_with(core, pass, &mut patience),
                ReadStep::Take(pass) => return self.take_with(core, pass, room),
                ReadStep::End => return self.leave(core, Side::Read, Ok(0)),
                ReadStep::Fail(fault) => {
                    let error = core.error_for(fault);
                    return self.leave(core, Side::Read, Err(error));
                }
                ReadStep::Wait => match patience.left(core.limit(Side::Read)) {
                    Ok(left) => Called::Ask(self.wait_opening(core, left)),
                    Err(Passed) => return self.time_out(core, Side::Read),
                },
            };
            match called {
                Called::Done(result) => return result,
                Called::Ask(back) => core = back,
            }
            step = core.machine.read();
        }
    }

    /// Ends a pass that took bytes.
    #[inline(always)]
    fn deliver<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        bytes: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let unwanted = core.wire.give_back(Side::Read, wire);
        let result = match Deeds::of(core.machine.delivered(pass, bytes)) {
            None => self.leave(core, Side::Read, Ok(bytes)),
            Some(deeds) => self.deliver_with(core, deeds, bytes),
        };
        if let Some(wire) = unwanted {
            let_go(wire);
        }
        result
    }

    #[cold]
    fn deliver_with<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        deeds: Deeds,
        bytes: usize,
    ) -> Result<usize> {
        let core = self.settle(core, Some(deeds));
        // They are not the reader's where the connection was being upgraded.
        let result = match core.machine.refuses_read() {
            Some(fault @ Fault::UnreadPlaintext) => Err(core.error_for(fault)),
            Some(_) | None => Ok(bytes),
        };
        self.leave(core, Side::Read, result)
    }

    /// Makes the first call of a pass, where nothing has to be waited for before; mostly that is all.
    #[inline(always)]
    fn try_to_receive<'a>(
        &'a self,
        core: Guard<'a>,
        room: &mut Room<'_, '_>,
        patience: &mut Patience,
    ) -> Result<(Guard<'a>, Arc<Wire>, usize), Tried<'a>> {
        let (mut core, wire, wait_first) = begin(core, Side::Read);
        let brisk = core.receives_briskly(patience);
        if wait_first && !brisk {
            return Err(Tried { wire, wait_first, last: Last::None(core) });
        }
        core.reading.ready = false;
        drop(core);
        let result = wire.receive_now(room, brisk);
        match result {
            Ok(bytes @ 1..) => {
                patience.recheck();
                let mut core = self.lock();
                core.reading.forecast.took(bytes < room.len(), wait_first);
                Ok((core, wire, bytes))
            }
            result => Err(Tried { wire, wait_first, last: Last::Made { result, brisk } }),
        }
    }

    /// Receives with a pass, which it ends where nothing came.
    #[inline(always)]
    pub(super) fn receive_with<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        pass: RecvPass,
        room: &mut Room<'_, '_>,
        patience: &mut Patience,
    ) -> Came<'a> {
        match self.try_to_receive(core, room, patience) {
            Ok((core, wire, bytes)) => Came::Bytes { core, pass, bytes, wire },
            Err(tried) => self.go_on_receiving(tried, pass, room, patience),
        }
    }

    /// Receives where the first call was not all, or comes after a wait.
    #[inline(never)]
    fn go_on_receiving<'a>(
        self: &'a Arc<Self>,
        tried: Tried<'a>,
        pass: RecvPass,
        room: &mut Room<'_, '_>,
        patience: &mut Patience,
    ) -> Came<'a> {
        let Tried { wire, mut wait_first, mut last } = tried;
        let mut waited = wait_first;
        let (mut core, what) = loop {
            let (result, brisk) = match last {
                Last::Made { result, brisk } => (result, brisk),
                Last::None(mut core) => {
                    let brisk = core.receives_briskly(patience);
                    if wait_first && !brisk {
                        match self.wait_ready(core, &wire, Side::Read, patience) {
                            Ended::Ready => {}
                            Ended::Look(core) => {
                                if core.machine.still_receives(&pass) {
                                    wait_first = core.failure().is_none();
                                    last = Last::None(core);
                                    continue;
                                }
                                break (core, Received::Nothing);
                            }
                            Ended::Broken(core, fault) => break (core, Received::Failed(fault)),
                            Ended::Passed(core) => {
                                return Came::Nothing(Called::Done(
                                    self.run_out_of_time(core, pass),
                                ));
                            }
                        }
                    } else {
                        core.reading.ready = false;
                        drop(core);
                    }
                    (wire.receive_now(room, brisk), brisk)
                }
            };
            let wait = if wait_first && !brisk { patience.waited() } else { None };
            patience.recheck();
            let end = if matches!(result, Ok(0)) { wire.judge_end() } else { End::Clean };
            let mut core = self.lock();
            core.reading.asleep = false;
            match result {
                Ok(0) => match end {
                    End::Failed(fault) => break (core, Received::Failed(fault)),
                    End::HungUp if core.machine.sends() => {
                        core = self.await_hearsay(core, Side::Write);
                        break (core, Received::Failed(Fault::Reset(None)));
                    }
                    End::HungUp | End::Clean => break (core, Received::Eof),
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
                        break (core, Received::Failed(fault));
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
                Err(error) => break (core, Received::Failed(fault(&error))),
            }
            if !core.machine.still_receives(&pass) {
                break (core, Received::Nothing);
            }
            last = Last::None(core);
        };
        let deeds = Deeds::of(core.machine.received(pass, what, clock::now()));
        Came::Nothing(Called::Ask(self.settle_without(core, deeds, wire)))
    }

    /// Ends a pass that waited for as long as its call may.
    fn run_out_of_time<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
    ) -> Result<usize> {
        let deeds = Deeds::of(core.machine.received(pass, Received::Nothing, clock::now()));
        core = self.settle(core, deeds);
        self.time_out(core, Side::Read)
    }

    /// Sends as soon as there is room.
    pub(crate) fn write(self: &Arc<Self>, load: &Load<'_, '_>) -> Result<usize> {
        fork::check()?;
        if load.is_empty() {
            return self.write_nothing();
        }
        let mut patience = Patience::default();
        let mut core = self.take_turn(Side::Write, &mut patience, |core| {
            // It does not wait for one that began before, and that may go on.
            core.machine.refuses_write().map(|fault| core.error_for(fault))
        })?;
        let pass = match core.machine.write() {
            WriteStep::Send(pass) => pass,
            step => return self.go_on_writing(core, step, load, patience),
        };
        match self.try_to_send(core, load) {
            Ok((core, wire, accepted)) => self.accept(core, pass, accepted, wire),
            Err(tried) => self.write_on(tried, pass, load, patience),
        }
    }

    /// Writes where the first call was not all.
    #[inline(never)]
    fn write_on<'a>(
        self: &'a Arc<Self>,
        tried: Tried<'a>,
        pass: SendPass,
        load: &Load<'_, '_>,
        mut patience: Patience,
    ) -> Result<usize> {
        match self.go_on_sending(tried, pass, load, &mut patience) {
            Called::Done(result) => result,
            Called::Ask(mut core) => {
                let step = core.machine.write();
                self.go_on_writing(core, step, load, patience)
            }
        }
    }

    /// Does what the machine says, until that is a result.
    #[inline(never)]
    fn go_on_writing<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        mut step: WriteStep,
        load: &Load<'_, '_>,
        mut patience: Patience,
    ) -> Result<usize> {
        loop {
            let called = match step {
                WriteStep::Send(pass) => match self.try_to_send(core, load) {
                    Ok((core, wire, accepted)) => {
                        return self.accept(core, pass, accepted, wire);
                    }
                    Err(tried) => self.go_on_sending(tried, pass, load, &mut patience),
                },
                WriteStep::Seal(pass) => self.seal_with(core, pass, load, &mut patience),
                WriteStep::Fail(fault) => {
                    let error = core.error_for(fault);
                    return self.leave(core, Side::Write, Err(error));
                }
                WriteStep::Wait => match patience.left(core.limit(Side::Write)) {
                    Ok(left) => Called::Ask(self.wait_opening(core, left)),
                    Err(Passed) => return self.time_out(core, Side::Write),
                },
            };
            match called {
                Called::Done(result) => return result,
                Called::Ask(back) => core = back,
            }
            step = core.machine.write();
        }
    }

    /// Makes the first call of a pass, where nothing has to be waited for before; mostly that is all.
    #[inline(always)]
    fn try_to_send<'a>(
        &'a self,
        core: Guard<'a>,
        load: &Load<'_, '_>,
    ) -> Result<(Guard<'a>, Arc<Wire>, usize), Tried<'a>> {
        let (mut core, wire, wait_first) = begin(core, Side::Write);
        if wait_first {
            return Err(Tried { wire, wait_first, last: Last::None(core) });
        }
        core.writing.ready = false;
        drop(core);
        match wire.send(load) {
            Ok(accepted) => {
                let mut core = self.lock();
                core.writing.forecast.took(accepted < load.len(), wait_first);
                Ok((core, wire, accepted))
            }
            result => Err(Tried { wire, wait_first, last: Last::Made { result, brisk: false } }),
        }
    }

    /// Ends a pass that took bytes.
    #[inline(always)]
    fn accept<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: SendPass,
        accepted: usize,
        wire: Arc<Wire>,
    ) -> Result<usize> {
        let unwanted = core.wire.give_back(Side::Write, wire);
        let deeds = Deeds::of(core.machine.accepted(pass, accepted));
        core = self.settle(core, deeds);
        let result = self.leave(core, Side::Write, Ok(accepted));
        if let Some(wire) = unwanted {
            let_go(wire);
        }
        result
    }

    /// Sends with a pass, which it ends, where the first call was not all or comes after a wait.
    #[inline(never)]
    fn go_on_sending<'a>(
        self: &'a Arc<Self>,
        tried: Tried<'a>,
        pass: SendPass,
        load: &Load<'_, '_>,
        patience: &mut Patience,
    ) -> Called<'a> {
        let Tried { wire, mut wait_first, mut last } = tried;
        let mut waited = wait_first;
        let (mut core, what) = loop {
            let result = match last {
                Last::Made { result, .. } => result,
                Last::None(mut core) => {
                    if wait_first {
                        match self.wait_ready(core, &wire, Side::Write, patience) {
                            Ended::Ready => {}
                            Ended::Look(back) => {
                                core = self.expire_if_due(back);
                                if core.machine.still_sends(&pass) {
                                    last = Last::None(core);
                                    continue;
                                }
                                break (core, Sent::Nothing);
                            }
                            Ended::Broken(core, fault) => break (core, Sent::Failed(fault)),
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
                    wire.send(load)
                }
            };
            patience.recheck();
            let mut core = self.lock();
            core.writing.asleep = false;
            match result {
                Ok(accepted) => {
                    core.writing.forecast.took(accepted < load.len(), waited);
                    return Called::Done(self.accept(core, pass, accepted, wire));
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
                    break (core, Sent::Failed(fault(&error)));
                }
            }
            if !core.machine.still_sends(&pass) {
                break (core, Sent::Nothing);
            }
            last = Last::None(core);
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

    #[cold]
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

    #[cold]
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

    /// Whether the next receive itself waits, for a moment.
    fn receives_briskly(&self, patience: &mut Patience) -> bool {
        self.reading.forecast.is_brisk()
            && !self.attended
            && (self.is_unlimited() || patience.outlasts_a_tick(self.limit(Side::Read)))
    }

    /// What an established connection has failed by.
    #[inline(never)]
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

/// A pass that the first call did not end.
struct Tried<'a> {
    wire: Arc<Wire>,
    /// Whether to wait before the first call, or before the next.
    wait_first: bool,
    last: Last<'a>,
}

/// The last call of a pass.
enum Last<'a> {
    /// None was made.
    None(Guard<'a>),
    /// What came of it; its thread does not have the lock.
    Made { result: io::Result<usize>, brisk: bool },
}

/// What the first call of a pass needs: the wire, and whether to wait before.
#[inline(always)]
fn begin(mut core: Guard<'_>, side: Side) -> (Guard<'_>, Arc<Wire>, bool) {
    let wire = core.wire.lend(side).expect("who has a pass has a wire");
    // Of a connection that has failed only what came before that is left, for which nobody waits.
    let wait_first = core.waits_first(side) && core.failure().is_none();
    (core, wire, wait_first)
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

impl Side {
    pub(super) fn timed_out(self) -> Error {
        Error::call_timed_out(match self {
            Side::Read => Deadline::Read,
            Side::Write => Deadline::Write,
        })
    }
}
