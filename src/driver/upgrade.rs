//! How a socket is upgraded to TLS: its connection goes over to another socket, and nothing that was sent
//! before can be taken for something that was sent after.
//!
//! In this order: the state is looked at, so that misuse disturbs nothing. The writing turn is taken, behind
//! the writes that began before. The upgrade is published, from where on nobody receives; who does leaves
//! the wire. Then the wire is looked at, once: the peer has nothing to say before it has seen the
//! ClientHello, so a byte that is there is an answer that somebody injected, or one that the program should
//! have read. Only then the connection changes hands.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::clock;
use super::deeds::Deeds;
use super::errno::fault;
use super::event_loop::{self, REGISTERED_ONCE};
use super::shared::{Core, Guard, Shared, UpgradePlan};
use super::sync::mio;
use super::wire::{End, Wire, would_block};
use super::{Driver, Job, Urgency};
use crate::error::{Deadline, Error, ErrorKind, Fault, Result, Step};
use crate::machine::{Input, Machine, Refusal, TlsSetup};
use crate::tls::TlsOptions;

impl Shared {
    /// Upgrades, by these settings or else by those of the socket's options.
    pub(crate) fn start_tls(self: &Arc<Self>, tls: Option<&TlsOptions>) -> Result<Arc<Shared>> {
        self.check_process()?;
        event_loop::may_wait()?;
        let Some(plan) = self.upgrade_plan() else {
            let mode = self.mode();
            return Err(misuse(format!("secure_transport is {mode}: an upgrade needs starttls")));
        };
        let begun = clock::now();
        let deadline = plan.connect_timeout.and_then(|limit| begun.checked_add(limit));
        // Misuse comes before what may be wrong with the options.
        drop(self.may_claim(self.lock())?);
        let setup = TlsSetup::new(tls.unwrap_or(&plan.tls), self.requested().hostname())?;
        self.fail_on_panic(|| self.upgrade(plan, &setup, deadline))
    }

    fn upgrade(
        self: &Arc<Self>,
        plan: &UpgradePlan,
        setup: &TlsSetup,
        deadline: Option<Instant>,
    ) -> Result<Arc<Shared>> {
        let core = self.claim(deadline)?;
        let mut core = self.tell(core, Input::StartTls);
        let awaits_reader = !planted!(NoReaderAfterUpgradeCheck);
        while awaits_reader && core.machine.is_yielding() && !core.machine.is_quiet() {
            // A reader who is called off the wire leaves it.
            core = self.wait_change(core, None);
        }
        if core.machine.is_yielding() {
            core = self.look_before(core);
            if planted!(UpgradesTwice) {
                return Ok(self.hand_over(core, plan, setup, deadline));
            }
        }
        if core.machine.is_yielding() {
            return Ok(self.hand_over(core, plan, setup, deadline));
        }
        let error = match core.machine.refuses_upgrade() {
            Some(refusal) => core.interrupted(refusal),
            None => core.error_for(Fault::Closed),
        };
        self.unclaim(core);
        Err(error)
    }

