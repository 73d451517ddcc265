//! The peer's side of a connection of the model, which the tests play.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use rustix::io::Errno;

use super::{ModelSocket, State};
use crate::driver::sys::shuttle::poll_bits::PollBits;
use crate::driver::sys::shuttle::{call, wait, world};

/// The peer of a connection, with its kernel.
#[derive(Debug)]
pub struct Peer(pub(super) RawFd);

/// How the socket ended the connection, as seen by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSaw {
    /// The socket sent FIN.
    Fin,
    /// The socket sent a reset.
    Reset,
}

impl Peer {
    /// Waits for the next connection and accepts it.
    #[must_use]
    pub fn accept() -> Self {
        wait(|world, waker| {
            let system = &mut world.system;
            while system.accepted < system.sockets.len() {
                system.accepted += 1;
                if system.sockets[system.accepted - 1].dialled {
                    return Some(Peer(
                        RawFd::try_from(system.accepted - 1).expect("a run opens few descriptors"),
                    ));
                }
            }
            system.watch_changes(waker);
            None
        })
    }

    /// Returns the address that was dialled, or from which the peer has dialled.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        world().system.socket(self.0).address
    }

    /// Establishes the connection if it is still being dialled.
    pub fn complete_connect(&self) {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state == State::Dialling {
                socket.state = State::Established;
                system.signal(self.0, PollBits::ANYTHING);
            }
        });
    }

    /// Sends bytes. The receive buffer is unlimited.
    pub fn send(&self, bytes: &[u8]) {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state != State::Established {
                return;
            }
            if socket.closed {
                socket.reset = true;
                return;
            }
            socket.incoming.extend(bytes);
            system.signal(self.0, PollBits::IN);
        });
    }

    /// Sends FIN.
    pub fn end(&self) {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state == State::Established {
                socket.fin_received = true;
                system.signal(self.0, PollBits::ANYTHING);
            }
        });
    }

    /// Closes the peer of a Unix-domain socket. Bytes that it has not taken are a failure.
    pub fn close(&self) {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state == State::Established {
                socket.fin_received = true;
                socket.peer_closed = true;
                if !socket.outgoing.is_empty() {
                    socket.failure = Some(Errno::CONNRESET);
                }
                system.signal(self.0, PollBits::ANYTHING);
            }
        });
    }

    /// Sends a reset.
    pub fn reset(&self) {
        call(|system| {
            let socket = system.socket(self.0);
            if socket.state == State::Established {
                let after_end = socket.fin_received;
                socket.failure = Some(if after_end { Errno::PIPE } else { Errno::CONNRESET });
                socket.state = State::Reset;
                system.signal(self.0, PollBits::ANYTHING);
            }
        });
    }

    /// Takes the received bytes, which makes room in the send window.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        call(|system| {
            let socket = system.socket(self.0);
            let taken = std::mem::take(&mut socket.outgoing);
            if std::mem::take(&mut socket.send_window_full) {
                system.signal(self.0, PollBits::OUT);
            }
            taken
        })
    }

    /// Waits for at least one byte and takes the received bytes.
    #[must_use]
    pub fn wait_bytes(&self) -> Vec<u8> {
        self.wait(|socket| !socket.outgoing.is_empty());
        self.take()
    }

    /// Takes all bytes up to the end of the connection.
    #[must_use]
    pub fn wait_eof(&self) -> (Vec<u8>, PeerSaw) {
        let mut taken = Vec::new();
        loop {
            let (bytes, peer_saw) = self.wait_any();
            taken.extend(bytes);
            if let Some(peer_saw) = peer_saw {
                return (taken, peer_saw);
            }
        }
    }

    /// Waits for bytes or for the end, and takes both. The end is returned with the last bytes.
    #[must_use]
    pub fn wait_any(&self) -> (Vec<u8>, Option<PeerSaw>) {
        self.wait(|socket| !socket.outgoing.is_empty() || socket.peer_saw().is_some());
        let taken = self.take();
        let peer_saw = call(|system| {
            let socket = system.socket(self.0);
            socket.peer_saw().filter(|_| socket.outgoing.is_empty())
        });
        (taken, peer_saw)
    }

    /// Returns how the socket has ended the connection, if it has.
    #[must_use]
    pub fn peer_saw(&self) -> Option<PeerSaw> {
        world().system.socket(self.0).peer_saw()
    }

    fn wait(&self, ready: impl Fn(&ModelSocket) -> bool) {
        wait(|world, waker| {
            let socket = world.system.socket(self.0);
            if ready(socket) {
                return Some(());
            }
            socket.wakers.push(waker.clone());
            None
        });
    }
}
