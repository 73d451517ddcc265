//! One TCP stream: its descriptor, and every call that is made on it.
//!
//! No call blocks, with one exception on Linux: a receive for which the caller asks, which waits in the
//! system for some milliseconds at most. Then the descriptor itself is in blocking mode, and all others
//! say in the call that they don't want that.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Deref;
use std::sync::Arc;

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
}

/// A caller's buffer to receive into.
pub(crate) enum Room<'a, 'b> {
    One(&'a mut [u8]),
    Many(&'a mut [IoSliceMut<'b>]),
}

impl Room<'_, '_> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Room::One(buf) => buf.len(),
            Room::Many(bufs) => total(bufs),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first part that has any room.
    pub(super) fn first(&mut self) -> &mut [u8] {
        match self {
            Room::One(buf) => buf,
            Room::Many(bufs) => match bufs.iter_mut().find(|buf| !buf.is_empty()) {
                Some(buf) => buf,
                None => &mut [],
            },
        }
    }
}

/// A caller's bytes to send.
pub(crate) enum Load<'a, 'b> {
    One(&'a [u8]),
    Many(&'a [IoSlice<'b>]),
}

impl Load<'_, '_> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Load::One(buf) => buf.len(),
            Load::Many(bufs) => total(bufs),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece, at most about as many as are sealed at a time.
    pub(super) fn gather(&self) -> Cow<'_, [u8]> {
        match self {
            Load::One(buf) => Cow::Borrowed(buf),
            Load::Many(bufs) => {
                let mut gathered = Vec::new();
                for buf in *bufs {
                    let room = GATHERED_MOST.saturating_sub(gathered.len());
                    gathered.extend_from_slice(&buf[..buf.len().min(room)]);
                }
                Cow::Owned(gathered)
            }
        }
    }
}

/// Not inlined: where there is one buffer, as mostly, it would be in the way.
#[inline(never)]
fn total<B: Deref<Target = [u8]>>(bufs: &[B]) -> usize {
    bufs.iter().map(|buf| buf.len()).sum()
}

/// The most that small buffers are put together to.
const GATHERED_MOST: usize = 64 * 1024;

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
    /// The peer has ended.
    End,
    /// The wire is broken.
    Failed(Fault),
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Wire { stream, blocks: AtomicBool::new(false) }
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
            Ok(Some(error)) | Err(error) => Some(fault(&error)),
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Drained::Failed(fault(&error)),
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

/// Calls that say by themselves whether they block.
#[cfg(all(target_os = "linux", not(any(sockeye_condvar, sockeye_shuttle))))]
mod calls {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::time::Duration;

    use mio::net::TcpStream;
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{
        RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg,
        send as send_one, sendmsg,
    };

    use super::{Load, Room};

    /// The system counts it in ticks of 1 ms to 10 ms, and rounds up.
    const BRISK: Duration = Duration::from_millis(4);

    pub(super) fn receive(stream: &TcpStream, room: &mut Room<'_, '_>) -> io::Result<usize> {
        receive_with(stream, room, RecvFlags::DONTWAIT)
    }

    pub(super) fn receive_blocking(
        stream: &TcpStream,
        room: &mut Room<'_, '_>,
    ) -> io::Result<usize> {
        receive_with(stream, room, RecvFlags::empty())
    }

    #[inline]
    fn receive_with(
        stream: &TcpStream,
        room: &mut Room<'_, '_>,
        flags: RecvFlags,
    ) -> io::Result<usize> {
        match room {
            Room::One(buf) => Ok(recv(stream, &mut **buf, flags)?.0),
            Room::Many(bufs) => receive_scattered(stream, bufs, flags),
        }
    }

    #[inline(never)]
    fn receive_scattered(
        stream: &TcpStream,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> io::Result<usize> {
        Ok(recvmsg(stream, bufs, &mut RecvAncillaryBuffer::default(), flags)?.bytes)
    }

    pub(super) fn let_block(stream: &TcpStream) -> io::Result<()> {
        set_socket_timeout(stream, Timeout::Recv, Some(BRISK))?;
        rustix::io::ioctl_fionbio(stream, false)?;
        Ok(())
    }

    #[inline]
    pub(super) fn send(stream: &TcpStream, load: &Load<'_, '_>) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match load {
            Load::One(buf) => Ok(send_one(stream, buf, flags)?),
            Load::Many(bufs) => send_gathered(stream, bufs, flags),
        }
    }

    #[inline(never)]
    fn send_gathered(
        stream: &TcpStream,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        Ok(sendmsg(stream, bufs, &mut SendAncillaryBuffer::default(), flags)?)
    }

    pub(super) fn peek(stream: &TcpStream) -> io::Result<usize> {
        Ok(recv(stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    }
}

/// Calls on a descriptor that does not block.
#[cfg(not(all(target_os = "linux", not(any(sockeye_condvar, sockeye_shuttle)))))]
mod calls {
    use std::io::{self, Read, Write};

    use super::{Load, Room, TcpStream};

    pub(super) fn receive(mut stream: &TcpStream, room: &mut Room<'_, '_>) -> io::Result<usize> {
        match room {
            Room::One(buf) => stream.read(buf),
            Room::Many(bufs) => stream.read_vectored(bufs),
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
            Load::One(buf) => stream.write(buf),
            Load::Many(bufs) => stream.write_vectored(bufs),
        }
    }

    /// The descriptor may be somebody else's by now, and wait.
    #[cfg(all(unix, not(any(sockeye_condvar, sockeye_shuttle))))]
    pub(super) fn peek(stream: &TcpStream) -> io::Result<usize> {
        use rustix::net::{RecvFlags, recv};
        Ok(recv(stream, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    }

    #[cfg(not(all(unix, not(any(sockeye_condvar, sockeye_shuttle)))))]
    pub(super) fn peek(stream: &TcpStream) -> io::Result<usize> {
        stream.peek(&mut [0])
    }
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

/// What the failure of a call on an established connection means.
pub(super) fn fault(error: &io::Error) -> Fault {
    let code = code(error);
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Fault::Reset(Some(code)),
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Fault::Lost(code),
        _ if is_loss(code) => Fault::Lost(code),
        _ => Fault::Io(code),
    }
}

/// When the system gives a peer up it tells what it heard last on the way there, from ICMP or from its
/// own routes, in place of a time-out. No call on an established connection fails with these otherwise.
#[cfg(unix)]
fn is_loss(code: i32) -> bool {
    use rustix::io::Errno;
    let heard = [
        Errno::CONNREFUSED,
        Errno::ACCESS,
        Errno::INVAL,
        Errno::NETDOWN,
        Errno::HOSTDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
    ];
    heard.iter().any(|errno| errno.raw_os_error() == code)
}

#[cfg(not(unix))]
fn is_loss(_code: i32) -> bool {
    false
}

/// What the system latches for a reset that came after the peer's end, and not in its place.
fn is_after_end(latched: &io::Error) -> bool {
    cfg!(target_os = "linux") && latched.kind() == io::ErrorKind::BrokenPipe
}

/// The system's number of an error that came from a system call.
pub(super) fn code(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}
