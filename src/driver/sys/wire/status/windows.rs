//! Windows: every receive after a reset fails, so a receive of nothing is FIN.

use std::io;

use super::{PollStatus, TcpStream, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(_stream: &TcpStream) -> bool {
    false
}

/// Returns `Quiet`: the system does not distinguish FIN from unread data without a receive.
pub(in crate::driver::sys::wire) fn poll_status(_stream: &TcpStream) -> PollStatus {
    PollStatus::Quiet
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    reset_on_close(stream);
}

/// Peeks: a reset is reported to receives, and not in `SO_ERROR`.
pub(in crate::driver::sys::wire) fn unlatched_error(stream: &TcpStream) -> Option<io::Error> {
    stream.peek(&mut [0]).err()
}
