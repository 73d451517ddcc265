//! `TcpStream` over a socket.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Shutdown;
use super::kind::{Call, as_in_std};
use crate::driver::Descriptor;
use crate::error::{Error, ErrorKind, Result};
use crate::info::{Endpoints, Phase};
use crate::options::{SecureTransport, SocketOptions};
use crate::socket::{Connector, Socket};

/// A [`Socket`] with the methods of [`std::net::TcpStream`].
///
/// Keeps the descriptor until it is dropped, so that a borrowed number is never reused. The [module](super) lists the
/// differences to `std`.
pub struct TcpStream {
    // Dropped first, so that the socket can release the connection.
    descriptor: Descriptor,
    socket: Socket,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    /// Whether accepted data may wait in this process.
    may_queue: bool,
    /// Of all clones.
    nonblocking: Arc<AtomicBool>,
    /// Of this clone.
    took_error: AtomicBool,
}

impl TcpStream {
    /// Connects to the first of these addresses that answers. Waits for the connection, for at most 30 s.
    ///
    /// # Errors
    /// Those of [`connect`](crate::connect()) and of [`Socket::opened`]. `InvalidInput` if there is no address.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        Ok(open(&addresses, options())?)
    }

    /// Connects to an address, for at most `limit`.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect). `InvalidInput` if `limit` is zero.
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<Self> {
        Ok(open(&[*address], options().connect_timeout(limit))?)
    }

    /// Returns the peer's address.
    ///
    /// # Errors
    /// `AddrNotAvailable` for a Unix-domain socket, and if a proxy hides the address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.remote.ok_or_else(no_address)
    }

    /// Returns this end's address.
    ///
    /// # Errors
    /// `AddrNotAvailable` for a Unix-domain socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local.ok_or_else(no_address)
    }

    /// Ends one direction or both. `Write` is [`Writer::close`](crate::Writer::close), `Read` is
    /// [`Reader::cancel`](crate::Reader::cancel), `Both` is both.
    ///
    /// # Errors
    /// `NotConnected` if the stream has ended. Otherwise those of `Writer::close`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if self.socket.phase() == Phase::Closed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the stream has ended"));
        }
        if how != Shutdown::Write {
            self.socket.reader().cancel();
        }
        if how != Shutdown::Read {
            self.socket.writer().close().map_err(|error| as_in_std(error.into(), Call::Write))?;
        }
        Ok(())
    }

    /// Returns another handle of the same socket. Never fails.
    ///
    /// # Errors
    /// None.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(TcpStream {
            descriptor: self.descriptor.clone(),
            socket: self.socket.clone(),
            remote: self.remote,
            local: self.local,
            may_queue: self.may_queue,
            nonblocking: Arc::clone(&self.nonblocking),
            took_error: AtomicBool::new(false),
        })
    }

    /// Sets the read timeout of all clones. `None` waits for as long as it takes.
    ///
    /// A read that times out fails as with `std` on this system: `WouldBlock` on Unix, and `TimedOut` on Windows.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        Ok(self.socket.set_read_timeout(limit)?)
    }

    /// Sets the write timeout of all clones, as [`set_read_timeout`](Self::set_read_timeout) does for reads.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        Ok(self.socket.set_write_timeout(limit)?)
    }

    /// Returns the read timeout.
    ///
    /// # Errors
    /// None.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.read_timeout())
    }

    /// Returns the write timeout.
    ///
    /// # Errors
    /// None.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.socket.write_timeout())
    }

    /// Copies what a read would return, and leaves it unread.
    ///
    /// # Errors
    /// Those of a read.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let peeked = match self.is_nonblocking() {
            true => self.socket.try_peek(buf),
            false => self.socket.peek(buf),
        };
        peeked.map_err(|error| as_in_std(error, Call::Read))
    }

    /// Sets `TCP_NODELAY`, which is on at first.
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.descriptor.set_nodelay(on)
    }

    /// Returns `TCP_NODELAY`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.descriptor.nodelay()
    }

    /// Sets the time to live of packets (`IP_TTL`), or over IPv6 their hop limit (`IPV6_UNICAST_HOPS`).
    ///
    /// # Errors
    /// The operating system's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.descriptor.set_ttl(ttl)
    }

    /// Returns the time to live of packets, or their hop limit.
    ///
    /// # Errors
    /// The operating system's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.descriptor.ttl()
    }

    /// Returns the failure of the stream, once for each clone. `None` without a failure, and after a clean end.
    ///
    /// # Errors
    /// None.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let failure = match self.socket.closed_timeout(Duration::ZERO) {
            // This side's own end, and none yet.
            Err(error) if error.kind() == ErrorKind::Closed || error.is_retryable() => None,
            ended => ended.err(),
        };
        let failure = failure.filter(|_| !self.took_error.swap(true, Ordering::Relaxed));
        Ok(failure.map(|error| as_in_std(error.into(), Call::Read)))
    }

    /// Makes reads, writes and peeks of all clones fail with `WouldBlock` instead of waiting. The descriptor's own mode
    /// belongs to the crate.
    ///
    /// # Errors
    /// None.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.nonblocking.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the socket, for what `std` lacks: `close`, `abort`, deadlines, `opened`, TLS.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Takes an accepted socket. Waits only if its addresses are not known before it is open, so not for a handshake.
    pub(super) fn accepted(socket: Socket) -> Result<Self> {
        match socket.accepted_endpoints() {
            Some(endpoints) => {
                let may_queue = socket.secure_transport() == SecureTransport::On;
                TcpStream::connected(socket, endpoints, may_queue)
            }
            None => TcpStream::try_from(socket),
        }
    }

    fn connected(socket: Socket, endpoints: Endpoints, may_queue: bool) -> Result<Self> {
        let Some(descriptor) = socket.descriptor() else {
            socket.closed()?;
            return Err(Error::with_message(ErrorKind::Closed, "the socket has ended"));
        };
        Ok(TcpStream {
            descriptor,
            socket,
            remote: endpoints.remote,
            local: endpoints.local,
            may_queue,
            nonblocking: Arc::default(),
            took_error: AtomicBool::new(false),
        })
    }

    #[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model lends no descriptor"))]
    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    fn read_slices(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.is_nonblocking() {
            return (&self.socket).read_vectored(bufs);
        }
        match bufs.iter_mut().find(|buf| !buf.is_empty()) {
            Some(buf) => self.socket.try_read(buf),
            None => self.socket.try_read(&mut []),
        }
    }

    fn write_slices(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.is_nonblocking() {
            return (&self.socket).write_vectored(bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.socket.try_write(first.map_or(&[], |buf| buf))
    }
}

/// The options of a stream that behaves as in `std`.
pub(super) fn options() -> SocketOptions {
    SocketOptions::new().allow_half_open(true)
}

fn open(addresses: &[SocketAddr], options: SocketOptions) -> Result<TcpStream> {
    TcpStream::try_from(Connector::global().connect_addrs(addresses, options)?)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, "the socket has no such address")
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match self.is_nonblocking() {
            true => self.socket.try_read(buf),
            false => (&self.socket).read(buf),
        };
        read.map_err(|error| as_in_std(error, Call::Read))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_slices(bufs).map_err(|error| as_in_std(error, Call::Read))
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = match self.is_nonblocking() {
            true => self.socket.try_write(buf),
            false => (&self.socket).write(buf),
        };
        written.map_err(|error| as_in_std(error, Call::Write))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_slices(bufs).map_err(|error| as_in_std(error, Call::Write))
    }

    /// In plaintext the kernel has all accepted data. Over TLS, waits until it has, unless the mode is non-blocking.
    fn flush(&mut self) -> io::Result<()> {
        if !self.may_queue || self.is_nonblocking() {
            return Ok(());
        }
        (&self.socket).flush().map_err(|error| as_in_std(error, Call::Write))
    }
}

/// Waits until the socket is open. The socket may also use TLS, a proxy, or a Unix-domain address.
///
/// # Errors
/// Those of [`Socket::opened`], and the reason why a socket has ended since. `Closed` after a clean end.
impl TryFrom<Socket> for TcpStream {
    type Error = Error;

    fn try_from(socket: Socket) -> Result<Self> {
        let info = socket.opened()?;
        // The connection to a proxy may use TLS.
        let may_queue = info.tls().is_some() || info.proxy_address().is_some();
        let endpoints = Endpoints::new(info.remote_address(), info.local_address());
        TcpStream::connected(socket, endpoints, may_queue)
    }
}

/// Returns [`TcpStream::socket`].
impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        stream.socket
    }
}

/// [Adopts](Connector::adopt) a stream by the global connector. The write side stays open after the peer's end, as in
/// `std`.
impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = Error;

    fn try_from(stream: std::net::TcpStream) -> Result<Self> {
        TcpStream::try_from(Connector::global().adopt(stream, options())?)
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TcpStream");
        if let Some(local) = self.local {
            shown.field("addr", &local);
        }
        if let Some(remote) = self.remote {
            shown.field("peer", &remote);
        }
        self.descriptor.describe(&mut shown).finish()
    }
}
