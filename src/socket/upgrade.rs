//! Upgrades of a socket to TLS.

use super::Socket;
use super::handle::Handle;
use crate::error::Result;
use crate::tls::TlsOptions;

impl Socket {
    /// Upgrades to TLS and returns the new socket, still in its handshake; its [`opened`](Self::opened) waits for the
    /// handshake.
    ///
    /// Waits for the connection if it is not yet established, and for writes that began earlier. These writes finish
    /// first, and all bytes that they accepted precede the handshake. The wait counts towards the upgrade's
    /// [`connect_timeout`](crate::SocketOptions::connect_timeout), which starts with this call.
    /// [`close`](Self::close) and [`abort`](Self::abort) end the wait.
    ///
    /// The new socket inherits options, timeouts, deadlines and scope. This socket is then
    /// [`upgraded`](Self::upgraded), and its [`closed`](Self::closed) is `Ok`. Its reads, including blocked ones, and
    /// its later writes fail with [`Upgraded`](crate::ErrorKind::Upgraded). A failed handshake closes the connection;
    /// it never falls back to plaintext.
    ///
    /// Before it sends anything, it checks for bytes from the peer that the program has not read. An attacker may
    /// have injected them, so that the program takes them for a reply that came over TLS. Such bytes end the
    /// connection. On a [server](crate::SocketOptions::server_tls) they may be the ClientHello of a client that does not
    /// wait: [`start_tls_after`](Self::start_tls_after) describes both cases. The check cannot see what a
    /// [`BufReader`](std::io::BufReader) has read ahead: check its [`buffer`](std::io::BufReader::buffer) before this
    /// call, and drop it.
    ///
    /// End reads of other threads before this call, if the peer may send at any time. A read that still receives such a
    /// byte loses it, and the upgrade fails with `UnreadPlaintext`, even if the byte begins a good ClientHello.
    ///
    /// # Errors
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the mode is not
    ///   [`StartTls`](crate::SecureTransport::StartTls), on a second call, after
    ///   [`Reader::cancel`](crate::Reader::cancel), or after this side closed, half-closed or aborted. Nothing changes.
    /// - A [retryable](crate::Error::is_retryable) [`TimedOut`](crate::ErrorKind::TimedOut) if the wait above takes
    ///   longer than the `connect_timeout`. Nothing changes.
    /// - [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext) if bytes from the peer are unread, also in the
    ///   kernel's queue, and cannot be a ClientHello. Not one byte is sent, and the connection is closed. `closed`
    ///   returns the same error.
    /// - [`Closed`](crate::ErrorKind::Closed) if the peer has ended, or this side closed during the wait.
    /// - The cause, if the socket failed.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use sockeye::{SecureTransport, SocketOptions, connect_with};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let port = listener.local_addr()?.port();
    /// # let peer = std::thread::spawn(move || -> std::io::Result<()> {
    /// #     let (mut stream, _) = listener.accept()?;
    /// #     stream.read_exact(&mut [0; 6])?;
    /// #     stream.write_all(b"+OK\r\n")?;
    /// #     stream.read(&mut [0; 5])?;
    /// #     Ok(())
    /// # });
    /// let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
    /// let socket = connect_with(("127.0.0.1", port), options)?; // such as ("pop.example.com", 110)
    /// socket.writer().write_all(b"STLS\r\n")?;
    /// let mut answer = [0; 5];
    /// socket.reader().read_exact(&mut answer)?;
    /// if answer == *b"+OK\r\n" {
    ///     let secure = socket.start_tls()?;
    ///     let info = secure.opened();
    /// #   assert!(info.is_err(), "this peer does not speak TLS");
    /// }
    /// # peer.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("startTls"))]
    pub fn start_tls(&self) -> Result<Socket> {
        Ok(Socket { handle: Handle::new(self.handle.connection().start_tls(None)?) })
    }

    /// Upgrades like [`start_tls`](Self::start_tls), with `tls` instead of the options' TLS settings.
    ///
    /// # Errors
    /// Those of `start_tls`, and [`InvalidOptions`](crate::ErrorKind::InvalidOptions). Nothing changes then.
    pub fn start_tls_with(&self, tls: TlsOptions) -> Result<Socket> {
        Ok(Socket { handle: Handle::new(self.handle.connection().start_tls(Some(&tls))?) })
    }

    /// Sends `go_ahead` as the last plaintext, then starts TLS: checks that nothing is unread, sends it, and begins the
    /// handshake, as one step. No read of another thread and no byte from the peer can come in between.
    ///
    /// `go_ahead` is 1 to 4096 bytes, such as `220 Ready\r\n`, or the SSLRequest of a MySQL client. It does not count in
    /// the [`bytes_written`](crate::Stats::bytes_written) of either socket.
    ///
    /// This is the right call for [servers](crate::SocketOptions::server_tls). Before it sends, nothing may be unread,
    /// not even a ClientHello, because a client must wait for the go-ahead (RFC 3207, section 4; RFC 9051, section
    /// 6.2.1). Unread bytes are injected or premature commands (CVE-2011-0411).
    ///
    /// On a server, plain [`start_tls`](Self::start_tls) takes unread bytes as the ClientHello if the first one can
    /// begin a TLS handshake record (22; RFC 8446, section 5.1). Otherwise it fails with
    /// [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext). Use it if the client does not wait, as with MySQL, or if
    /// the go-ahead was written before.
    ///
    /// No byte that came in plaintext is ever read as one that came over TLS. Data that a `BufReader` has read ahead
    /// cannot be seen: use [`Reader::read_until`](crate::Reader::read_until), which reads nothing ahead.
    ///
    /// # Errors
    /// Those of [`start_tls`](Self::start_tls), and [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for a go-ahead
    /// of another length; nothing changes then. With `UnreadPlaintext` nothing is sent, and the connection is closed.
    ///
    /// ```no_run
    /// use std::io::Write;
    /// use sockeye::Socket;
    ///
    /// fn converse(socket: Socket) -> std::io::Result<()> {
    ///     socket.writer().write_all(b"220 mail.example.com ESMTP\r\n")?;
    ///     let mut line = Vec::new();
    ///     socket.reader().read_until(b'\n', &mut line, 512)?;
    ///     if line.eq_ignore_ascii_case(b"STARTTLS\r\n") {
    ///         let secure = socket.start_tls_after(b"220 Ready\r\n")?;
    ///         // The dialogue starts again on this socket.
    /// #       drop(secure);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias("STARTTLS", "startTls"))]
    pub fn start_tls_after(&self, go_ahead: &[u8]) -> Result<Socket> {
        Ok(Socket { handle: Handle::new(self.handle.connection().start_tls_after(go_ahead)?) })
    }

    /// Returns whether [`start_tls`](Self::start_tls) has passed the connection to another socket.
    #[must_use]
    pub fn upgraded(&self) -> bool {
        self.handle.call(|connection| connection.is_upgraded())
    }
}
