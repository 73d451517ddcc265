//! The actions that the machine wants after an input.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::info::Timings;

/// The actions after an input. The driver executes each of them once, in the order of the fields.
///
/// A field that is not set asks for nothing. Most inputs cause no action, and none causes an allocation.
///
/// The wake-ups come early. The program's threads then wait neither for the system calls of the later actions nor for
/// the program's code that the driver may run. A woken thread may run before the later actions are executed.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "actions that are not executed are lost"]
pub struct Actions {
    /// Use the connection of an attempt as the socket's wire. The driver does this before another thread can use the
    /// machine.
    pub attach: Option<Attach>,
    /// Record that the preamble is complete.
    pub preamble: Option<PreambleDone>,
    /// Wake threads that wait for the machine.
    pub wake: Wake,
    /// Cancel the lookup and all attempts that were not attached. The machine ignores their results. Not set together
    /// with [`resolve`](Self::resolve) or [`attempt`](Self::attempt).
    pub cancel_attempts: bool,
    /// Cancel this attempt and close its descriptor. The machine ignores its result. Precedes the
    /// [`attempt`](Self::attempt) that takes its place.
    pub cancel_attempt: Option<AttemptId>,
    /// Resolve the host name, and report [`Input::Resolved`](super::Input::Resolved).
    pub resolve: bool,
    /// Dial an address, and report [`Input::Attempted`](super::Input::Attempted).
    pub attempt: Option<Attempt>,
    /// Receive in the background, as [`Machine::background`](super::Machine::background) says, because no caller
    /// reads. Not set together with [`release`](Self::release).
    pub drive_recv: bool,
    /// [Borrow the session](super::Machine::lend_to_begin) to begin a TLS handshake that may run the program's code.
    pub begin_handshake: bool,
    /// Send the bytes that [`Machine::next_transmit`](super::Machine::next_transmit) lends, until it lends no more. If
    /// [`release`](Self::release) is set, send instead the bytes of
    /// [`Machine::take_final_records`](super::Machine::take_final_records), as far as the kernel accepts them without
    /// blocking.
    pub transmit: bool,
    /// Send FIN: the kernel has all accepted data.
    pub shutdown_write: bool,
    /// Release the wire: the machine does not need it any more.
    pub release: Option<Release>,
}

/// The threads to wake.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wake {
    /// Wake threads that wait for the connection: [`Machine::opened`](super::Machine::opened) is settled.
    pub opened: bool,
    /// Wake readers, to call [`Machine::read`](super::Machine::read) again.
    pub readable: bool,
    /// Wake writers, to call [`Machine::write`](super::Machine::write) again.
    pub writable: bool,
    /// Wake threads that wait for the close: [`Machine::outcome`](super::Machine::outcome) is settled.
    pub closed: bool,
}

/// The identifier of a connection attempt of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub(super) usize);

/// An attempt that won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attach {
    /// The attempt.
    pub id: AttemptId,
    /// The duration of each step of connecting.
    pub timings: Timings,
    /// Whether the attempt connected to a proxy.
    pub is_proxy: bool,
}

/// The end of a preamble that was successful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreambleDone {
    /// The time that it took. If the proxy was asked several times, all of them count.
    pub took: Duration,
    /// The client that a PROXY header names. `None` if it names none, and for the answer of a proxy.
    pub client: Option<SocketAddr>,
}

/// An attempt to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The identifier to report.
    pub id: AttemptId,
    /// The address to dial; `None` for [`Target::Unix`](super::Target::Unix), whose address the driver knows.
    pub address: Option<SocketAddr>,
}

/// The way to release a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// Close the descriptor: both directions have ended, or the wire has failed.
    Close,
    /// Drain the wire within a bound of time and bytes, then close the descriptor. The peer may still send, and
    /// without draining it would see a reset instead of FIN.
    Linger,
    /// Send a reset.
    Reset,
}

impl Actions {
    /// Returns whether there is nothing to do.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Actions {
            attach,
            preamble,
            wake,
            cancel_attempts,
            cancel_attempt,
            resolve,
            attempt,
            drive_recv,
            begin_handshake,
            transmit,
            shutdown_write,
            release,
        } = self;
        // Without branches between the flags, the compiler combines them.
        !(*cancel_attempts
            | *resolve
            | *drive_recv
            | *begin_handshake
            | *transmit
            | *shutdown_write
            | wake.any()
            | release.is_some()
            | attach.is_some()
            | preamble.is_some()
            | attempt.is_some()
            | cancel_attempt.is_some())
    }

    /// Requests the release of the wire. After that there is nothing to receive.
    pub(super) fn release_wire(&mut self, how: Release) {
        debug_assert_eq!(self.release, None, "a wire is released once");
        self.release = Some(how);
        self.drive_recv = false;
    }

    /// Wakes all threads that wait on a connection that has ended.
    pub(super) fn wake_all_at_end(&mut self) {
        debug_assert!(!self.wake.closed, "the end is reported once");
        self.wake.readable = true;
        self.wake.writable = true;
        self.wake.closed = true;
    }
}

impl Wake {
    /// Returns whether any thread is to be woken.
    #[inline]
    #[must_use]
    pub fn any(self) -> bool {
        self.opened | self.readable | self.writable | self.closed
    }
}

/// Shows the fields that are set, in their order.
impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Actions");
        let mut show = |is_set: bool, name: &str, value: &dyn fmt::Debug| {
            if is_set {
                shown.field(name, value);
            }
        };
        show(self.attach.is_some(), "attach", &self.attach);
        show(self.preamble.is_some(), "preamble", &self.preamble);
        show(self.wake.any(), "wake", &self.wake);
        show(self.cancel_attempts, "cancel_attempts", &true);
        show(self.cancel_attempt.is_some(), "cancel_attempt", &self.cancel_attempt);
        show(self.resolve, "resolve", &true);
        show(self.attempt.is_some(), "attempt", &self.attempt);
        show(self.drive_recv, "drive_recv", &true);
        show(self.begin_handshake, "begin_handshake", &true);
        show(self.transmit, "transmit", &true);
        show(self.shutdown_write, "shutdown_write", &true);
        show(self.release.is_some(), "release", &self.release);
        shown.finish()
    }
}

/// Shows the names of the flags that are set.
impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wake { opened, readable, writable, closed } = *self;
        let flags = [
            (opened, "opened"),
            (readable, "readable"),
            (writable, "writable"),
            (closed, "closed"),
        ];
        let mut shown = f.debug_set();
        for (_, name) in flags.into_iter().filter(|&(is_set, _)| is_set) {
            shown.entry(&format_args!("{name}"));
        }
        shown.finish()
    }
}
