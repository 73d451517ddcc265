//! How what the machine wants is done.
//!
//! Every change of a socket goes the same way: under the lock the machine takes notice and its outputs
//! are gathered as [`Deeds`]; what concerns the state is done there, and whom to wake is noted; then,
//! with the lock released, they are woken and the wire is dealt with. Where that has a result at once,
//! such as an attempt that failed, it goes round again.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::clock;
use super::dial::{self, Dialled};
use super::errno::code;
use super::facts::Facts;
use super::given::Given;
use super::pool::Submitted;
use super::roster::Roster;
use super::shared::{Connected, Core, Errand, Guard, Shared, Watching, admit};
use super::slices::Load;
use super::sync::mio::Token;
use super::wait::WakeHandle;
use super::wire::{Drained, Wire};
use super::workers::discard;
use super::young::Spot;
use super::{Driver, Job, Urgency};
use crate::address::SocketAddress;
use crate::egress::{EgressRules, is_local};
use crate::error::{Error, Fault, Unresolved};
use crate::info::Timings;
use crate::machine::{AttemptId, Discarded, Input, Output, Outputs, Release, Watch};
use crate::options::TcpOptions;
use crate::resolver::Resolver;

/// What is dropped at most of what comes in after a close.
const LINGER_BYTES: usize = 1024 * 1024;

/// Longer than it takes until the loop looks at a socket that is listed.
const UNATTENDED: Duration = Duration::from_secs(1);

