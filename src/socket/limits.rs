//! The timeouts and deadlines of reads and writes.

use std::time::{Duration, Instant};

use super::Socket;
use crate::driver::Side;
use crate::error::Result;
use crate::options::{check_busy_poll, check_limit};

/// # Limits on reads and writes
impl Socket {
    /// Limits how long one read may wait, from its beginning. Default `None`: no limit. Applies to a blocked read
    /// too. A read that timed out consumed nothing and can be repeated.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `limit` is zero.
    #[doc(alias("setTimeout"))]
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> Result<()> {
        check_limit("read_timeout", limit)?;
        self.handle.call(|connection| connection.set_timeout(Side::Read, limit))
    }

    /// Limits how long one write may wait, from its beginning. Default `None`: no limit. Applies to a blocked write
    /// too. A write that timed out accepted nothing and can be repeated, over TLS as well. `write_all` loses the
    /// count: loop over `write`.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `limit` is zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> Result<()> {
        check_limit("write_timeout", limit)?;
        self.handle.call(|connection| connection.set_timeout(Side::Write, limit))
    }

    /// Sets the instant after which reads time out. Applies to a blocked read too. A deadline in the past wins over
    /// ready data. `None`, the default, lifts it. The earlier of timeout and deadline applies.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::time::{Duration, Instant};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// let mut socket = sockeye::connect(("127.0.0.1", port))?;
    /// // However many reads it takes, the answer is there in time or not at all.
    /// socket.set_read_deadline(Some(Instant::now() + Duration::from_millis(20)));
    /// let error = socket.read_to_end(&mut Vec::new()).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("SetReadDeadline"))]
    pub fn set_read_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Read], at));
    }

    /// Sets the instant after which writes time out. Applies to a blocked write too. A deadline in the past wins over
    /// a wire that accepts data. `None`, the default, lifts it. The earlier of timeout and deadline applies.
    #[doc(alias("SetWriteDeadline"))]
    pub fn set_write_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Write], at));
    }

    /// Sets both deadlines, like [`set_read_deadline`](Self::set_read_deadline) and
    /// [`set_write_deadline`](Self::set_write_deadline).
    #[doc(alias("SetDeadline"))]
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.handle.call(|connection| connection.set_deadline(&[Side::Read, Side::Write], at));
    }

    /// Returns the read timeout: the last value of [`set_read_timeout`](Self::set_read_timeout), or else that of
    /// [`SocketOptions::read_timeout`](crate::SocketOptions::read_timeout). It stays after the socket has ended.
    ///
    /// The socket that [`start_tls`](Self::start_tls) returns starts with the timeouts and deadlines of the old one.
    /// Later changes affect only the socket on which they are made.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sockeye::SocketOptions;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let limit = Duration::from_secs(5);
    /// let socket = sockeye::connect_with(address, SocketOptions::new().read_timeout(limit))?;
    /// assert_eq!(socket.read_timeout(), Some(limit));
    ///
    /// // For one reply only.
    /// socket.set_read_timeout(Some(limit * 12))?;
    /// // …
    /// socket.set_read_timeout(Some(limit))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.handle.call(|connection| connection.timeout(Side::Read))
    }

    /// Returns the write timeout, like [`read_timeout`](Self::read_timeout).
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        self.handle.call(|connection| connection.timeout(Side::Write))
    }

    /// Returns the read deadline: the last value of [`set_read_deadline`](Self::set_read_deadline) or
    /// [`set_deadline`](Self::set_deadline), also if it has passed. Default `None`.
    #[must_use]
    pub fn read_deadline(&self) -> Option<Instant> {
        self.handle.call(|connection| connection.deadline(Side::Read))
    }

    /// Returns the write deadline, like [`read_deadline`](Self::read_deadline).
    #[must_use]
    pub fn write_deadline(&self) -> Option<Instant> {
        self.handle.call(|connection| connection.deadline(Side::Write))
    }

    /// Changes [`TcpOptions::busy_poll`](crate::TcpOptions::busy_poll), from the next read on. `None` disables it.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `limit` is not in 1 µs to 10 ms.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// // For a dialogue whose answers take 20 µs.
    /// socket.set_busy_poll(Some(Duration::from_micros(50)))?;
    /// // …
    /// socket.set_busy_poll(None)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_busy_poll(&self, limit: Option<Duration>) -> Result<()> {
        check_busy_poll(limit)?;
        self.handle.call(|connection| connection.set_busy_poll(limit))
    }
}
