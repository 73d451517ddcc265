//! Windows: every receive after a reset fails, so a receive of nothing is FIN.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Incoming, PollStatus, TcpStream, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(_stream: &TcpStream, _is_unix: bool) -> bool {
    false
}

/// Returns `Quiet`: the system does not distinguish FIN from unread data without a receive.
pub(in crate::driver::sys::wire) fn poll_status(_stream: &TcpStream, _is_unix: bool) -> PollStatus {
    PollStatus::Quiet
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    reset_on_close(stream);
}

/// Peeks: a reset is reported to receives, and not in `SO_ERROR`.
pub(in crate::driver::sys::wire) fn unlatched_error(stream: &TcpStream) -> Option<io::Error> {
    stream.peek(&mut [0]).err()
}

/// Peeks: that takes no error, and makes the system report the next data to the event loop.
pub(in crate::driver::sys::wire) fn incoming(stream: &TcpStream) -> Incoming {
    match stream.peek(&mut [0]) {
        Ok(1..) => Incoming::Data,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
        Ok(0) | Err(_) => Incoming::End,
    }
}

/// Also makes the system report the next room to the event loop, if there is none now.
pub(in crate::driver::sys::wire) fn is_writable(stream: &TcpStream) -> Option<bool> {
    let mut descriptors = [PollFd::new(stream, PollFlags::WRNORM)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&at_once)).ok()?;
    let is_writable = !descriptors[0].revents().is_empty();
    if !is_writable {
        // mio registers the stream again after a call that would block.
        let _ = stream.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
    Some(is_writable)
}
