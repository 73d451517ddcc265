//! The part of the machine's actions that concerns only the state, under its lock.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::connected_info::ConnectedInfo;
use super::log_event::LogEvent;
use super::lookup::LookupRequest;
use super::timer::Timer;
use super::transfer::TakenWire;
use super::{Acceptance, Connection, ConnectionState, Establishing, Monitor, SocketRegistry};
use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::event_loop::source::IdleSlot;
use crate::driver::event_loop::source::{AttemptResult, LoopTicket};
use crate::driver::registry::NextInQueue;
use crate::driver::sys::clock;
use crate::driver::sys::wake::WakeHandle;
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};
use crate::egress::EgressRules;
use crate::error::{Error, Fault, LookupError, ProxyBlame, TimerKind};
use crate::info::Timings;
use crate::machine::{Actions, AttemptId, Discarded, Endpoints, Input};
use crate::options::TcpOptions;
use crate::proxy::Proxy;
use crate::resolver::Resolver;
use crate::unix::{Requested, UnixAddress};

/// An established connection, and its addresses.
pub(crate) type Connected = (Arc<Wire>, Endpoints);

/// What the actions need once the lock is released.
#[derive(Debug)]
pub(crate) struct AfterUnlock {
    wake: [Option<Arc<WakeHandle>>; 2],
    pub(crate) event: Option<Box<LogEvent>>,
    /// The listener to which the socket reports that it has opened, or has failed to.
    pub(crate) acceptance: Option<Weak<dyn Acceptance>>,
    /// Whether the event loop is to scan the idle list.
    pub(crate) scan_idle: bool,
    pub(crate) taken: TakenWire,
    /// A connection that was established too late, or that the machine rejected.
    pub(crate) late_wire: Option<Arc<Wire>>,
    /// Whether it is reset.
    pub(crate) resets_late_wire: bool,
    /// State of the finished establishing. It may own a resolver, which is user code.
    establishing: Option<Box<Establishing>>,
    /// Ticket of the attempts and the timer that the event loop is to forget.
    pub(crate) forget: Option<LoopTicket>,
    /// The timer that the event loop is to set.
    pub(crate) timer: Option<Timer>,
    /// Ticket of the attempts that the event loop is to cancel.
    pub(crate) cancel_attempts: Option<LoopTicket>,
    /// The one attempt that the event loop is to cancel.
    pub(crate) cancel_attempt: Option<(LoopTicket, AttemptId)>,
    pub(crate) method: Option<ConnectMethod>,
    pub(crate) lookup: Option<LookupRequest>,
    /// Records to send before the wire is released.
    pub(crate) final_records: Vec<u8>,
    /// The queued socket that gets the freed slot.
    pub(crate) next_queued: Option<NextInQueue<Connection>>,
    /// Remaining TLS state, if it may hold user code.
    discarded: Option<Discarded>,
}

/// Values that may hold user code and are no longer needed.
pub(crate) type UserObjects =
    (Option<Arc<dyn Resolver>>, Option<LookupError>, Option<Proxy>, Option<Discarded>);

/// How to make a connection.
#[derive(Debug)]
pub(crate) enum ConnectMethod {
    /// By dialling. With rules, first check whether the address, or the one that a proxy is to get, is local if they
    /// require it.
    Dial { tcp: TcpOptions, egress: Option<Arc<EgressRules>>, destination: Option<SocketAddr> },
    /// By dialling this Unix-domain address, which the rules allow unless a listener of this process has it now.
    DialUnix { tcp: TcpOptions, egress: Option<Arc<EgressRules>>, address: UnixAddress },
    /// By adopting an existing one.
    Adopt(AdoptedStream),
}

impl AfterUnlock {
    pub(crate) fn take_user_objects(&mut self) -> Option<UserObjects> {
        // A resolver that is still here was never asked.
        let (resolver, lookup_error, proxy) = match &mut self.establishing {
            Some(finished) => {
                let proxy = finished.proxy.take_if(|proxy| proxy.holds_foreign_code());
                (finished.resolver.take(), finished.lookup_error.take(), proxy)
            }
            None => (None, None, None),
        };
        let some = resolver.is_some() || lookup_error.is_some() || proxy.is_some();
        let some = some || self.discarded.is_some();
        some.then(|| (resolver, lookup_error, proxy, self.discarded.take()))
    }

    pub(crate) fn wake(&self) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
    }
}

impl ConnectionState {
    /// Passes the result of an attempt to the machine.
    pub(crate) fn handle_attempted(
        &mut self,
        id: AttemptId,
        result: AttemptResult,
    ) -> (Actions, Option<Connected>) {
        let (connected, result) = match result {
            Ok((wire, endpoints)) => (Some((wire, endpoints)), Ok(endpoints)),
            Err(fault) => (None, Err(fault)),
        };
        (self.machine.handle(Input::Attempted { id, result }, clock::now()), connected)
    }

