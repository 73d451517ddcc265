//! Reading in plaintext, by the caller's own thread, and receiving, which TLS does too.

use std::sync::Arc;

use super::attend::{Called, Last, Tried, begin};
use super::clock;
use super::deeds::Deeds;
use super::errno::{Failure, judge};
use super::event_loop;
use super::patience::{Passed, Patience};
use super::readiness::Ended;
use super::shared::{Core, Guard, Shared};
use super::slices::Room;
use super::wait::Side;
use super::wire::{End, Wire};
use super::wires::let_go;
use crate::error::{Error, Fault, Result};
use crate::machine::{ReadStep, Received, RecvPass};

/// What came of a receive.
pub(super) enum Came<'a> {
    /// So many bytes, and the pass is still out.
    Bytes { core: Guard<'a>, pass: RecvPass, bytes: usize, wire: Arc<Wire> },
    /// The pass has ended.
    Nothing(Called<'a>),
}

impl Shared {
    /// Receives as soon as there is something.
    pub(crate) fn read(self: &Arc<Self>, room: &mut Room<'_, '_>) -> Result<usize> {
        self.check_process()?;
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
        let mut looked = false;
        loop {
            // What came was no data, and as much of that as the peer likes may follow, without a wait that the
            // limit would end.
            let again = std::mem::replace(&mut looked, true);
            let called = match step {
                ReadStep::Receive(pass) | ReadStep::Ingest(pass)
                    if again && patience.left(core.limit(Side::Read)) == Err(Passed) =>
                {
                    return self.run_out_of_time(core, pass);
                }
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
                // The next step takes what came, and ends the call.
                Called::Ask(back) if back.machine.has_unread() => core = back,
                Called::Ask(back) => core = self.release_briefly(back),
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
                let mut core = self.lock_again();
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
                            Ended::Broken(core, fault) => {
                                return Came::Nothing(Called::Done(
                                    self.fail_receive(core, pass, fault),
                                ));
                            }
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
            let ended = matches!(result, Ok(0)) && !planted!(BelievesZeroRead);
            let end = if ended { wire.judge_end() } else { End::Clean };
            let mut core = self.lock();
            core.reading.asleep = false;
            match result {
                Ok(0) => match end {
                    End::Failed(fault) => break (core, Received::Failed(fault)),
                    End::HungUp if core.machine.sends() => {
                        core = self.await_hearsay(core, Side::Write, Some(Side::Read));
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
                Err(error) => match judge(&error) {
                    Failure::WouldBlock => {
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
                        wait_first = !core.reading.ready || planted!(ForgetsReadiness);
                        if planted!(ForgetsReadiness) {
                            core.reading.ready = false;
                        }
                    }
                    Failure::Interrupted => wait_first = false,
                    Failure::Call(fault) => {
                        return Came::Nothing(Called::Done(self.fail_receive(core, pass, fault)));
                    }
                    Failure::Connection(fault) => break (core, Received::Failed(fault)),
                },
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

    /// Ends a pass whose call failed for itself: the connection stands.
    #[cold]
    fn fail_receive<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        fault: Fault,
    ) -> Result<usize> {
        let deeds = Deeds::of(core.machine.received(pass, Received::Nothing, clock::now()));
        core = self.settle(core, deeds);
        self.leave(core, Side::Read, Err(Error::from_fault(fault)))
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
}

impl Core {
    /// Whether the next receive itself waits, for a moment.
    fn receives_briskly(&self, patience: &mut Patience) -> bool {
        self.reading.forecast.is_brisk()
            && !self.attended
            && (self.is_unlimited() || patience.outlasts_a_tick(self.limit(Side::Read)))
            && !event_loop::is_this_thread()
    }
}
