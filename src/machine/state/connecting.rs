//! Transitions from the start to a connection: the race of the addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::happy_eyeballs::{HappyEyeballs, RaceStep};
use super::super::race::Race;
use super::super::tls::Summary;
use super::super::{
    Actions, Attach, Attempt, AttemptId, Config, Fault, Input, ReadStep, Step, TimerKind,
    UpgradeError,
};
use super::handshaking::Handshaking;
use super::new_session::discard_setup;
use super::opening::{ProxyAgain, ReadIntent, announce_connect_failed, connect_timer, open};
use super::preamble::Preamble;
use super::routing::Routing;
use super::{ConnectFailed, Pipe, ProxyPart, State};
use crate::egress::IngressRules;
use crate::info::Timings;
use crate::tls::TlsSetup;

#[derive(Debug)]
pub(in super::super) struct Connecting {
    race: Race,
    timer: Option<Instant>,
    read_intent: ReadIntent,
    /// The setup for TLS from the start.
    setup: Option<TlsSetup>,
    /// The way through a proxy.
    routing: Option<Box<Routing>>,
    /// The rules for the PROXY header of a connection that exists already.
    header_rules: Option<Arc<IngressRules>>,
}

impl Connecting {
    pub(super) fn new(mut config: Config, now: Instant) -> Self {
        let race = Race::new(&config, now);
        let route = config.route.take();
        Connecting {
            routing: route.map(|route| Box::new(Routing::new(&config, route))),
            race,
            timer: connect_timer(&config, now),
            read_intent: ReadIntent::Wanted,
            setup: config.tls,
            header_rules: config.header_rules,
        }
    }

    /// Connects to a proxy again, for another address of the target.
    pub(super) fn again(again: ProxyAgain, now: Instant, actions: &mut Actions) -> State {
        let ProxyAgain { routing, proxy, next_id, timer, read_intent, setup } = again;
        let (bind, egress) = (routing.bind(), routing.egress());
        let mut happy_eyeballs = HappyEyeballs::again(proxy, bind, egress, next_id, now);
        let step = happy_eyeballs.start(now, actions);
        let (race, routing) = (Race::Addresses(happy_eyeballs), Some(routing));
        let header_rules = None;
        let connecting = Connecting { race, timer, read_intent, setup, routing, header_rules };
        Box::new(connecting).apply_race_step(step, now, actions)
    }

