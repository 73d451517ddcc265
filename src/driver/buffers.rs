//! Buffers for ciphertext, which belong to the thread that is at the wire and not to a socket: an idle
//! socket needs none.

use std::cell::Cell;

use crate::machine::{Intake, Parcel};

thread_local! {
    static CACHED: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// For what is received.
    pub(super) recv: Intake,
    /// For what is sent.
    pub(super) transmit: Parcel,
}

/// This thread's buffers, given back when dropped.
#[derive(Debug)]
pub(super) struct BorrowedBuffers(Option<Box<Buffers>>);

/// Takes this thread's buffers; who comes second gets others.
pub(super) fn borrow() -> BorrowedBuffers {
    BorrowedBuffers(CACHED.try_with(Cell::take).ok().flatten())
}

impl BorrowedBuffers {
    pub(super) fn get(&mut self) -> &mut Buffers {
        self.0.get_or_insert_default()
    }
}

impl Drop for BorrowedBuffers {
    fn drop(&mut self) {
        let buffers = self.0.take();
        // A thread that is ending keeps none.
        let _ = CACHED.try_with(|own| own.set(buffers));
    }
}
