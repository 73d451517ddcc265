//! Linux and Android: poll(2) distinguishes FIN from a hang-up.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Incoming, PollStatus, TcpStream, data_or_end, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream, _is_unix: bool) -> bool {
    poll_now(stream, PollFlags::empty()).contains(PollFlags::HUP)
}

/// A Unix-domain socket hangs up whenever its peer has closed, so that alone is no error.
pub(in crate::driver::sys::wire) fn poll_status(stream: &TcpStream, is_unix: bool) -> PollStatus {
    let seen = poll_now(stream, PollFlags::RDHUP);
    let error = if is_unix { PollFlags::ERR } else { PollFlags::HUP | PollFlags::ERR };
    if seen.intersects(error) {
        PollStatus::Error
    } else if seen.intersects(PollFlags::RDHUP | PollFlags::HUP) {
        PollStatus::Fin
    } else {
        PollStatus::Quiet
    }
}

pub(in crate::driver::sys::wire) fn incoming(stream: &TcpStream) -> Incoming {
    match try_poll(stream, PollFlags::IN | PollFlags::RDHUP) {
        Ok(seen) if seen.is_empty() => Incoming::Nothing,
        Ok(seen) if seen == PollFlags::IN => Incoming::Data,
        Ok(_) | Err(_) => data_or_end(stream),
    }
}

fn poll_now(stream: &TcpStream, wanted: PollFlags) -> PollFlags {
    try_poll(stream, wanted).unwrap_or(PollFlags::empty())
}

fn try_poll(stream: &TcpStream, wanted: PollFlags) -> rustix::io::Result<PollFlags> {
    let mut descriptors = [PollFd::new(stream, wanted)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&at_once))?;
    Ok(descriptors[0].revents())
}

pub(in crate::driver::sys::wire) fn reset(stream: &TcpStream) {
    if rustix::net::connect_unspec(stream).is_err() {
        reset_on_close(stream);
    }
}

/// Returns `None`: `SO_ERROR` has every failure.
pub(in crate::driver::sys::wire) fn unlatched_error(_stream: &TcpStream) -> Option<io::Error> {
    None
}

/// Also makes the kernel report the next room to the event loop, if there is none now.
pub(in crate::driver::sys::wire) fn is_writable(stream: &TcpStream) -> Option<bool> {
    let ready = poll_now(stream, PollFlags::OUT);
    Some(ready.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP))
}
