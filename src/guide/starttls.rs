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
//! before it sends anything, it checks the kernel's receive buffer. If there is a byte, the connection of a client ends
//! with [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext), and nothing is sent. Bytes that arrive later go to
//! rustls, which accepts only what is encrypted. [Servers](#as-the-server) have a rule of their own.
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
//! [`Reader::read_until`](crate::Reader::read_until) needs no such care: it reads a line, and not one byte more.
//!
//! # As the server
//!
//! With [`SocketOptions::server_tls`](crate::SocketOptions::server_tls) a socket is the TLS server. It answers the
//! client's request with one last line in plaintext, and
//! [`start_tls_after`](crate::Socket::start_tls_after) sends that line. Nothing may be unread before it: a client waits
//! for the line, so any byte behind its request was injected. Servers that kept such bytes took an attacker's commands
//! for the user's (CVE-2011-0411). A refused upgrade sends nothing, and closes the connection.
//!
//! If the line was written before, call [`start_tls`](crate::Socket::start_tls). It cannot know how long the client
//! waits. So unread bytes are the client's handshake if the first one allows it, and end the connection otherwise.
//! Either way no plaintext is ever read from the new socket.
//!
//! ```no_run
//! use std::io::{self, Write};
//! use sockeye::Socket;
//!
//! /// Serves the plaintext part of SMTP. Returns the secured socket, on which the dialogue starts again.
//! fn greet(socket: &Socket) -> io::Result<Option<Socket>> {
//!     let mut writer = socket.writer();
//!     writer.write_all(b"220 mail.example.com ESMTP\r\n")?;
//!     loop {
//!         let mut line = Vec::new();
//!         if socket.reader().read_until(b'\n', &mut line, 512)? == 0 {
//!             return Ok(None);
//!         }
//!         match line.to_ascii_uppercase().trim_ascii() {
//!             b"STARTTLS" => return Ok(Some(socket.start_tls_after(b"220 Ready\r\n")?)),
//!             b"QUIT" => return Ok(None),
//!             hello if hello.starts_with(b"EHLO") => writer.write_all(b"250 STARTTLS\r\n")?,
//!             _ => writer.write_all(b"530 Must issue a STARTTLS command first\r\n")?,
//!         }
//!     }
//! }
//! ```
//!
//! ---
//! Previous: [TLS](super::tls). Next: [egress rules and SSRF](super::egress_and_ssrf).
