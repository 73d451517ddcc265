//! Linux and Android: poll(2) distinguishes FIN from a hang-up.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{PollStatus, TcpStream, reset_on_close};

pub(in crate::driver::sys::wire) fn has_hung_up(stream: &TcpStream) -> bool {
    poll_now(stream, PollFlags::empty()).contains(PollFlags::HUP)
}

pub(in crate::driver::sys::wire) fn poll_status(stream: &TcpStream) -> PollStatus {
    let seen = poll_now(stream, PollFlags::RDHUP);
    if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
        PollStatus::Error
    } else if seen.contains(PollFlags::RDHUP) {
        PollStatus::Fin
    } else {
        PollStatus::Quiet
    }
}

fn poll_now(stream: &TcpStream, wanted: PollFlags) -> PollFlags {
    let mut descriptors = [PollFd::new(stream, wanted)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents(),
        Err(_) => PollFlags::empty(),
    }
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
