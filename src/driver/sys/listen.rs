//! One listening socket: its descriptor and every system call on it.

#[cfg(not(all(unix, not(all(sockeye_shuttle, sockeye_condvar)))))]
mod portable;
#[cfg(not(sockeye_shuttle))]
mod system;
#[cfg(all(unix, not(all(sockeye_shuttle, sockeye_condvar))))]
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(not(all(unix, not(all(sockeye_shuttle, sockeye_condvar)))))]
use self::portable::Listening;
#[cfg(all(unix, not(all(sockeye_shuttle, sockeye_condvar))))]
use self::unix::Listening;
use super::ALWAYS_UNIX;
use super::bind_options::BindOptions;
use super::errno::{AcceptFailure, classify_accept};
#[cfg(sockeye_shuttle)]
use super::shuttle as system;
use super::starvation::NotifyFreed;
use super::sync::mio::net::{TcpListener, TcpStream};
use super::sync::mio::{self, Token};
use super::unix_domain::{self, BoundPath, StdListener, UnixListening};
use super::wire::Wire;
use crate::egress::FileId;
use crate::error::{Error, Result};
use crate::options::TcpOptions;
use crate::unix::{SharedPeer, UnixAddress};

/// Whether an accepted connection has the options of the listener, so that they need not be set again.
const OPTIONS_ARE_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether several listeners can share a port.
pub(crate) const SUPPORTS_REUSE_PORT: bool =
    cfg!(all(unix, not(any(target_os = "solaris", target_os = "illumos"))));

/// A listening socket. The descriptor is closed when the last call on it has returned.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    listening: Listening,
    /// Options of accepted connections.
    tcp: TcpOptions,
    unix: Option<UnixSide>,
    #[expect(dead_code, reason = "it is dropped last, when the descriptor is closed")]
    freed: NotifyFreed,
}

/// What a listening Unix-domain socket has besides its descriptor.
#[derive(Debug)]
struct UnixSide {
    address: Option<UnixAddress>,
    bound: Option<BoundPath>,
    file: Option<FileId>,
}

/// The address of a listener.
#[derive(Clone, Debug)]
pub(crate) enum ListenAddress {
    Ip(SocketAddr),
    /// A Unix-domain address, if an adopted listener has one.
    Unix(Option<UnixAddress>),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Unix(Some(address)) => address.text().fmt(f),
            ListenAddress::Unix(None) => f.write_str("unix:unnamed"),
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// The client's address; `None` for a Unix-domain socket.
    pub(crate) remote: Option<SocketAddr>,
    /// The client of a Unix-domain socket.
    pub(crate) unix: SharedPeer,
}

impl Accepted {
    /// Resets a connection of which no socket is made.
    pub(crate) fn reset(self) {
        Arc::new(Wire::accepted(self.stream, self.unix)).reset_and_close();
    }
}

impl ListenSocket {
    /// Binds a Unix-domain address and listens.
    pub(crate) fn bind_unix(address: &UnixAddress, options: &BindOptions) -> io::Result<Self> {
        ListenSocket::of_unix(unix_domain::bind(address, options)?, &options.tcp)
    }

    /// Takes over a Unix-domain socket that listens already.
    ///
    /// # Errors
    /// [`InvalidState`](crate::ErrorKind::InvalidState) if it is not a listening Unix-domain socket; `Io`.
    pub(crate) fn adopt_unix(listener: StdListener, tcp: &TcpOptions) -> Result<Self> {
        let listening = unix_domain::adopt_listener(listener)?;
        ListenSocket::of_unix(listening, tcp).map_err(Error::from)
    }

    fn of_unix(listening: UnixListening, tcp: &TcpOptions) -> io::Result<Self> {
        let UnixListening { listener, address, bound, file } = listening;
        match ListenSocket::new(listener, tcp) {
            Ok(socket) => {
                Ok(ListenSocket { unix: Some(UnixSide { address, bound, file }), ..socket })
            }
            Err(error) => {
                if let Some(bound) = bound {
                    bound.remove();
                }
                Err(error)
            }
        }
    }

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
        Ok(ListenSocket { listening, tcp: tcp.clone(), unix: None, freed: NotifyFreed })
    }

    pub(crate) fn local_address(&self) -> io::Result<ListenAddress> {
        match &self.unix {
            Some(unix) => Ok(ListenAddress::Unix(unix.address.clone())),
            None => self.listening.with(system::local_addr).map(ListenAddress::Ip),
        }
    }

    /// Returns the identity of a Unix-domain path, which it had when the listener was made.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.unix.as_ref()?.file
    }

    /// Accepts a connection that is complete.
    pub(crate) fn accept(&self) -> Result<Accepted, AcceptFailure> {
        if self.unix.is_none() {
            let (stream, remote) = self.accept_tcp()?;
            return Ok(Accepted { stream, remote: Some(remote), unix: None });
        }
        let (stream, peer) =
            self.listening.with(|listener| unix_domain::accept(listener, &self.tcp))?;
        Ok(Accepted { stream, remote: None, unix: Some(Arc::new(peer)) })
    }

    fn accept_tcp(&self) -> Result<(TcpStream, SocketAddr), AcceptFailure> {
        loop {
            match self.listening.with(system::accept) {
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

    /// Returns whether a connection is complete, or an accept fails at once. `None` if the system does not tell.
    pub(crate) fn has_connection(&self) -> Option<bool> {
        self.listening.with(system::has_connection)
    }

    /// Sets the backlog to 0: connections that are complete stay, and no further ones are completed while there are any.
    pub(crate) fn shrink_backlog(&self) {
        self.listening.with(system::shrink_backlog);
    }

    /// Removes the path of a Unix-domain socket, unless another file has taken its place.
    pub(crate) fn remove_path(&self) {
        if let Some(bound) = self.unix.as_ref().and_then(|unix| unix.bound.as_ref()) {
            bound.remove();
        }
    }

    /// Stops listening, although other processes or a [`Descriptor`](super::descriptor::Descriptor) may keep the
    /// descriptor open. Only Linux can.
    pub(crate) fn stop(&self) {
        self.listening.with(system::stop);
        if self.unix.is_some() || ALWAYS_UNIX {
            self.listening.with(unix_domain::empty_queue);
        }
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
    Wire(Arc<Wire>),
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
