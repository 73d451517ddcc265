//! STARTTLS: upgrading a plaintext connection, and why injected plaintext is never believed.
//!
//! A socket with [`SecureTransport::StartTls`](crate::SecureTransport::StartTls) begins in plaintext. The program asks
//! the server for TLS in the words of its protocol, reads the server's consent, and calls
//! [`start_tls`](crate::Socket::start_tls). The call returns a new socket for the same connection. The old socket and
//! its handles fail with [`Upgraded`](crate::ErrorKind::Upgraded) from then on.
//!
//! - Writes that began before the call finish first. They precede the handshake on the wire.
//! - The new socket inherits options, timeouts and deadlines. Its handshake has a fresh
//!   [`connect_timeout`](crate::SocketOptions::connect_timeout), which starts at `start_tls`.
//! - If the handshake fails, the connection is closed. Nothing falls back to plaintext.
//! - [`start_tls_with`](crate::Socket::start_tls_with) takes other TLS settings for the handshake.
//!
//! [An example of the Workers chapter](super::from_workers#starttls) upgrades a PostgreSQL connection.
//!
//! # Injected plaintext
//!
//! An upgrade begins with a plaintext reply such as `220 go ahead`. After it the server waits for the ClientHello and
//! sends nothing. An attacker on the network path can append plaintext to that reply. A client that buffers its input
//! reads these bytes after the handshake, and takes them for a reply over TLS. Mail clients have leaked passwords this
//! way (CVE-2021-22947).
//!
//! [`start_tls`](crate::Socket::start_tls) prevents this. It first waits until no thread uses the connection. Then,
//! before it sends anything, it checks the kernel's receive buffer. If there is a byte, the connection ends with
//! [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext), and nothing is sent. Bytes that arrive later go to rustls,
//! which accepts only what is encrypted.
//!
//! # A `BufReader` during an upgrade
//!
//! The crate cannot see what a [`BufReader`](std::io::BufReader) of the program has read ahead. Check that its buffer
//! is empty, drop it, and make a new one for the new socket:
//!
//! ```
//! use std::io::{self, BufRead, BufReader, Write};
//! use sockeye::{SecureTransport, Socket, SocketOptions, connect_with};
//!
//! fn upgrade(socket: &Socket) -> io::Result<Socket> {
//!     let mut reader = BufReader::new(socket.reader());
//!     let mut line = String::new();
//!     reader.read_line(&mut line)?; // the greeting
//!     socket.writer().write_all(b"STARTTLS\r\n")?;
//!     line.clear();
//!     reader.read_line(&mut line)?;
//!     if !line.starts_with("220 ") {
//!         return Err(io::Error::other("the server refuses TLS"));
//!     }
//!     if !reader.buffer().is_empty() {
//!         return Err(io::Error::other("plaintext follows the server's consent"));
//!     }
//!     Ok(socket.start_tls()?)
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let port = listener.local_addr()?.port();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     stream.write_all(b"220 hello\r\n")?;
//! #     BufReader::new(&mut stream).read_line(&mut String::new())?;
//! #     stream.write_all(b"220 go ahead\r\n250 injected\r\n")?;
//! #     io::copy(&mut stream, &mut io::sink())?;
//! #     Ok(())
//! # });
//!
//! let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
//! let socket = connect_with(("127.0.0.1", port), options)?; // an attacker injects a reply
//! assert!(upgrade(&socket).is_err());
//! # drop(socket);
//! # peer.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! [A recipe](super::recipes#bufreader-and-upgrades) keeps one buffered reader for both parts of a dialogue.
//!
//! ---
//! Previous: [TLS](super::tls). Next: [egress rules and SSRF](super::egress_and_ssrf).
