//! Apple's systems, the BSDs and other Unix systems. There poll(2) sets `POLLHUP` for a plain FIN too.
//!
//! getpeername(2) tells FIN from a reset: it fails once both directions are closed. Linux and the BSDs then return
//! ENOTCONN, and xnu EINVAL. A failure for another reason is treated as a hang-up too: an end that looks like an error
//! is better than the reverse.

use std::io;

use super::{PollStatus, TcpStream, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream) -> bool {
    stream.peer_addr().is_err()
}

/// Never returns [`PollStatus::Fin`]: only a receive shows that.
pub(in crate::driver::sys::wire) fn poll_status(stream: &TcpStream) -> PollStatus {
    if has_hung_up(stream) { PollStatus::Error } else { PollStatus::Quiet }
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    reset_on_close(stream);
}

/// Returns `None`: `SO_ERROR` has every failure.
pub(in crate::driver::sys::wire) fn unlatched_error(_stream: &TcpStream) -> Option<io::Error> {
    None
}
