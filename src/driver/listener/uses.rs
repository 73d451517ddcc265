//! What a thread has while it takes a connection: the listening socket, and a slot. Both are given back if it panics.

use std::sync::Arc;

use super::{ListenerInner, ListenerState};
use crate::driver::connection::{SocketRegistry, start_next};
use crate::driver::registry::SlotId;
use crate::driver::sys;
use crate::driver::sys::listen::ListenSocket;

/// A thread's use of the listening socket. The end of the listener waits until the thread has dropped the socket, and
/// has put a connection that it took where it belongs. Dropping the use ends it, which locks the state.
#[derive(Debug)]
pub(super) struct SocketUse<'a> {
    listener: &'a ListenerInner,
    /// `None` once the thread needs only the end to wait.
    socket: Option<Arc<ListenSocket>>,
}

impl ListenerInner {
    /// Begins a use of the listening socket. Returns `None` if the listener has ended.
    pub(super) fn use_socket<'a>(&'a self, state: &mut ListenerState) -> Option<SocketUse<'a>> {
        let socket = state.socket.clone()?;
        state.uses += 1;
        Some(SocketUse { listener: self, socket: Some(socket) })
    }

    /// Takes the listening socket out of the state, for the thread that closes it.
    pub(super) fn take_socket<'a>(&'a self, state: &mut ListenerState) -> Option<SocketUse<'a>> {
        let socket = state.socket.take()?;
        state.uses += 1;
        Some(SocketUse { listener: self, socket: Some(socket) })
    }
}

impl SocketUse<'_> {
    pub(super) fn socket(&self) -> &ListenSocket {
        self.socket.as_deref().expect("the socket is dropped after the last call on it")
    }

    /// Drops the socket, which may close it. The end of the listener still waits.
    pub(super) fn drop_socket(&mut self) {
        self.socket = None;
    }

    /// Ends the use under the lock. Its socket was dropped before, because no descriptor may be closed here.
    pub(super) fn end(self, state: &mut ListenerState) {
        debug_assert!(self.socket.is_none(), "the socket would be closed under the lock");
        state.uses -= 1;
        self.listener.notify_end(state);
        std::mem::forget(self);
    }
}

impl Drop for SocketUse<'_> {
    fn drop(&mut self) {
        self.drop_socket();
        // In a forked child, a thread of the parent may have the lock for ever.
        if sys::is_run_failing() || self.listener.registry.is_forked() {
            return;
        }
        let mut state = self.listener.state();
        state.uses -= 1;
        self.listener.notify_end(&state);
    }
}

/// A slot that a thread has for the connection that it takes. Dropping it gives the slot back, without a lock.
#[derive(Debug)]
pub(super) struct HeldSlot<'a> {
    registry: &'a Arc<SocketRegistry>,
    slot: Option<SlotId>,
}

impl<'a> HeldSlot<'a> {
    pub(super) fn new(registry: &'a Arc<SocketRegistry>, slot: Option<SlotId>) -> Self {
        HeldSlot { registry, slot }
    }

    /// Returns the slot, for the registry to take.
    pub(super) fn slot_mut(&mut self) -> &mut Option<SlotId> {
        &mut self.slot
    }
}

impl Drop for HeldSlot<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if !sys::is_run_failing() && !self.registry.is_forked() {
            start_next(self.registry.cancel(slot));
        }
    }
}
