//! splice(2) of Linux, and the signal mask that it needs.

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::driver::sys::wire::Wire;

/// Size of a pipe in bytes, if the user may have pipes of that size.
const PIPE_SIZE: usize = 256 * 1024;

/// Smallest size of a pipe in bytes, below which copies need fewer calls.
const MIN_PIPE_SIZE: usize = 64 * 1024;

/// Number of bytes that an empty pipe takes in one write, on every system.
const PIPE_BUF: usize = 4096;

/// Maximum number of bytes of one call. The pipe bounds it further.
const MAX_BYTES: usize = 1 << 20;

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A pipe between two wires. It holds bytes only between a receive and the sends that follow.
#[derive(Debug)]
pub(crate) struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
}

impl Pipe {
    /// Fails if there is no descriptor, if the system refuses splice(2), or if the user may have only small pipes.
    pub(crate) fn new() -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&input, PIPE_SIZE).or_else(|_| fcntl_getpipe_size(&input))?;
        if size < MIN_PIPE_SIZE {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        // A pipe cannot be spliced to itself, so this fails with EINVAL. A filter of system calls fails otherwise.
        match splice(&output, None, &input, None, 1, SpliceFlags::NONBLOCK) {
            Ok(_) | Err(Errno::INVAL) => Ok(Pipe { output, input }),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves available bytes from a wire to the pipe, which is empty. `Ok(0)` is EOF.
    pub(crate) fn receive(&self, wire: &Wire) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(wire.stream(), None, &self.input, None, MAX_BYTES, flags) {
            // Urgent data stops splice(2) as if nothing more had come. recv(2) passes it.
            Ok(0) | Err(Errno::AGAIN) => self.receive_by_copy(wire),
            moved => Ok(moved?),
        }
    }

    fn receive_by_copy(&self, wire: &Wire) -> io::Result<usize> {
        // A pipe takes that many bytes at once.
        let mut piece = [0; PIPE_BUF];
        let (bytes, _) = recv(wire.stream(), &mut piece[..], RecvFlags::DONTWAIT)?;
        let mut rest = &piece[..bytes];
        while !rest.is_empty() {
            rest = &rest[write(&self.input, rest)?..];
        }
        Ok(bytes)
    }

    /// Moves as many of `len` bytes to a wire as its send buffer takes.
    pub(crate) fn send(&self, wire: &Wire, len: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        Ok(splice(&self.output, None, wire.stream(), None, len, flags)?)
    }
}

/// Blocks SIGPIPE in the calling thread. The end of this drops the signal that the thread's own sends have raised, and
/// leaves one that was pending before.
#[derive(Debug)]
pub(crate) struct BlockedSigpipe {
    before: SigSet,
    /// `None` if the signal was pending before.
    raised: Option<SignalFd>,
    /// The mask belongs to one thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl BlockedSigpipe {
    pub(crate) fn new() -> io::Result<Self> {
        let mut sigpipe = SigSet::empty();
        sigpipe.add(Signal::SIGPIPE);
        let before = SigSet::thread_get_mask()?;
        // Made first, because without it the signal could not be unblocked again.
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&sigpipe, flags)?;
        let was_pending = poll(&mut [PollFd::new(&signals, PollFlags::IN)], Some(&NO_WAIT))? > 0;
        sigpipe.thread_block()?;
        Ok(BlockedSigpipe {
            before,
            raised: (!was_pending).then_some(signals),
            _of_this_thread: PhantomData,
        })
    }
}

impl Drop for BlockedSigpipe {
    fn drop(&mut self) {
        if let Some(raised) = &self.raised {
            // Standard signals do not queue, so there is at most one of this thread, and one of the process.
            while let Ok(Some(_)) = raised.read_signal() {}
        }
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked() -> bool {
        SigSet::thread_get_mask().expect("every thread has one").contains(Signal::SIGPIPE)
    }

    fn sigpipe() -> SigSet {
        let mut sigpipe = SigSet::empty();
        sigpipe.add(Signal::SIGPIPE);
        sigpipe
    }

    /// Takes the pending signal, if there is one. It has to be blocked.
    fn take_pending() -> bool {
        let pending = SignalFd::with_flags(&sigpipe(), SfdFlags::SFD_NONBLOCK);
        let pending = pending.expect("a descriptor is free");
        pending.read_signal().expect("it can be read").is_some()
    }

    /// Makes a send that raises the signal.
    fn send_to_nobody() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("descriptors are free");
        drop(theirs);
        let pipe = Pipe::new().expect("descriptors are free");
        write(&pipe.input, b"x").expect("it has room");
        let flags = SpliceFlags::NONBLOCK;
        let error = splice(&pipe.output, None, &ours, None, 1, flags).expect_err("no peer reads");
        assert_eq!(error, Errno::PIPE);
    }

    /// The default action of the signal would end the process.
    #[test]
    fn a_signal_that_was_raised_meanwhile_is_dropped() {
        assert!(!is_blocked());
        let blocked = BlockedSigpipe::new().expect("a descriptor is free");
        assert!(is_blocked());
        send_to_nobody();
        drop(blocked);
        assert!(!is_blocked());
        sigpipe().thread_block().expect("the mask is valid");
        assert!(!take_pending());
        sigpipe().thread_unblock().expect("the mask is valid");
    }

    #[test]
    fn a_thread_that_had_blocked_the_signal_keeps_that_and_what_was_pending() {
        sigpipe().thread_block().expect("the mask is valid");
        let blocked = BlockedSigpipe::new().expect("a descriptor is free");
        send_to_nobody();
        drop(blocked);
        assert!(is_blocked());
        assert!(!take_pending(), "raised by the crate");

        send_to_nobody();
        let blocked = BlockedSigpipe::new().expect("a descriptor is free");
        send_to_nobody();
        drop(blocked);
        assert!(is_blocked());
        assert!(take_pending(), "raised by the program");
        sigpipe().thread_unblock().expect("the mask is valid");
    }
}
