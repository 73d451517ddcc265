//! A socket's references to its stream, with one cached per direction to save atomic operations.

use std::sync::Arc;

use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;

/// References to the wire, from the connection's creation until its release.
///
/// Each direction caches a reference, so that a call can move it instead of cloning it. That saves two atomic
/// operations per call.
#[derive(Debug, Default)]
pub(crate) struct WireRefs {
    owner: Option<Arc<Wire>>,
    cached: [Option<Arc<Wire>>; 2],
}

impl WireRefs {
    pub(crate) fn attach(&mut self, wire: Arc<Wire>) {
        self.owner = Some(wire);
    }

    pub(crate) fn is_some(&self) -> bool {
        self.owner.is_some()
    }

    pub(crate) fn is_none(&self) -> bool {
        self.owner.is_none()
    }

    pub(crate) fn is_unix(&self) -> bool {
        self.owner.as_ref().is_some_and(|wire| wire.is_unix())
    }

    pub(crate) fn cloned(&self) -> Option<Arc<Wire>> {
        self.owner.clone()
    }

    /// Ends the spin of a thread that receives.
    pub(crate) fn end_spin(&self) {
        if let Some(wire) = &self.owner {
            wire.end_spin();
        }
    }

    /// Takes the wire out. A reference in use elsewhere then becomes the last one.
    pub(crate) fn take(&mut self) -> Option<Arc<Wire>> {
        self.cached = [None, None];
        self.owner.take()
    }

    /// Borrows a reference for a call in this direction, to be [returned](Self::checkin).
    #[inline]
    pub(crate) fn checkout(&mut self, side: Side) -> Option<Arc<Wire>> {
        if self.cached[side as usize].is_none() {
            self.fill_cache(side);
        }
        self.cached[side as usize].take()
    }

    #[cold]
    fn fill_cache(&mut self, side: Side) {
        self.cached[side as usize] = self.owner.clone();
    }

    /// Returns whether this is the connection's wire. A proxy that is dialled again has another one.
    #[inline]
    pub(crate) fn is(&self, wire: &Arc<Wire>) -> bool {
        self.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, wire))
    }

    /// Takes a borrowed reference back. If the wire was released in between, gives it back to the caller, who
    /// [drops](drop_wire) it without the lock.
    #[inline]
    pub(crate) fn checkin(&mut self, side: Side, wire: Arc<Wire>) -> Option<Arc<Wire>> {
        if !self.is(&wire) {
            return Some(wire);
        }
        if let Some(another) = self.cached[side as usize].replace(wire) {
            drop_wire(another);
        }
        None
    }
}

/// Drops a reference. Dropping the last one closes the descriptor.
#[cold]
pub(crate) fn drop_wire(wire: Arc<Wire>) {
    drop(wire);
}
