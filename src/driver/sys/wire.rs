//! One stream, of TCP or a Unix-domain socket: its descriptor and every system call on it.
//!
//! No call blocks, with one exception. On Linux the caller may ask for a receive that blocks in the kernel for at most
//! a few milliseconds. The descriptor is then in blocking mode, and all other calls pass `MSG_DONTWAIT`.

#[cfg(not(all(unix, not(sockeye_shuttle))))]
mod portable;
mod reset;
mod status;
#[cfg(all(unix, not(sockeye_shuttle)))]
mod unix;

use std::io;
use std::sync::Arc;

#[cfg(not(all(unix, not(sockeye_shuttle))))]
use self::portable as calls;
#[cfg(all(unix, not(sockeye_shuttle)))]
use self::unix as calls;
use super::errno::{Failure, classify, fault_from_io, is_reset_after_eof, os_code};
use super::io_bufs::{MAX_BYTES, RecvBufs, SendBufs, slices_for_call};
use super::starvation::NotifyFreed;
use super::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use super::sync::mio;
use super::sync::mio::net::TcpStream;
use super::sync::mio::{Interest, Token};
use crate::error::Fault;
use crate::unix::{SharedPeer, UnixPeer};

/// Whether a wire is registered once, by its attempt, and never deregistered: see [`Wire::register`].
pub(crate) const REGISTRATION_IS_PERMANENT: bool = cfg!(not(all(unix, not(sockeye_condvar))));

/// The interest in failures only, which the event loop has while data is unread. Covers readable data too if the kernel
/// cannot leave that out.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd)))]
pub(crate) const ERRORS_ONLY: Interest = Interest::PRIORITY;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))))]
pub(crate) const ERRORS_ONLY: Interest = Interest::READABLE;

/// A stream. The descriptor is closed when the last call on it has returned.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// Whether the descriptor is in blocking mode.
    blocking: AtomicBool,
    /// The number of times that a thread had a reason to end another thread's spin.
    spins_ended: AtomicU32,
    /// Whether both sides had already ended, without an error, when the stream was adopted.
    both_ended: bool,
    /// Whether the stream was adopted. It may have failed since it was connected.
    is_adopted: bool,
    /// Whether the program may have a duplicate of the descriptor.
    may_be_shared: AtomicBool,
    /// The peer of a Unix-domain socket, which ends in another way than a TCP connection.
    unix: SharedPeer,
    #[expect(dead_code, reason = "it is dropped last, when the descriptor is closed")]
    freed: NotifyFreed,
}

/// The meaning of a receive that returned 0 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EofKind {
    /// The peer sent FIN.
    Fin,
    /// Both directions are closed. If this side has not sent FIN, that is a reset.
    HangUp,
    /// The peer has closed a Unix-domain socket. That is a clean end, unless another call has taken a failure.
    PeerClosed,
    /// The connection failed.
    Error(Fault),
}

impl EofKind {
    /// Classifies by what poll(2) and `SO_ERROR` say. `both_ended` says that both sides had ended when the stream was
    /// adopted.
    pub(crate) fn new(
        hung_up: bool,
        take_error: impl FnOnce() -> Option<Fault>,
        both_ended: bool,
    ) -> Self {
        if !hung_up {
            return EofKind::Fin;
        }
        match take_error() {
            Some(Fault::ResetAfterEnd(_)) => EofKind::Fin,
            Some(fault) => EofKind::Error(fault),
            None if both_ended => EofKind::Fin,
            None => EofKind::HangUp,
        }
    }

    /// Classifies by the same for a Unix-domain socket. There poll(2) shows a hang-up after every close of the peer. If
    /// the peer had not read everything, there is a pending error too.
    pub(crate) fn of_unix(hung_up: bool, take_error: impl FnOnce() -> Option<Fault>) -> Self {
        match hung_up {
            false => EofKind::Fin,
            true => match take_error() {
                Some(fault) => EofKind::Error(fault),
                None if planted!(TakesUnixEndForReset) => EofKind::HangUp,
                None => EofKind::PeerClosed,
            },
        }
    }
}

