//! Connections that somebody else goes on with: to the streams of `std`.
//!
//! The connection changes hands as in an upgrade, under one lock and with nobody at the wire, and this side
//! keeps nothing of it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::deeds::Deeds;
use super::errno::code;
use super::shared::{Core, Shared};
use super::{Driver, Job, Urgency, clock};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Input, Refusal};

/// What the socket says that is left.
const DETACHED: &str = "the connection was detached: the stream that detach returned has it";

impl Shared {
    /// Gives the connection away as it is.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<TcpStream> {
        self.check_process()?;
        let failed = |error: io::Error| Error::from_fault(Fault::Io(code(&error)));
        let core = self.lock();
        core.may_detach()?;
        let kept = core.wire.cloned().expect("an open connection has a wire");
        drop(core);
        // While it can fail nothing is changed, and no call is made under the lock.
        let stream = kept.duplicate().map_err(failed)?;
        let mut core = self.lock();
        core.may_detach()?;
        let now = clock::now();
        // It calls off who is at the wire, and nobody is.
        drop(core.machine.handle(Input::StartTls, now));
        let deeds = Deeds::of(core.machine.handle(Input::HandOver, now));
        core.error = Some(Error::with_message(ErrorKind::Upgraded, DETACHED));
        let wire = core.wire.take();
        let registration = core.registration.take();
        let spot = core.take_spot();
        drop(self.settle(core, deeds));
        if let Ok(driver) = Driver::running() {
            if let Some(spot) = spot {
                driver.young().remove(spot, self);
            }
            if let (Some(token), Some(wire)) = (registration, &wire) {
                // To close one descriptor of two does not do it.
                wire.deregister(driver.registry());
                driver.post(Job::Forget(vec![token]), Urgency::Soon);
            }
        }
        // A brisk dialogue leaves one behind.
        #[cfg(target_os = "linux")]
        stream.set_read_timeout(None).map_err(failed)?;
        stream.set_nonblocking(false).map_err(failed)?;
        Ok(stream)
    }
}

impl Core {
    fn may_detach(&self) -> Result<()> {
        let busy = self.reading.busy || self.writing.busy || self.claimed || self.queued > 0;
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
