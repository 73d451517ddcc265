//! Maps errno values to their meaning: a failure of the connection, or only of one system call.
//!
//! The arguments of the crate's system calls are valid: slices are bounded, and flags and options are fixed. So an
//! errno that could be about the arguments has only the meaning in this table:
//!
//! | errno | call | means |
//! |---|---|---|
//! | EINTR | all | make the call again |
//! | EPROTOTYPE | send | make the call again: xnu returns it while it takes a connection down |
//! | EAGAIN, EWOULDBLOCK | recv, send | wait |
//! | EFAULT | recv, send | this call: the caller's memory is gone, for example because a mapped file was truncated |
//! | EMSGSIZE | recv, send | this call: the length, which does not matter to a stream |
//! | ENOBUFS | send, not on Linux | wait for a moment: poll(2) does not report when there is memory |
//! | ENOBUFS, ENOMEM | recv, send, getsockopt | this call: memory is short for a moment |
//! | EINVAL | recv, send | the connection is lost: the kernel gave up, and this was the last error on the path |
//! | ECONNRESET, ECONNABORTED, EPIPE | recv, send | a reset |
//! | ETIMEDOUT, errors from ICMP and routing | recv, send | the connection is lost |
//! | any other | recv, send | the connection: its descriptor cannot be used |
//! | any | poll | nothing: the caller waits for the event loop, which uses epoll |
//! | any | getsockopt, if it fails itself | nothing, unless the rows above say that it is the connection |
//! | any | shutdown, setsockopt of a timeout, fcntl | nothing: the next recv or send reports a broken connection |
//! | EINTR, EINPROGRESS | connect | the attempt is in progress |
//! | EMFILE, ENFILE, ENOBUFS, ENOMEM | socket, connect | this side lacks a resource: retried, and the address is not blamed |
//! | any other | setsockopt of an option that the program set, before connect or listen | the attempt or the listener failed, and the address is not blamed |
//! | any other | socket, bind, connect | the attempt failed |
//! | EMFILE, ENFILE, ENOBUFS, ENOMEM | accept | this side lacks a resource: retried later |
//! | EAGAIN | accept | wait |
//! | EBADF, EINVAL, ENOTSOCK, EFAULT | accept | the listener is over |
//! | any other | accept | that connection was gone before it was taken: the next one is tried, after a pause if there are many |
//! | any | epoll\_ctl | retried later, unless a caller waits for the event loop: it would wait forever. A thread that waits for a connection tries again |

use std::{fmt, io};

use crate::error::{Fault, TcpOption};

/// The meaning of a failed receive or send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A signal interrupted the call. Make it again.
    Interrupted,
    /// The call would block.
    WouldBlock,
    /// Only this call failed, because of its arguments or for lack of memory. The connection is intact.
    Call(Fault),
    /// The connection failed.
    Connection(Fault),
}

/// Classifies the failure of a system call on an established connection.
#[cold]
pub(crate) fn classify(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::Interrupted,
        io::ErrorKind::WouldBlock => Failure::WouldBlock,
        _ if is_passing(os_code(error)) => Failure::Interrupted,
        _ if is_call_error(os_code(error)) => Failure::Call(Fault::Io(os_code(error))),
        _ => Failure::Connection(fault_from_io(error)),
    }
}

/// Returns the fault for an error of an established connection.
pub(crate) fn fault_from_io(error: &io::Error) -> Fault {
    let code = os_code(error);
    match error.kind() {
        _ if is_loss(code) => Fault::Lost(code),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Fault::Reset(Some(code)),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Fault::Lost(code),
        _ => Fault::Io(code),
    }
}

/// Returns whether the system says that the peer has reset the connection.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

/// Returns the fault for a failed attempt. If this side lacks a resource, the fault is `Io` and does not blame the
/// address.
pub(crate) fn fault_from_connect(error: &io::Error) -> Fault {
    let unset = unset_option(error);
    match (os_code(unset.map_or(error, |unset| &unset.error)), unset) {
        (code, _) if is_resource_exhaustion(code) => Fault::Io(code),
        (code, Some(unset)) => Fault::Option(unset.option, code),
        (code, None) => Fault::Connect(code),
    }
}