    /// Waits for the connection and for the writes that began before, and takes the writing turn.
    fn claim(&self, deadline: Option<Instant>) -> Result<Guard<'_>> {
        let mut core = self.may_claim(self.lock())?;
        core.claimed = true;
        loop {
            if let Some(refusal) = core.machine.refuses_upgrade() {
                let error = core.interrupted(refusal);
                core.claimed = false;
                self.notify(&core);
                return Err(error);
            }
            let free = !core.writing.busy || planted!(UpgradesTwice);
            if !core.is_opening() && free && core.queued == 0 {
                core.writing.busy = true;
                return Ok(core);
            }
            let left = deadline.map(|at| at.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                core.claimed = false;
                self.notify(&core);
                let step = core.machine.step().unwrap_or(Step::Handshake);
                return Err(Error::call_timed_out(Deadline::Upgrade).during(step));
            }
            core = self.wait_change(core, left);
        }
    }

    fn may_claim<'a>(&self, core: Guard<'a>) -> Result<Guard<'a>> {
        if core.claimed && !planted!(UpgradesTwice) {
            return Err(misuse("the socket is being upgraded already"));
        }
        match core.machine.refuses_upgrade() {
            Some(refusal) => Err(core.refused(refusal)),
            None => Ok(core),
        }
    }

    /// Gives the writing turn back.
    fn unclaim(&self, mut core: Guard<'_>) {
        core.claimed = false;
        core.writing.busy = false;
        self.notify(&core);
    }

    /// Looks at the wire, with both directions off it.
    fn look_before<'a>(self: &'a Arc<Self>, core: Guard<'a>) -> Guard<'a> {
        let wire = core.wire.cloned().expect("an open connection has a wire");
        drop(core);
        let found = loop {
            match wire.peek() {
                Ok(0) => {
                    break match wire.judge_end() {
                        End::Clean => Some(Input::WireEof),
                        End::HungUp => Some(Input::WireFailed(Fault::Reset(None))),
                        End::Failed(fault) => Some(Input::WireFailed(fault)),
                    };
                }
                Ok(_) => break Some(Input::Unread),
                Err(error) if error.kind() == would_block().kind() => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Also where the wire may be whole: only what is known to be clean is handed over.
                Err(error) => break Some(Input::WireFailed(fault(&error))),
            }
        };
        let core = self.lock();
        let core = match found {
            Some(input) => self.tell(core, input),
            None => core,
        };
        self.without(core, wire)
    }

    /// Gives the connection to a socket of its own.
    fn hand_over(
        self: &Arc<Self>,
        mut core: Guard<'_>,
        plan: &UpgradePlan,
        setup: &TlsSetup,
        deadline: Option<Instant>,
    ) -> Arc<Shared> {
        let now = clock::now();
        let deeds = Deeds::of(core.machine.handle(Input::HandOver, now));
        let mut secured = Core::new(Machine::upgrade(&plan.plan, setup, deadline, now));
        let wire = core.wire.take();
        if let Some(wire) = &wire {
            secured.wire.adopt(Arc::clone(wire));
        }
        secured.secure = true;
        secured.facts = core.facts.clone();
        secured.set_limits(core.limits());
        // The place goes over as well.
        let place = core.place.take();
        let life = core.life();
        secured.place = place;
        let registration = core.registration.take();
        let spot = core.take_spot();
        core.claimed = false;
        core.writing.busy = false;
        // From here on it gives the place back, whatever happens.
        let secured = self.secured(secured);
        drop(self.settle(core, deeds));
        let socket = Arc::downgrade(&secured);
        let ends = place.is_some_and(|place| self.roster().hand_over(place, life, socket));
        if let Ok(driver) = Driver::running() {
            if let Some(spot) = spot {
                driver.young().remove(spot, self);
            }
            if let (Some(token), Some(wire)) = (registration, &wire) {
                change_hands(driver, token, wire, &secured);
            }
        }
        secured.fail_on_panic(|| {
            let mut core = secured.lock();
            let deeds = Deeds::of(core.machine.start(now));
            drop(secured.settle(core, deeds));
            if ends {
                // Its scope or its connector has, meanwhile.
                secured.begin_close();
            }
        });
        secured
    }
}

fn change_hands(driver: &Driver, token: mio::Token, wire: &Wire, secured: &Arc<Shared>) {
    if REGISTERED_ONCE {
        driver.post(Job::Adopt(token, Arc::clone(secured)), Urgency::Now);
    } else {
        wire.deregister(driver.registry());
        driver.post(Job::Forget(vec![token]), Urgency::Soon);
    }
}

impl Core {
    /// The error of a call that could not even begin.
    fn refused(&self, refusal: Refusal) -> Error {
        misuse(match refusal {
            Refusal::Secure => "the connection is TLS already",
            Refusal::Upgraded => "the socket was upgraded already",
            Refusal::HalfClosed => "this side has ended its writing, and can't make a handshake",
            Refusal::Cancelled => "reading was cancelled, and a handshake has to read",
            Refusal::Closed => "this side has closed the socket",
            Refusal::PeerEnded | Refusal::Failed(_) => return self.interrupted(refusal),
        })
    }

    /// The error of a call that waited meanwhile.
    fn interrupted(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Closed => self.error_for(match self.machine.outcome() {
                Some(Err(fault)) => fault,
                Some(Ok(())) | None => Fault::Closed,
            }),
            Refusal::PeerEnded => Error::with_message(
                ErrorKind::Closed,
                "the peer has ended the connection, and can't make a handshake",
            ),
            Refusal::Failed(fault) => self.error_for(fault),
            Refusal::Secure | Refusal::Upgraded | Refusal::HalfClosed | Refusal::Cancelled => {
                self.refused(refusal)
            }
        }
    }
}

fn misuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::with_message(ErrorKind::InvalidState, message)
}
