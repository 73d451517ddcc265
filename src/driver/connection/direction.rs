//! `Direction`: what a connection keeps for reads, and for writes.

use std::sync::{Arc, Weak};

use super::predictor::BlockPredictor;
use crate::driver::sys::wake::WakeHandle;

/// The state of the turn of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TurnState {
    #[default]
    Free,
    /// A thread has it.
    Held,
}

impl TurnState {
    #[inline]
    pub(crate) fn is_held(self) -> bool {
        self != TurnState::Free
    }
}

/// State of one direction, shared by the threads that use it.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    /// Whether a thread has the turn. Only that thread makes system calls in this direction.
    pub(crate) turn: TurnState,
    /// Whether the thread that has the turn waits in `parker`.
    pub(crate) parked: bool,
    pub(crate) predictor: BlockPredictor,
    /// Whether the event loop saw the wire ready since the last call.
    pub(crate) ready: bool,
    /// Whether the thread at the wire knows that the wire has failed, but not why.
    pub(crate) cause_unknown: bool,
    pub(crate) parker: Weak<WakeHandle>,
}

impl Direction {
    pub(crate) fn parker_to_wake(&self) -> Option<Arc<WakeHandle>> {
        if self.parked { self.parker.upgrade() } else { None }
    }
}
