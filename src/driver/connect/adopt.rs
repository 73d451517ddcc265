//! Adopts connections that the program made itself: `std` streams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use socket2::SockRef;

use super::dial::{self, DialResult};
use crate::driver::sys::ALWAYS_UNIX;
use crate::driver::sys::connecting::apply_options;
use crate::driver::sys::errno::{fault_from_setup, os_code};
use crate::driver::sys::listen::Accepted;
use crate::driver::sys::socket::{
    describe_other, forbid_signals, has_failed, has_pending_error, is_listening,
};
use crate::driver::sys::sync::mio;
use crate::driver::sys::unix_domain::{StdStream, adopt_stream};
use crate::driver::sys::wire::Wire;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::options::TcpOptions;
use crate::unix::{Requested, SharedPeer};

/// An established connection, which takes the place of connection attempts.
#[derive(Debug)]
pub(crate) struct AdoptedStream {
    stream: mio::net::TcpStream,
    /// Whether both sides have ended, without an error.
    both_ended: bool,
    /// The peer of a Unix-domain socket.
    unix: SharedPeer,
    /// Whether a listener accepted it.
    is_accepted: bool,
}

impl AdoptedStream {
    /// Checks and configures a stream. Returns it with the peer's address, or with the unspecified address and port 0
    /// if the connection is over.
    pub(crate) fn new(stream: TcpStream, options: &TcpOptions) -> Result<(Self, SocketAddr)> {
        let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        if ALWAYS_UNIX {
            stream.set_nonblocking(true).map_err(failed)?;
            let stream = mio::net::TcpStream::from_std(stream);
            let remote = (Ipv4Addr::LOCALHOST, 9).into();
            return Ok((AdoptedStream::given(stream, false, None), remote));
        }
        let socket = SockRef::from(&stream);
        let other = match describe_other(&socket).map_err(failed)? {
            None if is_listening(&socket) == Some(true) => Some("a listening socket".to_owned()),
            other => other,
        };
        if let Some(other) = other {
            let message =
                format!("cannot adopt the descriptor: it is {other}, not a TCP connection");
            return Err(Error::with_message(ErrorKind::InvalidState, message));
        }
        let mut peer = peer(&stream)?;
        let set = || -> io::Result<()> {
            let socket = SockRef::from(&stream);
            forbid_signals(&socket)?;
            socket.set_nonblocking(true)?;
            // The other options are off by default.
            socket.set_tcp_nodelay(options.sets_nodelay())?;
            apply_options(&socket, options)
        };
        if let Err(error) = set() {
            // Some systems reject options if the connection is over. Nothing depends on the options then. The peer may
            // have reset it a moment ago.
            if peer.remote.port() != 0 {
                peer = self::peer(&stream)?;
            }
            if peer.remote.port() != 0 {
                return Err(Error::from_fault(fault_from_setup(&error)));
            }
            stream.set_nonblocking(true).map_err(failed)?;
        }
        let stream = mio::net::TcpStream::from_std(stream);
        Ok((AdoptedStream::given(stream, peer.both_ended, None), peer.remote))
    }

    /// Checks and configures a Unix-domain stream. Returns it with the peer's address, as messages show it.
    pub(crate) fn unix(stream: StdStream, options: &TcpOptions) -> Result<(Self, Requested)> {
        let (stream, peer) = adopt_stream(stream, options)?;
        let requested = Requested::unix(peer.address.clone());
        let adopted = AdoptedStream::given(stream, false, Some(Arc::new(peer)));
        Ok((adopted, requested))
    }

    /// Wraps a stream that a listener accepted.
    pub(crate) fn accepted(accepted: Accepted) -> Self {
        let Accepted { stream, remote: _, unix } = accepted;
        AdoptedStream { stream, both_ended: false, unix, is_accepted: true }
    }

    /// Wraps a stream that the program gave.
    fn given(stream: mio::net::TcpStream, both_ended: bool, unix: SharedPeer) -> Self {
        AdoptedStream { stream, both_ended, unix, is_accepted: false }
    }

    pub(crate) fn into_dial_result(self) -> DialResult {
        dial::into_dial_result(self.into_wire(), false)
    }

    pub(crate) fn into_wire(self) -> Wire {
        let AdoptedStream { stream, both_ended, unix, is_accepted } = self;
        match (is_accepted, unix) {
            (true, unix) => Wire::accepted(stream, unix),
            (false, Some(peer)) => Wire::adopted_unix(stream, Some(peer)),
            (false, None) => Wire::adopted(stream, both_ended),
        }
    }
}

/// The peer of a stream that is adopted.
struct AdoptedPeer {
    /// The peer's address, or the unspecified address and port 0 if the connection is over.
    remote: SocketAddr,
    /// Whether both sides have ended, without an error.
    both_ended: bool,
}

/// Checks that a stream is connected, or has unread data.
fn peer(stream: &TcpStream) -> Result<AdoptedPeer> {
    match stream.peer_addr() {
        Ok(remote) if !has_failed(stream) => Ok(AdoptedPeer { remote, both_ended: false }),
        Ok(_) | Err(_) => {
            let remote = check_unread_data(stream)?;
            Ok(AdoptedPeer { remote, both_ended: !has_pending_error(stream) })
        }
    }
}

/// Checks that a connection that is over still has unread data, and returns an unspecified address for the peer. After
/// both FINs or a reset the kernel no longer reports the peer's address. Peeking consumes neither the data nor the
/// error after it.
fn check_unread_data(stream: &TcpStream) -> Result<SocketAddr> {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    match peeked {
        Ok(0) => {
            let message = "cannot adopt the stream: its connection has ended, with nothing to read";
            Err(Error::with_message(ErrorKind::Connect, message))
        }
        Ok(_) => {
            let v6 = stream.local_addr().is_ok_and(|local| local.is_ipv6());
            Ok(if v6 {
                (Ipv6Addr::UNSPECIFIED, 0).into()
            } else {
                (Ipv4Addr::UNSPECIFIED, 0).into()
            })
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let message = "cannot adopt the stream: it is still connecting";
            Err(Error::with_message(ErrorKind::Connect, message))
        }
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::NotConnected => "it is not connected",
                io::ErrorKind::ConnectionReset => "the peer has reset it, with nothing to read",
                _ => "its connection has failed, with nothing to read",
            };
            Err(Error::with_message(ErrorKind::Connect, format!("cannot adopt the stream: {why}")))
        }
    }
}
