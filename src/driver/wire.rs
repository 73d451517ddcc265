//! One TCP stream: its descriptor, and every call that is made on it.
//!
//! No call blocks, with one exception on Linux: a receive for which the caller asks, which waits in the
//! system for some milliseconds at most. Then the descriptor itself is in blocking mode, and all others
//! say in the call that they don't want that.

use std::io;
use std::sync::Arc;

use super::errno::{Failure, classify, fault_from_io, is_reset_after_eof, os_code};
use super::slices::{MAX_BYTES, RecvBufs, SendBufs, slices_for_call};
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::mio;
use super::sync::mio::net::TcpStream;
use super::sync::mio::{Interest, Token};
use crate::error::Fault;

/// A stream. The descriptor is closed when the last call on it has left.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// The descriptor is in blocking mode.
    blocking: AtomicBool,
    /// Both sides had ended when it was given, and none by a failure.
    both_ended: bool,
    /// It was connected when it was given, and may have failed since.
    is_adopted: bool,
}

/// What a receive of nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EofKind {
    /// The peer has ended.
    Fin,
    /// Neither side stands. Where this side has not ended that is a reset.
    HangUp,
    /// The connection failed.
    Error(Fault),
}

/// How a connection looks from outside, by a look that takes nothing from who is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(target_os = "linux", not(sockeye_shuttle))),
    expect(dead_code, reason = "only Linux tells it so that nothing is taken")
)]
pub(super) enum PollStatus {
    /// Nothing shows.
    Quiet,
    /// The peer has ended.
    Fin,
    /// Neither side stands, or a failure waits to be told.
    Error,
}

