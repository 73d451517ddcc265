//! The state of a connection without receiving or taking its pending error, and an immediate reset. Each family of kernels
//! has a file.

use super::{Incoming, PollStatus, TcpStream};

#[cfg(all(
    unix,
    any(sockeye_bsd, not(any(target_os = "linux", target_os = "android"))),
    not(sockeye_shuttle)
))]
mod bsd;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
mod linux;
#[cfg(sockeye_shuttle)]
mod model;
#[cfg(all(not(unix), not(sockeye_shuttle)))]
mod windows;

#[cfg(all(
    unix,
    any(sockeye_bsd, not(any(target_os = "linux", target_os = "android"))),
    not(sockeye_shuttle)
))]
pub(super) use self::bsd::{
    has_hung_up, incoming, is_writable, poll_status, reset, unlatched_error,
};
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
pub(super) use self::linux::{
    has_hung_up, incoming, is_writable, poll_status, reset, unlatched_error,
};
#[cfg(sockeye_shuttle)]
pub(super) use self::model::{
    has_hung_up, incoming, is_writable, poll_status, reset, unlatched_error,
};
#[cfg(all(not(unix), not(sockeye_shuttle)))]
pub(super) use self::windows::{
    has_hung_up, incoming, is_writable, poll_status, reset, unlatched_error,
};

/// Tells data from the end of a stream that is readable for one of them.
#[cfg(all(unix, not(sockeye_shuttle)))]
fn data_or_end(stream: &TcpStream) -> Incoming {
    match rustix::io::ioctl_fionread(stream) {
        Ok(1..) => Incoming::Data,
        // A receive finds out.
        Ok(0) | Err(_) => Incoming::End,
    }
}

/// Makes the close of the descriptor send a reset.
#[cfg(not(sockeye_shuttle))]
fn reset_on_close(stream: &TcpStream) {
    let linger = Some(std::time::Duration::ZERO);
    let _ = socket2::SockRef::from(stream).set_linger(linger);
}
