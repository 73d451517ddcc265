//! The state of a connection as poll(2) shows it, and an immediate reset.

use super::{PollStatus, TcpStream};

#[cfg(sockeye_shuttle)]
pub(super) fn has_hung_up(stream: &TcpStream) -> bool {
    stream.is_hung_up()
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
pub(super) fn has_hung_up(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents().contains(PollFlags::HUP),
        Err(_) => false,
    }
}

/// Returns `false`: other systems set `POLLHUP` for a plain FIN too.
#[cfg(not(any(target_os = "linux", sockeye_shuttle)))]
pub(super) fn has_hung_up(_stream: &TcpStream) -> bool {
    false
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
pub(super) fn poll_status(stream: &TcpStream) -> PollStatus {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seen = match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents(),
        Err(_) => PollFlags::empty(),
    };
    if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
        PollStatus::Error
    } else if seen.contains(PollFlags::RDHUP) {
        PollStatus::Fin
    } else {
        PollStatus::Quiet
    }
}

/// Returns `Quiet`: other systems do not distinguish FIN from unread data in poll(2).
#[cfg(not(all(target_os = "linux", not(sockeye_shuttle))))]
pub(super) fn poll_status(_stream: &TcpStream) -> PollStatus {
    PollStatus::Quiet
}

#[cfg(sockeye_shuttle)]
pub(super) fn reset(stream: &TcpStream) {
    stream.reset();
}

#[cfg(not(sockeye_shuttle))]
pub(super) fn reset(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if rustix::net::connect_unspec(stream).is_ok() {
        return;
    }
    let linger = Some(std::time::Duration::ZERO);
    let _ = socket2::SockRef::from(stream).set_linger(linger);
}
