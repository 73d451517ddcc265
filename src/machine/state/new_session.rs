//! Begins the TLS session of a connection.

use super::super::Actions;
use super::super::tls::{Session, Summary};
use crate::tls::{Failure, TlsSetup};

/// Creates the session of a connection, which sends `preface` in plaintext first. If it may run the program's code, the
/// driver begins it without the lock.
pub(super) fn new_session(setup: TlsSetup, preface: &[u8]) -> Result<Box<Session>, Failure> {
    match setup.runs_foreign_code() {
        true => Ok(Session::to_begin(setup, preface)),
        false => Session::new(&setup, preface),
    }
}

/// Like [`new_session`]. The session goes through `outer`, if there is one.
///
/// # Errors
/// The remains, with the failure.
pub(super) fn new_session_through(
    outer: Option<Box<Session>>,
    setup: TlsSetup,
    preface: &[u8],
) -> Result<Box<Session>, Box<Summary>> {
    match (new_session(setup, preface), outer) {
        (Ok(session), None) => Ok(session),
        (Ok(session), Some(outer)) => Ok(session.through(outer)),
        (Err(failure), None) => Err(Box::new(Summary::of(failure))),
        (Err(failure), Some(mut outer)) => {
            outer.close_notify();
            Err(Box::new(Summary { failure: Some(failure), ..outer.into_summary() }))
        }
    }
}

/// Requests the actions that start a handshake: to begin it without the lock, or to send the first message.
pub(super) fn start_handshake(session: &Session, actions: &mut Actions) {
    if session.awaits_begin() {
        actions.begin_handshake = true;
        // A preface goes out although the program's code may take its time.
        actions.transmit = !session.is_flushed();
    } else {
        actions.transmit = true;
        actions.drive_recv = true;
    }
}

/// Keeps an unused setup for the driver to drop, if dropping may run the program's code.
pub(super) fn discard_setup(setup: Option<TlsSetup>) -> Option<Box<Summary>> {
    setup.as_ref().filter(|setup| setup.runs_foreign_code())?;
    let mut summary = Summary::default();
    summary.discard_setup(setup);
    Some(Box::new(summary))
}
