//! What a handle asks of a socket beside reading and writing: waits for its beginning and its end, the ways to
//! end it, and limits.

use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::shared::{CallLimit, Guard, Shared};
use super::wait::Side;
use super::{clock, event_loop};
use crate::error::{Deadline, Error, Fault, Result};
use crate::info::SocketInfo;
use crate::machine::Input;

impl Shared {
    pub(crate) fn opened(self: &Arc<Self>, limit: Option<Duration>) -> Result<SocketInfo> {
        self.check_process()?;
        let until = limit.map(Until::after);
        let mut core = self.lock();
        loop {
            match core.machine.opened() {
                Some(Ok(())) => {
                    let facts = core.facts.as_ref().expect("a connection that was made has facts");
                    let (endpoints, timings) = (facts.endpoints(), facts.timings());
                    let agreed = core.machine.agreed();
                    drop(core);
                    let requested = self.requested().clone();
                    return Ok(SocketInfo::new(requested, endpoints, timings, agreed));
                }
                Some(Err(fault)) => return Err(core.error_for(fault)),
                None => core = self.wait_until(core, until, Deadline::Opened)?,
            }
        }
    }

    pub(crate) fn closed(self: &Arc<Self>, limit: Option<Duration>) -> Result<()> {
        self.check_process()?;
        let until = limit.map(Until::after);
        let mut core = self.lock();
        loop {
            // Who is told of the end may end the process: FIN is to be sent first.
            let performing =
                core.performing > 0 && until.is_none_or(|until| until.left().is_some());
            match core.machine.outcome() {
                Some(Ok(())) if !performing => return Ok(()),
                Some(Err(fault)) => return Err(core.error_for(fault)),
                Some(Ok(())) | None => core = self.wait_until(core, until, Deadline::Closed)?,
            }
        }
    }

