//! What the loop does for a socket at whose wire no caller is: it looks for the peer's end and for
//! failures, and drops what comes in where reading was cancelled.
//!
//! It begins to look when the reading turn has been free for a while, so that a socket that is being
//! read costs it nothing but a glance now and then. To begin is always to register the wire, which
//! reports the present state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers;
use super::clock;
use super::deeds::Deeds;
use super::errno::{Failure, judge};
use super::event_loop::REGISTERED_ONCE;
use super::ready::Readiness;
use super::shared::{Core, Shared, Watching};
use super::slices::Room;
use super::sync::mio::{Interest, Token};
use super::wait::Side;
use super::wire::{Drained, End, Wire};
use super::young::Spot;
use super::{Driver, Job, Urgency};
use crate::error::Fault;
use crate::machine::{Input, ReadStep, Received, Watch};

/// How long the reading turn is free before the loop looks.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// The most that is dropped of one socket in one go.
const DISCARD_BUDGET: usize = 64 * 1024;

/// The most receives for one socket in one go.
const INGESTS_MOST: usize = 8;

/// The most that the loop takes in between two looks at the time. What it may hold of records that carry no
/// data takes about a millisecond.
const PIECE: usize = 8 * 1024;

/// What is reported where something is unread, and more of that is no news: failures, where the system can
/// leave the rest out.
#[cfg(any(target_os = "linux", target_os = "android"))]
const FAILURES: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const FAILURES: Interest = Interest::READABLE;

/// What to do with a registered socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Keep,
    /// Come back without waiting for an event: there is more to do.
    Again,
    /// Come back in a while without an event: the system was not able to do it now.
    Later,
    /// Report failures only: something is unread.
    FailuresOnly,
    /// It may be registered for what is not wanted any more.
    Recheck,
}

/// How much of what was there was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ingested {
    /// All, or nobody wants the rest.
    All,
    /// There may be more.
    Some,
    /// The system can't do it now, and does not tell when it can.
    Unable,
}

impl Shared {
    /// Lists the socket to be watched when it has been quiet, unless it is listed already; says whether
    /// the loop has to be told to look.
    pub(super) fn list(self: &Arc<Self>, core: &mut Core, driver: &Driver) -> bool {
        if matches!(core.watching, Watching::Listed(_)) {
            return false;
        }
        let (place, tell) = driver.young().add(Arc::downgrade(self), core.turns);
        core.watching = Watching::Listed(place);
        tell
    }

    /// Lists a socket that wants to be watched and that neither the loop watches nor a reader is at, who would
    /// list it on leaving. Any transition may have led there: the end of a handshake is one, whichever thread
    /// brings it about. Returns whether the loop has to be told to look.
    pub(super) fn list_if_unattended(self: &Arc<Self>, core: &mut Core) -> bool {
        if core.watching != Watching::Off || core.reading.busy || !core.wants_watch() {
            return false;
        }
        match Driver::running() {
            Ok(driver) => core.wire.is_some() && self.list(core, driver),
            Err(_) => false,
        }
    }

    /// Whether to register a socket now that was listed here when `turns` reading turns had ended.
    pub(super) fn glance(self: &Arc<Self>, spot: Spot, turns: u32, driver: &Driver) -> bool {
        let mut core = self.lock();
        if core.watching != Watching::Listed(spot) {
            // This is not how the socket is listed now, if it is.
            return false;
        }
        core.watching = Watching::Off;
        let handshaking = core.machine.watch() == Watch::Ingest;
        let wanted = core.wants_watch();
        if wanted && core.turns != turns {
            self.list(&mut core, driver);
            return false;
        }
        // Whoever is reading will list it when they leave.
        let arm = handshaking || wanted && !core.reading.busy;
        if arm {
            core.watching = Watching::Armed;
        }
        if handshaking {
            // From now on the loop keeps its time.
            drop(self.keep_time(core));
        }
        arm
    }