    /// Starts to connect, unless the deadline has passed.
    pub(super) fn start(mut self: Box<Self>, now: Instant, actions: &mut Actions) -> State {
        if self.timer.is_some_and(|at| at <= now) {
            self.race.start_too_late(now);
            let fault = Fault::TimedOut(TimerKind::Start);
            return self.cancel(fault, Err(fault), now, actions);
        }
        if let Some(routing) = self.routing.as_mut().filter(|routing| !routing.is_started()) {
            match routing.start(now) {
                Ok(wants_lookup) => actions.resolve = wants_lookup,
                Err(fault) => return self.connect_failed(fault, Err(fault), now, actions),
            }
        }
        if self.resolves_target() {
            return State::Connecting(self);
        }
        let step = self.race.start(now, actions);
        self.apply_race_step(step, now, actions)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::PartialResolved(addresses) => {
                self.on_resolved(Ok(addresses), false, now, actions)
            }
            Input::Resolved(answer) => self.on_resolved(answer, true, now, actions),
            Input::Attempted { id, result } => {
                let step = self.race.on_attempted(id, result, now, actions);
                match step {
                    RaceStep::Won(timings) => {
                        let remote = result.ok().and_then(|ends| ends.remote);
                        self.connected(id, remote, timings, now, actions)
                    }
                    RaceStep::Continue | RaceStep::Lost(_) => {
                        self.apply_race_step(step, now, actions)
                    }
                }
            }
            Input::TimerExpired => match self.timer {
                Some(at) if at <= now => {
                    let fault = Fault::TimedOut(self.timer_kind());
                    self.cancel(fault, Err(fault), now, actions)
                }
                Some(_) | None => {
                    self.race.on_timer(now, actions);
                    State::Connecting(self)
                }
            },
            Input::Close => self.cancel(Fault::Closed, Ok(()), now, actions),
            Input::Abort | Input::AbortWrite => {
                self.cancel(Fault::Aborted, Err(Fault::Aborted), now, actions)
            }
            Input::CancelRead => {
                self.read_intent = ReadIntent::Cancelled;
                actions.wake.readable = true;
                State::Connecting(self)
            }
            // There is no wire yet; a half-close or an upgrade waits for it.
            Input::WireEof
            | Input::WireFailed(_)
            | Input::CloseWrite
            | Input::AllowHalfOpen
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::UnexpectedPlaintext { .. }
            | Input::Detach => State::Connecting(self),
        }
    }

    /// Denies the address that the proxy is to get. Tries the next one, if no other attempt has begun for this one.
    pub(super) fn deny_destination(
        mut self: Box<Self>,
        id: AttemptId,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let address = self.race.only_pending(id);
        let is_pending = self.race.is_pending(id);
        let Some(routing) = self.routing.as_mut().filter(|_| is_pending) else {
            return State::Connecting(self);
        };
        let is_next = routing.deny_current(fault, address.is_some());
        match address.filter(|_| is_next) {
            Some(address) => {
                actions.attempt = Some(Attempt { id, address: Some(address) });
                State::Connecting(self)
            }
            None => self.cancel(fault, Err(fault), now, actions),
        }
    }

    fn on_resolved(
        mut self: Box<Self>,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let step = match self.routing.as_mut().filter(|routing| routing.is_looking_up()) {
            None => self.race.on_resolved(answer, last, now, actions),
            // The proxy's addresses come later.
            Some(routing) if !routing.is_started() => RaceStep::Continue,
            Some(routing) => match routing.on_resolved(answer, last, now) {
                Ok(true) => self.race.start(now, actions),
                Ok(false) => RaceStep::Continue,
                Err(fault) => RaceStep::Lost(fault),
            },
        };
        self.apply_race_step(step, now, actions)
    }

    fn apply_race_step(
        self: Box<Self>,
        step: RaceStep,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match step {
            RaceStep::Continue | RaceStep::Won(_) => State::Connecting(self),
            RaceStep::Lost(fault) => self.connect_failed(fault, Err(fault), now, actions),
        }
    }

    /// Continues with a connection, whose other end is `remote`.
    fn connected(
        self,
        id: AttemptId,
        remote: Option<SocketAddr>,
        timings: Timings,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let Connecting { race, timer, read_intent, setup, routing, header_rules } = self;
        if let Some(mut routing) = routing {
            routing.spend(timings);
            actions.attach = Some(Attach { id, timings: routing.spent(), is_proxy: true });
            let next_id = race.next_id();
            let again = remote.filter(|_| routing.may_dial_again()).map(|proxy| (proxy, next_id));
            return Preamble::begin(routing, again, timer, read_intent, setup, now, actions);
        }
        actions.attach = Some(Attach { id, timings, is_proxy: false });
        match (header_rules, setup) {
            (Some(rules), setup) => {
                Preamble::begin_header(rules, timer, read_intent, setup, now, actions)
            }
            (None, None) => open(Pipe::default(), read_intent, actions),
            (None, Some(setup)) => {
                Handshaking::begin(setup, None, timer, read_intent, now, actions)
            }
        }
    }

    /// Fails while the lookup or attempts are pending, and cancels them.
    fn cancel(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        actions.cancel_attempts = true;
        self.connect_failed(fault, outcome, now, actions)
    }

    fn connect_failed(
        self,
        mut fault: Fault,
        mut outcome: Result<(), Fault>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let mut step = if fault.is_denial() { Some(Step::Connect) } else { self.step() };
        let mut timings = self.race.timings(now);
        let looked_up_target = self.resolves_target();
        let mut attempts = Vec::new();
        let mut proxy = ProxyPart::None;
        let mut lists_race = true;
        if let Some(mut routing) = self.routing {
            if looked_up_target {
                timings = routing.lookup_time(now);
            } else if routing.is_denied() {
                // The attempt to the proxy would look as if that had been denied.
                lists_race = false;
                // As for a direct connection, a denial is the error only if there is no other.
                if let Some(refusal) = routing.take_refusal() {
                    fault = Fault::Proxy(refusal.reply);
                    outcome = Err(fault);
                    step = Some(Step::Proxy);
                    proxy = ProxyPart::Answered(refusal.words);
                }
            } else if routing.is_started() && !fault.is_denial() && !fault.is_own_end() {
                proxy = ProxyPart::Unreachable;
            }
            timings = routing.spent().plus(timings);
            attempts = routing.into_failed();
        }
        if lists_race {
            attempts.extend(self.race.into_failed(fault, now));
        }
        let summary = discard_setup(self.setup);
        let failed = ConnectFailed {
            fault,
            outcome,
            step,
            timings,
            attempts,
            summary,
            proxy,
            announced: true,
        };
        announce_connect_failed(failed, actions)
    }

    pub(super) fn step(&self) -> Option<Step> {
        match self.resolves_target() {
            true => TimerKind::Lookup.step(),
            false => self.race.step(),
        }
    }

    /// Returns whether the lookup in progress is that of the target behind a proxy.
    pub(super) fn resolves_target(&self) -> bool {
        let routing = self.routing.as_ref();
        routing.is_some_and(|routing| routing.is_started() && routing.is_looking_up())
    }

    /// Returns the address that a proxy is to get.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.routing.as_ref()?.current()
    }

    /// Returns the step that the connect timeout limits now.
    fn timer_kind(&self) -> TimerKind {
        match self.resolves_target() {
            true => TimerKind::Lookup,
            false => self.race.timer_kind(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.race, Race::Unix(_))
    }

    pub(super) fn runs_foreign_code(&self) -> bool {
        let is_foreign = self.setup.as_ref().is_some_and(TlsSetup::runs_foreign_code);
        is_foreign || self.routing.as_ref().is_some_and(|routing| routing.runs_foreign_code())
    }

    /// Returns the remains of TLS on the last connection to a proxy.
    pub(super) fn ended_mut(&mut self) -> Option<&mut Summary> {
        self.routing.as_mut()?.ended_mut()
    }

    pub(super) fn is_attempt_pending(&self, id: AttemptId) -> bool {
        self.race.is_pending(id)
    }

    pub(super) fn read(&self) -> ReadStep {
        self.read_intent.step()
    }

    pub(super) fn upgrade_error(&self) -> Option<UpgradeError> {
        self.read_intent.upgrade_error()
    }

    pub(super) fn next_timer(&self) -> Option<(Instant, TimerKind)> {
        let limit = self.timer.map(|at| (at, self.timer_kind()));
        let due = self.race.next_timer();
        limit.into_iter().chain(due).min_by_key(|&(at, _)| at)
    }
}
