//! The state of a connection while it is being established.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Acceptance;
use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connect::thread_pool::LookupQuota;
use crate::driver::event_loop::LoopHandle;
use crate::driver::event_loop::source::LoopTicket;
use crate::egress::EgressRules;
use crate::error::{Fault, LookupError, TimerKind};
use crate::options::TcpOptions;
use crate::proxy::Proxy;
use crate::resolver::Resolver;
use crate::unix::UnixAddress;

/// State that is needed only while the event loop has bounded work for a socket: connecting, the handshake, or
/// sending the remaining data.
#[derive(Default)]
pub(crate) struct Establishing {
    /// Socket options for dialling.
    pub(crate) tcp: TcpOptions,
    /// Existing connection, which replaces all dialling.
    pub(crate) adopted: Option<AdoptedStream>,
    /// Addresses that replace the result of the lookup.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    /// The Unix-domain address to dial.
    pub(crate) unix: Option<UnixAddress>,
    /// Egress rules for the one check of an address that only the kernel can answer.
    pub(crate) egress: Option<Arc<EgressRules>>,
    /// Proxy through which the socket connects.
    pub(crate) proxy: Option<Proxy>,
    /// Ticket of the attempts and the timer. `None` means that the event loop has neither.
    pub(crate) ticket: Option<LoopTicket>,
    /// Number of attempts that the event loop watches. It may be too high by the attempts that were cancelled alone.
    pub(crate) attempts: u16,
    /// Time at which the event loop fires the machine's timer.
    pub(crate) timer: Option<Instant>,
    /// Resolver; `None` means that of the operating system.
    pub(crate) resolver: Option<Arc<dyn Resolver>>,
    pub(crate) lookup: LookupProgress,
    /// Whether a resolver thread requested the connection.
    pub(crate) is_nested: bool,
    /// Limit on the lookups of the connector; `Some` if the machine may want a lookup.
    pub(crate) lookup_quota: Option<Arc<LookupQuota>>,
    /// Reason why the name did not resolve.
    pub(crate) lookup_error: Option<LookupError>,
    /// The listener that waits until the socket is open.
    pub(crate) acceptance: Option<Weak<dyn Acceptance>>,
}

/// Progress of a name's lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LookupProgress {
    /// No lookup was requested, or it waits for a thread.
    #[default]
    Queued,
    /// A thread is working on it.
    Started,
}

impl Establishing {
    /// Returns the ticket. Takes one if there is none, because the event loop is about to need it.
    pub(crate) fn ticket(&mut self) -> Option<LoopTicket> {
        if self.ticket.is_none() {
            self.ticket = LoopHandle::get_if_started().map(LoopHandle::new_ticket);
        }
        self.ticket
    }

    /// Returns whether dropping the proxy may run the program's code.
    pub(crate) fn holds_foreign_proxy(&self) -> bool {
        self.proxy.as_ref().is_some_and(Proxy::holds_foreign_code)
    }

    /// Distinguishes a timeout during a lookup from one that passed before the lookup began.
    pub(crate) fn refine_fault(&self, fault: Fault) -> Fault {
        match (fault, self.lookup) {
            (Fault::TimedOut(TimerKind::Lookup), progress)
                if progress != LookupProgress::Started =>
            {
                Fault::TimedOut(TimerKind::LookupQueue)
            }
            _ => fault,
        }
    }
}

impl fmt::Debug for Establishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Establishing").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
