//! One TCP stream: its descriptor, and every call that is made on it.
//!
//! No call blocks, with one exception on Linux: a receive for which the caller asks, which waits in the
//! system for some milliseconds at most. Then the descriptor itself is in blocking mode, and all others
//! say in the call that they don't want that.

use std::io;
use std::sync::Arc;

use super::errno::{Failure, code, fault, is_after_end, judge};
use super::slices::{BYTES_MOST, Load, Room, taken_at_once};
use super::sync::atomic::{AtomicBool, Ordering};
use super::sync::mio;
use super::sync::mio::net::TcpStream;
use super::sync::mio::{Interest, Registry, Token};
use crate::error::Fault;

/// A stream. The descriptor is closed when the last call on it has left.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// The descriptor is in blocking mode.
    blocks: AtomicBool,
    /// Both sides had ended when it was given, and none by a failure.
    ended: bool,
    /// It was connected when it was given, and may have failed since.
    given: bool,
}

/// What a receive of nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has ended.
    Clean,
    /// Neither side stands. Where this side has not ended that is a reset.
    HungUp,
    /// The connection failed.
    Failed(Fault),
}

/// How a connection looks from outside, by a look that takes nothing from who is at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(target_os = "linux", not(sockeye_shuttle))),
    expect(dead_code, reason = "only Linux tells it so that nothing is taken")
)]
pub(super) enum Standing {
    /// Nothing shows.
    Whole,
    /// The peer has ended.
    Ended,
    /// Neither side stands, or a failure waits to be told.
    Broken,
}

