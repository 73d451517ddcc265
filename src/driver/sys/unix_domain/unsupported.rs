//! Systems without Unix-domain sockets, and the model. No address can be created there.

use std::convert::Infallible;
use std::io;

use super::UnixListening;
use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::errno::AcceptFailure;
use crate::driver::sys::sync::mio::net::{TcpListener, TcpStream};
use crate::driver::sys::wire::Wire;
use crate::egress::FileId;
use crate::error::{Error, Fault, Result};
use crate::options::TcpOptions;
use crate::unix::{UnixAddress, UnixPeer};

#[cfg(unix)]
pub(crate) use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};

#[cfg(not(unix))]
pub(crate) type StdStream = Infallible;
#[cfg(not(unix))]
pub(crate) type StdListener = Infallible;

#[derive(Debug)]
pub(crate) struct BoundPath(Infallible);

impl BoundPath {
    pub(crate) fn remove(&self) {
        match self.0 {}
    }
}

pub(crate) fn start_connect(
    _: &UnixAddress,
    _: &TcpOptions,
) -> std::result::Result<(Wire, bool), Fault> {
    Err(Fault::Connect(0))
}

pub(crate) fn bind(_: &UnixAddress, _: &BindOptions) -> io::Result<UnixListening> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn accept(
    _: &TcpListener,
    _: &TcpOptions,
) -> Result<(TcpStream, UnixPeer), AcceptFailure> {
    Err(AcceptFailure::Listener(Fault::Io(0)))
}

pub(crate) fn file_of(_: &UnixAddress) -> Option<FileId> {
    None
}

pub(crate) fn empty_queue(_: &TcpListener) {}

pub(crate) fn adopt_stream(_: StdStream, _: &TcpOptions) -> Result<(TcpStream, UnixPeer)> {
    Err(Error::from_fault(Fault::Io(0)))
}

pub(crate) fn adopt_listener(_: StdListener) -> Result<UnixListening> {
    Err(Error::from_fault(Fault::Io(0)))
}
