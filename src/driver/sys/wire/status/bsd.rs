//! Apple's systems, the BSDs and other Unix systems. There poll(2) sets `POLLHUP` for a plain FIN too.
//!
//! getpeername(2) tells FIN from a reset: it fails once both directions are closed. Linux and the BSDs then return
//! ENOTCONN, and xnu EINVAL. A failure for another reason is treated as a hang-up too: an end that looks like an error
//! is better than the reverse. A Unix-domain socket is not asked: there a receive of nothing is always an end.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Incoming, PollStatus, TcpStream, data_or_end, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream, is_unix: bool) -> bool {
    !is_unix && stream.peer_addr().is_err()
}

/// Never returns [`PollStatus::Fin`]: only a receive shows that.
pub(in crate::driver::sys::wire) fn poll_status(stream: &TcpStream, is_unix: bool) -> PollStatus {
    if has_hung_up(stream, is_unix) { PollStatus::Error } else { PollStatus::Quiet }
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    reset_on_close(stream);
}

/// Returns `None`: `SO_ERROR` has every failure.
pub(in crate::driver::sys::wire) fn unlatched_error(_stream: &TcpStream) -> Option<io::Error> {
    None
}

pub(in crate::driver::sys::wire) fn incoming(stream: &TcpStream) -> Incoming {
    match is_ready(stream, PollFlags::IN) {
        Some(false) => Incoming::Nothing,
        Some(true) | None => data_or_end(stream),
    }
}

pub(in crate::driver::sys::wire) fn is_writable(stream: &TcpStream) -> Option<bool> {
    is_ready(stream, PollFlags::OUT)
}

fn is_ready(stream: &TcpStream, wanted: PollFlags) -> Option<bool> {
    let mut descriptors = [PollFd::new(stream, wanted)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&at_once)).ok()?;
    Some(!descriptors[0].revents().is_empty())
}
