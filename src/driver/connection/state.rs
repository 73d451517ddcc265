//! `ConnectionState`: the part of a connection that its lock guards.

use std::sync::Arc;

use super::connected_info::ConnectedInfo;
use super::extras::{CallLimit, Extras};
use super::users::Users;
use super::wire_refs::WireRefs;
use super::{Direction, Establishing, LookupProgress};
use crate::driver::event_loop;
use crate::driver::event_loop::source::IdleSlot;
use crate::driver::registry::{SlotId, SocketTotals};
use crate::driver::sys::lock_order::{RankedGuard, rank};
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wake::{Side, WakeHandle};
use crate::error::{Error, Fault, Step};
use crate::machine::{Background, Machine};

pub(crate) type StateGuard<'a> = RankedGuard<'a, ConnectionState, { rank::STATE }>;

#[derive(Debug)]
pub(crate) struct ConnectionState {
    pub(crate) machine: Machine,
    /// The connection, from its creation until it is released.
    pub(crate) wire: WireRefs,
    pub(crate) error: Option<Error>,
    pub(crate) recv: Direction,
    pub(crate) send: Direction,
    pub(crate) info: Option<ConnectedInfo>,
    /// The user's limits on calls, and the watches of pollers.
    pub(crate) extras: Extras,
    pub(crate) establishing: Option<Box<Establishing>>,
    /// The threads that have used the socket.
    pub(crate) users: Users,
    /// Number of threads that wait for `changed`.
    pub(crate) waiters: u32,
    /// Number of threads that are executing actions. It cannot overflow: each of these threads holds actions of the
    /// machine, which the machine gives out only once.
    pub(crate) executors: u16,
    pub(crate) monitor: Monitor,
    /// Number of reading turns that have ended. It may wrap around: it is compared within 100 ms, and a false match does no
    /// harm.
    pub(crate) reads_done: u16,
    /// Token of the event loop's registration of the wire.
    pub(crate) token: LoopToken,
    /// Whether the event loop reports readiness to both directions, for threads that wait on the condition variable.
    pub(crate) reports_readiness: bool,
    /// Whether the event loop sends the queued ciphertext when the wire becomes writable.
    pub(crate) want_writable: bool,
    pub(crate) tls_use: TlsUse,
    /// Whether a look at the wire was skipped, because another thread was there.
    pub(crate) missed: bool,
    /// Whether the event loop is reading the wire's pending error, or a thread for callbacks is about to.
    pub(crate) error_probe: bool,
    /// The socket's work on a worker thread.
    pub(crate) worker_task: WorkerTask,
    /// Number of writes that wait for the turn and began before the upgrade.
    pub(crate) writers_waiting: u32,
    /// The slot in the registry, until the outcome is known.
    pub(crate) slot: Option<SlotId>,
}

/// The token of the event loop's registration, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopToken(Token);

impl LoopToken {
    const NONE: LoopToken = LoopToken(event_loop::WAKER_TOKEN);

    pub(crate) fn set(&mut self, token: Token) {
        self.0 = token;
    }

    pub(crate) fn get(self) -> Option<Token> {
        if self.0 == event_loop::WAKER_TOKEN { None } else { Some(self.0) }
    }

    pub(crate) fn take(&mut self) -> Option<Token> {
        std::mem::replace(self, LoopToken::NONE).get()
    }
}

/// Whether the event loop watches for the peer's EOF while no caller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// Not at all: the thread that has the turn queues the socket when it releases the turn.
    Off,
    /// The event loop will start when the turn has been free for a while.
    Queued(IdleSlot),
    /// For readable data and failures. Since a poller last needed that, this many reading turns have ended.
    Full { unneeded_turns: u8 },
    /// For failures only, because data is unread.
    ErrorsOnly,
}

impl Monitor {
    pub(crate) const FULL: Monitor = Monitor::Full { unneeded_turns: 0 };

    pub(crate) fn is_full(self) -> bool {
        matches!(self, Monitor::Full { .. })
    }
}

