//! A listener that pollers watch.
//!
//! Every change that may let an accept return queues the watches, and the thread that waits for them takes a client from
//! the queue of the system. The rules and the limits are applied to it, and the next accept returns it. While another
//! thread accepts there is nothing to report; the end of its turn queues the watches again.

use std::sync::Arc;

use super::take::{AcceptResult, Taken};
use super::{ListenerInner, ListenerState, StateGuard};
use crate::driver::connection::start_next;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::poller::watch::{Checked, Watch, WatchList};
use crate::driver::poller::{PollSource, PollerInner, Report, Reported, WatchId};
use crate::driver::registry::Reservation;
use crate::error::{Error, Result};
use crate::machine::AcceptorInput;
use crate::poll::{Interest, Ready};

/// The maximum number of clients that one look denies.
const MAX_CLIENTS: usize = 64;

impl ListenerState {
    /// Returns whether a client may be taken, and no thread is accepting.
    fn accepts(&self) -> bool {
        !self.turn_held && !self.acceptor.is_closing() && self.acceptor.may_accept()
    }

    /// Queues the watches that wait for one of these events, because it may be so.
    pub(super) fn touch_watches(&self, events: Ready) {
        if let Some(watches) = &self.watches {
            watches.touch(events);
        }
    }
}

impl ListenerInner {
    /// Checks whether an accept would not wait, and whether the listener has ended.
    fn readiness<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> (StateGuard<'a>, Ready) {
        if state.end().is_some() {
            return (state, Ready::READABLE.and(Ready::CLOSED));
        }
        if !state.ready.is_empty() {
            return (state, Ready::READABLE);
        }
        if self.settings.when_opened || !state.accepts() {
            // The event loop resumes an acceptor that pauses.
            return (self.update_timer(state), Ready::NOTHING);
        }
        let has_client;
        (state, has_client) = self.look_for_client(state);
        (state, Ready::READABLE.when(has_client))
    }

    /// Takes a client from the system, unless one was taken already. So the next accept returns it without a wait,
    /// whatever becomes of the client. It gets a slot only then, and only a client that may have one counts here.
    fn look_for_client<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> (StateGuard<'a>, bool) {
        for _ in 0..MAX_CLIENTS {
            if let Some(client) = state.next_clients.front() {
                if self.denial(client).is_none() {
                    match self.reserve(&mut state) {
                        Reservation::Unlimited => return (state, true),
                        Reservation::Slot(slot) => {
                            state.reservation = Some(slot);
                            return (self.return_reservation(state), true);
                        }
                        Reservation::Queued(_) => {
                            return (self.input(state, AcceptorInput::NoSlot), false);
                        }
                        // It is reset.
                        Reservation::AtLimit => {}
                    }
                }
            } else {
                let has_client;
                (state, has_client) = self.has_connection(state);
                // Where the system does not tell, an accept finds out.
                if has_client == Some(false) {
                    return (self.return_reservation(state), false);
                }
            }
            if !state.accepts() {
                return (self.return_reservation(state), false);
            }
            let result;
            (state, result) = self.try_accept(state);
            match result {
                AcceptResult::Connection(taken) => match self.denial(&taken.accepted) {
                    Some(reason) => {
                        drop(state);
                        self.deny(taken, reason);
                        state = self.state();
                    }
                    None if state.acceptor.is_closing() && !planted!(PollerHidesLateClient) => {
                        drop(state);
                        return (self.keep(taken), true);
                    }
                    None => return (self.keep_next(state, taken), true),
                },
                AcceptResult::TryAgain => {}
                AcceptResult::WouldBlock => return (self.return_reservation(state), false),
                // The client waits for a slot, or for the acceptor's timer.
                AcceptResult::NotNow => return (state, false),
            }
        }
        // There may be more clients, and other keys wait for their turn.
        state.touch_watches(Ready::READABLE);
        (state, false)
    }

    /// Asks the system whether a client is there.
    fn has_connection<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> (StateGuard<'a>, Option<bool>) {
        let Some(mut socket_use) = self.use_socket(&mut state) else {
            return (state, Some(false));
        };
        drop(state);
        let has_connection = socket_use.socket().has_connection();
        // Another thread may have ended the listener, so this may close the socket.
        socket_use.drop_socket();
        let mut state = self.state();
        socket_use.end(&mut state);
        (state, has_connection)
    }

