//! The two directions of a tunnel.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::handle::Handle;
use super::{TunnelError, TunnelSide};
use crate::driver::{BlockedSigpipe, Connection, Pipe};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::Input;

/// Two sockets that are being joined.
pub(super) struct Tunnel<'a> {
    ends: [&'a Handle; 2],
    idle: Option<Duration>,
    begun: Instant,
    /// Nanoseconds from the beginning to the last byte.
    last_byte: AtomicU64,
    /// Bytes that the other side accepted, by the side that they came from.
    copied: [AtomicU64; 2],
    /// Bytes received that the other side has not accepted yet, by the side that they came from.
    undelivered: [AtomicU64; 2],
    /// Whether the tunnel has closed the write side of a socket, or it had ended before.
    is_over: [AtomicBool; 2],
    /// The first failure.
    failure: Mutex<Option<(Error, Option<TunnelSide>)>>,
}

/// How the bytes of one direction get from one socket to the other.
pub(super) enum Carrier {
    Buffer,
    Pipe(Pipe),
}

/// The tunnel is over: its failure was recorded.
struct Failed;

impl<'a> Tunnel<'a> {
    pub(super) fn new(ends: [&'a Handle; 2], idle: Option<Duration>) -> Self {
        Tunnel {
            ends,
            idle,
            begun: Instant::now(),
            last_byte: AtomicU64::new(0),
            copied: [const { AtomicU64::new(0) }; 2],
            undelivered: [const { AtomicU64::new(0) }; 2],
            is_over: [const { AtomicBool::new(false) }; 2],
            failure: Mutex::new(None),
        }
    }

    /// Waits until both sockets are open, and returns what carries the bytes from each of them. `None` if one fails.
    pub(super) fn open(&self) -> Option<[Carrier; 2]> {
        let sides = [TunnelSide::A, TunnelSide::B];
        // A peer's end while the other socket is still being opened ends one direction only.
        for side in sides {
            let is_over = self.end(side).call(Connection::allow_half_open);
            self.is_over[side as usize].store(is_over, Ordering::Relaxed);
        }
        for side in sides {
            if let Err(error) = self.end(side).call(|connection| connection.opened(None)) {
                let Failed = self.fail(side, error);
                return None;
            }
        }
        self.touch();
        // If a socket has ended by now, its first read fails.
        let [a, b] = self.ends.map(|end| end.call(Connection::begin_relay).unwrap_or(false));
        Some([(); 2].map(|()| match (a && b).then(Pipe::new) {
            Some(Ok(pipe)) => Carrier::Pipe(pipe),
            // Without a pipe, the bytes are copied.
            Some(Err(_)) | None => Carrier::Buffer,
        }))
    }

    /// Relays one direction until it ends or the tunnel fails, and then waits for the other direction to finish with
    /// the socket.
    pub(super) fn relay(&self, from: TunnelSide, carrier: Carrier) {
        let signal = match &carrier {
            Carrier::Pipe(_) => Some(BlockedSigpipe::new()),
            Carrier::Buffer => None,
        };
        let relayed = match (carrier, signal) {
            (Carrier::Pipe(pipe), Some(Ok(_blocked))) => self.relay_by_pipe(from, &pipe),
            (Carrier::Pipe(_) | Carrier::Buffer, _) => self.relay_by_buffer(from),
        };
        if relayed.is_ok() {
            // Only this thread sees a failure of a socket from which nothing more will come, and to which nothing may
            // be sent for a long time.
            let closed = self.end(from).call(|connection| connection.closed(None));
            let closed =
                closed.and_then(|()| match self.is_over[from as usize].load(Ordering::Acquire) {
                    true => Ok(()),
                    // Another thread has closed it, with all that was accepted handed over.
                    false => Err(Error::from_fault(Fault::Closed)),
                });
            if let Err(error) = closed {
                let Failed = self.fail(from, error);
            }
        }
    }

    fn relay_by_buffer(&self, from: TunnelSide) -> Result<(), Failed> {
        let mut buffer = vec![0; super::BUFFER];
        loop {
            let bytes = self.attempt(from, |socket, end| socket.relay_read(&mut buffer, end))?;
            if bytes == 0 {
                return self.end_other(from);
            }
            self.received(from, bytes);
            let mut rest = &buffer[..bytes];
            while !rest.is_empty() {
                let sent =
                    self.attempt(from.other(), |socket, end| socket.relay_write(rest, end))?;
                self.delivered(from, sent);
                rest = &rest[sent..];
            }
        }
    }

    fn relay_by_pipe(&self, from: TunnelSide, pipe: &Pipe) -> Result<(), Failed> {
        loop {
            let mut left = self.attempt(from, |socket, end| socket.relay_to_pipe(pipe, end))?;
            if left == 0 {
                return self.end_other(from);
            }
            self.received(from, left);
            while left > 0 {
                let sent = self
                    .attempt(from.other(), |socket, end| socket.relay_from_pipe(pipe, left, end))?;
                self.delivered(from, sent);
                left -= sent;
            }
        }
    }

    fn end_other(&self, from: TunnelSide) -> Result<(), Failed> {
        self.is_over[from.other() as usize].store(true, Ordering::Release);
        self.attempt(from.other(), |socket, end| socket.relay_end(end))
    }

    /// Makes one call on a side, again and again while bytes move elsewhere.
    fn attempt<R>(
        &self,
        side: TunnelSide,
        mut call: impl FnMut(&Arc<Connection>, Option<Instant>) -> Result<R>,
    ) -> Result<R, Failed> {
        loop {
            let end = self.idle_end();
            match self.end(side).call(|connection| call(connection, end)) {
                Ok(result) => return Ok(result),
                Err(error) if error.kind() == ErrorKind::TimedOut && error.is_retryable() => {
                    match end {
                        Some(end) if end <= Instant::now() => {
                            if self.idle_end() == Some(end) {
                                return Err(self.close_idle());
                            }
                        }
                        // The deadline of the socket.
                        Some(_) | None => return Err(self.fail(side, error)),
                    }
                }
                Err(error) => return Err(self.fail(side, error)),
            }
        }
    }

    /// Returns the instant at which the idle limit passes unless a byte moves. `None` if that is too far away to be
    /// represented, too.
    fn idle_end(&self) -> Option<Instant> {
        let last = Duration::from_nanos(self.last_byte.load(Ordering::Relaxed));
        self.begun.checked_add(last)?.checked_add(self.idle?)
    }

    fn received(&self, from: TunnelSide, bytes: usize) {
        self.undelivered[from as usize].store(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    fn delivered(&self, from: TunnelSide, bytes: usize) {
        self.copied[from as usize].fetch_add(bytes as u64, Ordering::Relaxed);
        self.undelivered[from as usize].fetch_sub(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// Restarts the idle limit.
    fn touch(&self) {
        self.last_byte.fetch_max(nanos(self.begun.elapsed()), Ordering::Relaxed);
    }

    /// Records a failure, unless there is one, and aborts both sockets.
    fn fail(&self, side: TunnelSide, error: Error) -> Failed {
        let was_closed_here = error.kind() == ErrorKind::Closed;
        if self.record(error, Some(side)) {
            for end in [side, side.other()] {
                if end == side && was_closed_here {
                    // A close hands over what was accepted. If only the write side was closed, the other thread still
                    // reads from the socket.
                    self.end(end).call(|connection| connection.begin_close());
                } else {
                    self.end(end).call(|connection| connection.abort(Input::Abort));
                }
            }
        }
        Failed
    }

    fn close_idle(&self) -> Failed {
        let message =
            format!("no byte in either direction for {:?}", self.idle.unwrap_or_default());
        let error = Error::with_message(ErrorKind::TimedOut, message);
        if self.record(error, None) {
            for side in [TunnelSide::A, TunnelSide::B] {
                // A peer that is missing bytes must not take its data for complete.
                let is_cut_off =
                    self.undelivered[side.other() as usize].load(Ordering::Relaxed) > 0;
                self.end(side).call(|connection| match is_cut_off {
                    true => connection.abort(Input::Abort),
                    false => connection.begin_close(),
                });
            }
            for end in self.ends {
                // If the close timeout passes, the connection is reset, and nothing is left to do.
                let _ = end.call(|connection| connection.close());
            }
        }
        Failed
    }

    /// Returns whether this is the first failure.
    fn record(&self, error: Error, side: Option<TunnelSide>) -> bool {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = failure.is_none();
        failure.get_or_insert((error, side));
        is_first
    }

    pub(super) fn finish(&self) -> Result<(u64, u64), TunnelError> {
        let copied = self.copied.each_ref().map(|copied| copied.load(Ordering::Relaxed)).into();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            None => Ok(copied),
            Some((error, side)) => Err(TunnelError::new(error, side, copied)),
        }
    }

    fn end(&self, side: TunnelSide) -> &'a Handle {
        self.ends[side as usize]
    }
}

/// Converts a duration to nanoseconds, at most 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
