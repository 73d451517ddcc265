//! The end of a listener, and the effects of its acceptor's actions.

use std::collections::VecDeque;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use super::take::{AcceptResult, discard};
use super::uses::{HeldSlot, SocketUse};
use super::{ListenerInner, StateGuard};
use crate::driver::connection::Connection;
use crate::driver::connection::call_timer::WaitLimit;
use crate::driver::event_loop::source::LoopTicket;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::sys::listen::{Accepted, ListenAddress};
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::{self, clock};
use crate::egress::{forget_listener, forget_unix_listener};
use crate::error::{Error, Fault, Result, TimerKind};
use crate::machine::{AcceptorActions, AcceptorInput};
use crate::poll::Ready;

/// What the end of a listener releases, without the lock.
struct Closing<'a> {
    socket_use: SocketUse<'a>,
    token: Option<Token>,
    ticket: Option<LoopTicket>,
    reservation: HeldSlot<'a>,
    /// Clients that no thread has accepted.
    next_clients: VecDeque<Accepted>,
}

/// A guard that is dropped only if a panic unwinds through the draining of a listener, which no other thread continues.
struct FailOnUnwind<'a>(&'a ListenerInner);

impl Drop for FailOnUnwind<'_> {
    #[cold]
    fn drop(&mut self) {
        // Under the model a panic ends the run.
        if !sys::IS_MODEL && !self.0.registry.is_forked() {
            self.0.fail();
        }
    }
}

