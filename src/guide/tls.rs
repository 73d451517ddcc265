//! TLS, from the start and by an upgrade.
//!
//! A socket is TLS from its start with [`SecureTransport::On`](crate::SecureTransport::On), or from an
//! upgrade on with [`SecureTransport::StartTls`](crate::SecureTransport::StartTls).
//! [`TlsOptions`](crate::TlsOptions) says whom to trust and who we are; sockets of equal options resume each
//! other's sessions. What was agreed is in [`SocketInfo::tls`](crate::SocketInfo::tls). A host that is an
//! address has to be in the certificate as an address. Both ways are shown, with a server,
//! [among the examples for who knows Workers](super::from_workers#starttls).
//!
//! Reading and writing don't wait for each other: one thread may block in a read for hours while another
//! writes. Writes are sealed in pieces of at most 64 KiB, and a write that was sealed is accepted, whatever
//! the peer does: so it never says that it timed out when a part of it will arrive.
//!
//! **The end** of a TLS stream is close_notify, not FIN, which anybody on the way can forge. So FIN without
//! close_notify is [`Truncated`](crate::ErrorKind::Truncated), after all data that came. Servers that end
//! without it exist; where the protocol itself tells what is complete,
//! [`require_close_notify(false)`](crate::TlsOptions::require_close_notify) takes FIN for the end, unless it cuts
//! a record. This side always sends close_notify before its FIN. In TLS 1.3 a server may refuse a client certificate only after
//! the handshake has ended for the client: the alert that says so is then reported by reads, writes and
//! `closed`, and not the broken pipe that follows it.
//!
//! **Records without data**, such as session tickets and new keys, don't end a read, and its limits hold while they
//! come. A peer that sends more than 1,024 records and tickets, or more than 1 MiB, without data in between has its
//! connection ended with [`Tls`](crate::ErrorKind::Tls). No ordinary server comes near that, and what is spread over
//! hours does not count.
//!
//! # Upgrades, and plaintext that was injected
//!
//! In an upgrade the peer says a last word in plaintext, such as `220 go ahead`, and then waits for the
//! ClientHello. Somebody on the way can append plaintext of their own to that word. A client that has a
//! buffer between itself and the socket reads it after the upgrade, and takes it for an answer that came
//! over TLS: mail clients have leaked passwords that way. Here
//! [`start_tls`](crate::Socket::start_tls) looks at the wire after everybody has left it and before it sends
//! anything: whatever is there ends the connection with
//! [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext). What comes later is for TLS to judge, which
//! takes nothing for true that isn't encrypted.
//!
//! What the crate can't see is what a [`BufReader`](std::io::BufReader) of the program's own has taken. Look
//! at it, drop it, and make another one of the new socket:
//!
//! ```
//! use std::io::{self, BufRead, BufReader, Write};
//! use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions, connect_with};
//!
//! fn upgrade(socket: &Socket) -> io::Result<Socket> {
//!     let mut reader = BufReader::new(socket.reader());
//!     let mut line = String::new();
//!     reader.read_line(&mut line)?;
//!     socket.writer().write_all(b"STARTTLS\r\n")?;
//!     line.clear();
//!     reader.read_line(&mut line)?;
//!     if !line.starts_with("220 ") {
//!         return Err(io::Error::other("the server does not want to"));
//!     }
//!     if !reader.buffer().is_empty() {
//!         return Err(io::Error::other("the server went on after its go-ahead"));
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
//! # let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
//! # let socket = connect_with(("127.0.0.1", port), options)?;
//! # assert!(upgrade(&socket).is_err());
//! # drop(socket);
//! # peer.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
