//! System calls whose flags decide whether they block, and that never raise SIGPIPE.

use std::io::{self, IoSlice, IoSliceMut};

use mio::net::TcpStream;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg,
    send as send_one, sendmsg,
};

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
))]
pub(super) use self::blocking::{disable_blocking, enable_blocking, peek_blocking, recv_blocking};
use super::{MAX_BYTES, RecvBufs, SendBufs, slices_for_call};

/// A send to a closed connection must not raise SIGPIPE. On Apple's systems
/// [`forbid_signals`](crate::driver::sys::socket::forbid_signals) sees to that.
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

/// Returns the length to pass to one call. Linux limits it to [`MAX_BYTES`] itself.
#[inline(always)]
fn max_len(buf: &[u8]) -> usize {
    if cfg!(all(any(target_os = "linux", target_os = "android"), not(sockeye_bsd))) {
        buf.len()
    } else {
        buf.len().min(MAX_BYTES)
    }
}

pub(super) fn peek(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream, buf, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
}

/// Receives that block for a few milliseconds.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
))]
mod blocking {
    use std::io;
    use std::time::Duration;

    use mio::net::TcpStream;
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{RecvFlags, recv};

    use crate::driver::sys::wire::RecvBufs;

    /// The kernel rounds this up to its tick, which is 1 ms to 10 ms.
    const BLOCKING_RECV_TIMEOUT: Duration = Duration::from_millis(4);

    #[inline]
    pub(crate) fn recv_blocking(
        stream: &TcpStream,
        bufs: &mut RecvBufs<'_, '_>,
    ) -> io::Result<usize> {
        super::recv_with(stream, bufs, RecvFlags::empty())
    }

    pub(crate) fn peek_blocking(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(stream, buf, RecvFlags::PEEK)?.0)
    }

    pub(crate) fn enable_blocking(stream: &TcpStream) -> io::Result<()> {
        set_socket_timeout(stream, Timeout::Recv, Some(BLOCKING_RECV_TIMEOUT))?;
        rustix::io::ioctl_fionbio(stream, false)?;
        Ok(())
    }

    pub(crate) fn disable_blocking(stream: &TcpStream) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(stream, true)?)
    }
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
)))]
pub(super) fn recv_blocking(stream: &TcpStream, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
    receive(stream, bufs)
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
)))]
pub(super) fn peek_blocking(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    peek(stream, buf)
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
)))]
pub(super) fn enable_blocking(_stream: &TcpStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_condvar))
)))]
pub(super) fn disable_blocking(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}