    /// Waits for a change, for a call that has a limit of its own.
    fn wait_until<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        until: Option<Until>,
        limit: Deadline,
    ) -> Result<Guard<'a>> {
        event_loop::may_wait()?;
        let left = match until {
            Some(until) => {
                Some(until.left().ok_or_else(|| Error::call_timed_out(limit).during(core.step()))?)
            }
            None => None,
        };
        Ok(self.wait_opening(core, left))
    }

    /// Waits for any change, at most for `limit`.
    pub(super) fn wait_change<'a>(
        &'a self,
        mut core: Guard<'a>,
        limit: Option<Duration>,
    ) -> Guard<'a> {
        core.waiters += 1;
        let waited = match limit {
            Some(limit) => match self.changed.wait_timeout(core, limit) {
                Ok((core, _)) => Ok(core),
                Err(poisoned) => Err(poisoned.into_inner().0),
            },
            None => self.changed.wait(core).map_err(PoisonError::into_inner),
        };
        let mut core = match waited {
            Ok(core) => core,
            Err(core) => self.fail_internally(core),
        };
        core.waiters -= 1;
        core
    }

    // ------------------------------------------------------------- commands

    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        if let Err(error) = self.check_process() {
            self.let_go();
            return Err(error);
        }
        self.begin_close();
        if !self.wait_handed_over(None) {
            return Err(event_loop::would_block());
        }
        let core = self.lock();
        match core.machine.outcome() {
            Some(Err(fault @ Fault::TimedOut(Deadline::Close))) => Err(core.error_for(fault)),
            Some(_) | None => Ok(()),
        }
    }

    /// Closes it, and does not wait for the hand-over.
    pub(super) fn begin_close(self: &Arc<Self>) {
        let core = self.lock_soon();
        drop(self.tell(core, Input::Close));
    }

    /// Waits until it has ended and nothing is being done on its wire; whether that came in time. The loop does not
    /// wait.
    pub(super) fn wait_handed_over(self: &Arc<Self>, until: Option<Until>) -> bool {
        let mut core = self.lock();
        loop {
            let performed = core.performing == 0 || planted!(CloseReturnsEarly);
            if core.machine.outcome().is_some() && performed {
                return true;
            }
            if event_loop::is_this_thread() {
                return false;
            }
            let left = match until.map(Until::left) {
                Some(None) => return false,
                Some(left) => left,
                None => None,
            };
            core = self.wait_or_expire(core, left);
        }
    }

    /// Waits for a change, for so long and at most until the machine's own limit, of which it then takes
    /// notice.
    fn wait_or_expire<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        left: Option<Duration>,
    ) -> Guard<'a> {
        let Some((at, _)) = core.machine.deadline() else { return self.wait_change(core, left) };
        let now = clock::now();
        if at <= now {
            return self.tell(core, Input::Deadline);
        }
        let due = at - now;
        self.wait_change(core, Some(left.map_or(due, |left| left.min(due))))
    }

    /// Whether it was reset because the close timeout passed before the hand-over.
    pub(super) fn ran_out_of_close_timeout(&self) -> bool {
        self.lock().machine.outcome() == Some(Err(Fault::TimedOut(Deadline::Close)))
    }

    /// Aborts it where it has not ended; whether what it had accepted was not handed over.
    pub(super) fn abort_rest(self: &Arc<Self>) -> bool {
        let core = self.lock();
        let owed = core.machine.outcome().is_none() && core.machine.owes_data();
        drop(self.tell(core, Input::Abort));
        owed
    }

    pub(crate) fn abort(self: &Arc<Self>, input: Input<'static>) {
        if self.is_forked() {
            return self.let_go();
        }
        if planted!(ResetsBeforeState) {
            let wire = self.lock().wire.cloned();
            wire.inspect(|wire| wire.reset());
        }
        let core = self.lock_soon();
        drop(self.tell(core, input));
    }

    pub(crate) fn cancel_reading(self: &Arc<Self>) {
        if !self.is_forked() {
            let core = self.lock_soon();
            drop(self.tell(core, Input::CancelReading));
        }
    }

    /// In a forked child: the descriptor is closed here, and nothing is done on the connection. Where
    /// the fork happened while another thread had the lock, nobody will ever release it here.
    pub(super) fn let_go(&self) {
        match self.core.try_lock() {
            Ok(mut core) => drop(core.wire.take()),
            Err(TryLockError::Poisoned(core)) => drop(core.into_inner().wire.take()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    pub(crate) fn set_timeout(&self, side: Side, timeout: Option<Duration>) -> Result<()> {
        self.check_process()?;
        self.change_limit(&[side], |limit| limit.timeout = timeout);
        Ok(())
    }

    pub(crate) fn set_deadline(&self, sides: &[Side], deadline: Option<Instant>) {
        self.change_limit(sides, |limit| limit.deadline = deadline);
    }

    /// Changes what limits calls, and has those that wait look at it again.
    fn change_limit(&self, sides: &[Side], change: impl Fn(&mut CallLimit)) {
        if self.is_forked() {
            return;
        }
        let mut core = self.lock_soon();
        let mut wake = [const { None }; 2];
        for (side, wake) in sides.iter().zip(&mut wake) {
            change(core.limit_mut(*side));
            *wake = core.lane(*side).whom_to_wake();
        }
        self.notify(&core);
        drop(core);
        if !planted!(DeadlineWakesNobody) {
            wake.into_iter().flatten().for_each(|handle| handle.wake());
        }
    }
}

/// The end of a wait: `None` inside where it is too far away to be an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until(Option<Instant>);

impl Until {
    pub(super) fn after(limit: Duration) -> Self {
        Until(clock::now().checked_add(limit))
    }

    /// `None` when it has come.
    pub(super) fn left(self) -> Option<Duration> {
        match self.0 {
            Some(at) => Some(at.saturating_duration_since(clock::now())).filter(|d| !d.is_zero()),
            None => Some(Duration::MAX),
        }
    }
}