impl ListenerInner {
    /// Passes the input to the acceptor and executes the resulting actions.
    pub(super) fn input<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        input: AcceptorInput,
    ) -> StateGuard<'a> {
        let actions = state.acceptor.handle(input, clock::now());
        self.perform(state, actions)
    }

    /// Executes actions, except those that only the caller can: to accept, and to reset a client. Releases the lock if
    /// there is something to execute.
    #[inline]
    pub(super) fn perform<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        actions: AcceptorActions,
    ) -> StateGuard<'a> {
        let AcceptorActions { shrink_backlog, close_listener, wake, settled, .. } = actions;
        if shrink_backlog | close_listener | wake | settled {
            self.perform_outlined(state, actions)
        } else {
            state
        }
    }

    #[cold]
    fn perform_outlined<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        actions: AcceptorActions,
    ) -> StateGuard<'a> {
        let shrinks = if actions.shrink_backlog { self.use_socket(&mut state) } else { None };
        let closing = if actions.close_listener { self.begin_closing(&mut state) } else { None };
        let parked = self.notify_changed(&state);
        drop(state);
        if let Some(handle) = parked {
            handle.wake();
        }
        if let Some(closing) = closing {
            self.close_socket(closing);
        }
        if let Some(shrinks) = shrinks {
            // A close may take long, and a successor need not wait for it.
            shrinks.socket().remove_path();
            shrinks.socket().shrink_backlog();
            let mut state = self.state();
            state.is_shrunk = true;
            let has_ended = state.socket.is_none();
            drop(state);
            if has_ended && self.owns_queue {
                // The call made the socket, which an abort had stopped in the meantime, listen again.
                shrinks.socket().stop();
            }
        }
        self.state()
    }

    /// Takes everything that the end releases out of the state.
    fn begin_closing<'a>(&'a self, state: &mut StateGuard<'_>) -> Option<Closing<'a>> {
        let socket_use = self.take_socket(state)?;
        let reservation = HeldSlot::new(&self.registry, state.reservation.take());
        let (token, ticket) = (state.token.take(), state.ticket.take());
        let next_clients = std::mem::take(&mut state.next_clients);
        Some(Closing { socket_use, token, ticket, reservation, next_clients })
    }

    /// Closes the listening socket, and has the event loop forget it. Then the threads that wait for the end are woken,
    /// and the address can be bound again.
    fn close_socket(&self, closing: Closing<'_>) {
        let Closing { socket_use, token, ticket, reservation, next_clients } = closing;
        match &self.local {
            ListenAddress::Ip(local) => forget_listener(*local),
            ListenAddress::Unix(Some(address)) => {
                forget_unix_listener(address, socket_use.socket().file());
            }
            ListenAddress::Unix(None) => {}
        }
        // Before the socket ends, so that no client is refused on a path that exists. A successor may bind it then.
        socket_use.socket().remove_path();
        for client in next_clients {
            client.reset();
        }
        if let (Some(ticket), Ok(loop_handle)) = (ticket, LoopHandle::get()) {
            loop_handle.post(Command::Forget(ticket), Urgency::Soon);
        }
        if let (Some(token), Ok(loop_handle)) = (token, LoopHandle::get()) {
            // Closing one of two descriptors would not deregister it.
            socket_use.socket().deregister(loop_handle.registry());
            loop_handle.post(Command::DropToken(token), Urgency::Soon);
        }
        if self.owns_queue {
            // Another thread, a `Descriptor` or a forked child may still have the descriptor.
            socket_use.socket().stop();
        }
        drop(socket_use);
        drop(reservation);
    }

    /// Ends the listener after a panic of this crate. Connections that it has taken are still returned.
    pub(super) fn fail(&self) {
        let mut state = self.state();
        let _ = state.acceptor.handle(AcceptorInput::Failed(Fault::Internal), clock::now());
        state.is_draining = false;
        let closing = self.begin_closing(&mut state);
        let parked = self.notify_changed(&state);
        self.notify_end(&state);
        drop(state);
        if let Some(handle) = parked {
            handle.wake();
        }
        if let Some(closing) = closing {
            self.close_socket(closing);
        }
    }

    // ------------------------------------------------------------- commands

    /// Stops listening, and accepts the connections that are complete.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.registry.is_forked() {
            return self.close_fd_only();
        }
        let state = self.keep_next_clients(self.state());
        drop(self.input(state, AcceptorInput::Close));
        self.drain();
    }

    /// Makes sockets of the clients that were taken for pollers, as far as there are slots. They are not in the queue any
    /// more, which another process may keep.
    fn keep_next_clients<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> StateGuard<'a> {
        while !state.next_clients.is_empty() {
            let (back, result) = self.try_accept(state);
            state = back;
            match result {
                AcceptResult::Connection(taken) => {
                    drop(state);
                    state = self.keep(taken);
                }
                AcceptResult::TryAgain => {}
                AcceptResult::WouldBlock | AcceptResult::NotNow => break,
            }
        }
        state
    }

    /// Stops listening, and resets the connections that no thread has accepted.
    pub(crate) fn abort_listening(self: &Arc<Self>) {
        if self.registry.is_forked() {
            return self.close_fd_only();
        }
        let mut state = self.input(self.state(), AcceptorInput::Abort);
        let mut unaccepted: Vec<Arc<Connection>> = state.ready.drain(..).collect();
        unaccepted.extend(state.opening.drain());
        self.notify_end(&state);
        drop(state);
        for connection in unaccepted {
            discard(&connection);
        }
    }

    /// Accepts the remaining connections of a closing listener. If no slot is free, the event loop continues when one
    /// is.
    pub(super) fn drain(self: &Arc<Self>) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_draining, true) {
            return;
        }
        let unwinding = FailOnUnwind(self);
        self.drain_queue(state);
        std::mem::forget(unwinding);
    }

    fn drain_queue<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) {
        while state.acceptor.is_closing() && state.acceptor.may_accept() && state.is_shrunk {
            let (back, result) = self.try_accept(state);
            state = back;
            if let AcceptResult::Connection(taken) = result {
                drop(state);
                state = self.keep(taken);
            }
        }
        state.is_draining = false;
        drop(self.update_timer(state));
    }

    /// Adds a connection for the next accept.
    pub(super) fn add_ready<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        connection: Arc<Connection>,
    ) -> StateGuard<'a> {
        if state.is_aborted() {
            drop(state);
            discard(&connection);
            return self.state();
        }
        state.ready.push_back(connection);
        self.turn_free.notify_one();
        state.touch_watches(Ready::READABLE);
        state
    }

    /// Closes the descriptor in a forked child and leaves the queue alone. Does nothing if another thread held the lock
    /// during the fork, because no thread of the child will release it.
    fn close_fd_only(&self) {
        let socket = match self.state.try_lock() {
            Ok(mut state) => state.socket.take(),
            Err(TryLockError::Poisoned(state)) => state.into_inner().socket.take(),
            Err(TryLockError::WouldBlock) => None,
        };
        drop(socket);
    }

    pub(crate) fn set_deadline(&self, at: Option<Instant>) {
        if self.registry.is_forked() {
            return;
        }
        let mut state = self.state();
        state.deadline = at;
        let parked = self.notify_all(&state);
        drop(state);
        if let Some(handle) = parked {
            handle.wake();
        }
    }

    // ------------------------------------------------------------- waits for the end

    pub(crate) fn closed(self: &Arc<Self>, limit: Option<Duration>) -> Result<()> {
        self.closed_until(limit.map(WaitLimit::after))
    }

    fn closed_until(self: &Arc<Self>, until: Option<WaitLimit>) -> Result<()> {
        self.check_process()?;
        let mut state = self.state();
        loop {
            match state.end() {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) => return Err(Error::from_fault(fault)),
                None => {}
            }
            event_loop::check_may_block()?;
            let left = match until {
                Some(until) => {
                    let passed = || Error::timed_out_call(TimerKind::Closed);
                    Some(until.left().ok_or_else(passed)?)
                }
                None => None,
            };
            state = self.wait_on(&self.changed, state, left);
        }
    }

    /// Closes the listener and every socket that it accepted, for at most `limit`, and aborts the rest. Returns how many
    /// sockets had to be reset before their accepted data was handed to the kernel.
    pub(crate) fn shutdown(self: &Arc<Self>, limit: Duration) -> usize {
        let until = WaitLimit::after(limit);
        self.abort_before_shutdown(until);
        if self.registry.is_forked() { 0 } else { self.registry.shutdown_until(until) }
    }

    /// Stops listening, and resets the connections that no thread has accepted. Waits for those that another thread is
    /// taking or resetting: a shutdown of all sockets would close them gracefully.
    pub(super) fn abort_before_shutdown(self: &Arc<Self>, until: WaitLimit) {
        self.abort_listening();
        if !planted!(ShutdownForgetsTaken) {
            // A wait that fails ends at the limit, or on the event loop, which may not wait.
            let _ = self.closed_until(Some(until));
        }
    }
}
