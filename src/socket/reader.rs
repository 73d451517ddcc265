//! The readable side of a socket.

use std::{fmt, io};

use super::handle::Handle;
use super::io::read_error;

/// The readable side of a [`Socket`](crate::Socket). Implements [`Read`](std::io::Read), also by reference; clones
/// share the side.
///
/// Reading waits for the connection to open. `Ok(0)` is the peer's clean end. After a failure every read returns that
/// failure.
#[derive(Clone)]
pub struct Reader {
    pub(super) handle: Handle,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Reader { handle }
    }

    /// Reads up to and including `delimiter`, and appends it to `buf`. Takes not one byte more from the connection: the
    /// rest stays unread, for the next read and for the check in [`start_tls`](crate::Socket::start_tls).
    ///
    /// So it is the right way to read the lines of a dialogue that may go over to TLS. A
    /// [`BufReader`](std::io::BufReader) reads ahead, and what it holds escapes that check.
    ///
    /// Returns the number of bytes appended. Fewer bytes without the delimiter, or 0, mean the peer's clean end, or that
    /// reading was [cancelled](Self::cancel). The read timeout applies to each wait; to bound the whole call, set a
    /// [deadline](crate::Socket::set_read_deadline). No other read comes in between.
    ///
    /// # Errors
    /// Those of [`read`](std::io::Read::read), and [`InvalidData`](io::ErrorKind::InvalidData) after `max` bytes
    /// without the delimiter. In both cases the bytes read so far are in `buf`.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// # let (mut peer, _) = listener.accept()?;
    /// peer.write_all(b"220 ready\r\nmore")?;
    /// let mut line = Vec::new();
    /// socket.reader().read_until(b'\n', &mut line, 1000)?;
    /// assert_eq!(line, b"220 ready\r\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("read_line", "ReadBytes", "ReadString"))]
    pub fn read_until(&self, delimiter: u8, buf: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let read = self.handle.call(|connection| connection.read_until(delimiter, buf, max));
        match read.map_err(read_error)? {
            Some(bytes) => Ok(bytes),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no delimiter in the first {max} bytes"),
            )),
        }
    }

    /// Ends this side for good. Incoming data is dropped and not counted, and reads, including blocked ones, return
    /// `Ok(0)`. Writing continues. For [`closed`](crate::Socket::closed), reading has then ended. Works while
    /// connecting.
    ///
    /// Over TLS, records are still processed, and errors and truncation are reported.
    pub fn cancel(&self) {
        self.handle.call(|connection| connection.cancel_read());
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.describe(f, "Reader")
    }
}
