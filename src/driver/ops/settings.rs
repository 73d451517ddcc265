//! Settings that the user can read back or change while the socket lives.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::connection::{CallLimit, Connection};
use crate::driver::sys::errno::{is_reset, os_code};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::info::Phase;

impl Connection {
    pub(crate) fn timeout(&self, side: Side) -> Option<Duration> {
        self.present_call_limit(side).timeout
    }

    pub(crate) fn deadline(&self, side: Side) -> Option<Instant> {
        self.present_call_limit(side).deadline
    }

    fn present_call_limit(&self, side: Side) -> CallLimit {
        self.try_state().map_or_else(CallLimit::default, |state| state.call_limit(side))
    }

    pub(crate) fn set_busy_poll(&self, limit: Option<Duration>) -> Result<()> {
        self.check_process()?;
        self.state_soon().extras.set_busy_poll(limit);
        Ok(())
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> Result<()> {
        self.with_wire(|wire| wire.set_nodelay(on))
    }

    pub(crate) fn nodelay(&self) -> Result<bool> {
        self.with_wire(Wire::nodelay)
    }

    /// Makes a system call on the wire, without the lock.
    fn with_wire<R>(&self, call: impl FnOnce(&Wire) -> io::Result<R>) -> Result<R> {
        self.check_process()?;
        if self.requested().is_unix() {
            let message = "a Unix-domain socket has no TCP_NODELAY";
            return Err(Error::with_message(ErrorKind::InvalidState, message));
        }
        let wire = self.established_wire()?;
        call(&wire).map_err(|error| self.option_error(&wire, &error))
    }

    /// Returns the error of a failed system call for an option. Apple's systems reject all options of a connection that
    /// was reset, also before a read or write has seen the reset.
    #[cold]
    fn option_error(&self, wire: &Wire, error: &io::Error) -> Error {
        let was_reset = is_reset(error) || wire.has_hung_up();
        let state = self.state();
        if let Err(cause) = state.check_failed() {
            return cause;
        }
        Error::from_fault(if was_reset && state.machine.is_write_open() {
            Fault::Reset(None)
        } else {
            Fault::Io(os_code(error))
        })
    }

    fn established_wire(&self) -> Result<Arc<Wire>> {
        let state = self.state_soon();
        let message = if state.machine.phase() == Phase::Connecting {
            "the socket is still connecting"
        } else if let Some(wire) = state.wire.cloned() {
            return Ok(wire);
        } else {
            "the socket has no connection any more"
        };
        Err(Error::with_message(ErrorKind::InvalidState, message))
    }
}
