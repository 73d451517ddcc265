//! Who has the connection of a socket.

use std::sync::Arc;

use super::wait::Side;
use super::wire::Wire;

/// The connection of a socket, from when it is made until it is let go of.
///
/// Each direction has a reference at hand, so that a call moves one and need not count it: that would be two more
/// atomic operations a call.
#[derive(Debug, Default)]
pub(super) struct WireRefs {
    owner: Option<Arc<Wire>>,
    cached: [Option<Arc<Wire>>; 2],
}

impl WireRefs {
    pub(super) fn attach(&mut self, wire: Arc<Wire>) {
        self.owner = Some(wire);
    }

    pub(super) fn is_some(&self) -> bool {
        self.owner.is_some()
    }

    pub(super) fn is_none(&self) -> bool {
        self.owner.is_none()
    }

    pub(super) fn cloned(&self) -> Option<Arc<Wire>> {
        self.owner.clone()
    }

    /// Lets go of it. What is in use elsewhere is not given back any more, and is then the last.
    pub(super) fn take(&mut self) -> Option<Arc<Wire>> {
        self.cached = [None, None];
        self.owner.take()
    }

    /// A reference for a call in this direction, to be [given back](Self::checkin).
    #[inline]
    pub(super) fn checkout(&mut self, side: Side) -> Option<Arc<Wire>> {
        if self.cached[side as usize].is_none() {
            self.fill_cache(side);
        }
        self.cached[side as usize].take()
    }

    #[cold]
    fn fill_cache(&mut self, side: Side) {
        self.cached[side as usize] = self.owner.clone();
    }

    /// Takes back what a call was lent, unless the connection was let go of: then it is returned, to be
    /// [dropped](drop_wire) without the lock.
    #[inline]
    pub(super) fn checkin(&mut self, side: Side, wire: Arc<Wire>) -> Option<Arc<Wire>> {
        if self.owner.is_none() {
            return Some(wire);
        }
        if let Some(another) = self.cached[side as usize].replace(wire) {
            drop_wire(another);
        }
        None
    }
}

/// Drops a reference. With the last one the descriptor is closed.
#[cold]
pub(super) fn drop_wire(wire: Arc<Wire>) {
    drop(wire);
}
