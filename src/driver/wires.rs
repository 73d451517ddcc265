//! Who has the connection of a socket.

use std::sync::Arc;

use super::wait::Side;
use super::wire::Wire;

/// The connection of a socket, from when it is made until it is let go of.
///
/// Each direction has a reference at hand, so that a call moves one and need not count it: that would be two more
/// atomic operations a call.
#[derive(Debug, Default)]
pub(super) struct Wires {
    own: Option<Arc<Wire>>,
    at_hand: [Option<Arc<Wire>>; 2],
}

impl Wires {
    pub(super) fn adopt(&mut self, wire: Arc<Wire>) {
        self.own = Some(wire);
    }

    pub(super) fn is_some(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn is_none(&self) -> bool {
        self.own.is_none()
    }

    pub(super) fn cloned(&self) -> Option<Arc<Wire>> {
        self.own.clone()
    }

    /// Lets go of it. What is in use elsewhere is not given back any more, and is then the last.
    pub(super) fn take(&mut self) -> Option<Arc<Wire>> {
        self.at_hand = [None, None];
        self.own.take()
    }

    /// A reference for a call in this direction, to be [given back](Self::give_back).
    #[inline]
    pub(super) fn lend(&mut self, side: Side) -> Option<Arc<Wire>> {
        if self.at_hand[side as usize].is_none() {
            self.count(side);
        }
        self.at_hand[side as usize].take()
    }

    #[cold]
    fn count(&mut self, side: Side) {
        self.at_hand[side as usize] = self.own.clone();
    }

    /// Takes back what a call was lent, unless the connection was let go of: then it is returned, to be
    /// [dropped](let_go) without the lock.
    #[inline]
    pub(super) fn give_back(&mut self, side: Side, wire: Arc<Wire>) -> Option<Arc<Wire>> {
        if self.own.is_none() {
            return Some(wire);
        }
        if let Some(another) = self.at_hand[side as usize].replace(wire) {
            let_go(another);
        }
        None
    }
}

/// Drops a reference. With the last one the descriptor is closed.
#[cold]
pub(super) fn let_go(wire: Arc<Wire>) {
    drop(wire);
}
