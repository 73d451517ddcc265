//! The model of a stream.

use std::io;

use super::{Incoming, PollStatus, TcpStream};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream, _is_unix: bool) -> bool {
    stream.is_hung_up()
}

pub(in crate::driver::sys::wire) fn poll_status(_stream: &TcpStream, _is_unix: bool) -> PollStatus {
    PollStatus::Quiet
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    stream.reset();
}

/// Returns `None`: `SO_ERROR` has every failure.
pub(in crate::driver::sys::wire) fn unlatched_error(_stream: &TcpStream) -> Option<io::Error> {
    None
}

pub(in crate::driver::sys::wire) fn incoming(stream: &TcpStream) -> Incoming {
    match stream.available() {
        Some(0) => Incoming::Nothing,
        Some(_) => Incoming::Data,
        None => Incoming::End,
    }
}

pub(in crate::driver::sys::wire) fn is_writable(stream: &TcpStream) -> Option<bool> {
    Some(stream.is_writable())
}
