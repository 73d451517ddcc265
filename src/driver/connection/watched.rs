//! A socket that pollers watch: what is so of it, and how the pollers learn of that.
//!
//! What is so follows from the state, and otherwise from a [look](super::look) at the wire. Every change of the state ends
//! in [`Connection::report`]. For changes of the wire, the event loop monitors a socket without the usual delay while a
//! key waits for data, and looks at it when an event comes.
//!
//! A thread that reads or writes has the turn, and no other thread looks then. Over TLS the same is so while a thread
//! ingests records. A look that is skipped for that reason is recorded as missed, and the end of the turn or of the
//! ingestion makes the event loop look again.

use std::sync::Arc;

use super::{Connection, ConnectionState, Monitor, StateGuard};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::poller::watch::{Checked, ToNotify, Watch};
use crate::driver::poller::{PollSource, PollerInner, Report, Reported, WatchId};
use crate::driver::sys::wake::Side;
use crate::driver::sys::{self, clock};
use crate::error::{Error, Result};
use crate::machine::{ReadStep, RecvEvent, SendEvent, WriteStep};
use crate::poll::{Interest, Ready};

/// What is so of a socket, as far as the state says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    ready: Ready,
    /// The events for which only a look at the wire decides.
    pub(super) wire: Ready,
    /// The events that no look decides now, because another thread is at the wire.
    pub(super) busy: Ready,
}

/// The number of reading turns after which the event loop stops monitoring a socket that no poller waits for.
///
/// Usually the next event makes it stop. If a thread always reads the data first, the kernel wakes the event loop for each
/// segment and then has no event for it.
const MAX_UNNEEDED_TURNS: u8 = 16;

