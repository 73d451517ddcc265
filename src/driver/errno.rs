//! What the failure of a system call on an established connection means: something of the connection, or of
//! this one call only.
//!
//! The arguments of the crate's calls are sound: the slices are bounded, the flags and options fixed. So
//! where an errno could be about the arguments, it is told apart by what is left:
//!
//! | errno | call | means |
//! |---|---|---|
//! | EINTR | all | make the call again |
//! | EAGAIN, EWOULDBLOCK | recv, send | wait |
//! | EFAULT | recv, send | the caller's memory is gone, as where a mapped file was cut: this call |
//! | EMSGSIZE | recv, send | this call: no stream takes offence at a length |
//! | ENOBUFS, ENOMEM | recv, send, getsockopt | memory is short for a moment: this call |
//! | EINVAL | recv, send | what the system latched when it gave the peer up: the connection is lost |
//! | ECONNRESET, ECONNABORTED, EPIPE | recv, send | a reset |
//! | ETIMEDOUT, what ICMP and routes tell | recv, send | the connection is lost |
//! | any other | recv, send | the connection: its descriptor can't be used |
//! | any | poll | nothing of the connection: the caller waits for the loop, which asks epoll |
//! | any | getsockopt that itself fails | nothing, unless the table above says that it is the connection |
//! | any | shutdown, setsockopt of a timeout, fcntl | nothing: what is broken shows at the next recv or send |
//! | EINTR, EINPROGRESS | connect | the attempt is under way |
//! | EMFILE, ENFILE, ENOBUFS, ENOMEM | socket, connect | this side is short of something: tried again, not the address |
//! | any other | socket, bind, connect | the attempt has failed |
//! | any | epoll\_ctl | tried again later, except where somebody waits for the loop: they would for ever |

use std::io;

use crate::error::Fault;

/// What a failed receive or send means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was interrupted: make it again.
    Interrupted,
    /// It would block.
    WouldBlock,
    /// This call failed, by its own arguments or for want of memory. The connection stands.
    Call(Fault),
    /// The connection failed.
    Connection(Fault),
}

/// Judges the failure of a call on an established connection.
#[cold]
pub(super) fn classify(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::Interrupted,
        io::ErrorKind::WouldBlock => Failure::WouldBlock,
        _ if is_call_error(os_code(error)) => Failure::Call(Fault::Io(os_code(error))),
        _ => Failure::Connection(fault_from_io(error)),
    }
}

/// What an error that is about an established connection means.
pub(super) fn fault_from_io(error: &io::Error) -> Fault {
    let code = os_code(error);
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Fault::Reset(Some(code)),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Fault::Lost(code),
        _ if is_path_error(code) => Fault::Lost(code),
        _ => Fault::Io(code),
    }
}

/// What an attempt failed by. One that failed for want of something on this side says nothing of the address.
pub(super) fn fault_from_connect(error: &io::Error) -> Fault {
    let code = os_code(error);
    if is_resource_exhaustion(code) { Fault::Io(code) } else { Fault::Connect(code) }
}

/// Whether an attempt is under way. One that was interrupted goes on by itself.
pub(super) fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
    #[cfg(not(unix))]
    let in_progress = error.kind() == io::ErrorKind::WouldBlock;
    in_progress || error.kind() == io::ErrorKind::Interrupted
}

/// What the system latches for a reset that came after the peer's end, and not in its place.
pub(super) fn is_reset_after_eof(latched: &io::Error) -> bool {
    cfg!(target_os = "linux") && latched.kind() == io::ErrorKind::BrokenPipe
}

/// The system's number of an error that came from a system call.
pub(super) fn os_code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}

#[cfg(unix)]
fn is_one_of(code: i32, errnos: &[rustix::io::Errno]) -> bool {
    errnos.iter().any(|errno| errno.raw_os_error() == code)
}

