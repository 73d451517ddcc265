//! What happens when one direction has ended.
//!
//! A TCP connection is two streams, and so is a TLS one: each ends by itself, with FIN, over TLS with
//! close_notify before it.
//!
//! # The peer's end
//!
//! By default the peer's end closes the write side too, once all that the peer sent was read and a write
//! that is being made has ended. That happens without anyone reading when nothing is unread: the loop
//! looks for it once no one has read for 100 ms. So the connection of a client that only waits doesn't stay
//! behind when its server has gone, and [`closed`](crate::Socket::closed) tells of it.
//!
//! With [`allow_half_open`](crate::SocketOptions::allow_half_open) the peer's end is a read's `Ok(0)` and no
//! more. Writing goes on until [`Writer::close`](crate::Writer::close), which then closes the socket.
//!
//! ```
//! use std::io::{Error, Read, Write};
//! use sockeye::{ErrorKind, SocketOptions, connect_with};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let port = listener.local_addr()?.port();
//! # let peer = std::thread::spawn(move || -> std::io::Result<String> {
//! #     let mut heard = String::new();
//! #     for _ in 0..2 {
//! #         let (mut stream, _) = listener.accept()?;
//! #         stream.write_all(b"bye")?;
//! #         stream.shutdown(std::net::Shutdown::Write)?;
//! #         stream.read_to_string(&mut heard)?;
//! #     }
//! #     Ok(heard)
//! # });
//! // A peer that says "bye" and ends its direction, twice.
//! let socket = connect_with(("127.0.0.1", port), SocketOptions::new())?;
//! let mut said = String::new();
//! socket.reader().read_to_string(&mut said)?;
//! let error = socket.writer().write(b"wait").unwrap_err();
//! assert_eq!(sockeye::Error::from_io(&error).unwrap().kind(), ErrorKind::Closed);
//! socket.closed()?; // a clean end of both
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
//! # The own end
//!
//! [`Writer::close`](crate::Writer::close) ends this side's stream, and reading goes on, whatever
//! `allow_half_open` says: it is how a client says that its question is complete. When the peer ends as
//! well, the socket is closed.
//!
//! [`Reader::cancel`](crate::Reader::cancel) is for whoever wants to hear no more. What comes in is dropped,
//! so that the peer isn't held up; reads give `Ok(0)`, blocked ones too; writing goes on, up to the peer's
//! end or, half-open, beyond it. The peer isn't told, as TCP has no word for that. Over TLS what comes is
//! decrypted all the same, so that `closed` and writes still tell of truncation and failures.
//!
//! When both directions have ended, in whatever way and order, `closed` gives `Ok`.