/// How a socket uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsUse {
    None,
    /// A caller is about to upgrade. Writes that begin now wait for the upgrade, whose result is another socket.
    Upgrading,
    FromStart,
}

/// The socket's work on a worker thread: starting its handshake, or ingesting received data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerTask {
    None,
    /// A worker is doing the work, or is going to.
    Queued,
    /// More arrived since: the worker has to run once more.
    Rerun,
}

impl ConnectionState {
    pub(crate) fn new(machine: Machine) -> Self {
        ConnectionState {
            machine,
            wire: WireRefs::default(),
            error: None,
            recv: Direction::default(),
            send: Direction::default(),
            info: None,
            extras: Extras::default(),
            establishing: None,
            users: Users::default(),
            waiters: 0,
            executors: 0,
            monitor: Monitor::Off,
            reads_done: 0,
            token: LoopToken::NONE,
            reports_readiness: false,
            want_writable: false,
            tls_use: TlsUse::None,
            missed: false,
            error_probe: false,
            worker_task: WorkerTask::None,
            writers_waiting: 0,
            slot: None,
        }
    }

    pub(crate) fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.recv,
            Side::Write => &mut self.send,
        }
    }

    /// Checks whether the user never set a limit on calls.
    #[inline]
    pub(crate) fn has_no_limits(&self) -> bool {
        self.extras.has_no_limits()
    }

    /// Returns the user's limit on the calls of one direction.
    #[inline(never)]
    pub(crate) fn call_limit(&self, side: Side) -> CallLimit {
        self.extras.limits().map_or_else(CallLimit::default, |limits| limits[side as usize])
    }

    pub(crate) fn change_call_limit(&mut self, side: Side, change: impl FnOnce(&mut CallLimit)) {
        self.extras.change_limit(side, change);
    }

    /// Returns the thread that waits at the wire for data, to be woken. Ends its spin if it does not sleep yet.
    pub(crate) fn reader_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.extras.busy_poll().is_on() {
            self.wire.end_spin();
        }
        self.recv.parker_to_wake()
    }

    /// Returns the error for a fault; all waiters get the same one.
    pub(crate) fn error_for(&self, fault: Fault) -> Error {
        match &self.error {
            Some(error) if error.kind() == fault.kind() => error.clone(),
            Some(_) | None => Error::from_fault(fault),
        }
    }

    /// Returns the result of [`closed`](crate::Socket::closed), once it has settled. The program may exit as soon as it
    /// learns of a clean end, so FIN is sent first.
    pub(crate) fn closed_result(&self) -> Option<Result<(), Fault>> {
        self.machine.outcome().filter(|outcome| outcome.is_err() || self.executors == 0)
    }

    pub(crate) fn totals(&self) -> SocketTotals {
        SocketTotals { opened: self.machine.opened(), bytes: self.machine.stats() }
    }

    /// Returns the current step of connecting.
    pub(crate) fn step(&self) -> Option<Step> {
        let is_queued =
            |establishing: &Establishing| establishing.lookup != LookupProgress::Started;
        match self.machine.step() {
            Some(Step::Lookup) if self.establishing.as_deref().is_some_and(is_queued) => {
                Some(Step::WaitForLookup)
            }
            step => step,
        }
    }

    pub(crate) fn establishing_mut(&mut self) -> Option<&mut Establishing> {
        self.establishing.as_deref_mut()
    }

    pub(crate) fn is_upgrading(&self) -> bool {
        self.tls_use == TlsUse::Upgrading
    }

    /// Lets the writes go on that wait for an upgrade.
    pub(crate) fn end_upgrade(&mut self) {
        if self.is_upgrading() {
            self.tls_use = TlsUse::None;
        }
    }

    pub(crate) fn needs_monitor(&self) -> bool {
        match self.machine.background() {
            Background::WatchEof | Background::WatchErrors => true,
            Background::Nothing
            | Background::Discard
            | Background::Ingest
            | Background::Preamble => false,
        }
    }

    /// Checks whether the connection is still being established, including the handshake.
    pub(crate) fn is_opening(&self) -> bool {
        self.machine.opened().is_none()
    }
}