impl ConnectionState {
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.extras.has_watches()
    }

    /// Returns the events that some watch still waits for.
    pub(super) fn awaited(&self) -> Ready {
        self.extras.watches().map_or(Ready::NOTHING, |watches| watches.awaited())
    }

    /// Returns the events that some watch still waits for, and that the kernel does not report to its poller.
    fn awaited_of_loop(&self) -> Ready {
        self.extras.watches().map_or(Ready::NOTHING, |watches| watches.awaited_of_loop())
    }

    /// Returns whether some watch waits for the event loop to report data, found or not.
    pub(crate) fn awaits_data(&self) -> bool {
        self.extras.watches().is_some_and(|watches| watches.is_armed(Ready::READABLE))
    }

    /// Returns whether the event loop has to monitor the wire without delay, because a watch waits for data that was not
    /// found, or because no caller drives the handshake.
    pub(super) fn needs_monitor_now(&self) -> bool {
        self.is_watched()
            && (self.awaited_of_loop().has(Ready::READABLE)
                || self.machine.background().drives_opening())
    }

    /// Returns whether the event loop has to report room in the send buffer to a poller.
    pub(crate) fn awaits_room(&self) -> bool {
        self.is_watched()
            && !planted!(PollerForgetsRoom)
            && !self.machine.is_tls()
            && self.awaited_of_loop().has(Ready::WRITABLE)
    }

    /// Returns whether the event loop need not monitor the wire any more until the socket is idle. Counts the turn of `side`,
    /// which ends.
    fn is_monitor_over(&mut self, side: Side) -> bool {
        let is_needed = self.needs_monitor_now();
        match &mut self.monitor {
            Monitor::Full { unneeded_turns } if side == Side::Read && !is_needed => {
                *unneeded_turns += 1;
                *unneeded_turns >= MAX_UNNEEDED_TURNS
            }
            Monitor::ErrorsOnly => !self.awaits_data(),
            Monitor::Full { .. } | Monitor::Off | Monitor::Queued(_) => false,
        }
    }

    /// Has the kernel report to the pollers themselves, once the socket is open. If a look was missed, the event loop looks
    /// again.
    fn register_with_pollers(&mut self) {
        if self.is_opening() || self.missed || self.machine.outcome().is_some() {
            return;
        }
        let is_tls = self.machine.is_tls();
        let (Some(mut wire), Some(watches)) = (self.wire.cloned(), self.extras.watches_mut())
        else {
            return;
        };
        // Over TLS there is room if the queue has some.
        let room = Ready::WRITABLE.when(!is_tls && !planted!(PollerForgetsRoom));
        watches.register(&mut wire, Ready::READABLE.and(room));
    }

    /// Ends what the kernel reports to the pollers.
    pub(crate) fn deregister_from_pollers(&mut self) {
        if self.is_watched() {
            let wire = self.wire.cloned();
            if let Some(watches) = self.extras.watches_mut() {
                watches.deregister(wire.as_deref());
            }
        }
    }

    /// Ends what the kernel reports of one watch.
    fn deregister_watch(&mut self, poller: &PollerInner, id: WatchId) {
        if let (Some(wire), Some(watches)) = (self.wire.cloned(), self.extras.watches_mut()) {
            watches.deregister_one(poller, id, &wire);
        }
    }

    pub(super) fn readiness(&mut self) -> Readiness {
        let is_closed = self.closed_result().is_some();
        let mut readiness = Readiness {
            ready: Ready::OPENED.when(!self.is_opening()).and(Ready::CLOSED.when(is_closed)),
            wire: Ready::NOTHING,
            busy: Ready::NOTHING,
        };
        let place = match self.machine.read() {
            ReadStep::Eof | ReadStep::Fail(_) => &mut readiness.ready,
            ReadStep::Wait => &mut readiness.busy,
            ReadStep::Recv(permit) | ReadStep::Ingest(permit) => {
                self.return_unused(permit);
                if self.recv.turn.is_held() { &mut readiness.busy } else { &mut readiness.wire }
            }
            ReadStep::TakePlaintext(permit) => {
                self.return_unused(permit);
                if self.recv.turn.is_held() { &mut readiness.busy } else { &mut readiness.ready }
            }
        };
        *place = place.and(Ready::READABLE);
        let is_busy = self.send.turn.is_held() || self.is_upgrading();
        let place = match self.machine.write() {
            WriteStep::Fail(_) => &mut readiness.ready,
            WriteStep::Wait => &mut readiness.busy,
            WriteStep::Send(permit) => {
                drop(self.machine.handle_send_event(permit, SendEvent::Cancelled));
                if is_busy { &mut readiness.busy } else { &mut readiness.wire }
            }
            WriteStep::Seal(permit) => {
                drop(self.machine.handle_send_event(permit, SendEvent::Cancelled));
                let can_seal = self.machine.can_seal();
                if is_busy || !can_seal { &mut readiness.busy } else { &mut readiness.ready }
            }
        };
        *place = place.and(Ready::WRITABLE);
        readiness
    }

    pub(super) fn return_unused(&mut self, permit: crate::machine::RecvPermit) {
        let actions = self.machine.handle_recv_event(permit, RecvEvent::Cancelled, clock::now());
        debug_assert!(actions.is_empty(), "an unused permit changes nothing");
        drop(actions);
    }

    /// Queues the watches for which something is so. `found` is what a look at the wire found.
    pub(crate) fn report(&mut self, found: Ready) -> ToNotify {
        if !self.is_watched() {
            return ToNotify::default();
        }
        let ready = self.readiness().ready;
        match self.extras.watches_mut() {
            Some(watches) => watches.report(ready, found),
            None => ToNotify::default(),
        }
    }

    /// The same for an event that may be so.
    fn report_maybe(&mut self, maybe: Ready) -> ToNotify {
        if !self.is_watched() {
            return ToNotify::default();
        }
        let ready = self.readiness().ready.and(maybe);
        match self.extras.watches_mut() {
            Some(watches) => watches.report(ready, Ready::NOTHING),
            None => ToNotify::default(),
        }
    }

    /// Returns whether the event loop has to monitor the wire for the pollers.
    fn is_monitorable(&self) -> bool {
        self.wire.is_some() && (self.needs_monitor() || self.machine.background().drives_opening())
    }
}

