//! Calls through mio or the model on a descriptor in non-blocking mode. A broken pipe raises no signal there.

use std::io::{self, Read, Write};

use super::{MAX_BYTES, RecvBufs, SendBufs, TcpStream, slices_for_call};

pub(super) fn receive(mut stream: &TcpStream, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
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

pub(super) fn recv_blocking(stream: &TcpStream, bufs: &mut RecvBufs<'_, '_>) -> io::Result<usize> {
    receive(stream, bufs)
}

pub(super) fn enable_blocking(_stream: &TcpStream) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub(super) fn disable_blocking(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}

pub(super) fn send(mut stream: &TcpStream, bufs: &SendBufs<'_, '_>) -> io::Result<usize> {
    match bufs {
        SendBufs::One(buf) => stream.write(&buf[..buf.len().min(MAX_BYTES)]),
        SendBufs::Many(bufs) => stream.write_vectored(&bufs[slices_for_call(bufs)]),
    }
}

pub(super) fn peek_blocking(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    peek(stream, buf)
}

pub(super) fn peek(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    stream.peek(buf)
}