/// The state of a connection as poll(2) shows it, without consuming data or the pending error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(
        any(target_os = "linux", target_os = "android"),
        not(any(sockeye_bsd, sockeye_shuttle))
    )),
    expect(dead_code, reason = "only Linux tells all of them without receiving")
)]
pub(crate) enum PollStatus {
    /// Neither FIN nor an error has arrived.
    Quiet,
    /// The peer sent FIN.
    Fin,
    /// Both directions are closed, or an error is pending.
    Error,
}

/// What a wire has for the next receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Nothing,
    Data,
    /// Probably the peer's FIN, or a failure, with no data before it. A receive tells which.
    End,
}

/// The result of draining a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainResult {
    /// The receive buffer is empty.
    Empty,
    /// The limit was reached, and there may be more bytes.
    More,
    /// The receive failed for a reason that says nothing about the connection, such as lack of memory.
    Unable,
    /// The peer sent FIN.
    Eof,
    /// The connection failed.
    Failed(Fault),
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let unix = stands_in(&stream).then(Arc::default);
        Wire {
            stream,
            blocking: AtomicBool::new(false),
            spins_ended: AtomicU32::new(0),
            both_ended: false,
            is_adopted: false,
            may_be_shared: AtomicBool::new(false),
            unix,
            freed: NotifyFreed,
        }
    }

    /// Wraps a stream that the caller connected. `ended` says that both sides had already ended, without an error.
    pub(crate) fn adopted(stream: TcpStream, ended: bool) -> Self {
        Wire {
            both_ended: ended,
            is_adopted: true,
            may_be_shared: AtomicBool::new(true),
            ..Wire::new(stream)
        }
    }

    /// Wraps the stream of a Unix-domain socket that the caller connected.
    pub(crate) fn adopted_unix(stream: TcpStream, unix: SharedPeer) -> Self {
        Wire { unix, ..Wire::adopted(stream, false) }
    }

    /// Wraps the stream of a Unix-domain socket.
    #[cfg_attr(
        any(not(unix), sockeye_shuttle),
        allow(dead_code, reason = "this system has no Unix-domain sockets")
    )]
    pub(crate) fn unix(stream: TcpStream, peer: UnixPeer) -> Self {
        Wire { unix: Some(Arc::new(peer)), ..Wire::new(stream) }
    }

    /// Wraps a stream that a listener accepted.
    pub(crate) fn accepted(stream: TcpStream, unix: SharedPeer) -> Self {
        let wire = Wire::new(stream);
        Wire { is_adopted: true, unix: unix.or_else(|| wire.unix.clone()), ..wire }
    }

    /// Returns the peer of a Unix-domain socket.
    pub(crate) fn unix_peer(&self) -> &SharedPeer {
        &self.unix
    }

    pub(crate) fn is_unix(&self) -> bool {
        self.unix.is_some()
    }

    /// Returns whether the caller connected this stream.
    pub(crate) fn was_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Receives available bytes.
    pub(crate) fn recv(&self, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
        calls::receive(&self.stream, bufs)
    }

    /// Receives available bytes. If `blocking`, waits for the first byte where the platform supports it. The wait takes
    /// at most 4 ms to 20 ms, depending on the kernel's tick.
    #[inline]
    pub(crate) fn recv_maybe_blocking(
        &self,
        bufs: &mut RecvBufs<'_, '_>,
        blocking: bool,
    ) -> io::Result<usize> {
        if !blocking {
            return self.recv(bufs);
        }
        if self.can_block_in_recv() {
            return calls::recv_blocking(&self.stream, bufs);
        }
        Err(would_block_error())
    }

    #[inline]
    fn can_block_in_recv(&self) -> bool {
        self.blocking.load(Ordering::Relaxed) || self.enable_blocking_recv()
    }

    /// Enables blocking receives where the platform supports them. Returns whether they are enabled.
    #[cold]
    fn enable_blocking_recv(&self) -> bool {
        let can = calls::enable_blocking(&self.stream).is_ok();
        self.blocking.store(can, Ordering::Relaxed);
        can
    }

    /// Makes the descriptor non-blocking until the next receive that may block.
    pub(crate) fn disable_blocking_recv(&self) -> io::Result<()> {
        if self.blocking.load(Ordering::Relaxed) {
            calls::disable_blocking(&self.stream)?;
            self.blocking.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns the number that a spinning thread compares: see [`end_spin`](Self::end_spin).
    pub(crate) fn spins_ended(&self) -> u32 {
        self.spins_ended.load(Ordering::Relaxed)
    }

    /// Ends the spin of a thread that receives. The caller has the lock of the state. A thread reads the number under that
    /// lock before it spins.
    pub(crate) fn end_spin(&self) {
        self.spins_ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends as many bytes as the kernel's send buffer takes.
    pub(crate) fn send(&self, bufs: &SendBufs<'_, '_>) -> io::Result<usize> {
        calls::send(&self.stream, bufs)
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.stream.set_nodelay(on)
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        self.stream.nodelay()
    }

    /// Duplicates the descriptor.
    #[cfg(not(sockeye_shuttle))]
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        Ok(socket2::SockRef::from(&self.stream).try_clone()?.into())
    }

    /// Fails, because the model has no descriptors.
    #[cfg(sockeye_shuttle)]
    #[expect(clippy::unused_self, reason = "the same signature as outside the model")]
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends FIN. Ignores errors, because a broken connection cannot send one.
    pub(crate) fn shutdown_write(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Receives with `MSG_PEEK`: the bytes stay on the wire. `Ok(0)` is EOF. `buf` is not empty.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        calls::peek(&self.stream, buf)
    }

    /// [Peeks](Self::peek). If `blocking`, waits for the first byte as [`recv_maybe_blocking`] does.
    ///
    /// [`recv_maybe_blocking`]: Self::recv_maybe_blocking
    pub(crate) fn peek_maybe_blocking(&self, buf: &mut [u8], blocking: bool) -> io::Result<usize> {
        match blocking {
            false => self.peek(buf),
            true if self.can_block_in_recv() => calls::peek_blocking(&self.stream, buf),
            true => Err(would_block_error()),
        }
    }

    /// Takes the pending error (`SO_ERROR`), which the kernel reports only once. A kernel that has none there reports
    /// the failure to every call.
    pub(crate) fn take_error(&self) -> Option<Fault> {
        match self.stream.take_error() {
            Ok(None) => {
                status::unlatched_error(&self.stream).and_then(|error| match classify(&error) {
                    Failure::Connection(fault) => Some(fault),
                    Failure::Interrupted | Failure::WouldBlock | Failure::Call(_) => None,
                })
            }
            Ok(Some(error)) if is_reset_after_eof(&error) => {
                Some(Fault::ResetAfterEnd(os_code(&error)))
            }
            Ok(Some(error)) => Some(fault_from_io(&error)),
            Err(error) => match classify(&error) {
                Failure::Connection(fault) => Some(fault),
                Failure::Interrupted | Failure::WouldBlock | Failure::Call(_) => None,
            },
        }
    }

    /// Receives and drops at most about `max` bytes, and subtracts their number from `max`.
    pub(crate) fn drain(&self, max: &mut usize) -> DrainResult {
        // Usually there is nothing to drain, so the first try does without a large buffer.
        match self.drain_with(&mut [0; 256], max, 1) {
            DrainResult::More => self.drain_large(max),
            drained => drained,
        }
    }

    #[cold]
    fn drain_large(&self, max: &mut usize) -> DrainResult {
        self.drain_with(&mut [0; 16 * 1024], max, usize::MAX)
    }

    fn drain_with(&self, scratch: &mut [u8], max: &mut usize, times: usize) -> DrainResult {
        for _ in 0..times {
            if *max == 0 {
                break;
            }
            match self.recv(&mut RecvBufs::One(scratch)) {
                Ok(0) => return DrainResult::Eof,
                Ok(bytes) => *max = max.saturating_sub(bytes),
                Err(error) => match classify(&error) {
                    Failure::WouldBlock => return DrainResult::Empty,
                    Failure::Interrupted => {}
                    Failure::Call(_) => return DrainResult::Unable,
                    Failure::Connection(fault) => return DrainResult::Failed(fault),
                },
            }
        }
        DrainResult::More
    }

    /// Classifies a receive that returned 0 bytes. The kernel also returns 0 after a reset whose error another call has
    /// consumed. After a plain FIN the write direction is still open. After a reset neither direction is.
    pub(crate) fn classify_eof(&self) -> EofKind {
        if self.is_unix() {
            return EofKind::of_unix(self.has_hung_up(), || self.take_error());
        }
        EofKind::new(self.has_hung_up(), || self.take_error(), self.both_ended)
    }

    /// Classifies the failure of a send. A send to a Unix-domain peer that has closed fails at once, and says nothing about
    /// what the peer sent before: that ends as its receives say.
    pub(crate) fn classify_send(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe if self.is_unix() => {
                Failure::Connection(Fault::ResetAfterEnd(os_code(error)))
            }
            _ => classify(error),
        }
    }

    /// Returns whether both directions are closed, by a reset or by both FINs.
    pub(crate) fn has_hung_up(&self) -> bool {
        status::has_hung_up(&self.stream, self.is_unix())
    }

    /// Returns whether the peer of a Unix-domain socket has closed, cleanly or not.
    pub(crate) fn has_unix_peer_closed(&self) -> bool {
        self.is_unix() && self.has_hung_up()
    }

    /// Looks at what the next receive would find. Takes nothing, not even the pending error. So it may happen while other
    /// threads use the wire.
    pub(crate) fn incoming(&self) -> Incoming {
        status::incoming(&self.stream)
    }

    /// Returns whether the send buffer has room, or a send fails at once. `None` if the system does not tell.
    pub(crate) fn is_writable(&self) -> Option<bool> {
        status::is_writable(&self.stream)
    }

    /// Polls the connection while another thread may be in a receive. It does not take the pending error, which the
    /// kernel reports only once.
    pub(crate) fn poll_status(&self) -> PollStatus {
        status::poll_status(&self.stream, self.is_unix())
    }

    /// Registers the descriptor edge-triggered. The first event reports the current state, and later events report
    /// every change.
    #[cfg(all(unix, not(sockeye_condvar)))]
    pub(crate) fn register(
        self: &mut Arc<Self>,
        registry: &mio::Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        use mio::event::Source;
        use std::os::fd::AsRawFd;
        let descriptor = self.stream.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        match source.register(registry, token, interest) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                source.reregister(registry, token, interest)
            }
            result => result,
        }
    }

    #[cfg(all(unix, not(sockeye_condvar)))]
    pub(crate) fn deregister(&self, registry: &mio::Registry) {
        use mio::event::Source;
        use std::os::fd::AsRawFd;
        let descriptor = self.stream.as_raw_fd();
        let _ = mio::unix::SourceFd(&descriptor).deregister(registry);
    }

    /// Registers the stream for both directions, once and before it is shared, because mio needs `&mut` here. A call
    /// that would block rearms the registration.
    #[cfg(not(all(unix, not(sockeye_condvar))))]
    pub(crate) fn register(
        self: &mut Arc<Self>,
        registry: &mio::Registry,
        token: Token,
        _interest: Interest,
    ) -> io::Result<()> {
        match Arc::get_mut(self) {
            Some(wire) => {
                use mio::event::Source;
                let both = Interest::READABLE | Interest::WRITABLE;
                wire.stream.register(registry, token, both)
            }
            None => Ok(()),
        }
    }

    /// Does nothing: closing the descriptor removes the registration.
    #[cfg(not(all(unix, not(sockeye_condvar))))]
    pub(crate) fn deregister(&self, _registry: &mio::Registry) {}
}

/// Returns whether a Unix-domain socket stands in for a connection to an address.
#[cfg(not(sockeye_shuttle))]
fn stands_in(_: &TcpStream) -> bool {
    super::ALWAYS_UNIX
}

#[cfg(sockeye_shuttle)]
fn stands_in(stream: &TcpStream) -> bool {
    stream.is_unix()
}

pub(crate) fn would_block_error() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}
