//! Half-open sockets: one direction has ended, the other has not.
//!
//! A TCP connection has two directions, and so has a TLS connection. Each ends by itself, with FIN. Over TLS
//! close_notify precedes the FIN.
//!
//! # The peer's end
//!
//! By default the peer's end also closes the write side. This happens once all data was read and the write in progress
//! has finished. If nothing is unread, no thread needs to read: the event loop monitors the connection once no read
//! was made for 100 ms. So [`closed`](crate::Socket::closed) returns, and a client that only waits does not keep the
//! connection of a server that has ended.
//!
//! With [`allow_half_open`](crate::SocketOptions::allow_half_open) the peer's end only makes reads return `Ok(0)`.
//! Writing continues until [`Writer::close`](crate::Writer::close), which then closes the socket.
//!
//! ```
//! use std::io::{Error, Read, Write};
//! use sockeye::{ErrorKind, SocketOptions, connect_with};
//!
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let port = listener.local_address().unwrap().port();
//! # let peer = std::thread::spawn(move || -> std::io::Result<String> {
//! #     let mut heard = String::new();
//! #     for _ in 0..2 {
//! #         let mut stream = listener.accept()?;
//! #         stream.write_all(b"bye")?;
//! #         stream.writer().close()?;
//! #         stream.read_to_string(&mut heard)?;
//! #     }
//! #     Ok(heard)
//! # });
//! // A server that sends "bye" and closes its write side, twice.
//! let socket = connect_with(("127.0.0.1", port), SocketOptions::new())?;
//! let mut said = String::new();
//! socket.reader().read_to_string(&mut said)?;
//! let error = socket.writer().write(b"wait").unwrap_err();
//! assert_eq!(sockeye::Error::from_io(&error).unwrap().kind(), ErrorKind::Closed);
//! socket.closed()?; // both directions ended cleanly
//!
//! let options = SocketOptions::new().allow_half_open(true);
//! let socket = connect_with(("127.0.0.1", port), options)?;
//! socket.reader().read_to_string(&mut said)?;
//! socket.writer().write_all(b"one thing more")?;
//! socket.writer().close()?;
//! socket.closed()?;
//! # assert_eq!(said, "byebye");
//! # assert_eq!(peer.join().unwrap()?, "one thing more");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # This side's end
//!
//! [`Writer::close`](crate::Writer::close) closes the write side, and reading continues, also without
//! `allow_half_open`. A client marks the end of its request this way. The socket closes when the peer ends too.
//!
//! [`Reader::cancel`](crate::Reader::cancel) ends reading. Incoming data is dropped, so that the peer is not held up.
//! Reads return `Ok(0)`, blocked ones too. Writing continues until the peer's end, or beyond it with
//! `allow_half_open`. The peer does not notice, because TCP has no message for this. Over TLS incoming records are
//! still decrypted, so that `closed` and writes report truncation and failures.
//!
//! `closed` returns `Ok` once both directions have ended without a failure, in any order.
//!
//! ---
//! Previous: [connecting](super::connecting). Next: [closing and errors](super::closing_and_errors).
