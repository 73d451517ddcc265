//! The driver's side of a connection of the model.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(not(sockeye_condvar))]
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;

use rustix::io::Errno;

use super::{Reachability, State};
use crate::driver::sys::shuttle::call;
use crate::driver::sys::shuttle::poll_bits::PollBits;
use crate::options::TcpOptions;

/// A model of mio's `TcpStream`.
#[derive(Debug)]
pub(crate) struct TcpStream(pub(in crate::driver::sys::shuttle) RawFd);

/// Connects to the only peer there is. Returns whether the attempt is in progress.
#[expect(clippy::unnecessary_wraps, reason = "the same signature as outside the model")]
pub(crate) fn start_connect(
    address: SocketAddr,
    _options: &TcpOptions,
) -> io::Result<(TcpStream, bool)> {
    let (descriptor, reachability) = call(|system| (system.dial(address), system.reachability));
    Ok((TcpStream(descriptor), reachability == Reachability::Deferred))
}

impl TcpStream {
    pub(crate) fn from_std(_stream: std::net::TcpStream) -> Self {
        unreachable!("the model creates its own streams")
    }

    pub(crate) fn shutdown(&self, _how: std::net::Shutdown) -> io::Result<()> {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state != State::Established {
                return Err(Errno::NOTCONN.into());
            }
            socket.fin_sent = true;
            system.signal(self.0, PollBits::ANYTHING);
            Ok(())
        })
    }

    pub(crate) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        Ok(true)
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(call(|system| system.socket(self.0).failure.take()).map(io::Error::from))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match call(|system| system.socket(self.0).state) {
            State::Established => Ok(call(|system| system.socket(self.0).address)),
            State::Listening | State::Dialling | State::Reset | State::Disconnected => {
                Err(Errno::NOTCONN.into())
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)))
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        call(|system| system.socket(self.0).recv(buf, false))
    }

    pub(crate) fn is_unix(&self) -> bool {
        call(|system| system.socket(self.0).is_unix)
    }

    pub(crate) fn is_hung_up(&self) -> bool {
        call(|system| system.socket(self.0).poll_bits().contains(PollBits::HUP))
    }

    /// Returns the number of bytes to receive. `None` if a receive would find the end or a failure.
    pub(crate) fn available(&self) -> Option<usize> {
        call(|system| {
            let socket = system.socket(self.0);
            match socket.incoming.len() {
                0 if socket.poll_bits().reported(PollBits::IN) != PollBits::NOTHING => None,
                bytes => Some(bytes),
            }
        })
    }

    pub(crate) fn is_writable(&self) -> bool {
        call(|system| {
            system.socket(self.0).poll_bits().reported(PollBits::OUT) != PollBits::NOTHING
        })
    }

    /// Resets the connection, as connect(2) to `AF_UNSPEC` does.
    pub(crate) fn reset(&self) {
        call(|system| system.disconnect(self.0));
    }
}

#[cfg(sockeye_condvar)]
impl crate::driver::sys::shuttle::mio::event::Source for TcpStream {
    fn register(
        &mut self,
        registry: &crate::driver::sys::shuttle::mio::Registry,
        token: crate::driver::sys::shuttle::mio::Token,
        interest: crate::driver::sys::shuttle::mio::Interest,
    ) -> io::Result<()> {
        call(|system| system.register(registry.0, self.0, token, interest))
    }
}

#[cfg(not(sockeye_condvar))]
impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl io::Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        call(|system| system.socket(self.0).recv(buf, true))
    }
}

impl io::Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        call(|system| {
            let sent = system.socket(self.0).send(buf)?;
            system.signal(self.0, PollBits::NOTHING);
            Ok(sent)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        call(|system| system.close(self.0));
    }
}