    /// Executes the part of the actions that concerns only the state.
    pub(crate) fn commit(
        &mut self,
        actions: &Actions,
        connected: Option<Connected>,
        requested: &Requested,
        registry: &SocketRegistry,
    ) -> AfterUnlock {
        let late_wire = match (connected, actions.attach) {
            (Some((wire, endpoints)), Some(attach)) => {
                // An adopted connection was not connected here.
                let connecting =
                    if wire.was_adopted() { Timings::default() } else { attach.timings };
                let unix = wire.unix_peer().clone();
                self.wire.attach(wire);
                self.info = Some(match attach.is_proxy {
                    false => ConnectedInfo::new(endpoints, &unix, connecting),
                    true => ConnectedInfo::to_proxy(endpoints, connecting),
                });
                None
            }
            (Some((wire, _)), None) if planted!(LeaksLateConnection) => {
                std::mem::forget(wire);
                None
            }
            (connected, _) => connected.map(|(wire, _)| wire),
        };
        if let (Some(done), Some(info)) = (actions.preamble, &mut self.info) {
            info.end_preamble(done.took, done.client);
        }
        let mut wake = [None, None];
        if actions.wake.readable {
            wake[0] = self.reader_to_wake();
        }
        if actions.wake.writable {
            wake[1] = self.send.parker_to_wake();
        }
        let acceptance = match actions.wake.opened {
            true => self.establishing_mut().and_then(|establishing| establishing.acceptance.take()),
            false => None,
        };
        // A running timer still needs this state.
        let finished = self.machine.next_timer().is_none() && !self.is_opening();
        let mut finished = if finished { self.establishing.take() } else { None };
        // An adopted connection that no attempt has taken up ends like one that comes too late.
        let adopted = finished.as_mut().and_then(|establishing| establishing.adopted.take());
        let late_wire = late_wire.or_else(|| adopted.map(|adopted| Arc::new(adopted.into_wire())));
        let forget = finished.as_ref().and_then(|establishing| establishing.ticket);
        let mut cancel_attempts = None;
        let mut cancel_attempt = None;
        if let Some(establishing) = self.establishing_mut().filter(|it| it.attempts > 0) {
            if actions.cancel_attempts {
                // The attempts are over, but the handshake still has its timeout.
                establishing.attempts = 0;
                cancel_attempts = establishing.ticket;
            }
            cancel_attempt = establishing.ticket.zip(actions.cancel_attempt);
        }
        if self.error.is_none() {
            if let Some(failure) = self.machine.failure() {
                let establishing = finished.as_ref().or(self.establishing.as_ref());
                let proxy = establishing.and_then(|establishing| establishing.proxy.as_ref());
                let proxy = match self.machine.failed_with_proxy() {
                    true => self.proxy_name(proxy),
                    false => None,
                };
                let opening = matches!(self.machine.opened(), Some(Err(_)));
                let error = Error::from_tls(
                    failure.kind(),
                    failure.message(),
                    failure.source(),
                    opening.then_some(requested as _),
                    proxy.as_ref().map(|proxy| proxy as _),
                );
                self.error = Some(self.with_step(error));
            } else if let Some(Err(fault)) = self.machine.opened() {
                let fault = finished
                    .as_ref()
                    .map_or(fault, |establishing| establishing.refine_fault(fault));
                let fault = match fault {
                    Fault::TimedOut(TimerKind::Handshake)
                        if self.machine.hello_was_unanswered() =>
                    {
                        Fault::TimedOut(TimerKind::FirstAnswer)
                    }
                    fault => fault,
                };
                let attempts = self.machine.attempts();
                let resolver =
                    finished.as_mut().and_then(|establishing| establishing.lookup_error.take());
                let egress =
                    finished.as_ref().and_then(|establishing| establishing.egress.as_deref());
                let denied = |address| Some(egress?.denied_by(address)?.text());
                let proxy = finished.as_ref().and_then(|establishing| establishing.proxy.as_ref());
                let blame = self.proxy_blame(proxy);
                let error =
                    Error::from_connect(fault, requested, blame, attempts, resolver, denied);
                let error = match fault {
                    Fault::TimedOut(limit) => error.during(limit.step()),
                    _ => error,
                };
                self.error = Some(self.with_step(error));
            } else if let Some(Err(fault)) = self.machine.outcome() {
                self.error = Some(Error::from_fault(fault));
            }
        }
        let final_records = match actions.release {
            Some(_) if actions.transmit => self.machine.take_final_records(),
            Some(_) | None => Vec::new(),
        };
        let how = match (&actions.attempt, &mut self.establishing) {
            (Some(_), Some(establishing)) => {
                let tcp = || establishing.tcp.clone();
                Some(match (establishing.adopted.take(), &establishing.unix) {
                    (Some(adopted), _) => ConnectMethod::Adopt(adopted),
                    (None, Some(address)) => ConnectMethod::DialUnix {
                        tcp: tcp(),
                        egress: establishing.egress.clone(),
                        address: address.clone(),
                    },
                    (None, None) => ConnectMethod::Dial {
                        tcp: tcp(),
                        egress: establishing.egress.clone(),
                        destination: self.machine.destination(),
                    },
                })
            }
            _ => None,
        };
        let lookup = if actions.resolve { self.lookup_request() } else { None };
        // Before any other thread learns of the outcome.
        let next = if planted!(FreesSlotLate) { None } else { self.free_slot(registry) };
        let discarded = match (actions.release, actions.wake.closed) {
            (None, false) => None,
            (Some(_), _) | (_, true) => self.machine.take_discarded(),
        };
        let is_lookup = matches!(lookup, Some(LookupRequest::Submit(..)));
        let event = self.log_event(actions, is_lookup);
        // Last, so that after a panic the wire is still there to be reset.
        let taken = match actions.release {
            Some(_) => self.take_wire(),
            None => TakenWire::kept(self.wire.cloned()),
        };
        if actions.release.is_some() && self.is_opening() {
            self.forget_released();
        }
        AfterUnlock {
            wake,
            event,
            acceptance,
            scan_idle: false,
            taken,
            resets_late_wire: late_wire.as_ref().is_some_and(|wire| self.resets_unattached(wire)),
            late_wire,
            establishing: finished,
            forget,
            timer: None,
            cancel_attempts,
            cancel_attempt,
            method: how,
            lookup,
            final_records,
            next_queued: next,
            discarded,
        }
    }

