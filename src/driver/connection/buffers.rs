//! Per-thread buffers for TLS ciphertext. So an idle socket holds none.

use std::cell::Cell;

use crate::machine::{RecvBuf, Transmit};

thread_local! {
    static CACHED: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// For received bytes.
    pub(crate) recv: RecvBuf,
    /// For bytes to send.
    pub(crate) transmit: Transmit,
}

/// This thread's buffers, returned when dropped.
#[derive(Debug)]
pub(crate) struct BorrowedBuffers(Option<Box<Buffers>>);

/// Borrows this thread's buffers. A nested call gets new ones.
pub(crate) fn borrow() -> BorrowedBuffers {
    BorrowedBuffers(CACHED.try_with(Cell::take).ok().flatten())
}

impl BorrowedBuffers {
    pub(crate) fn get(&mut self) -> &mut Buffers {
        self.0.get_or_insert_default()
    }
}

impl Drop for BorrowedBuffers {
    fn drop(&mut self) {
        let buffers = self.0.take();
        // An ending thread keeps none.
        let _ = CACHED.try_with(|own| own.set(buffers));
    }
}