    fn deny(&self, taken: Taken<'_>, reason: &str) {
        let Taken { accepted, slot, socket_use } = taken;
        match &accepted.remote {
            Some(remote) => self.count_denied(remote, reason),
            None => self.count_denied(&self.local, reason),
        }
        accepted.reset();
        drop(slot);
        drop(socket_use);
    }

    /// Keeps a client for the next accept, without its slot.
    fn keep_next<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        taken: Taken<'a>,
    ) -> StateGuard<'a> {
        let Taken { accepted, slot, socket_use } = taken;
        state.next_clients.push_back(accepted);
        socket_use.end(&mut state);
        // A thread that began to accept in the meantime waits for the system, which has this client no more.
        let is_awaited = state.accepters > 0 && !planted!(PollerKeepsClient);
        let parked = if is_awaited { self.notify_changed(&state) } else { None };
        drop(state);
        drop(slot);
        if let Some(handle) = parked {
            handle.wake();
        }
        self.state()
    }

    /// Gives back the slot or the place in the queue that a look has reserved, if no thread accepts. The program may never
    /// accept the client, so an accept takes a slot of its own.
    pub(super) fn return_reservation<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
    ) -> StateGuard<'a> {
        if state.accepters > 0 {
            return state;
        }
        let Some(slot) = self.leave_slot_queue(&mut state) else { return state };
        drop(state);
        start_next(self.registry.cancel(slot));
        self.state()
    }

    /// Has a poller look at a watch that was armed, and the event loop report what happens later.
    fn begin_watch(self: &Arc<Self>, state: StateGuard<'_>) {
        let is_registered = self.settings.when_opened || state.token.is_some();
        state.touch_watches(Ready::READABLE.and(Ready::CLOSED));
        drop(state);
        if let (false, Ok(loop_handle)) = (is_registered, LoopHandle::get()) {
            loop_handle.post(Command::UpdateInterest(self.source()), Urgency::Now);
        }
    }

    /// Takes the watches of a listener whose last handle was dropped, and frees their keys.
    pub(super) fn unwatch(&self) {
        let watches = self.state().watches.take();
        if let Some(watches) = watches {
            watches.iter().for_each(Watch::forget);
        }
    }
}

impl PollSource for ListenerInner {
    fn check_interest(&self, interest: Interest) -> Result<()> {
        if interest.has(Interest::WRITABLE | Interest::OPENED) {
            let message = format!("a listener is never {interest:?}: use READABLE or CLOSED");
            return Err(Error::invalid_options(message));
        }
        Ok(())
    }

    fn watch(
        self: Arc<Self>,
        poller: &Arc<PollerInner>,
        key: u64,
        interest: Interest,
    ) -> Result<()> {
        self.check_process()?;
        LoopHandle::get().map_err(Error::from_fault)?;
        let mut state = self.state();
        let weak = Arc::downgrade(&self);
        let generation = poller.insert(key, weak)?;
        let watch = Watch::new(poller, key, generation, interest);
        state.watches = Some(Box::new(WatchList::with(state.watches.take().map(|it| *it), watch)));
        self.begin_watch(state);
        Ok(())
    }

    fn modify_watch(
        self: Arc<Self>,
        poller: &PollerInner,
        id: WatchId,
        interest: Interest,
    ) -> bool {
        let mut state = self.state();
        let watches = state.watches.as_mut();
        let is_there = watches.is_some_and(|watches| watches.modify(poller, id, interest));
        if is_there {
            let is_awaited = |it: &WatchList| it.awaited().has(Ready::READABLE);
            if !state.watches.as_deref().is_some_and(is_awaited) {
                state = self.return_reservation(state);
            }
            self.begin_watch(state);
        }
        is_there
    }

    fn remove_watch(self: Arc<Self>, poller: &PollerInner, id: WatchId) {
        if self.registry.is_forked() {
            return;
        }
        let mut state = self.state();
        let watches = state.watches.take().and_then(|watches| (*watches).without(poller, id));
        state.watches = watches.map(Box::new);
        if state.watches.is_none() {
            drop(self.return_reservation(state));
        }
    }

    fn check_watch(
        self: Arc<Self>,
        poller: &PollerInner,
        id: WatchId,
        _: Reported,
    ) -> Option<Report> {
        let (mut state, ready) = self.readiness(self.state());
        match state.watches.as_mut()?.check(poller, id, ready, Ready::NOTHING) {
            Checked::Report(report) => Some(report),
            Checked::Gone | Checked::Nothing | Checked::Again => None,
        }
    }
}