/// Returns the fault of an existing socket that could not be configured.
pub(crate) fn fault_from_setup(error: &io::Error) -> Fault {
    match unset_option(error) {
        Some(UnsetOption { option, error }) => Fault::Option(*option, os_code(error)),
        None => Fault::Io(os_code(error)),
    }
}

/// An option that the operating system did not set.
#[derive(Debug)]
pub(crate) struct UnsetOption {
    pub(crate) option: TcpOption,
    pub(crate) error: io::Error,
}

impl fmt::Display for UnsetOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option.message(), self.error)
    }
}

impl std::error::Error for UnsetOption {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

fn unset_option(error: &io::Error) -> Option<&UnsetOption> {
    error.get_ref()?.downcast_ref()
}

/// The meaning of a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// No connection is complete.
    WouldBlock,
    /// A connection was gone before it was taken, or a firewall forbids it.
    ClientGone(Fault),
    /// Descriptors or memory ran out.
    Exhausted(Fault),
    /// The listener is over.
    Listener(Fault),
}

/// Classifies the failure of accept(2), which may report an error of the connection that it should return.
#[cold]
pub(crate) fn classify_accept(error: &io::Error) -> AcceptFailure {
    let code = os_code(error);
    match error.kind() {
        io::ErrorKind::WouldBlock => AcceptFailure::WouldBlock,
        _ if is_resource_exhaustion(code) => AcceptFailure::Exhausted(Fault::Io(code)),
        _ if is_listener_error(code) => AcceptFailure::Listener(Fault::Io(code)),
        _ => AcceptFailure::ClientGone(Fault::Io(code)),
    }
}

/// Returns whether connect(2) failed although the attempt is in progress. An interrupted connect continues
/// asynchronously.
#[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model connects by itself"))]
pub(crate) fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
    #[cfg(not(unix))]
    let in_progress = error.kind() == io::ErrorKind::WouldBlock;
    in_progress || error.kind() == io::ErrorKind::Interrupted
}

/// Returns whether the pending error means a reset after the peer's FIN. Linux reports EPIPE for that. Other kernels
/// report the reset itself, and none has EPIPE pending for another reason.
pub(crate) fn is_reset_after_eof(latched: &io::Error) -> bool {
    latched.kind() == io::ErrorKind::BrokenPipe
}

/// Returns the system's error for a lock that would deadlock.
pub(crate) fn deadlock_error() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::DEADLK.into();
    #[cfg(not(unix))]
    io::ErrorKind::Deadlock.into()
}

/// Returns whether an error says that a descriptor is not a socket.
pub(crate) fn is_not_a_socket(error: &io::Error) -> bool {
    #[cfg(unix)]
    return os_code(error) == rustix::io::Errno::NOTSOCK.raw_os_error();
    // `WSAENOTSOCK`.
    #[cfg(not(unix))]
    return os_code(error) == 10_038;
}

/// Returns the errno of an error, or 0 if it did not come from a system call.
pub(crate) fn os_code(error: &io::Error) -> i32 {
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

/// Returns whether a send failed because the kernel has no memory for a moment, and sends later. Linux instead waits in
/// the call, and such an error there is about this call.
pub(crate) fn is_send_shortage(error: &io::Error) -> bool {
    #[cfg(all(unix, any(sockeye_bsd, not(any(target_os = "linux", target_os = "android")))))]
    return os_code(error) == rustix::io::Errno::NOBUFS.raw_os_error();
    #[cfg(not(all(unix, any(sockeye_bsd, not(any(target_os = "linux", target_os = "android"))))))]
    {
        let _ = error;
        false
    }
}

/// Returns whether an errno says that the same call will soon have another result.
#[cfg(unix)]
fn is_passing(code: i32) -> bool {
    is_one_of(code, &[rustix::io::Errno::PROTOTYPE])
}

#[cfg(not(unix))]
fn is_passing(_code: i32) -> bool {
    false
}

/// Returns whether an errno reports an error on the path to the peer. When retransmission gives up, the kernel reports
/// the last ICMP or routing error instead of ETIMEDOUT. No call on an established connection fails with these
/// otherwise.
#[cfg(unix)]
fn is_loss(code: i32) -> bool {
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

/// `WSAENETDOWN`, `WSAENETUNREACH`, `WSAENETRESET` (a keepalive without an answer), `WSAECONNABORTED` (this side gave up
/// retransmitting), `WSAEHOSTDOWN`.
#[cfg(not(unix))]
fn is_loss(code: i32) -> bool {
    matches!(code, 10_050 | 10_051 | 10_052 | 10_053 | 10_064)
}

/// Returns whether an errno of accept(2) is about the listener, and not about a connection.
#[cfg(unix)]
fn is_listener_error(code: i32) -> bool {
    use rustix::io::Errno;
    is_one_of(code, &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT])
}

/// `WSAEBADF`, `WSAEFAULT`, `WSAEINVAL`, `WSAENOTSOCK`, `WSANOTINITIALISED`.
#[cfg(not(unix))]
fn is_listener_error(code: i32) -> bool {
    matches!(code, 10_009 | 10_014 | 10_022 | 10_038 | 10_093)
}

/// Returns whether an errno says that this side lacks a resource.
#[cfg(unix)]
pub(crate) fn is_resource_exhaustion(code: i32) -> bool {
    use rustix::io::Errno;
    is_one_of(code, &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS])
}

