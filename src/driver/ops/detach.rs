//! Turns a socket back into a `TcpStream` of `std`.
//!
//! The connection changes hands as in an upgrade: under one lock and while no thread is at the wire. The socket keeps
//! no part of it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use crate::driver::connection::transfer::NewOwner;
use crate::driver::connection::{Connection, ConnectionState};
use crate::driver::sys::clock;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::socket::make_blocking;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Input, UpgradeError};

impl Connection {
    /// Detaches the connection as it is.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<TcpStream> {
        self.check_process()?;
        if self.requested().is_unix() {
            let message = "cannot detach: a Unix-domain socket is no TcpStream";
            return Err(Error::with_message(ErrorKind::InvalidState, message));
        }
        let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        let state = self.state();
        state.check_detachable()?;
        let kept = state.wire.cloned().expect("an open connection has a wire");
        drop(state);
        // Every call that can fail comes before the state changes, so that a failure loses nothing.
        let stream = kept.duplicate().map_err(failed)?;
        let mut state = self.state();
        state.check_detachable()?;
        // Under the lock, because no thread may be at the wire of this open file.
        make_blocking(&stream).map_err(failed)?;
        let actions = state.machine.handle(Input::Detach, clock::now());
        let taken = state.take_wire();
        drop(self.apply(state, actions));
        drop(self.transfer(taken, NewOwner::Caller));
        Ok(stream)
    }
}

impl ConnectionState {
    fn check_detachable(&self) -> Result<()> {
        let busy = self.recv.turn.is_held()
            || self.send.turn.is_held()
            || self.error_probe
            || self.is_upgrading()
            || self.writers_waiting > 0;
        let message = match self.machine.upgrade_error() {
            _ if self.is_opening() => "the socket is still connecting",
            None if self.machine.is_tls() => {
                "the connection to the proxy uses TLS, which a plain stream cannot continue"
            }
            None if busy || self.machine.recv_in_flight() => {
                "another thread is reading, writing or upgrading"
            }
            None => return Ok(()),
            Some(UpgradeError::AlreadyTls) => {
                "the connection uses TLS, which a plain stream cannot continue"
            }
            Some(UpgradeError::Upgraded) => return Err(self.error_for(Fault::Upgraded)),
            Some(UpgradeError::Detached) => return Err(self.error_for(Fault::Detached)),
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
