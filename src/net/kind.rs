//! The kinds that errors of `std` have, because callers match on them.

use std::io;

use crate::error::{Error, ErrorKind};

/// The call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write,
}

/// Gives the error of a read or write the kind that `std` has on this system.
#[cold]
pub(super) fn as_in_std(error: io::Error, call: Call) -> io::Error {
    let Some(inner) = Error::from_io(&error) else { return error };
    match kind(inner, call) {
        Some(kind) => io::Error::new(kind, inner.clone()),
        None => error,
    }
}

/// Returns the kind in `std` if it differs.
fn kind(error: &Error, call: Call) -> Option<io::ErrorKind> {
    match (error.kind(), call) {
        // SO_RCVTIMEO and SO_SNDTIMEO report EAGAIN.
        (ErrorKind::TimedOut, _) if error.is_retryable() && cfg!(unix) => {
            Some(io::ErrorKind::WouldBlock)
        }
        // EPIPE: this side has ended.
        (ErrorKind::Closed, Call::Write) => Some(io::ErrorKind::BrokenPipe),
        // The system's own reason, such as ETIMEDOUT.
        (ErrorKind::Lost, _) => {
            let source = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
            Some(source.kind())
        }
        _ => None,
    }
}
