//! The end of a connection without its close: a reset, or what comes closest to it.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use super::{Incoming, Ordering, Wire, status};

impl Wire {
    /// Records that the program may have a duplicate of the descriptor from now on.
    pub(crate) fn note_shared(&self) {
        self.may_be_shared.store(true, Ordering::Relaxed);
    }

    /// Sends a reset. Linux and Android send it at once, even if other threads are using the descriptor. Elsewhere it
    /// is sent when the last of them drops the descriptor. A Unix-domain socket has no reset: both directions end.
    pub(crate) fn reset(&self) {
        if self.is_unix() {
            let _ = self.stream.shutdown(Shutdown::Both);
        } else {
            status::reset(&self.stream);
        }
    }

    /// [Resets](Self::reset) the connection and closes the descriptor. If other threads are using it, the last of them
    /// closes it. They were woken.
    ///
    /// The close of a Unix-domain socket with unread data is a failure for the peer, the only one that there is. A shutdown
    /// before it would show the peer an end. So there is none if the close is certain to end the connection.
    pub(crate) fn reset_and_close(self: Arc<Self>) {
        if !(self.fails_peer_by_close() && self.is_sole_descriptor()) {
            self.reset();
        }
    }

    fn fails_peer_by_close(&self) -> bool {
        self.is_unix() && self.incoming() == Incoming::Data
    }

    /// Returns whether it is certain that no other descriptor, also of another process, keeps the connection.
    fn is_sole_descriptor(&self) -> bool {
        !self.may_be_shared.load(Ordering::Relaxed) && has_no_children()
    }

    /// Aborts an attempt that is no longer wanted, also for a forked process that has the same descriptor. An attempt
    /// that has succeeded is left to close normally.
    pub(crate) fn cancel_attempt(&self) {
        let is_connected = match self.stream.peer_addr() {
            Ok(_) => true,
            // The address of a Unix-domain socket has another form.
            Err(error) => self.is_unix() && error.kind() != io::ErrorKind::NotConnected,
        };
        if !is_connected {
            self.reset();
        }
    }
}

/// Returns whether it is certain that no forked child has the descriptors of this process. A child that runs another
/// program has none of them, but that is not known here. A descendant whose parent has exited is not seen.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
))]
fn has_no_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let without_effect = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, without_effect).is_err_and(|error| error == rustix::io::Errno::CHILD)
}

/// Returns `false`: only Linux tells the peer that data was not read.
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(any(sockeye_bsd, sockeye_shuttle))
)))]
fn has_no_children() -> bool {
    false
}

#[cfg(all(test, any(target_os = "linux", target_os = "android"), not(sockeye_shuttle)))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::Wire;
    use crate::driver::sys::sync::mio::net::TcpStream;
    use crate::unix::UnixPeer;

    /// Returns a wire, and a second descriptor of its socket, as a forked child has it.
    fn shared(socket: Socket) -> (Wire, UnixStream) {
        let second = socket.try_clone().expect("a descriptor is free");
        socket.set_nonblocking(true).expect("every socket can be");
        let stream = TcpStream::from_std(socket.into());
        (Wire::unix(stream, UnixPeer::default()), OwnedFd::from(second).into())
    }

    #[test]
    fn an_attempt_at_a_path_that_has_succeeded_is_left_to_close() {
        let (ours, mut theirs) = UnixStream::pair().expect("two descriptors are free");
        let (wire, mut second) = shared(OwnedFd::from(ours).into());
        wire.cancel_attempt();
        drop(wire);
        second.write_all(b"x").expect("it is connected");
        theirs.read_exact(&mut [0]).expect("it was written");
        drop(second);
        assert_eq!(theirs.read(&mut [0]).expect("a clean end"), 0);
    }

    #[test]
    fn an_attempt_at_a_path_that_has_not_is_useless_afterwards() {
        let name = SockAddr::unix(format!("\0sockeye-cancel-{}", std::process::id()));
        let name = name.expect("the name is short");
        let stream =
            || Socket::new(Domain::UNIX, Type::STREAM, None).expect("a descriptor is free");
        let listener = stream();
        listener.bind(&name).expect("the name is free");
        listener.listen(1).expect("it is bound");
        for cancels in [false, true] {
            let (wire, second) = shared(stream());
            if cancels {
                wire.cancel_attempt();
            }
            drop(wire);
            let second = Socket::from(OwnedFd::from(second));
            second.set_nonblocking(false).expect("every socket can be");
            second.connect(&name).expect("it listens");
            let written = second.send(b"x").map_err(|error| error.kind());
            assert_eq!(written, if cancels { Err(ErrorKind::BrokenPipe) } else { Ok(1) });
            drop(listener.accept().expect("it has connected"));
        }
    }
}
