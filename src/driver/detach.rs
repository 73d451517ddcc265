//! Connections that somebody else goes on with: to the streams of `std`.
//!
//! The connection changes hands as in an upgrade, under one lock and with nobody at the wire, and this side
//! keeps nothing of it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::deeds::ActionSet;
use super::errno::os_code;
use super::shared::{Connection, ConnectionState};
use super::{Command, LoopHandle, Urgency, clock};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Input, Refusal};

/// What the socket says that is left.
const DETACHED_MESSAGE: &str =
    "the connection was detached: the stream that detach returned has it";

impl Connection {
    /// Gives the connection away as it is.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<TcpStream> {
        self.check_process()?;
        let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        let state = self.state();
        state.check_detachable()?;
        let kept = state.wire.cloned().expect("an open connection has a wire");
        drop(state);
        // While it can fail nothing is changed, and no call is made under the lock.
        let stream = kept.duplicate().map_err(failed)?;
        let mut state = self.state();
        state.check_detachable()?;
        let now = clock::now();
        // It calls off who is at the wire, and nobody is.
        drop(state.machine.handle(Input::StartTls, now));
        let actions = ActionSet::collect(state.machine.handle(Input::HandOver, now));
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
                // To close one descriptor of two does not do it.
                wire.deregister(loop_handle.registry());
                loop_handle.post(Command::DropTokens(vec![token]), Urgency::Soon);
            }
        }
        // A brisk dialogue leaves one behind.
        #[cfg(target_os = "linux")]
        stream.set_read_timeout(None).map_err(failed)?;
        stream.set_nonblocking(false).map_err(failed)?;
        Ok(stream)
    }
}

impl ConnectionState {
    fn check_detachable(&self) -> Result<()> {
        let busy = self.recv.turn_held
            || self.send.turn_held
            || self.upgrading
            || self.writers_waiting > 0;
        let message = match self.machine.refuses_upgrade() {
            _ if self.is_opening() => "the connection is still being made",
            None if busy || self.machine.is_received_from() => {
                "another thread reads, writes or upgrades"
            }
            None => return Ok(()),
            Some(Refusal::Secure) => "the connection is TLS, which a plain stream knows nothing of",
            Some(Refusal::Upgraded) => return Err(self.error_for(Fault::Upgraded)),
            Some(Refusal::HalfClosed) => "this side has ended its writing",
            Some(Refusal::Cancelled) => "reading was cancelled",
            Some(Refusal::PeerEnded) => "the peer has ended the connection",
            Some(Refusal::Closed) => "this side has closed the socket",
            Some(Refusal::Failed(fault)) => return Err(self.error_for(fault)),
        };
        let message = format!("the connection can't be detached: {message}");
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }
}