impl Shared {
    /// Has the machine take notice, and carries out what it wants.
    pub(super) fn tell<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        input: Input<'_>,
    ) -> Guard<'a> {
        let deeds = Deeds::of(core.machine.handle(input, clock::now()));
        self.settle(core, deeds)
    }

    /// Carries out what the machine wants, until it wants nothing more. Releases the lock meanwhile.
    #[inline]
    pub(super) fn settle<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        deeds: Option<Deeds>,
    ) -> Guard<'a> {
        // So it is with nearly every read and write.
        if deeds.is_none() && core.errand.is_none() { core } else { self.carry_out(core, deeds) }
    }

    #[inline(never)]
    fn carry_out<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        mut next: Option<Deeds>,
    ) -> Guard<'a> {
        let mut users = Vec::new();
        while let Some(deeds) = &mut next {
            let mut prepared = core.prepare(deeds, self.requested(), self.roster());
            let news = core.news(deeds, prepared.known.is_none());
            let tell_listed =
                !planted!(LeavesHandshakeUnmonitored) && self.list_if_unattended(&mut core);
            core.performing += 1;
            self.notify(&core);
            drop(core);
            let performing = self.perform_or_fail();
            if !planted!(NoWake) {
                prepared.wake();
            }
            if let Some(news) = news {
                news.tell(self.requested());
            }
            if let (true, Ok(driver)) = (tell_listed, Driver::running()) {
                driver.post(Job::Young, Urgency::Soon);
            }
            let answer = self.perform(deeds, &mut prepared);
            users.extend(prepared.users());
            // Which may close descriptors.
            drop((prepared, deeds.unwanted.take()));
            std::mem::forget(performing);
            core = self.lock();
            if planted!(FreesSlotLate) {
                admit(core.free_slot(self.roster()));
            }
            core.performing -= 1;
            if core.performing == 0 && !planted!(NoExecutorNotice) {
                self.notify(&core);
            }
            match answer {
                Some((id, result)) => (core, next) = self.take_attempt(core, id, result),
                None => next = None,
            }
        }
        let core = self.keep_time(core);
        if users.is_empty() {
            return core;
        }
        // It is the user's, and so is what happens when it is dropped. Nobody waits for that.
        drop(core);
        users.into_iter().for_each(discard);
        self.lock()
    }

    /// The loop keeps the machine's time.
    pub(super) fn keep_time<'a>(self: &'a Arc<Self>, mut guard: Guard<'a>) -> Guard<'a> {
        let core = &mut *guard;
        let at = core.machine.deadline().map(|(at, _)| at);
        if at.is_some() && core.errand.is_none() {
            core.errand = Some(Box::default());
        }
        let Some(errand) = &mut core.errand else { return guard };
        if errand.timer == at {
            return guard;
        }
        // A handshake that a caller makes is mostly over before the loop has to look.
        let listed = matches!(core.watching, Watching::Listed(_));
        let attended = listed && core.machine.watch() == Watch::Ingest;
        if attended && at.is_some_and(|at| at > clock::now() + UNATTENDED) {
            return guard;
        }
        errand.timer = at;
        drop(guard);
        if let (Some(at), Ok(driver)) = (at, Driver::running()) {
            driver.post(Job::Limit(Arc::clone(self), at), Urgency::Now);
        }
        self.lock()
    }

    /// Tells the machine how an attempt ended; the wire is adopted before anyone hears of it.
    pub(super) fn take_attempt<'a>(
        self: &'a Arc<Self>,
        mut guard: Guard<'a>,
        id: AttemptId,
        result: Connected,
    ) -> (Guard<'a>, Option<Deeds>) {
        let core = &mut *guard;
        let (wire, result) = match result {
            Ok((wire, endpoints)) => (Some(wire), Ok(endpoints)),
            Err(fault) => (None, Err(fault)),
        };
        let mut deeds =
            Deeds::of(core.machine.handle(Input::Attempted { id, result }, clock::now()));
        let adopted = deeds.as_ref().and_then(|deeds| deeds.adopt);
        if let (Some(timings), Ok(endpoints)) = (adopted, result) {
            if let Some(wire) = wire {
                core.wire.adopt(wire);
            }
            core.facts = Some(Facts::new(endpoints, timings));
        } else if planted!(LeaksLateConnection) {
            std::mem::forget(wire);
        } else if wire.is_some() {
            // Closed once the lock is released.
            deeds.get_or_insert_default().unwanted = wire;
        }
        (guard, deeds)
    }

    /// Does what needs system calls. An attempt that ended at once is the answer.
    fn perform(
        self: &Arc<Self>,
        deeds: &Deeds,
        prepared: &mut Prepared,
    ) -> Option<(AttemptId, Connected)> {
        admit(prepared.next.take());
        if let Some(wire) = &prepared.wire {
            if !prepared.farewell.is_empty() {
                // It goes at once or not at all: nobody waits for it.
                let _ = wire.send(&Load::One(&prepared.farewell));
            }
            if deeds.shutdown_write {
                wire.shutdown_write();
            }
        }
        if let Some(how) = deeds.release {
            if let Some(wire) = prepared.wire.take() {
                if let (Some(_), Ok(driver)) = (prepared.registration, Driver::running()) {
                    wire.deregister(driver.registry());
                }
                release(wire, how);
            }
        }
        if !prepared.given_up.is_empty() {
            if let Ok(driver) = Driver::running() {
                let given_up = std::mem::take(&mut prepared.given_up);
                driver.post(Job::Forget(given_up), Urgency::Now);
            }
        }
        if let Some(token) = prepared.registration {
            if let Ok(driver) = Driver::running() {
                driver.post(Job::Forget(vec![token]), Urgency::Soon);
            }
        }
        if let (Some(spot), Ok(driver)) = (prepared.young, Driver::running()) {
            driver.young().remove(spot, self);
        }
        if deeds.attend {
            match Driver::running() {
                Ok(driver) => self.await_attendance(driver),
                Err(fault) => drop(self.tell(self.lock(), Input::WireFailed(fault))),
            }
        }
        if deeds.begin {
            self.leave_to_workers();
        }
        if deeds.transmit && deeds.release.is_none() {
            self.transmit();
        }
        if deeds.resolve {
            match prepared.known.take() {
                Some(addresses) => self.resolved(Ok(addresses)),
                None => self.submit(),
            }
        }
        if let (Some(id), Ok(driver)) = (deeds.give_up, Driver::running()) {
            driver.post(Job::GiveUp(Arc::clone(self), id), Urgency::Now);
        }
        let (id, address) = deeds.attempt?;
        let (tcp, egress) = match prepared.how.take()? {
            How::Dial(tcp, egress) => (tcp, egress),
            How::Take(given) => {
                return self.take_up(id, address, Ok(given.dialled())).map(|result| (id, result));
            }
        };
        let allowed = match egress {
            Some(rules) if rules.asks_whether_local(address) => not_here(address, &tcp),
            Some(_) | None => Ok(()),
        };
        match allowed {
            Ok(()) => self.dial(id, address, &tcp).map(|result| (id, result)),
            Err(fault) => Some((id, Err(fault))),
        }
    }

    fn submit(self: &Arc<Self>) {
        let submitted = match Driver::running() {
            Ok(driver) => match driver.names().submit(self, clock::now()) {
                Ok(Submitted::Taken) => return,
                Ok(Submitted::Waits) => return driver.post(Job::Names, Urgency::Soon),
                Ok(Submitted::Failed(fault)) => fault,
                Err(refused) => return self.resolved(Err((Fault::Resolve, refused))),
            },
            Err(fault) => fault,
        };
        // The lookup could not even be begun.
        let core = self.lock();
        drop(self.tell(core, Input::Resolved(Err(submitted))));
    }

    fn dial(
        self: &Arc<Self>,
        id: AttemptId,
        address: SocketAddr,
        tcp: &TcpOptions,
    ) -> Option<Connected> {
        let driver = match Driver::running() {
            Ok(driver) => driver,
            Err(fault) => return Some(Err(fault)),
        };
        let mut dialled = dial::dial(address, tcp);
        // What lingers may go where something is to live.
        if matches!(dialled, Err(Fault::Io(_))) && driver.lingering().shed() {
            dialled = dial::dial(address, tcp);
        }
        self.take_up(id, address, dialled)
    }

    /// The answer to an attempt, where it is there already.
    fn take_up(
        self: &Arc<Self>,
        id: AttemptId,
        address: SocketAddr,
        dialled: Result<Dialled, Fault>,
    ) -> Option<Connected> {
        match dialled {
            Ok(Dialled::Open(wire)) => {
                let endpoints = dial::endpoints(&wire, address);
                Some(Ok((wire, endpoints)))
            }
            Ok(Dialled::Pending(wire)) => {
                let shared = Arc::clone(self);
                match Driver::running() {
                    Ok(driver) => {
                        driver.post(Job::Pending { shared, id, address, wire }, Urgency::Now);
                        None
                    }
                    Err(fault) => Some(Err(fault)),
                }
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// Refuses an own listener on every address of this machine: whether the address is one, only the system
/// knows. Refuses too if it does not tell.
fn not_here(address: SocketAddr, tcp: &TcpOptions) -> Result<(), Fault> {
    let mut local = is_local(address, tcp.bind);
    // As for an attempt, the wires that linger may go if that gives a descriptor.
    if local.is_err() && Driver::running()?.lingering().shed() {
        local = is_local(address, tcp.bind);
    }
    match local {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault::OwnListener),
        Err(error) => Err(Fault::LocalityUnknown(code(&error))),
    }
}

/// Lets go of a wire of which nothing more is wanted.
fn release(wire: Arc<Wire>, how: Release) {
    match how {
        Release::Done => {}
        Release::Reset => wire.reset(),
        Release::Linger if planted!(NeverLingers) => {}
        Release::Linger => {
            let mut left = LINGER_BYTES;
            let drained = wire.drain(&mut left);
            if let (Drained::Empty | Drained::Unable, Ok(driver)) = (drained, Driver::running()) {
                driver.lingering().add(driver, wire, left);
            }
        }
    }
}

/// What the machine wants, gathered.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) resolve: bool,
    pub(super) attempt: Option<(AttemptId, SocketAddr)>,
    adopt: Option<Timings>,
    give_up: Option<AttemptId>,
    abandon: bool,
    pub(super) shutdown_write: bool,
    attend: bool,
    begin: bool,
    transmit: bool,
    release: Option<Release>,
    pub(super) opened: bool,
    readable: bool,
    writable: bool,
    pub(super) closed: bool,
    /// A connection that came too late, or led nowhere.
    unwanted: Option<Arc<Wire>>,
}

impl Deeds {
    /// Mostly there are none.
    #[inline]
    pub(super) fn of(outputs: Outputs<'_>) -> Option<Self> {
        if outputs.is_empty() { None } else { Some(Deeds::gather(&outputs)) }
    }

    #[inline(never)]
    fn gather(outputs: &Outputs<'_>) -> Self {
        let mut deeds = Deeds::default();
        for output in outputs.as_slice() {
            match *output {
                Output::Resolve => deeds.resolve = true,
                Output::Attempt { id, address } => deeds.attempt = Some((id, address)),
                Output::Adopt { timings, .. } => deeds.adopt = Some(timings),
                Output::GiveUp { id } => deeds.give_up = Some(id),
                Output::Abandon => deeds.abandon = true,
                Output::ShutdownWrite => deeds.shutdown_write = true,
                Output::Attend => deeds.attend = true,
                Output::Transmit => deeds.transmit = true,
                Output::Release(how) => deeds.release = Some(how),
                Output::Opened => deeds.opened = true,
                Output::Readable => deeds.readable = true,
                Output::Writable => deeds.writable = true,
                Output::Closed => deeds.closed = true,
                Output::Begin => deeds.begin = true,
            }
        }
        deeds
    }
}

/// What is left to do once the lock is released.
#[derive(Debug)]
struct Prepared {
    wake: [Option<Arc<WakeHandle>>; 2],
    wire: Option<Arc<Wire>>,
    registration: Option<Token>,
    /// Where it is listed to be watched.
    young: Option<Spot>,
    /// What was needed for connecting, which is over. A resolver may go with it, which is the user's.
    over: Option<Box<Errand>>,
    /// The attempts and timers that the loop is to forget.
    given_up: Vec<Token>,
    how: Option<How>,
    /// What the look-up that is wanted would find.
    known: Option<Vec<SocketAddr>>,
    /// What is sent before the wire is let go of.
    farewell: Vec<u8>,
    /// Who has its place now.
    next: Option<Weak<Shared>>,
    /// What is left of TLS, where it may be of the user's.
    discarded: Option<Discarded>,
}

/// What was the user's, and is wanted no more.
type Users = (Option<Arc<dyn Resolver>>, Option<Unresolved>, Option<Discarded>);

/// How to make a connection.
#[derive(Debug)]
enum How {
    /// By dialling, unless the rules ask for a look at the system first.
    Dial(TcpOptions, Option<Arc<EgressRules>>),
    /// It was given.
    Take(Given),
}

impl Prepared {
    fn users(&mut self) -> Option<Users> {
        // A resolver that is still here was not asked.
        let (resolver, unresolved) = match &mut self.over {
            Some(over) => (over.resolver.take(), over.unresolved.take()),
            None => (None, None),
        };
        let some = resolver.is_some() || unresolved.is_some() || self.discarded.is_some();
        some.then(|| (resolver, unresolved, self.discarded.take()))
    }

    fn wake(&self) {
        self.wake.iter().flatten().for_each(|handle| handle.wake());
    }
}

impl Core {
    /// Does what concerns the state only.
    fn prepare(&mut self, deeds: &Deeds, requested: &SocketAddress, roster: &Roster) -> Prepared {
        let mut wake = [None, None];
        if deeds.readable {
            wake[0] = self.reading.whom_to_wake();
        }
        if deeds.writable {
            wake[1] = self.writing.whom_to_wake();
        }
        // While a limit runs the loop keeps it.
        let over = self.machine.deadline().is_none() && !self.is_opening();
        let mut over = if over { self.errand.take() } else { None };
        let mut given_up = Vec::new();
        if let Some(errand) = &mut over {
            given_up.append(&mut errand.attempts);
            given_up.append(&mut errand.timers);
        } else if let (true, Some(errand)) = (deeds.abandon, &mut self.errand) {
            // The race is over, and the handshake's limit is not.
            given_up.append(&mut errand.attempts);
        }
        if self.error.is_none() {
            if let Some(failure) = self.machine.failure() {
                let opening = matches!(self.machine.opened(), Some(Err(_)));
                let error = Error::from_tls(failure, opening.then_some(requested as _));
                self.error = Some(self.note_step(error));
            } else if let Some(Err(fault)) = self.machine.opened() {
                let fault = over.as_ref().map_or(fault, |errand| errand.explain(fault));
                let attempts = self.machine.attempts();
                let resolver = over.as_mut().and_then(|errand| errand.unresolved.take());
                let egress = over.as_ref().and_then(|errand| errand.egress.as_deref());
                let error = Error::from_connecting(fault, requested, attempts, resolver, egress);
                let error = match fault {
                    Fault::TimedOut(limit) => error.during(limit.step()),
                    _ => error,
                };
                self.error = Some(self.note_step(error));
            } else if let Some(Err(fault)) = self.machine.outcome() {
                self.error = Some(Error::from_fault(fault));
            }
        }
        let farewell = match deeds.release {
            Some(_) if deeds.transmit => self.machine.take_farewell(),
            Some(_) | None => Vec::new(),
        };
        let how = match (&deeds.attempt, &mut self.errand) {
            (Some(_), Some(errand)) => Some(match errand.given.take() {
                Some(given) => How::Take(given),
                None => How::Dial(errand.tcp.clone(), errand.egress.clone()),
            }),
            _ => None,
        };
        let known = match (deeds.resolve, &mut self.errand) {
            (true, Some(errand)) => errand.known.take(),
            _ => None,
        };
        // Before anyone hears of the end.
        let next = if planted!(FreesSlotLate) { None } else { self.free_slot(roster) };
        let discarded = match (deeds.release, deeds.closed) {
            (None, false) => None,
            (Some(_), _) | (_, true) => self.machine.take_discarded(),
        };
        // Last: after a panic the wire is still there to be reset.
        let (wire, registration, young) = match deeds.release {
            Some(_) => (self.wire.take(), self.registration.take(), self.take_spot()),
            None => (self.wire.cloned(), None, None),
        };
        Prepared {
            wake,
            wire,
            registration,
            young,
            over,
            given_up,
            how,
            known,
            farewell,
            next,
            discarded,
        }
    }

    /// Gives its place up once its outcome is known. The socket that has it now is to be admitted.
    pub(super) fn free_slot(&mut self, roster: &Roster) -> Option<Weak<Shared>> {
        self.machine
            .outcome()
            .and_then(|_| self.place.take())
            .and_then(|place| roster.leave(place, self.life()))
    }

    /// Notes on an error at which step connecting failed, and how long each took.
    fn note_step(&self, error: Error) -> Error {
        let Some(timings) = self.machine.timings() else { return error };
        let error = error.during(self.machine.step());
        match &self.facts {
            Some(facts) => error.after(Timings { handshake: timings.handshake, ..facts.timings() }),
            None => error.after(timings),
        }
    }

    pub(super) fn take_spot(&mut self) -> Option<Spot> {
        match std::mem::replace(&mut self.watching, Watching::Off) {
            Watching::Listed(spot) => Some(spot),
            Watching::Off | Watching::Armed | Watching::Narrowed => None,
        }
    }
}
