//! Reads and writes that never wait, and reads that take nothing.

use std::io;

use super::Socket;
use super::io::{read_error, write_error};
use super::reader::Reader;
use super::writer::Writer;
use crate::error::{Error, Result};

/// # Without waiting
///
/// [`try_read`](Self::try_read) and [`try_write`](Self::try_write) never wait. If a read or write would, they fail with
/// [`WouldBlock`](io::ErrorKind::WouldBlock), and nothing changes. That error carries no [`Error`](crate::Error) of this
/// crate. They also fail so while another thread reads, or writes, or upgrades the socket. Timeouts and deadlines do not
/// apply.
impl Socket {
    /// Reads what is available, and never waits. `Ok(0)` is the peer's clean end, or an empty `buf`.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if a read would wait, also for the connection to open. Otherwise those of
    /// [`read`](std::io::Read::read).
    ///
    /// ```
    /// use std::io::{ErrorKind, Write};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// # let (mut peer, _) = listener.accept()?;
    /// let mut buf = [0; 64];
    /// assert_eq!(socket.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    ///
    /// peer.write_all(b"hello")?;
    /// socket.peek(&mut buf)?; // Waits.
    /// assert_eq!(socket.try_read(&mut buf)?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("set_nonblocking", "MSG_DONTWAIT", "O_NONBLOCK"))]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        settle(self.handle.call(|connection| connection.try_read(buf)), read_error)
    }

    /// Writes what is accepted at once, and never waits. Returns the number of bytes; `Ok(0)` is an empty `buf`.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if a write would wait, also for the connection to open. Otherwise those of
    /// [`write`](std::io::Write::write).
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// socket.opened()?;
    /// assert_eq!(socket.try_write(b"hello")?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        settle(self.handle.call(|connection| connection.try_write(buf)), write_error)
    }

    /// Copies what is available, and never waits.
    pub(crate) fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        settle(self.handle.call(|connection| connection.try_peek(buf)), read_error)
    }

    /// Copies what a read would return, and leaves it unread. Waits as a read does. Over TLS it returns data of one record
    /// at most, which is 16 KiB.
    ///
    /// # Errors
    /// Those of [`read`](std::io::Read::read).
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// let socket = sockeye::connect(address)?;
    /// # let (mut peer, _) = listener.accept()?;
    /// peer.write_all(b"GET /")?;
    /// let mut first = [0; 1];
    /// assert_eq!(socket.peek(&mut first)?, 1);
    /// let mut request = [0; 5];
    /// socket.reader().read_exact(&mut request)?;
    /// assert_eq!(request, *b"GET /");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("MSG_PEEK"))]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.handle.call(|connection| connection.peek(buf)).map_err(read_error)
    }
}

impl Reader {
    /// Reads without waiting: see [`Socket::try_read`].
    ///
    /// # Errors
    /// Those of [`Socket::try_read`].
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        settle(self.handle.call(|connection| connection.try_read(buf)), read_error)
    }

    /// Copies what a read would return: see [`Socket::peek`].
    ///
    /// # Errors
    /// Those of [`read`](std::io::Read::read).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.handle.call(|connection| connection.peek(buf)).map_err(read_error)
    }
}

impl Writer {
    /// Writes without waiting: see [`Socket::try_write`].
    ///
    /// # Errors
    /// Those of [`Socket::try_write`].
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        settle(self.handle.call(|connection| connection.try_write(buf)), write_error)
    }
}

/// Returns the result of a call that does not wait. `None` means that it would have to.
fn settle(result: Result<Option<usize>>, error: fn(Error) -> io::Error) -> io::Result<usize> {
    match result {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
        Err(cause) => Err(error(cause)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        Connector, ErrorKind, Identity, SecureTransport, ServerTlsOptions, SocketOptions,
        TlsOptions,
    };

    /// Returns both ends of a TLS connection.
    fn secure_pair() -> [Socket; 2] {
        let key = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let identity = Identity::from_pem(key.cert.pem(), key.signing_key.serialize_pem()).unwrap();
        let tls = TlsOptions::new().server_name("a.test").danger_accept_invalid_certs(true);
        let secure = SocketOptions::new().secure_transport(SecureTransport::On);
        let connector = Connector::builder().build().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = connector.connect_with(address, secure.clone().tls(tls)).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let server =
            connector.adopt(stream, secure.server_tls(ServerTlsOptions::new(identity))).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| server.opened().map(drop).unwrap());
            client.opened().map(drop).unwrap();
        });
        [client, server]
    }

    /// Returns the time of the longest call until one fails.
    fn write_until_failure(socket: &Socket) -> Duration {
        let mut longest = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let result = socket.try_write(b"x");
            longest = longest.max(begun.elapsed());
            match result {
                Ok(1) => {}
                Ok(bytes) => panic!("{bytes} bytes"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => {
                    let error = Error::from_io(&error).expect("it is one of this crate");
                    assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
                    return longest;
                }
            }
        }
    }

    /// A thread that waits for the cause does so for 10 ms. The busy machine may delay any call, but not all rounds.
    #[test]
    fn a_write_over_tls_does_not_wait_for_the_cause_of_a_failure() {
        let longest = (0..5).map(|_| {
            let [client, server] = secure_pair();
            // As if another thread were about to record it.
            client.handle.connection().state().error_probe = true;
            server.abort();
            write_until_failure(&client)
        });
        let shortest = longest.min().unwrap();
        assert!(shortest < Duration::from_millis(8), "{shortest:?}");
    }
}