impl Connection {
    /// Reports what is so to the pollers. Releases the lock if a thread has to be notified.
    pub(crate) fn report<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        found: Ready,
    ) -> StateGuard<'a> {
        if !state.is_watched() {
            return state;
        }
        let notify = state.report(found);
        if notify.is_empty() {
            return state;
        }
        drop(state);
        notify.notify();
        self.state()
    }

    /// Reports what a look of the event loop has found. The kernel reports it itself to the pollers that it knows.
    pub(super) fn report_from_loop<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        found: Ready,
    ) -> StateGuard<'a> {
        let is_of_loop = state.is_watched() && state.awaited_of_loop().has(found);
        self.report(state, found.when(is_of_loop))
    }

    /// Has the event loop monitor the socket: now if a poller waits for data, and otherwise once it is idle. Returns the
    /// command to [post](post_monitoring) without the lock.
    ///
    /// A registration that is not needed now is left alone, because a poller may soon need it again. The next event narrows
    /// it, or the last of [`MAX_UNNEEDED_TURNS`].
    pub(crate) fn start_monitoring(
        self: &Arc<Self>,
        state: &mut ConnectionState,
        loop_handle: &LoopHandle,
    ) -> Option<Command> {
        if !state.needs_monitor_now() {
            let is_handled = state.monitor != Monitor::Off || state.recv.turn.is_held();
            let scan_idle = !is_handled && self.queue_for_monitoring(state, loop_handle);
            return scan_idle.then_some(Command::ScanIdle);
        }
        if state.monitor.is_full() {
            state.monitor = Monitor::FULL;
            return None;
        }
        if let Some(idle_slot) = state.take_idle_slot() {
            loop_handle.idle_list().remove(idle_slot, &**self);
        }
        state.monitor = Monitor::FULL;
        Some(Command::UpdateInterest(self.loop_source()))
    }

    /// Follows a change of a watched socket, after the actions of a transition: monitors it, and reports.
    pub(crate) fn follow_watched<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        let notify = state.report(Ready::NOTHING);
        state.register_with_pollers();
        let command = match LoopHandle::get_if_started() {
            Some(loop_handle) if state.is_monitorable() => {
                self.start_monitoring(&mut state, loop_handle)
            }
            Some(_) | None => None,
        };
        if notify.is_empty() && command.is_none() {
            return state;
        }
        drop(state);
        notify.notify();
        post_monitoring(command);
        self.state()
    }

    /// Ends a turn of a watched socket.
    #[cold]
    pub(crate) fn end_watched_turn(self: &Arc<Self>, mut state: StateGuard<'_>, side: Side) {
        let event = match side {
            Side::Read => Ready::READABLE,
            Side::Write => Ready::WRITABLE,
        };
        if let Some(watches) = state.extras.watches_mut() {
            watches.forget_found(event);
        }
        // If the thread has not used up what was there, a level-triggered key is to be reported to others.
        let is_left = !state.machine.is_tls()
            && state.direction(side).predictor.has_left_some()
            && !planted!(PollerHidesRest);
        let notify = state.report_maybe(event.when(is_left));
        let missed = state.take_missed();
        let is_urgent = missed && state.needs_monitor_now();
        let mut command = None;
        let mut scan_idle = false;
        if state.wire.is_some() && !planted!(PollerForgetsMissed) {
            let is_due = side == Side::Read || is_urgent;
            if let (true, true, Ok(loop_handle)) =
                (is_due, state.is_monitorable(), LoopHandle::get())
            {
                if state.is_monitor_over(side) {
                    // The data is read. The event loop monitors the socket again once it is idle.
                    scan_idle = self.queue_for_monitoring(&mut state, loop_handle);
                    command = Some(Command::UpdateInterest(self.loop_source()));
                } else {
                    command = self.start_monitoring(&mut state, loop_handle);
                }
            }
            if missed {
                // Registering again makes the kernel report what is so now.
                command = Some(Command::UpdateInterest(self.loop_source()));
            }
        }
        drop(state);
        notify.notify();
        post_monitoring(command);
        post_monitoring(scan_idle.then_some(Command::ScanIdle));
    }

    // ------------------------------------------------------------- the watches

    /// Reports what is so of a watch that was armed, and has the event loop report the rest. Most often there is nothing
    /// to register: the data is there, or the socket is registered already. A look tells about the `unknown` events.
    fn begin_watch(self: &Arc<Self>, state: StateGuard<'_>, unknown: Ready) {
        let mut state = self.report(state, Ready::NOTHING);
        if state.is_opening() && state.machine.background().drives_opening() {
            // No caller drives the handshake, so the event loop keeps its timer.
            state = self.update_timer(state);
        }
        if !planted!(PollerLosesModify) {
            state = self.look(state, unknown);
        }
        // A registration reports the present state, so nothing is lost between the look and this.
        state = self.follow_watched(state);
        self.await_room(state);
    }

    /// Has the event loop report room in the send buffer, if a watch waits for it.
    fn await_room(self: &Arc<Self>, state: StateGuard<'_>) {
        if state.awaits_room() && state.wire.is_some() {
            drop(state);
            post_monitoring(Some(Command::UpdateInterest(self.loop_source())));
        }
    }

    /// Takes the watches of a socket whose last handle was dropped, and returns them.
    pub(crate) fn unwatch(self: &Arc<Self>) {
        let mut state = self.state();
        state.deregister_from_pollers();
        let Some(watches) = state.extras.take_watches() else { return };
        drop(state);
        for watch in watches.iter() {
            watch.forget();
        }
    }
}

