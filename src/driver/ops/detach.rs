//! Turns a socket back into a `TcpStream` of `std`.
//!
//! The connection changes hands as in an upgrade: under one lock and while no thread is at the wire. The socket keeps
//! no part of it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use crate::driver::connection::{Connection, ConnectionState};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::socket::make_blocking;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Input, UpgradeError};

/// Message of the socket's later errors.
const DETACHED_MESSAGE: &str = "the connection was detached: use the stream that detach returned";

impl Connection {
    /// Detaches the connection as it is.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<TcpStream> {
        self.check_process()?;
        let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        let state = self.state();
        state.check_detachable()?;
        let kept = state.wire.cloned().expect("an open connection has a wire");
        drop(state);
        // Every call that can fail comes before the state changes, and none runs under the lock.
        let stream = kept.duplicate().map_err(failed)?;
        let mut state = self.state();
        state.check_detachable()?;
        let now = clock::now();
        // Tells the users of the wire to leave it; there are none.
        drop(state.machine.handle(Input::StartTls, now));
        let actions = state.machine.handle(Input::UpgradeReady, now);
        state.error = Some(Error::with_message(ErrorKind::Upgraded, DETACHED_MESSAGE));
        let wire = state.wire.take();
        let token = state.token.take();
        let idle_slot = state.take_idle_slot();
        drop(self.apply(state, actions));
        if let Ok(loop_handle) = LoopHandle::get() {
            if let Some(idle_slot) = idle_slot {
                loop_handle.idle_list().remove(idle_slot, self);
            }
            if let (Some(token), Some(wire)) = (token, &wire) {
                // Closing one of two descriptors does not deregister the wire.
                wire.deregister(loop_handle.registry());
                loop_handle.post(Command::DropTokens(vec![token]), Urgency::Soon);
            }
        }
        make_blocking(&stream).map_err(failed)?;
        Ok(stream)
    }
}

impl ConnectionState {
    fn check_detachable(&self) -> Result<()> {
        let busy = self.recv.turn_held
            || self.send.turn_held
            || self.upgrading
            || self.writers_waiting > 0;
        let message = match self.machine.upgrade_error() {
            _ if self.is_opening() => "the socket is still connecting",
            None if busy || self.machine.recv_in_flight() => {
                "another thread is reading, writing or upgrading"
            }
            None => return Ok(()),
            Some(UpgradeError::AlreadyTls) => {
                "the connection uses TLS, which a plain stream cannot continue"
            }
            Some(UpgradeError::Upgraded) => return Err(self.error_for(Fault::Upgraded)),
            Some(UpgradeError::HalfClosed) => "the write side is closed",
            Some(UpgradeError::ReadCancelled) => "reading was cancelled",
            Some(UpgradeError::PeerEnded) => "the peer has closed its write side",
            Some(UpgradeError::Closed) => "this side has closed the socket",
            Some(UpgradeError::Failed(fault)) => return Err(self.error_for(fault)),
        };
        let message = format!("cannot detach: {message}");
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }
}
