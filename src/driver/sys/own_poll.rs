//! The epoll(7) of one poller, in which the waiting thread itself sees what the kernel reports.
//!
//! One thread at a time has the [`OwnPoll`] and waits in it. All threads share the [`Registrations`]. Events are
//! edge-triggered, and the first one of a registration reports the present state.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::sync::mio::event::Event;
use super::sync::mio::{Events, Interest, Poll, Registry, Token, Waker};
use super::wire::Wire;
use crate::poll::Ready;

/// Whether pollers have an epoll(7) of their own. Elsewhere the event loop alone reports to them: kqueue(2) would do, and
/// Windows registers a socket once only. A key has to fit a token.
const IS_AVAILABLE: bool = cfg!(all(
    any(target_os = "linux", target_os = "android"),
    target_pointer_width = "64",
    not(any(sockeye_bsd, sockeye_condvar))
));

/// Maximum number of events of one call.
const MAX_EVENTS: usize = 256;

/// The token of the waker. The event loop reports to a key with this number.
const WAKE: Token = Token(usize::MAX);

/// What one thread waits in.
#[derive(Debug)]
pub(crate) struct OwnPoll {
    poll: Poll,
    events: Events,
}

/// What the kernel says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is data, and neither an end nor a failure.
    Data,
    /// There is urgent data, or was. A receive before it takes less than there is.
    Urgent,
    /// Only a look tells.
    Something,
}

impl Found {
    fn of(event: &Event) -> Self {
        let may_have_ended = event.is_read_closed() || event.is_write_closed() || event.is_error();
        match event.is_priority() {
            true => Found::Urgent,
            false if event.is_readable() && !may_have_ended => Found::Data,
            false => Found::Something,
        }
    }
}

/// The part that all threads use at any time.
#[derive(Debug)]
pub(crate) struct Registrations {
    registry: Registry,
    waker: Waker,
}

/// Creates both parts. Returns `None` where there is none, or if descriptors are lacking.
pub(crate) fn open() -> Option<(OwnPoll, Registrations)> {
    if !IS_AVAILABLE {
        return None;
    }
    let poll = Poll::new().ok()?;
    let registry = poll.registry().try_clone().ok()?;
    let waker = Waker::new(&registry, WAKE).ok()?;
    let events = Events::with_capacity(MAX_EVENTS);
    Some((OwnPoll { poll, events }, Registrations { registry, waker }))
}

impl OwnPoll {
    /// Waits for events. A signal ends it without one.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Returns the keys that the last wait has found. Another thread may have read the data since, or the key may be that of
    /// another socket by now.
    pub(crate) fn found(&self) -> impl Iterator<Item = (u64, Found)> {
        let events = self.events.iter().filter(|event| event.token() != WAKE);
        events.map(|event| (event.token().0 as u64, Found::of(event)))
    }
}

impl Registrations {
    /// Has the kernel report these events of a wire under this key. Returns whether it does. It does not block, so that a
    /// lock may be held.
    pub(crate) fn register(&self, wire: &mut Arc<Wire>, key: u64, events: Ready) -> bool {
        let Ok(token) = usize::try_from(key).map(Token) else { return false };
        if token == WAKE {
            return false;
        }
        let interest = match (events.has(Ready::READABLE), events.has(Ready::WRITABLE)) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            (_, false) => Interest::READABLE,
        };
        let interest = with_urgent(interest);
        wire.register(&self.registry, token, interest).is_ok()
    }

    pub(crate) fn deregister(&self, wire: &Wire) {
        wire.deregister(&self.registry);
    }

    /// Ends the wait of the thread that waits, or else of the next.
    pub(crate) fn wake(&self) {
        let _ = self.waker.wake();
    }
}

/// Adds urgent data, where there is a poll of one's own at all.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn with_urgent(interest: Interest) -> Interest {
    interest | Interest::PRIORITY
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn with_urgent(interest: Interest) -> Interest {
    interest
}
