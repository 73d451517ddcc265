//! The credentials of a peer, which each family of kernels reports in its own way.

use std::os::fd::BorrowedFd;

use crate::unix::PeerCredentials;

/// Returns the credentials of the process that connected, or that called listen(2).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn of(socket: BorrowedFd<'_>) -> Option<PeerCredentials> {
    use nix::sys::socket::{getsockopt, sockopt};
    let found = getsockopt(&socket, sockopt::PeerCredentials).ok()?;
    // A process in a PID namespace that this one cannot see has the number 0.
    let pid = Some(found.pid()).filter(|pid| *pid > 0);
    Some(PeerCredentials::new(found.uid(), found.gid(), pid))
}

/// Returns the credentials (`LOCAL_PEERCRED`, through getpeereid(3)).
#[cfg(any(
    target_vendor = "apple",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
))]
pub(super) fn of(socket: BorrowedFd<'_>) -> Option<PeerCredentials> {
    let (uid, gid) = nix::unistd::getpeereid(socket).ok()?;
    Some(PeerCredentials::new(uid.as_raw(), gid.as_raw(), None))
}

/// Returns `None`: no crate that this one uses has a safe call.
#[cfg(not(any(
    target_vendor = "apple",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
pub(super) fn of(_: BorrowedFd<'_>) -> Option<PeerCredentials> {
    None
}
