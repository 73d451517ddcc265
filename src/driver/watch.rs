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

use super::Driver;
use super::deeds::Deeds;
use super::shared::{Core, Shared, Watching};
use super::wait::Side;
use super::wire::{Drained, End, Wire, fault};
use crate::error::Fault;
use crate::machine::{Input, ReadStep, Received, Watch};

/// How long the reading turn is free before the loop looks.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// The most that is dropped of one socket in one go.
const DISCARD_BUDGET: usize = 64 * 1024;

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
    /// Lists the socket to be watched when it has been quiet; says whether the loop has to be told to
    /// look.
    pub(super) fn list(self: &Arc<Self>, core: &mut Core, driver: &Driver) -> bool {
        let (place, tell) = driver.young().add(Arc::downgrade(self), core.turns);
        core.watching = Watching::Listed(place);
        tell
    }

    /// Whether to register a socket now that was listed when `turns` reading turns had ended.
    pub(super) fn glance(self: &Arc<Self>, turns: u32, driver: &Driver) -> bool {
        let mut core = self.lock();
        let listed = matches!(core.watching, Watching::Listed(_)) && core.wants_watch();
        if listed && core.turns != turns {
            self.list(&mut core, driver);
            return false;
        }
        // Whoever is reading will list it when they leave.
        let arm = listed && !core.reading.busy;
        core.watching = if arm { Watching::Armed } else { Watching::Off };
        arm
    }

    /// The wire, where the loop is to register it, and whether for both directions.
    pub(super) fn to_register(&self) -> Option<(Arc<Wire>, bool)> {
        let core = self.lock();
        let wire = core.wire.as_ref()?;
        Some((Arc::clone(wire), core.attended))
    }

    /// Looks at the wire, which `event` says is worth it, or without one at first or once more.
    pub(super) fn look(self: &Arc<Self>, event: Option<&Event>) -> Look {
        // Without an event nothing says that it has not.
        let failed = event.is_none_or(|event| event.is_error() || event.is_write_closed());
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
            Watch::End if core.reading.busy => return kept,
            Watch::End => match core.watching {
                Watching::Armed => {}
                Watching::Narrowed if failed => {}
                // Such as urgent data, which stays pending.
                Watching::Narrowed => return Look::Keep,
                Watching::Off | Watching::Listed(_) => return kept,
            },
        }
        let ReadStep::Receive(pass) = core.machine.read() else { return kept };
        let Some(wire) = core.wire.clone() else { return kept };
        core.reading.busy = true;
        drop(core);
        let peeked = wire.peek();
        let unread = matches!(peeked, Ok(bytes) if bytes > 0);
        let end = if matches!(peeked, Ok(0)) { wire.judge_end() } else { End::Clean };
        let failure = match peeked {
            Ok(0) => None,
            Ok(_) | Err(_) if failed => wire.take_failure(),
            Ok(_) | Err(_) => None,
        };
        let mut core = self.lock();
        if end == End::HungUp && core.machine.sends() {
            core = self.await_hearsay(core, Side::Write);
        }
        let (what, look) = match (peeked, failure) {
            (Ok(0), _) => match end {
                End::Failed(fault) => (Received::Failed(fault), Look::Keep),
                End::HungUp if core.machine.sends() => {
                    (Received::Failed(Fault::Reset(None)), Look::Keep)
                }
                End::HungUp | End::Clean => (Received::Eof, Look::Keep),
            },
            (Ok(_), _) if core.attended => (Received::Nothing, Look::Keep),
            (Ok(_), _) => {
                core.watching = Watching::Narrowed;
                (Received::Nothing, Look::FailuresOnly)
            }
            (Err(error), None) if is_idle(&error) => (Received::Nothing, Look::Keep),
            (Err(error), Some(fault)) if is_idle(&error) => (Received::Failed(fault), Look::Keep),
            (Err(error), _) => (Received::Failed(fault(&error)), Look::Keep),
        };
        core.reading.busy = false;
        let deeds = Deeds::of(core.machine.received(pass, what, Instant::now()));
        core = self.settle(core, deeds);
        if let (true, Some(fault)) = (unread, failure) {
            core = self.tell(core, Input::WireFailed(fault));
        }
        // Somebody may have waited for the turn meanwhile.
        self.notify(&core);
        look
    }

    fn look_for_failure(self: &Arc<Self>) -> Look {
        let Some((wire, _)) = self.to_register() else { return Look::Disarm };
        let failure = wire.take_failure();
        let end = wire.judge_end();
        let mut core = self.lock();
        let hung_up = end == End::HungUp && core.machine.sends();
        if failure.is_none() && hung_up {
            core = self.await_hearsay(core, Side::Write);
        }
        let failure = failure.or(hung_up.then_some(Fault::Reset(None)));
        if let Some(fault) = failure {
            drop(self.tell(core, Input::WireFailed(fault)));
        }
        Look::Keep
    }

    /// Drops what came in on a socket whose reading was cancelled.
    fn discard(self: &Arc<Self>) -> Look {
        let Some((wire, _)) = self.to_register() else { return Look::Disarm };
        let drained = wire.drain(&mut { DISCARD_BUDGET });
        let end = if drained == Drained::End { wire.judge_end() } else { End::Clean };
        let core = self.lock();
        let input = match drained {
            Drained::Empty => return Look::Keep,
            Drained::More => return Look::Again,
            Drained::End => match end {
                End::Failed(fault) => Input::WireFailed(fault),
                End::HungUp if core.machine.sends() => Input::WireFailed(Fault::Reset(None)),
                End::HungUp | End::Clean => Input::WireEof,
            },
            Drained::Failed(fault) => Input::WireFailed(fault),
        };
        drop(self.tell(core, input));
        Look::Keep
    }

    /// The loop could not register the wire, so nobody would learn of its end.
    pub(super) fn unwatched(self: &Arc<Self>, fault: Fault) {
        let mut core = self.lock();
        core.watching = Watching::Off;
        core.registration.take();
        if core.attended {
            // Who waits by the loop would wait for ever.
            drop(self.tell(core, Input::WireFailed(fault)));
        }
    }
}

fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