/// What came of dropping what had come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// There is nothing now.
    Empty,
    /// So many bytes were dropped, and there may be more.
    More,
    /// The system can't do it now, and there is no telling.
    Unable,
    /// The peer has ended.
    End,
    /// The wire is broken.
    Failed(Fault),
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Wire { stream, blocks: AtomicBool::new(false), ended: false, given: false }
    }

    /// A connection that was made before. If `ended`, both sides had ended, and none by a failure.
    pub(super) fn given(stream: TcpStream, ended: bool) -> Self {
        Wire { ended, given: true, ..Wire::new(stream) }
    }

    /// Whether it was connected from the first.
    pub(super) fn was_given(&self) -> bool {
        self.given
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Receives what is there.
    pub(super) fn receive(&self, room: &mut Room<'_, '_>) -> io::Result<usize> {
        calls::receive(&self.stream, room)
    }

    /// Receives what is there; `briskly` it waits for something, where the system can do that for no longer than
    /// 4 ms to 20 ms, by its clock.
    #[inline]
    pub(super) fn receive_now(&self, room: &mut Room<'_, '_>, briskly: bool) -> io::Result<usize> {
        if !briskly {
            return self.receive(room);
        }
        if self.blocks.load(Ordering::Relaxed) || self.let_block() {
            return calls::receive_blocking(&self.stream, room);
        }
        Err(would_block())
    }

    /// Makes a receive that waits possible, where the system can; says whether it is.
    #[cold]
    fn let_block(&self) -> bool {
        let can = calls::let_block(&self.stream).is_ok();
        self.blocks.store(can, Ordering::Relaxed);
        can
    }

    /// Sends what there is room for.
    pub(super) fn send(&self, load: &Load<'_, '_>) -> io::Result<usize> {
        calls::send(&self.stream, load)
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
    pub(super) fn take_failure(&self) -> Option<Fault> {
        match self.stream.take_error() {
            Ok(None) => None,
            Ok(Some(error)) if is_after_end(&error) => Some(Fault::ResetAfterEnd(code(&error))),
            Ok(Some(error)) => Some(fault(&error)),
            Err(error) => match judge(&error) {
                Failure::Connection(fault) => Some(fault),
                Failure::Interrupted | Failure::WouldBlock | Failure::Call(_) => None,
            },
        }
    }

    /// Receives and drops at most about `most` bytes, and takes them off it.
    pub(super) fn drain(&self, most: &mut usize) -> Drained {
        // Mostly there is nothing, which needs no large buffer.
        match self.drain_into(&mut [0; 256], most, 1) {
            Drained::More => self.drain_much(most),
            drained => drained,
        }
    }

    #[cold]
    fn drain_much(&self, most: &mut usize) -> Drained {
        self.drain_into(&mut [0; 16 * 1024], most, usize::MAX)
    }

    fn drain_into(&self, scratch: &mut [u8], most: &mut usize, times: usize) -> Drained {
        for _ in 0..times {
            if *most == 0 {
                break;
            }
            match self.receive(&mut Room::One(scratch)) {
                Ok(0) => return Drained::End,
                Ok(bytes) => *most = most.saturating_sub(bytes),
                Err(error) => match judge(&error) {
                    Failure::WouldBlock => return Drained::Empty,
                    Failure::Interrupted => {}
                    Failure::Call(_) => return Drained::Unable,
                    Failure::Connection(fault) => return Drained::Failed(fault),
                },
            }
        }
        Drained::More
    }

    /// Ends an attempt that is not wanted any more, for whoever else may have the descriptor too: a
    /// process that was forked meanwhile. A connection that was made all the same ends well.
    pub(super) fn cancel(&self) {
        if self.stream.peer_addr().is_err() {
            self.reset();
        }
    }

    /// Judges a receive of nothing, which the system also gives after a reset of which it has told
    /// another call: after a plain FIN the write side still stands, after a reset neither side does.
    pub(super) fn judge_end(&self) -> End {
        if !hung_up(&self.stream) {
            return End::Clean;
        }
        match self.take_failure() {
            Some(Fault::ResetAfterEnd(_)) => End::Clean,
            Some(fault) => End::Failed(fault),
            None if self.ended => End::Clean,
            None => End::HungUp,
        }
    }

    /// Looks at it while another thread may be about to receive, and so takes nothing: what the system tells
    /// once stays untold.
    pub(super) fn standing(&self) -> Standing {
        standing(&self.stream)
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
        registry: &Registry,
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
    pub(super) fn deregister(&self, registry: &Registry) {
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
        registry: &Registry,
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
    pub(super) fn deregister(&self, _registry: &Registry) {}
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
    pub(super) use self::brisk::{let_block, receive_blocking};
    use super::{BYTES_MOST, Load, Room, taken_at_once};

    /// A peer that is gone is no reason to end this program: see [`forbid_signals`](super::forbid_signals).
    #[cfg(not(target_vendor = "apple"))]
    const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
    #[cfg(target_vendor = "apple")]
    const SEND: SendFlags = SendFlags::DONTWAIT;

    #[inline]
    pub(super) fn receive(stream: &TcpStream, room: &mut Room<'_, '_>) -> io::Result<usize> {
        receive_with(stream, room, RecvFlags::DONTWAIT)
    }

    #[inline]
    fn receive_with(
        stream: &TcpStream,
        room: &mut Room<'_, '_>,
        flags: RecvFlags,
    ) -> io::Result<usize> {
        match room {
            Room::One(buf) => {
                let most = most_of(buf);
                Ok(recv(stream, &mut buf[..most], flags)?.0)
            }
            Room::Many(bufs) => receive_scattered(stream, bufs, flags),
        }
    }

    #[inline(never)]
    fn receive_scattered(
        stream: &TcpStream,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> io::Result<usize> {
        let taken = taken_at_once(bufs);
        match &mut bufs[taken] {
            [buf] => {
                let most = buf.len().min(BYTES_MOST);
                Ok(recv(stream, &mut buf[..most], flags)?.0)
            }
            bufs => Ok(recvmsg(stream, bufs, &mut RecvAncillaryBuffer::default(), flags)?.bytes),
        }
    }

    #[inline]
    pub(super) fn send(stream: &TcpStream, load: &Load<'_, '_>) -> io::Result<usize> {
        match load {
            Load::One(buf) => Ok(send_one(stream, &buf[..most_of(buf)], SEND)?),
            Load::Many(bufs) => send_gathered(stream, bufs),
        }
    }

    #[inline(never)]
    fn send_gathered(stream: &TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match &bufs[taken_at_once(bufs)] {
            [buf] => Ok(send_one(stream, &buf[..buf.len().min(BYTES_MOST)], SEND)?),
            bufs => Ok(sendmsg(stream, bufs, &mut SendAncillaryBuffer::default(), SEND)?),
        }
    }

    /// Linux stops by itself.
    #[inline(always)]
    fn most_of(buf: &[u8]) -> usize {
        if cfg!(target_os = "linux") { buf.len() } else { buf.len().min(BYTES_MOST) }
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

        use crate::driver::wire::Room;

        /// The system counts it in ticks of 1 ms to 10 ms, and rounds up.
        const BRISK: Duration = Duration::from_millis(4);

        #[inline]
        pub(in super::super) fn receive_blocking(
            stream: &TcpStream,
            room: &mut Room<'_, '_>,
        ) -> io::Result<usize> {
            super::receive_with(stream, room, RecvFlags::empty())
        }

        pub(in super::super) fn let_block(stream: &TcpStream) -> io::Result<()> {
            set_socket_timeout(stream, Timeout::Recv, Some(BRISK))?;
            rustix::io::ioctl_fionbio(stream, false)?;
            Ok(())
        }
    }

    #[cfg(not(all(target_os = "linux", not(sockeye_condvar))))]
    pub(super) fn receive_blocking(
        stream: &TcpStream,
        room: &mut Room<'_, '_>,
    ) -> io::Result<usize> {
        receive(stream, room)
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

    use super::{BYTES_MOST, Load, Room, TcpStream, taken_at_once};

    pub(super) fn receive(mut stream: &TcpStream, room: &mut Room<'_, '_>) -> io::Result<usize> {
        match room {
            Room::One(buf) => {
                let most = buf.len().min(BYTES_MOST);
                stream.read(&mut buf[..most])
            }
            Room::Many(bufs) => {
                let taken = taken_at_once(bufs);
                stream.read_vectored(&mut bufs[taken])
            }
        }
    }

    pub(super) fn receive_blocking(
        stream: &TcpStream,
        room: &mut Room<'_, '_>,
    ) -> io::Result<usize> {
        receive(stream, room)
    }

    pub(super) fn let_block(_stream: &TcpStream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(mut stream: &TcpStream, load: &Load<'_, '_>) -> io::Result<usize> {
        match load {
            Load::One(buf) => stream.write(&buf[..buf.len().min(BYTES_MOST)]),
            Load::Many(bufs) => stream.write_vectored(&bufs[taken_at_once(bufs)]),
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
fn hung_up(stream: &TcpStream) -> bool {
    stream.is_hung_up()
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
fn hung_up(stream: &TcpStream) -> bool {
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
fn hung_up(_stream: &TcpStream) -> bool {
    false
}

#[cfg(all(target_os = "linux", not(sockeye_shuttle)))]
fn standing(stream: &TcpStream) -> Standing {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seen = match poll(&mut descriptors, Some(&at_once)) {
        Ok(_) => descriptors[0].revents(),
        Err(_) => PollFlags::empty(),
    };
    if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
        Standing::Broken
    } else if seen.contains(PollFlags::RDHUP) {
        Standing::Ended
    } else {
        Standing::Whole
    }
}

/// Where a poll does not tell an end from bytes before it.
#[cfg(not(all(target_os = "linux", not(sockeye_shuttle))))]
fn standing(_stream: &TcpStream) -> Standing {
    Standing::Whole
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

pub(super) fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}