/// What came of dropping what had come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainResult {
    /// There is nothing now.
    Empty,
    /// So many bytes were dropped, and there may be more.
    More,
    /// The system can't do it now, and there is no telling.
    Unable,
    /// The peer has ended.
    Eof,
    /// The wire is broken.
    Failed(Fault),
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Wire { stream, blocking: AtomicBool::new(false), both_ended: false, is_adopted: false }
    }

    /// A connection that was made before. If `both_ended`, both sides had ended, and none by a failure.
    pub(super) fn adopted(stream: TcpStream, ended: bool) -> Self {
        Wire { both_ended: ended, is_adopted: true, ..Wire::new(stream) }
    }

    /// Whether it was connected from the first.
    pub(super) fn was_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Receives what is there.
    pub(super) fn recv(&self, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
        calls::receive(&self.stream, bufs)
    }

    /// Receives what is there; `briskly` it waits for something, where the system can do that for no longer than
    /// 4 ms to 20 ms, by its clock.
    #[inline]
    pub(super) fn recv_maybe_blocking(
        &self,
        bufs: &mut RecvBufs<'_, '_>,
        blocking: bool,
    ) -> io::Result<usize> {
        if !blocking {
            return self.recv(bufs);
        }
        if self.blocking.load(Ordering::Relaxed) || self.enable_blocking_recv() {
            return calls::recv_blocking(&self.stream, bufs);
        }
        Err(would_block_error())
    }

    /// Makes a receive that waits possible, where the system can; says whether it is.
    #[cold]
    fn enable_blocking_recv(&self) -> bool {
        let can = calls::let_block(&self.stream).is_ok();
        self.blocking.store(can, Ordering::Relaxed);
        can
    }

    /// Sends what there is room for.
    pub(super) fn send(&self, bufs: &SendBufs<'_, '_>) -> io::Result<usize> {
        calls::send(&self.stream, bufs)
    }

    /// The connection once more, for somebody else.
    #[cfg(all(unix, not(sockeye_shuttle)))]
    pub(super) fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        Ok(socket2::SockRef::from(&self.stream).try_clone()?.into())
    }

    /// Sends FIN. A connection that is broken by then has nothing to send it on.
    pub(super) fn shutdown_write(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Whether bytes or the end wait: as a receive of one byte that takes nothing.
    pub(super) fn peek(&self) -> io::Result<usize> {
        calls::peek(&self.stream)
    }

    /// The failure that the system has latched, which tells it once.
    pub(super) fn take_error(&self) -> Option<Fault> {
        match self.stream.take_error() {
            Ok(None) => None,
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

    /// Receives and drops at most about `most` bytes, and takes them off it.
    pub(super) fn drain(&self, max: &mut usize) -> DrainResult {
        // Mostly there is nothing, which needs no large buffer.
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

    /// Ends an attempt that is not wanted any more, for whoever else may have the descriptor too: a
    /// process that was forked meanwhile. A connection that was made all the same ends well.
    pub(super) fn cancel_attempt(&self) {
        if self.stream.peer_addr().is_err() {
            self.reset();
        }
    }

    /// Judges a receive of nothing, which the system also gives after a reset of which it has told
    /// another call: after a plain FIN the write side still stands, after a reset neither side does.
    pub(super) fn classify_eof(&self) -> EofKind {
        if !has_hung_up(&self.stream) {
            return EofKind::Fin;
        }
        match self.take_error() {
            Some(Fault::ResetAfterEnd(_)) => EofKind::Fin,
            Some(fault) => EofKind::Error(fault),
            None if self.both_ended => EofKind::Fin,
            None => EofKind::HangUp,
        }
    }

    /// Looks at it while another thread may be about to receive, and so takes nothing: what the system tells
    /// once stays untold.
    pub(super) fn poll_status(&self) -> PollStatus {
        poll_status(&self.stream)
    }

    /// Sends a reset, at once where the system can do that while others are at the descriptor, when
    /// the last of them has left elsewhere.
    pub(super) fn reset(&self) {
        #[cfg(sockeye_shuttle)]
        self.stream.reset();
        #[cfg(not(sockeye_shuttle))]
        reset(&self.stream);
    }

    /// Reports the present state as the first event, and then every change.
    #[cfg(all(unix, not(sockeye_condvar)))]
    pub(super) fn register(
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
    pub(super) fn deregister(&self, registry: &mio::Registry) {
        use mio::event::Source;
        use std::os::fd::AsRawFd;
        let descriptor = self.stream.as_raw_fd();
        let _ = mio::unix::SourceFd(&descriptor).deregister(registry);
    }

    /// Where registering takes the stream for itself it is done once, before anyone shares it, for
    /// both directions; a call that would block arms it again.
    #[cfg(not(all(unix, not(sockeye_condvar))))]
    pub(super) fn register(
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

    /// The system does it when the descriptor is closed.
    #[cfg(not(all(unix, not(sockeye_condvar))))]
    pub(super) fn deregister(&self, _registry: &mio::Registry) {}
}

/// Calls that say by themselves whether they block, and that raise no signal.
#[cfg(all(unix, not(sockeye_shuttle)))]
mod calls {
    use std::io::{self, IoSlice, IoSliceMut};

    use mio::net::TcpStream;
    use rustix::net::{
        RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg,
        send as send_one, sendmsg,
    };

    #[cfg(all(target_os = "linux", not(sockeye_condvar)))]
    pub(super) use self::brisk::{let_block, recv_blocking};
    use super::{MAX_BYTES, RecvBufs, SendBufs, slices_for_call};

    /// A peer that is gone is no reason to end this program: see [`forbid_signals`](super::forbid_signals).
    #[cfg(not(target_vendor = "apple"))]
    const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
    #[cfg(target_vendor = "apple")]
    const SEND: SendFlags = SendFlags::DONTWAIT;

    #[inline]
    pub(super) fn receive(stream: &TcpStream, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
        recv_with(stream, bufs, RecvFlags::DONTWAIT)
    }

    #[inline]
    fn recv_with(
        stream: &TcpStream,
        bufs: &mut RecvBufs<'_, '_>,
        flags: RecvFlags,
    ) -> io::Result<usize> {
        match bufs {
            RecvBufs::One(buf) => {
                let max = max_len(buf);
                Ok(recv(stream, &mut buf[..max], flags)?.0)
            }
            RecvBufs::Many(bufs) => recv_vectored(stream, bufs, flags),
        }
    }

    #[inline(never)]
    fn recv_vectored(
        stream: &TcpStream,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> io::Result<usize> {
        let taken = slices_for_call(bufs);
        match &mut bufs[taken] {
            [buf] => {
                let max = buf.len().min(MAX_BYTES);
                Ok(recv(stream, &mut buf[..max], flags)?.0)
            }
            bufs => Ok(recvmsg(stream, bufs, &mut RecvAncillaryBuffer::default(), flags)?.bytes),
        }
    }

    #[inline]
    pub(super) fn send(stream: &TcpStream, bufs: &SendBufs<'_, '_>) -> io::Result<usize> {
        match bufs {
            SendBufs::One(buf) => Ok(send_one(stream, &buf[..max_len(buf)], SEND)?),
            SendBufs::Many(bufs) => send_vectored(stream, bufs),
        }
    }

    #[inline(never)]
    fn send_vectored(stream: &TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &bufs[slices_for_call(bufs)] {
            [buf] => Ok(send_one(stream, &buf[..buf.len().min(MAX_BYTES)], SEND)?),
            bufs => Ok(sendmsg(stream, bufs, &mut SendAncillaryBuffer::default(), SEND)?),
        }
    }

    /// Linux stops by itself.
    #[inline(always)]
    fn max_len(buf: &[u8]) -> usize {
        if cfg!(target_os = "linux") { buf.len() } else { buf.len().min(MAX_BYTES) }
    }

    pub(super) fn peek(stream: &TcpStream) -> io::Result<usize> {
        Ok(recv(stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    }

    /// Receives that wait, for a moment.
    #[cfg(all(target_os = "linux", not(sockeye_condvar)))]
    mod brisk {
        use std::io;
        use std::time::Duration;

        use mio::net::TcpStream;
        use rustix::net::RecvFlags;
        use rustix::net::sockopt::{Timeout, set_socket_timeout};

        use crate::driver::wire::RecvBufs;

        /// The system counts it in ticks of 1 ms to 10 ms, and rounds up.
        const BLOCKING_RECV_TIMEOUT: Duration = Duration::from_millis(4);

        #[inline]
        pub(in super::super) fn recv_blocking(
            stream: &TcpStream,
            bufs: &mut RecvBufs<'_, '_>,
        ) -> io::Result<usize> {
            super::recv_with(stream, bufs, RecvFlags::empty())
        }

        pub(in super::super) fn let_block(stream: &TcpStream) -> io::Result<()> {
            set_socket_timeout(stream, Timeout::Recv, Some(BLOCKING_RECV_TIMEOUT))?;
            rustix::io::ioctl_fionbio(stream, false)?;
            Ok(())
        }
    }

    #[cfg(not(all(target_os = "linux", not(sockeye_condvar))))]
    pub(super) fn recv_blocking(
        stream: &TcpStream,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> io::Result<usize> {
        receive(stream, bufs)
    }

    #[cfg(not(all(target_os = "linux", not(sockeye_condvar))))]
    pub(super) fn let_block(_stream: &TcpStream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Calls on a descriptor that does not block, where mio has to see them, or the model. No signal is raised for
/// a broken pipe there.
#[cfg(not(all(unix, not(sockeye_shuttle))))]
mod calls {
    use std::io::{self, Read, Write};

    use super::{MAX_BYTES, RecvBufs, SendBufs, TcpStream, slices_for_call};

    pub(super) fn receive(
        mut stream: &TcpStream,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> io::Result<usize> {
        match bufs {
            RecvBufs::One(buf) => {
                let max = buf.len().min(MAX_BYTES);
                stream.read(&mut buf[..max])
            }
            RecvBufs::Many(bufs) => {
                let taken = slices_for_call(bufs);
                stream.read_vectored(&mut bufs[taken])
            }
        }
    }

    pub(super) fn recv_blocking(
        stream: &TcpStream,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> io::Result<usize> {
        receive(stream, bufs)
    }

    pub(super) fn let_block(_stream: &TcpStream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(mut stream: &TcpStream, bufs: &SendBufs<'_, '_>) -> io::Result<usize> {
        match bufs {
            SendBufs::One(buf) => stream.write(&buf[..buf.len().min(MAX_BYTES)]),
            SendBufs::Many(bufs) => stream.write_vectored(&bufs[slices_for_call(bufs)]),
        }
    }

    pub(super) fn peek(stream: &TcpStream) -> io::Result<usize> {
        stream.peek(&mut [0])
    }
}

/// Keeps a broken pipe from raising SIGPIPE, where that is an option of the socket and not a flag of each
/// call. One that the crate opens has it already.
pub(super) fn forbid_signals(socket: &socket2::Socket) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    socket.set_nosigpipe(true)?;
    let _ = socket;
    Ok(())
}

#[cfg(sockeye_shuttle)]
fn has_hung_up(stream: &TcpStream) -> bool {
    stream.is_hung_up()
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
fn has_hung_up(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents().contains(PollFlags::HUP),
        Err(_) => false,
    }
}

/// Other systems raise it for a plain FIN too.
#[cfg(not(any(target_os = "linux", sockeye_shuttle)))]
fn has_hung_up(_stream: &TcpStream) -> bool {
    false
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
fn poll_status(stream: &TcpStream) -> PollStatus {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seen = match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents(),
        Err(_) => PollFlags::empty(),
    };
    if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
        PollStatus::Error
    } else if seen.contains(PollFlags::RDHUP) {
        PollStatus::Fin
    } else {
        PollStatus::Quiet
    }
}

/// Where a poll does not tell an end from bytes before it.
#[cfg(not(all(target_os = "linux", not(sockeye_shuttle))))]
fn poll_status(_stream: &TcpStream) -> PollStatus {
    PollStatus::Quiet
}

#[cfg(not(sockeye_shuttle))]
fn reset(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if rustix::net::connect_unspec(stream).is_ok() {
        return;
    }
    let linger = Some(std::time::Duration::ZERO);
    let _ = socket2::SockRef::from(stream).set_linger(linger);
}

pub(super) fn would_block_error() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}