    /// Frees the slot once the outcome is known. Returns the queued socket that gets the slot, for the caller to
    /// start.
    pub(crate) fn free_slot(
        &mut self,
        registry: &SocketRegistry,
    ) -> Option<NextInQueue<Connection>> {
        self.machine
            .outcome()
            .and_then(|_| self.slot.take())
            .and_then(|slot| registry.remove(slot, self.totals()))
    }

    /// Adds the failed step of connecting, and the time that each step took, to an error.
    fn with_step(&self, error: Error) -> Error {
        let Some(timings) = self.machine.timings() else { return error };
        let error = error.during(self.machine.step());
        match &self.info {
            Some(info) => {
                let earlier = info.timings();
                let proxy = timings.proxy.max(earlier.proxy);
                error.after(Timings { handshake: timings.handshake, proxy, ..earlier })
            }
            None => error.after(timings),
        }
    }

    /// Returns the name of the proxy for a message, or else its address.
    fn proxy_name(&self, proxy: Option<&Proxy>) -> Option<String> {
        let address = || self.info.as_ref()?.proxy();
        proxy.map(|it| it.address().to_string()).or_else(|| address().map(|it| it.to_string()))
    }

    /// Returns what a proxy, or its PROXY header, has to do with the failure of the socket.
    fn proxy_blame<'a>(&'a self, proxy: Option<&'a Proxy>) -> Option<ProxyBlame<'a>> {
        let words = self.machine.proxy_answer();
        let Some(proxy) = proxy else { return words.map(ProxyBlame::Header) };
        let address = proxy.address();
        match words {
            Some(words) => Some(ProxyBlame::Answer(address, words)),
            None => self.machine.is_proxy_unreachable().then_some(ProxyBlame::Unreachable(address)),
        }
    }

    /// Forgets what concerns a wire to a proxy that is released although the socket is still opening, because the proxy
    /// is dialled again.
    fn forget_released(&mut self) {
        self.info = None;
        self.want_writable = false;
        self.reports_readiness &= REGISTRATION_IS_PERMANENT;
    }

    /// Returns whether a wire that was never attached is to be reset: it was established before it was adopted, and the
    /// program has aborted the socket.
    pub(crate) fn resets_unattached(&self, wire: &Wire) -> bool {
        wire.was_adopted() && self.machine.outcome() == Some(Err(Fault::Aborted))
    }

    pub(crate) fn take_idle_slot(&mut self) -> Option<IdleSlot> {
        match std::mem::replace(&mut self.monitor, Monitor::Off) {
            Monitor::Queued(idle_slot) => Some(idle_slot),
            Monitor::Off | Monitor::Full { .. } | Monitor::ErrorsOnly => None,
        }
    }
}