    /// The wire, where there is one, and for what the loop is to register it, if for anything.
    pub(super) fn to_register(&self) -> Option<(Arc<Wire>, Option<Interest>)> {
        let core = self.lock();
        Some((core.wire.cloned()?, core.interest()))
    }

    /// Takes back the registration of a wire of which nothing is wanted. Whoever wants something by now posts
    /// that, or will find the registration where it is.
    pub(super) fn take_registration(&self) -> Option<Token> {
        let mut core = self.lock();
        if core.interest().is_some() {
            return None;
        }
        core.stop_watching();
        core.registration.take()
    }

    fn wire(&self) -> Option<Arc<Wire>> {
        self.lock().wire.cloned()
    }

    /// Looks at the wire, of which this is known, until about then.
    pub(super) fn look(self: &Arc<Self>, readiness: Readiness, until: Instant) -> Look {
        match self.look_at(readiness, until) {
            Look::Keep if self.lock().stops_attending() => Look::Recheck,
            look => look,
        }
    }

    fn look_at(self: &Arc<Self>, readiness: Readiness, until: Instant) -> Look {
        let Readiness { failed, writable } = readiness;
        let mut core = self.lock();
        if core.attended {
            core.reading.ready = true;
            core.writing.ready = true;
            self.notify(&core);
        }
        if writable && core.flushing {
            // Who is sending now looks again when that came to nothing.
            core.writing.ready = true;
            if core.machine.has_unsent() {
                drop(core);
                if self.transmit_on_the_loop() {
                    return Look::Later;
                }
                core = self.lock();
            }
        }
        let kept = if core.attended { Look::Keep } else { Look::Recheck };
        match core.machine.watch() {
            Watch::Nothing => return kept,
            Watch::Discard => {
                drop(core);
                return self.discard();
            }
            Watch::Ingest => {
                drop(core);
                return self.ingest_in_background(until);
            }
            Watch::Failure => {
                drop(core);
                return if failed { self.look_for_failure() } else { Look::Keep };
            }
            Watch::End if core.reading.busy => {
                // Whoever is reading will list it when they leave.
                core.stop_watching();
                return kept;
            }
            Watch::End => match core.watching {
                Watching::Armed => {}
                Watching::Narrowed if failed => {}
                // Such as urgent data, which stays pending.
                Watching::Narrowed => return Look::Keep,
                Watching::Off | Watching::Listed(_) => return kept,
            },
        }
        if core.machine.is_secure() {
            drop(core);
            let look = self.ingest_in_background(until);
            // If the event reported data and a failure, no other event reports the failure. A wire that is
            // registered again, for failures only, reports it itself.
            let unread = failed && self.lock().machine.watch() == Watch::Failure;
            return if unread && look == Look::Keep { self.look_for_failure() } else { look };
        }
        let ReadStep::Receive(pass) = core.machine.read() else { return kept };
        let Some(wire) = core.wire.cloned() else { return kept };
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
            core = self.await_hearsay(core, Side::Write, Some(Side::Read));
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
            (Err(error), failure) => match (judge(&error), failure) {
                (Failure::Connection(fault), _) => (Received::Failed(fault), Look::Keep),
                (_, Some(fault)) => (Received::Failed(fault), Look::Keep),
                (Failure::WouldBlock, None) => (Received::Nothing, Look::Keep),
                // It has seen nothing, and there will be no other event.
                (Failure::Interrupted, None) => (Received::Nothing, Look::Again),
                (Failure::Call(_), None) => (Received::Nothing, Look::Later),
            },
        };
        core.reading.busy = false;
        let deeds = Deeds::of(core.machine.received(pass, what, clock::now()));
        core = self.settle(core, deeds);
        if let (true, Some(fault)) = (unread, failure) {
            core = self.tell(core, Input::WireFailed(fault));
        }
        // Somebody may have waited for the turn meanwhile.
        self.notify(&core);
        look
    }

    fn look_for_failure(self: &Arc<Self>) -> Look {
        let mut core = self.lock();
        let Some(wire) = core.wire.cloned() else { return Look::Recheck };
        core.looking = true;
        drop(core);
        let failure = wire.take_failure();
        let end = wire.judge_end();
        let mut core = self.lock();
        core.looking = false;
        let hung_up = end == End::HungUp && core.machine.sends();
        if failure.is_none() && hung_up {
            core = self.await_hearsay(core, Side::Write, Some(Side::Read));
        }
        let failure = failure.or(hung_up.then_some(Fault::Reset(None)));
        if let Some(fault) = failure {
            drop(self.tell(core, Input::WireFailed(fault)));
        }
        Look::Keep
    }

    /// Drops what came in on a socket whose reading was cancelled.
    fn discard(self: &Arc<Self>) -> Look {
        let Some(wire) = self.wire() else { return Look::Recheck };
        let drained = wire.drain(&mut { DISCARD_BUDGET });
        let end = if drained == Drained::End { wire.judge_end() } else { End::Clean };
        let core = self.lock();
        let input = match drained {
            Drained::Empty => return Look::Keep,
            Drained::More => return Look::Again,
            Drained::Unable => return Look::Later,
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

    /// Over TLS what comes has to be decrypted before anyone knows what it is: does so until something is
    /// unread, which is then as in plaintext, or nothing more is there.
    fn ingest_in_background(self: &Arc<Self>, until: Instant) -> Look {
        if self.lock().machine.runs_foreign_code() {
            self.leave_to_workers();
            return Look::Keep;
        }
        self.ingest_quietly(Some(until))
    }

    /// Takes in what is there, where nobody waits for it; on the loop until about then.
    pub(super) fn ingest_quietly(self: &Arc<Self>, until: Option<Instant>) -> Look {
        let Some(wire) = self.wire() else { return Look::Recheck };
        let opening = self.lock().is_opening();
        let ingested = self.ingest_until(&wire, (None, None), until);
        let mut core = self.lock();
        if core.wire.is_none() {
            return Look::Recheck;
        }
        if opening && !core.is_opening() {
            // The handshake is over, and callers do the rest.
            return if core.attended { Look::Keep } else { Look::Recheck };
        }
        match ingested {
            Ingested::All => {}
            Ingested::Some => return Look::Again,
            Ingested::Unable => return Look::Later,
        }
        if core.machine.has_unread() && !core.attended && core.watching == Watching::Armed {
            core.watching = Watching::Narrowed;
            return Look::FailuresOnly;
        }
        Look::Keep
    }

    /// [Takes in](Self::ingest_until) what is there, as whoever has the time.
    pub(super) fn ingest_all(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        other: Option<Side>,
        known: Option<Fault>,
    ) -> Ingested {
        self.ingest_until(wire, (other, known), None)
    }

    /// Takes in what is there, within a budget, and only in small pieces where there is an end to the time. Only where no reader is at
    /// it. Whose thread it is may be at the wire in another direction, and know by what it has failed.
    fn ingest_until(
        self: &Arc<Self>,
        wire: &Arc<Wire>,
        (other, known): (Option<Side>, Option<Fault>),
        until: Option<Instant>,
    ) -> Ingested {
        let mut buffers = buffers::borrow();
        let intake = &mut buffers.get().intake;
        let opening = self.lock().is_opening();
        for _ in 0..INGESTS_MOST {
            self.let_others_in();
            let mut core = self.lock();
            if opening && !core.is_opening() {
                // Callers do the rest.
                return Ingested::All;
            }
            if let Some(loan) = core.machine.lend_to_begin() {
                drop(core);
                drop(self.begin(loan));
                continue;
            }
            let Some(pass) = core.machine.attend() else { return Ingested::All };
            drop(core);
            let space = intake.space();
            let most = if until.is_some() { space.len().min(PIECE) } else { space.len() };
            let result = wire.receive(&mut Room::One(&mut space[..most]));
            let end = if matches!(result, Ok(0)) { wire.judge_end() } else { End::Clean };
            let mut core = self.lock();
            if end == End::HungUp && core.machine.sends() && other != Some(Side::Write) {
                core = self.await_hearsay(core, Side::Write, Some(Side::Read));
            }
            let mut over = None;
            let deeds = match result {
                Ok(0) => {
                    let what = match end {
                        End::Failed(fault) => Received::Failed(fault),
                        End::HungUp if core.machine.sends() => {
                            Received::Failed(known.unwrap_or(Fault::Reset(None)))
                        }
                        End::HungUp | End::Clean => Received::Eof,
                    };
                    Deeds::of(core.machine.received(pass, what, clock::now()))
                }
                Ok(bytes) => {
                    intake.filled(bytes);
                    let (back, deeds) = self.feed(core, pass, intake);
                    core = back;
                    deeds
                }
                Err(error) => {
                    let what = match judge(&error) {
                        Failure::Connection(fault) => Received::Failed(fault),
                        failure => {
                            over = match failure {
                                Failure::WouldBlock => Some(Ingested::All),
                                Failure::Call(_) => Some(Ingested::Unable),
                                _ => None,
                            };
                            Received::Nothing
                        }
                    };
                    let outputs = core.machine.received(pass, what, clock::now());
                    if over.is_some() { None } else { Deeds::of(outputs) }
                }
            };
            core = self.settle(core, deeds);
            // A reader may have come meanwhile.
            self.notify(&core);
            if let Some(over) = over {
                return over;
            }
            if until.is_some_and(|until| clock::now() >= until) {
                break;
            }
        }
        Ingested::Some
    }

    /// The loop could not register the wire, so nobody would learn of its end: tries it again later where that
    /// is all.
    pub(super) fn unwatched(self: &Arc<Self>, fault: Fault) {
        let mut core = self.lock();
        core.stop_watching();
        core.registration.take();
        if core.attended || core.flushing || core.machine.watch() == Watch::Ingest {
            // Who waits for the loop would wait for ever.
            drop(self.tell(core, Input::WireFailed(fault)));
        } else if let (true, Ok(driver)) = (core.wants_watch(), Driver::running()) {
            if self.list(&mut core, driver) {
                drop(core);
                driver.post(Job::Young, Urgency::Soon);
            }
        }
    }
}

impl Core {
    /// The loop does not watch any more. Where it is listed it stays so, and the loop begins again.
    fn stop_watching(&mut self) {
        match self.watching {
            Watching::Armed | Watching::Narrowed => self.watching = Watching::Off,
            Watching::Off | Watching::Listed(_) => {}
        }
    }

    /// Whether the loop was to report for who waits by the condition variable, and nobody does any more.
    fn stops_attending(&mut self) -> bool {
        let over = self.attended && !REGISTERED_ONCE && !self.reading.busy && !self.writing.busy;
        self.attended &= !over;
        over
    }

    /// What the loop is to be told of the wire.
    fn interest(&self) -> Option<Interest> {
        if self.attended {
            return Some(Interest::READABLE | Interest::WRITABLE);
        }
        let reading = match (self.machine.watch(), self.watching) {
            (Watch::Discard | Watch::Ingest, _) => Some(Interest::READABLE),
            (Watch::Nothing, _) => None,
            (Watch::End | Watch::Failure, Watching::Armed) => Some(Interest::READABLE),
            (Watch::End | Watch::Failure, Watching::Narrowed) => Some(FAILURES),
            (Watch::End | Watch::Failure, Watching::Off | Watching::Listed(_)) => None,
        };
        match (reading, self.flushing) {
            (Some(reading), true) => Some(reading | Interest::WRITABLE),
            (None, true) => Some(Interest::WRITABLE),
            (reading, false) => reading,
        }
    }
}
