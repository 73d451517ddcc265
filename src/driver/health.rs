//! Whether a socket that nobody uses now is still good: asked by pools, before they lend it.
//!
//! It looks at the wire, as the loop may not have looked since the last read. Nobody waits for that: where another
//! thread is at the wire, what the state and one poll(2) without a time tell has to do. Only where that shows an end
//! of TLS, the other thread has a moment to say which.

use std::sync::Arc;

use super::clock;
use super::deeds::Deeds;
use super::errno::{Failure, judge};
use super::event_loop;
use super::shared::{Core, Guard, Shared, Watching};
use super::wait::Side;
use super::wire::{End, Standing, Wire};
use super::{Driver, Job, Urgency};
use crate::error::{Error, Fault};
use crate::info::{Health, Phase};
use crate::machine::{Input, ReadStep, Received, Watch};

impl Shared {
    pub(crate) fn health(self: &Arc<Self>) -> Health {
        if let Err(error) = self.check_process() {
            return Health::Failed(error);
        }
        let mut core = self.lock_soon();
        if let Some(health) = core.known_health() {
            return health;
        }
        let Some(wire) = core.wire.cloned() else { return Health::Ended };
        let mut found = Found::Nothing;
        if core.machine.has_unread() {
            core = self.look_behind_what_is_unread(core, &wire);
        } else if core.reading.busy || core.machine.is_received_from() {
            // What comes is for whoever is there.
            drop(core);
            found = wire.standing().into();
            core = self.lock();
            let may_wait = !event_loop::is_this_thread();
            if may_wait && core.machine.is_secure() && !matches!(found, Found::Nothing) {
                // What TLS makes of it, whoever is there is about to say.
                core = self.await_hearsay(core, Side::Read, None);
            }
        } else if core.machine.is_secure() {
            drop(core);
            // As if it were sending, which keeps it from waiting for who is.
            self.ingest_all(&wire, Some(Side::Write), None);
            core = self.lock();
        } else {
            (core, found) = self.peek(core, &wire);
        }
        let core = self.without(core, wire);
        if let Some(health) = core.known_health() {
            return health;
        }
        match found {
            Found::Failure(fault) if core.machine.sends() => {
                Health::Failed(Error::from_fault(fault))
            }
            Found::Failure(_) | Found::End => Health::Ended,
            Found::Bytes => Health::Unread,
            Found::Nothing if core.machine.has_unread() => Health::Unread,
            Found::Nothing if core.machine.phase() == Phase::HalfClosed => Health::Ended,
            Found::Nothing => Health::Idle,
        }
    }

    /// Looks whether something waits, which stays where it is; takes notice of an end or a failure.
    fn peek<'a>(self: &'a Arc<Self>, mut core: Guard<'a>, wire: &Arc<Wire>) -> (Guard<'a>, Found) {
        let ReadStep::Receive(pass) = core.machine.read() else { return (core, Found::Nothing) };
        core.reading.busy = true;
        drop(core);
        let peeked = wire.peek();
        let end = if matches!(peeked, Ok(0)) { wire.judge_end() } else { End::Clean };
        // Behind bytes the system does not tell it otherwise.
        let unread = matches!(peeked, Ok(bytes) if bytes > 0);
        let failure = if unread { wire.take_failure() } else { None };
        let mut core = self.lock();
        let mut found = if unread { Found::Bytes } else { Found::Nothing };
        let what = match peeked {
            Ok(0) => match end {
                End::Failed(fault) => Received::Failed(fault),
                // Who writes was told why, and is about to say so: more than is known here.
                End::HungUp if core.machine.sends() && core.writing.busy => {
                    found = Found::Failure(Fault::Reset(None));
                    Received::Nothing
                }
                End::HungUp if core.machine.sends() => Received::Failed(Fault::Reset(None)),
                End::HungUp | End::Clean => Received::Eof,
            },
            Ok(_) => Received::Nothing,
            Err(error) => match judge(&error) {
                Failure::WouldBlock | Failure::Interrupted | Failure::Call(_) => Received::Nothing,
                Failure::Connection(fault) => Received::Failed(fault),
            },
        };
        core.reading.busy = false;
        let deeds = Deeds::of(core.machine.received(pass, what, clock::now()));
        core = self.settle(core, deeds);
        if let Some(fault) = failure {
            core = self.tell(core, Input::WireFailed(fault));
        }
        // A reader may have come meanwhile, and so may the loop, which then left the rest to who is here.
        self.notify(&core);
        if core.watching == Watching::Off && core.wants_watch() {
            if let Ok(driver) = Driver::running() {
                if self.list(&mut core, driver) {
                    drop(core);
                    driver.post(Job::Young, Urgency::Soon);
                    core = self.lock();
                }
            }
        }
        (core, found)
    }

    /// Over TLS, where data is here already that nobody has taken: the connection may have failed since.
    fn look_behind_what_is_unread<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        wire: &Arc<Wire>,
    ) -> Guard<'a> {
        drop(core);
        let failure = wire.take_failure();
        let end = wire.judge_end();
        let core = self.lock();
        let failure = match (failure, end) {
            (Some(fault), _) | (None, End::Failed(fault)) => Some(fault),
            (None, End::HungUp) if core.machine.sends() => Some(Fault::Reset(None)),
            (None, End::HungUp | End::Clean) => None,
        };
        match failure {
            Some(fault) => self.tell(core, Input::WireFailed(fault)),
            None => core,
        }
    }
}

impl Core {
    /// What there is to tell without a look at the wire, if that is all.
    fn known_health(&self) -> Option<Health> {
        match (self.machine.opened(), self.machine.outcome()) {
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => {
                Some(Health::Failed(self.error_for(fault)))
            }
            (_, Some(Ok(()))) => Some(Health::Ended),
            (None, None) => Some(Health::Opening),
            (Some(Ok(())), None) if self.machine.is_yielding() => Some(Health::Opening),
            (Some(Ok(())), None) => match self.machine.watch() {
                Watch::End | Watch::Failure if self.machine.receives() => None,
                Watch::End | Watch::Failure | Watch::Nothing | Watch::Discard | Watch::Ingest => {
                    Some(Health::Ended)
                }
            },
        }
    }
}

/// What shows at the wire and is not the socket's yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Bytes,
    End,
    Failure(Fault),
}

impl From<Standing> for Found {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Whole => Found::Nothing,
            Standing::Ended => Found::End,
            Standing::Broken => Found::Failure(Fault::Reset(None)),
        }
    }
}
