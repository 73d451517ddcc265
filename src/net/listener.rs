//! `TcpListener` over a listener.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::TcpStream;
use crate::driver::Descriptor;
use crate::error::{Error, ErrorKind, Result};
use crate::socket::Listener;

/// A [`Listener`] with the methods of [`std::net::TcpListener`]. The [module](super) lists the differences to `std`.
pub struct TcpListener {
    // Dropped first, so that the listener can release the address.
    descriptor: Descriptor,
    listener: Listener,
    local: SocketAddr,
    /// Of all clones.
    nonblocking: Arc<AtomicBool>,
    /// Of this clone.
    took_error: AtomicBool,
}

impl TcpListener {
    /// Listens on the first of these addresses that can be bound, as [`listen`](crate::listen) does.
    ///
    /// # Errors
    /// The operating system's, such as `AddrInUse`.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(TcpListener::try_from(crate::socket::listen(address)?)?)
    }

    /// Waits for a connection. Returns it with the client's address.
    ///
    /// Does not wait for a TLS handshake. If it fails, the reads and writes of that stream fail.
    ///
    /// # Errors
    /// - `NotConnected` once the listener is closed.
    /// - `WouldBlock` in non-blocking mode if no connection is complete, or if the accept deadline passed.
    /// - The operating system's, from then on always, if it ended the listener.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accepted = match self.nonblocking.load(Ordering::Relaxed) {
                true => self.listener.accept_timeout(Duration::ZERO),
                false => self.listener.accept(),
            };
            let socket = accepted.map_err(as_in_std)?;
            // A connection that is gone already is the client's fault.
            if let Ok(stream) = TcpStream::accepted(socket) {
                if let Ok(remote) = stream.peer_addr() {
                    return Ok((stream, remote));
                }
            }
        }
    }

    /// Returns an iterator over connections. It ends when the listener is closed, for every thread that iterates.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns the bound address, with the port that the system chose.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// Returns another handle of the same listener. Never fails.
    ///
    /// # Errors
    /// None.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(TcpListener {
            descriptor: self.descriptor.clone(),
            listener: self.listener.clone(),
            local: self.local,
            nonblocking: Arc::clone(&self.nonblocking),
            took_error: AtomicBool::new(false),
        })
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

    /// Returns the reason why the system ended the listener, once for each clone.
    ///
    /// # Errors
    /// None.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let failure = match self.listener.closed_timeout(Duration::ZERO) {
            Err(error) if error.is_retryable() => None,
            ended => ended.err(),
        };
        let failure = failure.filter(|_| !self.took_error.swap(true, Ordering::Relaxed));
        Ok(failure.map(io::Error::from))
    }

    /// Makes `accept` of all clones fail with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// None.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.nonblocking.store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the listener, for what `std` lacks: `close`, timeouts and deadlines of `accept`, limits.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    #[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model lends no descriptor"))]
    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

fn as_in_std(error: Error) -> io::Error {
    match error.kind() {
        // SO_RCVTIMEO reports EAGAIN, and a non-blocking accept does.
        ErrorKind::TimedOut => io::Error::new(io::ErrorKind::WouldBlock, error),
        _ => error.into(),
    }
}

/// Takes a TCP listener that [accepts](crate::ListenOptions::accept_when) when
/// [`Connected`](crate::AcceptWhen::Connected).
///
/// # Errors
/// [`InvalidState`](ErrorKind::InvalidState) for another one, and for one that is closed.
impl TryFrom<Listener> for TcpListener {
    type Error = Error;

    fn try_from(listener: Listener) -> Result<Self> {
        let invalid = |message| Err(Error::with_message(ErrorKind::InvalidState, message));
        if listener.accepts_when_opened() {
            return invalid(
                "the listener accepts when connections are open, not when they connect",
            );
        }
        let Some(local) = listener.local_address() else {
            return invalid("the listener is no TCP listener");
        };
        match listener.descriptor() {
            Some(descriptor) => Ok(TcpListener {
                descriptor,
                listener,
                local,
                nonblocking: Arc::default(),
                took_error: AtomicBool::new(false),
            }),
            None => invalid("the listener is closed"),
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TcpListener");
        shown.field("addr", &self.local);
        self.descriptor.describe(&mut shown).finish()
    }
}

/// An iterator over connections: see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(error) if is_closed(&error) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl FusedIterator for Incoming<'_> {}

fn is_closed(error: &io::Error) -> bool {
    Error::from_io(error).is_some_and(|error| error.kind() == ErrorKind::Closed)
}
