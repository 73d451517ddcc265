//! Moves bytes between wires inside the kernel, through a pipe: splice(2) of Linux. Other systems have no such call for
//! two sockets, and there a pipe cannot be made.
//!
//! splice(2) has no flags for one call that prevent a wait or SIGPIPE. So the descriptors are kept non-blocking, and the
//! thread blocks the signal during its calls.

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
mod linux;
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
)))]
mod none;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
pub(crate) use self::linux::{BlockedSigpipe, Pipe};
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
)))]
pub(crate) use self::none::{BlockedSigpipe, Pipe};