impl PollSource for Connection {
    fn check_interest(&self, _: Interest) -> Result<()> {
        Ok(())
    }

    fn watch(
        self: Arc<Self>,
        poller: &Arc<PollerInner>,
        key: u64,
        interest: Interest,
    ) -> Result<()> {
        self.fail_on_panic(|| {
            self.check_process()?;
            // The event loop reports what happens later.
            LoopHandle::get().map_err(Error::from_fault)?;
            let mut state = self.state_soon();
            let weak = Arc::downgrade(&self);
            let generation = poller.insert(key, weak)?;
            state.extras.add_watch(Watch::new(poller, key, generation, interest));
            self.begin_watch(state, Ready::READABLE.and(Ready::WRITABLE));
            Ok(())
        })
    }

    fn modify_watch(
        self: Arc<Self>,
        poller: &PollerInner,
        id: WatchId,
        interest: Interest,
    ) -> bool {
        self.fail_on_panic(|| {
            let mut state = self.state();
            let watches = state.extras.watches_mut();
            let is_there = watches.is_some_and(|watches| watches.modify(poller, id, interest));
            if is_there {
                let unknown = match state.has_nothing_unreported(poller, id) {
                    true => Ready::WRITABLE,
                    false => Ready::READABLE.and(Ready::WRITABLE),
                };
                self.begin_watch(state, unknown);
            }
            is_there
        })
    }

    fn remove_watch(self: Arc<Self>, poller: &PollerInner, id: WatchId) {
        if !self.is_forked() {
            let mut state = self.state();
            state.deregister_watch(poller, id);
            state.extras.remove_watch(poller, id);
        }
    }

    fn check_watch(
        self: Arc<Self>,
        poller: &PollerInner,
        id: WatchId,
        reported: Reported,
    ) -> Option<Report> {
        self.fail_on_panic(|| {
            let mut state = self.state();
            let watches = state.extras.watches_mut()?;
            if !watches.begin_check(poller, id) {
                // The other check may have received before this event. What came since would be reported to no thread.
                state.deregister_watch(poller, id);
                return None;
            }
            if watches.is_overregistered(poller, id) {
                // Otherwise each segment would wake a thread for nothing. Whatever is awaited is registered again.
                state.deregister_watch(poller, id);
            }
            // Before the look, because over TLS it receives, and then knows what it has left.
            state.recv.predictor.on_reported();
            let unwinding = AbandonCheck { connection: &self, poller, id };
            let wire = state.readiness().wire;
            state.note_reported(poller, id, reported, wire);
            let watches = state.extras.watches_mut();
            let open = watches.map_or(Ready::NOTHING, |it| it.open_events(poller, id, wire));
            if !open.is_nothing() {
                state = self.look(state, open);
            }
            std::mem::forget(unwinding);
            let Readiness { ready, wire, busy } = state.readiness();
            let watches = state.extras.watches_mut()?;
            match watches.check(poller, id, ready, wire) {
                Checked::Report(report) => return Some(report),
                Checked::Gone => return None,
                Checked::Nothing => {}
                // This thread takes it out of the queue, or another one that it notifies at the end of its wait.
                Checked::Again => {
                    poller.requeue(id);
                }
            }
            if state.awaited().has(busy) {
                state.note_missed();
            }
            let state = self.follow_watched(state);
            self.await_room(state);
            None
        })
    }
}

/// A guard that is dropped only if a panic interrupts a check. The failure of the socket is still to be reported.
struct AbandonCheck<'a> {
    connection: &'a Connection,
    poller: &'a PollerInner,
    id: WatchId,
}

impl Drop for AbandonCheck<'_> {
    #[cold]
    fn drop(&mut self) {
        if sys::is_run_failing() {
            return;
        }
        let mut state = self.connection.state();
        let watches = state.extras.watches_mut();
        if watches.is_some_and(|watches| watches.abandon_check(self.poller, self.id)) {
            self.poller.requeue(self.id);
        }
    }
}

/// Posts a command that starts monitoring. The caller holds no lock.
pub(crate) fn post_monitoring(command: Option<Command>) {
    let (Some(command), Ok(loop_handle)) = (command, LoopHandle::get()) else { return };
    let urgency = match command {
        Command::ScanIdle => Urgency::Soon,
        _ => Urgency::Now,
    };
    loop_handle.post(command, urgency);
}
