//! What the loop does for a socket at whose wire no caller is: it looks for the peer's end and for
//! failures, and drops what comes in where reading was cancelled.
//!
//! It begins to look when the reading turn has been free for a while, so that a socket that is being
//! read costs it nothing but a glance now and then. To begin is always to register the wire, which
//! reports the present state.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::deeds::Deeds;
use super::shared::{Shared, Watching};
use super::wait::Side;
use super::wire::{Drained, Wire, fault};
use crate::error::Fault;
use crate::machine::{Input, ReadStep, Received, Watch};

/// How long the reading turn is free before the loop looks.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// The most that is dropped of one socket in one go.
const DISCARD_BUDGET: usize = 64 * 1024;

/// What to do with a listed socket.
#[derive(Debug)]
pub(super) enum Glance {
    /// Nothing: whoever reads will have it listed again.
    Forget,
    /// Look again later: it was read meanwhile, so many turns have ended.
    Later(u32),
    /// Register it.
    Arm,
}

/// What to do with a registered socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Keep,
    /// Come back without waiting for an event: there is more to do.
    Again,
    /// Report failures only: something is unread.
    FailuresOnly,
    /// Take the registration back.
    Disarm,
}

impl Shared {
    pub(super) fn turns(&self) -> u32 {
        self.lock().reading.turns
    }

    /// Whether a listed socket has been quiet since `turns` turns had ended.
    pub(super) fn glance(&self, turns: u32) -> Glance {
        let mut core = self.lock();
        if core.watching != Watching::Listed || !core.wants_watch() {
            core.watching = Watching::Off;
            return Glance::Forget;
        }
        if core.reading.turns != turns {
            return Glance::Later(core.reading.turns);
        }
        if core.reading.busy {
            core.watching = Watching::Off;
            return Glance::Forget;
        }
        core.watching = Watching::Armed;
        Glance::Arm
    }

    /// The wire, where the loop is to register it, and whether for both directions.
    pub(super) fn to_register(&self) -> Option<(Arc<Wire>, bool)> {
        let core = self.lock();
        let wire = core.wire.as_ref()?;
        Some((Arc::clone(wire), core.attended))
    }

    /// Looks at the wire, which `event` says is worth it, or without one at first or once more.
    pub(super) fn look(self: &Arc<Self>, event: Option<&Event>) -> Look {
        let failed = event.is_some_and(|event| event.is_error() || event.is_write_closed());
        let mut core = self.lock();
        if core.attended {
            core.reading.ready = true;
            core.writing.ready = true;
            self.notify(&core);
        }
        let kept = if core.attended { Look::Keep } else { Look::Disarm };
        match core.machine.watch() {
            Watch::Nothing => return kept,
            Watch::Discard => {
                drop(core);
                return self.discard();
            }
            Watch::Failure => {
                drop(core);
                return if failed { self.look_for_failure() } else { Look::Keep };
            }
            Watch::End if core.reading.busy || core.watching != Watching::Armed => return kept,
            Watch::End => {}
        }
        let ReadStep::Receive(pass) = core.machine.read() else { return kept };
        let Some(wire) = core.wire.clone() else { return kept };
        core.reading.busy = true;
        drop(core);
        let peeked = wire.peek();
        let hung_up = matches!(peeked, Ok(0)) && wire.is_hung_up();
        let failure = if failed { wire.take_failure() } else { None };
        let mut core = self.lock();
        let (what, look) = match (peeked, failure) {
            (Ok(0), None) if hung_up && core.machine.sends() => {
                (Received::Failed(Fault::Reset(None)), Look::Keep)
            }
            (Ok(0), None) => (Received::Eof, Look::Keep),
            (Ok(0), Some(fault)) => (Received::Failed(fault), Look::Keep),
            (Ok(_), _) => (Received::Nothing, Look::FailuresOnly),
            (Err(error), None) if is_idle(&error) => (Received::Nothing, Look::Keep),
            (Err(error), Some(fault)) if is_idle(&error) => (Received::Failed(fault), Look::Keep),
            (Err(error), _) => (Received::Failed(fault(&error)), Look::Keep),
        };
        core.reading.busy = false;
        let deeds = Deeds::of(core.machine.received(pass, what, Instant::now()));
        core = self.settle(core, deeds);
        if let (Look::FailuresOnly, Some(fault)) = (&look, failure) {
            core = self.tell(core, Input::WireFailed(fault));
        }
        // Somebody may have waited for the turn meanwhile.
        self.notify(&core);
        look
    }

    fn look_for_failure(self: &Arc<Self>) -> Look {
        let Some((wire, _)) = self.to_register() else { return Look::Disarm };
        let failure = wire.take_failure();
        let hung_up = wire.is_hung_up();
        let core = self.lock();
        let failure = failure.or((hung_up && core.machine.sends()).then_some(Fault::Reset(None)));
        if let Some(fault) = failure {
            drop(self.tell(core, Input::WireFailed(fault)));
        }
        Look::Keep
    }

    /// Drops what came in on a socket whose reading was cancelled.
    fn discard(self: &Arc<Self>) -> Look {
        let Some((wire, _)) = self.to_register() else { return Look::Disarm };
        let drained = wire.drain(&mut { DISCARD_BUDGET });
        let hung_up = drained == Drained::End && wire.is_hung_up();
        let core = self.lock();
        let input = match drained {
            Drained::Empty => return Look::Keep,
            Drained::More => return Look::Again,
            Drained::End if hung_up && core.machine.sends() => {
                Input::WireFailed(Fault::Reset(None))
            }
            Drained::End => Input::WireEof,
            Drained::Failed(fault) => Input::WireFailed(fault),
        };
        drop(self.tell(core, input));
        Look::Keep
    }

    /// The loop could not register the wire, so nobody would learn of its end.
    pub(super) fn unwatched(self: &Arc<Self>) {
        let mut core = self.lock();
        core.watching = Watching::Off;
        if core.attended {
            // Who waits by the loop would wait for ever.
            core.lane(Side::Read).ready = true;
            core.lane(Side::Write).ready = true;
            core.attended = false;
            self.notify(&core);
        }
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
