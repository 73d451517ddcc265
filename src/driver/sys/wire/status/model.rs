//! The model of a stream.

use std::io;

use super::{PollStatus, TcpStream};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream) -> bool {
    stream.is_hung_up()
}

pub(in crate::driver::sys::wire) fn poll_status(_stream: &TcpStream) -> PollStatus {
    PollStatus::Quiet
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    stream.reset();
}

/// Returns `None`: `SO_ERROR` has every failure.
pub(in crate::driver::sys::wire) fn unlatched_error(_stream: &TcpStream) -> Option<io::Error> {
    None
}
