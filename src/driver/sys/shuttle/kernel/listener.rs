//! Listening sockets of the model, and the peers that dial them.

use std::io;
use std::net::SocketAddr;
#[cfg(not(sockeye_condvar))]
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;

use rustix::io::Errno;

use super::stream::TcpStream;
use super::{ModelSocket, Peer, State, System};
use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::shuttle::call;
use crate::driver::sys::shuttle::poll_bits::PollBits;

/// A model of mio's `TcpListener`.
#[derive(Debug)]
pub(crate) struct TcpListener(pub(in crate::driver::sys::shuttle) RawFd);

/// Listens on an address, which only one socket may do at a time.
pub(crate) fn bind(address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    let backlog = usize::try_from(options.backlog).expect("a backlog fits");
    let socket = ModelSocket { backlog, ..ModelSocket::new(address, State::Listening, 0) };
    call(|system| match system.listener_at(address) {
        Some(_) => Err(Errno::ADDRINUSE.into()),
        None => Ok(TcpListener(system.open(socket))),
    })
}

pub(crate) fn shrink_backlog(listener: &TcpListener) {
    call(|system| system.socket(listener.0).backlog = 0);
}

pub(crate) fn has_connection(listener: &TcpListener) -> Option<bool> {
    Some(call(|system| !system.socket(listener.0).pending.is_empty()))
}

pub(crate) fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.local_addr()
}

pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    listener.accept()
}

/// Does nothing: the descriptor is about to be closed.
pub(crate) fn stop(_listener: &TcpListener) {}

impl TcpListener {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(call(|system| system.socket(self.0).address))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        call(|system| {
            let next = system.socket(self.0).pending.pop_front();
            let descriptor = next.ok_or(Errno::AGAIN)?;
            let remote = system.socket(descriptor).address;
            Ok((TcpStream(descriptor), remote))
        })
    }
}

/// Resets the connections that no thread has accepted.
impl Drop for TcpListener {
    fn drop(&mut self) {
        call(|system| {
            for descriptor in std::mem::take(&mut system.socket(self.0).pending) {
                system.disconnect(descriptor);
                system.close(descriptor);
            }
            system.close(self.0);
        });
    }
}

impl System {
    fn listener_at(&mut self, address: SocketAddr) -> Option<RawFd> {
        let is_open = |socket: &ModelSocket| {
            socket.state == State::Listening && !socket.closed && socket.address == address
        };
        let index = self.sockets.iter().position(is_open)?;
        Some(RawFd::try_from(index).expect("a run opens few descriptors"))
    }
}

impl Peer {
    /// Dials a listener of the program, from this address. Returns `None` if nothing listens there, or if the
    /// listener's queue is full. As on Linux, the queue takes one connection more than its backlog.
    #[must_use]
    pub fn connect(listener: SocketAddr, from: SocketAddr) -> Option<Self> {
        call(|system| {
            let listener = system.listener_at(listener)?;
            let socket = system.socket(listener);
            if socket.pending.len() > socket.backlog {
                return None;
            }
            let descriptor = system.open(ModelSocket::new(from, State::Established, usize::MAX));
            system.socket(listener).pending.push_back(descriptor);
            system.signal(listener, PollBits::IN);
            Some(Peer(descriptor))
        })
    }
}

#[cfg(sockeye_condvar)]
impl crate::driver::sys::shuttle::mio::event::Source for TcpListener {
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
impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
