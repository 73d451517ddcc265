//! Writing in plaintext, by the caller's own thread, and what ends or flushes the writing.

use std::io;
use std::sync::Arc;

use super::attend::{Called, Last, Tried, begin};
use super::deeds::Deeds;
use super::errno::{Failure, judge};
use super::patience::{Passed, Patience};
use super::readiness::Ended;
use super::shared::{Core, Guard, Shared};
use super::slices::Load;
use super::wait::Side;
use super::wire::Wire;
use super::wires::let_go;
use crate::error::{Error, Fault, Result};
use crate::machine::{Input, SendPass, Sent, WriteStep};

impl Shared {
    /// Sends as soon as there is room.
    pub(crate) fn write(self: &Arc<Self>, load: &Load<'_, '_>) -> Result<usize> {
        self.check_process()?;
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
        let mut again = false;
        loop {
            // As in a read, each round looks at the limit.
            let over = std::mem::replace(&mut again, true)
                && patience.left(core.limit(Side::Write)) == Err(Passed);
            let called = match step {
                WriteStep::Send(pass) | WriteStep::Seal(pass) if over => {
                    return self.give_up_sending(core, pass);
                }
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
                Called::Ask(back) => core = self.release_briefly(back),
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
                let mut core = self.lock_again();
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
                            Ended::Broken(core, fault) => {
                                return Called::Done(self.fail_send(core, pass, fault));
                            }
                            Ended::Passed(core) => {
                                return Called::Done(self.give_up_sending(core, pass));
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
                Err(error) => match judge(&error) {
                    Failure::WouldBlock => {
                        if !waited {
                            core.writing.forecast.missed();
                            waited = true;
                        }
                        wait_first = !core.writing.ready;
                    }
                    Failure::Interrupted => wait_first = false,
                    Failure::Call(fault) => {
                        return Called::Done(self.fail_send(core, pass, fault));
                    }
                    Failure::Connection(fault) => {
                        // A broken pipe is all that it says to those whom it does not tell why.
                        if error.kind() == io::ErrorKind::BrokenPipe {
                            core = self.await_hearsay(core, Side::Read, Some(Side::Write));
                        }
                        break (core, Sent::Failed(fault));
                    }
                },
            }
            if !core.machine.still_sends(&pass) {
                break (core, Sent::Nothing);
            }
            last = Last::None(core);
        };
        let deeds = Deeds::of(core.machine.sent(pass, what));
        Called::Ask(self.settle_without(core, deeds, wire))
    }

    /// Ends a pass that waited for as long as its call may.
    pub(super) fn give_up_sending<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: SendPass,
    ) -> Result<usize> {
        let deeds = Deeds::of(core.machine.sent(pass, Sent::Nothing));
        core = self.settle(core, deeds);
        self.time_out(core, Side::Write)
    }

    /// Ends a pass whose call failed for itself: the connection stands.
    #[cold]
    fn fail_send<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: SendPass,
        fault: Fault,
    ) -> Result<usize> {
        let deeds = Deeds::of(core.machine.sent(pass, Sent::Nothing));
        core = self.settle(core, deeds);
        self.leave(core, Side::Write, Err(Error::from_fault(fault)))
    }

    /// Half-closes, once the connection is made and the writes before it have ended.
    pub(crate) fn finish_writing(self: &Arc<Self>) -> Result<()> {
        self.check_process()?;
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
        self.check_process()?;
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
    /// Fails where the socket has failed.
    fn check(&self) -> Result<()> {
        let fault = match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => fault,
            (Some(Ok(())) | None, Some(Ok(())) | None) => return Ok(()),
        };
        Err(self.error_for(fault))
    }
}