/// `ERROR_NOT_ENOUGH_MEMORY`, `WSAEMFILE`, `WSAENOBUFS`.
#[cfg(not(unix))]
pub(crate) fn is_resource_exhaustion(code: i32) -> bool {
    matches!(code, 8 | 10_024 | 10_055)
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn recv_and_send_errnos_concern_either_the_call_or_the_connection() {
        let connection = |fault: fn(i32) -> Fault| {
            move |errno: Errno| Failure::Connection(fault(errno.raw_os_error()))
        };
        let call = |errno: Errno| Failure::Call(Fault::Io(errno.raw_os_error()));
        check(&[Errno::INTR, Errno::PROTOTYPE], |_| Failure::Interrupted);
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
    fn an_interrupted_connect_is_in_progress_and_a_missing_descriptor_does_not_blame_the_address() {
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

    /// The list of accept(2), and two errors that it leaves out.
    #[test]
    fn a_failed_accept_concerns_a_client_a_resource_or_the_listener() {
        let code = Errno::raw_os_error;
        let check = |errnos: &[Errno], expected: &dyn Fn(Errno) -> AcceptFailure| {
            for &errno in errnos {
                let error = io::Error::from_raw_os_error(errno.raw_os_error());
                assert_eq!(classify_accept(&error), expected(errno), "{errno:?}");
            }
        };
        check(&[Errno::AGAIN], &|_| AcceptFailure::WouldBlock);
        check(
            &[
                Errno::CONNABORTED,
                Errno::PROTO,
                Errno::NETDOWN,
                Errno::NOPROTOOPT,
                Errno::HOSTDOWN,
                Errno::HOSTUNREACH,
                Errno::OPNOTSUPP,
                Errno::NETUNREACH,
                Errno::PERM,
                Errno::TIMEDOUT,
            ],
            &|errno| AcceptFailure::ClientGone(Fault::Io(code(errno))),
        );
        #[cfg(target_os = "linux")]
        check(&[Errno::NONET], &|errno| AcceptFailure::ClientGone(Fault::Io(code(errno))));
        check(&[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM], &|errno| {
            AcceptFailure::Exhausted(Fault::Io(code(errno)))
        });
        check(&[Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::FAULT], &|errno| {
            AcceptFailure::Listener(Fault::Io(code(errno)))
        });
    }

    #[track_caller]
    fn check(errnos: &[Errno], expected: impl Fn(Errno) -> Failure) {
        for &errno in errnos {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(classify(&error), expected(errno), "{errno:?}");
        }
    }
}

#[cfg(all(test, windows))]
mod windows_tests {
    use super::*;

    #[test]
    fn a_loss_is_no_reset_by_the_peer() {
        let meaning = |code| classify(&io::Error::from_raw_os_error(code));
        for code in [10_050, 10_051, 10_052, 10_053, 10_060, 10_064, 10_065] {
            assert_eq!(meaning(code), Failure::Connection(Fault::Lost(code)), "{code}");
        }
        // `WSAECONNRESET`.
        assert_eq!(meaning(10_054), Failure::Connection(Fault::Reset(Some(10_054))));
        for code in [8, 10_014, 10_040, 10_055] {
            assert_eq!(meaning(code), Failure::Call(Fault::Io(code)), "{code}");
        }
        assert_eq!(meaning(10_035), Failure::WouldBlock);
    }
}
