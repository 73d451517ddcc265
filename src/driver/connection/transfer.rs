//! Takes a wire away from its socket: when it is upgraded, detached or released.

use std::sync::Arc;

use super::{Connection, ConnectionState};
use crate::driver::event_loop::source::IdleSlot;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::sync::mio::Token;
use crate::driver::sys::wire::{REGISTRATION_IS_PERMANENT, Wire};

/// A wire that left its socket, and its places in the event loop.
#[derive(Debug)]
#[must_use = "the event loop still has the wire"]
pub(crate) struct TakenWire {
    pub(crate) wire: Option<Arc<Wire>>,
    token: Option<Token>,
    /// The entry in the idle list, if there was one.
    idle_slot: Option<IdleSlot>,
}

/// The new owner of a wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewOwner<'a> {
    /// The socket of an upgrade.
    Socket(&'a Arc<Connection>),
    /// The caller, who keeps or closes the wire.
    Caller,
}

impl ConnectionState {
    /// Takes the wire out of the state. If it passes to another owner, no thread may be at it.
    pub(crate) fn take_wire(&mut self) -> TakenWire {
        self.deregister_from_pollers();
        TakenWire {
            wire: self.wire.take(),
            token: self.token.take(),
            idle_slot: self.take_idle_slot(),
        }
    }
}

impl Connection {
    /// Passes a taken wire to its new owner, without the lock. The event loop reports nothing more of it to this
    /// socket.
    pub(crate) fn transfer(&self, taken: TakenWire, to: NewOwner<'_>) -> Option<Arc<Wire>> {
        let TakenWire { wire, token, idle_slot } = taken;
        let Ok(loop_handle) = LoopHandle::get() else { return wire };
        if let Some(idle_slot) = idle_slot {
            loop_handle.idle_list().remove(idle_slot, self);
        }
        match (token, to) {
            (Some(token), NewOwner::Socket(socket)) if REGISTRATION_IS_PERMANENT => {
                loop_handle.post(Command::TransferToken(token, socket.loop_source()), Urgency::Now);
            }
            (Some(token), NewOwner::Socket(_) | NewOwner::Caller) => {
                // Closing one of two descriptors would not deregister the wire.
                if let Some(wire) = &wire {
                    wire.deregister(loop_handle.registry());
                }
                loop_handle.post(Command::DropToken(token), Urgency::Soon);
            }
            (None, _) => {}
        }
        wire
    }
}

impl TakenWire {
    /// A wire that stays with its socket.
    pub(crate) fn kept(wire: Option<Arc<Wire>>) -> Self {
        TakenWire { wire, token: None, idle_slot: None }
    }
}
