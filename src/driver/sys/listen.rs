//! One listening socket: its descriptor and every system call on it.

#[cfg(not(all(unix, not(all(sockeye_shuttle, sockeye_condvar)))))]
mod portable;
#[cfg(not(sockeye_shuttle))]
mod system;
#[cfg(all(unix, not(all(sockeye_shuttle, sockeye_condvar))))]
mod unix;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(not(all(unix, not(all(sockeye_shuttle, sockeye_condvar)))))]
use self::portable::Listening;
#[cfg(all(unix, not(all(sockeye_shuttle, sockeye_condvar))))]
use self::unix::Listening;
use super::errno::{AcceptFailure, classify_accept};
#[cfg(sockeye_shuttle)]
use super::shuttle as system;
use super::starvation::NotifyFreed;
use super::sync::mio::net::{TcpListener, TcpStream};
use super::sync::mio::{self, Token};
#[cfg(not(sockeye_shuttle))]
use crate::error::Error;
use crate::error::Result;
use crate::options::TcpOptions;

/// Whether an accepted connection has the options of the listener, so that they need not be set again.
const OPTIONS_ARE_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Options of a listening socket.
#[derive(Clone, Debug)]
#[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model has no options"))]
pub(crate) struct BindOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    /// Options that accepted connections inherit.
    pub(crate) tcp: TcpOptions,
}

/// Whether several listeners can share a port.
pub(crate) const SUPPORTS_REUSE_PORT: bool =
    cfg!(all(unix, not(any(target_os = "solaris", target_os = "illumos"))));

/// A listening socket. The descriptor is closed when the last call on it has returned.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    listening: Listening,
    /// Options of accepted connections.
    tcp: TcpOptions,
    #[expect(dead_code, reason = "it is dropped last, when the descriptor is closed")]
    freed: NotifyFreed,
}

impl ListenSocket {
    /// Binds an address and listens.
    pub(crate) fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<Self> {
        let listener = system::bind(address, options)?;
        ListenSocket::new(listener, &options.tcp)
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// [`InvalidState`](crate::ErrorKind::InvalidState) if it is not a listening TCP socket; `Io`.
    #[cfg(not(sockeye_shuttle))]
    pub(crate) fn adopt(listener: std::net::TcpListener, tcp: &TcpOptions) -> Result<Self> {
        let listener = system::adopt(listener, tcp)?;
        ListenSocket::new(listener, tcp).map_err(Error::from)
    }

    #[cfg(sockeye_shuttle)]
    pub(crate) fn adopt(_: std::net::TcpListener, _: &TcpOptions) -> Result<Self> {
        unreachable!("the model creates its own listeners")
    }

    fn new(listener: TcpListener, tcp: &TcpOptions) -> io::Result<Self> {
        let listening = Listening::new(listener)?;
        Ok(ListenSocket { listening, tcp: tcp.clone(), freed: NotifyFreed })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listening.with(TcpListener::local_addr)
    }

    /// Accepts a connection that is complete. Returns its stream and the peer's address.
    pub(crate) fn accept(&self) -> Result<(TcpStream, SocketAddr), AcceptFailure> {
        loop {
            match self.listening.with(TcpListener::accept) {
                Ok((stream, remote)) => {
                    // A failure means that the connection is over, which its first read reports.
                    if !OPTIONS_ARE_INHERITED {
                        let _ = set_options(&stream, &self.tcp);
                    }
                    return Ok((stream, remote));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(classify_accept(&error)),
            }
        }
    }

    /// Sets the backlog to 0: connections that are complete stay, and no further ones are completed while there are any.
    pub(crate) fn shrink_backlog(&self) {
        self.listening.with(system::shrink_backlog);
    }

    /// Stops listening, although other processes or a [`Descriptor`](super::descriptor::Descriptor) may keep the
    /// descriptor open. Only Linux can.
    pub(crate) fn stop(&self) {
        self.listening.with(system::stop);
    }

    /// Registers the descriptor edge-triggered for connections. The first event reports the current state.
    pub(crate) fn register(&self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        self.listening.register(registry, token)
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) {
        self.listening.deregister(registry);
    }

    #[cfg(all(unix, not(sockeye_condvar)))]
    pub(crate) fn listener(&self) -> &TcpListener {
        self.listening.listener()
    }

    #[cfg(all(unix, not(sockeye_shuttle)))]
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.listening.listener())
    }

    #[cfg(windows)]
    pub(crate) fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.listening.as_socket()
    }
}

#[cfg(not(sockeye_shuttle))]
fn set_options(stream: &TcpStream, tcp: &TcpOptions) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    super::socket::forbid_signals(&socket)?;
    super::connecting::apply_options(&socket, tcp)
}

#[cfg(sockeye_shuttle)]
fn set_options(_: &TcpStream, _: &TcpOptions) -> io::Result<()> {
    Ok(())
}

/// Something that the event loop can register.
#[derive(Debug)]
pub(crate) enum Registrable {
    Wire(Arc<super::wire::Wire>),
    Listener(Arc<ListenSocket>),
}

impl Registrable {
    pub(crate) fn register(
        &mut self,
        registry: &mio::Registry,
        token: Token,
        interest: mio::Interest,
    ) -> io::Result<()> {
        match self {
            Registrable::Wire(wire) => wire.register(registry, token, interest),
            Registrable::Listener(listener) => listener.register(registry, token),
        }
    }

    pub(crate) fn deregister(&self, registry: &mio::Registry) {
        match self {
            Registrable::Wire(wire) => wire.deregister(registry),
            Registrable::Listener(listener) => listener.deregister(registry),
        }
    }
}