#[cfg(unix)]
fn is_call_error(code: i32) -> bool {
    use rustix::io::Errno;
    is_one_of(code, &[Errno::FAULT, Errno::MSGSIZE, Errno::NOBUFS, Errno::NOMEM])
}

/// `ERROR_NOT_ENOUGH_MEMORY`, `WSAEFAULT`, `WSAEMSGSIZE`, `WSAENOBUFS`.
#[cfg(not(unix))]
fn is_call_error(code: i32) -> bool {
    matches!(code, 8 | 10_014 | 10_040 | 10_055)
}

/// When the system gives a peer up it tells what it heard last on the way there, from ICMP or from its
/// own routes, in place of a time-out. No call on an established connection fails with these otherwise.
#[cfg(unix)]
fn is_path_error(code: i32) -> bool {
    use rustix::io::Errno;
    let heard = [
        Errno::CONNREFUSED,
        Errno::ACCESS,
        Errno::INVAL,
        Errno::NETDOWN,
        Errno::HOSTDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
    ];
    is_one_of(code, &heard)
}

#[cfg(not(unix))]
fn is_path_error(_code: i32) -> bool {
    false
}

/// Whether a code says that this side was short of something.
#[cfg(unix)]
pub(super) fn is_resource_exhaustion(code: i32) -> bool {
    use rustix::io::Errno;
    is_one_of(code, &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS])
}

/// `ERROR_NOT_ENOUGH_MEMORY`, `WSAEMFILE`, `WSAENOBUFS`.
#[cfg(not(unix))]
pub(super) fn is_resource_exhaustion(code: i32) -> bool {
    matches!(code, 8 | 10_024 | 10_055)
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn each_errno_of_a_receive_or_a_send_is_of_the_call_or_of_the_connection() {
        let connection = |fault: fn(i32) -> Fault| {
            move |errno: Errno| Failure::Connection(fault(errno.raw_os_error()))
        };
        let call = |errno: Errno| Failure::Call(Fault::Io(errno.raw_os_error()));
        check(&[Errno::INTR], |_| Failure::Interrupted);
        check(&[Errno::AGAIN, Errno::WOULDBLOCK], |_| Failure::WouldBlock);
        check(&[Errno::FAULT, Errno::MSGSIZE, Errno::NOBUFS, Errno::NOMEM], call);
        check(
            &[Errno::CONNRESET, Errno::CONNABORTED, Errno::PIPE],
            connection(|code| Fault::Reset(Some(code))),
        );
        check(
            &[
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NETUNREACH,
                Errno::NETDOWN,
                Errno::HOSTDOWN,
                Errno::CONNREFUSED,
                Errno::ACCESS,
                Errno::INVAL,
                Errno::PROTO,
                Errno::NOPROTOOPT,
                Errno::OPNOTSUPP,
            ],
            connection(Fault::Lost),
        );
        check(
            &[Errno::BADF, Errno::NOTSOCK, Errno::NOTCONN, Errno::IO, Errno::PERM],
            connection(Fault::Io),
        );
    }

    #[test]
    fn an_attempt_that_is_interrupted_is_under_way_and_one_without_a_descriptor_says_nothing() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for (errno, pending) in [
            (Errno::INPROGRESS, true),
            (Errno::INTR, true),
            (Errno::CONNREFUSED, false),
            (Errno::MFILE, false),
        ] {
            assert_eq!(is_in_progress(&error(errno)), pending, "{errno:?}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let code = errno.raw_os_error();
            assert_eq!(fault_from_connect(&error(errno)), Fault::Io(code), "{errno:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::INVAL, Errno::NETUNREACH, Errno::ADDRNOTAVAIL] {
            let code = errno.raw_os_error();
            assert_eq!(fault_from_connect(&error(errno)), Fault::Connect(code), "{errno:?}");
        }
    }

    #[track_caller]
    fn check(errnos: &[Errno], expected: impl Fn(Errno) -> Failure) {
        for &errno in errnos {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(classify(&error), expected(errno), "{errno:?}");
        }
    }
}
