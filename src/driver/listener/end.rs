//! The end of a listener, and the effects of its acceptor's actions.

use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use super::take::{AcceptResult, discard};
use super::{ListenerInner, StateGuard};
use crate::driver::connection::Connection;
use crate::driver::connection::start_next;
use crate::driver::event_loop::source::LoopTicket;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::ops::lifecycle::WaitLimit;
use crate::driver::sys::clock;
use crate::driver::sys::listen::ListenSocket;
use crate::driver::sys::sync::mio::Token;
use crate::egress::forget_listener;
use crate::error::{Error, Result, TimerKind};
use crate::machine::{AcceptorActions, AcceptorInput};

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
        let shrinks = if actions.shrink_backlog { state.socket.clone() } else { None };
        let closes = if actions.close_listener { state.socket.take() } else { None };
        let (token, ticket, reservation) = match &closes {
            Some(_) => (state.token.take(), state.ticket.take(), state.reservation.take()),
            None => (None, None, None),
        };
        let parked = self.notify_all(&state);
        drop(state);
        if let Some(handle) = parked {
            handle.wake();
        }
        if let Some(socket) = closes {
            self.close_socket(socket, token, ticket);
            start_next(reservation.and_then(|slot| self.registry.cancel(slot)));
        }
        if let Some(socket) = shrinks {
            socket.shrink_backlog();
            let mut state = self.state();
            state.is_shrunk = true;
            return state;
        }
        self.state()
    }

    /// Closes the listening socket, and has the event loop forget it.
    pub(super) fn close_socket(
        &self,
        socket: Arc<ListenSocket>,
        token: Option<Token>,
        ticket: Option<LoopTicket>,
    ) {
        forget_listener(self.local);
        if let (Some(ticket), Ok(loop_handle)) = (ticket, LoopHandle::get()) {
            loop_handle.post(Command::Forget(ticket), Urgency::Soon);
        }
        if let (Some(token), Ok(loop_handle)) = (token, LoopHandle::get()) {
            // Closing one of two descriptors would not deregister it.
            socket.deregister(loop_handle.registry());
            loop_handle.post(Command::DropToken(token), Urgency::Soon);
        }
        if self.owns_queue {
            // Another thread, a `Descriptor` or a forked child may still have the descriptor.
            socket.stop();
        }
        drop(socket);
    }

    // ------------------------------------------------------------- commands

    /// Stops listening, and accepts the connections that are complete.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.registry.is_forked() {
            return self.close_fd_only();
        }
        drop(self.input(self.state(), AcceptorInput::Close));
        self.drain();
    }

    /// Stops listening, and resets the connections that no thread has accepted.
    pub(crate) fn abort_listening(self: &Arc<Self>) {
        if self.registry.is_forked() {
            return self.close_fd_only();
        }
        let mut state = self.input(self.state(), AcceptorInput::Abort);
        let mut unaccepted: Vec<Arc<Connection>> = state.ready.drain(..).collect();
        unaccepted.extend(state.opening.drain());
        let parked = self.notify_all(&state);
        drop(state);
        if let Some(handle) = parked {
            handle.wake();
        }
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
        while state.acceptor.is_closing() && state.acceptor.may_accept() && state.is_shrunk {
            let Some(socket) = state.socket.clone() else { break };
            let (back, result) = self.try_accept(state, &socket);
            // This may close it, which resets the connections in the queue.
            drop(back);
            drop(socket);
            state = self.state();
            if let AcceptResult::Connection(stream, remote, slot) = result {
                drop(state);
                let connection = self.admit(stream, remote, slot, None);
                state = self.state();
                if let Some(connection) = connection.filter(|_| !self.settings.when_opened) {
                    state = self.add_ready(state, connection);
                }
                self.taken(&mut state);
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
        if state.acceptor.is_aborted() {
            drop(state);
            discard(&connection);
            return self.state();
        }
        state.ready.push_back(connection);
        self.turn_free.notify_one();
        state
    }

    /// Closes the descriptor in a forked child and leaves the queue alone. Does nothing if another thread held the lock
    /// during the fork, because no thread of the child will release it.
    fn close_fd_only(&self) {
        match self.state.try_lock() {
            Ok(mut state) => drop(state.socket.take()),
            Err(TryLockError::Poisoned(state)) => drop(state.into_inner().socket.take()),
            Err(TryLockError::WouldBlock) => {}
        }
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
        self.check_process()?;
        let until = limit.map(WaitLimit::after);
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
        self.abort_listening();
        if self.registry.is_forked() { 0 } else { self.registry.shutdown(limit) }
    }
}
