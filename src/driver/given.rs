//! Connections that somebody else has made: from the streams of `std`.

use std::io;
use std::net::TcpStream;

use super::dial::{self, Dialled};
use super::errno::code;
use super::sync::mio;
use super::wire::{Wire, forbid_signals};
use crate::error::{Error, Fault, Result};
use crate::options::TcpOptions;

/// An established connection, in place of the attempts that would make one.
#[derive(Debug)]
pub(crate) struct Given(TcpStream);

impl Given {
    pub(crate) fn new(stream: TcpStream, options: &TcpOptions) -> Result<Self> {
        let set = || -> io::Result<()> {
            let socket = socket2::SockRef::from(&stream);
            socket.set_nonblocking(true)?;
            forbid_signals(&socket)?;
            // The other options are off where nobody has set them.
            socket.set_tcp_nodelay(options.nodelay)?;
            dial::set(&socket, options)
        };
        set().map_err(|error| Error::from_fault(Fault::Io(code(&error))))?;
        Ok(Given(stream))
    }

    pub(super) fn dialled(self) -> Dialled {
        dial::made(Wire::new(mio::net::TcpStream::from_std(self.0)), false)
    }
}
